"""All rates in one model: gains, a rate for each architecture of a step, scores of three anchors, quality."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from families import SPACES, assert_alike, image, seeded_supernet
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.codec.bitstream import compress_image, decompress_image, latents_of, lmbda_of
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.nic import Nic
from nas.codec.recode import compress_smallest, transcode
from nas.cost.counting.tabulate import measured_costs
from nas.graph.entropy import Y_LIMIT, bits, quantize
from nas.graph.network import Supernet
from nas.metrics.losses import batch_losses
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.searching.scoring.evaluator import Evaluator
from nas.searching.scoring.scores import Scores, known_scores
from nas.spaces.rates import (
    STEPS_OF_QUALITY,
    anchors_between,
    geometric_mean,
    lmbda_at,
    middle,
    middle_quality,
    parse_lmbda,
    quality_at,
    scored,
)
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.devices import make_fabric
from nas.training.klt import with_klt
from nas.training.loop import Training
from nas.training.start import TrainingRequest, initial_weights
from nas.training.strategies import Sample, at_rates
from nas.weights.checkpoint import load_weights
from nas.weights.rates import at_one_rate, over_range

LOW, HIGH = 0.0018, 0.18
RATES = anchors_between(LOW, HIGH)
NAMES = ("factorized-integer", "mean-scale-hyperprior-centred", "joint-ar-integer", "patch-integer")
RATED_PER_CHANNEL = 2 * len(RATES)  # gains before and after rounding y; factors and shifts of z
every_kind = pytest.mark.parametrize("name", NAMES)


def rated(name: str) -> SearchSpace:
    return replace(SPACES[name], rates=RATES)


def supernet(name: str) -> Supernet:
    """Seeded, with gains that differ from channel to channel."""
    net = seeded_supernet(rated(name), spread=100.0)
    with torch.no_grad():
        for parameter in (*net.gains.parameters(), *(net.hyper_gains.parameters() if net.with_z else ())):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


# Costs


@every_kind
def test_the_table_counts_gains(name):
    space = rated(name)
    net, table, without = supernet(name), measured_costs(space), measured_costs(SPACES[name])
    for architecture in (space.narrowest(), space.widest()):
        learned = net.extract(architecture).named_parameters()
        assert table.params(architecture) == sum(v.numel() for k, v in learned if not k.endswith("quantiles"))
        assert table.macs(architecture) == without.macs(architecture)
        gains = RATED_PER_CHANNEL * (space.y_channels + (net.with_z and net.widths["z"].full))
        assert table.params(architecture) - without.params(architecture) == gains


# Weights of one rate


@pytest.mark.parametrize(
    "name",
    [
        "factorized-integer",
        "mean-scale-hyperprior-integer",
        "joint-ar-integer",
        "residual-integer",
        "patch-integer",
    ],
)
@pytest.mark.parametrize("lmbda", [LOW, 0.02, HIGH])
@torch.no_grad()
def test_one_rate_of_a_range_codes_as_the_range_does_there(name, lmbda):
    net, alone = supernet(name), Supernet(SPACES[name])
    state = at_one_rate(net.state_dict(), net.space.family, RATES, lmbda)
    load_weights(alone, state, source="the range")
    for architecture in (net.space.widest(), net.space.narrowest()):
        layout = net.activate(architecture)
        alone.activate(architecture)
        found, expected = (own.eval()(image(3), layout, lmbda=lmbda) for own in (alone, net))
        assert_alike(found["likelihoods"], expected["likelihoods"])
        torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=1e-4, atol=1e-4)
        single = Supernet(SPACES[name].only(architecture))
        sliced = initial_weights(net.extract(architecture), single.space, Objective(lmbda))
        load_weights(single, sliced, source="the range's slice")
        found = single.eval()(image(3), layout)
        torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lmbda", [0.0067, 0.1])
@torch.no_grad()
def test_a_range_from_one_rate_codes_there_as_before(lmbda):
    name = "patch-integer"
    alone, net = seeded_supernet(SPACES[name], spread=100.0), Supernet(rated(name))
    load_weights(net, over_range(net.state_dict(), alone.state_dict(), RATES, lmbda), source="one rate")
    layout = net.activate(net.space.widest())
    alone.activate(net.space.widest())
    found, expected = (own.eval()(image(3), layout, lmbda=lmbda) for own in (net, alone))
    torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        net.gains.up(4 * lmbda if 4 * lmbda < HIGH else lmbda / 4).log().abs().mean(),
        torch.tensor(math.log(2)),
        rtol=0.01,
        atol=0,
    )


def test_where_y_is_added_to_no_rate_can_be_taken():
    net = supernet("cheng-integer")
    with pytest.raises(InputError, match="give a range"):
        at_one_rate(net.state_dict(), net.space.family, RATES, LOW)


# Words


def test_a_lambda_or_a_range():
    assert parse_lmbda("0.013") == parse_lmbda(0.013) == 0.013
    assert parse_lmbda("0.0018..0.18") == (LOW, HIGH)
    for wrong in ("much", "0.1..", "..0.1", "0.1..0.1", "0.2..0.1", "-1", "0", "nan", "inf", "1..2..3", ""):
        with pytest.raises(InputError):
            parse_lmbda(wrong)
    for wrong in ("1e-320", "1e300", "5e-324..1e308", "0.0018..1e99"):
        with pytest.raises(InputError, match="from 1e-09 to 1e\\+09"):
            parse_lmbda(wrong)


def test_anchors_of_the_narrowest_and_the_widest_range_make_a_space():
    with pytest.raises(InputError, match="too narrow"):
        parse_lmbda("0.013..0.0130000001")
    for text in ("0.013..0.01314", "1e-9..1e9"):
        space = replace(SearchSpace.load("patch-tiny"), rates=anchors_between(*parse_lmbda(text)))
        assert SearchSpace.from_dict(space.to_dict(), name="again").rates == space.rates


def test_anchors_are_those_of_compressai():
    theirs = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.18)
    assert pytest.approx(theirs, rel=0.01) == RATES
    assert scored(RATES) == (RATES[0], RATES[3], RATES[7])


@given(quality=st.floats(0, 100))
def test_quality_and_lambda(quality):
    lmbda = lmbda_at(RATES, quality)
    assert lmbda == pytest.approx(LOW * (HIGH / LOW) ** (quality / 100))
    assert quality_at(RATES, lmbda) == pytest.approx(quality, abs=1e-9)
    for wrong in (-1.0, 100.5, math.nan):
        with pytest.raises(InputError):
            lmbda_at(RATES, wrong)


# Gains


@every_kind
def test_between_two_anchors_gains_are_geometric_means(name):
    gains = supernet(name).gains
    for low, (first, last) in enumerate(pairwise(RATES)):
        for values, at in ((gains.log_gain, gains.up), (gains.log_inverse, gains.down)):
            assert torch.allclose(at(first).flatten(), values[low].exp())
            between = at(math.sqrt(first * last)).flatten()
            assert torch.allclose(between, (values[low].exp() * values[low + 1].exp()).sqrt())
    assert torch.equal(gains.up(LOW / 10), gains.up(LOW))
    assert torch.equal(gains.down(HIGH * 10), gains.down(HIGH))


@every_kind
def test_a_step_of_quantisation_is_what_the_gain_says(name):
    """By hand: y times its gain is rounded, what g_s reads is divided by another."""
    net, x = supernet(name), image(0)
    layout = net.activate(net.space.widest())
    with torch.no_grad():
        for lmbda in (LOW, 0.02, HIGH):
            found = net(x, layout, lmbda=lmbda)
            y = net.g_a(x) * net.gains.up(lmbda)
            assert torch.equal(found["y"], y)
            if not net.centred:
                x_hat = net.g_s(quantize(y, Y_LIMIT) * net.gains.down(lmbda))
                assert torch.equal(found["x_hat"], x_hat)
        assert torch.equal(net(x, layout)["y"], net(x, layout, lmbda=middle(RATES))["y"])


def test_at_first_every_subnetwork_of_patch_is_the_same_codec():
    """Whatever is chosen, at every rate, to 1e-5: the learned parts end in zeros."""
    space = replace(SearchSpace.load("patch-tiny"), rates=RATES)
    photos = [Photo("a", to_pixels(image(1, 128, 192, 1))), Photo("b", to_pixels(image(2, 128, 128, 1)))]
    net = Supernet(space)
    net.load_state_dict(with_klt(space, photos, Objective(middle(RATES))))
    net.eval()
    x, rng = image(1, 128, 192, 1), random.Random(0)
    chosen = [space.narrowest(), space.widest(), *(space.sample(rng) for _ in range(6))]
    with torch.no_grad():
        for lmbda in (LOW, middle(RATES), HIGH):
            pictures = [net(x, net.activate(each), lmbda=lmbda)["x_hat"] for each in chosen]
            for picture in pictures[1:]:
                torch.testing.assert_close(picture, pictures[0], rtol=0, atol=1e-5)
        errors = [
            float((x - net(x, net.activate(chosen[0]), lmbda=rate)["x_hat"]).square().mean())
            for rate in RATES
        ]
    assert errors == sorted(errors, reverse=True)  # finer steps, a better picture


# Training


def test_the_rates_of_a_step_cover_the_range():
    space, count = rated("patch-integer"), 4
    samples = [Sample(space.widest(), space.layout(space.widest()))] * count
    seen = [[sample.lmbda for sample in at_rates(samples, space, step, 0)] for step in range(300)]
    for lambdas in seen:
        shares = sorted(quality_at(RATES, lmbda) / 100 for lmbda in lambdas)
        assert all(abs(share - (part + 0.5) / count) < 0.18 for part, share in enumerate(shares))
    every = [lmbda for lambdas in seen for lmbda in lambdas]
    assert min(every) == LOW
    assert max(every) == pytest.approx(HIGH)
    assert seen[7] == [sample.lmbda for sample in at_rates(samples, space, 7, 0)]
    alone = replace(space, rates=())
    assert [sample.lmbda for sample in at_rates(samples, alone, 0, 0)] == [None] * count


def test_a_step_follows_the_gradient_of_the_mean_logarithm(tmp_path, monkeypatch):
    """By hand: each architecture's loss at its own rate, divided by itself."""
    space = rated("patch-integer")
    request = TrainingRequest(space, "bundled", tmp_path, settings={"lmbda": f"{LOW}..{HIGH}", "batch": 2})
    assert request.search_space() == space
    from nas.run import Run

    chosen = {"strategy": "uniform", "architectures": 2, "integer_phase": 1.0, "clip": 1e9, "crop": 64}
    request = replace(request, settings={**request.settings, **chosen})
    run = Run.create(tmp_path / "run", space, request.training_settings().model_dump())
    training = Training(run, make_fabric("cpu", "32"))
    training.net.load_state_dict(supernet("patch-integer").state_dict())
    before, x = {k: v.clone() for k, v in training.net.state_dict().items()}, image(3, 64, 64)
    samples = at_rates(list(training.strategy.draw(space, 0, 0)), space, 0, 0)
    kept = {}
    monkeypatch.setattr(training._wrapped, "step", lambda: None)
    training.step(0, x)
    kept = {name: p.grad.clone() for name, p in training.net.named_parameters() if p.grad is not None}
    by_hand = Supernet(space)
    by_hand.load_state_dict(before)
    by_hand.train()
    total = torch.zeros(())
    for sample in samples:
        by_hand.activate(sample.architecture)
        output = by_hand(x, sample.layout, lmbda=sample.lmbda)
        total = total + batch_losses(x, output, Objective(sample.lmbda)).total.log() / len(samples)
    total.backward()
    for name, parameter in by_hand.named_parameters():
        if parameter.grad is not None:
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(kept[name], parameter.grad, rtol=1e-3, atol=1e-5 * scale + 1e-9)
    assert kept["gains.log_gain"].any()
    assert kept["gains.log_inverse"].any()


