"""Rate-distortion curves of architectures on the front as a chart of the page (no matplotlib here)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.report.front.chart import MAIN, Chart, run_class
from nas.report.front.costs import Cost
from nas.report.front.fronts import RunFront
from nas.report.front.scale import padded

_LIGHTEST = 0.35  # the share of a run's colour in its cheapest architecture's curve
RATE, QUALITY = "rate (bit per pixel)", "PSNR (dB)"


def has_curves(fronts: Sequence[RunFront], cost: Cost) -> bool:
    """Whether some run has curves of architectures on its front.

    Args:
        fronts: fronts of the runs.
        cost: the cost that the fronts are in.
    """
    return any(run.curves_on(cost) for run in fronts)


def curve_chart(fronts: Sequence[RunFront], cost: Cost, rows: Mapping[tuple[int, object], str]) -> str:
    """The same as an SVG element for the page.

    Args:
        fronts: the runs.
        cost: whose front.
        rows: the name of the table's row for (place of the run, index in its front), which points carry.
    """
    found = [run.curves_on(cost) for run in fronts]
    points = [point for curves in found for curve in curves.values() for point in curve]
    across, up = padded([point.bpp for point in points]), padded([point.psnr for point in points])
    chart = Chart(MAIN, across, up)
    chart.frame(QUALITY, ticks=8, against="rate")
    for place, curves in enumerate(found):
        for order, (index, curve) in enumerate(curves.items()):
            group = chart.group(run_class(place))
            group.set("opacity", f"{shade(order, len(curves)):.2f}")
            places = [chart.at(point.bpp, point.psnr) for point in curve]
            chart.line(group, places)
            for x, y in places:
                chart.point(group, x, y, "pt", rows[place, index])
    return chart.text


def explained(cost: Cost) -> str:
    """What the curves are, in a sentence."""
    what = f"time to {cost.name}" if cost.is_time else f"{cost.name} MACs"
    return (
        f"Estimates at the lowest, the middle and the highest anchor of the range, of the front in {what}: "
        "light is the cheapest, dark the dearest."
    )


def shade(order: int, count: int) -> float:
    """The share of its run's colour that a curve has: the dearest, which is the last, has all of it.

    Args:
        order: place of the curve among those of its run, from 0 for the cheapest.
        count: number of curves of the run.
    """
    return 1.0 if count < 2 else _LIGHTEST + (1 - _LIGHTEST) * order / (count - 1)
