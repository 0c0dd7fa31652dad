"""Rate-distortion curves of architectures on the front, for runs over a range of rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from nas.report.front.costs import Cost
from nas.report.front.fronts import RunFront
from nas.report.front.scale import number
from nas.report.style import COLOURS, GRID, LEFT, MARKERS, RIGHT, WIDTH, PanelFigure
from nas.searching.scoring.evaluator import Point
from nas.searching.scoring.front import rising_points
from nas.support.arrays import Floats

_WIDE, _GUTTER, _ABOVE, _BELOW = 5.2, 0.85, 0.62, 0.65  # inches
_PLACES = 60  # at which curves are compared
_LIGHTEST = 0.35  # share of the run's colour in the curve of its cheapest architecture


def has_curves(fronts: Sequence[RunFront], cost: Cost) -> bool:
    """Whether any run has rate-distortion curves of architectures on its front.

    Args:
        fronts: fronts of the runs.
        cost: the cost that the fronts are in.
    """
    return any(run.curves_on(cost) for run in fronts)


class CurvePanel:
    """A panel of PSNR over bits per pixel, with a line for some architectures on the front of one cost.

    Beside it, at each PSNR, how many more bits these need than the dearest one: curves that lie on each other
    in one plot are apart in the other.

    Args:
        fronts: fronts of the runs.
        cost: the cost that the fronts are in.
        plot: height of the plot, in inches.
    """

    def __init__(self, fronts: Sequence[RunFront], cost: Cost, plot: float) -> None:
        self.fronts, self.cost, self.plot = fronts, cost, plot

    @property
    def height(self) -> float:
        """Height of the panel, in inches."""
        return _ABOVE + self.plot + _BELOW

    def draw(self, page: PanelFigure, top: float) -> None:
        """Draw the panel with its upper edge `top` inches below the figure's upper edge.

        Args:
            page: the figure.
            top: distance from the upper edge of the figure, in inches.
        """
        title = "Rate and distortion of some architectures on the front"
        page.text(LEFT - 0.45, top + 0.06, title, fontsize=11, fontweight="bold")
        page.text(LEFT - 0.45, top + 0.3, _explained(self.cost), fontsize=9)
        axes = page.axes(LEFT, top + _ABOVE, _WIDE, self.plot)
        side = LEFT + _WIDE + _GUTTER
        beside = page.axes(side, top + _ABOVE, WIDTH - side - RIGHT, self.plot)
        for run_index, run in enumerate(self.fronts):
            curves, colour = run.curves_on(self.cost), COLOURS[run_index % len(COLOURS)]
            for order, (index, points) in enumerate(curves.items()):
                cost = f"{number(run.front.loc[index, self.cost.column])} {self.cost.unit}"
                style: dict[str, Any] = {
                    "color": _mixed(colour, _share(order, len(curves))),
                    "marker": MARKERS[order % len(MARKERS)],
                    "markersize": 5,
                    "linewidth": 1.6,
                    "label": f"{run.label}: {cost}" if len(self.fronts) > 1 else cost,
                }
                axes.plot([point.bpp for point in points], [point.psnr for point in points], **style)
                where, more = _more_bits(points, list(curves.values())[-1])
                beside.plot(where, more, markevery=max(1, len(where) // 4), **style)
        _finish(axes, "rate (bit per pixel)", "PSNR (dB)")
        _finish(beside, "PSNR (dB)", "more bits than the dearest, %")
        legend = axes.legend(
            loc="lower right",
            frameon=False,
            title=f"{self.cost.name} cost" if not self.cost.is_time else f"time to {self.cost.name}",
            alignment="left",
            fontsize=8.5,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.grid(color=GRID, linewidth=0.7)
    axes.tick_params(length=3)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _more_bits(points: Sequence[Point], anchor: Sequence[Point]) -> tuple[Floats, Floats]:
    """PSNR values that two curves have in common, and how many more bits one needs than the other, in %.

    Rates are interpolated as Bjontegaard's difference does it, piecewise cubic (PCHIP) in their logarithm.
    """
    from scipy.interpolate import PchipInterpolator

    curves = [rising_points(curve) for curve in (points, anchor)]
    if any(len(rates) < 2 for rates, _ in curves):
        return np.array([]), np.array([])
    low, high = max(psnr[0] for _, psnr in curves), min(psnr[-1] for _, psnr in curves)
    where = np.linspace(low, high, _PLACES) if low < high else np.array([])
    own, least = (PchipInterpolator(psnr, np.log(rates))(where) for rates, psnr in curves)
    return where, 100 * np.expm1(own - least)


def _explained(cost: Cost) -> str:
    """A sentence that explains the curves."""
    what = f"time to {cost.name}" if cost.is_time else f"{cost.name} MACs"
    return (
        f"Estimates at the lowest, the middle and the highest anchor of the range, of the front in {what}: "
        "light is the cheapest, dark the dearest."
    )


def _share(order: int, count: int) -> float:
    """The share of the run's colour in a curve. The last and most expensive one has all of it."""
    return 1.0 if count < 2 else _LIGHTEST + (1 - _LIGHTEST) * order / (count - 1)


def _mixed(colour: str, share: float) -> str:
    """A colour mixed with white."""
    red, green, blue = (share * part + 1 - share for part in to_rgb(colour))
    return to_hex((red, green, blue))
