"""A choice of the network at run time, which the layers around it share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Width:
    """The number of channels between two layers, or the number of blocks in a stack, chosen at run time.

    The choice is one of `candidates` by index, or a mixture of them by gates.

    Args:
        name: name of the choice.
        candidates: the candidates, from narrow to wide.
        parts: number of equal parts of the channels. Each part is cut to its first channels (psi has two
            parts: scales and means).

    Attributes:
        index: index of the active candidate.
        gates: None, or weights over the candidates that sum to 1 (a Gumbel sample), [candidates]. With gates,
            the layers run at full width and are masked by sum_n gates[n] * [channel < candidates[n]].
    """

    def __init__(self, name: str, candidates: Sequence[int], parts: int = 1) -> None:
        self.name = name
        self.candidates = tuple(candidates)
        self.parts = parts
        self.index = len(self.candidates) - 1
        self.gates: Tensor | None = None

    @property
    def full(self) -> int:
        """The widest candidate."""
        return self.candidates[-1]

    @property
    def active(self) -> int:
        """The active channels. Under gates all of them are active."""
        return self.full if self.gates is not None else self.candidates[self.index]

    def mask(self) -> Tensor | None:
        """The factors of the channels (or of the blocks) under gates, [full], or None without gates."""
        if self.gates is None:
            return None
        sizes = torch.tensor(self.candidates, device=self.gates.device) // self.parts
        below = torch.arange(self.full // self.parts, device=self.gates.device) < sizes[:, None]
        return (self.gates @ below.to(self.gates.dtype)).repeat(self.parts)

    def share(self) -> Tensor | None:
        """The total weight of all candidates except 0 under gates, a scalar, or None without gates."""
        if self.gates is None:
            return None
        above = torch.tensor(self.candidates, device=self.gates.device) > 0
        return (self.gates * above).sum()

    def take(self, tensor: Tensor, dim: int = 0, each: int = 1) -> Tensor:
        """The active channels of a weight along one dimension, `each` entries each; a view if possible.

        Args:
            tensor: the full weight, of any shape.
            dim: the dimension that holds the channels.
            each: number of entries per channel.
        """
        if self.parts == 1:
            return tensor.narrow(dim, 0, self.active * each)
        split: Tensor = tensor.unflatten(dim, (self.parts, -1))
        return split.narrow(dim + 1, 0, self.active * each // self.parts).flatten(dim, dim + 1)

    def masked(self, x: Tensor) -> Tensor:
        """Mask x, [B, full, h, w], under gates: channels that are left out become zero."""
        mask = self.mask()
        return x if mask is None else x * mask.to(x.dtype)[:, None, None]

    def rated(self, likelihood: Tensor) -> Tensor:
        """Mask likelihoods, [B, full, h, w], under gates: masked channels carry no rate.

        Args:
            likelihood: likelihoods of the full width, [B, full, h, w].
        """
        mask = self.mask()
        return likelihood if mask is None else likelihood ** mask.to(likelihood.dtype)[:, None, None]
