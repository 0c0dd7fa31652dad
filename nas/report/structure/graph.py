"""A codec's graph as a picture: circles for nodes, arrows as thick as their MACs, and the layout."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle
from numpy.typing import NDArray

from nas.report.front.scale import number
from nas.report.structure.codec_graph import Arrow, CodecGraph
from nas.report.structure.layout_picture import LETTER, LINE, MARGIN, PANEL, Panel, Sheet, layout_figure
from nas.report.style import COLOURS, FAINT, INK, STYLE, write_figure
from nas.spaces.layout import Layout
from nas.support.errors import InputError
from nas.support.files import refuse_existing

SUFFIXES = (".png", ".svg", ".pdf")
POINTS, HAIRLINE = 3.0, 0.5  # line widths of an arrow of 1 kMAC per pixel, and of the thinnest one
SIDES = {"encoder": COLOURS[0], "both": COLOURS[6], "decoder": COLOURS[1]}

# In inches
_HEADER, _GRAPH, _LEGEND = 0.72, 3.55, 1.0
_RADIUS = 0.33
_SAMPLES = (0.1, 1, 10, 100)  # kMAC per pixel, in the legend
_DASHES = (0, (4, 3))  # for arrows without computation

Points = NDArray[np.float64]


def check_picture(path: Path, *, force: bool) -> None:
    """Check that a picture may be written to a path.

    Args:
        path: file of the picture.
        force: whether an existing file may be replaced.

    Raises:
        InputError: the name does not end in .png, .svg or .pdf, or the file exists.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"Cannot draw {path}: choose a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    refuse_existing(path, force=force, what="picture", folder=False)


def save_picture(drawn: CodecGraph | Layout, path: Path) -> None:
    """Write the picture of a codec's graph or of a layout. Equal content gives equal bytes.

    Args:
        drawn: the graph or the layout.
        path: file of the picture. Its ending gives the format.
    """
    figure = draw_picture(drawn)
    with matplotlib.style.context(["default", STYLE]):  # for writing, too: text in an SVG stays text
        write_figure(figure, [path])


def draw_picture(drawn: CodecGraph | Layout) -> Figure:
    """Draw a codec or a layout as a figure that pyplot does not manage.

    Args:
        drawn: the codec's graph, or the layout.
    """
    with matplotlib.style.context(["default", STYLE]):
        return _graph_figure(drawn) if isinstance(drawn, CodecGraph) else layout_figure(drawn)


def line_width(arrow: Arrow) -> float:
    """Width of an arrow's line, in points.

    Args:
        arrow: the arrow.
    """
    return max(HAIRLINE, POINTS * arrow.thickness)


def _graph_figure(graph: CodecGraph) -> Figure:
    right = 6.5 if "z" in graph.nodes else 4.3
    key = _wrap_key(graph.key, 120 if "z" in graph.nodes else 90)
    top = _HEADER + LINE * len(key)
    panel_left = right + 1.15
    panel = Panel(graph.layout)
    legend = _LEGEND + LINE * len(graph.branches)
    height = max(top + _GRAPH + legend, top + panel.height + 0.2)
    page = Sheet(panel_left + PANEL, height)
    title = f"{graph.family}: {graph.total:.4g} kMAC per pixel at 768x512"
    page.text(MARGIN, 0.36, title, fontsize=14, fontweight="bold")
    for line, part in enumerate(key):
        page.text(MARGIN, 0.66 + LINE * line, part, fontsize=8.5, color=FAINT)
    _Network(page, graph, right, top).draw()
    _legend(page, graph, top + _GRAPH + 0.2)
    panel.draw(page, panel_left, top)
    return page.figure


def _wrap_key(key: str, columns: int) -> list[str]:
    """Split a key into lines that end after a '+'."""
    return [line.replace("+ ", "+") for line in textwrap.wrap(key.replace("+", "+ "), columns)]


