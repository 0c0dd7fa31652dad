"""The front as a figure: loss, rate and PSNR against cost, and what every architecture on it is made of."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nas.files import write_atomically
from nas.report.fronts import RunFront, check, loss_formula, split_key
from nas.report.scale import cost_scale, measure_scale, number, spread, tick_labels

# Okabe and Ito's colours, told apart by every kind of colour vision; the marker repeats the distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#56B4E9", "#E69F00", "#444444")
MARKERS = ("o", "s", "^", "v", "P", "X", "h")
_SHARES = "YlGnBu"  # light to dark in steps that survive grey printing
INK, FAINT, GRID = "#222222", "#777777", "#E6E6E6"
STYLE = {
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "nas",
}

# Everything below is placed in inches, so that a strip of any number of rows keeps its proportions.
_WIDTH, _LEFT, _RIGHT = 12.0, 0.75, 0.3
_PLOTS, _MAIN, _GUTTER, _BELOW = 4.6, 6.9, 0.8, 0.65
_STRIP_LEFT, _STRIP_RIGHT, _ROW, _WIDEST_CELL = 1.75, 1.35, 0.185, 0.62
_STRIP_ABOVE, _STRIP_BELOW, _BETWEEN = 0.75, 0.62, 0.15
_LABEL_GAP = 0.62  # between the centres of two labels of budgets on one line
_LETTER = 0.066  # a letter of a row's name, rather too much than too little
_COST_GAP = 0.15  # and of two upright costs under a strip
_NUMBERED_CELL = 0.27  # narrower cells cannot hold their width as a number
_MANY_POINTS = 500  # drawn as pixels inside the SVG, which would weigh megabytes otherwise


def draw_front(fronts: Sequence[RunFront], *, scope: str = "total") -> Figure:
    """The fronts of one run or several in one figure.

    Above: loss, rate and PSNR against cost in kMAC per pixel at 768x512, a colour for each run. Below: a
    strip for each run, one column for each architecture of its front, with its widths and its layout.

    Args:
        fronts: at least one run.
        scope: whose cost counts: `encoder`, `decoder` or `total`; the runs' targets are in it too.

    Returns:
        A figure of its own, which pyplot does not know; `figure.savefig` writes it.

    Raises:
        InputError: an unknown scope, or no run.
    """
    check(fronts, scope)
    with matplotlib.style.context(["default", STYLE]):
        return _draw(fronts, scope)


def save_front(fronts: Sequence[RunFront], folder: Path, scope: str = "total") -> tuple[Path, Path]:
    """Write `pareto.png` (150 dpi) and `pareto.svg` (text stays text); the same fronts give the same bytes.

    Returns:
        The paths of the two files.

    Raises:
        InputError: an unknown scope, or no run.
    """
    check(fronts, scope)
    paths = (folder / "pareto.png", folder / "pareto.svg")
    with matplotlib.style.context(["default", STYLE]):
        write_figure(_draw(fronts, scope), paths)
    return paths


def write_figure(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure, each file in the format of its name; equal figures are equal files."""
    for path in paths:
        kind = path.suffix[1:].lower()
        dates = {"svg": "Date", "pdf": "CreationDate"}  # they would say when it was made
        metadata = {dates[kind]: None} if kind in dates else {}
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
        write_atomically(path, buffer.getvalue())


@dataclass(frozen=True)
class _Page:
    """A figure whose axes are placed in inches from its top left corner."""

    figure: Figure
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        box = (left / _WIDTH, bottom / self.height, width / _WIDTH, height / self.height)
        return self.figure.add_axes(box)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        # `parse_math` off: names of runs come from folders, and a folder may be called $x$.
        self.figure.text(left / _WIDTH, 1 - top / self.height, text, va="top", parse_math=False, **style)


