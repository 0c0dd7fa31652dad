"""The costs that a space can reach: exact counts of the architectures within a range of costs.

A cost is a sum over layers, and layers that share no slot do not interact. The slots therefore fall into
independent parts (those of g_a, of h_a, ...), each small enough to enumerate. The parts are joined by meeting
in the
middle: two sorted lists of sums stand for billions of architectures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from nas.cost.counting.sums import IntArray, Part, independent, spread_over
from nas.cost.counting.table import CostTable
from nas.cost.exact.quantity import Quantity, macs
from nas.spaces.architecture import Architecture
from nas.spaces.budget import SCOPES
from nas.support.errors import InputError

MAX_LIST = 20_000_000
MOST_PARTS = 14  # up to this many parts, all ways to halve them are tried


class _Sums:
    """All sums of some independent parts: costs in ascending order, and the choices behind each of them."""

    def __init__(self, axes: tuple[int, ...], shape: tuple[int, ...], costs: IntArray) -> None:
        self.axes, self.shape = axes, shape
        self.order = np.argsort(costs, kind="stable")
        self.costs = costs[self.order]

    def choices(self, places: IntArray) -> dict[int, IntArray]:
        """The index in every slot, for places in the sorted list."""
        flat = self.order[places]
        return dict(zip(self.axes, np.unravel_index(flat, self.shape), strict=True)) if self.axes else {}


class ReachableCosts:
    """The costs that a space can reach, in integer units of a quantity that adds up (MACs, nanoseconds).

    Args:
        quantity: the cost. It must have a single phase.
        layouts: names of the allowed layouts (for a limit on stages). By default all are allowed.
    """

    def __init__(self, quantity: Quantity, layouts: Iterable[str] | None = None) -> None:
        self.space, (parts,) = quantity.space, quantity.phases
        names = self.space.layout_names
        chosen = set(names if layouts is None else layouts)
        if not chosen & set(names):
            raise InputError(f"No layout is allowed: choose some of {', '.join(names)}.")
        self._regimes = []
        for regime in self.space.regimes:
            kept = [*regime[:-1], [k for k in regime[-1] if names[k] in chosen]]
            if all(kept):
                self._regimes.append(_Regime(self.space.name, parts, [np.array(choices) for choices in kept]))

    @property
    def least(self) -> int:
        """The least cost of an architecture of the space."""
        return min(regime.end(1)[0] for regime in self._regimes)

    @property
    def most(self) -> int:
        """The largest cost of an architecture of the space."""
        return max(regime.end(-1)[0] for regime in self._regimes)

    def end(self, sign: int) -> Architecture:
        """An architecture of the least (sign 1) or largest (-1) cost; of several, the narrowest."""
        _, indexes = min((regime.end(sign) for regime in self._regimes), key=lambda end: sign * end[0])
        return self.space.at(indexes)

    def most_up_to(self, high: int) -> int | None:
        """The largest cost of an architecture that costs at most `high`, or None if there is none.

        Args:
            high: the highest cost, in integer units of the quantity.
        """
        return max(
            (most for regime in self._regimes if (most := regime.most_up_to(high)) is not None), default=None
        )

    @property
    def size(self) -> int:
        """Number of architectures of the space."""
        return sum(regime.size for regime in self._regimes)

    def count(self, low: int, high: int) -> int:
        """Number of architectures that cost at least `low` and at most `high`.

        Args:
            low: the least cost, in integer units of the quantity.
            high: the highest cost, in integer units of the quantity.
        """
        return sum(regime.up_to(high) - regime.up_to(low - 1) for regime in self._regimes)

    def quantile(self, share: float) -> int:
        """The cost that this share of all architectures does not exceed.

        Args:
            share: from 0 to 1.

        Returns:
            In integer units of the quantity, such as MACs of one picture.
        """
        low, high, wanted = self.least, self.most, share * self.size
        while low < high:
            middle = (low + high) // 2
            if sum(regime.up_to(middle) for regime in self._regimes) >= wanted:
                high = middle
            else:
                low = middle + 1
        return low

    def span(self) -> tuple[int, int, int]:
        """The least, the median and the largest cost."""
        return self.least, self.quantile(0.5), self.most

    def draw(self, low: int, high: int, number: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw up to `number` different architectures with costs in [low, high], uniformly.

        Args:
            low: the least cost, in integer units of the quantity.
            high: the highest cost, in integer units of the quantity.
            number: the most architectures to draw.
            rng: generator of the random numbers.
        """
        counted = [regime.counts(low, high) for regime in self._regimes]
        sizes = [
            int(counts.sum()) * regime.alike
            for regime, (_, counts) in zip(self._regimes, counted, strict=True)
        ]
        total = sum(sizes)
        if total == 0:
            return []
        if total <= 4 * number:
            ranks = rng.permutation(total)[:number]
        else:
            ranks = np.unique(rng.integers(0, total, size=2 * number))
            ranks = rng.permutation(ranks)[:number]
        starts = np.cumsum([0, *sizes])
        drawn: dict[int, list[int]] = {}
        for regime, (first, counts), start, size in zip(self._regimes, counted, starts, sizes, strict=False):
            here = ranks[(ranks >= start) & (ranks < start + size)]
            drawn |= dict(zip(here.tolist(), regime.at(here - start, first, counts), strict=True))
        return [self.space.at(drawn[int(rank)]) for rank in ranks]


