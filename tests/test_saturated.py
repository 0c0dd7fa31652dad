"""White stays white: saturated flat areas are coded beyond the range of pixels, where that is better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import NAMES, RATED, others_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from test_effort import codec_of, loss_of, objective_of

from nas.codec.bitstream import (
    analyzed,
    compress_image,
    decompress_image,
    latents_of,
    lmbda_of,
    read_latents,
    step_of,
)
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.recode import compress_smallest
from nas.codec.refining.annealing import COLD, Annealing
from nas.codec.refining.saturated import push_out_of_range, saturated_blocks
from nas.codec.refining.tiles import TileLoss
from nas.comparison.evaluate import evaluate_codec
from nas.comparison.evaluate_family import _at_rate
from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.metrics.quality import mse
from nas.photos.images import Photo, psnr
from nas.photos.tensors import pad, to_tensor
from nas.shipped import zoo_run
from nas.support.progress import silent
from nas.weights.checkpoint import Checkpoint, load_weights


def product(photo: np.ndarray, background: int = 255) -> np.ndarray:
    """A photo on a flat background, with sides that are no multiples of a block."""
    pixels = np.full((100, 150, 3), background, np.uint8)
    pixels[30:70, 50:100] = photo[50:90, 60:110]
    return pixels


def family_of(codec: Codec) -> CodecFamily:
    return CodecFamily(codec, objective=objective_of(codec))


def smallest(codec: Codec, pixels: np.ndarray, **options: Any) -> Any:
    family = family_of(codec)
    return compress_smallest(family, pixels, list(family.layouts), **options)


def packaged_codec() -> Codec:
    """The narrowest codec of the `patch` supernet that the package carries, over a range of rates."""
    run = zoo_run("patch")
    network = Supernet(run.space)
    load_weights(network, Checkpoint.read(run.weights_path).tensors, source="zoo:patch")
    architecture = run.space.narrowest()
    return Codec(network.extract(architecture), architecture)


@pytest.fixture(scope="module")
def trained() -> Codec:
    return packaged_codec()


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("quality", [0, 50, 100])
def test_white_and_black_come_back_as_they_are(trained: Codec, quality: int, level: int) -> None:
    pixels = np.full((128, 128, 3), level, np.uint8)
    before = compress_image(trained, pixels, quality=quality)
    after = smallest(trained, pixels, quality=quality)
    in_colours = replace(before, grey=False)  # the decoder of a grey picture mends some of it, too
    errors = [mse(decompress_image(trained, nic), pixels) * 255**2 for nic in (before, after, in_colours)]
    assert errors[1] <= min(errors[0], 0.01)
    assert len(after.to_bytes()) <= len(before.to_bytes()) + 16
    if level == 255:
        assert errors[2] > 0.1  # what there was to mend


def test_a_white_background_is_whiter_with_any_effort(trained: Codec, chelsea: np.ndarray) -> None:
    pixels = product(chelsea)
    pictures = [decompress_image(trained, compress_image(trained, pixels, quality=0))]
    pictures += [decompress_image(trained, smallest(trained, pixels, quality=0, effort=n)) for n in (0, 1, 3)]
    plain, *settled = [(picture[:16] != 255).mean() for picture in pictures]
    assert plain > 0.5
    assert max(settled) < 0.05


@pytest.mark.parametrize("name", [*others_slow(NAMES, ["joint-ar-integer"]), *RATED])
@pytest.mark.parametrize("effort", [0, 1])
def test_the_loss_is_never_worse(name: str, effort: int, chelsea: np.ndarray) -> None:
    codec = codec_of(name)
    rate = 50.0 if codec.rates else None
    objective = Objective(lmbda_of(codec, 500) or 0.01)
    for background in (0, 255):
        pixels = product(chelsea, background)
        plain = latents_of(codec, pixels, lmbda=lmbda_of(codec, 500))
        nic = smallest(codec, pixels, quality=rate, effort=effort)
        losses = [loss_of(codec, each, pixels, objective) for each in (plain, read_latents(codec, nic))]
        assert losses[1] <= losses[0]


def test_what_is_measured_is_what_is_written(trained: Codec, chelsea: np.ndarray) -> None:
    """The figures of a codec, by evaluation and at its export, are of the files that compressing writes."""
    photo, objective = Photo("a", product(chelsea)), objective_of(trained)
    for quality in (0, 50):
        step = step_of(trained, quality)
        at = Objective(lmbda_of(trained, step) or 0, objective.metric)
        nic = smallest(trained, photo.pixels, quality=quality)
        written = 8 * len(nic.to_bytes()) / photo.size, psnr(photo.pixels, decompress_image(trained, nic))
        evaluated = evaluate_codec(trained, [photo], at, quality=quality)
        measured = _at_rate(CodecFamily(trained), [photo], at, step, silent).decoders[0]
        assert (evaluated.bpp, evaluated.psnr) == pytest.approx(written)
        assert (measured["bpp"], measured["psnr"]) == pytest.approx(written)
        assert compress_image(trained, photo.pixels, quality=quality).to_bytes() != nic.to_bytes()


def test_other_pictures_keep_their_bytes(trained: Codec, chelsea: np.ndarray) -> None:
    pixels = product(chelsea, 254)
    pixels[40:52, 60:72] = 255  # no whole block
    assert push_out_of_range(trained, pixels, analyzed(trained, pixels)) is None
    plain = compress_image(trained, pixels, quality=30).to_bytes()
    assert smallest(trained, pixels, quality=30).to_bytes() == plain


def test_the_best_quality_of_a_size_stays_within_it(trained: Codec, chelsea: np.ndarray) -> None:
    pixels = product(chelsea)
    for most in (450, 550, 700):
        assert len(smallest(trained, pixels, most_bytes=most).to_bytes()) <= most


def test_a_codec_without_an_objective_rounds_plainly(trained: Codec) -> None:
    pixels = np.full((64, 64, 3), 255, np.uint8)
    plain = compress_image(trained, pixels, quality=0).to_bytes()
    family = CodecFamily(trained)
    assert compress_smallest(family, pixels, list(family.layouts), quality=0).to_bytes() == plain


@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
def test_blocks_are_those_of_the_padded_picture(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, 200, 255], np.uint8), (5, 5, 3), p=[0.45, 0.1, 0.45])
    pixels = coarse.repeat(16, 0).repeat(16, 1)[:height, :width]
    pixels[rng.random((height, width)) < 0.002] = 7
    padded = (pad(to_tensor(pixels), 64) * 255).round()
    blocks = padded[0].unfold(1, 16, 16).unfold(2, 16, 16).flatten(-2)
    flat = ((blocks == blocks[..., :1]).all(-1) & ((blocks[..., 0] == 0) | (blocks[..., 0] == 255))).all(0)
    rows, columns, colours = saturated_blocks(pixels, 64)
    assert sorted(zip(rows, columns, strict=True)) == [tuple(each) for each in flat.nonzero().tolist()]
    assert torch.equal(torch.from_numpy(colours.T.copy()).float(), blocks[..., 0][:, rows, columns])


def test_refinement_takes_what_lies_beyond_white_for_no_error(trained: Codec) -> None:
    x = torch.ones(1, 3, 64, 64)
    objective = Objective(trained.rates[-1])
    with torch.no_grad():
        y = 1.1 * trained.network.scaled_y(trained.analyze(x), objective.lmbda)
        z = trained.network.z_of(y, objective.lmbda)
    losses = []
    for saturated in (False, True):
        search = Annealing(TileLoss(trained, x, objective, saturated), y.clone(), z.clone())
        losses.append(search.soft_loss(COLD, torch.Generator().manual_seed(0)).item())
    assert losses[1] < losses[0] / 2
