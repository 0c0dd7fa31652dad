"""Layers around layers: residual blocks, and the whole transform of an edge."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """A residual block: `body(x) + shortcut(x)`, or `body(x) + x`. Its layers keep their described names.

    Args:
        body: layers of the body by name, in order.
        shortcut: name and layer of the shortcut, or None.
    """

    def __init__(self, body: Mapping[str, nn.Module], shortcut: tuple[str, nn.Module] | None) -> None:
        super().__init__()
        self._body, self._shortcut = tuple(body), shortcut[0] if shortcut else None
        for name, module in (*body.items(), *([shortcut] if shortcut else [])):
            self.add_module(name, module)

    def change(self, x: Tensor) -> Tensor:
        """The output of the body, which the block adds to its input.

        Args:
            x: input of the block, [B, C, H, W].

        Returns:
            In the shape of `x`.
        """
        for name in self._body:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Add the change of x, [B, C, H, W], to x or to the output of the shortcut."""
        return self.change(x) + (x if self._shortcut is None else self.get_submodule(self._shortcut)(x))


class Transform(nn.Sequential):
    """The layers of one edge. On a CPU without gradients, channels are last in memory, which is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers on x, [B, C, H, W]. Channels of the output may be last in memory."""
        if not torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype == torch.float32:
            x = x.contiguous(memory_format=torch.channels_last)
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call] # torch gives it no types
        return out


class OnMagnitudes(Transform):
    """Layers that read |x|, as h_a of the scale hyperprior does."""

    def forward(self, x: Tensor) -> Tensor:
        """The output of the layers for |x|, [B, C, H, W]."""
        return super().forward(x.abs())
