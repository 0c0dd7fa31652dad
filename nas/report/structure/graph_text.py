"""A codec's graph as text: boxes for nodes, arrows as thick as their MACs, the layout's tile beside it.

╭───╮ g_a 91.3     ╭───╮ h_a 2.42                                   ╭───╮
│ x │█████████████►│   │━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━►│   │
╰───╯              │   │ context 3.46                  ╭───╮        │   │
                   │ y │━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━►│psi│  ...   │ z │
"""

from __future__ import annotations

import textwrap
from bisect import bisect_right

from nas.report.front.scale import number
from nas.report.structure.codec_graph import Arrow, CodecGraph
from nas.report.structure.layout_text import TERMINAL_WIDTH, draw_tile, side_by_side, slope_text
from nas.spaces.description import ENTROPY_PARAMETERS

STROKES = "─━═▄█"  # thin to thick
_FROM = (0.1, 1, 10, 100)  # kMAC per pixel from which the next thicker stroke is used
_NOTHING = "╌"  # stroke of arrows without computation
_ROWS = 10
_TALLEST = 20  # a taller tile is drawn below, where it has the whole width


def draw_graph(graph: CodecGraph) -> list[str]:
    """A codec's graph as lines of at most 100 characters: nodes, arrows with kMAC per pixel, and the tile.

    Lines are longer if a layout's tile is wider.
    """
    drawn = _boxes_and_arrows(graph)
    title = f"the codec as a graph: kMAC per image pixel at 768x512, {graph.total:.4g} in total"
    room = TERMINAL_WIDTH - max(map(len, drawn)) - 3
    tile = _tile(graph, room)
    if len(tile) > _TALLEST or max(map(len, tile)) > room:
        lines = [*drawn, "", *_tile(graph, TERMINAL_WIDTH)]
    else:
        lines = side_by_side([drawn, tile])
    return [title, "", *lines, "", *_notes(graph)]


def stroke(arrow: Arrow) -> str:
    """The character of an arrow: thicker for more MACs."""
    return STROKES[bisect_right(_FROM, arrow.kmac_px)] if arrow.edge else _NOTHING


def label(arrow: Arrow) -> str:
    """An arrow's edge and its kMAC per pixel."""
    return f"{arrow.edge} {number(arrow.kmac_px)}" if arrow.edge else ""


def _boxes_and_arrows(graph: CodecGraph) -> list[str]:
    """Three columns of boxes. y and z are so tall that every arrow is horizontal."""
    arrows = {arrow.edge: arrow for arrow in graph.arrows}
    # the arrow back from psi, with or without computation
    inward = arrows.get(ENTROPY_PARAMETERS) or arrows.get("")

    def gap(*edges: str) -> int:
        return max([10, *(len(label(arrows[edge])) + 2 for edge in edges if edge in arrows)])

    y = 7 + gap("g_a", "g_s")
    page = _TextCanvas()
    page.box("x", 0, 0, 3, 7)
    page.box("x_hat", 7, 0, 3, 7)
    page.box("y", 0, y, _ROWS, 5)
    page.arrow(arrows["g_a"], 1, 7, y)
    page.arrow(arrows["g_s"], 8, 7, y, back=True)
    if "h_a" in arrows:
        psi = y + 5 + gap("context", ENTROPY_PARAMETERS)
        z = psi + 5 + gap("h_s")
        page.box("psi", 3, psi, 5, 5)
        page.box("z", 0, z, _ROWS, 5)
        page.arrow(arrows["h_a"], 1, y + 5, z)
        page.arrow(arrows["h_s"], 5, psi + 5, z, back=True)
        if "context" in arrows:
            page.arrow(arrows["context"], 4, y + 5, psi)
        if inward is not None:
            page.arrow(inward, 6, y + 5, psi, back=True)
    return page.lines()


def _tile(graph: CodecGraph, columns: int) -> list[str]:
    name, slope = graph.layout.name, slope_text(graph.layout)
    heading = f"layout {name}, the stage of each position:"
    room = max(24, columns)  # a narrower column would break words, so the tile is drawn below
    return [*textwrap.wrap(heading, room), *draw_tile(graph.layout, room), *textwrap.wrap(slope, room)]


def _notes(graph: CodecGraph) -> list[str]:
    """The meaning of the strokes and names in the drawing."""
    names = {*graph.nodes, *(arrow.edge for arrow in graph.arrows)}
    strokes = ", ".join(f"{mark} from {bound}" for mark, bound in zip(STROKES[1:], _FROM, strict=True))
    lines = [f"thickness by kMAC per pixel: {STROKES[0]} below {_FROM[0]}, {strokes}"]
    if "" in names:
        lines.append(f"{_NOTHING}: nothing to compute, psi itself holds the parameters of y")
    elif "psi" in names:
        lines.append("psi: what z tells of the parameters of y")
    if "context" in names:
        lines.append("context: y_i given each y_j that is decoded earlier and lies in its window")
    lines += [f"{edge}: {branches}" for edge, branches in graph.branches.items()]
    return lines


class _TextCanvas:
    """Lines of characters that grow when something is written on them."""

    def __init__(self) -> None:
        self._rows: list[list[str]] = [[] for _ in range(_ROWS)]

    def put(self, row: int, column: int, text: str) -> None:
        cells = self._rows[row]
        cells += " " * (column + len(text) - len(cells))
        cells[column : column + len(text)] = text

    def box(self, name: str, top: int, left: int, height: int, width: int) -> None:
        inside = width - 2
        self.put(top, left, f"╭{'─' * inside}╮")
        for row in range(top + 1, top + height - 1):
            self.put(row, left, f"│{name if row == top + height // 2 else '':^{inside}}│")
        self.put(top + height - 1, left, f"╰{'─' * inside}╯")

    def arrow(self, arrow: Arrow, row: int, left: int, right: int, *, back: bool = False) -> None:
        """Draw a horizontal arrow between two boxes, with its label above."""
        shaft = stroke(arrow) * (right - left - 1)
        self.put(row, left, f"◄{shaft}" if back else f"{shaft}►")
        self.put(row - 1, left + 1, label(arrow))

    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._rows]
