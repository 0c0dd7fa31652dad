"""A layout as a picture: a small grid for every kind of channel group, its cells coloured by stage."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nas.report.structure.layout_text import channels_text, kinds_of_tiles, slope_text
from nas.report.style import FAINT, INK
from nas.spaces.layout import Layout

# Everything is placed in inches from the top left corner.
PANEL, MARGIN, LINE = 3.3, 0.35, 0.17
LETTER = 0.064  # width of a letter of small text, estimated generously
_CELL, _PIECE_GAP = 0.27, 0.2
_NUMBERED = 0.17  # narrower cells cannot hold their stage as a number
_CORNER = (5, 8)  # rows and columns of y that are drawn if stages rise over the picture
_SHADES = "YlGnBu"  # light to dark in steps that survive grey printing


class Sheet:
    """An empty figure that pyplot does not manage. Its axes are in inches from the top left corner.

    Args:
        width: width of the figure, in inches.
        height: height of the figure, in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.set_axis_off()

    def text(self, x: float, y: float, text: str, *, formula: bool = False, **style: Any) -> None:
        """Write a line of text, centred on y. Only formulas are read as mathematics, not names of layouts.

        Args:
            x: horizontal place, in inches from the left.
            y: vertical place, in inches from the top.
            text: the text.
            formula: whether the text is a formula.
            **style: settings of the text for matplotlib.
        """
        self.axes.text(x, y, text, parse_math=formula, **{"va": "center", **style})


def layout_figure(layout: Layout) -> Figure:
    """The figure of a single layout."""
    panel = Panel(layout)
    page = Sheet(PANEL + MARGIN, panel.height + 0.45)
    panel.draw(page, MARGIN, 0.25)
    return page.figure


class Panel:
    """A layout as small grids, one for every kind of channel group, with cells coloured by stage."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rises = layout.slope != (0, 0)
        where = "by channels of y" + (", in its first rows and columns" if self.rises else "")
        what = f"the stage of each position, {where}"
        self.name = textwrap.wrap(f"layout {layout.name}", 36)
        self.lines = [*textwrap.wrap(slope_text(layout), 46), *textwrap.wrap(what, 46)]
        rows, columns = layout.table.shape[1:]
        if self.rises:
            rows, columns = max(rows, _CORNER[0]), max(columns, _CORNER[1])
        stages = layout.stage_map(rows, columns)
        self.most = max(1, int(stages.max()))
        self.cell = min(_CELL, (PANEL - MARGIN) / columns)
        # for each grid: its heading, its stages [rows, columns], its place in the panel
        self.pieces: list[tuple[list[str], Any, float, float]] = []
        self.height = self._flow([(groups, stages[groups[0]]) for _, groups in kinds_of_tiles(layout)])

    def _flow(self, kinds: Sequence[tuple[list[int], Any]]) -> float:
        """Place the grids in rows. Returns the height of the panel."""
        columns = max(17, kinds[0][1].shape[1] * 4)  # letters over a grid, at least three ranges of channels
        named = [channels_text(self.layout, groups).removeprefix("channels ") for groups, _ in kinds]
        headings = [textwrap.wrap(name, columns) for name in named]
        letters = max(len(line) for heading in headings for line in heading)
        wide = max(kinds[0][1].shape[1] * self.cell, LETTER * letters)
        x, y, tallest = 0.0, 0.12 + 0.21 * len(self.name) + LINE * len(self.lines) + 0.05, 0.0
        for heading, (_, stages) in zip(headings, kinds, strict=True):
            if x and x + wide > PANEL - MARGIN:
                x, y, tallest = 0.0, y + tallest + _PIECE_GAP, 0.0
            self.pieces.append((heading, stages, x, y))
            x += wide + _PIECE_GAP
            tallest = max(tallest, 0.15 * len(heading) + stages.shape[0] * self.cell)
        return y + tallest

    def draw(self, page: Sheet, left: float, top: float) -> None:
        """Draw the panel with its top left corner at a place.

        Args:
            page: the figure.
            left: horizontal place of the corner, in inches.
            top: vertical place of the corner, in inches from the top.
        """
        for index, line in enumerate(self.name):
            page.text(left, top + 0.1 + 0.21 * index, line, fontsize=10.5, fontweight="bold")
        below = top + 0.12 + 0.21 * len(self.name)
        for index, line in enumerate(self.lines):
            page.text(left, below + LINE * index, line, fontsize=8.5, color=FAINT)
        for heading, stages, x, y in self.pieces:
            for index, line in enumerate(heading):
                page.text(left + x, top + y + 0.06 + 0.15 * index, line, fontsize=8)
            self._grid(page, left + x, top + y + 0.15 * len(heading), stages)

    def _grid(self, page: Sheet, left: float, top: float, stages: Any) -> None:
        shades = matplotlib.colormaps[_SHADES]
        rows, columns = stages.shape
        for row in range(rows):
            for column in range(columns):
                x, y = left + column * self.cell, top + row * self.cell
                share = float(stages[row, column]) / self.most
                shade = shades(0.05 + 0.85 * share)
                square = Rectangle((x, y), self.cell, self.cell, facecolor=shade, edgecolor="white", lw=0.8)
                page.axes.add_patch(square)
                if self.cell > _NUMBERED:
                    ink, half = "white" if share > 0.5 else INK, self.cell / 2
                    stage = str(stages[row, column])
                    page.text(x + half, y + half, stage, fontsize=8, ha="center", color=ink)
        if self.rises:
            rows, columns = self.layout.table.shape[1:]
        wide, tall = columns * self.cell, rows * self.cell
        page.axes.add_patch(
            Rectangle((left, top), wide, tall, fill=False, edgecolor=INK, linewidth=1.0, zorder=3)
        )
