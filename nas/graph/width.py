"""One choice of the network at run time: shared by the layers between which it lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Width:
    """How many channels lie between two layers, or how many blocks follow one another.

    One of `candidates`, chosen by index, or gated.

    Args:
        name: of the choice.
        candidates: from narrow to wide.
        parts: into how many equal parts the channels fall, each cut to its first ones (psi: scales, means).

    Attributes:
        index: the active candidate.
        gates: None, or weights over the candidates that sum to 1 (a Gumbel sample), shape [candidates];
            the layers then run at full width and are masked by sum_n gates[n] * [channel < candidates[n]].
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
        """The channels in use: all of them under gates."""
        return self.full if self.gates is not None else self.candidates[self.index]

    def mask(self) -> Tensor | None:
        """What multiplies the channels (or the blocks) under gates, shape [full]; None without gates."""
        if self.gates is None:
            return None
        sizes = torch.tensor(self.candidates, device=self.gates.device) // self.parts
        below = torch.arange(self.full // self.parts, device=self.gates.device) < sizes[:, None]
        return (self.gates @ below.to(self.gates.dtype)).repeat(self.parts)

    def share(self) -> Tensor | None:
        """The weight of all candidates but 0 under gates, a scalar; None without gates."""
        if self.gates is None:
            return None
        above = torch.tensor(self.candidates, device=self.gates.device) > 0
        return (self.gates * above).sum()

    def take(self, tensor: Tensor, dim: int = 0, each: int = 1) -> Tensor:
        """The active channels of a weight along one dimension, `each` entries a channel; a view if it can.

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
        """x, [B, full, h, w], with the channels left out set to zero, where gates are set."""
        mask = self.mask()
        return x if mask is None else x * mask.to(x.dtype)[:, None, None]

    def rated(self, likelihood: Tensor) -> Tensor:
        """Likelihoods, [B, full, h, w]: masked channels carry no rate.

        Args:
            likelihood: likelihoods of the full width, [B, full, h, w].
        """
        mask = self.mask()
        return likelihood if mask is None else likelihood ** mask.to(likelihood.dtype)[:, None, None]
