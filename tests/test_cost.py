"""Costs: the tables equal what fvcore and torch count on whole networks, and the reach equals brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import SMALL
from drawn import architectures
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.cost.macs import REFERENCE_PIXELS, REFERENCE_SIZE, SCOPES, count_macs
from nas.cost.reach import Reach, to_macs
from nas.cost.table import CostTable
from nas.graph.context import ContextModel
from nas.graph.network import CodecNetwork
from nas.graph.staged import StagedContext
from nas.space import Architecture, SearchSpace

SMALL_SPACE = SearchSpace.from_dict(SMALL, name="small")
SPACES = {name: SearchSpace.load(name) for name in ("joint-ar-tiny", "joint-ar", "joint-ar-per-edge")}
SPACES["small"] = SMALL_SPACE
TABLES: dict[str, CostTable] = {}


def table_of(name: str) -> CostTable:
    return TABLES.get(name) or TABLES.setdefault(name, CostTable.measure(SPACES[name]))


class OnePass(nn.Module):
    """The staged context as one module with a forward, for the counters."""

    def __init__(self, context: ContextModel, layout) -> None:
        super().__init__()
        self.staged = StagedContext(context, layout)

    def forward(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        return self.staged.one_pass(psi, y_hat)


def whole_edges(space: SearchSpace, architecture: Architecture, size: tuple[int, int]):
    """Every edge as a module with inputs for an image of this size."""
    net = CodecNetwork(space.only(architecture)).eval()
    height, width = size
    y = torch.zeros(1, space.y_channels, height // 16, width // 16)
    z = torch.zeros(1, space.z_channels, height // 64, width // 64)
    psi = torch.zeros(1, 2 * space.y_channels, height // 16, width // 16)
    return {
        "g_a": (net.g_a, (torch.zeros(1, 3, height, width),)),
        "h_a": (net.h_a, (y,)),
        "h_s": (net.h_s, (z,)),
        "g_s": (net.g_s, (y,)),
        "staged": (OnePass(net.context, space.layout(architecture)), (psi, y)),
    }


def in_macs(table: CostTable, architecture: Architecture) -> dict[str, int]:
    """The table's MACs by edge, the context and the entropy parameters as one."""
    found = {
        edge: round(cost * 1000 * REFERENCE_PIXELS) for edge, cost in table.by_edge(architecture).items()
    }
    found["staged"] = found.pop("context") + found.pop("entropy_parameters")
    return found


def counted_by_torch(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops() / 2


def assert_counts(name: str, architecture: Architecture, size: tuple[int, int]) -> None:
    expected = in_macs(table_of(name), architecture)
    scale = REFERENCE_PIXELS // (size[0] * size[1])
    for edge, (module, inputs) in whole_edges(SPACES[name], architecture, size).items():
        if edge == "staged" and size != REFERENCE_SIZE and _odd(SPACES[name].layout(architecture), size):
            continue
        assert count_macs(module, *inputs)[""] * scale == expected[edge], edge
        assert counted_by_torch(module, inputs) * scale == expected[edge], edge


def _odd(layout, size: tuple[int, int]) -> bool:
    _, rows, columns = layout.table.shape
    return bool(size[0] // 16 % rows or size[1] // 16 % columns)


@given(st.data())
@settings(max_examples=1)
def test_the_table_equals_both_counters_at_768x512(data):
    assert_counts("joint-ar-tiny", data.draw(architectures(SPACES["joint-ar-tiny"])), REFERENCE_SIZE)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=3)
def test_the_table_equals_both_counters_at_real_size(data):
    assert_counts("joint-ar", data.draw(architectures(SPACES["joint-ar"])), (64, 64))


@pytest.mark.parametrize("name", SPACES["joint-ar-per-edge"].layout_names)
def test_each_layout_costs_its_visible_share(name):
    """Of the 7.20 kMAC a pixel of a dense pass over 192 channels."""
    space, table = SPACES["joint-ar-per-edge"], table_of("joint-ar-per-edge")
    layout = space.layouts[name]
    # the pattern repeats, and reaches beyond the border too: count at the centre
    height, width = 12, 12
    stage = layout.stage_map(height + 4, width + 4)
    sizes = np.array(layout.groups)
    seen = 0
    for i in range(2, 2 + height):
        for j in range(2, 2 + width):
            near = stage[:, i - 2 : i + 3, j - 2 : j + 3]
            seen += sum(
                size * ((near < stage[g, i, j]).sum((1, 2)) * sizes).sum() for g, size in enumerate(sizes)
            )
    share = seen / (height * width * 25 * 192**2)
    assert table.by_edge(space.uniform(1, name))["context"] == pytest.approx(7.2 * share, rel=1e-9)


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
    for scope, members in SCOPES.items():
        assert scopes[scope] == pytest.approx(sum(edges[edge] for edge in members))
        assert table.macs(architecture, scope) == round(scopes[scope] * 1000 * REFERENCE_PIXELS)
        assert scopes[scope] <= table.reference[scope]
    assert scopes["encoder"] + edges["g_s"] == pytest.approx(scopes["total"])


# Reach

ALL_SMALL = [SMALL_SPACE.at(place) for place in itertools.product(*map(range, SMALL_SPACE.shape))]


def test_draws_are_uniform():
    reach = Reach(table_of("small"), "decoder")
    rng, counts = np.random.default_rng(1), dict.fromkeys(ALL_SMALL, 0)
    for _ in range(150):
        for architecture in reach.draw(reach.least, reach.most, 20, rng):
            counts[architecture] += 1
    mean = np.mean(list(counts.values()))
    assert np.var(list(counts.values())) < 2 * mean  # Poisson's would be the mean


@pytest.mark.parametrize("name", ["joint-ar-tiny", "joint-ar"])
def test_reach_of_billions(name):
    space, table = SPACES[name], table_of(name)
    reach = Reach(table, "total")
    assert reach.size == space.size
    assert reach.count(0, reach.most) == space.size
    half = reach.quantile(0.5)
    assert reach.count(reach.least, half) >= space.size / 2 > reach.count(reach.least, half - 1)
    found = reach.draw(half, round(half * 1.001), 50, np.random.default_rng(0))
    assert len(found) == 50
    assert all(half <= table.macs(architecture) <= half * 1.001 for architecture in found)


@given(st.integers(0, 10**12))
def test_a_number_of_kmac_survives_as_macs(macs):
    assert to_macs(macs / 1000 / REFERENCE_PIXELS) == macs
