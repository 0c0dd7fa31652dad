"""What every family promises: supernet, tables, space, codec, search and training agree with each other.

The families come from `nas.spaces.families`: a new one inherits all of this.
"""

from __future__ import annotations

import copy
import itertools
import random
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields
from functools import cache

import numpy as np
import pytest
import torch
import yaml
from drawn import SEEDS, architectures, indexes, samples
from families import (
    CONTENTS,
    INTEGER,
    INTEGER_NAMES,
    NAMES,
    ONE_QUANTIZER,
    SPACES,
    Y,
    Z,
    assert_alike,
    assert_same_state,
    content_of,
    image,
    last_weights,
    net_of,
    one_hot,
    others_slow,
    state_of,
    table_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import load_codec, save_codec
from nas.codec.nic import Nic
from nas.cost.counting.macs import count_macs, layer_cost
from nas.cost.exact.quantity import macs as macs_in
from nas.cost.exact.reach import ReachableCosts
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, bits, quantize
from nas.graph.layers.build import PlainLayers, SlimmableLayers, build_layer
from nas.graph.layers.width import Width
from nas.graph.network import CodecNetwork, Supernet, _sliced
from nas.metrics.losses import batch_losses
from nas.metrics.objective import Objective
from nas.photos.images import Photo, psnr
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.profiling.audit import traced_edges
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces import description
from nas.spaces.architecture import Architecture
from nas.spaces.budget import REFERENCE_PIXELS, SCOPES
from nas.spaces.description import HYPERPRIOR
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.settings import TrainingSettings
from nas.training.start import TrainingRequest, start_training
from nas.training.strategies import STRATEGIES, strategy
from nas.weights.checkpoint import supernet_of

FACTS = {"lmbda": 0.013, "metric": "mse", "kmac_px": {"total": 1.0}, "stages": 1, "params": 1, "measured": {}}
SCOPE_NAMES = sorted(SCOPES)

every_space = pytest.mark.parametrize("name", NAMES)
# Each family with one quantiser, and with both in the slow tests
every_family_once = pytest.mark.parametrize("name", others_slow(NAMES, ONE_QUANTIZER))
every_integer_space = pytest.mark.parametrize("name", INTEGER_NAMES)
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


def codec_of(name: str, architecture: Architecture) -> Codec:
    return Codec(net_of(name).extract(architecture), architecture)


# One supernet, three ways to run an architecture


def cut(value: Tensor, channels: int, parts: int = 1) -> Tensor:
    """The first channels of each part."""
    return value.unflatten(1, (parts, -1))[:, :, :channels].flatten(1, 2)


def widened(value: Tensor, channels: int) -> Tensor:
    """Channels of zero after those there are."""
    return torch.cat([value, value.new_zeros(len(value), channels - value.shape[1], *value.shape[2:])], 1)


@torch.no_grad()
def by_edge(net: CodecNetwork, x: Tensor, y_hat: Tensor, z_hat: Tensor | None, layout) -> dict[str, Tensor]:
    """What each edge makes of given latents: no rounding between them."""
    y = net.g_a(x)
    found = {"y": y, "x_hat": net.g_s(y_hat)}
    if z_hat is None:
        return found | {"prior": net.y_prior.likelihood(y_hat)}
    psi = net.h_s(z_hat)
    scales, means = net.context(psi, y_hat, layout)
    more = {"z": net.h_a(y), "psi": psi, "scales": scales, "means": means}
    return found | more | {"prior": net.prior.likelihood(z_hat)}


@every_space
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=3)
def test_sliced_masked_and_extracted_are_one(name, data, seed):
    net, space = net_of(name), SPACES[name]
    architecture, x = data.draw(samples(space)), image(seed, 64, 128)
    layout, plain = net.activate(architecture), net.extract(architecture)
    with torch.no_grad():
        whole = net(x, layout)
    y_hat = quantize(whole["y"], Y_LIMIT)
    z_hat = quantize(whole["z"], Z_LIMIT) if net.with_z else None
    assert y_hat.any()
    assert z_hat is None or z_hat.any()
    sliced = by_edge(net, x, y_hat, z_hat, layout)
    assert_alike(by_edge(plain, x, y_hat, z_hat, layout), sliced)
    assert not [module for module in plain.modules() if "Slimmable" in type(module).__name__]
    net.gate(one_hot(space, architecture))
    try:
        wide = [widened(y_hat, space.y_channels), None if z_hat is None else widened(z_hat, space.z_channels)]
        masked = by_edge(net, x, *wide, layout)
        with torch.no_grad():
            gated = net(x, layout)
    finally:
        net.activate(architecture)
    m = y_hat.shape[1]
    if z_hat is not None:
        if not space.psi_channels:
            masked["psi"] = cut(masked["psi"], m, space.family.psi_parts)
        masked["z"] = cut(masked["z"], z_hat.shape[1])
        masked["scales"], masked["means"] = cut(masked["scales"], m), cut(masked["means"], m)
    masked["prior"], masked["y"] = cut(masked["prior"], sliced["prior"].shape[1]), cut(masked["y"], m)
    assert_alike(masked, sliced)
    likelihoods = gated["likelihoods"]
    assert (likelihoods["y"][:, m:] == 1).all()
    if "z" in likelihoods:  # what is left out carries no rate
        kept = 0 if z_hat is None else z_hat.shape[1]
        assert (likelihoods["z"][:, kept:] == 1).all()
    agree = torch.equal(quantize(gated["y"][:, :m], Y_LIMIT), y_hat)
    if agree and (z_hat is None or torch.equal(quantize(gated["z"][:, : z_hat.shape[1]], Z_LIMIT), z_hat)):
        for part, expected in whole["likelihoods"].items():  # a value within rounding of .5 may differ
            found = likelihoods[part][:, : expected.shape[1]]
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def numbered(space: SearchSpace) -> Supernet:
    """A supernet of different whole numbers, so that each is known again when it is extracted."""
    net, first = Supernet(space).double(), 1
    with torch.no_grad():
        for name, value in net.named_parameters():
            if not name.endswith("adjust"):
                value.copy_(torch.arange(first, first + value.numel()).reshape(value.shape))
                first += value.numel()
    return net


