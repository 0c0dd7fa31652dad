"""Effort: latents refined for one picture decode as any others, and their files are never worse."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import NAMES, ONE_QUANTIZER, RATED, SPACES, net_of, others_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec.bitstream import analyzed, decompress_image, latents_of, lmbda_of, read_latents, write_latents
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.folder import save_codec
from nas.codec.nic import Nic
from nas.codec.quantize import can_be_exact, quantized
from nas.codec.recode import compress_smallest
from nas.codec.refining.annealing import COLD, HOT, RATE, Annealing, annealed, annealed_latents
from nas.codec.refining.effort import STEPS_OF_EFFORT, refined
from nas.codec.refining.rounding import BIT, round_rate_aware
from nas.codec.refining.tiles import TileLoss, refinement_tiles
from nas.codec.tiles import Tiling
from nas.graph.entropy import SCALES
from nas.metrics.objective import Objective
from nas.metrics.quality import ms_ssim, mse
from nas.photos.tensors import Padded, to_tensor
from nas.support.errors import InputError
from nas.support.limits import MOST_EFFORT

SMALLEST = Tiling(limit=0, side=64)


@cache
def codec_of(name: str) -> Codec:
    space, net = (SPACES | RATED)[name], net_of(name)
    architecture = space.uniform(1)
    codec = Codec(net.extract(architecture), architecture)
    if can_be_exact(codec):
        noise = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
        codec = quantized(codec, [latents_of(codec, noise)], [codec.layout])
    return codec


def objective_of(codec: Codec, metric: str = "mse") -> Objective:
    return Objective(codec.rates[1] if codec.rates else 0.01, metric)


def loss_of(codec: Codec, latents: Any, pixels: np.ndarray, objective: Objective) -> float:
    """From a file and what it decodes to."""
    height, width = pixels.shape[:2]
    step = None if not codec.rates else 500
    nic = write_latents(codec, latents, width, height, step)
    y_hat, _ = read_latents(codec, Nic.parse(nic.to_bytes()))
    assert torch.equal(y_hat, latents[0])
    x_hat = codec.synthesize(y_hat, lmbda=objective.lmbda if codec.rates else None)
    decoded = (x_hat[0, :, :height, :width] * 255).round().byte().permute(1, 2, 0).numpy()
    error = mse(pixels, decoded) if objective.metric == "mse" else 1 - ms_ssim(pixels, decoded)
    return float(objective.loss(8 * len(nic.stream) / pixels[..., 0].size, error))


@pytest.mark.parametrize("name", [*others_slow(NAMES, ONE_QUANTIZER), *RATED])
def test_effort_is_never_worse_and_its_latents_come_back(name: str, chelsea: np.ndarray) -> None:
    codec = codec_of(name)
    objective = objective_of(codec)
    pixels = chelsea[:70, :100]
    y = analyzed(codec, pixels)
    before = y.clone()
    plain, better = (refined(codec, pixels, y, objective, effort) for effort in (0, 2))
    assert torch.equal(y, before)
    for found, expected in zip(plain, codec.rounded(y, lmbda_of(codec, 500)), strict=True):
        assert found is expected is None or torch.equal(found, expected)
    losses = [loss_of(codec, latents, pixels, objective) for latents in (plain, better)]
    assert losses[1] <= losses[0]


@pytest.mark.parametrize(
    "name", ["joint-ar-integer", "mean-scale-hyperprior-centred", "factorized-integer-rates"]
)
def test_more_effort_gains(name: str, chelsea: np.ndarray) -> None:
    codec = codec_of(name)
    objective, pixels = objective_of(codec), chelsea[:64, :64]
    y = analyzed(codec, pixels)
    losses = [
        loss_of(codec, refined(codec, pixels, y, objective, effort), pixels, objective)
        for effort in (0, 2, 5)
    ]
    assert losses[2] < losses[1] < losses[0]


def test_a_value_is_rounded_to_what_costs_least_with_its_bits(chelsea: np.ndarray, monkeypatch) -> None:
    """In one pass: the cost of every candidate by hand, from the bits that the coder would take."""
    monkeypatch.setattr("nas.codec.refining.rounding.PASSES", 1)
    codec = codec_of("joint-ar-integer")
    y = analyzed(codec, chelsea[:64, :96])
    plain = codec.rounded(y)
    y_hat, z_hat = round_rate_aware(codec, y, plain)
    assert z_hat is plain[1]
    levels, steps = codec.parameters_of_y(*plain)
    scales, means = torch.from_numpy(SCALES)[levels], steps / 64
    costs = {}
    for shift in (0, 1, None):
        candidate = (y.floor() + shift if shift is not None else torch.zeros_like(y)).double()
        upper, lower = (torch.special.ndtr((candidate + side - means) / scales) for side in (0.5, -0.5))
        bits = -(upper - lower).clamp_min(1e-9).log2()
        costs[shift] = (candidate - y) ** 2 + BIT * bits
    least = torch.stack(list(costs.values())).amin(0)
    chosen = torch.where(y_hat == 0, costs[None], torch.where(y_hat == y.floor(), costs[0], costs[1]))
    torch.testing.assert_close(chosen, least, rtol=0, atol=1e-3)
    assert not torch.equal(y_hat, plain[0])


def test_effort_is_the_same_twice_and_in_inference_mode(chelsea: np.ndarray) -> None:
    codec, pixels = codec_of("joint-ar-integer"), chelsea[:64, :64]
    objective, y = objective_of(codec), analyzed(codec_of("joint-ar-integer"), chelsea[:64, :64])
    first = refined(codec, pixels, y, objective, 3)
    with torch.inference_mode():
        second = refined(codec, pixels, analyzed(codec, pixels), objective, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_effort_for_ms_ssim(chelsea: np.ndarray) -> None:
    codec = codec_of("mean-scale-hyperprior-integer")
    objective = Objective(20.0, "ms-ssim")
    pixels = np.ascontiguousarray(np.tile(chelsea, (2, 1, 1))[:176, :180])
    y = analyzed(codec, pixels)
    plain, better = (refined(codec, pixels, y, objective, effort) for effort in (0, 4))
    losses = [loss_of(codec, latents, pixels, objective) for latents in (plain, better)]
    assert losses[1] < losses[0]
    small = pixels[:100]  # too small for MS-SSIM: as without effort
    y = analyzed(codec, small)
    assert torch.equal(refined(codec, small, y, objective, 4)[0], codec.rounded(y)[0])


@given(st.floats(-50, 50), st.integers(0, 9))
def test_annealing_ends_in_rounding(value: float, seed: int) -> None:
    values = torch.full((200,), value)
    generator = torch.Generator().manual_seed(seed)
    cold = annealed(values, 1e-3, generator)
    if abs(value - round(value)) < 0.45:
        assert torch.allclose(cold, values.round(), atol=1e-3)
    hot = annealed(values, HOT, generator)
    assert ((hot >= values.floor() - 1e-5) & (hot <= values.floor() + 1 + 1e-5)).all()


def test_annealing_is_the_gumbel_softmax_of_the_paper() -> None:
    """Against the formula in its own words: two logits, two Gumbel variables, a softmax."""
    values, temperature = torch.linspace(0.05, 0.95, 7, dtype=torch.float64), 0.4
    logits = torch.stack([-torch.atanh(values), -torch.atanh(1 - values)]) / temperature
    rng = np.random.default_rng(0)
    gumbel = torch.from_numpy(rng.gumbel(size=(20_000, 2, 7)))
    theirs = torch.softmax((logits + gumbel) / temperature, 1)[:, 1]
    generator = torch.Generator().manual_seed(0)
    ours = annealed(values.expand(20_000, 7), temperature, generator)
    places = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    assert torch.allclose(theirs.quantile(places, 0), ours.quantile(places, 0), atol=0.03)


def test_one_step_follows_the_gradient(chelsea: np.ndarray) -> None:
    """Adam's first step moves every value by the rate of learning, against the sign of its gradient."""
    codec = codec_of("mean-scale-hyperprior-integer")
    pixels, objective = chelsea[:64, :64], Objective(0.01)
    y = analyzed(codec, pixels)
    z = codec.network.z_of(y)
    search = Annealing(TileLoss(codec, to_tensor(pixels), objective), y.clone(), z.clone())
    search.step(0.0, torch.Generator().manual_seed(3))
    again, hyper = y.clone().requires_grad_(), z.clone().requires_grad_()
    generator = torch.Generator().manual_seed(3)
    soft, soft_z = (annealed(values, HOT, generator) for values in (again, hyper))
    net = codec.network
    scales, means = net.context(net.h_s(soft_z), soft, codec.layout)
    like_y, like_z = net.gaussian.likelihood(soft, scales, means), net.prior.likelihood(soft_z)
    bpp = -(like_y.log2().sum() + like_z.log2().sum()) / 64**2
    (bpp + 0.01 * 255**2 * (net.g_s(soft) - to_tensor(pixels)).square().mean()).backward()
    for moved, before, values in ((search.y, y, again), (search.z, z, hyper)):
        assert moved is not None
        assert values.grad is not None
        clear = values.grad.abs() > 1e-6
        assert clear.float().mean() > 0.5
        expected = before - RATE * values.grad.sign()
        assert torch.allclose(moved.detach()[clear], expected[clear], atol=1e-3)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(64, 300))
