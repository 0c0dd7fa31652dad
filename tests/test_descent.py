"""Descent: integers change where the loss of a picture falls, and nothing else changes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_effort import SMALLEST, codec_of, objective_of

from nas.codec.bitstream import analyzed
from nas.codec.refining.descent import FIRST, LEAST, Descent, descended
from nas.codec.refining.tiles import TileLoss, refinement_tiles
from nas.graph.entropy import Y_LIMIT
from nas.photos.tensors import to_tensor
from nas.support.progress import silent

NAMES = ["joint-ar-integer", "mean-scale-hyperprior-integer", "patch-integer-rates"]


def descent_of(name: str, pixels: np.ndarray, seed: int = 0) -> Descent:
    codec = codec_of(name)
    objective = objective_of(codec)
    y_hat, z_hat = codec.rounded(analyzed(codec, pixels), objective.lmbda if codec.rates else None)
    assert z_hat is not None
    generator = torch.Generator().manual_seed(seed)
    loss = TileLoss(codec, to_tensor(pixels), objective)
    with torch.no_grad():
        return Descent(loss, y_hat, z_hat, torch.ones(y_hat.shape[-2:]), generator)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_never_rises_and_numbers_stay_whole(name: str, chelsea: np.ndarray) -> None:
    descent = descent_of(name, chelsea[:64, :64])
    losses, start = [descent._least], descent.y_hat
    with torch.no_grad():
        for _ in range(12):
            before = descent.y_hat, descent.probability
            descent.step()
            losses.append(descent._least)
            taken_back = descent.y_hat is before[0]
            assert taken_back == (losses[-1] == losses[-2])
            assert descent.probability == (max(before[1] / 2, LEAST) if taken_back else before[1])
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert torch.equal(descent.y_hat, descent.y_hat.round())
    assert not torch.equal(descent.y_hat, start)
    assert descent._measured(descent.y_hat)[0] == pytest.approx(losses[-1], rel=1e-6)


def test_a_gain_is_bits_less_slope_and_curvature(chelsea: np.ndarray) -> None:
    """Against the formula, with bits from the normal distribution function."""
    descent = descent_of("mean-scale-hyperprior-integer", chelsea[:64, :64])
    generator = torch.Generator().manual_seed(1)
    shape = descent.y_hat.shape
    gradient = 1e-3 * torch.randn(shape, generator=generator)
    scales = 0.2 + torch.rand(shape, generator=generator)
    means = torch.randn(shape, generator=generator)
    descent._curvature = 1e-4 * torch.rand((1, shape[1], 1, 1), generator=generator)
    gain, change = descent.gains(gradient, scales, means)

    def bits(values: torch.Tensor) -> torch.Tensor:
        upper, lower = (torch.special.ndtr((values + side - means).double() / scales) for side in (0.5, -0.5))
        return -(upper - lower).clamp_min(1e-9).log2()

    here, found = descent.y_hat, []
    for move in (torch.ones(shape), -torch.ones(shape), -here):
        saved = (bits(here) - bits(here + move)) / 64**2
        found.append(saved - gradient * move - descent._curvature * move**2 / 2)
    best = torch.stack(found).amax(0).clamp_min(0)
    torch.testing.assert_close(gain.double(), best, rtol=0, atol=2e-5)
    assert ((change == 0) == (gain == 0)).all()


def test_a_steeper_slope_corrects_the_curvature(chelsea: np.ndarray) -> None:
    """After a step, by how much each slope has risen for each unit of its change, if that is more."""
    descent = descent_of("mean-scale-hyperprior-integer", chelsea[:64, :64])
    before, (slope, *_) = descent._curvature.expand_as(descent.y_hat), descent._slopes
    start, measured = descent.y_hat, []
    measure = descent._measured
    descent._measured = lambda y_hat: measured.append((y_hat, measure(y_hat))) or measured[-1][1]  # type: ignore
    with torch.no_grad():
        descent.step()
    ((y_hat, (_, after, _, _)),) = measured
    change = y_hat - start
    moved = change != 0
    assert moved.any()
    rise = (after - slope)[moved] / change[moved]
    assert (rise > before[moved]).any()
    torch.testing.assert_close(descent._curvature[moved], torch.maximum(before[moved], rise))
    assert torch.equal(descent._curvature.expand_as(start)[~moved], before[~moved])


def test_the_curvature_of_a_linear_decoder_is_exact_in_the_mean(chelsea: np.ndarray, monkeypatch) -> None:
    """Of a loss that is a sum of c y^2 / 2, it is c."""
    descent = descent_of("mean-scale-hyperprior-integer", chelsea[:64, :64])
    factors = torch.linspace(0.1, 2, descent.y_hat.shape[1])[:, None, None]
    monkeypatch.setattr(descent, "_loss", lambda rate, y: rate.sum() + (factors * y.square()).sum() / 2)
    torch.testing.assert_close(descent._estimate_curvature()[0], factors, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 99))
@settings(max_examples=5)
def test_only_the_core_of_a_tile_changes(seed: int) -> None:
    codec = codec_of("joint-ar-integer")
    pixels = np.random.default_rng(seed).integers(0, 256, (130, 190, 3), dtype=np.uint8)
    y_hat, z_hat = codec.rounded(analyzed(codec, pixels))
    assert z_hat is not None
    pieces = list(refinement_tiles(codec, *y_hat.shape[-2:], SMALLEST))
    piece = pieces[seed % len(pieces)]
    rows, columns = piece.slices(1)
    x = to_tensor(pixels)[..., rows, columns]
    part = piece.cut(y_hat, 16)
    mask = piece.core_mask(part, 16)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        loss = TileLoss(codec, x, objective_of(codec))
        descent = Descent(loss, part, piece.cut(z_hat, 64), mask, generator)
        assert descent.probability == FIRST
        for _ in range(3):
            descent.step()
    assert torch.equal(descent.y_hat[..., mask == 0], part[..., mask == 0])
    assert descent.y_hat.abs().max() <= Y_LIMIT


def test_a_picture_in_tiles_descends_everywhere(chelsea: np.ndarray) -> None:
    codec = codec_of("joint-ar-integer")
    pixels = chelsea[:130, :190]
    latents = codec.rounded(analyzed(codec, pixels))
    run = partial(descended, codec, pixels, latents, objective_of(codec), 3, SMALLEST)
    told: list[tuple[int, int]] = []
    with torch.no_grad():
        first, z_hat = run(0, lambda done, total, _: told.append((done, total)))
        again, _ = run(0, silent)
    assert torch.equal(first, again)
    assert z_hat is not None
    assert torch.equal(z_hat, latents[1])
    total = 3 * len(list(refinement_tiles(codec, *first.shape[-2:], SMALLEST)))
    assert told == [(done, total) for done in range(total + 1)]
    changed = (first != latents[0]).any(1)[0]
    assert changed[:4, :4].any()
    assert changed[-5:-1, -5:-1].any()
