"""Sub-pixel convolutions are torch's, and branches are added before they are moved."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.graph.layers.patches import from_patches, patches
from nas.graph.layers.subpixel import Branches, SubPixel, stride_at_end

SIDES = st.integers(1, 5)


def layer(inputs: int, outputs: int, kernel: int, stride: int) -> SubPixel:
    return SubPixel(nn.Conv2d(inputs, outputs * stride**2, kernel, padding=kernel // 2), stride)


def by_torch(one: SubPixel) -> nn.Sequential:
    return nn.Sequential(one[0], nn.PixelShuffle(one.stride))


@given(SIDES, SIDES, st.integers(1, 4), st.sampled_from((1, 3)), st.booleans())
def test_a_sub_pixel_convolution_is_torchs(height, width, stride, kernel, with_gradients):
    one, x = layer(5, 3, kernel, stride), torch.rand(2, 5, height, width)
    with torch.set_grad_enabled(with_gradients):
        torch.testing.assert_close(one(x), by_torch(one)(x))
    assert list(one.state_dict()) == list(by_torch(one).state_dict())


@given(SIDES, SIDES, st.integers(1, 4))
def test_squares_go_there_and_back(down, across, side):
    x = torch.rand(2, 3, down * side, across * side)
    assert torch.equal(from_patches(patches(x, side).permute(0, 3, 1, 2), side), x)


@pytest.mark.parametrize("with_gradients", [True, False])
def test_branches_that_end_alike_are_moved_once(with_gradients, monkeypatch):
    inner = Branches(
        {"direct": layer(6, 3, 1, 4), "deep": nn.Sequential(nn.Conv2d(6, 5, 1), layer(5, 3, 3, 4))}
    )
    outer = Branches({"linear": layer(7, 3, 1, 4), "learned": nn.Sequential(nn.Conv2d(7, 6, 1), inner)})
    linear, (first, _) = outer["linear"], outer["learned"]
    x, moved = torch.rand(2, 7, 4, 5), []
    monkeypatch.setattr(
        "nas.graph.layers.subpixel.from_patches", lambda *given: moved.append(1) or from_patches(*given)
    )
    with torch.set_grad_enabled(with_gradients):
        found, kept = outer(x), x.clone()
        h = first(x)
        parts = (
            by_torch(linear)(x),
            by_torch(inner["direct"])(h),
            by_torch(inner["deep"][1])(inner["deep"][0](h)),
        )
    torch.testing.assert_close(found, sum(parts))
    assert len(moved) == 1
    assert torch.equal(x, kept)


def test_branches_that_end_differently_are_added_as_they_are():
    both = Branches(
        {"fine": layer(4, 3, 1, 4), "coarse": nn.Sequential(layer(4, 5, 1, 2), layer(5, 3, 1, 2))}
    )
    x = torch.rand(1, 4, 3, 3)
    assert stride_at_end(both) is None
    torch.testing.assert_close(both(x), both["fine"](x) + both["coarse"](x))
    with_nothing = Branches({"x": nn.Identity(), "again": nn.Identity()})
    with torch.no_grad():
        assert torch.equal(with_nothing(x), 2 * x)
