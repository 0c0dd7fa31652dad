"""What a candidate is expected to add to the front, its cost being known and its loss guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr

from nas.metrics.pareto import staircase
from nas.support.arrays import Floats


class Aim(Protocol):
    """What counts as better."""

    def gain(self, scored: tuple[Floats, Floats], costs: Floats, mean: Floats, deviation: Floats) -> Floats:
        """The expected gain of each candidate, [n].

        Args:
            scored: costs and losses of what was observed, each [observed].
            costs: of the candidates, [n].
            mean, deviation: of their losses, normally distributed, each [n].
        """
        ...


@dataclass(frozen=True)
class WholeRange:
    """Every cost up to `most` counts alike: the gain is the expected growth of the hypervolume.

    With the cost known, that is the expected improvement (Jones et al., 1998) on the front's step function,
    integrated over all costs from the candidate's own on.
    """

    most: float

    def gain(self, scored: tuple[Floats, Floats], costs: Floats, mean: Floats, deviation: Floats) -> Floats:
        """The expected growth of the hypervolume.

        Args:
            scored: costs and losses of what was observed, each [observed].
            costs: of the candidates, [n].
            mean: expected losses of the candidates, [n].
            deviation: standard deviations of these losses, [n].

        Returns:
            [n].
        """
        steps, best = staircase(*scored)
        starts = np.concatenate([[-np.inf], steps])
        ends = np.concatenate([steps, [self.most]])
        levels = np.concatenate([[scored[1].max()], best])  # below the cheapest, the worst is all there is
        length = np.clip(ends - np.maximum(starts, costs[:, None]), 0, None)
        gains: Floats = np.einsum("ij,ij->i", length, improvement(levels, mean, deviation))
        return gains


@dataclass(frozen=True)
class Targets:
    """Only the least loss at or under each of some costs counts."""

    costs: Sequence[float]

    def gain(self, scored: tuple[Floats, Floats], costs: Floats, mean: Floats, deviation: Floats) -> Floats:
        """The expected improvement at the targets, added up.

        Args:
            scored: costs and losses of what was observed, each [observed].
            costs: of the candidates, [n].
            mean: expected losses of the candidates, [n].
            deviation: standard deviations of these losses, [n].

        Returns:
            [n].
        """
        targets = np.asarray(self.costs, dtype=float)
        steps, best = staircase(*scored)
        steps_below = np.searchsorted(steps, targets, side="right")
        levels = np.concatenate([[scored[1].max()], best])[steps_below]
        affordable = costs[:, None] <= targets
        gains: Floats = np.einsum("ij,ij->i", affordable, improvement(levels, mean, deviation))
        return gains


def improvement(levels: Floats, mean: Floats, deviation: Floats) -> Floats:
    """By how much each candidate is expected to fall below each level, [candidates, levels].

    Args:
        levels: losses to fall below, [levels].
        mean: expected loss of each candidate, [candidates].
        deviation: standard deviation of that loss, [candidates].
    """
    below = (levels - mean[:, None]) / deviation[:, None]
    density = np.exp(-(below**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(deviation[:, None] * (below * ndtr(below) + density))
