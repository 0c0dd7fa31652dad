"""Chooses the architectures of a rank check: different ones, evenly spread over the range of costs."""

from __future__ import annotations

import math

import numpy as np

from nas.cost.counting.table import CostTable
from nas.cost.exact.quantity import macs
from nas.cost.exact.reach import ReachableCosts
from nas.profiling.accuracy import FEWEST_RANKED
from nas.spaces.architecture import Architecture
from nas.support.errors import InputError
from nas.support.limits import check_seed, is_whole


def spread(costs: CostTable, count: int, seed: int) -> list[Architecture]:
    """Different architectures of a space, evenly spread over its range of total MACs, in rising order.

    The narrowest and the widest are the ends. Between them, some architectures are drawn around each even
    step, and the one nearest to the step is taken.

    Args:
        costs: cost table of the space.
        count: number of architectures.
        seed: seed of the random numbers.

    Raises:
        InputError: the number is too small for a rank correlation, or larger than the space.
    """
    check_seed(seed)
    space, reach = costs.space, ReachableCosts(macs(costs, "total"))
    if space.size < FEWEST_RANKED:
        raise InputError(
            f"{space.name} holds {space.size} architecture{'s' * (space.size != 1)}: ranking needs at least "
            f"{FEWEST_RANKED}, so check the run of a wider space."
        )
    if not is_whole(count) or not FEWEST_RANKED <= count <= space.size:
        raise InputError(
            f"Cannot rank {count} architectures of {space.name}: give a whole number from {FEWEST_RANKED} to "
            f"{space.size:,}."
        )
    rng = np.random.default_rng(seed)
    chosen = [space.narrowest(), space.widest()]
    low, high = reach.least, reach.most
    for number in range(1, count - 1):
        goal = low + (high - low) * number / (count - 1)
        chosen.append(_near(reach, goal, costs, set(chosen), 4 * count, rng))
    return sorted(chosen, key=lambda architecture: (costs.macs(architecture, "total"), architecture.key))


def _near(
    reach: ReachableCosts,
    goal: float,
    costs: CostTable,
    taken: set[Architecture],
    number: int,
    rng: np.random.Generator,
) -> Architecture:
    """A new architecture with about a given cost. A window around the cost doubles until it contains one."""
    width = max(1.0, (reach.most - reach.least) / 200)
    while True:
        low, high = math.floor(goal - width), math.ceil(goal + width)
        drawn = reach.draw(low, high, number, rng)
        fresh = [architecture for architecture in drawn if architecture not in taken]
        if fresh:
            return min(fresh, key=lambda a: (abs(costs.macs(a, "total") - goal), a.key))
        if low <= reach.least and high >= reach.most:  # so many are drawn that one of them must be new
            raise InputError(f"{reach.space.name} has no more architectures to choose from: rank fewer.")
        width *= 2
