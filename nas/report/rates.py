"""Rate-distortion curves as a figure: PSNR and MS-SSIM over bits per pixel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.metrics.curves import Curve, CurveKind, Measure
from nas.report.style import COLOURS, FAINT, GRID, MARKERS, STYLE, write_figure

_LABELS: dict[Measure, str] = {"psnr": "PSNR (dB)", "ms_ssim_db": "MS-SSIM (dB)"}
_WIDTH, _PANEL, _SIDE = 9.0, 4.0, 0.68  # in inches: width of the figure, height of a panel, room for an axis
_BELOW, _ABOVE = 0.6, 1.4  # visible range relative to the codecs' rates; formats reach further
_ROOM = 0.05
_LINE_STYLES: dict[CurveKind, Any] = {"codecs": "-", "format": (0, (5, 2)), "published": (0, (1.5, 1.5))}
_GREYS = ("#444444", "#777777", "#A0A0A0")


def save_rates(curves: Sequence[Curve], paths: Sequence[Path], *, subtitle: str = "") -> None:
    """Write the figure, each file in the format of its name. Equal curves give equal bytes.

    Args:
        curves: curves of codecs (a single point is drawn as a point), formats and files.
        paths: .png (150 dpi), .svg (text stays text) or .pdf.
        subtitle: a line below the title.
    """
    with matplotlib.style.context(["default", STYLE]):
        write_figure(draw_rates(curves, subtitle=subtitle), paths)


def draw_rates(curves: Sequence[Curve], *, subtitle: str = "") -> Figure:
    """Draw curves: solid for codecs, dashed for formats, dotted for published ones. The view fits the codecs.

    Args:
        curves: the curves.
        subtitle: a line under the title.

    Returns:
        A figure that pyplot does not manage. It has a second panel if any curve has MS-SSIM.
    """
    styles = dict(zip((id(curve) for curve in curves), _styles(curves), strict=True))
    both = any(math.isfinite(p.ms_ssim_db) for c in curves if c.kind == "codecs" for p in c.points)
    panels: list[Measure] = ["psnr", "ms_ssim_db"] if both else ["psnr"]
    names = [curve.name for curve in curves]
    longest = max(map(len, names), default=0)
    columns = 5 if longest <= 14 else 4 if longest <= 24 else 2
    lines = -(-len(curves) // columns)
    top = 0.72 + 0.2 * lines + 0.08
    height = top + _PANEL + 0.55
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    left = 0.12 / _WIDTH
    figure.text(left, 1 - 0.12 / height, "Rate and distortion", fontsize=13, fontweight="bold", va="top")
    figure.text(left, 1 - 0.42 / height, subtitle, fontsize=9.5, color=FAINT, va="top", parse_math=False)
    share = _WIDTH / len(panels)
    for index, measure in enumerate(panels):
        box = (index * share + _SIDE, 0.5, share - _SIDE - 0.15, _PANEL)
        axes = figure.add_axes((box[0] / _WIDTH, box[1] / height, box[2] / _WIDTH, box[3] / height))
        _draw(axes, curves, measure, styles)
    handles = [figure.axes[0].lines[index] for index in range(len(curves))]
    legend = figure.legend(
        handles,
        names,
        loc="upper left",
        bbox_to_anchor=(left + 0.04 / _WIDTH, 1 - 0.66 / height),
        ncols=columns,
        frameon=False,
        handlelength=2.4,
        columnspacing=1.6,
        borderaxespad=0.0,
        borderpad=0.0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw(axes: Axes, curves: Sequence[Curve], measure: Measure, styles: dict[int, dict[str, Any]]) -> None:
    for curve in curves:
        axes.plot(
            [point.bpp for point in curve.points],
            [getattr(point, measure) for point in curve.points],
            **styles[id(curve)],
        )
    axes.grid(color=GRID, linewidth=0.7)
    axes.tick_params(length=3)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(_LABELS[measure])
    _frame(axes, curves, measure)


def _frame(axes: Axes, curves: Sequence[Curve], measure: Measure) -> None:
    """Set limits around the codecs' rates, and around all curves within them."""
    rates = [point.bpp for curve in curves if curve.kind == "codecs" for point in curve.points]
    low, high = min(rates) * _BELOW, max(rates) * _ABOVE
    seen = []
    for curve in curves:
        finite = [(p.bpp, getattr(p, measure)) for p in curve.points if math.isfinite(getattr(p, measure))]
        seen += [quality for rate, quality in finite if low <= rate <= high]
        for (rate, quality), (next_rate, next_quality) in itertools.pairwise(finite):
            for edge in (low, high):  # where a line leaves the visible range
                if rate < edge < next_rate:
                    seen.append(quality + (next_quality - quality) * (edge - rate) / (next_rate - rate))
    axes.set_xlim(low, high)
    if seen:
        room = (max(seen) - min(seen)) * _ROOM or 0.5
        axes.set_ylim(min(seen) - room, max(seen) + room)


def _styles(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Colours for codecs and published curves, greys for formats. Markers and dashes differ, too."""
    styles: list[dict[str, Any]] = []
    coloured = greys = 0
    for curve in curves:
        style: dict[str, Any] = {"linestyle": _LINE_STYLES[curve.kind], "markersize": 3.5, "linewidth": 1.1}
        if curve.kind == "format":
            style |= {"color": _GREYS[greys % len(_GREYS)], "marker": MARKERS[greys % len(MARKERS)]}
            greys += 1
        else:
            index = coloured % len(COLOURS)
            style |= {"color": COLOURS[index], "marker": MARKERS[index]}
            coloured += 1
        if curve.kind == "codecs":
            style |= {"markersize": 7, "linewidth": 1.8, "markeredgecolor": "white", "markeredgewidth": 0.7}
            style |= {"zorder": 3} | ({"linestyle": "none"} if len(curve.points) == 1 else {})
        styles.append(style)
    return styles
