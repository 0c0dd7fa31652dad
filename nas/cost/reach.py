"""What a space can reach: exact counts of the architectures within a range of costs.

The cost is a sum over layers, and layers that share no slot do not interact. So the slots fall into
independent parts (g_a's, h_a's, ...), each small enough to enumerate, and the parts meet in the middle:
two sorted lists of sums stand for billions of architectures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nas.cost.macs import REFERENCE_PIXELS
from nas.cost.table import CostTable
from nas.errors import InputError
from nas.space import Architecture

IntArray = NDArray[np.int64]
MAX_LIST = 20_000_000


class _Sums:
    """All sums of some independent parts: costs in ascending order, and which choices make each."""

    def __init__(self, axes: tuple[int, ...], shape: tuple[int, ...], costs: IntArray) -> None:
        self.axes, self.shape = axes, shape
        self.order = np.argsort(costs, kind="stable")
        self.costs = costs[self.order]

    def choices(self, places: IntArray) -> dict[int, IntArray]:
        """The index in every slot for places in the sorted list."""
        flat = self.order[places]
        return dict(zip(self.axes, np.unravel_index(flat, self.shape), strict=True)) if self.axes else {}


class Reach:
    """The costs a space can reach in one scope, in MACs at 768x512.

    Args:
        table: the measured costs.
        scope: `encoder`, `decoder` or `total`.
        layouts: restrict to these layouts (a limit on stages); all by default.
        at_least: restrict every width to that of this architecture or wider.
    """

    def __init__(
        self,
        table: CostTable,
        scope: str,
        layouts: Iterable[str] | None = None,
        at_least: Architecture | None = None,
    ) -> None:
        self.space = table.space
        names = self.space.layout_names
        chosen = set(names if layouts is None else layouts)
        floor = [0] * len(self.space.slots) if at_least is None else self.space.indexes(at_least)[:-1]
        widths = zip(floor, self.space.shape[:-1], strict=True)
        self._allowed: list[IntArray] = [np.arange(low, count) for low, count in widths]
        self._allowed.append(np.array([k for k, name in enumerate(names) if name in chosen], dtype=np.int64))
        if not len(self._allowed[-1]):
            raise InputError(f"No layout is allowed: choose some of {', '.join(names)}.")
        layers = table.in_scope(scope)
        parts = []
        for axes in _independent([layer.axes for layer in layers], len(self.space.shape)):
            costs = np.zeros([len(self._allowed[axis]) for axis in axes], dtype=np.int64)
            for layer in layers:
                if set(layer.axes) <= set(axes):
                    costs += self._spread(layer.axes, layer.macs, axes)
            parts.append((axes, costs))
        constant = sum(int(layer.macs) for layer in layers if not layer.axes)
        self._left, self._right = self._halves(parts, constant)

    def _spread(self, axes: tuple[int, ...], macs: IntArray, over: tuple[int, ...]) -> IntArray:
        """A layer's table, restricted to what is allowed, with its dimensions placed among others."""
        table = macs[np.ix_(*(self._allowed[axis] for axis in axes))]
        order = sorted(range(len(axes)), key=lambda k: axes[k])
        table = table.transpose(order)
        shape = [len(self._allowed[axis]) if axis in axes else 1 for axis in over]
        return table.reshape(shape)

    def _halves(self, parts: list[tuple[tuple[int, ...], IntArray]], constant: int) -> tuple[_Sums, _Sums]:
        halves: list[tuple[tuple[int, ...], IntArray]] = [((), np.array(constant)), ((), np.array(0))]
        for axes, costs in sorted(parts, key=lambda part: -part[1].size):
            halves.sort(key=lambda half: half[1].size)
            held, sums = halves[0]
            if sums.size * costs.size > MAX_LIST:
                raise InputError(
                    f"{self.space.name} has too many combinations to count: tie some slots of its widths."
                )
            halves[0] = ((*held, *axes), np.add.outer(sums, costs))
        left, right = (_Sums(axes, costs.shape, costs.ravel()) for axes, costs in halves)
        return left, right

    @property
    def least(self) -> int:
        return int(self._left.costs[0] + self._right.costs[0])

    @property
    def most(self) -> int:
        return int(self._left.costs[-1] + self._right.costs[-1])

    @property
    def size(self) -> int:
        return len(self._left.costs) * len(self._right.costs)

    def count(self, low: int, high: int) -> int:
        """How many architectures cost at least `low` and at most `high`."""
        return int(self._counts(low, high)[1].sum())

    def quantile(self, share: float) -> int:
        """The cost that this share of all architectures does not exceed."""
        low, high, wanted = self.least, self.most, share * self.size
        while low < high:
            middle = (low + high) // 2
            if self.count(self.least, middle) >= wanted:
                high = middle
            else:
                low = middle + 1
        return low

    def span(self) -> tuple[float, float, float]:
        """The least, the median and the most cost, kMAC per pixel."""
        least, median, most = (
            macs / REFERENCE_PIXELS / 1000 for macs in (self.least, self.quantile(0.5), self.most)
        )
        return least, median, most

    def draw(self, low: int, high: int, number: int, rng: np.random.Generator) -> list[Architecture]:
        """Up to `number` different architectures with costs in [low, high], uniformly."""
        first, counts = self._counts(low, high)
        ends = np.cumsum(counts)
        if not len(ends) or ends[-1] == 0:
            return []
        total = int(ends[-1])
        if total <= 4 * number:
            ranks = rng.permutation(total)[:number]
        else:
            ranks = np.unique(rng.integers(0, total, size=2 * number))
            ranks = rng.permutation(ranks)[:number]
        left = np.searchsorted(ends, ranks, side="right")
        right = first[left] + ranks - (ends[left] - counts[left])
        chosen = self._left.choices(left) | self._right.choices(right)
        return [
            self.space.at([self._allowed[axis][chosen[axis][k]] for axis in range(len(self.space.shape))])
            for k in range(len(ranks))
        ]

    def _counts(self, low: int, high: int) -> tuple[IntArray, IntArray]:
        first = np.searchsorted(self._right.costs, low - self._left.costs, side="left")
        last = np.searchsorted(self._right.costs, high - self._left.costs, side="right")
        return first, np.maximum(last - first, 0)


def to_macs(kmac_px: float) -> int:
    """The most MACs at 768x512 that a number of kMAC per pixel allows."""
    return int(np.floor(kmac_px * 1000 * REFERENCE_PIXELS + 1e-3))  # less than a MAC is float error


def _independent(groups: list[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    """Slots joined wherever a layer touches several; slots of no layer stand alone."""
    leader = list(range(count))

    def find(place: int) -> int:
        while leader[place] != place:
            place = leader[place]
        return place

    for axes in groups:
        for one, other in itertools.pairwise(axes):
            leader[find(one)] = find(other)
    joined: dict[int, list[int]] = {}
    for place in range(count):
        joined.setdefault(find(place), []).append(place)
    return [tuple(members) for members in joined.values()]
