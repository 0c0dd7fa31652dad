"""Learning of a layout with VIMCO: categorical logits for the stage of every cell of the tile.

As in BaSIC (ECCV 2024), but with the stages of one periodic tile as samples. VIMCO (Mnih and Rezende, ICML
2016) credits each of K samples with its contribution to L = log mean_k w_k. The baseline of a sample is the
geometric mean of the other weights in its place. log w is minus the bits of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.spaces.architecture import Grouping
from nas.spaces.layout import Layout, closed, tiled_layout
from nas.support.arrays import Array

VIMCO_SAMPLES = 8  # K; with 2 most starts miss the best layout even among few
CONFIDENCE = 2.0  # logit of the stage that a start names, above the others
BETAS = (0.9, 0.95)  # of Adam; the signal shrinks by orders of magnitude as samples become equal


class LayoutLogits:
    """The logits of a layout with at most the given number of stages.

    Args:
        channels: number of channels of y, in groups of equal size.
        grouping: the groups and the tile.
        stages: number of stages that each cell chooses from.
        samples: number of samples K.
        learning_rate: learning rate of the logits' own Adam.
        start: a table to begin near, [groups, rows, columns]. None begins with equal logits.
    """

    def __init__(
        self,
        channels: int,
        grouping: Grouping,
        stages: int,
        *,
        samples: int = VIMCO_SAMPLES,
        learning_rate: float = 0.1,
        start: Array | None = None,
    ) -> None:
        self.channels, self.stages, self.samples = channels, stages, samples
        shape = (grouping.groups, *grouping.tile)
        self.logits = torch.zeros(*shape, stages)
        if start is not None:
            self.logits += CONFIDENCE * F.one_hot(torch.from_numpy(start), stages)
        self.logits.requires_grad_()
        self.optimizer = torch.optim.Adam([self.logits], lr=learning_rate, betas=BETAS)

    @torch.no_grad()
    def draw(self, rng: torch.Generator) -> Tensor:
        """Draw K tables of stages, [K, groups, rows, columns].

        Args:
            rng: generator of the random numbers.
        """
        shares = self.logits.softmax(-1).flatten(0, -2)
        drawn = torch.multinomial(shares, self.samples, replacement=True, generator=rng)
        return drawn.t().reshape(self.samples, *self.logits.shape[:-1])

    def layout(self, table: Tensor | Array, name: str = "learned") -> Layout:
        """Convert a table to a layout. Stages that no cell has chosen are removed.

        Args:
            table: stage of every cell, [groups, rows, columns].
            name: name of the layout.
        """
        return tiled_layout(self.channels, np.asarray(table), name)

    def learn(self, tables: Tensor, bits: Sequence[float]) -> None:
        """Take one step of learning.

        Args:
            tables: tables from `draw`, [K, groups, rows, columns].
            bits: bits of the whole batch under each table.
        """
        signal = vimco_signal(-math.log(2) * torch.tensor(bits, dtype=torch.float64))
        chosen = self.logits.log_softmax(-1).expand(len(tables), *self.logits.shape)
        log_q = chosen.gather(-1, tables[..., None]).flatten(1).sum(1)
        self.optimizer.zero_grad()
        (-(signal.float() * log_q).sum()).backward()
        self.optimizer.step()

    def mode(self) -> Array:
        """The most probable table without gaps in its numbering, [groups, rows, columns]."""
        return closed(self.logits.detach().argmax(-1).numpy())

    def certainty(self) -> float:
        """The probability of the most probable stage, as a mean over cells."""
        return float(self.logits.detach().softmax(-1).amax(-1).mean())

    @torch.no_grad()
    def restore(self, logits: Tensor) -> None:
        """Set the logits, [groups, rows, columns, stages]."""
        self.logits.copy_(logits)

    def to_dict(self) -> dict[str, Any]:
        """The layout in the form that is written to a file."""
        layout = self.layout(self.mode(), f"learned-{self.stages}").reduced()
        return {"name": layout.name, "certainty": self.certainty(), **layout.to_dict()}


def vimco_signal(log_w: Tensor) -> Tensor:
    """The credit of each of K samples for L = log mean_k w_k (VIMCO, Mnih and Rezende, ICML 2016).

    The baseline of each sample is the geometric mean of the others in its place.

    Args:
        log_w: log weights of the samples, [K], at least two.

    Returns:
        In the shape of `log_w`.
    """
    count = len(log_w)
    others = (log_w.sum() - log_w) / (count - 1)
    replaced = log_w.expand(count, count).clone()
    replaced.diagonal().copy_(others)
    return log_w.logsumexp(0) - replaced.logsumexp(1)