# Scores


@every_kind
def test_scores_are_the_networks_own_at_three_anchors(name, tmp_path):
    net = supernet(name)
    photo = Photo("a", to_pixels(image(1, 64, 128, 1)))
    evaluator = Evaluator(net, [photo], Objective(1.0))
    architectures = [net.space.sample(random.Random(seed)) for seed in range(3)]
    for architecture, score in zip(architectures, evaluator.score_all(architectures), strict=True):
        x = to_tensor(photo.pixels)
        layout = net.activate(architecture)
        losses = []
        for lmbda, point in zip(scored(RATES), score.curve, strict=True):
            with torch.no_grad():
                output = net(pad(x, net.space.family.alignment), layout, lmbda=lmbda, coded=True)
            rate = sum(float(bits(each)[0]) for each in output["likelihoods"].values()) / photo.size
            error = float((x - output["x_hat"].clamp(0, 1)).square().mean())
            losses.append(rate + lmbda * 255**2 * error)
            assert (point.lmbda, point.bpp) == (lmbda, pytest.approx(rate, rel=1e-4))
            assert point.rd_loss == pytest.approx(losses[-1], rel=1e-4)
        assert score.rd_loss == pytest.approx(geometric_mean(losses), rel=1e-4)
        assert (score.bpp, score.psnr) == (score.curve[1].bpp, score.curve[1].psnr)
        Scores(tmp_path / "scores.csv", evaluator, "w").learn(architecture, score)
    known = known_scores(tmp_path / "scores.csv", net.space, "w")
    assert known == {a: evaluator.score(a) for a in architectures}