def test_tiles_cover_a_latent_once(rows: int, columns: int, side: int) -> None:
    codec = codec_of("joint-ar-integer")
    rows, columns = 4 * rows, 4 * columns
    covered = torch.zeros(rows, columns)
    for piece in refinement_tiles(codec, rows, columns, Tiling(0, side)):
        place, core = piece.slices(16), piece.core(16)
        covered[place][core] += 1
        assert covered[place].shape == (
            piece.rows.high - piece.rows.low,
            piece.columns.high - piece.columns.low,
        )
    assert (covered == 1).all()


@pytest.mark.parametrize("name", ["joint-ar-integer", "joint-ar-centred", "patch-integer-rates"])
def test_a_picture_in_tiles_is_refined_everywhere(name: str, chelsea: np.ndarray) -> None:
    codec = codec_of(name)
    objective, pixels = objective_of(codec), chelsea[:100, :130]
    y = analyzed(codec, pixels)
    rate = lmbda_of(codec, 500)
    told: list[tuple[int, int]] = []

    def report(done: int, total: int, note: str) -> None:
        told.append((done, total))

    with torch.no_grad():
        at_rate = codec.network.scaled_y(y, rate)
        found = codec.to_integers(
            *annealed_latents(codec, pixels, at_rate, objective, 5, SMALLEST, 0, report)
        )
    plain = codec.rounded(y, rate)
    total = 5 * len(list(refinement_tiles(codec, *y.shape[-2:], SMALLEST)))
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    changed = (found[0] != plain[0]).any(1)[0]
    for rows, columns in (
        (slice(0, 4), slice(0, 4)),
        (slice(4, 8), slice(4, 12)),
        (slice(-5, -1), slice(-5, -1)),
    ):
        assert changed[rows, columns].any()
    better = refined(codec, pixels, y, objective, 2, refinement_tiling=SMALLEST)
    losses = [loss_of(codec, latents, pixels, objective) for latents in (plain, better)]
    assert losses[1] < losses[0] or name.startswith("patch")  # its random weights make no picture


