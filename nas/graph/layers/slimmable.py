"""Slimmable layers. Each holds one full weight and runs a slice of it.

The slice is chosen by the `Width` objects that a layer shares with its neighbours. While widths are learned,
gates are set on a `Width`. The full layer then runs and its output is masked, with the same results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph.entropy import widened
from nas.graph.layers.blocks import ResidualBlock
from nas.graph.layers.convolution import convolve, deconvolve
from nas.graph.layers.precision import must_be_precise, precise
from nas.graph.layers.subpixel import Branches, SubPixel, Term, place_by_place
from nas.graph.layers.width import Width


class SlimmableConv2d(nn.Conv2d):
    """A convolution that runs `weight[:out, :in]`. Under gates, its output is masked after the bias.

    Args:
        inputs, outputs: the widths before and after the layer.
        kernel, stride, padding: as in `Conv2d`.
        each: number of outputs per channel of `outputs`: the square of the stride in a sub-pixel convolution.
    """

    def __init__(
        self, inputs: Width, outputs: Width, kernel: int, stride: int, padding: int, each: int = 1
    ) -> None:
        super().__init__(inputs.full, outputs.full * each, kernel, stride, padding)
        self.inputs, self.outputs, self.each = inputs, outputs, each
        self.precise = must_be_precise(inputs.name, outputs.name)

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain layer at the active widths.

        Returns:
            Tensors by name: weight [out, in, k, k] and bias [out].
        """
        weight = self.inputs.take(self.weight, 1)
        return {
            "weight": self.outputs.take(weight, 0, self.each),
            "bias": self.outputs.take(cast(Tensor, self.bias), 0, self.each),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x, [B, C, H, W], at the active widths."""
        return self.outputs.masked(self._convolved(x, **self.sliced()))

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with precise(x, wanted=self.precise):
            x = widened(x) if self.precise else x
            return convolve(x, weight, bias, int(self.stride[0]), int(self.padding[0]))


class SlimmableSubPixel(SubPixel):
    """A sub-pixel convolution whose widths are chosen at run time. Under gates, its output is masked.

    Args:
        inputs, outputs: the widths before and after the layer.
        kernel: side of the kernel.
        stride: how many times larger the output is than the input, per side.
    """

    def __init__(self, inputs: Width, outputs: Width, kernel: int, stride: int) -> None:
        conv = SlimmableConv2d(inputs, outputs, kernel, 1, kernel // 2, each=stride**2)
        super().__init__(conv, stride, precise=conv.precise)
        self.outputs = outputs

    def squares(self, x: Tensor) -> Tensor:
        """The output at the active widths before it is moved, as `from_patches` reads it.

        Args:
            x: [B, C, h, w].
        """
        conv = cast(SlimmableConv2d, self[0])
        part = {name: place_by_place(value, self.stride) for name, value in conv.sliced().items()}
        out, mask = conv._convolved(x, **part), self.outputs.mask()
        return out if mask is None else out * mask.to(out.dtype).repeat(self.stride**2)[:, None, None]


class SlimmableDepthwise(nn.Conv2d):
    """A depthwise convolution that runs the active channels' kernels. Under gates, its output is masked.

    Args:
        width: the channels, whose number is chosen at run time.
        kernel: side of the kernel, odd.
    """

    def __init__(self, width: Width, kernel: int) -> None:
        super().__init__(width.full, width.full, kernel, padding=kernel // 2, groups=width.full)
        self.width = width

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain layer at the active width.

        Returns:
            Tensors by name: weight [channels, 1, k, k] and bias [channels].
        """
        return {"weight": self.width.take(self.weight), "bias": self.width.take(cast(Tensor, self.bias))}

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each channel of x, [B, C, H, W], separately."""
        part = self.sliced()
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        out = F.conv2d(x, part["weight"], part["bias"], padding=self.padding, groups=self.width.active)
        return self.width.masked(out)


class SlimmableConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that runs `weight[:in, :out]`. Under gates, its output is masked.

    Args:
        inputs: input channels, whose number is chosen at run time.
        outputs: output channels, whose number is chosen at run time.
        kernel: side of the kernel.
        stride: how many times larger the output is than the input, per side.
    """

    def __init__(self, inputs: Width, outputs: Width, kernel: int, stride: int) -> None:
        super().__init__(
            inputs.full,
            outputs.full,
            kernel,
            stride,
            padding=kernel // 2,
            output_padding=stride - 1,
        )
        self.inputs, self.outputs = inputs, outputs

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain layer at the active widths.

        Returns:
            Tensors by name: weight [in, out, k, k] and bias [out].
        """
        weight = self.inputs.take(self.weight, 0)
        return {
            "weight": self.outputs.take(weight, 1),
            "bias": self.outputs.take(cast(Tensor, self.bias)),
        }

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Deconvolve x, [B, C, H, W], at the active widths. `output_size` is not used."""
        part = self.sliced()
        stride, kernel = self.stride[0], self.kernel_size[0]
        return self.outputs.masked(deconvolve(x, part["weight"], part["bias"], kernel, stride))


class SlimmableRepeat(nn.ModuleList):
    """The first blocks of a stack, as many as the depth says. Under gates all run, weighted by their shares.

    Args:
        blocks: all blocks, in order. Each adds something to its input.
        depth: number of blocks that run, chosen at run time.
    """

    def __init__(self, blocks: list[nn.Module], depth: Width) -> None:
        super().__init__(blocks)
        self.depth = depth

    def forward(self, x: Tensor) -> Tensor:
        """Run the active blocks on x, [B, C, H, W]."""
        shares = self.depth.mask()
        for number, block in enumerate(list(self)[: self.depth.active]):
            for residual in [block] if isinstance(block, ResidualBlock) else block.children():
                assert isinstance(residual, ResidualBlock)
                change = residual.change(x)
                x = x + (change if shares is None else shares[number].to(x.dtype) * change)
        return x


class SlimmableBranches(Branches):
    """Parallel branches, some of which have a switch. Under gates all run, each weighted by its share.

    Args:
        branches: the branches by name. The first one always runs.
        switches: for branches that have a switch, the width or depth whose 0 leaves the branch out.
    """

    def __init__(self, branches: Mapping[str, nn.Module], switches: Mapping[str, Width]) -> None:
        super().__init__(branches)
        self.switches = switches

    def terms(self) -> list[Term]:
        """The active branches, and under gates their shares."""
        switched = [(branch, self.switches.get(name)) for name, branch in self.items()]
        return [
            (branch, None if by is None else by.share()) for branch, by in switched if by is None or by.active
        ]