def most_kmac_px(costs: CostTable) -> dict[str, float]:
    """The largest kMAC per pixel of the space in every scope. Percentages refer to these costs.

    Args:
        costs: cost table of the space.
    """
    return {scope: ReachableCosts(macs(costs, scope)).most / costs.pixels / 1000 for scope in SCOPES}


class _Regime:
    """One product of choices (see `SearchSpace.regimes`): two sorted lists of sums over slots that matter.

    Attributes:
        alike: number of architectures that share all choices that matter.
    """

    def __init__(self, name: str, terms: Sequence[Part], allowed: list[IntArray]) -> None:
        self._name, self._allowed = name, allowed
        free = {axis for axis, choices in enumerate(allowed) if len(choices) > 1}
        groups = independent([terms], free)
        for axes in groups:
            self._check(math.prod(len(allowed[axis]) for axis in axes))
        sums, self._constant = spread_over(terms, groups, allowed)
        self._matter: list[tuple[tuple[int, ...], IntArray]] = []
        self._idle: list[int] = []
        for axes, costs in zip(groups, sums, strict=True):
            if costs.min() < costs.max():
                self._matter.append((axes, costs))
            else:
                self._idle += axes
                self._constant += int(costs.flat[0])
        self._idle_shape = tuple(len(allowed[axis]) for axis in self._idle)
        self.alike = math.prod(self._idle_shape)

    @property
    def size(self) -> int:
        return self.alike * math.prod(costs.size for _, costs in self._matter)

    def end(self, sign: int) -> tuple[int, list[int]]:
        """The least cost (sign 1) or the largest (-1), and the first indexes with this cost."""
        places, total = [0] * len(self._allowed), self._constant
        for axes, costs in self._matter:
            flat = int(np.argmin(sign * costs))
            total += int(costs.flat[flat])
            for axis, choice in zip(axes, np.unravel_index(flat, costs.shape), strict=True):
                places[axis] = int(choice)
        return total, [int(allowed[choice]) for allowed, choice in zip(self._allowed, places, strict=True)]

    @cached_property
    def _lists(self) -> tuple[_Sums, _Sums]:
        return self._halves(self._matter, self._constant)

    def _halves(self, parts: list[tuple[tuple[int, ...], IntArray]], constant: int) -> tuple[_Sums, _Sums]:
        """Split the parts into two lists of sums, as short as possible."""
        parts = [*parts, ((), np.array(constant))]
        while len(parts) > MOST_PARTS:
            parts.sort(key=lambda part: -part[1].size)
            (axes, costs), (more_axes, more) = parts.pop(), parts.pop()
            parts.append(((*axes, *more_axes), np.add.outer(costs, more)))
        logs = np.log([part[1].size for part in parts])
        sides = np.array(list(itertools.product((False, True), repeat=len(parts))))
        left = sides[np.argmin(np.abs(sides @ logs - logs.sum() / 2))]
        halves = []
        for chosen in (left, ~left):
            held: tuple[int, ...] = ()
            sums = np.array(0)
            for (axes, costs), mine in zip(parts, chosen, strict=True):
                if mine:
                    self._check(sums.size * costs.size)
                    held, sums = (*held, *axes), np.add.outer(sums, costs)
            halves.append(_Sums(held, sums.shape, sums.ravel()))
        return halves[0], halves[1]

    def _check(self, size: int) -> None:
        if size > MAX_LIST:
            raise InputError(f"{self._name} has too many combinations to count: tie some of its slots.")

    def up_to(self, high: int) -> int:
        """Number of architectures that cost at most `high`."""
        few, many = sorted((sums.costs for sums in self._lists), key=len)  # the longer one is looked up in
        return self.alike * int(np.searchsorted(many, high - few, side="right").sum())

    def most_up_to(self, high: int) -> int | None:
        """The largest cost that is at most `high`, or None if all are larger."""
        few, many = sorted((sums.costs for sums in self._lists), key=len)
        below = np.searchsorted(many, high - few, side="right")
        reached = few[below > 0] + many[below[below > 0] - 1]
        return int(reached.max()) if reached.size else None

    def counts(self, low: int, high: int) -> tuple[IntArray, IntArray]:
        """For every sum on the left: the first sum on the right that fits, and how many of them fit."""
        left, right = self._lists
        first = np.searchsorted(right.costs, low - left.costs, side="left")
        last = np.searchsorted(right.costs, high - left.costs, side="right")
        return first, np.maximum(last - first, 0)

    def at(self, ranks: IntArray, first: IntArray, counts: IntArray) -> list[list[int]]:
        """The index in every slot for given ranks, which count the results of `counts` `alike` times each."""
        pairs, idle = np.divmod(ranks, self.alike)
        ends = np.cumsum(counts)
        left = np.searchsorted(ends, pairs, side="right")
        right = first[left] + pairs - (ends[left] - counts[left])
        one, other = self._lists
        chosen = one.choices(left) | other.choices(right)
        if self._idle:
            chosen |= dict(zip(self._idle, np.unravel_index(idle, self._idle_shape), strict=True))
        places = [chosen.get(axis, np.zeros(len(ranks), dtype=int)) for axis in range(len(self._allowed))]
        return [
            [int(self._allowed[axis][places[axis][k]]) for axis in range(len(places))]
            for k in range(len(ranks))
        ]
