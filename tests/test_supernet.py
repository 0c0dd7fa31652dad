"""The supernet: sliced, masked and extracted give the same numbers, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
from conftest import SMALL
from drawn import SEEDS, architectures, layouts
from families import assert_alike, image, one_hot
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.graph._compressai import GDN
from nas.graph.context import ContextModel
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, quantize, snap
from nas.graph.network import CodecNetwork, Supernet
from nas.spaces.layout import named_layout
from nas.spaces.space import SearchSpace

TINY = SearchSpace.load("joint-ar-tiny")
SPACES = {"tiny": TINY, "small": SearchSpace.from_dict(SMALL, name="small")}
NETS: dict[str, Supernet] = {}


@pytest.fixture(autouse=True, scope="module")
def nets(make_supernet, supernet):
    NETS.update(tiny=supernet, small=make_supernet(SPACES["small"], seed=4))


any_point = st.sampled_from(sorted(SPACES)).flatmap(
    lambda name: st.tuples(st.just(name), architectures(SPACES[name]))
)


@given(any_point, st.data())
def test_they_are_one_under_any_layout(drawn, data):
    name, architecture = drawn
    net = NETS[name]
    layout = data.draw(layouts(net.space.y_channels))
    x = image(1)
    net.activate(architecture)
    with torch.no_grad():
        sliced, plain = net(x, layout), net.extract(architecture)(x, layout)
    agree = quantize(sliced["y"], Y_LIMIT) == quantize(plain["y"], Y_LIMIT)
    assert_alike(plain, {part: sliced[part] for part in ("y", "z")})
    if agree.all():  # a value within rounding of .5 may differ
        assert_alike(plain["likelihoods"], sliced["likelihoods"])
        assert_alike(plain, {"x_hat": sliced["x_hat"]})


@given(any_point)
def test_gdn_is_adjusted_by_four_scalars_per_width(drawn):
    """SlimCAE's: scale and shift of beta and of gamma; none for the widest."""
    name, architecture = drawn
    net = NETS[name]
    plain = net.extract(architecture)
    for edge in ("g_a", "g_s"):
        for full, module in zip(getattr(net, edge), getattr(plain, edge), strict=True):
            if isinstance(module, GDN):
                c = len(module.beta)
                place = full.width.candidates.index(c)
                widest = place == len(full.adjust)
                scale_b, shift_b, scale_g, shift_g = (1, 0, 1, 0) if widest else full.adjust[place].tolist()
                with torch.no_grad():
                    beta = (full.beta_reparam(full.beta) * scale_b + shift_b)[:c]
                    gamma = (full.gamma_reparam(full.gamma) * scale_g + shift_g)[:c, :c]
                    found = module.beta_reparam(module.beta), module.gamma_reparam(module.gamma)
                torch.testing.assert_close(found[0], beta.clamp_min(1e-6), rtol=1e-4, atol=1e-6)
                torch.testing.assert_close(found[1], gamma.clamp_min(0), rtol=1e-4, atol=1e-6)


def test_the_widest_extraction_holds_the_supernets_own_weights(supernet):
    plain = supernet.extract(TINY.widest())
    state = supernet.state_dict()
    for key, value in plain.state_dict().items():
        # GDN's go through its reparametrisation and back
        exact = not key.endswith(("beta", "gamma"))
        torch.testing.assert_close(value, state[key], **({"rtol": 0, "atol": 0} if exact else {}))


def test_one_slot_can_be_gated_softly_between_two_widths(supernet):
    """A soft mask is the mean of the hard masks: linear in the gates up to the next nonlinearity."""
    gates = one_hot(TINY, TINY.widest())
    layer, count = supernet.g_a[0], len(TINY.candidates("g_a.1"))
    x, found = image(3), []
    for weights in ([1.0, 0.0], [0.0, 1.0], [0.25, 0.75]):
        gate = torch.zeros(count)
        gate[[0, -1]] = torch.tensor(weights)
        supernet.gate({**gates, "g_a.1": gate})
        with torch.no_grad():
            found.append(layer(x))
    supernet.activate(TINY.widest())
    torch.testing.assert_close(found[2], 0.25 * found[0] + 0.75 * found[1])


# Quantising


