"""The front as a figure: loss, rate and PSNR against cost, and the structure of every architecture on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.report.front.costs import clock_of, view_of
from nas.report.front.curve_panels import CurvePanel, has_curves
from nas.report.front.fronts import RunFront, check
from nas.report.front.panels import Panels, legend_handles
from nas.report.front.strip import Strip
from nas.report.style import COLOURS, FAINT, LEFT, STYLE, WIDTH, PanelFigure, write_figure

_PLOTS, _TIME_PLOTS, _CURVES = 4.6, 3.7, 3.7  # heights of the panels, in inches


def draw_front(fronts: Sequence[RunFront], *, scope: str = "total") -> Figure:
    """Draw the fronts of one run or several in one figure.

    At the top are loss, rate and PSNR against kMAC per pixel at 768x512, with a colour for each run. If a run
    is profiled on this machine, the same follows against time. For runs over a range of rates,
    rate-distortion curves of some architectures follow. At the bottom, a strip for each run has one column
    for each architecture of its fronts, with its widths and its layout.

    Args:
        fronts: fronts of the runs, at least one.
        scope: scope of the cost: `encoder`, `decoder` or `total`. Time is that of encoding for `encoder`,
            otherwise that of decoding.

    Returns:
        A figure that pyplot does not manage. `figure.savefig` writes it.

    Raises:
        InputError: there is no run, or the scope does not exist.
    """
    check(fronts, scope)
    with matplotlib.style.context(["default", STYLE]):
        return _draw(fronts, scope)


def save_front(fronts: Sequence[RunFront], folder: Path, scope: str = "total") -> tuple[Path, Path]:
    """Write `pareto.png` (150 dpi) and `pareto.svg` (text stays text). Equal fronts give equal bytes.

    Args:
        fronts: fronts of the runs.
        folder: the folder of the files.
        scope: scope of the MACs to show: `encoder`, `decoder` or `total`.

    Returns:
        The paths of the two files.

    Raises:
        InputError: there is no run, or the scope does not exist.
    """
    check(fronts, scope)
    paths = (folder / "pareto.png", folder / "pareto.svg")
    with matplotlib.style.context(["default", STYLE]):
        write_figure(_draw(fronts, scope), paths)
    return paths


def _draw(fronts: Sequence[RunFront], scope: str) -> Figure:
    handles = legend_handles(fronts, scope)
    columns = min(len(handles), 5 if len(fronts) == 1 else 4)
    top = 0.78 + 0.22 * -(-len(handles) // columns)
    timed = any(run.timed for run in fronts)
    rows = [Panels(fronts, view_of(scope, scope), _PLOTS)]
    if timed:
        rows.append(Panels(fronts, view_of(clock_of(scope).name, scope), _TIME_PLOTS))
    strips = [Strip(run, rows[0].view) for run in fronts]
    panels: list[Panels | CurvePanel] = [*rows]
    if has_curves(fronts, rows[0].view.macs):
        panels.append(CurvePanel(fronts, rows[0].view.macs, _CURVES))
    parts: list[Panels | CurvePanel | Strip] = [*panels, *strips]
    height = top + sum(part.height for part in parts) + 0.1
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    page = PanelFigure(figure, height)

    spaces = list(dict.fromkeys(run.space.name for run in fronts if run.space is not None))
    title = "Pareto front" + (f" of {', '.join(spaces)}" if spaces else "")
    page.text(LEFT - 0.45, 0.18, title, fontsize=15, fontweight="bold")
    scored = sum(len(run.scored) for run in fronts)
    count = f"{scored:,} architectures scored. " if scored else ""
    page.text(
        LEFT - 0.45,
        0.5,
        f"Cost of the {scope} scope. {count}Loss, rate and PSNR are estimates on calibration photos.",
        fontsize=9.5,
        color=FAINT,
    )
    legend = figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((LEFT - 0.53) / WIDTH, 1 - 0.7 / height),
        ncols=columns,
        frameon=False,
        columnspacing=1.8,
        handletextpad=0.5,
        borderaxespad=0.0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)

    for panel in panels:
        panel.draw(page, top)
        top += panel.height
    for number_, strip in enumerate(strips):
        strip.draw(page, top, COLOURS[number_ % len(COLOURS)], with_scale=number_ == 0)
        top += strip.height
    return figure