def test_what_lies_around_a_tile_stays(chelsea: np.ndarray) -> None:
    codec = codec_of("joint-ar-integer")
    pixels = chelsea[:130, :190]
    y = analyzed(codec, pixels)
    z = codec.network.z_of(y)
    pieces = list(refinement_tiles(codec, *y.shape[-2:], SMALLEST))
    piece = pieces[len(pieces) // 2]
    (rows, columns), place, coarse = piece.slices(1), piece.slices(16), piece.slices(64)
    x = Padded(pixels, codec.alignment)[..., rows, columns]
    loss = TileLoss(codec, x, objective_of(codec))
    search = Annealing(loss, y[(..., *place)].clone(), z[(..., *coarse)].clone())
    search.hold(piece)
    search.step(0.5, torch.Generator().manual_seed(0))
    for moved, before, unit in ((search.y, y[(..., *place)], 16), (search.z, z[(..., *coarse)], 64)):
        assert moved is not None
        still = moved.detach() == before
        inside = torch.zeros(before.shape[-2:], dtype=torch.bool)
        inside[piece.core(unit)] = True
        assert still[..., ~inside].all()
        assert not still[..., inside].all()


@given(st.floats(1.02, 3), st.integers(0, 3))
@settings(max_examples=6)
def test_a_size_is_kept_with_effort_too(share: float, seed: int) -> None:
    codec = codec_of("patch-integer-rates")
    family = CodecFamily(codec, objective=objective_of(codec))
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 70, 3), dtype=np.uint8)
    layouts = list(family.layouts)
    limit = share * len(compress_smallest(family, pixels, layouts, quality=0).to_bytes())
    plain = compress_smallest(family, pixels, layouts, most_bytes=limit)
    nic = compress_smallest(family, pixels, layouts, most_bytes=limit, effort=2)
    assert len(nic.to_bytes()) <= limit
    assert nic.step is not None
    assert plain.step is not None
    assert nic.step >= plain.step
    assert decompress_image(codec, nic).shape == pixels.shape