def used_by(space: SearchSpace, architecture: Architecture) -> dict[str, Tensor]:
    """For every parameter of a supernet, the entries that an extracted network is made of."""
    net = numbered(space)
    plain = net.extract(architecture)
    numbers = torch.cat([value.detach().flatten() for value in plain.parameters()]).round()
    used, adjusts = {}, {}
    for name, value in net.named_parameters():
        if name.endswith("adjust"):
            adjusts[name] = value
            used[name] = torch.zeros_like(value, dtype=torch.bool)
        else:
            used[name] = torch.isin(value.detach(), numbers)
    for row in range(max((len(value) for value in adjusts.values()), default=0)):
        net = numbered(space)
        with torch.no_grad():
            for name in adjusts:
                net.get_parameter(name)[row : row + 1] = torch.nan
        spoilt = dict(net.extract(architecture).named_parameters())
        for name, entries in used.items():
            beta = name.replace("adjust", "beta")
            if name in adjusts and row < len(entries) and beta in spoilt:
                entries[row] = bool(spoilt[beta].isnan().any())
    return used


@every_integer_space
@given(data=st.data())
@settings(max_examples=2)
def test_the_gradient_lies_within_what_is_extracted(name, data):
    space, net = SPACES[name], copy.deepcopy(net_of(name))
    architecture, x = data.draw(samples(space)), image(3)
    with torch.no_grad():
        for layer in net.modules():  # no rectifier of these few is dead everywhere
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.bias.add_(3)
        # so far from zero that a likelihood is at its bound, a latent has no gradient
        for weight in last_weights(net, "g_a"):
            weight.mul_(20 / net(x, net.activate(space.widest()))["y"].abs().max())
        for weight in last_weights(net, "h_a") if hasattr(net, "h_a") else ():
            weight.mul_(0.1)
    layout = net.activate(architecture)
    output = net(x, layout, lambda like: torch.rand_like(like) - 0.5)
    batch_losses(x, output, Objective(0.01)).total.backward()
    for parameter, used in used_by(space, architecture).items():
        value = net.get_parameter(parameter)
        if not value.requires_grad:
            continue
        gradient = torch.zeros_like(value) if value.grad is None else value.grad
        assert not gradient[~used].any(), parameter
        unseen = "context_prediction" in parameter and not layout.has_context
        assert bool(gradient[used].any()) == (bool(used.any()) and not unseen), parameter


