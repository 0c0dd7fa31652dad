"""Tiled = untiled: large pictures pass g_a and g_s in tiles, and nobody can tell from the numbers."""

from __future__ import annotations

import dataclasses
import random
from functools import partial

import numpy as np
import pytest
import torch
from drawn import SEEDS, layouts, samples
from families import INTEGER, INTEGER_NAMES, image, net_of, others_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from nas.cli import app
from nas.codec import tiles as tiles_module
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.codec.nic import Nic
from nas.codec.tiles import Tiling, core_multiple, overlap, run_tiled, tile_sides, tiles
from nas.graph.network import CodecNetwork
from nas.photos.images import psnr, read_image
from nas.photos.tensors import Padded, pad, to_tensor
from nas.spaces.layout import named_layout
from nas.support.errors import InputError
from nas.support.limits import MAX_PIXELS

TILED = Tiling(limit=0, side=64)
WHOLE = Tiling(limit=1 << 40)
every_space = pytest.mark.parametrize("name", INTEGER_NAMES)
# Those of slimmed latents and of tables have the layers of the other spaces.
every_kind_of_layers = pytest.mark.parametrize(
    "name",
    others_slow(INTEGER_NAMES, [name for name in INTEGER_NAMES if not name.startswith(("slim", "tables"))]),
)
both_edges = pytest.mark.parametrize("edge", ["g_a", "g_s"])


def network_of(name: str, architecture=None) -> CodecNetwork:
    return net_of(name).extract(architecture or INTEGER[name].widest()).eval().requires_grad_(False)


def layout_of(network: CodecNetwork):
    return next(iter(network.space.layouts.values()))


def input_of(edge: str, network: CodecNetwork, seed: int, height: int, width: int, batch: int = 1) -> Tensor:
    """Pixels, or integers as y_hat has them, for a picture of so many pixels."""
    if edge == "g_a":
        return image(seed, height, width, batch)
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, network.widths["y"].active, height // 16, width // 16)
    return torch.randint(-9, 10, shape, generator=generator).float()


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


