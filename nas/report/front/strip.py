"""A strip that shows the structure of a front's architectures: their widths and layouts."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from nas.report.front.costs import View
from nas.report.front.fronts import RunFront
from nas.report.front.scale import lines_of_labels, number
from nas.report.style import (
    FAINT,
    GRID,
    LABEL_GAP,
    LEFT,
    RIGHT,
    WIDTH,
    PanelFigure,
    between_style,
    exported_style,
    front_style,
    quick_style,
)
from nas.spaces.architecture import split_key

_SHARES = "YlGnBu"  # light to dark in steps that survive grey printing

# In inches, so that a strip with any number of rows keeps its proportions
_STRIP_LEFT, _STRIP_RIGHT, _ROW, _WIDEST_CELL = 1.75, 1.35, 0.185, 0.62
_STRIP_ABOVE, _STRIP_BELOW, _BETWEEN = 0.75, 0.15, 0.15
_COST_LINE, _COST_UPRIGHT = 0.19, 0.42  # height of a row of costs, written horizontally or vertically
_COST_GAP = 0.15  # between two vertical costs
_LETTER = 0.066  # width of a letter in a row's name, estimated generously
_DIGIT = 0.09  # width of a digit of a width, which is written if the cell is large enough


class Strip:
    """A run's fronts as a heat map: a column for each architecture, a row for each slot and each layout.

    Above the map, if time is known, marks show which front an architecture is on. Its costs are below the
    map.

    Args:
        run: a run's front.
        view: the costs whose fronts are shown.
    """

    def __init__(self, run: RunFront, view: View) -> None:
        self.run, self.view = run, view
        members = run.members(view)
        on = members[view.macs.flag].eq(True) | members[view.clock.flag].eq(True)
        self.costs = [view.macs, view.clock] if run.timed else [view.macs]
        chosen = [index for cost in self.costs for index in run.chosen(cost).values()]
        self.front = members[on | members.index.isin(chosen)]
        fixed = {slot.name for slot in run.space.slots if len(slot.candidates) == 1} if run.space else set()
        self.slots = [k for k, slot_range in enumerate(run.ranges) if slot_range.slot not in fixed]
        layouts = {
            split_key(key)[1]: stages
            for key, stages in zip(self.front["arch"], self.front["stages"], strict=True)
        }
        self.layouts = sorted(layouts.items(), key=lambda item: (item[1], item[0]))
        self.tops = self._tops()
        names = [self.run.ranges[slot].slot for slot in self.slots] + [name for name, _ in self.layouts]
        self.left = max(_STRIP_LEFT, _LETTER * max(map(len, names), default=0) + 0.35)
        room = WIDTH - self.left - _STRIP_RIGHT
        self.cell = min(_WIDEST_CELL, room / max(1, len(self.front)))

    def _tops(self) -> list[float]:
        """The top of each row, in rows, slots first. There is a small gap between edges."""
        tops, row_top, last = [], 0.0, ""
        for k in self.slots:
            edge = self.run.ranges[k].edge
            row_top += 0.35 if last and edge != last else 0.0
            tops.append(row_top)
            row_top, last = row_top + 1, edge
        row_top += 0.7 if tops else 0.0
        return [*tops, *(row_top + k for k in range(len(self.layouts)))]

    @property
    def rows(self) -> float:
        """Height of the strip, in rows."""
        return self.tops[-1] + 1 if self.tops else 1.0

    @property
    def above(self) -> float:
        """Height of everything above the rows, in inches."""
        return _STRIP_ABOVE + (_ROW if self.run.timed else 0)

    @property
    def cost_line(self) -> float:
        """Height of a row of costs, which are vertical if columns are narrow."""
        return _COST_UPRIGHT if self.cell * self.step < 0.4 else _COST_LINE

    @property
    def step(self) -> int:
        """1 if every column has its costs, 2 if only every other one has room for them, and so on."""
        return math.ceil(_COST_GAP / self.cell)

    @property
    def height(self) -> float:
        """Height of the strip, in inches."""
        below = self.cost_line * len(self.costs) + _STRIP_BELOW
        return self.above + self.rows * _ROW + below + _BETWEEN

    def draw(self, page: PanelFigure, top: float, colour: str, *, with_scale: bool) -> None:
        """Draw the strip with its upper edge `top` inches below the figure's upper edge.

        Args:
            page: the figure.
            top: distance from the upper edge of the figure, in inches.
            colour: colour of the run.
            with_scale: whether to draw the colour scale.
        """
        columns = len(self.front)
        fronts = "fronts are" if self.run.timed else "front is"
        title = f"What the {fronts} made of: {self.run.label}"
        page.text(LEFT - 0.45, top, title, fontsize=11, fontweight="bold", color=colour)
        axes = page.axes(self.left, top + self.above, self.cell * max(1, columns), self.rows * _ROW)
        axes.set_xlim(0, max(1, columns))
        axes.set_ylim(self.rows, 0)
        for side in axes.spines.values():
            side.set_visible(False)
        if columns:
            self._widths(axes)
            self._layouts(axes, colour)
            self._costs(axes)
            self._marks(axes, colour)
        if with_scale:
            self._scale(page, top)

    def _widths(self, axes: Axes) -> None:
        shares = np.array([self.run.shares(key) for key in self.front["arch"]])
        widths = np.array([self.run.widths(key) for key in self.front["arch"]])
        edges = np.arange(len(self.front) + 1)
        numbered = self.cell >= _DIGIT * len(str(widths.max()))
        for slot, top in zip(self.slots, self.tops, strict=False):
            slot_range = self.run.ranges[slot]
            row = shares[:, slot]
            axes.pcolormesh(
                edges,
                [top, top + 1],
                row[None],
                cmap=_SHARES,
                vmin=0,
                vmax=1,
                edgecolors="white",
                linewidth=0.8 if self.cell > 0.1 else 0.2,
            )
            self._beside(axes, top + 0.5, str(slot_range.widest))
            for column, share in enumerate(row) if numbered else ():
                axes.text(
                    column + 0.5,
                    top + 0.53,
                    str(widths[column, slot]),
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if share > 0.55 else "#333333",
                )
        if self.slots:
            self._beside(axes, -0.45, "widest")

    def _beside(self, axes: Axes, row: float, text: str) -> None:
        """Write a remark at the right end of a row."""
        axes.annotate(
            text,
            (1, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=FAINT,
            annotation_clip=False,
        )

    def _layouts(self, axes: Axes, colour: str) -> None:
        names = [split_key(key)[1] for key in self.front["arch"]]
        tops = self.tops[len(self.slots) :]
        for (name, stages), top in zip(self.layouts, tops, strict=True):
            self._beside(axes, top + 0.5, f"{stages} stage{'s' * (stages != 1)}")
            axes.axhline(top + 0.5, color=GRID, linewidth=0.7, zorder=1)
            taken = np.array([column for column, other in enumerate(names) if other == name])
            axes.barh(
                np.full(len(taken), top + 0.5),
                width=1.0 if self.cell < 0.1 else 0.86,
                left=taken + (0.0 if self.cell < 0.1 else 0.07),
                height=0.62,
                color=colour,
                zorder=2,
            )
        labels = [self.run.ranges[slot].slot for slot in self.slots]
        labels += [name for name, _ in self.layouts]
        axes.set_yticks([top + 0.5 for top in self.tops], labels)
        axes.tick_params(axis="y", length=0, labelsize=7.5, pad=4)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)

    def _costs(self, axes: Axes) -> None:
        """Write the costs under the columns, a row for each cost."""
        axes.set_xticks([])
        upright = self.cost_line == _COST_UPRIGHT
        for line, cost in enumerate(self.costs):
            down = -72 * (0.05 + line * self.cost_line)
            axes.annotate(
                f"{cost.name}, {cost.unit}",
                (0, 0),
                xycoords="axes fraction",
                xytext=(-4, down),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=7.5,
            )
            values = self.front[cost.column]
            for column in range(0, len(values), self.step):
                axes.annotate(
                    number(values.iloc[column]),
                    (column + 0.5, 0),
                    xycoords=("data", "axes fraction"),
                    xytext=(0, down),
                    textcoords="offset points",
                    ha="center",
                    va="top",
                    fontsize=7.5,
                    color="#555555",
                    rotation=90 if upright else 0,
                )

    def _marks(self, axes: Axes, colour: str) -> None:
        """Draw marks above the columns: the front of each, the targets it answers, a star for exports."""
        view, first = self.view, -0.45
        if self.run.timed:
            marks = ((view.macs, front_style(colour, "o", 5.5)), (view.clock, quick_style(8)))
            for cost, style in marks:
                on = np.flatnonzero(self.front[cost.flag].eq(True)) + 0.5
                axes.plot(on, [first - 0.2] * len(on), linestyle="none", clip_on=False, **style)
            axes.annotate(
                "on the front",
                (0, first - 0.2),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=7.5,
                annotation_clip=False,
            )
            first -= 1.2
        rows = {index: column for column, index in enumerate(self.front.index)}
        between, ends = (
            [column + 0.5 for index, column in rows.items() if marked.loc[index]]
            for marked in (self.run.between, self.run.exported & ~self.run.between)
        )
        exported = [*between, *ends]
        for places_, style in ((between, between_style(colour, 5)), (ends, exported_style(colour, 6))):
            axes.plot(places_, [first] * len(places_), linestyle="none", clip_on=False, **style)
        budgets: dict[int, list[str]] = {}
        for cost in self.costs:
            for target, index in self.run.chosen(cost).items():
                budgets.setdefault(rows[index], []).append(cost.limit(target))
        places = sorted(budgets)
        plain = [column + 0.5 for column in places if column + 0.5 not in exported]
        axes.plot(plain, [first + 0.05] * len(plain), "v", markersize=4, color="#444444", clip_on=False)
        texts = [", ".join(budgets[column]) for column in places]
        widest = _LETTER * max(map(len, texts), default=0)
        lines = lines_of_labels([column * self.cell for column in places], max(LABEL_GAP, widest))
        for column, text, line in zip(places, texts, lines, strict=True):
            axes.annotate(
                text,
                (column + 0.5, first - 0.05),
                xytext=(0, 6 + 9 * line),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color="#444444",
                annotation_clip=False,
            )

    def _scale(self, page: PanelFigure, top: float) -> None:
        width, right = 1.6, RIGHT + 0.15
        axes = page.axes(WIDTH - right - width, top + 0.02, width, 0.11)
        axes.pcolormesh(np.linspace(0, 1, 101), [0, 1], np.linspace(0, 1, 100)[None], cmap=_SHARES)
        axes.set_yticks([])
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.tick_params(axis="x", length=2, labelsize=7.5, pad=2)
        for side in axes.spines.values():
            side.set_visible(False)
        of = "widest candidate" if self.run.space is not None else "widest seen"
        page.text(
            WIDTH - right - width - 0.2, top + 0.02, f"width / {of}", fontsize=8, color=FAINT, ha="right"
        )