@every_family_once
def test_soft_gates_are_differentiable_in_every_slot(name):
    net, space = net_of(name), SPACES[name]
    logits = [torch.zeros(len(slot.candidates), requires_grad=True) for slot in space.slots]
    net.gate({slot.name: logit.softmax(0) for slot, logit in zip(space.slots, logits, strict=True)})
    x = image(2)
    try:
        output = net(x, space.layout(space.widest()))
        found = torch.autograd.grad(batch_losses(x, output, Objective(0.01)).total, logits)
    finally:
        net.activate(space.widest())
    for slot, gradient in zip(space.slots, found, strict=True):
        assert gradient.isfinite().all(), slot.name
        assert gradient.any(), slot.name


@every_family_once
def test_measuring_changes_nothing(name):
    net, space = net_of(name), SPACES[name]
    before = state_of(net)
    architecture = space.sample(random.Random(5))
    codec = codec_of(name, architecture)
    Evaluator(net, PHOTOS[:1], Objective(0.01)).score(architecture)
    inside = state_of(codec)
    if space.quantizer == "integer":
        traced_edges(codec, 64, 64)
    codec(image(0))
    codec.compress(image(0))
    assert_same_state(codec, inside)
    with torch.no_grad():  # its weights are its own
        for value in codec.parameters():
            value.add_(1)
    assert_same_state(net, before)


# Costs


@every_integer_space
@given(data=st.data())
@settings(max_examples=4)
def test_the_table_counts_the_networks_parameters(name, data):
    """Their MACs are in test_audit.py."""
    architecture = data.draw(samples(SPACES[name]))
    learned = net_of(name).extract(architecture).named_parameters()
    sizes = [value.numel() for key, value in learned if not key.endswith("quantiles")]
    assert table_of(name).params(architecture) == sum(sizes)


@cache
def costs_of(name: str) -> tuple[dict[str, np.ndarray], list[Architecture]]:
    """Every place of a space, whether it has a shorter name or not: its MACs by scope, its architecture."""
    space, table = SPACES[name], table_of(name)
    points = [space.at(place) for place in itertools.product(*map(range, space.shape))]
    by_point = {a: [table.macs(a, scope) for scope in SCOPE_NAMES] for a in dict.fromkeys(points)}
    macs = np.array([by_point[a] for a in points]).T.reshape(len(SCOPE_NAMES), *space.shape)
    return dict(zip(SCOPE_NAMES, macs, strict=True)), points


@every_integer_space
@given(seed=SEEDS)
@settings(max_examples=2)
def test_the_expected_cost_equals_enumeration(name, seed):
    rng = np.random.default_rng(seed)
    shares = [rng.dirichlet(np.ones(count)) for count in SPACES[name].shape]
    costs, _ = costs_of(name)
    for scope, macs in costs.items():
        expected = macs / REFERENCE_PIXELS / 1000
        for share in reversed(shares):
            expected = expected @ share
        found = table_of(name).expected([torch.from_numpy(share) for share in shares], scope)
        assert float(found) == pytest.approx(float(expected), rel=1e-10)


@every_integer_space
def test_the_expected_cost_is_differentiable(name):
    rng = torch.Generator().manual_seed(1)
    drawn = [torch.rand(n, generator=rng, dtype=torch.float64).softmax(0) for n in SPACES[name].shape]
    drawn = [share.requires_grad_() for share in drawn]
    table = table_of(name)
    assert torch.autograd.gradcheck(lambda *p: table.expected(p), drawn)
    single = [share.detach().float().requires_grad_() for share in drawn]
    table.expected(single).backward()
    slots = [share.grad for share in single if len(share) > 1]
    assert all(gradient is None or gradient.isfinite().all() for gradient in slots)


