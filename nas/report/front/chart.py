"""Small SVG charts for the page: only the shapes, their colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Tree

from nas.report.front.costs import View
from nas.report.front.fronts import RunFront
from nas.report.front.scale import Scale, cost_scale, measure_scale, spread, tick_labels


@dataclass(frozen=True)
class Canvas:
    """The drawing area of a chart in its own units, and the room around the plot."""

    width: int
    height: int
    left: int = 58
    right: int = 16
    top: int = 30
    bottom: int = 26


MAIN = Canvas(720, 430, top=52, bottom=28)
SMALL = Canvas(420, 250)
_LABEL_GAP = 62  # between the centres of two labels of budgets on one line, in the main chart's units
_LINE = 17
_DIAMOND, _TRIANGLE = "m0 -5l5 5l-5 5l-5 -5z", "m-5 0l8 -5l0 10z"
_PLACES = 7  # different run colours; the style sheet has as many


def front_chart(
    fronts: Sequence[RunFront],
    view: View,
    measure: str,
    *,
    title: str,
    canvas: Canvas,
    rows: Mapping[tuple[int, object], str],
    chosen: Collection[str],
    targets: Sequence[float],
) -> str:
    """One measure against one cost as an SVG element.

    Args:
        fronts: the runs; each has the class `run-K`.
        view: the horizontal axis, and the fronts that are told apart: points are on the front in MACs, hollow
            ones are not, rings are on the front in time.
        measure: `rd_loss`, `bpp` or `psnr`.
        title: what the vertical axis shows, with its unit.
        canvas: the size.
        rows: the name of the table's row for (place of the run, index in its front), which points carry.
        chosen: the names of the rows that a budget chose.
        targets: budgets in this cost to mark.
    """
    across, up = cost_scale(fronts, view), measure_scale(fronts, measure, view)
    lines = spread([across.place(target) for target in targets], _LABEL_GAP / canvas.width)
    chart = Chart(canvas, across, up, extra_top=_LINE * max(lines, default=0) if canvas is MAIN else 0)
    chart.frame(title + (" (log scale)" if up.log else ""), ticks=8 if canvas is MAIN else 7)
    column = view.across.column
    for place, run in enumerate(fronts):
        group = chart.group(run_class(place))
        for table, name, shape in (
            (run.scored, "scored", "h0"),
            (run.uniform, "uniform", _DIAMOND),
            (run.tapered, "uniform", _TRIANGLE),
        ):
            chart.dots(group, table.get(column, ()), table.get(measure, ()), name, shape)
    for target, line in zip(targets, lines, strict=True):
        chart.target(target, line, view.across.limit(target), labelled=canvas is MAIN)
    for place, run in enumerate(fronts):
        group = chart.group(run_class(place))
        front, members = run.on_front(view.across), run.members(view)
        chart.line(group, [chart.at(x, y) for x, y in zip(front[column], front[measure], strict=True)])
        for index, values in members.iterrows():
            x, y = chart.at(values[column], values[measure])
            row = rows[place, index]
            classes = "pt" + " exported" * bool(run.exported.loc[index]) + " chosen" * (row in chosen)
            classes += "" if values[view.macs.flag] else " off"
            if values[view.clock.flag]:
                chart.ring(group, x, y)
            chart.point(group, x, y, classes, row)
    return chart.text


def run_class(place: int) -> str:
    """The CSS class that gives a run its colour."""
    return f"run-{place % _PLACES}"


def width_strip(widths: Sequence[int], shares: Sequence[float], slots: Sequence[tuple[str, str, int]]) -> str:
    """Bars of relative width, one for each slot, the edges set apart, as an SVG element.

    Args:
        widths: channels of every slot.
        shares: the same relative to the widest candidate, in (0, 1].
        slots: name, edge and widest candidate of every slot.
    """
    bar, gap, height = 6, 2, 26
    x, last = 0, ""
    rooms, bars = "", ""
    for share, (_, edge, _) in zip(shares, slots, strict=True):
        x += 6 if last and edge != last else 0
        full = _text(max(1.0, share * height))
        rooms += f"M{x} 0h{bar}v{height}h-{bar}z"
        bars += f"M{x} {height}h{bar}v-{full}h-{bar}z"
        x, last = x + bar + gap, edge
    size = {"viewBox": f"0 0 {x - gap} {height}", "width": str(x - gap), "height": str(height)}
    svg = Tree.Element("svg", {"class": "strip", "role": "img", "preserveAspectRatio": "xMinYMid", **size})
    named = zip(widths, slots, strict=True)
    Tree.SubElement(svg, "title").text = ", ".join(f"{name} {w} of {most}" for w, (name, _, most) in named)
    Tree.SubElement(svg, "path", {"class": "room", "d": rooms})
    Tree.SubElement(svg, "path", {"d": bars})
    return _serialise(svg)


class Chart:
    """An SVG element that grows; ElementTree escapes whatever text goes in.

    Args:
        canvas: size of the chart, and the room around the plot.
        across: the horizontal axis.
        up: the vertical axis.
        extra_top: more room above the plot, in the chart's units.
    """

    def __init__(self, canvas: Canvas, across: Scale, up: Scale, extra_top: int = 0) -> None:
        self.canvas, self.across, self.up = canvas, across, up
        self.top = canvas.top + extra_top
        self.right, self.bottom = canvas.width - canvas.right, canvas.height + extra_top - canvas.bottom
        self.root = Tree.Element(
            "svg",
            {
                "class": "chart main" if canvas is MAIN else "chart",
                "viewBox": f"0 0 {canvas.width} {canvas.height + extra_top}",
                "role": "group",
            },
        )

    @property
    def text(self) -> str:
        return _serialise(self.root)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pair of values stands, in the chart's units.

        Args:
            x: value on the horizontal axis.
            y: value on the vertical axis.
        """
        left = self.canvas.left + self.across.place(x) * (self.right - self.canvas.left)
        return left, self.bottom - self.up.place(y) * (self.bottom - self.top)

    def group(self, name: str) -> Tree.Element:
        return Tree.SubElement(self.root, "g", {"class": name})

    def frame(self, title: str, ticks: int, against: str = "cost") -> None:
        """Draw the grid, the labels of its lines and the title.

        Args:
            title: what the vertical axis shows.
            ticks: about how many lines the horizontal axis has.
            against: what the horizontal axis shows, for the chart's label.
        """
        self.root.set("aria-label", f"{title} against {against}")
        grid = self.group("grid")
        left = self.canvas.left
        values = self.across.ticks(ticks)
        for value, label in zip(values, tick_labels(values), strict=True):
            x, _ = self.at(value, self.up.low)
            _line(grid, x, self.top, x, self.bottom)
            _write(grid, x, self.bottom + 18, label, "middle")
        values = self.up.ticks(6)
        for value, label in zip(values, tick_labels(values), strict=True):
            _, y = self.at(self.across.low, value)
            _line(grid, left, y, self.right, y)
            _write(grid, left - 7, y + 4, label, "end")
        _write(self.root, 4, 15, title, "start", "title")

    def dots(
        self, group: Tree.Element, xs: Sequence[float], ys: Sequence[float], name: str, shape: str
    ) -> None:
        """Many points as one path; those out of view and those that hide another are left out.

        Args:
            group: the group that the path goes into.
            xs: values on the horizontal axis.
            ys: values on the vertical axis, in the same order.
            name: CSS class of the path.
            shape: what SVG draws at each point, as path commands.
        """
        places = dict.fromkeys(
            (round(x), round(y))
            for x, y in (self.at(a, b) for a, b in zip(xs, ys, strict=True) if a == a and b == b)
            if self.canvas.left <= x <= self.right and self.top <= y <= self.bottom
        )
        if places:
            path = "".join(f"M{x} {y}{shape}" for x, y in places)
            Tree.SubElement(group, "path", {"class": name, "d": path})

    def target(self, target: float, line: int, limit: str, *, labelled: bool) -> None:
        """Mark a target: a vertical line where it is in view, and its label above the plot.

        Args:
            target: the target, as a value on the horizontal axis.
            line: number of the label's line above the plot, from 0 at the bottom.
            limit: text of the label.
            labelled: whether there is a label.
        """
        place = self.across.place(target)
        group = self.group("target")
        x, _ = self.at(min(max(target, self.across.low), self.across.high), self.up.low)
        if 0 <= place <= 1:
            _line(group, x, self.top, x, self.bottom)
        if labelled:
            text = f"{limit} →" if place > 1 else f"← {limit}" if place < 0 else limit
            anchor = "end" if place > 0.96 else "middle"
            _write(group, x, self.top - 6 - _LINE * line, text, anchor)

    def line(self, group: Tree.Element, points: Sequence[tuple[float, float]]) -> None:
        """Draw a line through points.

        Args:
            group: the group that the line goes into.
            points: points in the chart's units, as `at` gives them.
        """
        path = " ".join(f"{_text(x)},{_text(y)}" for x, y in points)
        Tree.SubElement(group, "polyline", {"class": "front", "points": path})

    def ring(self, group: Tree.Element, x: float, y: float) -> None:
        """Draw a ring around a point.

        Args:
            group: the group that the ring goes into.
            x: horizontal place, in the chart's units.
            y: vertical place, in the chart's units.
        """
        Tree.SubElement(group, "circle", {"cx": _text(x), "cy": _text(y), "r": "6.5", "class": "ring"})

    def point(self, group: Tree.Element, x: float, y: float, classes: str, row: str) -> None:
        """Draw a point that the page's script knows by its row.

        Args:
            group: the group that the point goes into.
            x: horizontal place, in the chart's units.
            y: vertical place, in the chart's units.
            classes: CSS classes of the point.
            row: value of its `data-row`.
        """
        radius = "7" if "chosen" in classes or "exported" in classes else "4"
        place = {"cx": _text(x), "cy": _text(y), "r": radius}
        Tree.SubElement(group, "circle", {**place, "class": classes, "data-row": row})


def _line(parent: Tree.Element, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": _text(x1), "y1": _text(y1), "x2": _text(x2), "y2": _text(y2)}
    Tree.SubElement(parent, "line", ends)


def _write(parent: Tree.Element, x: float, y: float, text: str, anchor: str, name: str = "") -> None:
    place = {"x": _text(x), "y": _text(y), "text-anchor": anchor}
    Tree.SubElement(parent, "text", {**place, **({"class": name} if name else {})}).text = text


def _text(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _serialise(element: Tree.Element) -> str:
    return Tree.tostring(element, encoding="unicode", short_empty_elements=True)
