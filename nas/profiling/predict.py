"""Seconds and bytes of every architecture of a measured space, by look-up.

Time adds up: the edges' pieces, the context under its layout, the coder. Memory peaks: while a part runs, a
codec holds its weights and that part's tensors, and a process holds more than its tensors (workspaces, the
allocator's reserve, code). How much more is fitted on processes that were measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from nas.cost.counting.sums import Part
from nas.cost.counting.table import CostTable
from nas.cost.exact.quantity import Quantity
from nas.profiling.measure import memory_corners
from nas.profiling.measurements import Measurements, Timed
from nas.profiling.pieces import choices_at, coding, edge_pieces, interpolated, without_idle_choices
from nas.profiling.timing import REST
from nas.spaces.architecture import Architecture
from nas.spaces.description import HYPER_EDGES, HYPERPRIOR
from nas.support.arrays import Floats
from nas.support.errors import InputError

PARTS_OF_ACTION = {
    "encode": ("g_a", "h_a", "h_s", "context", REST),
    "decode": ("h_s", "context", REST, "g_s"),
}
FLOAT, DOUBLE = 4, 8  # bytes of a weight
FACTORS = (0.75, 2.0)  # bytes that a process takes for a byte of weights or tensors, at least and at most
ReadValues = Callable[[Timed, str], list[float]]


@dataclass(frozen=True)
class PartTable:
    """One figure of a part of coding, over the choices of its axes.

    Attributes:
        part: name of the part.
        axes: places of the slots that it depends on.
        values: the figure for every combination of their choices, [choices of each axis].
    """

    part: str
    axes: tuple[int, ...]
    values: Floats

    def at(self, indexes: tuple[int, ...]) -> float:
        """The value for a choice in each slot.

        Args:
            indexes: one index per slot, the layout last.
        """
        return float(self.values[tuple(indexes[axis] for axis in self.axes)])

    def scaled(self, factor: float) -> Part:
        """The table in integers.

        Args:
            factor: factor of the values before rounding.
        """
        return Part(self.axes, np.rint(self.values * factor).astype(np.int64))


class Predictor:
    """Measured times and memory of a space, as quantities of every architecture.

    Args:
        costs: of the space, for its parameters.
        measured: measurements of the same space: see `measure`.

    Raises:
        InputError: something of the space was not measured yet.
    """

    def __init__(self, costs: CostTable, measured: Measurements) -> None:
        self.space, self._costs, self.measured = costs.space, costs, measured
        facts, space = measured.facts, costs.space
        coder = " without coder" if facts.get("coder") == "none" else ""
        self.where = f"at {facts['width']}x{facts['height']} on {facts['device']}{coder}"
        self._pieces, self._coding = edge_pieces(space), coding(space)
        self._switch = space.setter(HYPERPRIOR)
        checked = set(measured.checked)
        self._known = [
            (architecture, timed)
            for architecture, timed in measured.by_architecture(space).items()
            if architecture.key not in checked and timed.rounds
        ]
        self._seconds = {action: self._tables(action, _seconds) for action in PARTS_OF_ACTION}

    # Time

    @lru_cache(maxsize=2)  # noqa: B019 - a predictor lives as long as its search
    def time(self, action: str) -> Quantity:
        """Milliseconds of `encode` or `decode`, integers in nanoseconds.

        Args:
            action: `encode` or `decode`.
        """
        parts = tuple(table.scaled(1e9) for table in self._seconds[action])
        return Quantity(self.space, action, "ms", 10**6, (parts,), self.where)

    def milliseconds(self, architecture: Architecture, action: str) -> dict[str, float]:
        """The time by part: milliseconds of each edge, context and coder. Parts that do not run are left out.

        Args:
            architecture: an architecture of the space.
            action: `encode` or `decode`.
        """
        indexes = self.space.indexes(architecture)
        parts = dict.fromkeys(PARTS_OF_ACTION[action], 0.0)
        for table in self._seconds[action]:
            parts[table.part.split("[")[0]] += 1000 * table.at(indexes)
        return {name: value for name, value in parts.items() if value > 0}

    # Memory

    @lru_cache(maxsize=2)  # noqa: B019
    def memory(self, action: str) -> Quantity:
        """MB (10^6 bytes) that a process takes beyond its libraries while it does `encode` or `decode`.

        Args:
            action: `encode` or `decode`.

        Raises:
            InputError: the profile has no memory: it was measured on a GPU.
        """
        fixed, per_weight, per_live = self._fit(action)
        constant = Part((), np.array(round(fixed), dtype=np.int64))
        weights = [table.scaled(per_weight) for table in self._weights]
        phases = tuple((constant, *weights, table.scaled(per_live)) for table in self._peaks[action])
        return Quantity(self.space, action, "MB", 10**6, phases, self.where)

    def megabytes(self, architecture: Architecture, action: str) -> dict[str, float]:
        """The memory at its peak by part, in MB: process, weights, and tensors of the part that runs.

        Args:
            architecture: an architecture of the space.
            action: `encode` or `decode`.
        """
        fixed, per_weight, per_live = self._fit(action)
        indexes = self.space.indexes(architecture)
        weights, live = self.tensors(architecture, action)
        part = max(self._peaks[action], key=lambda table: table.at(indexes)).part.split("[")[0]
        parts = {"process": fixed, "weights": weights * per_weight, f"tensors of {part}": live * per_live}
        return {name: value / 1e6 for name, value in parts.items()}

    def tensors(self, architecture: Architecture, action: str) -> tuple[float, float]:
        """Bytes of an architecture's weights, and of the tensors it has at once beside them.

        Args:
            architecture: an architecture of the space.
            action: `encode` or `decode`.
        """
        indexes = self.space.indexes(architecture)
        weights = sum(table.at(indexes) for table in self._weights)
        return weights, max(table.at(indexes) for table in self._peaks[action])

    @cached_property
    def _peaks(self) -> dict[str, list[PartTable]]:
        return {action: self._tables(action, _peak) for action in PARTS_OF_ACTION}

    @cached_property
    def _weights(self) -> list[PartTable]:
        """Bytes of weights: the edges' own (h_s has a copy in double precision), and all others."""
        edges = []
        for layer in self._costs.layers:
            if layer.edge in self.space.family.edges:
                each = float(FLOAT + DOUBLE if layer.edge == "h_s" else FLOAT)
                edges.append(PartTable(layer.edge, layer.axes, each * layer.params.astype(np.float64)))

        def others(timed: Timed, architecture: Architecture) -> list[float]:
            indexes = self.space.indexes(architecture)
            return [timed.peaks["weights"] - sum(table.at(indexes) for table in edges)]

        return [*edges, self._coding_table("weights", others)]

    @property
    def fitted_on(self) -> list[Architecture]:
        """The architectures whose processes the memory is fitted on."""
        corners = memory_corners(self.space)
        return [corner for corner in corners if self.measured.codecs.get(corner.key, Timed()).process]

    def _fit(self, action: str) -> tuple[float, float, float]:
        """Bytes of a process: a constant, and factors of weights and tensors."""
        from scipy.optimize import lsq_linear

        if not self.fitted_on:
            if self.measured.is_elsewhere:
                raise InputError(
                    f"The profile of {self.measured.facts['device']} has times and no memory: leave limits "
                    "in MB out, or set them for this machine, as 200MB@cpu."
                )
            raise InputError(
                f"Memory was not measured {self.where}: limits in MB need `nas profile RUN --device cpu`."
            )
        rows = []
        for architecture in self.fitted_on:
            peak = self.measured.codecs[architecture.key].process[action]
            rows.append(np.array([1e6, *self.tensors(architecture, action)]) / peak)  # relative errors count
        low, high = zip((0, np.inf), FACTORS, FACTORS, strict=True)
        fitted = lsq_linear(np.array(rows), np.ones(len(rows)), bounds=(low, high), method="bvls").x
        return float(fitted[0] * 1e6), float(fitted[1]), float(fitted[2])

    # From rows to tables

    def _tables(self, action: str, read: ReadValues) -> list[PartTable]:
        """One table for every piece of the action's edges, one for its context, one for its coder."""
        tables = [
            self._edge_table(
                piece.axes, piece.name, piece.edge in HYPER_EDGES, f"{action} {piece.name}", read
            )
            for piece in self._pieces
            if piece.edge in PARTS_OF_ACTION[action]
        ]
        for part in ("context", REST):
            name = f"{action} {part}"
            tables.append(self._coding_table(part, lambda timed, _, name=name: read(timed, name)))  # type: ignore[misc]
        return tables

    def _edge_table(
        self, axes: tuple[int, ...], title: str, hyper: bool, name: str, read: ReadValues
    ) -> PartTable:
        space = self.space
        rows: dict[tuple[int, ...], list[float]] = {}
        for architecture, timed in self._known:
            rows.setdefault(choices_at(space, axes, architecture), []).extend(read(timed, name))
        table = np.zeros([space.shape[axis] for axis in axes])
        for choice in np.ndindex(*table.shape):
            off = self._switch in axes and choice[axes.index(self._switch)] == 0
            if not (off and hyper):
                table[choice] = self._median(rows, without_idle_choices(space, axes, choice), title)
        return PartTable(title, axes, table)

    def _coding_table(self, title: str, read: Callable[[Timed, Architecture], list[float]]) -> PartTable:
        space, part = self.space, self._coding
        rows: dict[tuple[int, ...], list[float]] = {}
        for architecture, timed in self._known:
            rows.setdefault(choices_at(space, part.axes, architecture), []).extend(read(timed, architecture))
        table = np.zeros([len(knots) for knots in part.knots])
        for cell in np.ndindex(*table.shape):
            choice = tuple(knots[k] for knots, k in zip(part.knots, cell, strict=True))
            table[cell] = self._median(rows, without_idle_choices(space, part.axes, choice), title)
        return PartTable(title, part.axes, interpolated(space, part, table))

    def _median(self, rows: dict[tuple[int, ...], list[float]], choice: tuple[int, ...], title: str) -> float:
        if not rows.get(choice):
            how = "run `nas profile` on the run, which measures what is missing"
            if self.measured.is_elsewhere:
                how = "write the pieces again with `nas profile RUN --pieces DIR`, and time those"
            raise InputError(
                f"Not all of {self.space.name} is measured {self.where} (some of {title} is not): {how}."
            )
        return statistics.median(rows[choice])


def _seconds(timed: Timed, name: str) -> list[float]:
    return [parts.get(name, 0.0) for parts in timed.rounds]


def _peak(timed: Timed, name: str) -> list[float]:
    return [float(timed.peaks.get(name, 0))]