@every_integer_space
@given(data=st.data(), share=st.floats(0, 1), number=st.integers(1, 40), seed=SEEDS)
@settings(max_examples=3)
def test_reach_equals_brute_force(name, data, share, number, seed):
    space, table = SPACES[name], table_of(name)
    scope = data.draw(st.sampled_from(SCOPE_NAMES))
    names = data.draw(st.sets(st.sampled_from(space.layout_names), min_size=1))
    counted = macs_in(table, scope)
    every = set(costs_of(name)[1])
    macs = {a: table.macs(a, scope) for a in every if a.layout in names}
    costs = np.sort(list(macs.values()))
    reach = ReachableCosts(counted, names)
    assert (reach.least, reach.most, reach.size) == (costs[0], costs[-1], len(costs))
    assert ReachableCosts(counted).size == len(every) == space.size
    low, high = costs[0], round(costs[0] + share * (costs[-1] - costs[0]))
    inside = {a for a, cost in macs.items() if low <= cost <= high}
    assert reach.count(low, high) == len(inside)
    assert reach.quantile(share) == costs[max(0, int(np.ceil(share * len(costs) - 1e-9)) - 1)]
    assert set(reach.draw(low, high, len(every), np.random.default_rng(seed))) == inside
    few = reach.draw(low, high, number, np.random.default_rng(seed))
    assert few == reach.draw(low, high, number, np.random.default_rng(seed))
    assert set(few) <= inside
    assert len(set(few)) == len(few) <= number
    assert len(few) == min(number, len(inside)) or len(inside) > 4 * number


# Spaces


def shapes(space: SearchSpace, architecture: Architecture) -> str:
    """What kind of network an architecture is, without its name: its weights' shapes and its layout."""
    net = CodecNetwork(space.only(architecture))
    layout = repr(space.layout(architecture).to_dict()) if net.with_z else ""
    return repr([(name, tuple(value.shape)) for name, value in net.state_dict().items()]) + layout


def _more_switches() -> Iterator[SearchSpace]:
    """Spaces in which one slot needs one of several switches."""
    for family in FAMILIES.values():
        if not family.depths:
            continue
        layers = [name for name in family.choices if name not in family.switches]
        inner = [name for name in layers if any(d in family.depths for d in family.needs[name])]
        content = content_of(family, layouts=["none", "raster"])
        others = [name for name in layers if name not in inner]
        content["widths"] = {
            "inner": {"candidates": [2, 3], "layers": dict.fromkeys(inner, 1)},
            **{switch: [0, 1] for switch in sorted(family.switches)},
            "width": {"candidates": [4, 5], "layers": dict.fromkeys(others, 1)},
            HYPERPRIOR: [0, 1],
        }
        yield SearchSpace.from_dict(content, name=f"{family.name}-shared")


SWITCHED = {space.name: space for space in _more_switches()}
every_named_space = pytest.mark.parametrize(
    "space", [*INTEGER.values(), *SWITCHED.values()], ids=lambda s: s.name
)


@every_named_space
@given(data=st.data())
@settings(max_examples=3)
def test_one_step_away_is_another_network(space, data):
    """Equal networks have equal keys: what a slot changes, its key tells, and nothing else."""
    here = data.draw(architectures(space))
    found = {shapes(space, here): here}
    for other in set(space.neighbours(here)):
        assert found.setdefault(shapes(space, other), other) is other, (
            found[shapes(space, other)].key,
            other.key,
        )


@every_integer_space
@given(data=st.data())
@settings(max_examples=4)
def test_equal_keys_are_equal_networks(name, data):
    """A place and the settled one: what was put back to its first candidate had no effect."""
    net, space = net_of(name), SPACES[name]
    place = data.draw(indexes(space))
    raw = Architecture(
        tuple((slot.name, slot.candidates[k]) for slot, k in zip(space.slots, place, strict=False)),
        space.layout_names[place[-1]],
    )
    settled = space.at(place)
    assert space.at(space.indexes(settled)) == settled
    assert space.parse(raw.key) == space.parse(settled.key) == settled
    assert_same_state(net.extract(raw), state_of(net.extract(settled)))


