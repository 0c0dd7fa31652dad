"""Greedy grouping: ladders of layouts from many stages to one, of little rate on calibration latents.

From a fine order (every cell of the tile a stage of its own) two adjacent stages are merged, always those
that cost least rate; or from one stage on, a cell is given a stage of its own, always the one that gains
most. After each merge or split single cells are moved between stages while that helps. Several ladders are
made. In the end pairs of cells are exchanged in the best of every number of stages, and random tables of as
many stages are improved as rivals: ladders alone can all end beside the best.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nas.spaces.architecture import Grouping
from nas.spaces.layout import Layout, random_table, tiled_layout
from nas.support.arrays import Array
from nas.support.progress import Report, silent

RateOf = Callable[[Layout], float]

LADDERS, RIVALS = 4, 1  # by default
GAIN = 1e-6  # the least relative gain for which a cell is moved


@dataclass(frozen=True)
class Found:
    """A layout that was found, and the rate of y under it on the calibration latents, in bpp.

    Attributes:
        layout: in the fewest channel groups and the smallest tile that say the same.
        bpp: its rate.
        table: the stages of the full tile, [groups, rows, columns].
    """

    layout: Layout
    bpp: float
    table: Array


def greedy_layouts(
    rate: RateOf,
    channels: int,
    grouping: Grouping,
    *,
    ladders: int = LADDERS,
    rivals: int = RIVALS,
    seed: int = 0,
    report: Report = silent,
) -> list[Found]:
    """The best layout found for each wanted number of stages, from many stages to few.

    Args:
        rate: what is minimised.
        channels: channels of y.
        grouping: the tile, its groups, and the numbers of stages to keep.
        ladders: how many are made: first by splitting, then by merging from fine orders, first by position,
            by channel group and in checkerboards, then from random ones.
        rivals: random tables that are improved for each wanted number of stages.
        seed: of the random orders and tables.
        report: called with how much is done, of how much, and a note.
    """
    cells = cells_of(grouping)
    wanted = sorted({stages for stages in grouping.stages if 1 <= stages <= cells}, reverse=True)
    if not wanted:
        return []
    tables, best = Tables(rate, channels), dict[int, Array]()
    rungs = wanted[0] + (ladders - 1) * (cells - wanted[-1] + 1)
    total, done = rungs + len(wanted), 0

    def tell(note: str, table: Array) -> None:
        report(done, total, f"{note}  {int(table.max()) + 1} stages  {tables.rate(table):.4f} bpp")

    orders = fine_orders(grouping, random.Random(f"fine orders {seed}"))
    for ladder in range(ladders):
        table = next(orders) if ladder else np.zeros(shape_of(grouping), dtype=np.int64)
        step, last = (tables.merge, wanted[-1]) if ladder else (tables.split, wanted[0])
        while True:
            table = tables.improve(table)
            stages = int(table.max()) + 1
            best[stages] = min(best.get(stages, table), table, key=tables.rate)
            done += 1
            tell(f"ladder {ladder + 1}/{ladders}", table)
            if stages == last:
                break
            table = step(table)
    rng = random.Random(f"rivals {seed}")
    for stages in wanted:
        others = [random_table(shape_of(grouping), stages, rng) for _ in range(rivals)]
        best[stages] = min(
            (tables.improve(table, pairs=True) for table in (best[stages], *others)), key=tables.rate
        )
        done += 1
        tell("rivals", best[stages])
    return [tables.as_found(best[stages], f"greedy-{stages}") for stages in wanted]


def cells_of(grouping: Grouping) -> int:
    """The cells of a tile: the most stages it can have.

    Args:
        grouping: channel groups and tile.
    """
    return math.prod(shape_of(grouping))


class Tables:
    """Tables of stages, [groups, rows, columns], with their rates; and what is done to them.

    Args:
        rate: of a layout.
        channels: of y, in even groups.
    """

    def __init__(self, rate: RateOf, channels: int) -> None:
        self._rate, self._channels = rate, channels
        self._known: dict[bytes, float] = {}

    def layout(self, table: Array, name: str = "table") -> Layout:
        """A table as a layout.

        Args:
            table: stage of every cell, [groups, rows, columns].
            name: name of the layout.
        """
        return tiled_layout(self._channels, table, name)

    def as_found(self, table: Array, name: str) -> Found:
        """A table as a layout that was found, with its rate.

        Args:
            table: stage of every cell, [groups, rows, columns].
            name: name of the layout.
        """
        return Found(self.layout(table, name).reduced(), self.rate(table), table)

    def rate(self, table: Array) -> float:
        """The rate of y under a table, measured once for each table.

        Args:
            table: stage of every cell, [groups, rows, columns].

        Returns:
            In bpp.
        """
        key = table.tobytes()
        if key not in self._known:
            self._known[key] = self._rate(self.layout(table))
        return self._known[key]

    def merge(self, table: Array) -> Array:
        """One stage fewer: of all merges of two adjacent stages, the one of least rate.

        Args:
            table: stage of every cell, [groups, rows, columns].

        Returns:
            In the shape of `table`.
        """
        options = [table - (table > stage) for stage in range(int(table.max()))]
        return min(options, key=self.rate)

    def split(self, table: Array) -> Array:
        """One stage more: of all cells that can leave a stage for one of their own, the one of least rate.

        Args:
            table: stage of every cell, [groups, rows, columns].

        Returns:
            In the shape of `table`.
        """
        options = []
        for cell in np.ndindex(table.shape):
            if (table == table[cell]).sum() > 1:
                for after in (0, 1):
                    option = table + (table >= table[cell] + after)
                    option[cell] = table[cell] + after
                    options.append(option)
        return min(options, key=self.rate)

    def improve(self, table: Array, *, pairs: bool = False) -> Array:
        """Move single cells while that helps; with `pairs` exchange cells too, until nothing does.

        A cell that is alone in its stage takes it along to another place in the order.

        Args:
            table: stage of every cell, [groups, rows, columns].
            pairs: also exchange the stages of two cells.
        """
        while True:
            better = self._sweep(table, _moved)
            if better is None and pairs:
                better = self._sweep(table, _exchanged)
            if better is None:
                return table
            table = better

    def _sweep(self, table: Array, change: Callable[[Array, tuple[int, ...]], list[Array]]) -> Array | None:
        """Every cell once, each changed for the better where it can be; None where none could."""
        improved = None
        for cell in np.ndindex(table.shape):
            best = min(change(table, cell), key=self.rate, default=table)
            if self.rate(best) < self.rate(table) * (1 - GAIN):
                table = improved = best
        return improved


def _moved(table: Array, cell: tuple[int, ...]) -> list[Array]:
    """The tables with one cell at every other place; all have as many stages."""
    own, last = table[cell], int(table.max())
    alone = (table == own).sum() == 1
    options = []
    for stage in range(last + 1):
        option = table - (table > own) if alone else table.copy()
        if alone:
            option += option >= stage
        option[cell] = stage
        options.append(option)
    return options


def _exchanged(table: Array, cell: tuple[int, ...]) -> list[Array]:
    """The tables in which one cell and a later one of another stage have changed places."""
    options = []
    for other in np.ndindex(table.shape):
        if other > cell and table[other] != table[cell]:
            option = table.copy()
            option[cell], option[other] = table[other], table[cell]
            options.append(option)
    return options


def shape_of(grouping: Grouping) -> tuple[int, int, int]:
    """Groups, rows and columns of the tile.

    Args:
        grouping: channel groups and tile.
    """
    return (grouping.groups, *grouping.tile)


def fine_orders(grouping: Grouping, rng: random.Random) -> Iterator[Array]:
    """Orders in which every cell is a stage of its own, without end.

    By position with all groups of one in a row; by channel group, and then by position; in checkerboards,
    half of the positions group by group before the other half; then random ones.

    Args:
        grouping: channel groups and tile.
        rng: generator of the random numbers.

    Returns:
        Tables of stages, [groups, rows, columns].
    """
    groups, rows, columns = shape_of(grouping)
    cells = list(np.ndindex(groups, rows, columns))
    for key in (
        lambda cell: (cell[1], cell[2], cell[0]),
        lambda cell: cell,
        lambda cell: ((cell[1] + cell[2]) % 2, cell[0], cell[1], cell[2]),
    ):
        yield _ordered(sorted(cells, key=key), (groups, rows, columns))
    while True:
        rng.shuffle(cells)
        yield _ordered(cells, (groups, rows, columns))


def _ordered(cells: list[tuple[int, ...]], shape: tuple[int, ...]) -> Array:
    table = np.zeros(shape, dtype=np.int64)
    for stage, cell in enumerate(cells):
        table[cell] = stage
    return table
