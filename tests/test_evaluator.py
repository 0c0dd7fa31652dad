"""The evaluator: what a plain full forward says, in any order, computed once, in bounded memory."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SEEDS, layouts, samples
from families import (
    INTEGER_NAMES,
    NAMES,
    ONE_QUANTIZER,
    SPACES,
    Y,
    content_of,
    net_of,
    others_slow,
    seeded_supernet,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage import data as pictures

from nas.graph.entropy import SCALE_MIN, ConditionalGaussian, bits
from nas.graph.network import Supernet
from nas.metrics.losses import distortion
from nas.metrics.objective import Objective, rd_loss
from nas.photos.images import Photo, psnr
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.searching.scoring.evaluator import Evaluator, Score
from nas.searching.scoring.tensor_cache import TensorCache
from nas.spaces.architecture import Architecture
from nas.spaces.families import FAMILIES
from nas.spaces.layout import tiled_layout
from nas.spaces.space import SearchSpace

LMBDA = 0.01
PHOTOS = [Photo("odd", pictures.chelsea()[:67, :71]), Photo("small", pictures.chelsea()[150:201, 200:264])]
# Each family with one quantiser, and with both in the slow tests
every_family_once = pytest.mark.parametrize("name", others_slow(NAMES, ONE_QUANTIZER))
CONTEXTS = [name for name in INTEGER_NAMES if SPACES[name].family.context]


def evaluator_of(net: Supernet, **options: Any) -> Evaluator:
    return Evaluator(net, PHOTOS, Objective(LMBDA), **options)


def by_full_forwards(net: Supernet, architecture: Architecture) -> Score:
    """That of the extracted codec, one full forward a photo."""
    plain, layout, rows = net.extract(architecture), net.space.layout(architecture), []
    for photo in PHOTOS:
        x = to_tensor(photo.pixels)
        with torch.no_grad():
            output = plain(pad(x, net.space.family.alignment), layout, coded=True)
        x_hat = output["x_hat"][..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
        bpp = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values()) / photo.size
        rows.append((bpp, psnr(photo.pixels, to_pixels(x_hat)), float(distortion(x, x_hat, "mse")[0])))
    bpp, quality, error = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return Score(bpp, quality, rd_loss(bpp, error, LMBDA))


def assert_exact(found: Score, expected: Score) -> None:
    """The picture to the last bit, so the same integers; the rate to single precision."""
    assert found.psnr == expected.psnr
    assert found.bpp == pytest.approx(expected.bpp, rel=1e-6)
    errors = [score.rd_loss - score.bpp for score in (found, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-12)


def every(space: SearchSpace) -> list[Architecture]:
    """All architectures, the layout's index turning fastest."""
    return list(dict.fromkeys(map(space.at, itertools.product(*map(range, space.shape)))))


@contextmanager
def counted(net: Supernet) -> Iterator[Counter[str]]:
    """How often each edge runs, and the network as a whole."""
    calls: Counter[str] = Counter()
    edges = {name: getattr(net, name) for name in net.space.family.edges} | {"whole": net}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name, module in edges.items()
    ]
    yield calls
    for hook in hooks:
        hook.remove()


# What is computed


@every_family_once
@given(data=st.data())
@settings(max_examples=3)
def test_a_score_is_that_of_a_full_forward(name, data):
    net, architecture = net_of(name), data.draw(samples(SPACES[name]))
    assert_exact(evaluator_of(net).score(architecture), by_full_forwards(net, architecture))


@cache
def contextual(family: str) -> Supernet:
    return seeded_supernet(SearchSpace.from_dict(content_of(FAMILIES[family]), name=family))


@given(layout=layouts(Y), seed=SEEDS)
@example(layout=tiled_layout(Y, np.arange(12).reshape(2, 6, 1), "taller than the latent"), seed=0)
def test_under_any_layout(layout, seed):
    """Uneven groups, slopes, groups that share a stage, cells without a position."""
    net = contextual("joint-ar")
    space = net.space
    net.space = space.with_layouts({"drawn": layout})
    try:
        architecture = net.space.under("drawn", net.space.sample(random.Random(seed)))
        assert_exact(evaluator_of(net).score(architecture), by_full_forwards(net, architecture))
    finally:
        net.space = space


