"""Steps from one architecture to similar ones, as rows of indexes: one index per slot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, ...]  # one index per slot
Rows = NDArray[np.int64]


def neighbours(rows: Rows, shape: Sequence[int], unordered: Sequence[int] = ()) -> Rows:
    """All rows that are one step away in one slot. In an unordered slot, every other choice is one step away.

    Args:
        rows: rows to start from, [n, slots].
        shape: number of choices of each slot.
        unordered: places of the slots whose choices have no order.
    """
    around = []
    for slot, count in enumerate(shape):
        steps = range(1, count) if slot in unordered else (-1, 1)
        for step in steps:
            moved = rows.copy()
            moved[:, slot] += step
            if slot in unordered:
                moved[:, slot] %= count
            around.append(moved[(moved[:, slot] >= 0) & (moved[:, slot] < count)])
    return np.concatenate([np.empty((0, len(shape)), dtype=np.int64), *around])


def exchanges(rows: Rows, shape: Sequence[int], number: int, rng: np.random.Generator) -> Rows:
    """Random steps in two slots at once: in opposite directions, or both in the same one.

    Args:
        rows: rows to start from, [n, slots].
        shape: number of choices of each slot.
        number: number of new rows.
        rng: generator of the random numbers.
    """
    moved = rows[rng.integers(0, len(rows), number)]
    for _ in range(2):
        slots = rng.integers(0, len(shape), number)
        moved[np.arange(number), slots] += rng.choice((-1, 1), number)
    within: Rows = np.clip(moved, 0, np.asarray(shape) - 1)
    return within


def crosses(rows: Rows, number: int, rng: np.random.Generator, reach: int = 3) -> Rows:
    """Children of two rows that lie at most `reach` places apart in `rows`.

    Args:
        rows: rows to combine, [n, slots].
        number: number of new rows.
        rng: generator of the random numbers.
        reach: the largest distance between the two rows, in places.
    """
    one = rng.integers(0, len(rows), number)
    other = np.clip(one + rng.integers(-reach, reach + 1, number), 0, len(rows) - 1)
    return np.where(rng.random((number, rows.shape[1])) < 0.5, rows[one], rows[other])