@given(
    st.lists(st.floats(-5000, 5000, width=32), min_size=1, max_size=20), st.sampled_from([Y_LIMIT, Z_LIMIT])
)
def test_quantising_gives_integers_within_the_limit(values, limit):
    x = torch.tensor(values, requires_grad=True)
    rounded = quantize(x, limit)
    assert torch.equal(rounded, rounded.round())
    assert rounded.abs().max() <= limit
    inside = x.detach().abs() <= limit
    assert ((rounded - x).abs()[inside] <= 0.5).all()
    rounded.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@given(
    st.lists(st.floats(-10, 1e4), min_size=1, max_size=20),
    st.lists(st.floats(-2000, 2000), min_size=1, max_size=20),
)
def test_snapping_is_idempotent_and_close(scales, means):
    s, m = torch.tensor(scales, dtype=torch.float64), torch.tensor(means, dtype=torch.float64)
    levels, centres = snap(s, m)
    again = snap(levels, centres)
    assert torch.equal(again[0], levels)
    assert torch.equal(again[1], centres)
    assert ((centres - m).abs() <= 1 / 128).all()
    step = (256 / 0.11) ** (1 / 63)
    ratio = levels / s.clamp(0.11, 256)
    assert (ratio <= step**0.5 * (1 + 1e-9)).all()
    assert (ratio >= step**-0.5 * (1 - 1e-9)).all()


def test_probabilities_of_all_integers_add_up(supernet):
    every = torch.arange(-200.0, 201.0)
    scales, means = torch.full_like(every, 3.7), torch.full_like(every, 0.3)
    assert float(supernet.gaussian.likelihood(every, scales, means).sum()) == pytest.approx(1, abs=1e-4)
    z = torch.arange(-300.0, 301.0).expand(1, TINY.z_channels, 1, -1)
    with torch.no_grad():
        sums = supernet.prior.likelihood(z).sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=1e-3, atol=1e-3)


# CompressAI's own model


def compressai_path(context: ContextModel) -> tuple[nn.Module, nn.Module]:
    """CompressAI's masked convolution and entropy parameters with the same weights."""
    from compressai.layers import MaskedConv2d

    masked = MaskedConv2d(context.channels, 2 * context.channels, 5, padding=2)
    masked.load_state_dict(context.context_prediction.state_dict(), strict=False)
    return masked, context.entropy_parameters


@given(SEEDS)
@settings(max_examples=5)
def test_raster_at_full_width_is_compressais_masked_convolution(seed):
    net = NETS["tiny"].extract(TINY.uniform(1, "raster"))
    rng = torch.Generator().manual_seed(seed)
    psi = torch.randn(2, 64, 5, 6, generator=rng)
    y_hat = torch.randint(-9, 10, (2, 32, 5, 6), generator=rng).float()
    masked, pointwise = compressai_path(net.context)
    with torch.no_grad():
        expected = pointwise(torch.cat([psi, masked(y_hat)], 1)).chunk(2, 1)
        found = net.context(psi, y_hat, named_layout("raster", 32))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow  # CompressAI's models import torch_geometric
def test_the_widest_joint_ar_is_compressais_model(make_supernet):
    from compressai.models import JointAutoregressiveHierarchicalPriors

    n, m = 6, 12
    theirs = JointAutoregressiveHierarchicalPriors(n, m).eval()
    space = SearchSpace.from_dict(
        {
            "family": "joint-ar",
            "latents": {"y": m, "z": n},
            "widths": {
                **{"g_a": n, "h_a": n, "h_s.1": m, "h_s.2": m * 3 // 2, "g_s": n},
                **{"entropy_parameters.1": m * 10 // 3, "entropy_parameters.2": m * 8 // 3},
            },
            "layouts": ["raster"],
        },
        name="compressai",
    )
    ours = CodecNetwork(space).eval()
    with torch.no_grad():
        for part in (theirs.g_a[-1], theirs.h_a[-1]):
            part.weight.mul_(30)
    for edge in ("g_a", "h_a", "h_s", "g_s"):
        getattr(ours, edge).load_state_dict(getattr(theirs, edge).state_dict())
    ours.context.context_prediction.load_state_dict(
        {k: v for k, v in theirs.context_prediction.state_dict().items() if k != "mask"}
    )
    ours.context.entropy_parameters.load_state_dict(theirs.entropy_parameters.state_dict())
    x = image(5, 64, 128)
    with torch.no_grad():
        found = ours(x, space.layouts["raster"])
        y, z = theirs.g_a(x), theirs.h_a(theirs.g_a(x))
        y_hat, psi = y.round(), theirs.h_s(z.round())
        expected = theirs.entropy_parameters(torch.cat([psi, theirs.context_prediction(y_hat)], 1)).chunk(
            2, 1
        )
        scales, means = ours.context(ours.h_s(z.round()), y_hat, space.layouts["raster"])
    assert y_hat.any()
    torch.testing.assert_close(found["y"], y)
    torch.testing.assert_close(found["z"], z)
    torch.testing.assert_close((scales, means), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["x_hat"], theirs.g_s(y_hat))
    likelihood = theirs.gaussian_conditional._likelihood(y_hat, scales, means)
    torch.testing.assert_close(found["likelihoods"]["y"], likelihood.clamp_min(1e-9), rtol=1e-4, atol=1e-6)
