"""The probes of an architecture as a picture: its activations, the needed share of each, and the headroom."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.analysis.probes.probe import Probe, ProbeResult
from nas.report.style import COLOURS, FAINT, INK, STYLE, write_figure

_NEEDED, _SPARE, _LACKED = COLOURS[0], "#D6E6F1", COLOURS[1]
_BANDS = ("#F5F5F5", "#FFFFFF")

# In inches
_WIDTH, _MARGIN, _ABOVE, _ROW, _BELOW = 11.0, 0.2, 1.0, 0.21, 0.25
_EDGE, _LETTER, _SHAPE, _KEY_LINE = 0.55, 0.066, 4.6, 0.14
_KEY_LETTERS = 160
_NUMBER = 1.0  # room for a number beside the longest bar


def pictures_of(path: Path) -> list[Path]:
    """The paths of the pictures for FILE.json: FILE.png and FILE.svg.

    Args:
        path: path of the FILE.json.
    """
    return [path.with_suffix(".png"), path.with_suffix(".svg")]


def save_probes(result: ProbeResult, paths: Sequence[Path]) -> None:
    """Write the picture, each file in the format of its name. Equal results give equal files.

    Args:
        result: result of the probes.
        paths: the files.
    """
    with matplotlib.style.context(["default", STYLE]):
        write_figure(_draw(result), paths)


def _draw(result: ProbeResult) -> Figure:
    probes = result.probes
    key = textwrap.wrap(result.architecture.key.replace("+", " +"), _KEY_LETTERS)
    header = _ABOVE + _KEY_LINE * len(key)
    height = header + _ROW * len(probes) + _BELOW
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)

    def write(left: float, top: float, text: str, **style: Any) -> None:
        figure.text(left / _WIDTH, 1 - top / height, text, va="top", parse_math=False, **style)

    write(
        _MARGIN,
        0.15,
        "Where this codec is wider than it needs to be, and where it lacks capacity",
        fontsize=13,
        weight="bold",
    )
    write(_MARGIN, 0.43, result.where(), fontsize=9.5)
    write(_MARGIN, 0.64, "\n".join(line.replace(" +", "+") for line in key), fontsize=7.5, color=FAINT)

    names = _MARGIN + _EDGE
    shape = names + _LETTER * max(len(probe.interface.name) for probe in probes) + 0.1
    right = shape + _SHAPE + 0.15
    titles = {"color": INK, "fontsize": 9, "ha": "center"}
    tolerance = f"{result.request.tolerance:g} %"
    write(
        shape + _SHAPE / 2,
        header - 0.2,
        f"channels, and components that keep the loss within {tolerance}",
        **titles,
    )
    write(
        right,
        header - 0.2,
        "headroom, % of the loss",
        color=INK,
        fontsize=9,
    )

    def panel(left: float, right: float) -> Axes:
        box = (left / _WIDTH, _BELOW / height, (right - left) / _WIDTH, _ROW * len(probes) / height)
        axes = figure.add_axes(box)
        axes.set(ylim=(len(probes) - 0.5, -0.5), xticks=[], yticks=[])
        axes.patch.set_visible(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    _bands(panel(_MARGIN, _WIDTH - _MARGIN), probes)
    _labels(panel(names, shape), probes)
    _silhouette(panel(shape, shape + _SHAPE), probes)
    _headroom(panel(right, _WIDTH - _MARGIN), probes)
    return figure


def _bands(axes: Axes, probes: Sequence[Probe]) -> None:
    """Draw a band for every edge, with its name."""
    axes.set_xlim(0, 1)
    edges = groupby(range(len(probes)), key=lambda index: probes[index].interface.edge)
    for number, (edge, places) in enumerate(edges):
        rows = list(places)
        axes.axhspan(rows[0] - 0.5, rows[-1] + 0.5, color=_BANDS[number % 2], linewidth=0)
        middle = (rows[0] + rows[-1]) / 2
        axes.text(0.008, middle, edge, va="center_baseline", fontsize=10, weight="bold", parse_math=False)


def _labels(axes: Axes, probes: Sequence[Probe]) -> None:
    axes.set_xlim(0, 1)
    for row, probe in enumerate(probes):
        weight = "bold" if probe.interface.is_node else "normal"
        axes.text(
            0, row, probe.interface.name, va="center_baseline", fontsize=8, weight=weight, parse_math=False
        )


def _silhouette(axes: Axes, probes: Sequence[Probe]) -> None:
    """Draw centred bars, as long as the number of channels, filled as far as components are needed."""
    channels, needed = ([getattr(p, name) for p in probes] for name in ("channels", "components"))
    reach = max(channels) / 2 * _SHAPE / (_SHAPE - _NUMBER)
    axes.set_xlim(-reach, reach)
    rows = range(len(probes))
    axes.barh(rows, channels, 0.92, [-count / 2 for count in channels], color=_SPARE)
    axes.barh(rows, needed, 0.92, [-count / 2 for count in needed], color=_NEEDED)
    for row, probe in enumerate(probes):
        axes.annotate(
            f"{probe.components} of {probe.channels}",
            (probe.channels / 2, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=7.5,
        )


def _headroom(axes: Axes, probes: Sequence[Probe]) -> None:
    saved = [probe.headroom for probe in probes]
    axes.set_xlim(0, (max(saved) or 1.0) * 1.25)
    axes.barh(range(len(probes)), saved, 0.72, color=_LACKED)
    for row, value in enumerate(saved):
        axes.annotate(
            f"{value:.2f}" if value < 10 else f"{value:.1f}",
            (value, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=7.5,
        )
