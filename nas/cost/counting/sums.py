"""Sums of tables. Each term depends on a few slots, so that the whole sum takes a few look-ups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
LARGEST = 20_000  # largest number of entries of a table that merges several terms


@dataclass(frozen=True)
class Part:
    """One term of a sum: a table with one dimension for each of `axes`.

    Attributes:
        axes: places in `space.shape` of the slots that the term depends on.
        values: value for every combination of their choices, [choices of each axis].
    """

    axes: tuple[int, ...]
    values: IntArray

    def at(self, indexes: Sequence[int]) -> int:
        """The value for one architecture.

        Args:
            indexes: one index per slot, the layout last.
        """
        return int(self.values[tuple(indexes[axis] for axis in self.axes)])

    def at_rows(self, rows: IntArray) -> IntArray:
        """The term for rows of indexes, [n, slots + 1]."""
        values: IntArray = self.values[tuple(rows[:, axis] for axis in self.axes)]
        return values


@dataclass(frozen=True)
class Sum:
    """A sum of terms. Terms that share slots are merged, so that a look-up takes microseconds.

    Attributes:
        constant: sum of the terms that depend on no slot.
        tables: pairs of a getter, which takes a table's choices from the indexes, and the table by choices.
    """

    constant: int
    tables: tuple[tuple[Callable[[Sequence[int]], Any], dict[Any, int]], ...]

    @classmethod
    def of(cls, terms: Sequence[Part], shape: Sequence[int]) -> Sum:
        """Add up terms over slots with the given numbers of choices.

        Args:
            terms: the terms, each a table over the choices of some slots.
            shape: number of choices of each slot.
        """
        free = [axis for axis, count in enumerate(shape) if count > 1]
        groups = independent([terms], free)
        large = {axes for axes in groups if math.prod(shape[axis] for axis in axes) > LARGEST}
        together = [part for part in terms if not any(set(part.axes) & set(axes) for axes in large)]
        alone = [part for part in terms if all(part is not other for other in together)]
        allowed = [np.arange(count) for count in shape]
        kept = [axes for axes in groups if axes not in large]
        sums, constant = spread_over(together, kept, allowed)
        tables = list(zip(kept, sums, strict=True)) + [(part.axes, part.values) for part in alone]
        return cls(constant, tuple(_by_choice(axes, table) for axes, table in tables if table.any()))

    def at(self, indexes: Sequence[int]) -> int:
        """The sum for one index per slot.

        Args:
            indexes: one index per slot, the layout last.
        """
        total = self.constant
        for choose, table in self.tables:
            total += table[choose(indexes)]
        return total


def _by_choice(
    axes: tuple[int, ...], table: IntArray
) -> tuple[Callable[[Sequence[int]], Any], dict[Any, int]]:
    flat = dict(zip(np.ndindex(*table.shape), table.ravel().tolist(), strict=True))
    if len(axes) == 1:  # a getter of one index returns it without a tuple
        return itemgetter(*axes), {indexes[0]: value for indexes, value in flat.items()}
    return itemgetter(*axes), flat


def independent(phases: Iterable[Sequence[Part]], free: Iterable[int]) -> list[tuple[int, ...]]:
    """Group the free axes: axes that one term depends on together share a group. Others stand alone.

    Args:
        phases: sums, each given as its terms.
        free: axes with more than one choice.
    """
    leader = {axis: axis for axis in sorted(free)}

    def find(axis: int) -> int:
        while leader[axis] != axis:
            axis = leader[axis]
        return axis

    for phase in phases:
        for part in phase:
            for one, other in itertools.pairwise(axis for axis in part.axes if axis in leader):
                leader[find(one)] = find(other)
    joined: dict[int, list[int]] = {}
    for axis in leader:
        joined.setdefault(find(axis), []).append(axis)
    return [tuple(members) for members in joined.values()]


def spread_over(
    phase: Sequence[Part], groups: Sequence[tuple[int, ...]], allowed: Sequence[IntArray]
) -> tuple[list[IntArray], int]:
    """A sum of terms as one table for each group of axes, and the constant that depends on none of them.

    Args:
        phase: the terms. Each depends on axes of one group, and on axes with a single choice.
        groups: groups of axes, see `independent`.
        allowed: the allowed choices of every axis.
    """
    sums = [np.zeros([len(allowed[axis]) for axis in axes], dtype=np.int64) for axes in groups]
    owner = {axis: group for group, axes in enumerate(groups) for axis in axes}
    constant = 0
    for part in phase:
        table = part.values[np.ix_(*(allowed[axis] for axis in part.axes))] if part.axes else part.values
        table = table.transpose(sorted(range(len(part.axes)), key=lambda k: part.axes[k]))
        free = [axis for axis in sorted(part.axes) if axis in owner]
        if not free:
            constant += int(table.item())
            continue
        group = owner[free[0]]
        sums[group] += table.reshape([len(allowed[axis]) if axis in free else 1 for axis in groups[group]])
    return sums, constant
