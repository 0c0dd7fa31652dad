"""Seconds and bytes of every architecture of a measured space, by look-up.

Time adds up: the edges' pieces, the context under its layout, the coder. Memory peaks: while each edge runs,
a codec holds its weights and that edge's tensors, and a process holds more than its tensors (workspaces, the
allocator's reserve, code). How much more is fitted on processes that were measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.cost.measure import CODING
from nas.cost.measurements import Measurements
from nas.cost.pieces import (
    EdgePiece,
    coding,
    edge_pieces,
    interpolated,
    label,
    settled,
)
from nas.cost.quantity import Part, Quantity
from nas.cost.table import CostTable
from nas.cost.timing import REST
from nas.errors import InputError
from nas.graph.description import HYPER_EDGES, HYPERPRIOR
from nas.space import Architecture

Array = NDArray[np.float64]
EDGES = {"encode": ("g_a", "h_a", "h_s"), "decode": ("h_s", "g_s")}
PARTS = {"encode": ("g_a", "h_a", "h_s", "context", REST), "decode": ("h_s", "context", REST, "g_s")}
FLOAT, DOUBLE = 4, 8  # bytes of a weight


class Predictor:
    """What was measured of a space, as quantities of every architecture.

    Args:
        costs: of the space, for its parameters.
        measured: of the same space; see `measure`.

    Raises:
        InputError: something of the space was not measured yet.
    """

    def __init__(self, costs: CostTable, measured: Measurements) -> None:
        self.space, self._costs, self.measured = costs.space, costs, measured
        self.pieces = edge_pieces(self.space)
        self._coding = coding(self.space)
        self._switch = self.space.setter(HYPERPRIOR)
        facts = measured.facts
        self.where = f"at {facts['width']}x{facts['height']} on {facts['device']}"
        self._seconds = self._read(measured.seconds)

    # Time

    def time(self, action: str) -> Quantity:
        """Milliseconds of `encode` or `decode`, whole numbers in nanoseconds."""
        parts = [part for name in PARTS[action] for part in self.time_parts(action, name)]
        return Quantity(self.space, action, "ms", 10**6, (tuple(parts),), self.where)

    def time_parts(self, action: str, name: str) -> list[Part]:
        """The terms of one edge, of the context or of the coder, in nanoseconds."""
        if name in EDGES[action]:
            tables = [(piece.axes, self._seconds[piece.name]) for piece in self.pieces if piece.edge == name]
        else:
            tables = [(self._coding.axes, self._seconds[f"{action} {name}"])]
        return [Part(axes, np.rint(table * 1e9).astype(np.int64)) for axes, table in tables]

    def milliseconds(self, architecture: Architecture, action: str) -> dict[str, float]:
        """Where the time goes: milliseconds by edge, context and coder; those of no edge are left out."""
        indexes = self.space.indexes(architecture)
        found = {
            name: sum(part.at(indexes) for part in self.time_parts(action, name)) / 1e6
            for name in PARTS[action]
        }
        return {name: value for name, value in found.items() if value > 0}

    # Memory

    def memory(self, action: str) -> Quantity:
        """MB (10^6 bytes) that a process takes beyond its libraries while it does `encode` or `decode`.

        Raises:
            InputError: the profile has no memory: it was measured on a GPU.
        """
        fixed, per_weight, per_live = self._fit(action)
        weights = [
            Part(part.axes, np.rint(part.values * per_weight).astype(np.int64)) for part in self._weights
        ]
        constant = Part((), np.array(round(fixed), dtype=np.int64))
        phases = tuple(
            (constant, *weights, Part(axes, np.rint(table * per_live).astype(np.int64)))
            for axes, table in self._live(action)
        )
        return Quantity(self.space, action, "MB", 10**6, phases, self.where)

    def _live(self, action: str) -> list[tuple[tuple[int, ...], Array]]:
        """The most bytes of tensors at once, by what runs."""
        known = self._live_bytes
        found = [(piece.axes, known[piece.name]) for piece in self.pieces if piece.edge in EDGES[action]]
        context = known.get(f"{action} context")
        return found if context is None else [*found, (self._coding.axes, context)]

    @cached_property
    def _live_bytes(self) -> dict[str, Array]:
        return self._read(self.measured.bytes_of, without=(f"decode {REST}", f"encode {REST}"))

    @cached_property
    def _weights(self) -> list[Part]:
        """Bytes of weights: the edges' own (h_s has a copy in double precision), and all others."""
        found = []
        for layer in self._costs.layers:
            if layer.edge in self.space.family.edges:
                each = FLOAT + DOUBLE if layer.edge == "h_s" else FLOAT
                found.append(Part(layer.axes, layer.params * each))
        held = self._read(self.measured.bytes_of, only=f"encode {REST}")[f"encode {REST}"]
        return [*found, Part(self._coding.axes, np.rint(held).astype(np.int64))]

    def tensors(self, architecture: Architecture, action: str) -> tuple[int, int]:
        """Bytes of an architecture's weights, and of the tensors it has at once beside them."""
        indexes = self.space.indexes(architecture)
        weights = sum(part.at(indexes) for part in self._weights)
        live = max(float(table[tuple(indexes[axis] for axis in axes)]) for axes, table in self._live(action))
        return weights, round(live)

    def _fit(self, action: str) -> tuple[float, float, float]:
        """Bytes of a process: a constant, and factors of weights and tensors; none is negative."""
        from scipy.optimize import nnls

        fitted = self.fitted_on
        if not fitted:
            raise InputError(
                f"Memory was not measured {self.where}: limits in MB need `nas profile RUN --device cpu`."
            )
        rows, wanted = [], []
        for key in fitted:
            weights, live = self.tensors(self.space.parse(key), action)
            peak = self.measured.memory[key][action]
            rows.append(np.array([1e6, weights, live]) / peak)  # relative errors count
            wanted.append(1.0)
        found, _ = nnls(np.array(rows), np.array(wanted))
        return float(found[0] * 1e6), float(found[1]), float(found[2])

    @cached_property
    def fitted_on(self) -> list[str]:
        """The architectures whose processes the memory is fitted on; others that were measured are not."""
        from nas.cost.measure import Request, memory_sample

        return [key for key in memory_sample(self.space, Request()) if key in self.measured.memory]

    # Reading

    def _read(
        self,
        look_up: Callable[[str, str], Any],
        *,
        only: str | None = None,
        without: tuple[str, ...] = (),
    ) -> dict[str, Array]:
        """A table for each piece, and for each part of coding, over all choices of its axes."""
        found = {}
        try:
            for piece in self.pieces if only is None else ():
                found[piece.name] = self._table_of(piece, look_up)
            for what in CODING:
                if what not in without and only in (None, what):
                    found[what] = self._coding_table(what, look_up)
        except KeyError as error:
            raise InputError(
                f"Not all of {self.space.name} is measured {self.where} ({' '.join(error.args[0])} is not): "
                "run `nas profile` on the run, which measures what is missing."
            ) from None
        return found

    def _table_of(self, piece: EdgePiece, look_up: Callable[[str, str], Any]) -> Array:
        space, shape = self.space, [self.space.shape[axis] for axis in piece.axes]
        table = np.zeros(shape)
        for choice in np.ndindex(*shape):
            off = self._switch in piece.axes and choice[piece.axes.index(self._switch)] == 0
            if not (off and piece.edge in HYPER_EDGES):
                table[choice] = look_up(
                    piece.name, label(space, piece.axes, settled(space, piece.axes, choice))
                )
        return table

    def _coding_table(self, what: str, look_up: Callable[[str, str], Any]) -> Array:
        space, part = self.space, self._coding
        sizes = [len(knots) for knots in part.knots]
        table = np.zeros(sizes)
        for place in np.ndindex(*sizes):
            choice = tuple(knots[k] for knots, k in zip(part.knots, place, strict=True))
            table[place] = look_up(what, label(space, part.axes, settled(space, part.axes, choice)))
        return interpolated(space, part, table)
