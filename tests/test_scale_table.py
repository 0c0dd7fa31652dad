"""A table for context: three ways to run it agree, it costs nothing, and what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SEEDS, layouts
from families import content_of, exact_codec, image, seeded_supernet
from hypothesis import assume, given
from test_context import CHANNELS, SIZES, by_stages, latents
from torch import Tensor

from nas.codec.codec import Codec
from nas.cost.counting.tabulate import measured_costs
from nas.graph import staged
from nas.graph.context import ContextModel
from nas.graph.entropy import MEAN_STEPS, SCALE_LEVELS, SCALES, to_grid
from nas.graph.network import Supernet
from nas.graph.scale_table import STATES, STEP, SURPRISES
from nas.graph.staged import Products, StagedTable
from nas.spaces.families import FAMILIES
from nas.spaces.layout import Layout, named_layout
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.settings import TrainingSettings
from nas.training.start import initial_weights
from nas.training.strategies import strategy
from nas.weights.checkpoint import Checkpoint, load_weights

NAMED = ["checkerboard-table", "raster-table", "raster-2x2-table", "elic-10-table", "multistage-4x4-table"]


def make_context(seed: int = 0, *, phi: int | None = 0) -> ContextModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        context = ContextModel(CHANNELS, 3, (22, 14), phi=phi, tables=True).double().eval()
        for value in context.entropy_parameters.parameters():
            value.data.mul_(3)
        context.table.log_factor.data.normal_().div_(STEP).round_().mul_(STEP)  # whole levels
        return context.requires_grad_(False)


def state_by_hand(surprises: list[int]) -> int:
    """Of what is known around an element: the mean in quarters, halves of one rounded up; few apart."""
    if not surprises:
        return STATES - 1
    mean = int(np.floor(4 * np.mean(surprises) + 0.5))
    return mean if len(surprises) <= 5 else mean + 13


def levels_by_hand(context: ContextModel, layout: Layout, psi: Tensor, y_hat: Tensor) -> Tensor:
    """Element by element, as the layout and the table are defined."""
    levels, steps = to_grid(*context(psi, y_hat, named_layout("none", CHANNELS)))
    batch, channels, height, width = y_hat.shape
    stage = layout.stage_map(height, width)[layout.group_of_channel]
    table, found = context.table.levels().int().numpy(), levels.clone()

    def surprise(k: int, c: int, i: int, j: int) -> int:
        away = abs(float(y_hat[k, c, i, j]) - float(steps[k, c, i, j]) / MEAN_STEPS)
        bounds = [np.floor(MEAN_STEPS * s * SCALES[levels[k, c, i, j]]) / MEAN_STEPS for s in SURPRISES]
        return sum(away > bound for bound in bounds)

    for k, c, i, j in np.ndindex(batch, channels, height, width):
        near: list[int] = []
        for di, dj in np.ndindex(3, 3):
            a, b = i + di - 1, j + dj - 1
            if (a, b) != (i, j) and 0 <= a < height and 0 <= b < width and stage[c, a, b] < stage[c, i, j]:
                near += [surprise(k, c, a, b)] * (2 if a == i or b == j else 1)
        shift = table[c, state_by_hand(near)]
        found[k, c, i, j] = min(SCALE_LEVELS - 1, max(0, int(levels[k, c, i, j]) + int(shift)))
    return found


def assert_all_agree(context: ContextModel, layout: Layout, psi: Tensor, y_hat: Tensor) -> Tensor:
    """In training, encoding and decoding the same as by hand; returns the levels."""
    table = StagedTable(Products.of(context), context.table.levels(), layout)
    levels, steps = table.one_pass(psi, y_hat)
    assert torch.equal(levels, levels_by_hand(context, layout, psi, y_hat))
    by_stage, means, decoded = by_stages(table, psi, y_hat)
    assert torch.equal(decoded, y_hat)
    assert torch.equal(by_stage, levels.double())
    assert torch.equal(means, steps)
    found, _ = to_grid(*context(psi, y_hat, layout))
    inside = (levels > 0) & (levels < SCALE_LEVELS - 1)  # elsewhere there may be a bound between
    far = (found - levels)[inside].abs()
    assert far.max() <= 1  # a factor moves a scale within its level, up to the next one's edge
    return levels


@pytest.mark.parametrize("name", NAMED)
def test_all_ways_agree_for_named_layouts(name):
    context, layout, data = make_context(), named_layout(name, CHANNELS, 3), latents(1, 5, 7)
    levels = assert_all_agree(context, layout, *data)
    alone, _ = to_grid(*context(*data, layout.of_network))
    assert not torch.equal(levels, alone)


@given(layouts(CHANNELS), SIZES, SEEDS)
def test_all_ways_agree_for_any_layout(layout, size, seed):
    assume(layout.around.any())
    layout = replace(layout, context="table")
    assert_all_agree(make_context(seed % 50), layout, *latents(seed, *size, batch=1))


def test_pieces_of_a_stage_do_not_see_each_other(monkeypatch):
    context, layout = make_context(), named_layout("raster-2x2-table", CHANNELS, 3)
    expected = assert_all_agree(context, layout, *latents(2, 6, 5))
    monkeypatch.setattr(staged, "SLICE", 4)
    assert torch.equal(assert_all_agree(context, layout, *latents(2, 6, 5)), expected)


def test_a_convolution_beside_it_plays_no_part():
    both = make_context(phi=4)
    layout, (psi, y_hat) = named_layout("checkerboard-table", CHANNELS, 3), latents(3, 4, 4)
    assert_all_agree(both, layout, psi, y_hat)
    expected = both(psi, y_hat, layout)[0]
    both.context_prediction.weight.data.add_(1)
    assert torch.equal(both(psi, y_hat, layout)[0], expected)


def test_the_table_is_trained():
    """Each state that is met has a gradient, that of its factor; scales go on through it."""
    context = make_context().requires_grad_(True)
    psi, y_hat = latents(4, 6, 6)
    scales, _ = context(psi, y_hat, named_layout("checkerboard-table", CHANNELS, 3))
    scales.log().sum().backward()
    met = context.table.log_factor.grad
    assert float(met.sum()) == pytest.approx(scales.numel())
    unknown = met[:, STATES - 1]  # the first stage knows nothing, half of all
    assert float(unknown.sum()) == pytest.approx(scales.numel() / 2)
    assert context.entropy_parameters[4].weight.grad.any()


# Spaces of tables alone


def tables_alone(*layouts: str | dict[str, Any]) -> SearchSpace:
    content = content_of(
        FAMILIES["patch"],
        layouts=list(layouts) or ["none", "checkerboard-table"],
        features={"psi": 7, "phi": 0},
    )
    return SearchSpace.from_dict(content, name="tables")


def test_a_space_without_a_convolution_is_exported():
    space = tables_alone()
    net = seeded_supernet(space)
    costs = measured_costs(space, (128, 64))
    assert not hasattr(net.context, "context_prediction")
    for name in space.layout_names:
        architecture = space.under(name, space.widest())
        codec = Codec(net.extract(architecture), architecture)
        for each in (codec, exact_codec(codec, image(1))):
            y_hat, z_hat = each.latents(image(2))
            y, z = each.decode(each.encode(y_hat, z_hat), each.shape(64, 64))
            assert torch.equal(y, y_hat)
            assert torch.equal(z, z_hat)
        learned = [v for key, v in codec.network.named_parameters() if not key.endswith("quantiles")]
        assert costs.params(architecture) == sum(value.numel() for value in learned)
    of_none, of_table = (costs.macs_by_edge(space.under(n, space.widest())) for n in space.layout_names)
    assert of_none == of_table
    assert of_table["context"] == 0


def test_a_run_of_convolutions_begins_one_of_tables(tmp_path):
    """With tables that change nothing yet, beside its convolution or without."""
    content = content_of(FAMILIES["patch"], layouts=["none", "checkerboard"], features={"psi": 7, "phi": 4})
    source = seeded_supernet(SearchSpace.from_dict(content, name="convolution"))
    Checkpoint(source.state_dict(), {}).write(tmp_path / "supernet.safetensors")
    both = content | {"layouts": ["none", "checkerboard", "checkerboard-table"]}
    none = source.space.under("none", source.space.widest())
    expected = source(image(1), source.activate(none))
    for space in (tables_alone(), SearchSpace.from_dict(both, name="both")):
        net = Supernet(space)
        load_weights(net, initial_weights(tmp_path / "supernet.safetensors", space), source="the run")
        layout = net.activate(space.under("checkerboard-table", space.widest()))
        found = net.eval()(image(1), layout)["likelihoods"]
        torch.testing.assert_close(found["y"], expected["likelihoods"]["y"])


def test_layouts_of_tables_are_not_drawn_at_random():
    space = tables_alone()
    chosen = strategy(TrainingSettings(strategy="uniform", random_layouts=1.0))
    for step in range(20):
        for sample in chosen.draw(space, step, 0):
            assert sample.layout == space.layout(sample.architecture)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("channelwise-2-table", "has no context"),
        ("none-table", "has no context"),
        ("checkerboard", "write checkerboard-table"),
        ({"name": "a", "groups": [6], "tile": [[[0, 1]]], "context": "tables"}, "convolution or table"),
    ],
)
def test_what_cannot_be(layout, message):
    with pytest.raises(InputError, match=message) as caught:
        tables_alone("none", layout)
    assert "\n" not in str(caught.value)


def test_the_order_is_told_by_its_context_too():
    order, table = (named_layout(name, 6, 3) for name in ("checkerboard", "checkerboard-table"))
    assert order != table
    assert order.to_dict().keys() == {"groups", "slope", "tile"}  # as files have always had it
    assert Layout.from_dict(table.to_dict(), name=table.name) == table
    assert table.reduced().context == "table"