@every_kind_of_layers
@both_edges
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=6)
@torch.no_grad()
def test_tiled_is_untiled(name, edge, data, seed):
    network = network_of(name, data.draw(samples(INTEGER[name])))
    layout = data.draw(layouts(network.widths["y"].active))
    height, width = (64 * data.draw(st.integers(1, 9)) for _ in range(2))
    tiling = Tiling(limit=0, side=data.draw(st.sampled_from([1, 64, 128, 192, 256])))
    source = input_of(edge, network, seed, height, width, data.draw(st.integers(1, 2)))
    expected = network.get_submodule(edge)(source)
    assert apart(run_tiled(network, edge, layout, source, tiling), expected) < 1e-5
    covered = torch.zeros(expected.shape[-2:], dtype=torch.int)
    for rows, columns, part in tiles(network, edge, layout, source, tiling):
        covered[rows, columns] += 1
        assert part.shape[-2:] == covered[rows, columns].shape
        for place, multiple in zip((rows, columns), core_multiple(layout), strict=True):
            assert place.start % (multiple * expected.shape[-1] // width) == 0
    assert (covered == 1).all()


@every_space
@both_edges
@pytest.mark.parametrize("seed", [0, 1])
def test_the_overlap_is_what_an_output_depends_on(name, edge, seed):
    """By gradients, in the middle of a picture: nothing beyond it, and something at each of its ends."""
    space = INTEGER[name]
    architecture = space.sample(random.Random(seed)) if seed else space.widest()
    network = network_of(name, architecture).double()
    switches = {choice: network.widths[choice].active for choice in space.family.switches}
    before, after = overlap(space.family.edges[edge], switches)
    middle, length = before + 2, before + after + 5
    source = input_of(edge, network, 3, 16 * length, 16 * length).double().requires_grad_()
    out = network.get_submodule(edge)(source)
    each = out.shape[-1] // length
    core = out[..., middle * each : (middle + 1) * each, middle * each : (middle + 1) * each]
    (core * torch.rand_like(core)).sum().backward()
    wide = source.shape[-1] // length
    for sums in (source.grad.abs().sum((0, 1, 2)), source.grad.abs().sum((0, 1, 3))):
        reached = sums.unflatten(0, (length, wide)).sum(1).nonzero().flatten()
        assert (int(reached.min()), int(reached.max())) == (middle - before, middle + after)


@both_edges
@pytest.mark.parametrize("end", [0, 1])
@torch.no_grad()
def test_one_element_less_is_not_enough(edge, end, monkeypatch):
    network = network_of("joint-ar-integer").double()
    source = input_of(edge, network, 0, 256, 256).double()
    split = partial(run_tiled, network, edge, layout_of(network), source, TILED)
    expected = network.get_submodule(edge)(source)
    assert apart(split(), expected) < 1e-12
    less = list(overlap(network.space.family.edges[edge], {}))
    less[end] -= 1
    monkeypatch.setattr(tiles_module, "overlap", lambda *_: tuple(less))
    assert apart(split(), expected) > 1e-7


@both_edges
def test_a_picture_up_to_the_limit_is_one_call(edge):
    network = network_of("joint-ar-integer")
    source, calls = input_of(edge, network, 0, 128, 192), []
    network.get_submodule(edge).register_forward_hook(lambda *_: calls.append(1))
    run_tiled(network, edge, layout_of(network), source, Tiling(limit=128 * 192, side=64))
    assert len(calls) == 1
    run_tiled(network, edge, layout_of(network), source, Tiling(limit=128 * 192 - 1, side=64))
    assert len(calls) == 1 + 2 * 3


@given(st.integers(1, 600), st.integers(1, 100), st.integers(1, 30), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=200)
def test_spans_cover_a_side_once(length, core, multiple, before, after):
    found = tile_sides(length, core, multiple, (before, after))
    assert [span.start for span in found] == [0, *(span.stop for span in found[:-1])]
    assert found[-1].stop == length
    assert all(span.start % multiple == 0 for span in found)
    for span in found:
        assert 0 < span.stop - span.start <= max(core, multiple)
        assert (span.low, span.high) == (max(0, span.start - before), min(length, span.stop + after))


@pytest.mark.parametrize(
    ("rows", "columns", "expected"), [(1, 1, (64, 64)), (2, 4, (64, 64)), (3, 5, (192, 320))]
)
def test_cores_are_multiples_of_64_pixels_and_of_the_layouts_tile(rows, columns, expected):
    layout = dataclasses.replace(
        named_layout("none", 6), groups=(6,), tile=(tuple((0,) * columns for _ in range(rows)),)
    )
    assert core_multiple(layout) == expected


# Pictures


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(network_of("joint-ar-integer"), INTEGER["joint-ar-integer"].widest())


@given(st.integers(1, 90), st.integers(1, 90), st.data(), SEEDS)
def test_a_padded_picture_is_read_as_if_it_were_a_tensor(height, width, data, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    multiple = data.draw(st.sampled_from([1, 16, 64]))
    expected, lazy = pad(to_tensor(pixels), multiple), Padded(pixels, multiple)
    assert lazy.shape == expected.shape
    rows, columns = (
        slice(*sorted(data.draw(st.tuples(st.integers(0, side), st.integers(0, side)))))
        for side in expected.shape[-2:]
    )
    assert torch.equal(lazy[..., rows, columns], expected[..., rows, columns])


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=8)
def test_a_tiled_picture_is_the_untiled_one(codec, chelsea, height, width):
    pixels = np.ascontiguousarray(np.tile(chelsea, (3, 2, 1))[:height, :width])
    whole = compress_image(codec, pixels, tiling=WHOLE)
    tiled = compress_image(codec, pixels, tiling=TILED)
    decoded = [decompress_image(codec, nic, tiling=TILED).astype(int) for nic in (whole, tiled)]
    expected = decompress_image(codec, whole, tiling=WHOLE).astype(int)
    # a value at the middle between two integers may be rounded either way
    assert np.abs(decoded[0] - expected).max() <= 1
    assert (decoded[0] != expected).mean() < 1e-3
    assert psnr(decoded[1].astype(np.uint8), expected.astype(np.uint8)) > 50


# Forged sizes


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (65536, 1, "no side can have more than 65535"),
        (1, 2**34, "no side can have more than 65535"),
        (65535, 65535, "raise the limit"),
        (2**14, 2**13 + 1, "raise the limit"),
    ],
)
def test_a_forged_size_is_refused_before_anything_is_made_of_it(codec, width, height, message):
    nic = Nic(codec.path_identity, codec.fingerprint, width, height, b"\0" * 16, 0)
    with pytest.raises(InputError, match=message):
        decompress_image(codec, nic)


def test_a_caller_sets_the_limit(codec, chelsea):
    nic = compress_image(codec, chelsea[:40, :30])
    assert decompress_image(codec, nic, max_pixels=1200).shape == (40, 30, 3)
    with pytest.raises(InputError, match="more than 1199 in all"):
        decompress_image(codec, nic, max_pixels=1199)
    assert MAX_PIXELS >= 8192 * 8192


def test_nas_decompress_has_the_limit_as_an_option(codec, chelsea, tmp_path):
    facts = {
        "lmbda": 0.013,
        "metric": "mse",
        "kmac_px": {"total": 1.0},
        "stages": 1,
        "params": 1,
        "measured": {},
    }
    save_codec(codec, tmp_path / "codec", facts)
    (tmp_path / "photo.nic").write_bytes(compress_image(codec, chelsea[:40, :30]).to_bytes())
    words = ["decompress", *(str(tmp_path / name) for name in ("codec", "photo.nic", "photo.png"))]
    refused = CliRunner().invoke(app, [*words, "--max-pixels", "1199"])
    assert refused.exit_code == 2
    assert "30x40 pixels, which is more than 1199 in all" in " ".join(refused.stderr.split())
    assert not (tmp_path / "photo.png").exists()
    assert CliRunner().invoke(app, [*words, "--max-pixels", "1200"]).exit_code == 0
    assert read_image(tmp_path / "photo.png").shape == (40, 30, 3)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (65536, 1, 3)])
def test_pictures_that_no_file_can_hold(codec, shape):
    with pytest.raises(InputError, match="sides must be 1 to 65535"):
        compress_image(codec, np.zeros(shape, np.uint8))
