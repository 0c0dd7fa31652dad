"""Panels of loss, rate and PSNR against one cost, and the legend of the front's figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nas.report.front.costs import View, view_of
from nas.report.front.fronts import RunFront, loss_title, on_one_axis
from nas.report.front.scale import cost_scale, lines_of_labels, measure_scale, tick_labels
from nas.report.style import (
    COLOURS,
    GRID,
    LABEL_GAP,
    LEFT,
    MARKERS,
    RIGHT,
    WIDTH,
    PanelFigure,
    between_style,
    chosen_style,
    exported_style,
    front_style,
    quick_style,
    tapered_style,
    uniform_style,
)

# In inches
_MAIN, _GUTTER, _BELOW = 6.9, 0.8, 0.65
_LINE = 0.19  # height of a sentence above the panels
_MANY_POINTS = 500  # more points are drawn as pixels, because the SVG would take megabytes


class Panels:
    """Three panels, loss, rate and PSNR against one cost, under sentences about the fronts.

    Args:
        fronts: fronts of the runs.
        view: the cost to draw against, and the fronts to distinguish.
        plots: height of the plots, in inches.
    """

    def __init__(self, fronts: Sequence[RunFront], view: View, plots: float) -> None:
        self.fronts, self.view, self.plots = fronts, view, plots
        self._drawn = on_one_axis(fronts)
        self.sentences = self._sentences()
        self.header = 0.3 + _LINE * len(self.sentences) + 0.18 * (max(self._target_lines(), default=0) + 1)

    @property
    def height(self) -> float:
        """Height of the panels, in inches."""
        return self.header + self.plots + _BELOW

    def _sentences(self) -> list[str]:
        """Sentences on each run's gain over uniform widths, and on where its time was measured."""
        sentences = []
        for run in self.fronts:
            gain = run.gain(self.view.across)
            texts = [gain.sentence()] if gain else []
            if self.view.across.is_time:
                texts.append(f"Measured on {run.machine}." if run.timed else "Not measured on this machine.")
            sentences += [f"{run.label}: {text}" if len(self.fronts) > 1 else text for text in texts]
        return sentences

    def draw(self, page: PanelFigure, top: float) -> None:
        """Draw the panels with their upper edge `top` inches below the figure's upper edge.

        Args:
            page: the figure.
            top: distance from the upper edge of the figure, in inches.
        """
        page.text(LEFT - 0.45, top + 0.06, f"Against {_in_words(self.view)}", fontsize=11, fontweight="bold")
        for line, sentence in enumerate(self.sentences):
            page.text(LEFT - 0.45, top + 0.3 + _LINE * line, sentence, fontsize=9)
        top += self.header
        main = page.axes(LEFT, top, _MAIN, self.plots)
        side, small = LEFT + _MAIN + _GUTTER, (self.plots - 0.55) / 2
        rest = WIDTH - side - RIGHT
        upper = page.axes(side, top, rest, small)
        lower = page.axes(side, top + self.plots - small, rest, small)
        self._panel(main, "rd_loss", loss_title(self.fronts))
        self._panel(upper, "bpp", "rate (bit per pixel)")
        self._panel(lower, "psnr", "PSNR (dB)")
        for axes in (main, lower):
            axes.set_xlabel(self.view.across.title)
        self._label_targets(main)

    def _panel(self, axes: Axes, measure: str, label: str) -> None:
        big = measure == "rd_loss"
        across, up = cost_scale(self.fronts, self.view), measure_scale(self._drawn, measure, self.view)
        if up.log:
            axes.set_yscale("log")
            label += " (log scale)"
        axes.set_xlim(across.low, across.high)
        axes.set_ylim(up.low, up.high)
        x_ticks = across.ticks(8 if big else 5)
        y_ticks = up.ticks(8 if big else 4)
        axes.set_xticks(x_ticks, tick_labels(x_ticks))
        axes.set_yticks(y_ticks, tick_labels(y_ticks))
        axes.set_yticks([], minor=True)
        axes.grid(color=GRID, linewidth=0.7)
        axes.tick_params(length=3)
        axes.set_ylabel(label)
        for number_, run in enumerate(self._drawn):
            colour, marker = COLOURS[number_ % len(COLOURS)], MARKERS[number_ % len(MARKERS)]
            self._run(axes, run, measure, colour, marker)
        for target in self._targets():
            if across.low <= target <= across.high:
                axes.axvline(target, color="#555555", linewidth=1, linestyle=(0, (4, 3)), zorder=3)

    def _run(self, axes: Axes, run: RunFront, measure: str, colour: str, marker: str) -> None:
        """Draw one run's points: all scored architectures, baselines, both fronts, and exported ones."""
        big, column, view = measure == "rd_loss", self.view.across.column, self.view
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
        for table, style in ((run.uniform, uniform_style), (run.tapered, tapered_style)):
            if not table.empty:
                points = (table[column], table[measure])
                axes.plot(*points, linestyle="none", zorder=2, **style(colour, 7 if big else 5))
        front, macs = run.on_front(view.across), run.on_front(view.macs)
        axes.plot(front[column], front[measure], color=colour, linewidth=1.8 if big else 1.1, zorder=4)
        axes.plot(
            macs[column],
            macs[measure],
            linestyle="none",
            zorder=5,
            **front_style(colour, marker, 5.5 if big else 3.8),
        )
        quick = run.on_front(view.clock)
        axes.plot(
            quick[column], quick[measure], linestyle="none", zorder=6, **quick_style(9.5 if big else 6.5)
        )
        chosen = run.front.loc[list(dict.fromkeys(run.chosen(view.across).values()))]
        axes.plot(
            chosen[column],
            chosen[measure],
            linestyle="none",
            zorder=6,
            **chosen_style(colour, marker, 8 if big else 5.5),
        )
        between = run.front[run.between]
        axes.plot(
            between[column],
            between[measure],
            linestyle="none",
            zorder=3.5,
            **between_style(colour, 7 if big else 5),
        )
        exported = run.front[run.exported & ~run.between]
        axes.plot(
            exported[column],
            exported[measure],
            linestyle="none",
            zorder=7,
            clip_on=False,
            **exported_style(colour, 11 if big else 8),
        )

    def _targets(self) -> list[float]:
        """The targets in this cost, rising."""
        name = self.view.across.name
        return sorted({target for run in self.fronts for target in run.targets.get(name, ())})

    def _target_lines(self) -> list[int]:
        """The line above the main panel on which each target's label is placed."""
        across = cost_scale(self.fronts, self.view)
        return lines_of_labels(
            [_within(across.fraction_of(target)) for target in self._targets()], LABEL_GAP / _MAIN
        )

    def _label_targets(self, axes: Axes) -> None:
        across, cost = cost_scale(self.fronts, self.view), self.view.across
        for target, line in zip(self._targets(), self._target_lines(), strict=True):
            fraction, text = across.fraction_of(target), cost.limit(target)
            axes.annotate(
                f"{text} →" if fraction > 1 else f"← {text}" if fraction < 0 else text,
                (_within(fraction), 1),
                xytext=(0, 4 + 12 * line),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color="#444444",
            )


