"""The architectures of a rank check: different ones, evenly over the range of costs."""

from __future__ import annotations

import math

import numpy as np

from nas.cost.counting.table import CostTable
from nas.cost.exact.quantity import macs
from nas.cost.exact.reach import Reach
from nas.profiling.accuracy import FEWEST_RANKED
from nas.spaces.architecture import Architecture
from nas.support.errors import InputError
from nas.support.limits import check_seed


def spread(costs: CostTable, count: int, seed: int) -> list[Architecture]:
    """Different architectures of a space, evenly over its range of total MACs, in their order.

    The narrowest and the widest are the ends; between them, the one nearest to each even step among some that
    are drawn about it.

    Args:
        costs: costs of the space.
        count: number of architectures.
        seed: seed of the random numbers.

    Raises:
        InputError: too few for a rank correlation, or more than there are.
    """
    check_seed(seed)
    space, reach = costs.space, Reach(macs(costs, "total"))
    if space.size < FEWEST_RANKED:
        raise InputError(
            f"{space.name} holds {space.size} architecture{'s' * (space.size != 1)}: ranking needs at least "
            f"{FEWEST_RANKED}, so check the run of a wider space."
        )
    if not FEWEST_RANKED <= count <= space.size:
        raise InputError(
            f"Cannot rank {count} architectures of {space.name}: give a number from {FEWEST_RANKED} to "
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
    reach: Reach,
    goal: float,
    costs: CostTable,
    taken: set[Architecture],
    number: int,
    rng: np.random.Generator,
) -> Architecture:
    """A new architecture of about a cost; the window about it doubles until it holds one."""
    width = max(1.0, (reach.most - reach.least) / 200)
    while True:
        low, high = math.floor(goal - width), math.ceil(goal + width)
        drawn = reach.draw(low, high, number, rng)
        fresh = [architecture for architecture in drawn if architecture not in taken]
        if fresh:
            return min(fresh, key=lambda a: (abs(costs.macs(a, "total") - goal), a.key))
        if low <= reach.least and high >= reach.most:  # more are drawn of all than can be taken
            raise InputError(f"{reach.space.name} has no more architectures to choose from: rank fewer.")
        width *= 2
