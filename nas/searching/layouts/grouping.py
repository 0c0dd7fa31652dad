"""Greedy grouping: finds layouts with a low rate on calibration latents, for every number of stages.

A *ladder* goes through the numbers of stages one by one. Downwards, it starts from a fine order, in which
every cell of the tile is a stage of its own, and always merges the two adjacent stages that cost least rate.
Upwards, it starts from one stage, and always gives that cell a stage of its own which gains most. After each
merge or split, single cells move between stages while that helps.

Several ladders are made. At the end, pairs of cells are exchanged in the best layout of each number of
stages, and random tables with as many stages are improved as rivals, because all ladders may end in the same
local optimum.
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

LADDERS, RIVALS = 4, 1  # defaults of `greedy_layouts`
GAIN = 1e-6  # the least relative gain for which a cell is moved


@dataclass(frozen=True)
class FoundLayout:
    """A layout that a search found, and the rate of y under it on the calibration latents.

    Attributes:
        layout: the layout, simplified to the fewest channel groups and the smallest tile.
        bpp: its rate in bits per pixel.
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
) -> list[FoundLayout]:
    """Find the best layout for each wanted number of stages, from many stages to few.

    Args:
        rate: rate of a layout, which is minimised.
        channels: number of channels of y.
        grouping: the tile, its channel groups, and the numbers of stages to keep.
        ladders: number of ladders. The first one splits. The others merge fine orders: by position, by
            channel group, in checkerboards, and then random ones.
        rivals: number of random tables that are improved for each wanted number of stages.
        seed: seed of the random orders and tables.
        report: called with the work done, the total work and a note.
    """
    cells = cells_of(grouping)
    wanted = sorted({stages for stages in grouping.stages if 1 <= stages <= cells}, reverse=True)
    if not wanted:
        return []
    tables, best = StageTables(rate, channels), dict[int, Array]()
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
    """Number of cells of the tile, which is also the largest number of stages that it can have.

    Args:
        grouping: channel groups and tile.
    """
    return math.prod(shape_of(grouping))


class StageTables:
    """Operations on tables of stages, [groups, rows, columns], with a cache of their rates.

    Args:
        rate: returns the rate of a layout.
        channels: number of channels of y, which the groups divide evenly.
    """

    def __init__(self, rate: RateOf, channels: int) -> None:
        self._rate, self._channels = rate, channels
        self._known: dict[bytes, float] = {}

    def layout(self, table: Array, name: str = "table") -> Layout:
        """Convert a table to a layout.

        Args:
            table: stage of every cell, [groups, rows, columns].
            name: name of the layout.
        """
        return tiled_layout(self._channels, table, name)

    def as_found(self, table: Array, name: str) -> FoundLayout:
        """Convert a table to a layout with its rate.

        Args:
            table: stage of every cell, [groups, rows, columns].
            name: name of the layout.
        """
        return FoundLayout(self.layout(table, name).reduced(), self.rate(table), table)

    def rate(self, table: Array) -> float:
        """The rate of y under a table. Each table is measured once.

        Args:
            table: stage of every cell, [groups, rows, columns].

        Returns:
            Bits per pixel.
        """
        key = table.tobytes()
        if key not in self._known:
            self._known[key] = self._rate(self.layout(table))
        return self._known[key]

    def merge(self, table: Array) -> Array:
        """Merge two adjacent stages: of all such merges, return the one with the least rate.

        Args:
            table: stage of every cell, [groups, rows, columns].

        Returns:
            A table with one stage fewer, in the shape of `table`.
        """
        options = [table - (table > stage) for stage in range(int(table.max()))]
        return min(options, key=self.rate)

    def split(self, table: Array) -> Array:
        """Give one cell a stage of its own: of all such splits, return the one with the least rate.

        Args:
            table: stage of every cell, [groups, rows, columns].

        Returns:
            A table with one stage more, in the shape of `table`.
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
        """Move single cells to other stages while that lowers the rate; with `pairs`, also exchange cells.

        A cell that is alone in its stage takes the stage along to another place in the order.

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
        """Visit every cell once and apply its best change. Returns None if no change lowers the rate."""
        improved = None
        for cell in np.ndindex(table.shape):
            best = min(change(table, cell), key=self.rate, default=table)
            if self.rate(best) < self.rate(table) * (1 - GAIN):
                table = improved = best
        return improved


def _moved(table: Array, cell: tuple[int, ...]) -> list[Array]:
    """All tables in which one cell has moved to another stage. The number of stages stays the same."""
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
    """All tables in which one cell and a later cell of another stage have exchanged their stages."""
    options = []
    for other in np.ndindex(table.shape):
        if other > cell and table[other] != table[cell]:
            option = table.copy()
            option[cell], option[other] = table[other], table[cell]
            options.append(option)
    return options


def shape_of(grouping: Grouping) -> tuple[int, int, int]:
    """Number of channel groups, rows and columns of the tile.

    Args:
        grouping: channel groups and tile.
    """
    return (grouping.groups, *grouping.tile)


def fine_orders(grouping: Grouping, rng: random.Random) -> Iterator[Array]:
    """Yield fine orders, in which every cell is a stage of its own, without end.

    The first is by position, with all groups of one position in a row. Then come an order by channel group
    and then position, and a checkerboard: half of the positions group by group before the other half. All
    later ones are random.

    Args:
        grouping: channel groups and tile.
        rng: generator of the random numbers.

    Yields:
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