# Files


@every_kind
def test_files_hold_their_quality(name):
    net = supernet(name)
    codec = Codec(net.extract(net.space.widest()), net.space.widest())
    pixels = to_pixels(image(4, 64, 96, 1))
    sizes = []
    for quality in (0, 33.3, 100):
        nic = Nic.parse(compress_image(codec, pixels, quality=quality).to_bytes())
        assert nic.step == round(quality * STEPS_OF_QUALITY / 100)
        lmbda = lmbda_of(codec, nic.step)
        y_hat, _ = latents_of(codec, pixels, lmbda=lmbda)
        expected = to_pixels(codec.synthesize(y_hat, lmbda=lmbda)[..., :64, :96])
        assert np.array_equal(decompress_image(codec, nic), expected)
        sizes.append(len(nic.stream))
    assert sizes[0] < sizes[-1]
    assert compress_image(codec, pixels).step == round(quality_at(RATES, middle(RATES)) * 10)
    assert compress_image(codec, pixels).step == round(middle_quality(RATES) * STEPS_OF_QUALITY / 100)
    for wrong in (-1, 101, math.nan):
        with pytest.raises(InputError, match="0 to 100"):
            compress_image(codec, pixels, quality=wrong)


def test_a_damaged_quality_is_told():
    nic = Nic("00" * 4, "11" * 4, 5, 7, b"stream", 0, STEPS_OF_QUALITY)
    assert Nic.parse(nic.to_bytes()).step == STEPS_OF_QUALITY
    with pytest.raises(InputError, match="damaged"):
        Nic.parse(replace(nic, step=STEPS_OF_QUALITY + 1).to_bytes())


