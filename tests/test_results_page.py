"""The journal and docs/results.md: tables as in the committed results; kinds of structure share weights."""

from __future__ import annotations

import pytest
import torch

from experiments.ablation import run as ablation
from experiments.clock import run as clock
from experiments.content import run as content
from experiments.context import run as context
from experiments.control import targets as control
from experiments.decoding import run as decoding
from experiments.effort import run as effort
from experiments.families import hyper as families_hyper
from experiments.families import show as families_show
from experiments.flagship import show as flagship_show
from experiments.optimizers import run as optimizers
from experiments.probes import run as probes
from experiments.probes import wider
from experiments.quantizer import run as quantizer
from experiments.results import JOURNAL, ROOT, SUMMARY, read_result, renewed
from experiments.sharing import run as sharing
from experiments.sources import run as sources
from experiments.spaces import same_network
from experiments.starts import run as starts
from experiments.strategies import run as strategies
from experiments.structure import common as structure_common
from experiments.structure import front
from experiments.structure import show as structure_show
from experiments.widths import common as widths_common
from experiments.widths import run as widths
from nas.cost.counting.tabulate import measured_costs
from nas.graph.network import Supernet
from nas.weights.checkpoint import load_weights

PAGE = JOURNAL.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("families", families_show.tables),
        ("hyper", families_hyper.tables),
        ("structure", structure_show.tables),
        ("ablation", structure_show.ablation),
        ("split", structure_show.split),
        ("strategies", strategies.tables),
        ("quantizer", quantizer.tables),
        ("content", content.tables),
        ("control", control.tables),
        ("starts", starts.tables),
        ("clock", clock.tables),
        ("front", front.tables),
        ("decoding", decoding.tables),
    ],
)
def test_the_tables_are_those_of_the_results(name, tables):
    assert renewed(PAGE, name, tables()) == PAGE


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("families", families_show.summary),
        ("structure", structure_show.summary),
        ("flagship", flagship_show.tables),
        ("widths", widths.tables),
        ("ablation", ablation.tables),
        ("sharing", sharing.tables),
    ],
)
def test_the_tables_for_readers_are_those_of_the_results(name, tables):
    page = SUMMARY.read_text(encoding="utf-8")
    assert renewed(page, name, tables()) == page


def test_the_table_of_effort_is_that_of_the_results():
    page = (ROOT / "docs" / "codec.md").read_text(encoding="utf-8")
    assert renewed(page, "effort", effort.tables(read_result(effort.RESULT))) == page


def test_the_table_of_optimisers_is_that_of_the_results():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    tables = optimizers.tables(read_result(optimizers.RESULT)["sides"])
    assert renewed(page, "optimisers", tables) == page


def test_the_tables_of_probes_are_those_of_the_results():
    page = probes.PAGE.read_text(encoding="utf-8")
    assert renewed(page, "agreement", probes.tables()) == page
    assert renewed(page, "wider", wider.tables()) == page


def test_the_table_of_contexts_is_that_of_the_results():
    page = (ROOT / "docs" / "supernet.md").read_text(encoding="utf-8")
    assert renewed(page, "context", context.tables()) == page


def test_the_table_of_sources_is_that_of_the_results():
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert renewed(page, "sources", sources.tables()) == page


@pytest.mark.parametrize("kind", ["shared", "per-edge", "backbone", "context"])
def test_kinds_of_structure_run_on_the_same_weights(kind):
    """The widest architecture is the same network in each of the spaces."""
    spaces = [structure_common.KINDS[name].space for name in ("space", kind)]
    tensors, x, pictures = Supernet(spaces[0]).state_dict(), torch.rand(1, 3, 64, 64), []
    for space in spaces:
        net = Supernet(space).eval()
        load_weights(net, tensors, source="the space's")
        net.activate(space.widest())
        with torch.no_grad():
            pictures.append(net(x, space.layout(space.widest()))["x_hat"])
    torch.testing.assert_close(*pictures, rtol=0, atol=0)


@pytest.fixture(scope="module")
def whole_costs():
    return measured_costs(widths_common.space_of(widths_common.WHOLE))


@pytest.mark.parametrize("kind", ["one-width", "per-edge", "per-layer"])
def test_kinds_of_widths_are_parts_of_one_space(kind, whole_costs):
    space = widths_common.space_of(kind)
    costs = measured_costs(space)
    for own in (space.narrowest(), space.widest()):
        same = same_network(space, own, whole_costs.space)
        assert whole_costs.scopes(same) == costs.scopes(own)
