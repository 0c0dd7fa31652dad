"""The reachable costs of a space, known before anything is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.cost.exact.quantity import Quantity
from nas.profiling.quantities import Quantities, Question
from nas.spaces.budget import SCOPES
from nas.support.tables import TableRow


@dataclass(frozen=True)
class Range:
    """The reachable range of one quantity.

    Attributes:
        quantity: the limited or reported cost.
        whole: the least, the median and the most, in the quantity's integer units.
    """

    quantity: Quantity
    whole: tuple[int, int, int]

    @classmethod
    def of(cls, quantity: Quantity, question: Question) -> Range:
        """The ranges for architectures that meet a budget's limits.

        Args:
            quantity: the cost.
            question: the question of the budget.
        """
        asked = quantity is question.quantity
        return cls(quantity, question.span if asked else question.feasible.span(quantity))

    @property
    def least(self) -> float:
        """The least cost, in the quantity's unit."""
        return self.whole[0] / self.quantity.per_unit

    @property
    def median(self) -> float:
        """The median cost, in the quantity's unit."""
        return self.whole[1] / self.quantity.per_unit

    @property
    def most(self) -> float:
        """The largest cost, in the quantity's unit."""
        return self.whole[2] / self.quantity.per_unit

    def row(self) -> TableRow:
        """A line of a table; asking for the least that it tells works."""
        least, median, most = self.whole
        quantity = self.quantity
        cells = [
            quantity.format_number(least, least=True),
            quantity.format_number(median),
            quantity.format_number(most),
        ]
        return [quantity.title, *cells, quantity.unit]

    def to_json(self) -> dict[str, float]:
        """Plain values, in the quantity's unit."""
        return {"least": self.least, "median": self.median, "most": self.most}


def scope_ranges(quantities: Quantities, question: Question) -> dict[str, Range]:
    """kMAC per pixel by scope, within a budget's limits.

    Args:
        quantities: costs of the run.
        question: the question of the budget.
    """
    return {scope: Range.of(quantities.of(scope, "kMAC/px", None), question) for scope in SCOPES}


@dataclass(frozen=True)
class Possible:
    """The reachable costs of a space within a budget's limits.

    Attributes:
        space: its name.
        size: number of architectures, without limits.
        limits: what all that is told of meets, for people; empty where everything may be chosen.
        scopes: MACs of the three scopes.
        others: stages, parameters, MACs of every edge, and what the targets limit where it is none of these.
    """

    space: str
    size: int
    limits: str
    scopes: dict[str, Range]
    others: tuple[Range, ...]

    columns = ("what", "least", "median", "most", "unit")

    @classmethod
    def of(cls, quantities: Quantities, question: Question) -> Possible:
        """The reachable costs within a budget's limits. This needs no photo and no score.

        Args:
            quantities: the costs of a space.
            question: a budget, resolved for it.
        """
        space, scopes = quantities.costs.space, scope_ranges(quantities, question)
        told = {scope_range.quantity for scope_range in scopes.values()}
        wanted = dict.fromkeys([*quantities.everywhere, question.quantity])
        others = tuple(Range.of(quantity, question) for quantity in wanted if quantity not in told)
        return cls(space.name, space.size, " and ".join(map(str, question.feasible.bounds)), scopes, others)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges of all quantities, the scopes first."""
        return (*self.scopes.values(), *self.others)

    @property
    def title(self) -> str:
        """The heading of the printed table."""
        reached = f"those with {self.limits} reach" if self.limits else "what they reach"
        return f"{self.space}: {self.size:,} architectures, {reached}"

    def rows(self) -> list[TableRow]:
        """Lines of a table."""
        return [possible.row() for possible in self.ranges]

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, by what and unit."""
        return [
            {"what": possible.quantity.title, "unit": possible.quantity.unit, **possible.to_json()}
            for possible in self.ranges
        ]
