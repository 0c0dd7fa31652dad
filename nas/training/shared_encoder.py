"""One pass through g_a for all samples of a step that encode alike.

Samples that differ behind y only, such as decoders of several sizes under one encoder, read the same output
of g_a, whatever their rates: gains come behind it. So it is computed once, the gradients of all samples are
added up where they read it, and go back through g_a once. The sums are those of separate passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from nas.graph.entropy import widened
from nas.graph.network import Supernet
from nas.spaces.architecture import Architecture


class SharedEncoder:
    """What g_a makes of one batch, for the encoders that several samples of a step have in common.

    Args:
        net: the supernet.
        x: the batch, [B, 3, H, W].
        architectures: of the samples of the step that may share their encoder.
    """

    def __init__(self, net: Supernet, x: Tensor, architectures: Sequence[Architecture]) -> None:
        self._net, self._x = net, x
        counts = Counter(net.space.encoder(architecture) for architecture in architectures)
        self._shared = {encoder for encoder, count in counts.items() if count > 1}
        self._passes: dict[tuple[tuple[str, int], ...], tuple[Tensor, Tensor]] = {}

    def y(self, architecture: Architecture) -> Tensor | None:
        """What g_a makes of the batch, [B, M, h, w]; None where no other sample encodes as this one does.

        Args:
            architecture: the active architecture of the supernet.
        """
        encoder = self._net.space.encoder(architecture)
        if encoder not in self._shared:
            return None
        if encoder not in self._passes:
            y = widened(self._net.g_a(self._x))
            self._passes[encoder] = y, y.detach().requires_grad_(y.requires_grad)
        return self._passes[encoder][1]

    def backward(self) -> None:
        """Hand the gradients that the samples left at y back through g_a. Widths may have changed since."""
        for y, read in self._passes.values():
            if read.grad is not None:
                torch.autograd.backward(y, read.grad)
