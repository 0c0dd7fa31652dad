"""Sub-pixel convolutions: from each position of a small map to a square of a larger one.

A square is computed place by place, and then moved to its rows in runs of memory. In the order of torch's
PixelShuffle, channel by channel, every number would have to be moved alone.

Where parallel branches all end in squares of the same size, as the paths of `patch` do at the picture, they
are added before they are moved: the large map is then written once, and not once for each branch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph.entropy import widened
from nas.graph.layers.patches import from_patches, pointwise
from nas.graph.layers.precision import precise

Term = tuple[nn.Module, Tensor | None]


def place_by_place(value: Tensor, stride: int) -> Tensor:
    """Reorder a kernel or bias of PixelShuffle's order: place by place in a square, not channel by channel.

    Args:
        value: [C * stride * stride, ...].
        stride: side of a square.
    """
    if stride == 1:
        return value
    places: Tensor = value.unflatten(0, (-1, stride**2))
    return places.transpose(0, 1).flatten(0, 1)


class SubPixel(nn.Sequential):
    """A sub-pixel convolution. Its state has the names and shapes of a convolution before a PixelShuffle.

    Args:
        conv: the convolution, with `stride` * `stride` outputs for each channel, in PixelShuffle's order.
        stride: how many times larger the output is than the input, per side.
        precise: whether it computes in single precision, even if the layers around it do not.
    """

    def __init__(self, conv: nn.Conv2d, stride: int, *, precise: bool = False) -> None:
        super().__init__(conv, nn.PixelShuffle(stride))
        self.stride, self.precise = stride, precise

    def squares(self, x: Tensor) -> Tensor:
        """The output before it is moved, as `from_patches` reads it.

        Args:
            x: [B, C, h, w].
        """
        conv = cast(nn.Conv2d, self[0])
        bias = cast(Tensor, conv.bias)
        weight, bias = place_by_place(conv.weight, self.stride), place_by_place(bias, self.stride)
        with precise(x, wanted=self.precise):
            x = widened(x) if self.precise else x
            # not `convolve`: with large kernels or in double precision it rounds differently, and an exported
            # codec's pictures must stay the same
            if conv.kernel_size == (1, 1):
                return pointwise(x.permute(0, 2, 3, 1), weight.flatten(1), bias)
            return F.conv2d(x, weight, bias, padding=cast(tuple[int, int], conv.padding))

    def forward(self, x: Tensor, move: bool = True) -> Tensor:
        """Upsample x, [B, C, h, w], to [B, outputs, h * stride, w * stride].

        Args:
            x: [B, C, h, w].
            move: False returns the output before it is moved.
        """
        squares = self.squares(x)
        return from_patches(squares, self.stride) if move else squares


class Branches(nn.ModuleDict):
    """Parallel branches whose outputs are added."""

    def terms(self) -> list[Term]:
        """The branches that run, in order, each with the weight of its output, or None where that is 1."""
        return [(branch, None) for branch in self.values()]

    def forward(self, x: Tensor, move: bool = True) -> Tensor:
        """The weighted sum of the branches' outputs for x, [B, C, H, W].

        Args:
            x: [B, C, H, W].
            move: False returns the sum before it is moved, if there is a `stride_at_end`.
        """
        stride = stride_at_end(self)
        if stride is None:
            return _sum(self.terms(), lambda branch: cast(Tensor, branch(x)))
        squares = _sum(self.terms(), lambda branch: squares_at_end(branch, x), own=True)
        return from_patches(squares, stride) if move else squares


def stride_at_end(module: nn.Module) -> int | None:
    """The stride of the sub-pixel convolutions that end a module, or None if it ends with anything else.

    Args:
        module: one layer, consecutive layers, or parallel branches.
    """
    if isinstance(module, SubPixel):
        return module.stride
    if isinstance(module, Branches):
        strides = {stride_at_end(branch) for branch, _ in module.terms()}
        return strides.pop() if len(strides) == 1 else None
    layers = list(module.children()) if isinstance(module, nn.Sequential) else []
    return stride_at_end(layers[-1]) if layers else None


def squares_at_end(module: nn.Module, x: Tensor) -> Tensor:
    """The output of a module that has a `stride_at_end`, before the squares are moved.

    Args:
        module: see `stride_at_end`.
        x: input of the module, [B, C, h, w].
    """
    if isinstance(module, SubPixel | Branches):
        out: Tensor = module(x, False)  # called, and not its method, so that hooks see it
        return out
    *before, last = module.children()
    for layer in before:
        x = layer(x)
    return squares_at_end(last, x)


def _sum(terms: list[Term], output: Callable[[nn.Module], Tensor], *, own: bool = False) -> Tensor:
    """The weighted sum of outputs. `own`: they are nobody else's, so the first may be changed."""
    whole: Tensor | None = None
    for branch, weight in terms:
        part = output(branch)
        part = part if weight is None else weight.to(part.dtype) * part
        if whole is None:
            whole = part
        else:
            whole = whole.add_(part) if own and not torch.is_grad_enabled() else whole + part
    assert whole is not None  # the first branch always runs
    return whole
