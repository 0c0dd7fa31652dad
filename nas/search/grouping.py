"""Greedy grouping: layouts of few stages whose rate is lowest on calibration latents.

From a fine order (every cell of the tile a stage of its own) two adjacent stages are merged, always those
that cost least rate; where a wanted number of stages is reached, single cells are moved between stages
while it helps. That gives one nested ladder of layouts; several fine orders are tried, the better kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas import resources
from nas.files import write_yaml
from nas.graph.entropy import bits
from nas.graph.layout import Array, Layout, tiled_layout
from nas.search.evaluator import Evaluator
from nas.space import Architecture, Grouping, SearchSpace

Rate = Callable[[Layout], float]
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Grouped:
    """A layout that grouping found, and the rate of y under it on the calibration latents, in bpp."""

    layout: Layout
    bpp: float


def layout_rate(evaluator: Evaluator, architecture: Architecture, *, side: int = 24, photos: int = 4) -> Rate:
    """The rate of y as a function of the layout alone, on fixed latents of one architecture.

    Args:
        evaluator: holds the supernet and the calibration photos.
        architecture: whose latents and widths are used.
        side: at most so many latents across are used, from the middle of each photo.
        photos: at most so many photos are used.
    """
    crops = []
    for index in range(min(photos, len(evaluator.photos))):
        psi, y_hat = evaluator.latents(index, architecture)
        height, width = y_hat.shape[-2:]
        top, left = max(0, height - side) // 2, max(0, width - side) // 2
        crops.append([part[..., top : top + side, left : left + side] for part in (psi, y_hat)])
    net = evaluator.supernet

    @torch.no_grad()
    def rate(layout: Layout) -> float:
        net.activate(architecture)
        total, pixels = 0.0, 0
        for psi, y_hat in crops:
            scales, means = net.context(psi, y_hat, layout)
            total += float(bits(net.gaussian.likelihood(y_hat, scales, means)).sum())
            pixels += 256 * y_hat.shape[-2] * y_hat.shape[-1]
        return total / pixels

    return rate


def greedy_layouts(
    rate: Rate,
    channels: int,
    grouping: Grouping,
    *,
    starts: int = 2,
    seed: int = 0,
    report: Report = lambda done, total, note: None,
) -> list[Grouped]:
    """The best layout found for each wanted number of stages, from many stages to few.

    Args:
        rate: what is minimised.
        channels: channels of y.
        grouping: the tile, its groups, and the numbers of stages to keep.
        starts: fine orders tried; the first is by position, then by group; the others are random.
        seed: of the random orders.
    """
    cells = grouping.groups * grouping.tile[0] * grouping.tile[1]
    wanted = sorted({stages for stages in grouping.stages if 1 <= stages <= cells}, reverse=True)
    total = starts * sum(range(1, cells))  # merges; moves are extra
    best: dict[int, Grouped] = {}
    done = 0
    for table in _fine_orders(grouping, starts, random.Random(seed)):
        search = _Search(rate, channels)
        for stages in range(cells, 0, -1):
            if stages < cells:
                table = search.merge(table)
            done += stages - 1
            if stages in wanted:
                table = search.move(table)
                found = Grouped(search.layout(table, f"greedy-{stages}"), search.rate(table))
                if stages not in best or found.bpp < best[stages].bpp:
                    best[stages] = found
                if stages == wanted[-1]:
                    break
            report(done, total, f"{stages} stages  {search.rate(table):.4f} bpp")
    report(total, total, "")
    return [best[stages] for stages in wanted]


class _Search:
    """Tables of stages with their rates, each computed once."""

    def __init__(self, rate: Rate, channels: int) -> None:
        self._rate, self._channels = rate, channels
        self._known: dict[bytes, float] = {}

    def layout(self, table: Array, name: str = "greedy") -> Layout:
        return tiled_layout(self._channels, table, name)

    def rate(self, table: Array) -> float:
        key = table.tobytes()
        if key not in self._known:
            self._known[key] = self._rate(self.layout(table))
        return self._known[key]

    def merge(self, table: Array) -> Array:
        """One stage fewer: of all merges of two adjacent stages, the one of least rate."""
        options = [table - (table > stage) for stage in range(int(table.max()))]
        return min(options, key=self.rate)

    def move(self, table: Array) -> Array:
        """Move single cells to other stages while it helps; no stage is left empty."""
        improved = True
        while improved:
            improved = False
            for cell in np.ndindex(table.shape):
                if (table == table[cell]).sum() == 1:
                    continue
                options = [_with(table, cell, stage) for stage in range(int(table.max()) + 1)]
                best = min(options, key=self.rate)
                if self.rate(best) < self.rate(table) * (1 - 1e-6):
                    table, improved = best, True
        return table


def _with(table: Array, cell: tuple[int, ...], stage: int) -> Array:
    changed = table.copy()
    changed[cell] = stage
    return changed


def _fine_orders(grouping: Grouping, starts: int, rng: random.Random) -> Iterator[Array]:
    shape = (grouping.groups, *grouping.tile)
    cells = int(np.prod(shape))
    # positions one after the other, all groups of a position in a row
    yield np.arange(cells).reshape(*grouping.tile, grouping.groups).transpose(2, 0, 1).copy()
    for _ in range(starts - 1):
        order = list(range(cells))
        rng.shuffle(order)
        yield np.array(order).reshape(shape)


def write_layouts(path: Path, found: Sequence[Grouped], facts: dict[str, Any]) -> None:
    """The table of greedy layouts, with their rates and what they were found on."""
    entries = [
        {"name": g.layout.name, "bpp": g.bpp, "stages": g.layout.stages(), **g.layout.to_dict()}
        for g in found
    ]
    write_yaml(path, {**facts, "layouts": entries})


def has_layouts(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a table of greedy layouts for these facts exists."""
    if not path.is_file():
        return False
    content = resources.read_yaml(path)
    return all(content.get(name) == value for name, value in facts.items())


def wants_grouping(space: SearchSpace) -> bool:
    """Whether a space leaves its layout open: a space of one layout has nothing to group."""
    return space.family.context and len(space.layouts) > 1