def _draw(fronts: Sequence[RunFront], scope: str) -> Figure:
    handles = _legend(fronts)
    columns = min(len(handles), 5 if len(fronts) == 1 else 4)
    lines = -(-len(handles) // columns)
    target_lines = max(_target_places(fronts, scope)[2], default=0) + 1
    header = 0.86 + 0.22 * lines + 0.18 * target_lines
    strips = [_Strip(run, scope) for run in fronts]
    height = header + _PLOTS + _BELOW + sum(strip.height for strip in strips) + 0.1
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    page = _Page(figure, height)

    spaces = list(dict.fromkeys(run.space.name for run in fronts if run.space is not None))
    title = "Pareto front" + (f" of {', '.join(spaces)}" if spaces else "")
    page.text(_LEFT - 0.45, 0.18, title, fontsize=15, fontweight="bold")
    scored = sum(len(run.scored) for run in fronts)
    count = f"{scored:,} architectures scored. " if scored else ""
    page.text(
        _LEFT - 0.45,
        0.5,
        f"Cost of the {scope} scope. {count}Loss, rate and PSNR are estimates on calibration photos.",
        fontsize=9.5,
        color=FAINT,
    )
    legend = figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((_LEFT - 0.53) / _WIDTH, 1 - 0.7 / height),
        ncols=columns,
        frameon=False,
        columnspacing=1.8,
        handletextpad=0.5,
        borderaxespad=0.0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)

    main = page.axes(_LEFT, header, _MAIN, _PLOTS)
    side, small = _LEFT + _MAIN + _GUTTER, (_PLOTS - 0.55) / 2
    rest = _WIDTH - side - _RIGHT
    upper = page.axes(side, header, rest, small)
    lower = page.axes(side, header + _PLOTS - small, rest, small)
    _panel(main, fronts, scope, "rd_loss", f"rate-distortion loss, {loss_formula(fronts)}")
    _panel(upper, fronts, scope, "bpp", "rate (bit per pixel)")
    _panel(lower, fronts, scope, "psnr", "PSNR (dB)")
    for axes in (main, lower):
        axes.set_xlabel(f"{scope} cost (kMAC per pixel at 768x512)")
    _label_targets(main, fronts, scope)

    top = header + _PLOTS + _BELOW
    for number_, strip in enumerate(strips):
        strip.draw(page, top, COLOURS[number_ % len(COLOURS)], with_scale=number_ == 0)
        top += strip.height
    return figure


# The panels


def _panel(axes: Axes, fronts: Sequence[RunFront], scope: str, measure: str, label: str) -> None:
    column = f"{scope}_kmac_px"
    across, up = cost_scale(fronts, scope), measure_scale(fronts, measure, scope)
    if up.log:
        axes.set_yscale("log")
        label += " (log scale)"
    axes.set_xlim(across.low, across.high)
    axes.set_ylim(up.low, up.high)
    x_ticks = across.ticks(8 if measure == "rd_loss" else 5)
    y_ticks = up.ticks(8 if measure == "rd_loss" else 4)
    axes.set_xticks(x_ticks, tick_labels(x_ticks))
    axes.set_yticks(y_ticks, tick_labels(y_ticks))
    axes.set_yticks([], minor=True)
    axes.grid(color=GRID, linewidth=0.7)
    axes.tick_params(length=3)
    axes.set_ylabel(label)
    for number_, run in enumerate(fronts):
        colour, marker = COLOURS[number_ % len(COLOURS)], MARKERS[number_ % len(MARKERS)]
        big = measure == "rd_loss"
        if not run.scored.empty:
            axes.plot(
                run.scored[column],
                run.scored[measure],
                linestyle="none",
                marker="o",
                markersize=3.4 if big else 2.4,
                markeredgewidth=0,
                color=colour,
                alpha=0.2,
                zorder=1,
                rasterized=len(run.scored) > _MANY_POINTS,
            )
        if not run.baselines.empty:
            axes.plot(
                run.baselines[column],
                run.baselines[measure],
                linestyle="none",
                zorder=2,
                **_baseline_style(colour, 7 if big else 5),
            )
        front = run.on_front(scope)
        axes.plot(
            front[column],
            front[measure],
            color=colour,
            marker=marker,
            markersize=5.5 if big else 3.8,
            markeredgecolor="white",
            markeredgewidth=0.6,
            linewidth=1.8 if big else 1.1,
            zorder=4,
        )
        exported = run.front[run.exported]
        axes.plot(
            exported[column],
            exported[measure],
            linestyle="none",
            zorder=5,
            clip_on=False,
            **_exported_style(colour, 11 if big else 8),
        )
    for target in sorted({target for run in fronts for target in run.targets}):
        if across.low <= target <= across.high:
            axes.axvline(target, color="#555555", linewidth=1, linestyle=(0, (4, 3)), zorder=3)