@every_named_space
def test_the_size_is_the_number_of_keys(space):
    places = list(itertools.product(*map(range, space.shape)))
    assert len({space.at(place).key for place in places}) == space.size
    in_regimes = [place for regime in space.regimes for place in itertools.product(*regime)]
    assert len(set(in_regimes)) == len(in_regimes) == space.size
    assert all(space.indexes(space.at(place)) == place for place in in_regimes)


@every_named_space
@given(data=st.data())
@settings(max_examples=8)
def test_points_files_and_neighbours(space, data):
    here = data.draw(architectures(space))
    assert space.parse(here.key) == here
    assert space.at(space.indexes(here)) == here
    near = list(space.neighbours(here))
    assert here not in near
    assert all(space.at(space.indexes(other)) == other for other in near)
    assert SearchSpace.from_dict(space.to_dict(), name=space.name) == space
    alone = space.only(here)
    assert (alone.size, alone.widest(), alone.narrowest()) == (1, here, here)
    assert alone.layer_widths(here) == space.layer_widths(here)
    assert set(alone.layer_widths(here)) >= set(space.family.choices)
    again = SearchSpace.from_dict(alone.to_dict(), name=space.name)
    assert (again.slots, again.layouts, again.parse(here.key)) == (alone.slots, alone.layouts, here)


@every_named_space
def test_whatever_a_space_offers_has_its_own_name(space):
    rng = random.Random(0)
    offered = [space.widest(), space.narrowest(), space.uniform(0.5), *space.baselines()]
    offered += [space.uniform(level, space.layout_names[-1]) for level in (0, 0.5, 1)]
    offered += [space.sample(rng) for _ in range(20)]
    for architecture in offered:
        assert space.parse(architecture.key) == architecture
    assert len({a.key for a in space.baselines()}) == len(space.baselines())


