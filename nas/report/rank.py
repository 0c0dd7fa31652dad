"""The rank check as a figure: scores of the supernet against losses of architectures trained alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.report.front.scale import number
from nas.report.style import COLOURS, FAINT, GRID, INK, STYLE, write_figure
from nas.support.arrays import Floats

if TYPE_CHECKING:
    from nas.analysis.rank_result import RankResult

_FORMULAS = {"mse": "bpp + λ·255²·MSE", "ms-ssim": "bpp + λ·(1 - MS-SSIM)"}
_ROOM = 0.12  # room for labels beside the outermost points


def save_rank(result: RankResult, folder: Path) -> tuple[Path, Path]:
    """Write `rank.png` (150 dpi) and `rank.svg` (text stays text). Equal results give equal bytes.

    Args:
        result: result of a rank check.
        folder: the folder of the files.
    """
    paths = (folder / "rank.png", folder / "rank.svg")
    with matplotlib.style.context(["default", STYLE]):
        write_figure(_draw(result), paths)
    return paths


def _draw(result: RankResult) -> Figure:
    figure = Figure(figsize=(10.0, 5.2), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.045, 0.945, _title(result), fontsize=13, fontweight="bold", va="center")
    for line, sentence in enumerate(result.sentences()[:2]):
        figure.text(0.045, 0.885 - 0.042 * line, sentence, fontsize=9.5, color=FAINT, va="center")
    main = figure.add_axes((0.075, 0.11, 0.5, 0.64))
    side = figure.add_axes((0.655, 0.11, 0.325, 0.64))
    for axes in (main, side):
        axes.grid(color=GRID, linewidth=0.7)
        axes.tick_params(length=3)
    _scores(main, result)
    _penalties(side, result)
    return figure


def _title(result: RankResult) -> str:
    steps = result.settings["steps"]
    start = "scratch" if result.settings["start"] == "scratch" else "its weights"
    alone = f"{steps:,} step{'s' * (steps != 1)} alone from {start}"
    return f"Rank check: the supernet against {alone}"


def _scores(axes: Axes, result: RankResult) -> None:
    inherited = np.array([row.supernet.rd_loss for row in result.rows])
    alone = np.array([row.standalone.rd_loss for row in result.rows])
    axes.plot(inherited, alone, "o", color=COLOURS[0], markersize=7, markeredgecolor="white", zorder=3)
    _frame(axes, inherited, alone)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    ends = max(left, low), min(right, high)
    if ends[0] < ends[1]:
        axes.plot(ends, ends, color="#555555", linewidth=1, linestyle=(0, (4, 3)), label="no penalty")
        axes.legend(frameon=False, loc="best")
    for row in result.rows:
        axes.annotate(
            number(row.total_kmac_px),
            (row.supernet.rd_loss, row.standalone.rd_loss),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    axes.set_title("Each point an architecture, with its total kMAC per pixel", fontsize=9.5, loc="left")
    formula = _FORMULAS.get(result.metric, "rate-distortion loss")
    axes.set_xlabel(f"with the supernet's weights: {formula}")
    axes.set_ylabel(f"trained alone: {formula}")


def _penalties(axes: Axes, result: RankResult) -> None:
    costs = np.array([row.total_kmac_px for row in result.rows])
    shares = np.array([100 * row.penalty for row in result.rows])
    axes.axhline(0, color="#555555", linewidth=1, linestyle=(0, (4, 3)))
    axes.vlines(costs, 0, shares, color=COLOURS[1], linewidth=1.2)
    axes.plot(costs, shares, "s", color=COLOURS[1], markersize=6, markeredgecolor="white", zorder=3)
    _frame(axes, costs, np.append(shares, 0.0))
    axes.set_title("Penalty of inherited weights", fontsize=9.5, loc="left")
    axes.set_xlabel("total cost (kMAC per pixel at 768x512)")
    axes.set_ylabel("extra loss with inherited weights (%)")


def _frame(axes: Axes, across: Floats, up: Floats) -> None:
    """Set limits with room around the points, also if all points coincide."""
    for values, limit in ((across, axes.set_xlim), (up, axes.set_ylim)):
        low, high = float(values.min()), float(values.max())
        room = (high - low) * _ROOM or max(abs(high) * _ROOM, 1e-3)
        limit(low - room, high + room)