def _baseline_style(colour: str, size: float) -> dict[str, Any]:
    return {
        "marker": "d",
        "markersize": size,
        "markerfacecolor": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 1.2,
    }


def _exported_style(colour: str, size: float) -> dict[str, Any]:
    return {
        "marker": "*",
        "markersize": size * 1.25,
        "markerfacecolor": colour,
        "markeredgecolor": INK,
        "markeredgewidth": 0.9,
    }


def _legend(fronts: Sequence[RunFront]) -> list[Line2D]:
    """A handle for each run, then grey ones for what is drawn alike in every colour."""
    runs = [
        Line2D(
            [],
            [],
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            markeredgecolor="white",
            linewidth=1.8,
            label=f"front, {run.label}",
        )
        for k, run in enumerate(fronts)
    ]
    grey = COLOURS[0] if len(fronts) == 1 else "#666666"
    none: dict[str, Any] = {"linestyle": "none"}
    others = []
    if any(run.exported.any() for run in fronts):
        others.append(Line2D([], [], **none, **_exported_style(grey, 9), label="exported"))
    if any(not run.baselines.empty for run in fronts):
        others.append(Line2D([], [], **none, **_baseline_style(grey, 6), label="uniform widths"))
    if any(not run.scored.empty for run in fronts):
        dot: dict[str, Any] = {"marker": "o", "markersize": 4, "markeredgewidth": 0, "alpha": 0.35}
        others.append(Line2D([], [], color=grey, **none, **dot, label="other scored architectures"))
    if any(run.targets for run in fronts):
        others.append(
            Line2D([], [], color="#555555", linewidth=1, linestyle=(0, (4, 3)), label="chosen budget")
        )
    return [*runs, *others]


def _target_places(fronts: Sequence[RunFront], scope: str) -> tuple[list[float], list[str], list[int]]:
    """Where the labels of budgets stand along the main panel (in [0, 1]), their texts, and their lines."""
    across = cost_scale(fronts, scope)
    targets = sorted({target for run in fronts for target in run.targets})
    places = [across.place(target) for target in targets]
    texts = [
        f"≤ {target:g} →" if place > 1 else f"← ≤ {target:g}" if place < 0 else f"≤ {target:g}"
        for target, place in zip(targets, places, strict=True)
    ]
    places = [min(max(place, 0.0), 1.0) for place in places]
    return places, texts, spread(places, _LABEL_GAP / _MAIN)


def _label_targets(axes: Axes, fronts: Sequence[RunFront], scope: str) -> None:
    for place, text, line in zip(*_target_places(fronts, scope), strict=True):
        axes.annotate(
            text,
            (place, 1),
            xytext=(0, 4 + 12 * line),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color="#444444",
        )


# The strip


