"""The sensitivity table of an architecture as a picture: a row for each step, with its cost and its loss."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.analysis.sensitivity import SensitivityTable
from nas.report.style import COLOURS, FAINT, INK, STYLE, write_figure
from nas.support.tables import signed

_LESS, _MORE = COLOURS[2], COLOURS[1]  # colours of less and of more cost or loss

# In inches; the rows of a group follow its title
_WIDTH, _MARGIN, _ABOVE, _TITLE, _ROW = 11.0, 0.2, 0.75, 0.42, 0.19
_LETTER = 0.062  # width of a letter in a step's name, estimated generously
_NUMBER = 0.55  # room for a number beside the longest bar
_KEY_LINE, _KEY_LETTERS = 0.14, 160


def save_sensitivity_table(table: SensitivityTable, path: Path) -> None:
    """Write the picture in the format of the path's name: .png, .svg or .pdf.

    Args:
        table: the sensitivity table.
        path: file of the picture.
    """
    with matplotlib.style.context(["default", STYLE]):
        write_figure(_draw(table), [path])


def _draw(table: SensitivityTable) -> Figure:
    key = textwrap.wrap(table.architecture.key.replace("+", " +"), _KEY_LETTERS)
    steps = [step for group in table.groups.values() for step in group]
    header = _ABOVE + _KEY_LINE * len(key) + 0.3
    rows = [(title, len(group)) for title, group in table.groups.items()]
    height = header + sum(_TITLE + _ROW * count for _, count in rows) + _MARGIN
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)

    def write(top: float, text: str, left: float = _MARGIN, **style: Any) -> None:
        figure.text(left / _WIDTH, 1 - top / height, text, va="top", parse_math=False, **style)

    write(0.15, "One step in each slot: what it costs and what it loses", fontsize=13, weight="bold")
    write(0.45, table.heading(), fontsize=9.5)
    write(0.68, "\n".join(line.replace(" +", "+") for line in key), fontsize=7.5, color=FAINT)

    panels = {f"kMAC/px ({table.scope})": [step.kmac_px for step in steps]}
    if any(step.total_kmac_px != step.kmac_px for step in steps):
        panels["kMAC/px (total)"] = [step.total_kmac_px for step in steps]
    if table.action in table.ms:
        panels[f"ms to {table.action}"] = [step.ms[table.action] for step in steps]
    panels["loss, %"] = [step.loss for step in steps]
    left = _MARGIN + _LETTER * max((len(step.name) for step in steps), default=0) + 0.1
    wide = (_WIDTH - _MARGIN - left) / len(panels)
    for panel, (title, values) in enumerate(panels.items()):
        reach = _reach(values, wide)
        at, done, top = left + panel * wide, 0, header
        zero = at + wide * -reach[0] / (reach[1] - reach[0])
        write(header - 0.2, title, zero, fontsize=9, ha="center")
        for group, count in rows:
            if panel == 0:
                write(top + 0.2, group, fontsize=9, weight="bold")
            box = (at / _WIDTH, 1 - (top + _TITLE + _ROW * count) / height)
            axes = figure.add_axes((*box, wide / _WIDTH, _ROW * count / height))
            axes.set_xlim(reach)
            _bars(axes, values[done : done + count])
            if panel == 0:
                names = [step.name for step in steps[done : done + count]]
                axes.set_yticks(range(count), names)
                axes.tick_params(axis="y", length=0, labelsize=8, pad=4)
                for label in axes.get_yticklabels():
                    label.set_parse_math(False)
            done, top = done + count, top + _TITLE + _ROW * count
    return figure


def _reach(values: list[float], wide: float) -> tuple[float, float]:
    """The ends of an axis with the given width in inches: all bars, and room for numbers at both ends."""
    low, high = min([0.0, *values]), max([0.0, *values])
    room = ((high - low) or 1.0) * _NUMBER / (wide - 2 * _NUMBER)
    return low - room, high + room


def _bars(axes: Axes, values: list[float]) -> None:
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.barh(range(len(values)), values, 0.72, color=[_LESS if value < 0 else _MORE for value in values])
    axes.axvline(0, color="#999999", linewidth=0.8)
    for row, value in enumerate(values):
        shown = signed(value, ".2f" if abs(value) < 100 else ".0f")
        side = 1 if value >= 0 else -1
        axes.annotate(
            shown if value else "0",
            (value, row),
            xytext=(4 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center_baseline",
            fontsize=7.5,
            color=INK,
        )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
