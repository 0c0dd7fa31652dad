"""Squares of an image as vectors and back, and the matrix product of such vectors with a kernel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def patches(x: Tensor, side: int) -> Tensor:
    """Split images into squares as vectors: [B, C, H, W] to [B, H / side, W / side, side * side * C].

    Args:
        x: images or features, with sides that are multiples of `side`.
        side: side of a square.
    """
    batch, channels, height, width = x.shape
    down, across = height // side, width // side
    cut = x.permute(0, 2, 3, 1).reshape(batch, down, side, across, side, channels)
    return cut.transpose(2, 3).reshape(batch, down, across, side * side * channels)


def from_patches(x: Tensor, side: int) -> Tensor:
    """The inverse of `patches`: [B, side * side * C, h, w] to [B, C, h * side, w * side], channels last.

    Args:
        x: at each position side * side vectors of C numbers, row by row.
        side: side of a square.
    """
    batch, channels, height, width = x.shape
    cut = x.permute(0, 2, 3, 1).reshape(batch, height, width, side, side, channels // side**2)
    whole = cut.transpose(2, 3).reshape(batch, height * side, width * side, channels // side**2)
    return whole.permute(0, 3, 1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute a 1x1 convolution as one matrix product, from vectors with channels last.

    Args:
        x: [B, H, W, C].
        weight, bias: [outputs, C] and [outputs].

    Returns:
        [B, outputs, H, W].
    """
    return F.linear(x, weight, bias).permute(0, 3, 1, 2)