# Codecs


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth picture of any size, [H, W, 3] in 8 bits."""
    return to_pixels(image(seed, 128, 128, 1)[..., :height, :width])


PHOTOS = [Photo("a", picture(1, 50, 70)), Photo("b", picture(2, 64, 64))]


@every_space
@given(data=st.data(), seed=SEEDS, height=st.integers(1, 128), width=st.integers(1, 128))
@settings(max_examples=2)
def test_what_is_decoded_is_what_was_encoded(name, data, seed, height, width):
    codec, pixels = codec_of(name, data.draw(samples(SPACES[name]))), picture(seed, height, width)
    nic = Nic.parse(compress_image(codec, pixels).to_bytes())
    assert (nic.height, nic.width) == (height, width)
    x = pad(to_tensor(pixels), codec.alignment)
    y_hat, z_hat = codec.latents(x)
    coded = codec.compress(x)
    assert coded["strings"][0] == [nic.stream]
    y, z = codec.decode(coded["strings"][0], coded["shape"])
    assert torch.equal(y, y_hat)
    assert z is z_hat is None or torch.equal(z, z_hat)
    expected = to_pixels(codec.synthesize(y_hat)[..., :height, :width])
    assert np.array_equal(decompress_image(codec, nic), expected)
    with torch.no_grad():
        output, network = codec(x), codec.network
        decoded, integers = network.g_s(y_hat), network.g_s(quantize(network.g_a(x), Y_LIMIT))
    # means are on the coding grid only when coding: the pictures are alike, far from that of the integers
    near, far = (float((other - decoded).abs().mean()) for other in (output["x_hat"], integers))
    if not (network.centred and network.space.family.context):  # there one step aside moves all that follow
        assert near <= (0.25 * far if network.centred else 0) + 1e-5 * float(decoded.abs().max())
    estimate = sum(float(bits(likelihood).sum()) for likelihood in output["likelihoods"].values()) / 8
    assert len(nic.stream) == pytest.approx(estimate, rel=0.05, abs=24)


@every_family_once
def test_a_saved_codec_makes_the_same_bytes(name, tmp_path):
    first, other = (SPACES[name].sample(random.Random(seed)) for seed in (1, 2))
    codec = codec_of(name, first)
    save_codec(codec, tmp_path, FACTS)
    again = load_codec(tmp_path)
    assert (again.fingerprint, again.path_identity) == (codec.fingerprint, codec.path_identity)
    assert again.architecture == first
    x = pad(to_tensor(PHOTOS[0].pixels), codec.alignment)
    assert again.compress(x) == codec.compress(x)
    with torch.no_grad():  # another entropy path
        other = codec_of(name, other)
        for value in other.network.priors[0].parameters():
            value.add_(0.01)
        other.update(force=True)
    with pytest.raises(InputError, match=other.path_identity):
        decompress_image(other, compress_image(codec, PHOTOS[0].pixels))


# Search and training


@every_family_once
@given(data=st.data())
@settings(max_examples=2)
def test_a_score_is_the_extracted_codecs(name, data):
    architecture = data.draw(samples(SPACES[name]))
    score = Evaluator(net_of(name), PHOTOS, Objective(0.01)).score(architecture)
    codec, rows = codec_of(name, architecture), []
    for photo in PHOTOS:
        x = to_tensor(photo.pixels)
        with torch.no_grad():
            output = codec.network(pad(x, codec.alignment), codec.layout, coded=True)
        x_hat = output["x_hat"][..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
        bpp = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values()) / photo.size
        error = float((x - x_hat).square().mean())
        rows.append((bpp, psnr(photo.pixels, to_pixels(x_hat)), bpp + 0.01 * 255**2 * error))
    values = score.bpp, score.psnr, score.rd_loss
    for found, expected in zip(values, np.mean(rows, axis=0), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ONE_QUANTIZER)
def test_two_steps_of_training(name, tmp_path, photo_folder):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(CONTENTS[name]))
    values = {"steps": 2, "crop": 64, "batch": 1, "architectures": 2, "warmup": 0, "integer_phase": 0.5}
    request = TrainingRequest(
        str(tmp_path / "space.yaml"), str(photo_folder), tmp_path / "run", settings=values, device="cpu"
    )
    seen = []
    run = start_training(request, seen.append)
    assert [progress.step for progress in seen] == [1, 2]
    assert all(np.isfinite([progress.loss, progress.bpp, progress.distortion]).all() for progress in seen)
    trained = supernet_of(run)
    assert all(value.isfinite().all() for value in trained.state_dict().values())
    Codec(trained.extract(run.space.widest()), run.space.widest()).compress(image(0))


@every_integer_space
@pytest.mark.parametrize("how", STRATEGIES)
def test_strategies_draw_points_of_the_space(name, how):
    space = SPACES[name]
    chosen = strategy(TrainingSettings(strategy=how, architectures=3), space.baselines())
    for step in range(10):
        drawn = list(chosen.draw(space, step, 7))
        assert drawn == list(chosen.draw(space, step, 7))
        assert len(drawn) == 3
        for sample in drawn:
            assert space.parse(sample.architecture.key) == sample.architecture
            own = space.layout(sample.architecture)
            assert sample.layout.channels == own.channels
            assert space.family.context or sample.layout == own


# Quantisers


@every_space
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=2)
def test_values_are_whole_steps_from_their_centre(name, data, seed):
    """The picture is made of integers, or of integers beside means and medians that the decoder knows."""
    codec = codec_of(name, data.draw(samples(SPACES[name])))
    net = codec.network
    y_hat, z_hat = codec.latents(image(seed))
    first, prior = (y_hat, "y_prior") if z_hat is None else (z_hat, "prior")
    centre = getattr(net, prior).medians() if net.centred else torch.zeros(1)
    assert_whole(first - centre, exact=not net.centred)
    if z_hat is not None:
        means = codec.parameters_of_y(y_hat, z_hat)[1] / 64 if net.centred else torch.zeros(1)
        assert_whole(y_hat - means, exact=True)
    if net.centred:
        assert not torch.equal(first, first.round())


def assert_whole(values: Tensor, *, exact: bool) -> None:
    far = (values - values.round()).abs().max()
    assert far <= (0 if exact else 1e-4)
    assert values.round().any()


# Layers, one by one

CANDIDATES = (2, 3, 6)
BY_HAND = {  # MACs per position of the coarser side, and parameters, of i channels to o with a kernel of k
    description.Conv: lambda i, o, k: (k * k * i * o, (k * k * i + 1) * o),
    description.Deconv: lambda i, o, k: (k * k * i * o, (k * k * i + 1) * o),
    description.Subpel: lambda i, o, k: (4 * k * k * i * o, 4 * (k * k * i + 1) * o),
    description.Depthwise: lambda i, o, k: (k * k * i, (k * k + 1) * i),
    description.GDN: lambda i, o, k: (i * i, i * i + i),
    description.ReLU: lambda i, o, k: (0, 0),
    description.LeakyReLU: lambda i, o, k: (0, 0),
}


def make(kind: type, inputs: str, outputs: str) -> description.Leaf:
    """A layer of a kind with a kernel of 3, the rest as it comes."""
    words = {"inputs": inputs, "outputs": outputs, "width": inputs, "kernel": 3}
    return kind(**{f.name: words[f.name] for f in fields(kind) if f.default is MISSING})


def kinds() -> Iterator[description.Layer]:
    for kind in typing.get_args(description.Leaf):
        yield make(kind, "a", "b")
        yield description.Residual((("one", make(kind, "a", "a")),), ("two", description.Conv("a", "a", 1)))
    conv, back = description.Conv("a", "c", 3), description.Conv("c", "a", 3)
    body = (("one", conv), ("act", description.ReLU()), ("two", back))
    yield description.Conv("a", "b", 5, 2)
    yield description.Deconv("a", "b", 5, 4)
    yield description.Residual(body)
    yield description.Residual(
        (("one", conv), ("two", description.Conv("c", "b", 3))), ("by", description.Conv("a", "b", 1))
    )
    yield description.Conv("a", "b", 4, 4)  # patches
    yield description.Subpel("a", "b", 1, 4, zero=True)
    block = description.Residual((("wide", conv), ("each", description.Depthwise("c")), ("back", back)))
    yield description.Repeat((block,), "depth")
    yield description.Repeat((block, description.Residual(body)), "depth")
    first = description.Branch("first", (description.Conv("a", "b", 2, 2),))
    more = (description.Conv("a", "c", 2, 2), description.ReLU(), description.Conv("c", "b", 1))
    yield description.Parallel((first, description.Branch("more", more, switch="depth")))


def same_size(layer: description.Layer) -> bool:
    """Whether a block adds up: a layer that changes the resolution cannot stand beside a 1x1 convolution."""
    if not isinstance(layer, description.Residual):
        return True
    return len({part.stride for _, part in layer.body if hasattr(part, "stride")} - {1}) == 0


LAYERS = [layer for layer in kinds() if same_size(layer)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer!r:.60}")
def test_a_layer_sliced_plain_and_masked(layer):
    names = {"a": CANDIDATES, "b": (1, 4, 5), "c": (2, 3, 4), "depth": (0, 1, 3)}
    names = {name: sizes for name, sizes in names.items() if name == "a" or f"'{name}'" in repr(layer)}
    widths = {name: Width(name, candidates) for name, candidates in names.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        slim = build_layer(layer, SlimmableLayers(), widths)
        with torch.no_grad():
            for value in slim.parameters():
                value.add_(0.1 * torch.rand_like(value))
        x = torch.randn(2, CANDIDATES[-1], 8, 8)
    for places in itertools.product(range(3), repeat=len(names)):
        for width, place in zip(widths.values(), places, strict=True):
            width.index, width.gates = place, None
        alone = {name: Width(name, (width.active,)) for name, width in widths.items()}
        plain = build_layer(layer, PlainLayers(), alone)
        fitted = plain.load_state_dict(dict(_sliced(slim, plain)), strict=False)
        assert not fitted.unexpected_keys
        assert not [key for key in fitted.missing_keys if "pedestal" not in key and "bound" not in key]
        shown = x[:, : widths["a"].active]
        with torch.no_grad():
            sliced, expected = slim(shown), plain(shown)
            for width, place in zip(widths.values(), places, strict=True):
                width.gates = nn.functional.one_hot(torch.tensor(place), 3).float()
            masked = slim(widened(shown, CANDIDATES[-1]))
        assert_alike({"sliced": sliced}, {"sliced": expected})
        assert_alike({"masked": masked[:, : expected.shape[1]]}, {"masked": expected})
        assert not masked[:, expected.shape[1] :].any()


@pytest.mark.parametrize("kind", typing.get_args(description.Leaf))
@given(i=st.integers(1, 9), o=st.integers(1, 9))
@settings(max_examples=3)
def test_a_layer_costs_what_is_counted_by_hand(kind, i, o):
    layer = make(kind, "a", "b")
    sizes = {"a": i, "b": o}
    found = layer_cost(layer, tuple(sizes[name] for name in description.ends(layer)))
    assert found == BY_HAND[kind](i, o, 3)
    module = build_layer(layer, PlainLayers(), {name: Width(name, (size,)) for name, size in sizes.items()})
    assert count_macs(module, torch.zeros(1, i, 4, 6))[""] == found[0] * 24


# What is refused


def one_value(family: description.Family, **changes) -> dict:
    """A family's small space with some of its widths replaced."""
    content = content_of(family)
    return content | {"widths": content["widths"] | changes}


