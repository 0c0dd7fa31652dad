"""Convolutions and transposed convolutions in the form that is fastest on the device."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph.layers.patches import patches, pointwise

_ROWS = 32  # number of rows that `_scattered` handles at a time


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """A convolution in the form that is fastest on the device. On a CPU, channels are last in memory.

    On a CPU, patches that do not overlap are computed as one matrix product, and so are 1x1 kernels in single
    precision. oneDNN takes two to four times as long for these, and with one thread torch does not use it.

    Args:
        x: [B, C, H, W].
        weight, bias: [outputs, C, kernel, kernel] and [outputs].
        stride, padding: stride and padding of the convolution.
    """
    if x.device.type != "cpu":
        return F.conv2d(x, weight, bias, stride, padding)
    kernel = weight.shape[2]
    whole = x.shape[2] % kernel == 0 and x.shape[3] % kernel == 0
    if kernel == stride and kernel > 1 and not padding and whole:
        return pointwise(patches(x, kernel), weight.permute(0, 2, 3, 1).flatten(1), bias)
    if kernel == 1 and not padding:
        # torch 2.15's backward of a strided 1x1 convolution corrupts memory for channels-last images on a
        # CPU; taking the positions first is the same convolution
        x, stride = x[..., ::stride, ::stride], 1
        if x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            return pointwise(x.permute(0, 2, 3, 1), weight.flatten(1), bias)
    return F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, bias, stride, padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's transposed convolution whose output is `stride` times as large as its input: see `deconvolve`.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        kernel: side of the kernel.
        stride: how many times larger the output is than the input, per side.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, output_padding=stride - 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Deconvolve x, [B, C, H, W]. `output_size` is not used."""
        return deconvolve(x, self.weight, cast(Tensor, self.bias), self.kernel_size[0], self.stride[0])


def deconvolve(x: Tensor, weight: Tensor, bias: Tensor, kernel: int, stride: int) -> Tensor:
    """A transposed convolution that multiplies both sides by `stride`.

    Args:
        x: [B, C, H, W].
        weight, bias: [C, outputs, kernel, kernel] and [outputs].
        kernel, stride: kernel and stride of the convolution.
    """
    inputs, outputs = weight.shape[:2]
    few = outputs < 8 and inputs >= 64 and stride <= kernel // 2 + 1
    if few and x.device.type == "cpu" and not torch.is_grad_enabled():
        return _scattered(x, weight, bias, kernel, stride)
    return F.conv_transpose2d(x, weight, bias, stride, kernel // 2, stride - 1)


def _scattered(x: Tensor, weight: Tensor, bias: Tensor, kernel: int, stride: int) -> Tensor:
    """Compute all outputs by matrix products and add them to their places, some rows at a time.

    The MACs are the same. Where many channels become three, as for a picture, oneDNN takes three times as
    long.
    """
    batch, _, height, width = x.shape
    spread = weight.flatten(1).t().expand(batch, -1, -1)
    wide = (width - 1) * stride + kernel
    out = x.new_zeros(batch, weight.shape[1], (height - 1) * stride + kernel, wide)
    for top in range(0, height, _ROWS):
        rows = x[:, :, top : top + _ROWS]
        tall = (rows.shape[2] - 1) * stride + kernel
        parts = torch.bmm(spread, rows.flatten(2))
        out[:, :, top * stride : top * stride + tall] += F.fold(parts, (tall, wide), kernel, stride=stride)
    edge = kernel // 2
    inner = out[:, :, edge : edge + height * stride, edge : edge + width * stride]
    return inner + bias[:, None, None]