class _Strip:
    """One run's front as a heat map: a column for each architecture, a row for each slot and each layout."""

    def __init__(self, run: RunFront, scope: str) -> None:
        self.run, self.scope = run, scope
        self.front = run.on_front(scope)
        fixed = {slot.name for slot in run.space.slots if len(slot.candidates) == 1} if run.space else set()
        self.slots = [k for k, known in enumerate(run.ranges) if known.slot not in fixed]
        layouts = {
            split_key(key)[1]: stages
            for key, stages in zip(self.front["arch"], self.front["stages"], strict=True)
        }
        self.layouts = sorted(layouts.items(), key=lambda item: (item[1], item[0]))
        self.tops = self._tops()
        names = [self.run.ranges[slot].slot for slot in self.slots] + [name for name, _ in self.layouts]
        self.left = max(_STRIP_LEFT, _LETTER * max(map(len, names), default=0) + 0.35)
        room = _WIDTH - self.left - _STRIP_RIGHT
        self.cell = min(_WIDEST_CELL, room / max(1, len(self.front)))

    def _tops(self) -> list[float]:
        """Where each row begins, in rows, slots first; edges stand a little apart."""
        tops, place, last = [], 0.0, ""
        for k in self.slots:
            edge = self.run.ranges[k].edge
            place += 0.35 if last and edge != last else 0.0
            tops.append(place)
            place, last = place + 1, edge
        place += 0.7 if tops else 0.0
        return [*tops, *(place + k for k in range(len(self.layouts)))]

    @property
    def rows(self) -> float:
        return self.tops[-1] + 1 if self.tops else 1.0

    @property
    def height(self) -> float:
        return _STRIP_ABOVE + self.rows * _ROW + _STRIP_BELOW + _BETWEEN

    def draw(self, page: _Page, top: float, colour: str, *, with_scale: bool) -> None:
        """Draw it with its upper edge `top` inches below the figure's."""
        columns = len(self.front)
        title = f"What the front is made of: {self.run.label}"
        page.text(_LEFT - 0.45, top, title, fontsize=11, fontweight="bold", color=colour)
        axes = page.axes(self.left, top + _STRIP_ABOVE, self.cell * max(1, columns), self.rows * _ROW)
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
        numbered = self.cell >= _NUMBERED_CELL
        for slot, top in zip(self.slots, self.tops, strict=False):
            known = self.run.ranges[slot]
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
            self._beside(axes, top + 0.5, str(known.widest))
            for place, share in enumerate(row) if numbered else ():
                axes.text(
                    place + 0.5,
                    top + 0.53,
                    str(widths[place, slot]),
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if share > 0.55 else "#333333",
                )
        if self.slots:
            self._beside(axes, -0.45, "widest")

    def _beside(self, axes: Axes, row: float, text: str) -> None:
        """A remark at the right end of a row."""
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
            taken = np.array([place for place, other in enumerate(names) if other == name])
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
        """Under every column its cost, or under every other where they would touch."""
        costs = self.front[f"{self.scope}_kmac_px"]
        step = math.ceil(_COST_GAP / self.cell)
        places = range(0, len(costs), step)
        axes.set_xticks([place + 0.5 for place in places], [number(costs.iloc[p]) for p in places])
        upright = self.cell * step < 0.4
        axes.tick_params(axis="x", length=0, labelsize=7.5, pad=3, rotation=90 if upright else 0)
        axes.set_xlabel(f"{self.scope} cost (kMAC per pixel)", loc="left", fontsize=8.5)

    def _marks(self, axes: Axes, colour: str) -> None:
        """Above the columns: the budgets that chose them, and stars for the exported."""
        rows = {index: place for place, index in enumerate(self.front.index)}
        exported = [place + 0.5 for index, place in rows.items() if self.run.exported.loc[index]]
        axes.plot(
            exported,
            [-0.45] * len(exported),
            linestyle="none",
            clip_on=False,
            **_exported_style(colour, 6),
        )
        budgets: dict[int, list[str]] = {}
        for target, index in self.run.chosen(self.scope).items():
            budgets.setdefault(rows[index], []).append(f"{target:g}")
        places = sorted(budgets)
        plain = [place + 0.5 for place in places if place + 0.5 not in exported]
        axes.plot(plain, [-0.4] * len(plain), "v", markersize=4, color="#444444", clip_on=False)
        lines = spread([place * self.cell for place in places], _LABEL_GAP)
        for place, line in zip(places, lines, strict=True):
            axes.annotate(
                f"≤ {', '.join(budgets[place])}",
                (place + 0.5, -0.5),
                xytext=(0, 6 + 9 * line),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color="#444444",
                annotation_clip=False,
            )

    def _scale(self, page: _Page, top: float) -> None:
        width, right = 1.6, _RIGHT + 0.15
        axes = page.axes(_WIDTH - right - width, top + 0.02, width, 0.11)
        axes.pcolormesh(np.linspace(0, 1, 101), [0, 1], np.linspace(0, 1, 100)[None], cmap=_SHARES)
        axes.set_yticks([])
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.tick_params(axis="x", length=2, labelsize=7.5, pad=2)
        for side in axes.spines.values():
            side.set_visible(False)
        of = "widest candidate" if self.run.space is not None else "widest seen"
        page.text(
            _WIDTH - right - width - 0.2, top + 0.02, f"width / {of}", fontsize=8, color=FAINT, ha="right"
        )
