"""Pareto fronts: which points no other one beats in both cost and loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.support.arrays import Floats


def front_indexes(costs: Floats, losses: Floats) -> NDArray[np.int64]:
    """The indexes of the finite points on the Pareto front, the cheapest first.

    Args:
        costs: costs of the points, [n].
        losses: losses of the points, [n].
    """
    order: NDArray[np.int64] = np.lexsort((losses, costs))
    order = order[np.isfinite(costs[order]) & np.isfinite(losses[order])]
    before = np.concatenate([[np.inf], np.minimum.accumulate(losses[order])[:-1]])[: len(order)]
    better: NDArray[np.bool_] = losses[order] < before
    return order[better]


def front_curve(costs: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """The Pareto front of some points: its costs, rising, and its losses, falling.

    Args:
        costs: costs of the points, [n].
        losses: losses of the points, [n].
    """
    places = front_indexes(costs, losses)
    return costs[places], losses[places]


def non_dominated(costs: Sequence[float], losses: Sequence[float]) -> list[bool]:
    """Which points are non-dominated: no other point is better at no higher cost, or as good at a lower cost.

    Of equal points, the first one counts.

    Args:
        costs: costs of the points.
        losses: losses of the points, in the same order.
    """
    keep = np.zeros(len(costs), dtype=bool)
    keep[front_indexes(np.asarray(costs, dtype=float), np.asarray(losses, dtype=float))] = True
    kept: list[bool] = keep.tolist()
    return kept


def hypervolume(costs: Sequence[float], losses: Sequence[float], reference: tuple[float, float]) -> float:
    """The area that a front dominates, up to a reference point (cost, loss).

    Args:
        costs: costs of the points.
        losses: losses of the points, in the same order.
        reference: cost and loss of the reference point. Points beyond it do not count.
    """
    keep = [
        (cost, loss)
        for cost, loss, on in zip(costs, losses, non_dominated(costs, losses), strict=True)
        if on and cost < reference[0] and loss < reference[1]
    ]
    keep.sort()
    ends = [*(cost for cost, _ in keep[1:]), reference[0]][: len(keep)]
    return float(
        sum((end - cost) * (reference[1] - loss) for (cost, loss), end in zip(keep, ends, strict=True))
    )