def test_a_codec_of_one_rate_has_no_quality():
    from families import net_of

    net = net_of("patch-integer")
    codec = Codec(net.extract(net.space.widest()), net.space.widest())
    pixels = to_pixels(image(4, 64, 64, 1))
    assert compress_image(codec, pixels).to_bytes()[3] == 1
    with pytest.raises(InputError, match="one rate"):
        compress_image(codec, pixels, quality=50)


@given(share=st.floats(0, 1), seed=st.integers(0, 100))
@settings(max_examples=10)
def test_a_size_that_was_asked_for_is_never_exceeded(share, seed):
    family = _family()
    pixels = to_pixels(image(seed, 64, 128, 1))
    layouts = list(family.layouts)
    least, most = (
        len(compress_smallest(family, pixels, layouts, quality=quality).to_bytes()) for quality in (0, 100)
    )
    limit = least + share * (most - least)
    nic = compress_smallest(family, pixels, layouts, most_bytes=limit)
    assert len(nic.to_bytes()) <= limit
    if nic.step < STEPS_OF_QUALITY:  # the next quality does not fit, or is no larger by chance
        more = compress_smallest(family, pixels, layouts, quality=100 * (nic.step + 1) / STEPS_OF_QUALITY)
        assert len(more.to_bytes()) > limit or len(more.to_bytes()) <= len(nic.to_bytes()) + 2
    with pytest.raises(InputError, match="lowest quality"):
        compress_smallest(family, pixels, layouts, most_bytes=least - 1)
    with pytest.raises(InputError, match="lowest quality"):
        compress_smallest(family, pixels, layouts, most_bytes=math.nan)


def test_transcoding_keeps_the_quality():
    family = _family()
    pixels = to_pixels(image(5, 64, 128, 1))
    nic = compress_smallest(family, pixels, ["none"], quality=70)
    other = transcode(family, nic, ["raster"])
    assert other.step == nic.step == 700
    pictures = [decompress_image(family.codec(family.layout_of(f.path_identity)), f) for f in (nic, other)]
    assert np.array_equal(*pictures)


def _family() -> CodecFamily:
    net = supernet("patch-integer")
    architecture = net.space.under("none", net.space.widest())
    names = ("none", "raster")
    return CodecFamily(
        Codec(net.extract(architecture), architecture), {n: net.space.layouts[n] for n in names}
    )