def test_compressing_with_effort_from_the_shell(chelsea: np.ndarray, tmp_path: Path) -> None:
    codec = codec_of("joint-ar-integer")
    save_codec(codec, tmp_path / "codec", {"lmbda": 1e-9, "metric": "mse"})
    Image.fromarray(chelsea[:64, :64]).save(tmp_path / "a.png")
    sizes = []
    for effort in ("0", "6"):
        out = tmp_path / f"{effort}.nic"
        words = ["compress", str(tmp_path / "codec"), str(tmp_path / "a.png"), str(out)]
        result = CliRunner().invoke(app, [*words, "--effort", effort])
        assert result.exit_code == 0, result.output
        sizes.append(out.stat().st_size)
        nas.decompress(tmp_path / "codec", out, tmp_path / f"{effort}.png")
    assert sizes[1] < sizes[0]
    told: list[tuple[str, int, int, str]] = []
    packed = nas.compress(
        tmp_path / "codec", tmp_path / "a.png", tmp_path / "b.nic", effort=6, report=lambda *t: told.append(t)
    )
    assert packed.bytes == sizes[1]
    assert told[-1] == ("refining", STEPS_OF_EFFORT[6], STEPS_OF_EFFORT[6], "")
    result = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "c.nic"), "--effort", "11"])
    assert result.exit_code == 2
    with pytest.raises(InputError, match="from 0 to 10"):
        nas.compress(tmp_path / "codec", tmp_path / "a.png", tmp_path / "c.nic", effort=11)


def test_what_cannot_be() -> None:
    codec = codec_of("joint-ar-integer")
    pixels = np.zeros((16, 16, 3), np.uint8)
    layouts = [codec.layout.name]
    for effort in (-1, MOST_EFFORT + 1):
        with pytest.raises(InputError, match="from 0 to 10"):
            compress_smallest(CodecFamily(codec, objective=Objective(0.01)), pixels, layouts, effort=effort)
    with pytest.raises(InputError, match="no goal"):
        compress_smallest(CodecFamily(codec), pixels, layouts, effort=1)
    assert compress_smallest(CodecFamily(codec), pixels, layouts).stream


@pytest.mark.parametrize("name", ["joint-ar-integer", "factorized-integer-rates"])
def test_every_step_of_an_effort_is_told(name: str, chelsea: np.ndarray) -> None:
    codec, pixels, effort = codec_of(name), chelsea[:64, :64], 8
    y, told, steps = analyzed(codec, pixels), [], STEPS_OF_EFFORT[effort]

    def report(done: int, total: int, _: str) -> None:
        told.append((done, total))

    refined(codec, pixels, y, objective_of(codec), effort, report=report)
    assert sorted(set(told)) == [(done, steps) for done in range(steps + 1)]
    assert told == sorted(told)


def test_efforts_rise() -> None:
    assert STEPS_OF_EFFORT[:2] == (0, 0)  # the second weighs bits when it rounds, and no more
    assert len(STEPS_OF_EFFORT) == MOST_EFFORT + 1 == 11
    assert all(1.4 < after / before <= 2 for before, after in pairwise(STEPS_OF_EFFORT[2:]))
    assert 0 < COLD < HOT