@given(
    data=st.data(),
    limit=st.integers(1, 40),
    shape=st.sampled_from([(1, 1, 1), (6, 5, 7), (40, 30, 31)]),
)
def test_coded_bits_are_the_bits_of_the_coded_likelihood(data, limit, shape):
    """Sharp and wide, means within the range, at its ends and beyond; more values than one piece holds."""
    gaussian, rng = ConditionalGaussian(), torch.Generator().manual_seed(data.draw(SEEDS))
    spread = data.draw(st.sampled_from([0.01, 1.0, 30.0]))
    scales = torch.rand(1, *shape, generator=rng) * spread
    means = (torch.rand(1, *shape, generator=rng) - 0.5) * 2.5 * limit
    values = (means + scales.clamp_min(SCALE_MIN) * torch.randn(1, *shape, generator=rng)).round()
    values = values.clamp(-limit, limit)
    whole = gaussian.coded_likelihood(values, scales, means, limit=torch.tensor([float(limit)]))
    found = gaussian.coded_bits(values, scales, means, float(limit))
    torch.testing.assert_close(found, -whole.log2(), rtol=1e-3, atol=1e-4)
    assert float(found.double().sum()) == pytest.approx(float(-whole.double().log2().sum()), rel=1e-6)


# In any order, once, in bounded memory


@every_family_once
def test_neither_order_nor_room_changes_a_score(name):
    net, rng = net_of(name), random.Random(7)
    drawn = [SPACES[name].sample(rng) for _ in range(5)]
    drawn += drawn[:1]
    ample, scarce = evaluator_of(net), evaluator_of(net, cache_bytes=1)
    expected = [ample.score(architecture) for architecture in drawn]
    assert scarce.score_all(drawn) == expected
    shuffled = rng.sample(range(len(drawn)), len(drawn))
    small = evaluator_of(net, cache_bytes=20_000)
    assert [small.score(drawn[k]) for k in shuffled] == [expected[k] for k in shuffled]
    assert ample.score_all([drawn[k] for k in shuffled]) == [expected[k] for k in shuffled]


@every_family_once
def test_each_edge_runs_once_for_each_choice_of_what_it_depends_on(name):
    net, space = net_of(name), SPACES[name]
    apart = space.fixed_latents and space.quantizer == "integer"
    drawn = every(space)
    drawn = random.Random(1).sample(drawn, min(len(drawn), 40 if apart else 5))
    with counted(net) as calls:
        evaluator = evaluator_of(net)
        scores = evaluator.score_all(drawn)
        once = Counter(calls)
        assert [evaluator.score(architecture) for architecture in drawn] == scores
        assert calls == once  # all of it is known now
    if not apart:
        assert calls["whole"] == len(PHOTOS) * len(set(drawn))
        return
    assert not calls["whole"]
    on = {"g_a": ("g_a",), "h_a": ("g_a", "h_a"), "h_s": ("g_a", "h_a", "h_s"), "g_s": ("g_a", "g_s")}
    for edge in space.family.edges:
        wanted = {
            tuple(w for layer, w in widths.items() if space.family.edge_of(layer) in on[edge])
            for widths in map(space.layer_widths, drawn)
            if edge not in ("h_a", "h_s") or widths["hyperprior"]
        }
        assert calls[edge] == len(PHOTOS) * len(wanted), edge


def test_progress_counts_photos_and_architectures():
    name = CONTEXTS[0]
    drawn, seen = every(SPACES[name])[:5], []
    evaluator_of(net_of(name)).score_all(drawn, report=lambda *told: seen.append(told))
    assert [told[:2] for told in seen] == [(k, 10) for k in range(1, 11)]
    assert {told[2] for told in seen} == {photo.name for photo in PHOTOS}


@given(
    sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), max_size=40), room=st.integers(0, 400)
)
def test_what_is_kept_is_bounded_and_right(sizes, room):
    kept, size_of = TensorCache(room), dict(sizes)
    for key, _ in sizes:
        size = size_of[key]
        found = kept.get(key, lambda key=key, size=size: (torch.full((size,), float(key)), torch.zeros(1)))
        assert torch.equal(found[0], torch.full((size,), float(key)))
        assert kept.bytes <= max(room, 4 * size + 4)


def test_what_was_used_last_is_kept():
    kept, made = TensorCache(3 * 8), []

    def of(key: int) -> torch.Tensor:
        return kept.get(key, lambda: made.append(key) or torch.zeros(2))

    for key in (1, 2, 3, 1, 4, 1, 3, 2):
        of(key)
    assert made == [1, 2, 3, 4, 2]


def test_many_scores_leave_the_room_as_it_is():
    name, room = CONTEXTS[0], 30_000
    evaluator = evaluator_of(net_of(name), cache_bytes=room)
    evaluator.score_all(random.Random(2).sample(every(SPACES[name]), 40))
    assert 0 < evaluator._tensors.bytes <= room
