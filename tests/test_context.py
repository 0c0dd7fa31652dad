"""The context model: three ways to run it agree, and nothing is read before it is decoded."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from drawn import SEEDS, layouts
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nas.graph.context import ContextModel
from nas.graph.staged import Products, StagedContext
from nas.spaces.layout import Layout, named_layout, random_layout

CHANNELS = 9
NAMED = [
    *("none", "checkerboard", "checkerboard-interlaced", "raster", "zigzag", "raster-2x2", "elic-10"),
    *("channelwise-4", "channelwise-4-checkerboard", "channelwise-9", "multistage-4x4", "random-6"),
]
SIZES = st.tuples(st.integers(2, 7), st.integers(2, 7))


def make_context(window: int = 5, hidden: tuple[int, int] = (22, 14), seed: int = 0) -> ContextModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ContextModel(CHANNELS, window, hidden).double().eval().requires_grad_(False)


def latents(seed: int, height: int, width: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    """psi and y_hat."""
    rng = torch.Generator().manual_seed(seed)
    psi = torch.randn(batch, 2 * CHANNELS, height, width, generator=rng, dtype=torch.float64)
    y_hat = torch.randint(-9, 10, (batch, CHANNELS, height, width), generator=rng).double()
    return psi, y_hat


def by_stages(staged: StagedContext, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scales and means as a decoder finds them that is told y element by element, and what it decoded."""
    found = torch.full((2, *y_hat.shape), torch.nan, dtype=psi.dtype)

    def read(work, parameters):
        values = []
        for (number, positions), pair in zip(work, parameters, strict=True):
            channels = staged.block_channels(number)[:, None]
            for part, value in zip(found, pair, strict=True):
                part.flatten(2)[:, channels, positions] = value.transpose(1, 2).to(part)
            values.append(y_hat.flatten(2)[:, channels, positions].transpose(1, 2))
        return values

    decoded = staged.by_stages(psi, read)
    return found[0], found[1], decoded


def assert_three_ways_agree(context: ContextModel, layout: Layout, psi: Tensor, y_hat: Tensor) -> None:
    staged = StagedContext(Products.of(context), layout)
    whole = torch.stack(context(psi, y_hat, layout))
    once = torch.stack(staged.one_pass(psi, y_hat))
    scales, means, decoded = by_stages(staged, psi, y_hat)
    torch.testing.assert_close(once, whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.stack([scales, means]), whole, rtol=1e-10, atol=1e-10)
    assert torch.equal(decoded, y_hat)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("window", [3, 5])
def test_three_ways_agree_for_named_layouts(name, window):
    layout = named_layout(name, CHANNELS, window)
    assert_three_ways_agree(make_context(window), layout, *latents(1, 5, 7))


@given(layouts(CHANNELS), st.sampled_from([3, 5, 7]), SIZES, SEEDS)
def test_three_ways_agree_for_any_layout(layout, window, size, seed):
    assert_three_ways_agree(make_context(window), layout, *latents(seed, *size))


@given(layouts(CHANNELS), st.tuples(st.integers(1, 30), st.integers(1, 30)), SIZES)
def test_three_ways_agree_for_any_hidden_widths(layout, hidden, size):
    """Also where some channel group has no hidden unit at all."""
    assert_three_ways_agree(make_context(3, hidden), layout, *latents(3, *size))


@given(layouts(CHANNELS), st.sampled_from([3, 5]), SIZES, SEEDS)
def test_nothing_is_read_before_it_is_decoded(layout, window, size, seed):
    """Changing y at one element changes no element of the same or a smaller stage, and each that sees it."""
    context, (height, width) = make_context(window), size
    psi, y_hat = latents(seed, height, width, batch=1)
    draw = random.Random(seed)
    channel, row, column = (draw.randrange(size) for size in (CHANNELS, height, width))
    other = y_hat.clone()
    other[0, channel, row, column] += 50
    before, after = (torch.stack(context(psi, y, layout)) for y in (y_hat, other))
    changed = (before != after).any(0)[0].numpy()
    stage = layout.stage_map(height, width)[layout.group_of_channel]
    later = stage > stage[channel, row, column]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    near = (abs(rows - row) <= window // 2) & (abs(columns - column) <= window // 2)
    assert not (changed & ~later).any()
    assert (changed == (later & near)).all()


@given(SIZES, st.sampled_from([3, 5, 7]), SEEDS)
def test_raster_in_steps_is_raster_one_element_after_another(size, window, seed):
    height, width = size
    context = make_context(window)
    psi, y_hat = latents(seed, height, width, batch=1)
    expected = torch.stack(context(psi, y_hat, named_layout("raster", CHANNELS, window)))
    known = torch.zeros_like(y_hat)
    for row in range(height):
        for column in range(width):
            phi = context.context_prediction(known)[..., row, column]
            inputs = torch.cat([psi[..., row, column], phi], 1)[..., None, None]
            scales, means = context.entropy_parameters(inputs).chunk(2, 1)
            found = torch.stack([scales, means])[..., 0, 0]
            torch.testing.assert_close(found, expected[..., row, column], rtol=1e-10, atol=1e-10)
            known[..., row, column] = y_hat[..., row, column]


@pytest.mark.parametrize("name", NAMED)
def test_one_set_of_weights_serves_every_layout(name):
    """Where the channels are one group, elements that see nothing have the parameters of `none`."""
    context = make_context()
    state = {key: value.clone() for key, value in context.state_dict().items()}
    psi, y_hat = latents(5, 6, 6)
    none = torch.stack(context(psi, y_hat, named_layout("none", CHANNELS)))
    layout = named_layout(name, CHANNELS)
    found = torch.stack(context(psi, y_hat, layout))
    if len(layout.groups) == 1 and layout.slope == (0, 0):  # a slope's window reaches beyond the border
        first = torch.from_numpy(layout.stage_map(6, 6)[0] == 0)
        torch.testing.assert_close(found[..., first], none[..., first], rtol=1e-12, atol=1e-12)
    assert torch.equal(found, none) == (not layout.has_context)
    assert all(torch.equal(context.state_dict()[key], value) for key, value in state.items())


def test_a_batch_is_its_images():
    context, rng = make_context(), random.Random(7)
    psi, y_hat = latents(7, 5, 4, batch=3)
    for layout in (random_layout(CHANNELS, 3, (2, 2), 6, rng), named_layout("raster", CHANNELS)):
        staged = StagedContext(Products.of(context), layout)
        together = torch.stack(staged.one_pass(psi, y_hat))
        for k in range(3):
            alone = torch.stack(staged.one_pass(psi[k : k + 1], y_hat[k : k + 1]))
            torch.testing.assert_close(alone, together[:, k : k + 1], rtol=1e-12, atol=1e-12)


def test_tiles_larger_than_the_latent():
    layout = Layout((CHANNELS,), (0, 0), (tuple((k,) for k in range(8)),), "tall")
    assert_three_ways_agree(make_context(), layout, *latents(1, 4, 4))
