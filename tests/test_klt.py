"""The start as a KLT: what it promises of pictures, whatever the widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.photos.images import Photo, bundled
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.klt import best_step, stages_of, with_klt
from nas.weights.checkpoint import load_weights

PHOTOS = bundled()["train"][:4]
FULL = (12, 48, 192, 768)  # components that stages of 2x2 blocks have: nothing is lost


def space_of(widths: tuple[int, ...], back: tuple[int, ...] | None = None) -> SearchSpace:
    """A factorised codec; the widths of g_a.1 to y, and those of g_s where they are others."""
    other = back or widths
    content = {
        "family": "factorized",
        "latents": {"y": widths[3]},
        "widths": {f"g_a.{n + 1}": widths[n] for n in range(3)}
        | {f"g_s.{3 - n}": other[n] for n in range(3)},
    }
    return SearchSpace.from_dict(content, name="klt")


def network(space: SearchSpace, lmbda: float = 0.013) -> Supernet:
    torch.manual_seed(0)
    net = Supernet(space).eval()
    load_weights(net, with_klt(space, PHOTOS, Objective(lmbda)), source="the start")
    net.activate(space.widest())
    return net


def picture() -> torch.Tensor:
    pixels = torch.from_numpy(PHOTOS[0].pixels[:256, :256].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def psnr(net: Supernet, x: torch.Tensor) -> float:
    """Of g_s(g_a(x)), without rounding."""
    return float(-10 * torch.log10((net.g_s(net.g_a(x)) - x).square().mean()))


def test_with_all_components_nothing_is_lost():
    assert psnr(network(space_of(FULL)), picture()) > 40


@settings(max_examples=8, deadline=None)
@given(st.tuples(*(st.integers(4, 24) for _ in FULL)), st.integers(0, 3))
def test_more_channels_anywhere_carry_no_worse_picture(widths, place):
    """But for what the GDNs bend."""
    wider = tuple(width + 12 * (place == n) for n, width in enumerate(widths))
    x = picture()
    assert psnr(network(space_of(wider)), x) > psnr(network(space_of(widths)), x) - 0.1


def test_channels_beyond_the_components_disturb_nothing():
    x = picture()
    torch.testing.assert_close(
        psnr(network(space_of((40, 48, 48, 32))), x), psnr(network(space_of((12, 48, 48, 32))), x)
    )


def test_sides_of_other_widths_meet_in_the_narrower_ones():
    x = picture()
    narrow, both = (space_of((12, 16, 24, 64), back) for back in (None, (12, 48, 48, 64)))
    torch.testing.assert_close(psnr(network(both), x), psnr(network(narrow), x))


@given(st.floats(1e-4, 1))
def test_y_is_scaled_for_lambda(lmbda):
    assert best_step(lmbda) == pytest.approx(best_step(4 * lmbda) * 2)


def test_rounding_errs_by_the_step():
    """With all components kept, the error is that of uniform noise as wide as the step, in every value."""
    lmbda = 0.5
    net, x = network(space_of(FULL), lmbda), picture()
    with torch.no_grad():
        error = (net.g_s(net.g_a(x).round()) - net.g_s(net.g_a(x))).square().mean()
    assert float(error) == pytest.approx(best_step(lmbda) ** 2 / 12, rel=0.35)


def hyper(family: str, units: int = 9) -> Supernet:
    """A small hyperprior that begins so, with so many units in the first layer of h_a."""
    widths = {f"g_{side}.{n}": 48 for side in "as" for n in (1, 2, 3)}
    hyper = {"h_a.1": units, "h_a.2": 8, "h_s.1": 8, "h_s.2": 8}
    content = {"family": family, "latents": {"y": 64, "z": 8}, "widths": widths | hyper}
    return network(SearchSpace.from_dict(content, name="klt"))


@torch.no_grad()
def test_h_a_sees_all_channels_alike():
    """From random weights, one channel of 64 makes half of what h_a sees."""
    net = hyper("mean-scale-hyperprior", 32)
    y = net.g_a(picture())
    others = y.clone()
    others[:, 0] = y[:, 0].mean()
    fitted = net.h_a[0]
    random = type(fitted)(fitted.inputs, fitted.outputs, 3, 1, 1)
    left = [float(conv(others).var((2, 3)).sum() / conv(y).var((2, 3)).sum()) for conv in (fitted, random)]
    assert left[0] > 0.85 > 0.7 > left[1]


@torch.no_grad()
@pytest.mark.parametrize("channels", [2, 4, 8])
def test_h_a_begins_with_magnitudes(channels):
    """Whatever sign y has about its mean, away from the borders; the last unit of an odd number aside."""
    net = hyper("mean-scale-hyperprior")
    first, second = net.h_a[0], net.h_a[2]
    y = net.g_a(picture())
    seen = torch.nn.functional.leaky_relu(first(y), 0.01)[:, :channels]
    turned = torch.nn.functional.leaky_relu(-first(y), 0.01)[:, :channels]
    weight = second.weight[:, :channels]
    torch.testing.assert_close(*(torch.nn.functional.conv2d(side, weight) for side in (seen, turned)))


@torch.no_grad()
def test_twice_as_many_units_as_channels_have_all_magnitudes():
    """As the scale hyperprior has them, whose h_a reads magnitudes: each pair follows its channel's."""
    net = hyper("mean-scale-hyperprior", 128)
    y = net.g_a(picture())
    seen = torch.nn.functional.leaky_relu(net.h_a[0](y), 0.01)[0]
    told = (seen[0::2] + seen[1::2]).flatten(1)
    away = (y - y.mean((2, 3), keepdim=True))[0].abs().flatten(1)
    for channel in range(8, 64, 8):
        assert float(torch.corrcoef(torch.stack([told[channel], away[channel]]))[0, 1]) > 0.6


@pytest.mark.parametrize("name", FAMILIES)
def test_families_begin_so_or_are_refused(name):
    space = SearchSpace.load({"joint-ar": "joint-ar-tiny"}.get(name, name))
    if name in ("residual", "cheng"):
        with pytest.raises(InputError, match="leave --init-from out"):
            stages_of(space)
    elif name == "patch":  # its linear path
        path = "g_{}.0.linear.{}"
        assert [stage.into for stage in stages_of(space)] == [path.format("a", place) for place in (0, 1)]
        assert [stage.back for stage in stages_of(space)] == ["g_s.0.linear.1.0", "g_s.0.linear.0.0"]
    else:
        assert [stage.into for stage in stages_of(space)] == ["g_a.0", "g_a.2", "g_a.4", "g_a.6"]
        assert [stage.back for stage in stages_of(space)] == ["g_s.6", "g_s.4", "g_s.2", "g_s.0"]


@pytest.mark.parametrize("side", [1, 5, 16, 31])
def test_pictures_of_a_few_pixels_teach_nothing(side: int) -> None:
    space = space_of((4, 4, 4, 4))
    photos = [Photo("small", np.zeros((side, side, 3), np.uint8))]
    with pytest.raises(InputError, match=r"16x16 pixels.*larger photos"):
        with_klt(space, photos, Objective(0.01))
    weights = with_klt(space, photos * 2 + PHOTOS[:1], Objective(0.01))
    assert all(value.isfinite().all() for value in weights.values())
