"""Layouts: the stage in which each element of y is decoded. No torch here.

A layout is a slope and a tile::

    stage(g, i, j) = slope . (i, j) + tile[g, i mod R, j mod C]

for channel group g, row i and column j. All elements of one stage are decoded in parallel. An element can
read another one as context if that one has an earlier stage and lies in its window, in any channel group,
also at the same position. The papers call this the multipartite graph of y (BaSIC, ECCV 2024).

A layout also says how elements read their context: by a convolution over the window, or by a table, which
costs no MACs and reads only the nearest elements of the same channel (`graph.scale_table`).
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from operator import index
from typing import Any, Literal

import numpy as np

from nas.support.arrays import Array
from nas.support.errors import InputError, nearest
from nas.support.limits import MOST_CHANNELS, MOST_STEPS, MOST_TILE
from nas.support.resources import RENEWED

Tile = tuple[tuple[tuple[int, ...], ...], ...]
ContextKind = Literal["convolution", "table"]

# Rows and columns of y at the size for which stages and costs are given: 768x512 pixels, 16 per element.
REFERENCE_LATENT = (32, 48)

# Offsets (row, column) of the positions next to an element: straight ones first, then diagonal ones.
STRAIGHT, DIAGONAL = ((-1, 0), (0, -1), (0, 1), (1, 0)), ((-1, -1), (-1, 1), (1, -1), (1, 1))
AROUND = (*STRAIGHT, *DIAGONAL)

FIELDS = ("groups", "slope", "tile", "context")  # fields of a layout in a file
TABLE = "-table"  # suffix of the names of layouts whose context is a table


@dataclass(frozen=True)
class Block:
    """The channel groups that are decoded together: those that share a stage at one cell of the tile.

    Attributes:
        row, column: the cell of the tile.
        stage: the stage of the block at the tile's first position.
        groups: numbers of its channel groups.
        visible: whether a group is decoded before this block at an offset of the window, [groups, window,
            window].
        known: whether a group at the same position has the same stage or an earlier one, [groups].
    """

    row: int
    column: int
    stage: int
    groups: tuple[int, ...]
    visible: Array
    known: Array


@dataclass(frozen=True)
class Layout:
    """An order of decoding. It is hashable, and equal layouts decode alike.

    Args:
        groups: number of channels of each group. They add up to the channels of y.
        slope: steps per row and per column.
        tile: stage offsets, [groups, rows, columns].
        name: name for people. It is not part of the layout's identity.
        context: how elements read previously decoded ones.

    Raises:
        InputError: stages are negative or missing, the groups are impossible, the tile is ragged, or a table
            has nothing to read.
    """

    groups: tuple[int, ...]
    slope: tuple[int, int]
    tile: Tile
    name: str = ""
    context: ContextKind = "convolution"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return (self.groups, self.slope, self.tile, self.context)

    def __post_init__(self) -> None:
        table = self.table
        if not self.groups or any(size < 1 for size in self.groups):
            raise InputError(f"Layout groups must be positive channel counts, not {list(self.groups)}.")
        if len(self.slope) != 2 or any(step < 0 for step in self.slope):
            raise InputError(
                f"A layout's slope must be two whole numbers that are not negative, not {self.slope}."
            )
        if max(self.slope) > MOST_STEPS or self.channels > MOST_CHANNELS:
            raise InputError(
                f"A layout has at most {MOST_CHANNELS} channels and {MOST_STEPS} steps of slope, not "
                f"{self.channels} and {max(self.slope)}."
            )
        if table.ndim != 3 or table.size == 0:
            raise InputError("A layout's tile is a list of groups, each a list of rows of stage numbers.")
        if len(table) != len(self.groups):
            raise InputError(
                f"The tile has {len(table)} groups, but `groups` lists {len(self.groups)}: both need the "
                "same number."
            )
        if max(table.shape[1:]) > MOST_TILE or table.max() > MOST_STEPS:
            raise InputError(
                f"A tile has at most {MOST_TILE} rows and columns with stages up to {MOST_STEPS}, not "
                f"{table.shape[1]}x{table.shape[2]} with stages up to {table.max()}."
            )
        if table.min() < 0:
            raise InputError(f"Stage {table.min()} in the tile is negative: stages start at 0.")
        if self.slope == (0, 0):
            missing = sorted(set(range(int(table.max()) + 1)) - set(table.ravel().tolist()))
            if missing:
                raise InputError(
                    f"Stage {missing[0]} is missing from the tile: number the stages 0 to n - 1."
                )
        if self.context == "table" and not self.around.any():
            raise InputError(
                f"Under the layout '{self.name}', no element has a neighbour of its own channel that is "
                "decoded before it, so a table has no context: use another layout, such as "
                "checkerboard-table."
            )

    @cached_property
    def table(self) -> Array:
        """The tile as an array [groups, rows, columns].

        Raises:
            InputError: a stage's number is too large, or groups have different rows or columns.
        """
        try:
            return np.array(self.tile, dtype=np.int64)
        except OverflowError as error:
            raise InputError(f"A stage's number in the tile is at most {MOST_STEPS}.") from error
        except (ValueError, TypeError) as error:
            raise InputError("The tile's groups must all have the same rows and columns.") from error

    @property
    def channels(self) -> int:
        """Number of channels of y."""
        return sum(self.groups)

    @cached_property
    def group_of_channel(self) -> Array:
        """The channel group of every channel of y, [channels]."""
        return np.repeat(np.arange(len(self.groups)), self.groups)

    def stage_map(self, height: int, width: int) -> Array:
        """The stage of every element of the latent, [groups, height, width].

        Args:
            height: rows of the latent.
            width: columns of the latent.
        """
        rows, columns = np.arange(height), np.arange(width)
        _, tile_rows, tile_columns = self.table.shape
        tiled = self.table[:, (rows % tile_rows)[:, None], (columns % tile_columns)[None]]
        ramp = self.slope[0] * rows[:, None] + self.slope[1] * columns
        return np.asarray(tiled + ramp)

    def stages(self, height: int = REFERENCE_LATENT[0], width: int = REFERENCE_LATENT[1]) -> int:
        """The number of serial decoding steps for a latent of this size, by default that of 768x512 pixels.

        Args:
            height: rows of the latent.
            width: columns of the latent.
        """
        return len(np.unique(self.stage_map(height, width)))

    @cached_property
    def has_context(self) -> bool:
        """Whether any element of y is decoded before another."""
        return len(np.unique(self.table)) > 1 or self.slope != (0, 0)

    @cached_property
    def around(self) -> Array:
        """Which neighbours of the same channel are decoded before each element.

        [8, groups, rows, columns], with the neighbours in the order of `AROUND`.
        """
        table, ramp = self.table, np.array(self.slope)
        near = [np.roll(table, (-row, -column), (1, 2)) + ramp @ (row, column) for row, column in AROUND]
        earlier: Array = np.stack(near) < table
        return earlier

    @property
    def of_network(self) -> Layout:
        """The order in which the entropy parameters' network runs. With a table, it has a single stage."""
        return self if self.context == "convolution" else named_layout("none", self.channels)

    def blocks(self, window: int) -> tuple[Block, ...]:
        """The blocks of one tile in an order in which they can be computed, for a width of the window."""
        return _blocks(self, window)

    def reduced(self) -> Layout:
        """The same order of decoding with the fewest channel groups and the smallest tile."""
        groups: list[int] = []
        kept: list[Array] = []
        for size, rows in zip(self.groups, self.table, strict=True):
            if kept and (kept[-1] == rows).all():
                groups[-1] += size
            else:
                groups.append(size)
                kept.append(rows)
        table = np.stack(kept)
        for axis in (1, 2):
            count = table.shape[axis]
            periods = [n for n in range(1, count + 1) if count % n == 0]
            least = next(n for n in periods if (np.roll(table, n, axis) == table).all())
            table = table.take(range(least), axis)
        return Layout(tuple(groups), self.slope, _as_tile(table), self.name, self.context)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON. `Layout.from_dict` reads them."""
        return {
            "groups": list(self.groups),
            "slope": list(self.slope),
            "tile": self.table.tolist(),
            **({"context": self.context} if self.context == "table" else {}),
        }

    @classmethod
    def from_dict(cls, content: Any, *, name: str = "custom") -> Layout:
        """Make a layout from `{groups, slope, tile, context}`, as in YAML.

        Args:
            content: the mapping as read from YAML.
            name: name of the layout.

        Raises:
            InputError: the mapping is not a layout.
        """
        allowed = set(FIELDS)
        if not isinstance(content, dict) or not {"groups", "tile"} <= set(content) <= allowed:
            raise InputError(f"Layout '{name}' must be {{groups: [...], slope: [0, 0], tile: [[[...]]]}}.")
        try:
            groups = tuple(index(size) for size in content["groups"])
            slope = tuple(index(step) for step in content.get("slope", (0, 0)))
            tile = tuple(tuple(tuple(index(v) for v in row) for row in rows) for rows in content["tile"])
        except (TypeError, ValueError) as error:
            raise InputError(f"Layout '{name}' holds something that is not a whole number.") from error
        if len(slope) != 2:
            raise InputError(f"The slope of layout '{name}' needs two numbers, rows then columns.")
        context = content.get("context", "convolution")
        if context not in ("convolution", "table"):
            raise InputError(f"The context of layout '{name}' is convolution or table, not '{context}'.")
        return cls(groups, (slope[0], slope[1]), tile, name, context)


def read_layouts(source: object, entries: Any) -> list[Layout]:
    """Read named layouts from a list of `{name, groups, slope, tile, context}`. Other fields are ignored.

    Args:
        source: where the list comes from, for messages.
        entries: the list.

    Raises:
        InputError: an entry is not a layout.
    """
    layouts = []
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or "name" not in entry:
            raise InputError(f"{source} is damaged: {RENEWED}.")
        fields = {key: entry[key] for key in FIELDS if key in entry}
        try:
            layouts.append(Layout.from_dict(fields, name=str(entry["name"])))
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    return layouts


@lru_cache(maxsize=4096)
def _blocks(layout: Layout, window: int) -> tuple[Block, ...]:
    table, reach = layout.table, window // 2
    _, rows, columns = table.shape
    offsets = np.arange(-reach, reach + 1)
    blocks = []
    for row in range(rows):
        for column in range(columns):
            near = table[:, ((row + offsets) % rows)[:, None], ((column + offsets) % columns)[None]]
            near = near + (layout.slope[0] * offsets[:, None] + layout.slope[1] * offsets)
            here = table[:, row, column]
            for stage in np.unique(here):
                members = tuple(np.flatnonzero(here == stage).tolist())
                blocks.append(Block(row, column, int(stage), members, near < stage, here <= stage))
    return tuple(sorted(blocks, key=lambda block: (block.stage, block.row, block.column)))


# Named layouts. Each function takes the channels of y and the width of the context window.


def _even(channels: int, parts: int) -> tuple[int, ...]:
    if not 1 <= parts <= channels:
        raise InputError(
            f"{channels} channels cannot be cut into {parts} groups: choose 1 to {channels} groups."
        )
    bounds = [round(k * channels / parts) for k in range(parts + 1)]
    return tuple(b - a for a, b in itertools.pairwise(bounds))


def _none(channels: int, window: int) -> Layout:
    return Layout((channels,), (0, 0), (((0,),),), "none")


def _checkerboard(channels: int, window: int) -> Layout:
    return Layout((channels,), (0, 0), (((0, 1), (1, 0)),), "checkerboard")


def _interlaced(channels: int, window: int) -> Layout:
    tile = (((0, 1), (1, 0)), ((1, 0), (0, 1)))
    return Layout(_even(channels, 2), (0, 0), tile, "checkerboard-interlaced")


def _raster(channels: int, window: int) -> Layout:
    # The least slope at which everything above in the window comes earlier. Dependencies and bits are those
    # of one element after the other, in W + slope * (H - 1) steps.
    return Layout((channels,), (window // 2 + 1, 1), (((0,),),), "raster")


def _zigzag(channels: int, window: int) -> Layout:
    return Layout((channels,), (1, 1), (((0,),),), "zigzag")


def _raster_2x2(channels: int, window: int) -> Layout:
    return Layout((channels,), (0, 0), (((0, 1), (2, 3)),), "raster-2x2")


def _multistage_4x4(channels: int, window: int) -> Layout:
    # The order that Lin et al. optimised for 4x4 patches (ICASSP 2023, arXiv 2302.09263), from their release.
    tile = ((0, 2, 5, 4), (1, 7, 11, 8), (6, 12, 13, 10), (3, 14, 15, 9))
    return Layout((channels,), (0, 0), (tile,), "multistage-4x4")


def _random(channels: int, stages: int) -> Layout:
    # one draw for each number of stages, the same on every machine
    if not 1 <= stages <= 4 * channels:
        raise InputError(f"random-S needs S from 1 to {4 * channels} stages here, not {stages}.")
    groups, name = max(4, -(-stages // 4)), f"random-{stages}"
    return tiled_layout(channels, random_table((groups, 2, 2), stages, random.Random(name)), name).reduced()


def _channelwise(channels: int, parts: int) -> Layout:
    tile = tuple(((k,),) for k in range(parts))
    return Layout(_even(channels, parts), (0, 0), tile, f"channelwise-{parts}")


def _channelwise_checkerboard(channels: int, parts: int) -> Layout:
    tile = tuple(((2 * k, 2 * k + 1), (2 * k + 1, 2 * k)) for k in range(parts))
    return Layout(_even(channels, parts), (0, 0), tile, f"channelwise-{parts}-checkerboard")


def _elic_10(channels: int, window: int) -> Layout:
    # ELIC's uneven groups (He et al., CVPR 2022): 16, 16, 32, 64 and the rest; scaled below 192 channels.
    unit = 16 if channels >= 192 else max(1, channels // 12)
    groups = (unit, unit, 2 * unit, 4 * unit, channels - 8 * unit)
    if groups[-1] < 1:
        raise InputError(
            f"elic-10 needs at least 9 channels of y, but there are {channels}: use another layout."
        )
    tile = tuple(((2 * k, 2 * k + 1), (2 * k + 1, 2 * k)) for k in range(5))
    return Layout(groups, (0, 0), tile, "elic-10")


_PLAIN: dict[str, Callable[[int, int], Layout]] = {
    "none": _none,
    "checkerboard": _checkerboard,
    "checkerboard-interlaced": _interlaced,
    "raster": _raster,
    "zigzag": _zigzag,
    "raster-2x2": _raster_2x2,
    "elic-10": _elic_10,
    "multistage-4x4": _multistage_4x4,
}

# Names with a number: K groups, S stages.
_NUMBERED: dict[str, Callable[[int, int], Layout]] = {
    "channelwise-K": _channelwise,
    "channelwise-K-checkerboard": _channelwise_checkerboard,
    "random-S": _random,
}

# Layouts that only a run can make, with the number of stages in the name.
MADE_IN_RUNS = ("greedy", "learned")


def layout_names() -> list[str]:
    """The names that `named_layout` knows. K stands for a number of channel groups, S for a number of stages.

    With `-table` at its end, each name means the same order with a table for context.
    """
    return [*_PLAIN, *_NUMBERED]


def named_layout(name: str, channels: int, window: int = 5) -> Layout:
    """Make a layout from its name.

    Args:
        name: one of `layout_names()`, with numbers in place of K and S.
        channels: number of channels of y.
        window: width of the context window, on which the slope of raster depends.

    Raises:
        InputError: the name is unknown, or the channels do not allow the groups.
    """
    if name.endswith(TABLE):
        order = named_layout(name.removesuffix(TABLE), channels, window)
        return replace(order, name=name, context="table")
    if name in _PLAIN:
        return _PLAIN[name](channels, window)
    for pattern, build in _NUMBERED.items():
        if match := re.fullmatch(re.sub("[KS]", "([0-9]{1,4})", pattern), name):
            return build(channels, int(match[1]))
    if re.fullmatch(rf"({'|'.join(MADE_IN_RUNS)})-[0-9]+", name):
        raise InputError(
            f"'{name}' is made by a run's search: look at RUN/search/layouts.yaml with `nas info`, or "
            "copy it from there."
        )
    raise InputError(f"There is no layout named '{name}': {nearest(name, layout_names())}")


def tiled_layout(channels: int, table: Array, name: str) -> Layout:
    """Make a layout with groups of equal size from stages, [groups, rows, columns]. Gaps are closed.

    Args:
        channels: channels of y.
        table: stage of every cell, [groups, rows, columns].
        name: name of the layout.
    """
    return Layout(_even(channels, len(table)), (0, 0), _as_tile(closed(table)), name)


def closed(table: Array) -> Array:
    """Close gaps in the numbering of stages. The order stays the same.

    Args:
        table: stage of every cell, [groups, rows, columns].

    Returns:
        In the shape of `table`.
    """
    return np.unique(table, return_inverse=True)[1].reshape(table.shape)


def random_table(shape: tuple[int, int, int], stages: int, rng: random.Random) -> Array:
    """Draw a random stage for every cell, [groups, rows, columns], so that every stage has a cell.

    Args:
        shape: number of channel groups, rows and columns.
        stages: number of stages, at most the number of cells.
        rng: generator of the random numbers.
    """
    cells = [*range(stages), *(rng.randrange(stages) for _ in range(math.prod(shape) - stages))]
    rng.shuffle(cells)
    return np.array(cells).reshape(shape)


def _as_tile(table: Array) -> Tile:
    return tuple(tuple(map(tuple, rows)) for rows in table.tolist())


def random_layout(
    channels: int, groups: int, tile: tuple[int, int], stages: int, rng: random.Random
) -> Layout:
    """Draw one of at most `stages` stages for every cell of a tile, independently.

    Args:
        channels: channels of y.
        groups: number of channel groups.
        tile: rows and columns of the tile.
        stages: the most stages that the tile may have.
        rng: generator of the random numbers.
    """
    table = np.array([rng.randrange(stages) for _ in range(groups * tile[0] * tile[1])])
    return tiled_layout(channels, table.reshape(groups, *tile), "random")


def feature_channel(features: int, channels: int) -> Array:
    """The channel of y that each feature of context prediction belongs to, [features].

    If the number of features is a multiple of the channels, they repeat the channels, like the two features
    per channel in CompressAI. Any other number is spread over the channels like hidden units.

    Args:
        features: number of features.
        channels: channels of y.
    """
    if features % channels == 0:
        return np.arange(features) % channels
    return unit_channel(features, channels)


def unit_channel(units: int, channels: int) -> Array:
    """The channel of y that each hidden unit of the entropy parameters belongs to, [units].

    The stride is near the golden ratio and coprime to the channels. Every prefix of the units therefore
    covers all channel groups evenly, whatever the layout and the width.

    Args:
        units: number of hidden units.
        channels: channels of y.
    """
    stride = max(1, round(0.618 * channels))
    while math.gcd(stride, channels) != 1:
        stride += 1
    return (stride * np.arange(units)) % channels