def _within(fraction: float) -> float:
    """Clamp a place to the panel."""
    return min(max(fraction, 0.0), 1.0)


def _in_words(view: View) -> str:
    """The name of the view's cost: `total MACs`, `time to decode`."""
    return f"time to {view.across.name}" if view.across.is_time else f"{view.across.name} MACs"


def legend_handles(fronts: Sequence[RunFront], scope: str) -> list[Line2D]:
    """Handles for each run, then grey ones for markers that all runs share.

    Args:
        fronts: fronts of the runs.
        scope: `encoder`, `decoder` or `total`.
    """
    view = view_of(scope)
    runs = [
        Line2D(
            [],
            [],
            linewidth=1.8,
            label=f"front, {run.label}",
            **front_style(COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)], 6),
        )
        for k, run in enumerate(fronts)
    ]
    grey = COLOURS[0] if len(fronts) == 1 else "#666666"
    none: dict[str, Any] = {"linestyle": "none"}
    others = []
    if any(run.timed for run in fronts):
        ring = quick_style(9)
        others.append(Line2D([], [], **none, **ring, label=f"on the front in time to {view.clock.name}"))
    if any(run.exported.any() for run in fronts):
        others.append(Line2D([], [], **none, **exported_style(grey, 9), label="exported"))
    if any(run.between.any() for run in fronts):
        others.append(Line2D([], [], **none, **between_style(grey, 7), label="exported, within a family"))
    if any(not run.uniform.empty for run in fronts):
        others.append(Line2D([], [], **none, **uniform_style(grey, 6), label="uniform widths"))
    if any(not run.tapered.empty for run in fronts):
        others.append(Line2D([], [], **none, **tapered_style(grey, 6), label="tapered by hand"))
    if any(not run.scored.empty for run in fronts):
        dot: dict[str, Any] = {"marker": "o", "markersize": 4, "markeredgewidth": 0, "alpha": 0.35}
        others.append(Line2D([], [], color=grey, **none, **dot, label="other scored architectures"))
    if any(run.targets.get(cost.name) for run in fronts for cost in (view.macs, view.clock)):
        others.append(
            Line2D([], [], color="#555555", linewidth=1, linestyle=(0, (4, 3)), label="chosen budget")
        )
    return [*runs, *others]
