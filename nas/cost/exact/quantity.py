"""The cost of an architecture in any unit, as tables over the few slots that each part of it depends on.

MACs, parameters, stages, seconds and bytes are sums of table entries. They are known for every architecture
before anything runs, so limits on them are filters, and the toolkit can say beforehand what is possible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.cost.counting.scopes import SCOPE_EDGES
from nas.cost.counting.sums import IntArray, Part, Sum
from nas.cost.counting.table import CostTable
from nas.spaces.architecture import Architecture
from nas.spaces.budget import REFERENCE_PIXELS, SCOPES
from nas.spaces.space import SearchSpace

GRAIN = 1e-9  # share of a limit; smaller differences are rounding errors


@dataclass(frozen=True, eq=False)
class Quantity:
    """One cost of every architecture of a space, in integer units: the largest of one or several sums.

    Attributes:
        space: the search space.
        name: name in messages, such as `decoder` or `decode`.
        unit: unit that people read: kMAC/px, GMAC, ms, MB, stages or parameters.
        per_unit: how many of the integer units make one `unit`.
        phases: the sums. A cost that adds up has one. A cost that is a peak (memory) has several.
        where: conditions of the cost, such as `at 768x512 on cpu`. Empty if there are none.
    """

    space: SearchSpace
    name: str
    unit: str
    per_unit: int
    phases: tuple[tuple[Part, ...], ...]
    where: str = ""

    def of(self, architecture: Architecture) -> int:
        """The cost of an architecture, in integer units."""
        return self.at(self.space.indexes(architecture))

    def at(self, indexes: Sequence[int]) -> int:
        """The cost for given indexes, in integer units.

        Args:
            indexes: one index per slot, the layout last.
        """
        return max(phase.at(indexes) for phase in self._sums)

    def of_rows(self, rows: IntArray) -> IntArray:
        """The costs of many rows of indexes, [n, slots + 1], in integer units: [n]."""
        sums = [
            sum((part.at_rows(rows) for part in phase), np.zeros(len(rows), dtype=np.int64))
            for phase in self.phases
        ]
        largest: IntArray = np.max(sums, axis=0)
        return largest

    @cached_property
    def _sums(self) -> tuple[Sum, ...]:
        return tuple(Sum.of(phase, self.space.shape) for phase in self.phases)

    def value(self, architecture: Architecture) -> float:
        """The cost of an architecture, in units."""
        return self.of(architecture) / self.per_unit

    def to_integer(self, limit: float) -> int:
        """The largest integer that a limit in units allows."""
        return math.floor(limit * self.per_unit * (1 + GRAIN) + 1e-3)

    def to_number(self, whole: int) -> float:
        """The shortest number of units that `to_integer` turns into this cost, as somebody would type it.

        Args:
            whole: the cost in integer units, `per_unit` of which make one unit.
        """
        value = whole / self.per_unit
        shorter = (float(f"{value:.{digits}g}") for digits in range(1, 16))
        return next((number for number in shorter if self._stands_for(number, whole)), value)

    def _stands_for(self, number: float, whole: int) -> bool:
        near = abs(number * self.per_unit - whole) <= 1e-4 * whole  # matters for a few integer units only
        return near and (self.to_integer(number) == whole or round(number * self.per_unit) == whole)

    def format(self, whole: int, *, least: bool = False) -> str:
        """Format a cost with its unit.

        Args:
            whole: the cost in integer units, `per_unit` of which make one unit.
            least: round up, for a cost that is the least possible.
        """
        one = self.per_unit == 1 and whole == 1
        return f"{self.format_number(whole, least=least)} {self.unit.removesuffix('s') if one else self.unit}"

    def format_number(self, whole: int, *, least: bool = False) -> str:
        """Format a cost without its unit. A least cost is rounded up, so that one can ask for it.

        Args:
            whole: the cost in integer units, `per_unit` of which make one unit.
            least: round up, for a cost that is the least possible.
        """
        value = whole / self.per_unit if least else self.to_number(whole)
        if self.per_unit == 1:
            return f"{round(value):,}"
        digits = max(0, 3 - math.floor(math.log10(value))) if value > 0 else 0
        rounded = math.ceil(value * 10**digits) / 10**digits if least else round(value, digits)
        text = f"{rounded:.{digits}f}"
        return text.rstrip("0").rstrip(".") if digits else text

    def format_named(self, whole: int, *, least: bool = False) -> str:
        """Format a cost for a place that names it, so that a unit with the same name is left out.

        Args:
            whole: the cost in integer units, `per_unit` of which make one unit.
            least: round up, for a cost that is the least possible.
        """
        return (self.format_number if self.unit == self.name else self.format)(whole, least=least)

    def format_with_title(self, whole: int) -> str:
        """Format a cost with its unit and its title, which may be the same.

        Args:
            whole: the cost in integer units, `per_unit` of which make one unit.
        """
        return self.format(whole) + (f" ({self.title})" if self.title != self.unit else "")

    @property
    def title(self) -> str:
        """The name, and the conditions if there are any."""
        return " ".join(filter(None, (self.name, self.where)))

    @property
    def identity(self) -> str:
        """A name for files and studies that consists of letters, digits and '-'."""
        words = f"{self.name} {self.unit} {self.where}".replace("/", "-").split()
        return "-".join(word for word in words if word not in ("at", "on"))


@dataclass(frozen=True, eq=False)
class Bound:
    """A limit on a quantity.

    Attributes:
        quantity: the limited quantity.
        most: the largest allowed value, in integer units of the quantity.
    """

    quantity: Quantity
    most: int

    def met(self, architecture: Architecture) -> bool:
        """Whether an architecture costs no more than the limit."""
        return self.quantity.of(architecture) <= self.most

    def __str__(self) -> str:
        q = self.quantity
        return " ".join(filter(None, (f"{q.name} <= {q.format_named(self.most)}", q.where)))


def meets(architecture: Architecture, bounds: Iterable[Bound]) -> bool:
    """Whether an architecture meets all bounds.

    Args:
        architecture: the architecture.
        bounds: the bounds.
    """
    return all(bound.met(architecture) for bound in bounds)


def macs(costs: CostTable, scope: str) -> Quantity:
    """The MACs of a scope as a quantity in kMAC per pixel at 768x512.

    Args:
        costs: costs of the space, at 768x512.
        scope: `encoder`, `decoder` or `total`.
    """
    parts = tuple(Part(layer.axes, layer.macs) for layer in costs.in_scope(scope))
    return _kmac_px(costs.space, scope, parts)


def giga_macs(costs: CostTable, scope: str, width: int, height: int) -> Quantity:
    """The MACs of a scope as a quantity in GMAC for one picture of this size.

    Args:
        costs: costs of the space for pictures of this size.
        scope: `encoder`, `decoder` or `total`.
        width: width of the picture, in pixels.
        height: height of the picture, in pixels.
    """
    parts = tuple(Part(layer.axes, layer.macs) for layer in costs.in_scope(scope))
    return Quantity(costs.space, scope, "GMAC", 10**9, (parts,), f"at {width}x{height}")


def parameters(costs: CostTable) -> Quantity:
    """The number of parameters of the exported codec as a quantity.

    Args:
        costs: cost table of the space.
    """
    parts = tuple(Part(layer.axes, layer.params) for layer in costs.layers)
    return Quantity(costs.space, "parameters", "parameters", 1, (parts,))


def stages(space: SearchSpace) -> Quantity:
    """The number of stages (serial decoding steps) at 768x512 as a quantity.

    Args:
        space: the search space.
    """
    values = np.array([space.layouts[name].stages() for name in space.layout_names], dtype=np.int64)
    return Quantity(space, "stages", "stages", 1, ((Part((len(space.slots),), values),),))


def scopes(costs: CostTable) -> dict[str, Quantity]:
    """The MACs of every scope as quantities, by scope.

    Args:
        costs: cost table of the space.
    """
    return {scope: macs(costs, scope) for scope in SCOPES}


def edges(costs: CostTable) -> dict[str, Quantity]:
    """The MACs of every edge of the space as quantities, by edge.

    Args:
        costs: cost table of the space.
    """
    parts: dict[str, tuple[Part, ...]] = {}
    for layer in costs.in_scope("total"):
        parts[layer.edge] = (*parts.get(layer.edge, ()), Part(layer.axes, layer.macs))
    order = [edge for edge in SCOPE_EDGES["total"] if edge in parts]
    return {edge: _kmac_px(costs.space, edge, parts[edge]) for edge in order}


def _kmac_px(space: SearchSpace, name: str, parts: tuple[Part, ...]) -> Quantity:
    return Quantity(space, name, "kMAC/px", 1000 * REFERENCE_PIXELS, (parts,))
