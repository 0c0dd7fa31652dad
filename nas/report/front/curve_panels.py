"""Rate-distortion curves of architectures on the front, for runs over a range of rates."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.colors import to_hex, to_rgb

from nas.report.front.costs import Cost
from nas.report.front.fronts import RunFront
from nas.report.front.scale import number
from nas.report.style import COLOURS, GRID, LEFT, MARKERS, PanelFigure

_WIDE, _ABOVE, _BELOW = 6.9, 0.62, 0.65  # inches
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
        for run_index, run in enumerate(self.fronts):
            curves, colour = run.curves_on(self.cost), COLOURS[run_index % len(COLOURS)]
            for order, (index, points) in enumerate(curves.items()):
                cost = f"{number(run.front.loc[index, self.cost.column])} {self.cost.unit}"
                axes.plot(
                    [point.bpp for point in points],
                    [point.psnr for point in points],
                    color=_mixed(colour, _share(order, len(curves))),
                    marker=MARKERS[order % len(MARKERS)],
                    markersize=5,
                    linewidth=1.6,
                    label=f"{run.label}: {cost}" if len(self.fronts) > 1 else cost,
                )
        axes.grid(color=GRID, linewidth=0.7)
        axes.tick_params(length=3)
        axes.set_xlabel("rate (bit per pixel)")
        axes.set_ylabel("PSNR (dB)")
        legend = axes.legend(
            loc="upper left",
            bbox_to_anchor=(1 + 0.3 / _WIDE, 1),
            borderaxespad=0.0,
            frameon=False,
            title=f"{self.cost.name} cost" if not self.cost.is_time else f"time to {self.cost.name}",
            alignment="left",
            fontsize=8.5,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


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
