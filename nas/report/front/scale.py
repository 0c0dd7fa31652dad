"""Axes: their visible range and their ticks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.report.front.costs import View
from nas.report.front.fronts import RunFront
from nas.support.arrays import Floats

if TYPE_CHECKING:
    import pandas as pd

# Losses of different lambdas lie far apart. Beyond this ratio only a logarithmic axis shows each shape.
_LOG_FROM = 4.0
# A few very bad architectures would squeeze the front into a line at the edge of the panel.
_IN_VIEW = (0.05, 0.95)
_PAD = 0.05


@dataclass(frozen=True)
class Scale:
    """A scale that maps values to places in [0, 1].

    Attributes:
        low: the value at 0.
        high: the value at 1.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    log: bool = False

    def fraction_of(self, value: float) -> float:
        """The place of a value: 0 at the low end, 1 at the high end, and outside [0, 1] beyond them."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, about: int = 6) -> list[float]:
        """Round numbers inside the range.

        Args:
            about: number of ticks to aim at.
        """
        if self.log:
            for mantissas in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
                decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                ticks = [m * 10.0**d for d in decades for m in mantissas]
                ticks = [value for value in ticks if self.low <= value <= self.high]
                if len(ticks) >= about - 2:
                    return ticks
        rough = (self.high - self.low) / about
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def cost_scale(fronts: Sequence[RunFront], view: View) -> Scale:
    """The horizontal axis: the costs of all scored architectures.

    Args:
        fronts: fronts of the runs.
        view: the cost on the axis.
    """
    tables = [table for run in fronts for table in (*_prominent(run, view), run.scored)]
    return padded(np.concatenate([_column(table, view.across.column) for table in tables]))


def measure_scale(fronts: Sequence[RunFront], measure: str, view: View) -> Scale:
    """A vertical axis. It shows both fronts, the baselines, and most other scored architectures.

    Args:
        fronts: fronts of the runs.
        measure: column of the tables, such as `rd_loss`.
        view: the cost on the other axis.
    """
    across = view.across.column
    values = [_column(table, measure, across) for run in fronts for table in _prominent(run, view)]
    for run in fronts:
        scored = _column(run.scored, measure, across)
        if scored.size:
            values.append(np.quantile(scored, _IN_VIEW))
    seen = np.concatenate(values)
    log = measure == "rd_loss" and len(fronts) > 1 and seen.size > 0 and seen.min() > 0
    return padded(seen, log=bool(log and seen.max() / seen.min() > _LOG_FROM))


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Format ticks: evenly spaced ones with equal decimals, others as short as possible.

    Args:
        ticks: values of the ticks, rising.
    """
    steps = {round(b - a, 10) for a, b in itertools.pairwise(ticks)}
    if len(steps) != 1:
        return [f"{value:g}" for value in ticks]
    decimals = next((d for d in range(8) if all(abs(round(v, d) - v) < 1e-9 for v in ticks)), 8)
    return [f"{value:.{decimals}f}" for value in ticks]


def number(value: float) -> str:
    """Format a cost with three significant digits.

    Args:
        value: the cost, in any unit.
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def lines_of_labels(places: Sequence[float], gap: float) -> list[int]:
    """The line (0, 1, ...) of each label, so that labels on one line are at least `gap` apart.

    Args:
        places: centres of the labels, rising.
        gap: the least distance of two centres on one line, in the unit of `places`.
    """
    ends: list[float] = []
    lines = []
    for centre in places:
        line = next((k for k, end in enumerate(ends) if centre - end >= gap), len(ends))
        ends[line : line + 1] = [centre]
        lines.append(line)
    return lines


def _prominent(run: RunFront, view: View) -> tuple[pd.DataFrame, ...]:
    """The tables that must be visible completely."""
    return run.members(view), run.uniform, run.tapered


def _column(table: pd.DataFrame, name: str, finite_in: str = "") -> Floats:
    """The finite values of a column in rows where another column is finite. Empty for an empty table."""
    values = np.asarray(table.get(name, ()), dtype=float)
    beside = np.asarray(table.get(finite_in or name, ()), dtype=float)
    finite: Floats = values[np.isfinite(values) & np.isfinite(beside)]
    return finite


def padded(values: Sequence[float] | Floats, *, log: bool = False) -> Scale:
    """An axis around some finite values, with room at both ends.

    Args:
        values: the values. With `log` they are above 0.
        log: whether the axis is logarithmic.
    """
    values = np.asarray(values)
    if not values.size:
        return Scale(0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        room = (high / low) ** _PAD
        return Scale(low / room, high * room, log=True)
    # A single architecture needs an axis around it, too.
    room = (high - low) * _PAD or max(abs(high) * _PAD, 1e-3)
    return Scale(low - room, high + room)
