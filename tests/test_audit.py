"""The cost tables against whole encoders and decoders, counted by fvcore and by torch, to the last MAC."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from nas.codec.codec import Codec
from nas.cost.audit import DecoderPath, EncoderPath, counted_by_torch, traced_edges, traced_macs
from nas.cost.macs import REFERENCE_PIXELS, SCOPES
from nas.cost.table import CostTable
from nas.errors import InputError
from nas.graph.layout import Layout, named_layout
from nas.graph.network import Supernet
from nas.space import SearchSpace

MORE = (
    "checkerboard-interlaced",
    "zigzag",
    "channelwise-3-checkerboard",
    "elic-10",
    "multistage-4x4",
    "random-5",
)
UNEVEN = Layout((3, 20, 9), (0, 0), (((0, 1, 2),), ((2, 0, 1),), ((1, 1, 3),)), "uneven")
SIZE = 64, 192  # height, width: a multiple of its tile; 64x64 is one of all others
SLOPED = Layout((12, 20), (1, 2), (((0, 1), (1, 0)), ((2, 0), (0, 1))), "sloped")
NAMES = ("none", "checkerboard", "channelwise-4", "raster-2x2", "raster", *MORE, "uneven", "sloped")


@pytest.fixture(scope="module")
def space(tiny_space: SearchSpace) -> SearchSpace:
    named = {name: named_layout(name, tiny_space.y_channels) for name in MORE}
    return tiny_space.with_layouts({**named, "uneven": UNEVEN, "sloped": SLOPED})


@pytest.fixture(scope="module")
def net(make_supernet: Callable[..., Supernet], space: SearchSpace) -> Supernet:
    return make_supernet(space)


@pytest.fixture(scope="module")
def costs(space: SearchSpace) -> CostTable:
    return CostTable.measure(space)


def make_codec(net: Supernet, name: str) -> Codec:
    """A codec of drawn widths under one layout."""
    drawn = net.space.sample(random.Random(name))
    architecture = replace(drawn, layout=name)
    return Codec(net.extract(architecture), architecture)


def size_of(name: str) -> tuple[int, int]:
    return SIZE if name == "uneven" else (64, 64)


def scaled(macs: int, height: int, width: int) -> int:
    exact = macs * height * width
    assert exact % REFERENCE_PIXELS == 0
    return exact // REFERENCE_PIXELS


def test_every_layout_of_the_shipped_space_is_audited(tiny_space: SearchSpace) -> None:
    assert set(tiny_space.layouts) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_table_equals_trace(net: Supernet, costs: CostTable, name: str) -> None:
    codec, size = make_codec(net, name), size_of(name)
    traced = traced_macs(codec, *size)
    for scope in ("encoder", "decoder"):
        assert traced[scope] == scaled(costs.macs(codec.architecture, scope), *size)


def test_edges_of_both_sides_add_up_to_the_table(net: Supernet, costs: CostTable) -> None:
    codec = make_codec(net, "checkerboard")
    edges = traced_edges(codec, 128, 64)
    table = costs.by_edge(codec.architecture)
    for scope in ("encoder", "decoder"):
        assert set(edges[scope]) == set(SCOPES[scope])
        for edge, macs in edges[scope].items():
            assert macs / (128 * 64) / 1000 == pytest.approx(table[edge], rel=1e-12)


def test_the_paths_are_what_a_codec_runs(net: Supernet) -> None:
    codec = make_codec(net, "channelwise-3-checkerboard")
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    y_hat, z_hat = codec.latents(x)
    assert len(y_hat.unique()) > 2
    with torch.no_grad():
        scales, means = EncoderPath(codec)(x)
        x_hat, asked = DecoderPath(codec)(y_hat, z_hat)
        psi = codec.coding_h_s(z_hat.double())
    torch.testing.assert_close((scales, means), codec.coding_context.one_pass(psi, y_hat.double()))
    coded = codec.compress(x)
    assert torch.equal(x_hat, codec.decompress(coded["strings"], coded["shape"])["x_hat"])
    assert sum(value.numel() for value in asked) == 2 * y_hat.numel()


def test_counting_changes_nothing(net: Supernet) -> None:
    codec = make_codec(net, "uneven")
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    traced_macs(codec, *SIZE)
    after = codec.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    modules = [*codec.modules(), *codec.coding_h_s.modules(), *codec.coding_context.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@pytest.mark.parametrize("size", [(64, 100), (0, 64), (16, 16)])
def test_sizes_that_do_not_fit_are_refused(net: Supernet, size: tuple[int, int]) -> None:
    codec = make_codec(net, "none")
    for count in (traced_macs, counted_by_torch):
        with pytest.raises(InputError, match="multiples of 64"):
            count(codec, *size)