class _Network:
    """Nodes, and arrows between them."""

    def __init__(self, page: Sheet, graph: CodecGraph, right: float, top: float) -> None:
        self.page, self.graph = page, graph
        high, middle, low = top + 0.6, top + _GRAPH / 2, top + _GRAPH - 0.6
        left = MARGIN + _RADIUS + 0.1  # the text below is wider
        y = 3.1 if "z" in graph.nodes else right
        self.places = {
            "x": np.array([left, high]),
            "x_hat": np.array([left, low]),
            "y": np.array([y, middle]),
            "z": np.array([right, high]),
            "psi": np.array([right, low]),
        }

    def draw(self) -> None:
        between = [a for a in self.graph.arrows if {a.tail, a.head} == {"y", "psi"}]
        for arrow in self.graph.arrows:
            # the two arrows of the loop on y bend away from each other
            self._arrow(arrow, bend=0.36 if arrow in between and len(between) > 1 else 0.0)
        if len(between) > 1:
            y, psi = self.places["y"], self.places["psi"]
            style: dict[str, Any] = {"fontsize": 8, "color": FAINT, "rotation": _angle(psi - y)}
            middle = (y + psi) / 2
            said = "$y_i$ given each $y_j$ decoded earlier"
            self.page.text(middle[0], middle[1], said, formula=True, ha="center", **style)
        for node in self.graph.nodes:
            self._node(node)

    def _node(self, node: str) -> None:
        x, y = self.places[node]
        circle = Circle((x, y), _RADIUS, facecolor="#F4F4F4", edgecolor=INK, linewidth=1.2, zorder=3)
        self.page.axes.add_patch(circle)
        signs = {"x_hat": r"$\hat{x}$", "psi": r"$\psi$"}
        sign = signs.get(node, f"${node}$")
        self.page.text(x, y, sign, formula=True, ha="center", fontsize=15, zorder=4)
        notes = {node: f"{count} channels" for node, count in self.graph.channels.items()}
        notes |= {"psi": "parameters of y", "x": "photo", "x_hat": "decoded photo"}
        down = -1 if node in {"x", "z"} else 1
        self.page.text(x, y + down * (_RADIUS + 0.14), notes[node], ha="center", fontsize=8, color=FAINT)

    def _arrow(self, arrow: Arrow, bend: float) -> None:
        """Draw a curve from rim to rim, with its label along it. `bend` moves its middle outwards."""
        tail, head = self.places[arrow.tail], self.places[arrow.head]
        along = (head - tail) / np.linalg.norm(head - tail)
        left = np.array([along[1], -along[0]])  # left side in the direction of the arrow; y grows downwards
        # the outside of the picture; for the loop on y, the outside of the loop
        out = -left if {arrow.tail, arrow.head} == {"y", "psi"} else left
        control = (tail + head) / 2 + 2 * bend * out
        middle = self._stroke(arrow, _rim(tail, control), control, _rim(head, control))
        if not arrow.edge:
            return
        at = middle + (line_width(arrow) / 2 / 72 + 0.12) * out
        style: dict[str, Any] = {"ha": "center", "rotation": _angle(along)}
        if abs(along[1]) > abs(along[0]):  # for steep arrows, horizontal text beside them is easier to read
            style = {"ha": "left"}
        words = f"{arrow.edge}  {number(arrow.kmac_px)}"
        self.page.text(at[0], at[1], words, rotation_mode="anchor", fontsize=10, **style)

    def _stroke(self, arrow: Arrow, start: Points, control: Points, tip: Points) -> Points:
        """Draw the shaft, as wide as the scale says, and the head. Returns the middle of the shaft."""
        width, colour = line_width(arrow), SIDES[arrow.side]
        length, half = 0.1 + 0.9 * width / 72, 0.05 + 0.85 * width / 72
        into = (tip - control) / np.linalg.norm(tip - control)
        base, across = tip - length * into, half * np.array([-into[1], into[0]])
        shaft = _curve(start, control, base)
        self.page.axes.plot(
            *shaft.T,
            color=colour,
            linewidth=width,
            linestyle="-" if arrow.edge else _DASHES,
            solid_capstyle="butt",
            label=arrow.edge or "_nothing",
            zorder=2,
        )
        corners = np.array([tip, base + across, base - across])
        self.page.axes.add_patch(Polygon(corners, color=colour, linewidth=0, zorder=2))
        return np.asarray(shaft[len(shaft) // 2])


def _legend(page: Sheet, graph: CodecGraph, top: float) -> None:
    """Draw the legend: the colours of the sides with their total costs, and the scale of the widths."""
    words = {"encoder": "encoder alone", "both": "both sides", "decoder": "decoder alone"}
    x = MARGIN
    for side, colour in SIDES.items():
        cost = sum(arrow.kmac_px for arrow in graph.arrows if arrow.side == side)
        if not cost:
            continue
        page.axes.add_patch(Rectangle((x, top - 0.055), 0.16, 0.11, color=colour, linewidth=0))
        text = f"{words[side]}: {number(cost)}"
        page.text(x + 0.23, top, text, fontsize=8.5)
        x += 0.23 + LETTER * len(text) + 0.3
    x = MARGIN
    for cost in _SAMPLES:
        sample = Arrow("", "", "", cost)
        page.axes.plot(
            [x, x + 0.4], [top + 0.3] * 2, color=FAINT, lw=line_width(sample), solid_capstyle="butt"
        )
        text = f"{cost:g}" if cost != _SAMPLES[-1] else f"{cost:g} kMAC per pixel"
        page.text(x + 0.48, top + 0.3, text, fontsize=8.5)
        x += 0.48 + LETTER * len(text) + 0.25
    if any(not arrow.edge for arrow in graph.arrows):
        page.axes.plot([x, x + 0.4], [top + 0.3] * 2, color=FAINT, lw=HAIRLINE, linestyle=_DASHES)
        page.text(x + 0.48, top + 0.3, "nothing computed", fontsize=8.5)
    rule = (
        f"line width: {POINTS:g} pt x cube root of kMAC per pixel, at least {HAIRLINE} pt: "
        "eight times the MACs, twice the width"
    )
    notes = [rule, *(f"{edge}: {branches}" for edge, branches in graph.branches.items())]
    for line, note in enumerate(notes):
        page.text(MARGIN, top + 0.55 + LINE * line, note, fontsize=8, color=FAINT)


def _rim(centre: Points, towards: Points) -> Points:
    """The point just off a node's rim that faces another point."""
    direction = (towards - centre) / np.linalg.norm(towards - centre)
    return np.asarray(centre + (_RADIUS + 0.03) * direction)


def _curve(start: Points, control: Points, end: Points) -> Points:
    """A quadratic Bézier curve, shape [points, 2]."""
    t = np.linspace(0, 1, 41)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)


def _angle(direction: Points) -> float:
    """The angle of a text along a direction, in degrees, never upside down."""
    degrees = math.degrees(math.atan2(-direction[1], direction[0]))
    return (degrees + 90) % 180 - 90
