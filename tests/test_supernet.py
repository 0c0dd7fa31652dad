"""The supernet: sliced, masked and extracted give the same numbers, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL
from drawn import SEEDS, architectures, layouts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.errors import InputError
from nas.graph._compressai import GDN
from nas.graph.context import ContextModel
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, bits, quantize, snap
from nas.graph.layout import named_layout
from nas.graph.network import CodecNetwork, Supernet
from nas.space import Architecture, SearchSpace

TINY = SearchSpace.load("joint-ar-tiny")
SPACES = {"tiny": TINY, "small": SearchSpace.from_dict(SMALL, name="small")}
NETS: dict[str, Supernet] = {}


@pytest.fixture(autouse=True, scope="module")
def nets(make_supernet, supernet):
    NETS.update(tiny=supernet, small=make_supernet(SPACES["small"], seed=4))


any_point = st.sampled_from(sorted(SPACES)).flatmap(
    lambda name: st.tuples(st.just(name), architectures(SPACES[name]))
)


def image(seed: int, height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
    """Smooth noise in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(batch, 3, height // 8, width // 8, generator=rng)
    return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def one_hot(net: Supernet, architecture: Architecture) -> dict[str, Tensor]:
    places = net.space.indexes(architecture)
    return {
        slot.name: F.one_hot(torch.tensor(place), len(slot.candidates)).float()
        for slot, place in zip(net.space.slots, places[:-1], strict=True)
    }


@torch.no_grad()
def outputs(net: CodecNetwork, x: Tensor, y_hat: Tensor, z_hat: Tensor, layout) -> dict[str, Tensor]:
    """What each edge makes of given inputs: no rounding between them."""
    y = net.g_a(x)
    psi = net.h_s(z_hat)
    scales, means = net.context(psi, y_hat, layout)
    return {
        "y": y,
        "z": net.h_a(y),
        "psi": psi,
        "scales": scales,
        "means": means,
        "x_hat": net.g_s(y_hat),
        "prior": net.prior.likelihood(z_hat),
    }


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(
            found[name], value, rtol=1e-5, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@given(any_point, SEEDS)
def test_sliced_masked_and_extracted_are_one(drawn, seed):
    name, architecture = drawn
    net, x = NETS[name], image(seed)
    layout = net.activate(architecture)
    with torch.no_grad():
        y_hat, z_hat = quantize(net.g_a(x), Y_LIMIT), quantize(net.h_a(net.g_a(x)), Z_LIMIT)
    assert y_hat.any()
    sliced = outputs(net, x, y_hat, z_hat, layout)
    assert_alike(outputs(net.extract(architecture), x, y_hat, z_hat, layout), sliced)
    net.gate(one_hot(net, architecture))
    masked = outputs(net, x, y_hat, z_hat, layout)
    net.activate(architecture)
    assert_alike(masked, sliced)


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


@given(architectures(TINY), SEEDS)
@settings(max_examples=8)
def test_the_gradient_is_zero_outside_the_slice(architecture, seed):
    net, x = NETS["tiny"], image(seed)
    layout = net.activate(architecture)
    net.zero_grad(set_to_none=True)
    y = net.g_a(x)
    z, y_hat = net.h_a(y), quantize(y, Y_LIMIT)
    parameters = net.context(net.h_s(quantize(z, Z_LIMIT)), y_hat, layout)
    outputs_of_edges = (net.g_s(y_hat), *parameters, z)
    sum(part.square().mean() for part in outputs_of_edges).backward()
    widths = net.space.layer_widths(architecture)
    try:
        for edge, layers in net.space.family.edges.items():
            for layer, module in zip(layers.layers, getattr(net, edge), strict=True):
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    ends = [widths.get(end, 10**6) for end in (layer.inputs, layer.outputs)]
                    first, second = ends if isinstance(module, nn.ConvTranspose2d) else ends[::-1]
                    gradient = module.weight.grad
                    assert gradient[:first, :second].any()
                    assert not gradient[first:].any()
                    assert not gradient[:, second:].any()
                    assert not module.bias.grad[ends[1] :].any()
                elif isinstance(module, GDN):
                    c = widths[layer.width]
                    assert module.beta.grad[:c].any()
                    assert not module.beta.grad[c:].any()
                    assert not module.gamma.grad[c:].any()
                    assert not module.gamma.grad[:, c:].any()
                    used = module.adjust.grad.any(1).nonzero().flatten().tolist()
                    place = module.width.candidates.index(c)
                    assert used == ([place] if place < len(module.adjust) else [])
                    assert module.adjust.grad[used].all()  # scale and shift, of beta and of gamma
        hidden = [widths[f"entropy_parameters.{k}"] for k in (1, 2)]
        for index, width in zip((0, 2), hidden, strict=True):
            assert not net.context.entropy_parameters[index].weight.grad[width:].any()
        assert not net.context.entropy_parameters[4].weight.grad[:, hidden[1] :].any()
    finally:
        net.zero_grad(set_to_none=True)


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


@given(any_point)
def test_measuring_changes_nothing(drawn):
    name, architecture = drawn
    net = NETS[name]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    plain = net.extract(architecture)
    with torch.no_grad():
        plain(image(0), net.activate(architecture))
        net(image(0), net.activate(architecture))
        for parameter in plain.parameters():  # its weights are its own
            parameter.add_(1)
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())


@given(any_point)
def test_an_extracted_network_has_plain_layers_of_its_widths(drawn):
    name, architecture = drawn
    space = SPACES[name]
    plain = NETS[name].extract(architecture)
    widths = {
        **space.layer_widths(architecture),
        **{"x": 3, "y": space.y_channels, "z": space.z_channels, "psi": 2 * space.y_channels},
    }
    for edge, layers in space.family.edges.items():
        for layer, module in zip(layers.layers, getattr(plain, edge), strict=True):
            assert type(module) in (nn.Conv2d, nn.ConvTranspose2d, GDN, nn.LeakyReLU)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                ends = (module.in_channels, module.out_channels)
                assert ends == (widths[layer.inputs], widths[layer.outputs])
            elif isinstance(module, GDN):
                assert module.gamma.shape == (widths[layer.width],) * 2
                assert module.inverse == layer.inverse
    assert type(plain.context) is ContextModel
    assert not any("adjust" in key for key in plain.state_dict())


def test_the_widest_extraction_holds_the_supernets_own_weights(supernet):
    plain = supernet.extract(TINY.widest())
    state = supernet.state_dict()
    for key, value in plain.state_dict().items():
        # GDN's go through its reparametrisation and back
        exact = not key.endswith(("beta", "gamma"))
        torch.testing.assert_close(value, state[key], **({"rtol": 0, "atol": 0} if exact else {}))


def test_soft_gates_are_differentiable(supernet):
    logits = {slot.name: torch.zeros(len(slot.candidates), requires_grad=True) for slot in TINY.slots}
    supernet.gate({name: torch.softmax(value, 0) for name, value in logits.items()})
    try:
        output = supernet(image(2), TINY.layouts["checkerboard"])
        loss = output["x_hat"].square().mean() + sum(bits(p).sum() for p in output["likelihoods"].values())
        found = torch.autograd.grad(loss, list(logits.values()))
    finally:
        supernet.activate(TINY.widest())
    for name, gradient in zip(logits, found, strict=True):
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


def test_one_slot_can_be_gated_softly_between_two_widths(supernet):
    """A soft mask is the mean of the hard masks: linear in the gates up to the next nonlinearity."""
    gates = one_hot(supernet, TINY.widest())
    layer, (low, high) = supernet.g_a[0], (0, 4)
    x, found = image(3), []
    for weights in ([1.0, 0.0], [0.0, 1.0], [0.25, 0.75]):
        gate = torch.zeros(5)
        gate[[low, high]] = torch.tensor(weights)
        supernet.gate({**gates, "g_a.1": gate})
        with torch.no_grad():
            found.append(layer(x))
    supernet.activate(TINY.widest())
    torch.testing.assert_close(found[2], 0.25 * found[0] + 0.75 * found[1])


def test_sides_must_be_multiples_of_64(supernet):
    with pytest.raises(InputError, match="multiples of 64"):
        supernet(torch.zeros(1, 3, 64, 65), TINY.layouts["none"])


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