def refused() -> Iterator:
    for family in FAMILIES.values():

        def case(what: str, content: dict, message: str, family=family):
            return pytest.param(content, message, id=f"{family.name}: {what}")

        yield case("no channels", one_value(family, g_a=[0, 2]), r"g_a.*cannot have 0 channels")
        yield case("no y", content_of(family, latents={}), "how many channels y has")
        yield case("y of 0", content_of(family, latents={"y": 0, "z": Z}), "latents.y")
        yield case("y twice", one_value(family, y=[3, 6]), "`latents` and `widths` both set y")
        yield case("a slot missing", {**content_of(family), "widths": {"g_a": [2]}}, "nowhere")
        if family.has_z:
            yield case("hyperprior 2", one_value(family, hyperprior=[0, 2]), r"hyperprior: \[0, 1\]")
            tied = {"candidates": [0, 1], "layers": {HYPERPRIOR: 1, "z": 1}}
            yield case("hyperprior tied", one_value(family, hyperprior=tied), "hyperprior")
            yield case("no z", content_of(family, latents={"y": Y}), "how many channels z has")
            yield case("z twice", one_value(family, z=[3, 4]), "`latents` and `widths` both set z")
        else:
            yield case("z", content_of(family, latents={"y": Y, "z": Z}), "has no z")
            yield case("z as a slot", one_value(family, z=[1, 2]), "has no 'z'")
            yield case("a hyperprior", one_value(family, hyperprior=[0, 1]), "has no 'hyperprior'")
        if family.context:
            slim = one_value(family, y=[3, 6]) | {"latents": {"z": Z}, "layouts": ["none"]}
            yield case("y by a slot", slim, "keep their channels")
            yield case("window", content_of(family, window=4), "window must be")
        else:
            yield case("raster", content_of(family, layouts=["raster"]), "no context model")
            yield case(
                "two layouts", content_of(family, layouts=["none", "checkerboard"]), "no context model"
            )


@pytest.mark.parametrize(("content", "message"), list(refused()))
def test_what_a_family_has_no_room_for(content, message):
    with pytest.raises(InputError, match=message) as caught:
        SearchSpace.from_dict(content, name="wrong", source="a-file")
    assert str(caught.value).startswith("a-file")
    assert "\n" not in str(caught.value)


@every_space
def test_sides_must_be_aligned(name):
    space = SPACES[name]
    net, side = net_of(name), space.family.alignment
    layout = net.activate(space.widest())
    with pytest.raises(InputError, match=f"multiples of {side}"):
        net(torch.zeros(1, 3, side, side + 1), layout)
    with pytest.raises(InputError, match=f"multiples of {side}"):
        codec_of(name, space.widest()).compress(torch.zeros(1, 3, side + 1, side))
