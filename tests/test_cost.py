"""Costs: the published numbers, scopes as sums of edges, and the reach of large spaces; see test_audit.py."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL
from drawn import architectures
from hypothesis import given
from hypothesis import strategies as st

from nas.cost.counting.cache import load_or_measure_costs
from nas.cost.counting.scopes import SCOPE_EDGES
from nas.cost.counting.table import CostTable
from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.quantity import GRAIN, macs
from nas.cost.exact.reach import ReachableCosts, most_kmac_px
from nas.spaces.budget import REFERENCE_PIXELS
from nas.spaces.space import SearchSpace

SMALL_SPACE = SearchSpace.from_dict(SMALL, name="small")
SPACES = {name: SearchSpace.load(name) for name in ("joint-ar-tiny", "joint-ar", "joint-ar-per-edge")}
SPACES["small"] = SMALL_SPACE
TABLES: dict[str, CostTable] = {}


def table_of(name: str) -> CostTable:
    return TABLES.get(name) or TABLES.setdefault(name, measured_costs(SPACES[name]))


# reference.md, section 1: kMAC/px of BaSIC's space
REFERENCE = {
    48: (7.06, 0.44, 1.11, 7.06, 15.66),
    72: (14.53, 0.70, 1.73, 14.53, 31.48),
    96: (24.62, 0.99, 2.39, 24.62, 52.63),
    144: (52.70, 1.65, 3.84, 52.70, 110.90),
    192: (91.30, 2.42, 5.46, 91.30, 190.48),
}


@pytest.mark.parametrize("width", REFERENCE)
def test_the_numbers_of_the_published_space(width):
    space, table = SPACES["joint-ar-per-edge"], table_of("joint-ar-per-edge")
    candidates = space.slots[0].candidates
    place = candidates.index(width) / (len(candidates) - 1)
    costs = table.by_edge(space.uniform(place, "none"))
    edges = [costs[edge] for edge in ("g_a", "h_a", "h_s", "g_s")]
    assert [*edges, sum(edges)] == pytest.approx(list(REFERENCE[width]), abs=0.011)


def test_the_context_of_the_published_space():
    space, table = SPACES["joint-ar-per-edge"], table_of("joint-ar-per-edge")
    costs = table.by_edge(space.uniform(1, "raster"))
    assert costs["context"] == pytest.approx(0.48 * 7.2)
    assert costs["entropy_parameters"] == pytest.approx(3.97, abs=0.01)


@pytest.mark.parametrize(
    ("name", "products"),
    [
        # features of y that exist at a position by then are read, and hidden units of earlier groups kept
        ("none", [384 * 640 + 640 * 512 + 512 * 384]),
        ("raster", [768 * 640 + 640 * 512 + 512 * 384]),
        ("checkerboard", [0.5 * (384 + 768) * 640 + 640 * 512 + 512 * 384]),
        ("raster-2x2", [0.25 * (384 + 3 * 768) * 640 + 640 * 512 + 512 * 384]),
        (
            "channelwise-4",  # the first group sees nothing: its features never exist
            [(384 + 96 * k) * 160 + 160 * (k + 1) * 128 + 128 * (k + 1) * 96 for k in range(4)],
        ),
    ],
)
def test_the_entropy_parameters_compute_what_a_stage_needs(name, products):
    space, table = SPACES["joint-ar-per-edge"], table_of("joint-ar-per-edge")
    found = table.by_edge(space.uniform(1, name))["entropy_parameters"]
    assert found == pytest.approx(sum(products) / 256 / 1000, rel=1e-9)


@given(st.sampled_from(sorted(SPACES)), st.data())
def test_scopes_are_sums_of_edges(name, data):
    table, architecture = table_of(name), data.draw(architectures(SPACES[name]))
    edges, scopes = table.by_edge(architecture), table.scopes(architecture)
    for scope, members in SCOPE_EDGES.items():
        assert scopes[scope] == pytest.approx(sum(edges[edge] for edge in members))
        assert table.macs(architecture, scope) == round(scopes[scope] * 1000 * REFERENCE_PIXELS)
        assert scopes[scope] <= most_kmac_px(table)[scope]
    assert scopes["encoder"] + edges["g_s"] == pytest.approx(scopes["total"])


# Reach

ALL_SMALL = [SMALL_SPACE.at(place) for place in itertools.product(*map(range, SMALL_SPACE.shape))]


def test_draws_are_uniform():
    reach = ReachableCosts(macs(table_of("small"), "decoder"))
    rng, counts = np.random.default_rng(1), dict.fromkeys(ALL_SMALL, 0)
    for _ in range(150):
        for architecture in reach.draw(reach.least, reach.most, 20, rng):
            counts[architecture] += 1
    mean = np.mean(list(counts.values()))
    assert np.var(list(counts.values())) < 2 * mean  # Poisson's would be the mean


@pytest.mark.parametrize("name", ["joint-ar-tiny", "joint-ar"])
def test_reach_of_billions(name):
    space, table = SPACES[name], table_of(name)
    reach = ReachableCosts(macs(table, "total"))
    assert reach.size == space.size
    assert reach.count(0, reach.most) == space.size
    half = reach.quantile(0.5)
    assert reach.count(reach.least, half) >= space.size / 2 > reach.count(reach.least, half - 1)
    found = reach.draw(half, round(half * 1.001), 50, np.random.default_rng(0))
    assert len(found) == 50
    assert all(half <= table.macs(architecture) <= half * 1.001 for architecture in found)


@given(st.integers(0, 10**12))
def test_a_number_of_kmac_survives_as_macs(count):
    found = macs(table_of("small"), "total").to_integer(count / 1000 / REFERENCE_PIXELS)
    assert count <= found <= count * (1 + GRAIN)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\x93NUMPY\x01\x00",
        lambda whole: whole[:60] + bytes(200) + whole[260:],
    ],
)
def test_a_damaged_file_of_costs_is_measured_again(tmp_path: Path, damage: Any) -> None:
    space, path = SearchSpace.load("factorized-tiny"), tmp_path / "costs.npz"
    widest = space.widest()
    right = load_or_measure_costs(space, path).kmac_px(widest, "total")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert load_or_measure_costs(space, path).kmac_px(widest, "total") == right
    assert len(path.read_bytes()) == len(whole)
