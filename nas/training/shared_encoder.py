"""One pass through g_a for all samples of a step that share their encoder.

Samples that differ only after y, such as decoders of several sizes under one encoder, read the same output of
g_a. Their rates may differ, because gains come after g_a. The output is therefore computed once. The
gradients of all samples are added up there and pass back through g_a once. The sums equal those of separate
passes.
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
    """The outputs of g_a for one batch, for encoders that several samples of a step share.

    Args:
        net: the supernet.
        x: the batch, [B, 3, H, W].
        architectures: architectures of the step's samples.
    """

    def __init__(self, net: Supernet, x: Tensor, architectures: Sequence[Architecture]) -> None:
        self._net, self._x = net, x
        counts = Counter(net.space.encoder(architecture) for architecture in architectures)
        self._shared = {encoder for encoder, count in counts.items() if count > 1}
        self._passes: dict[tuple[tuple[str, int], ...], tuple[Tensor, Tensor]] = {}

    def y(self, architecture: Architecture) -> Tensor | None:
        """The output of g_a for the batch, [B, M, h, w], or None if no other sample has the same encoder.

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
        """Pass the gradients that the samples left at y back through g_a. Widths may have changed since."""
        for y, read in self._passes.values():
            if read.grad is not None:
                torch.autograd.backward(y, read.grad)
