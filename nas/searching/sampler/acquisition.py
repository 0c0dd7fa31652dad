"""Acquisition functions: how much a candidate is expected to improve the front.

The cost of a candidate is known, and its loss is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr

from nas.metrics.pareto import front_curve
from nas.support.arrays import Floats


class Acquisition(Protocol):
    """Measures how much a candidate would improve the result."""

    def improvement(
        self, scored: tuple[Floats, Floats], costs: Floats, mean: Floats, deviation: Floats
    ) -> Floats:
        """The expected improvement of each candidate, [n].

        Args:
            scored: costs and losses of the observations, each [observed].
            costs: costs of the candidates, [n].
            mean, deviation: means and standard deviations of their normally distributed losses, each [n].
        """
        ...


@dataclass(frozen=True)
class HypervolumeImprovement:
    """All costs up to `most` count equally: the improvement is the expected growth of the hypervolume.

    Because the cost is known, this is the expected improvement (Jones et al., 1998) on the front's step
    function, integrated over all costs from the candidate's own cost upwards.
    """

    most: float

    def improvement(
        self, scored: tuple[Floats, Floats], costs: Floats, mean: Floats, deviation: Floats
    ) -> Floats:
        """The expected growth of the hypervolume.

        Args:
            scored: costs and losses of the observations, each [observed].
            costs: costs of the candidates, [n].
            mean: expected losses of the candidates, [n].
            deviation: standard deviations of these losses, [n].

        Returns:
            Expected improvements, [n].
        """
        steps, best = front_curve(*scored)
        starts = np.concatenate([[-np.inf], steps])
        ends = np.concatenate([steps, [self.most]])
        levels = np.concatenate([[scored[1].max()], best])  # left of the front: the worst loss
        length = np.clip(ends - np.maximum(starts, costs[:, None]), 0, None)
        improvements: Floats = np.einsum("ij,ij->i", length, expected_improvement(levels, mean, deviation))
        return improvements


@dataclass(frozen=True)
class TargetImprovement:
    """Only the least loss at or under each target cost counts."""

    costs: Sequence[float]

    def improvement(
        self, scored: tuple[Floats, Floats], costs: Floats, mean: Floats, deviation: Floats
    ) -> Floats:
        """The sum of the expected improvements at the targets.

        Args:
            scored: costs and losses of the observations, each [observed].
            costs: costs of the candidates, [n].
            mean: expected losses of the candidates, [n].
            deviation: standard deviations of these losses, [n].

        Returns:
            Expected improvements, [n].
        """
        targets = np.asarray(self.costs, dtype=float)
        steps, best = front_curve(*scored)
        steps_below = np.searchsorted(steps, targets, side="right")
        levels = np.concatenate([[scored[1].max()], best])[steps_below]
        affordable = costs[:, None] <= targets
        improvements: Floats = np.einsum(
            "ij,ij->i", affordable, expected_improvement(levels, mean, deviation)
        )
        return improvements


def expected_improvement(levels: Floats, mean: Floats, deviation: Floats) -> Floats:
    """The expected improvement of each candidate below each level, [candidates, levels].

    Args:
        levels: losses to fall below, [levels].
        mean: expected loss of each candidate, [candidates].
        deviation: standard deviation of that loss, [candidates].
    """
    below = (levels - mean[:, None]) / deviation[:, None]
    density = np.exp(-(below**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(deviation[:, None] * (below * ndtr(below) + density))
