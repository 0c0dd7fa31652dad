"""MACs of whole encoders and decoders, counted four ways that agree to the last one, by edge, at any size.

The cost table, fvcore on the code that runs, torch's own counter, and a count by hand: from the shapes of
the layers, and from what a layout says of every single element.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import SEEDS, layouts
from families import (
    INTEGER,
    INTEGER_NAMES,
    SPACES,
    assert_same_state,
    content_of,
    exact_codec,
    state_of,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.codec.codec import Codec
from nas.cost.counting.scopes import SCOPE_EDGES
from nas.cost.counting.table import CostTable
from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.reach import most_kmac_px
from nas.graph._compressai import GDN
from nas.graph.layers.subpixel import SubPixel
from nas.graph.network import CodecNetwork, Supernet
from nas.profiling.audit import NO_MACS, DecoderPath, EncoderPath, counted_by_torch, trace, traced_edges
from nas.spaces.architecture import Architecture
from nas.spaces.budget import REFERENCE_SIZE
from nas.spaces.description import HYPERPRIOR
from nas.spaces.families import FAMILIES
from nas.spaces.layout import Layout, layout_names, named_layout, random_table, tiled_layout
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

# width and height in pixels; latents of 4 to 16 a side, most of which cut tiles of 3 or 5 off
SIZES = [(65, 1), (70, 130), (1, 1), (100, 136), (64, 64), (136, 200)]
some_size = st.sampled_from(SIZES) | st.tuples(st.integers(1, 200), st.integers(1, 200))


# The count by hand


@torch.no_grad()
def layers_by_hand(module: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """MACs from the shapes of the layers that run, and what they make.

    A kernel is multiplied whole at every position of the coarser side, zeros beyond the border included.
    """
    found: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, SubPixel):
            layer = layer[0]  # it is not called, only its kernel is used
        if isinstance(layer, GDN):
            each = len(layer.beta) ** 2
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            each = layer.in_channels * layer.out_channels // layer.groups * math.prod(layer.kernel_size)
        else:
            return
        found.append(each * min(math.prod(side.shape[-2:]) for side in (inputs[0], output)))

    hooks = [layer.register_forward_hook(note) for layer in module.modules()]
    output = module(x)
    for hook in hooks:
        hook.remove()
    return sum(found), output


def context_by_hand(codec: Codec, height: int, width: int) -> tuple[int, int]:
    """MACs of context prediction and of the entropy parameters in a latent of this size, element by element.

    From the layout's definition alone; beside a table, from that of the layout `none`. An element is context
    for another exactly when its stage is smaller and it lies in the window, whatever the channel; beyond the
    border the pattern goes on, and the zeros there are multiplied too. Each channel has its features, which
    exist where it has any context, and its share of the hidden units; a unit reads those of channels of its
    position whose stage is not later.
    """
    layout, context = codec.layout.of_network, codec.network.context
    reach, channels = context.window // 2, layout.channels
    rows, columns = np.arange(-reach, height + reach), np.arange(-reach, width + reach)
    tile = np.repeat(np.array(layout.tile), layout.groups, axis=0)
    offsets = tile[:, rows[:, None] % tile.shape[1], columns % tile.shape[2]]
    stage = offsets + layout.slope[0] * rows[:, None] + layout.slope[1] * columns
    here = stage[:, reach : reach + height, reach : reach + width]
    seen = np.zeros(here.shape, dtype=np.int64)  # elements that each element has as context
    for row in range(context.window):
        for column in range(context.window):
            near = stage[:, row : row + height, column : column + width]
            seen += (near[None] < here[:, None]).sum(1)
    earlier = here[None] <= here[:, None]  # [reader, read, height, width], at one position
    owners = (context.features, context.units_1, context.units_2)
    features, *units = (np.bincount(owner, minlength=channels) for owner in owners)
    psi = codec.network.widths["psi"].active
    first = psi + np.einsum("ijhw,j->ihw", (earlier & (seen > 0)).astype(np.int64), features)
    second, third = (np.einsum("ijhw,j->ihw", earlier.astype(np.int64), unit) for unit in units)
    pointwise = units[0] @ first.sum((1, 2)) + units[1] @ second.sum((1, 2)) + 2 * third.sum()
    return int(features @ seen.sum((1, 2))), int(pointwise)


def counted_by_hand(codec: Codec, size: tuple[int, int]) -> dict[str, int]:
    """MACs by edge of a whole codec."""
    network, found = codec.network, {}
    width, height = (math.ceil(side / codec.alignment) * codec.alignment for side in size)
    found["g_a"], y = layers_by_hand(network.g_a, torch.zeros(1, 3, height, width))
    found["g_s"], x_hat = layers_by_hand(network.g_s, y)
    assert x_hat.shape == (1, 3, height, width)
    if network.with_z:
        found["h_a"], z = layers_by_hand(network.h_a, y)
        found["h_s"], psi = layers_by_hand(network.h_s, z)
        assert psi.shape[-2:] == y.shape[-2:]
    if network.with_z and network.space.family.context:
        found["context"], found["entropy_parameters"] = context_by_hand(codec, *y.shape[-2:])
    return found


# The audit


def assert_audit(codec: Codec, table: CostTable) -> set[str]:
    """All four counts, by edge, of both sides; and nothing runs uncounted that is not known to.

    Returns what runs uncounted.
    """
    uncounted: set[str] = set()
    by_hand = counted_by_hand(codec, table.size)
    width, height = table.size
    by_torch = counted_by_torch(codec, height, width)
    by_table = table.macs_by_edge(codec.architecture)
    for scope, traced in trace(codec, height, width).items():
        expected = {edge: macs for edge, macs in by_hand.items() if edge in SCOPE_EDGES[scope]}
        assert traced.edges == by_torch[scope] == expected
        assert {edge: by_table[edge] for edge in expected} == expected
        assert table.macs(codec.architecture, scope) == sum(expected.values())
        assert sum(traced.operators.values()) == sum(expected.values())
        assert not traced.unlisted
        uncounted |= set(traced.uncounted)
    assert table.macs(codec.architecture, "total") == sum(by_hand.values()) == sum(by_table.values())
    return uncounted


def codec_of(space: SearchSpace, architecture: Architecture) -> Codec:
    """Its weights do not matter to a count."""
    with torch.random.fork_rng():
        return Codec(CodecNetwork(space.only(architecture)), architecture)


@pytest.mark.parametrize("name", INTEGER_NAMES)
@given(seed=SEEDS, size=some_size)
@example(seed=1, size=(240, 133))
@settings(max_examples=1)
def test_every_family_is_audited(name, seed, size):
    space = SPACES[name]
    assert_audit(codec_of(space, space.sample(random.Random(seed))), measured_costs(space, size))


CHANNELS = 12  # of y, enough for elic-10
NAMED = (
    *("none", "checkerboard", "checkerboard-interlaced", "raster", "zigzag", "raster-2x2"),
    *("channelwise-4", "channelwise-3-checkerboard", "elic-10", "multistage-4x4", "random-5"),
)
MADE = {
    "uneven": Layout((3, 5, 4), (0, 0), (((0, 1, 2),), ((2, 0, 1),), ((1, 1, 3),)), "uneven"),
    "sloped": Layout((5, 7), (1, 2), (((0, 1), (1, 0)), ((2, 0), (0, 1))), "sloped"),
    # what greedy and learned layouts are made of: any stage in any cell
    "cells": tiled_layout(CHANNELS, random_table((3, 2, 5), 6, random.Random(1)), "cells"),
    "table": named_layout("raster-2x2-table", CHANNELS, 3),
}
CONTEXTS = [name for name, family in FAMILIES.items() if family.context]


def coded(family: str, layout: Layout, window: int, seed: int) -> Codec:
    """A codec of drawn widths."""
    content = content_of(FAMILIES[family], latents={"y": CHANNELS, "z": 4}, layouts=["none"], window=window)
    del content["widths"][HYPERPRIOR]
    space = SearchSpace.from_dict(content, name=family).with_layouts({layout.name: layout})
    return codec_of(space, replace(space.sample(random.Random(seed)), layout=layout.name))


@pytest.mark.parametrize("pattern", layout_names())
def test_every_named_layout_is_audited(pattern):
    assert any(re.fullmatch(re.sub("[KS]", "[0-9]+", pattern), name) for name in NAMED)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), list(enumerate([*NAMED, *MADE])))
def test_every_kind_of_layout_is_audited(number, name):
    window, size = (5, 3, 7)[number % 3], SIZES[number % len(SIZES)]
    layout = MADE.get(name) or named_layout(name, CHANNELS, window)
    codec = coded(CONTEXTS[number // 2 % len(CONTEXTS)], layout, window, seed=number)
    assert_audit(codec, measured_costs(codec.network.space, size))


@given(
    st.sampled_from(CONTEXTS),
    layouts(CHANNELS),
    st.sampled_from([3, 5]),
    st.sampled_from([(65, 1), (70, 60), (1, 129)]),
    SEEDS,
)
@settings(max_examples=3)
@pytest.mark.slow
def test_any_layout_is_audited(family, layout, window, size, seed):
    codec = coded(family, layout, window, seed)
    assert_audit(codec, measured_costs(codec.network.space, size))


# of the papers' widths, where GDN, and the layer that makes the picture, run in pieces
WIDE = {"factorized": "none", "scale-hyperprior": "none", "joint-ar": "raster", "cheng": "checkerboard"}


@pytest.mark.slow
def test_what_runs_uncounted_is_listed():
    """And nothing is listed in vain."""
    found: set[str] = set()
    for name, layout in WIDE.items():
        space = SearchSpace.load(name)
        codec = codec_of(space, space.uniform(1, layout))
        costs = measured_costs(codec.network.space, (70, 50))
        found |= assert_audit(codec, costs)
        if space.family.has_z and not codec.network.centred:
            found |= assert_audit(exact_codec(codec, torch.rand(1, 3, 64, 64)), costs)
    by_table = coded("joint-ar", MADE["table"], 3, seed=0)
    found |= assert_audit(by_table, measured_costs(by_table.network.space, (70, 50)))
    assert found == set(NO_MACS)


def test_a_new_operator_fails_the_audit():
    name = next(name for name, space in INTEGER.items() if space.family.context)
    codec = codec_of(SPACES[name], SPACES[name].widest())
    codec.network.g_a.append(nn.BatchNorm2d(SPACES[name].y_channels).eval())
    codec.network.g_s.insert(0, nn.Softmax(1))
    traced = trace(codec, 64, 64)
    assert traced["encoder"].unlisted == ["batch_norm"]
    assert traced["decoder"].unlisted == ["aten::softmax"]


# Sizes


@pytest.mark.parametrize(("family", "padded"), [("factorized", (48, 64)), ("joint-ar", (64, 64))])
def test_an_odd_image_costs_what_its_padded_one_costs(family, padded):
    space = SPACES[f"{family}-integer"]
    here, odd = space.widest(), measured_costs(space, (33, 50))
    assert odd.macs_by_edge(here) == measured_costs(space, padded).macs_by_edge(here)
    assert odd.kmac_px(here) == odd.macs(here) / (33 * 50) / 1000  # its own pixels pay
    one_hot = [torch.eye(n)[k].double() for k, n in zip(space.indexes(here), space.shape, strict=True)]
    assert float(odd.expected(one_hot)) == pytest.approx(odd.kmac_px(here), rel=1e-12)
    assert most_kmac_px(odd)["total"] == pytest.approx(odd.kmac_px(here))


def test_costs_are_of_768x512_unless_a_size_is_given():
    space = SPACES["joint-ar-integer"]
    for default, given_size in zip(
        measured_costs(space).layers, measured_costs(space, REFERENCE_SIZE).layers, strict=True
    ):
        assert np.array_equal(default.macs, given_size.macs)


@pytest.mark.parametrize("size", [(0, 64), (64, -1)])
def test_an_image_without_pixels_is_refused(size):
    space = SPACES["joint-ar-integer"]
    codec = codec_of(space, space.widest())
    for count in (trace, counted_by_torch, lambda _, *size: measured_costs(space, size)):
        with pytest.raises(InputError, match="at least 1 pixel"):
            count(codec, *size)


# What is followed


def test_the_paths_are_what_a_codec_runs(supernet: Supernet):
    architecture = replace(supernet.space.sample(random.Random(1)), layout="channelwise-4")
    codec = Codec(supernet.extract(architecture), architecture)
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    y_hat, z_hat = codec.latents(x)
    assert len(y_hat.unique()) > 2
    with torch.no_grad():
        scales, means = EncoderPath(codec)(x)
        x_hat, asked = DecoderPath(codec)(y_hat, z_hat)
        psi = codec.coding_h_s(z_hat.double())
    context = codec.coding_context
    torch.testing.assert_close((scales, means), context.grid(*context.one_pass(psi, y_hat.double())))
    coded = codec.compress(x)
    assert torch.equal(x_hat, codec.decompress(coded["strings"], coded["shape"])["x_hat"])
    assert sum(value.numel() for value in asked) == 2 * y_hat.numel()


def test_counting_changes_nothing():
    codec = coded("joint-ar", MADE["uneven"], 3, seed=0)
    before = state_of(codec)
    traced_edges(codec, 64, 192)
    counted_by_torch(codec, 64, 192)
    assert_same_state(codec, before)
    modules = [*codec.modules(), *codec.coding_h_s.modules(), *codec.coding_context.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
