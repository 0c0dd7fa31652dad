"""The style of figures: colours, text, markers, and figures whose parts are placed in inches."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nas.support.files import write_atomically

# Okabe and Ito's colours, which people with any kind of colour vision can distinguish. Markers repeat the
# distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#56B4E9", "#E69F00", "#444444")
MARKERS = ("o", "s", "^", "v", "P", "X", "h")
INK, FAINT, GRID = "#222222", "#777777", "#E6E6E6"
STYLE = {
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "nas",
}

# For the figure of a front, in inches
WIDTH, LEFT, RIGHT = 12.0, 0.75, 0.3
LABEL_GAP = 0.62  # distance of the centres of two labels on one line


def write_figure(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure, each file in the format of its name. Equal figures give equal files.

    Args:
        figure: the figure.
        paths: the files. Their endings give the formats.
    """
    for path in paths:
        kind = path.suffix[1:].lower()
        dates = {"svg": "Date", "pdf": "CreationDate"}  # left out, because they contain the date
        metadata = {dates[kind]: None} if kind in dates else {}
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
        write_atomically(path, buffer.getvalue())


@dataclass(frozen=True)
class PanelFigure:
    """A figure whose axes are placed in inches from its top left corner.

    Attributes:
        figure: the matplotlib figure.
        height: its height, in inches.
    """

    figure: Figure
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes with a corner and a size in inches.

        Args:
            left: distance from the left edge of the figure, in inches.
            top: distance from the upper edge of the figure, in inches.
            width: width of the axes, in inches.
            height: height of the axes, in inches.
        """
        bottom = self.height - top - height
        box = (left / WIDTH, bottom / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(box)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Write a line of text, which is never read as mathematics.

        Args:
            left: distance from the left edge of the figure, in inches.
            top: distance from the upper edge of the figure to that of the text, in inches.
            text: the text.
            **style: settings of the text for matplotlib.
        """
        # `parse_math` is off, because names of runs come from folders, and a folder may be called $x$.
        self.figure.text(left / WIDTH, 1 - top / self.height, text, va="top", parse_math=False, **style)


# Markers, as arguments of `Axes.plot`


def front_style(colour: str, marker: str, size: float) -> dict[str, Any]:
    """The style of architectures on the front in MACs.

    Args:
        colour: colour of the run.
        marker: marker of the run, as matplotlib has it.
        size: size of the marker, in points.
    """
    return {
        "color": colour,
        "marker": marker,
        "markersize": size,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }


def chosen_style(colour: str, marker: str, size: float) -> dict[str, Any]:
    """The style of an answer to a budget: hollow.

    Args:
        colour: colour of the run.
        marker: marker of the run, as matplotlib has it.
        size: size of the marker, in points.
    """
    hollow = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 2.0}
    return {**front_style(colour, marker, size), **hollow}


def quick_style(size: float) -> dict[str, Any]:
    """The style of architectures on the front in time: a ring.

    Args:
        size: size of the marker, in points.
    """
    return {
        "marker": "o",
        "markersize": size,
        "markerfacecolor": "none",
        "markeredgecolor": INK,
        "markeredgewidth": 0.9,
    }


def uniform_style(colour: str, size: float) -> dict[str, Any]:
    """The style of architectures of uniform width.

    Args:
        colour: colour of the run.
        size: size of the marker, in points.
    """
    return {
        "marker": "d",
        "markersize": size,
        "markerfacecolor": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 1.2,
    }


def tapered_style(colour: str, size: float) -> dict[str, Any]:
    """The style of architectures that taper by hand.

    Args:
        colour: colour of the run.
        size: size of the marker, in points.
    """
    return {**uniform_style(colour, size), "marker": "<"}


def between_style(colour: str, size: float) -> dict[str, Any]:
    """The style of exported decoders of a family that are not its ends: a small open star.

    Args:
        colour: colour of the run.
        size: size of the star in points.
    """
    return {
        "marker": "*",
        "markersize": size,
        "markerfacecolor": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.8,
    }


def exported_style(colour: str, size: float) -> dict[str, Any]:
    """The style of exported architectures, which were measured on real files: a star.

    Args:
        colour: colour of the run.
        size: size in points of the markers that the star goes with. The star is 1.25 times as large.
    """
    return {
        "marker": "*",
        "markersize": size * 1.25,
        "markerfacecolor": colour,
        "markeredgecolor": INK,
        "markeredgewidth": 0.9,
    }
