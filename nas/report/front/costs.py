"""What fronts are drawn against: the MACs of a scope, or the time that encoding or decoding takes."""

from __future__ import annotations

from dataclasses import dataclass

from nas.spaces.budget import ACTIONS, SCOPES


@dataclass(frozen=True)
class Cost:
    """One cost of every architecture, and the columns of tables that tell it.

    Attributes:
        name: a scope or an action; the limits of a budget are called the same.
        unit: kMAC/px or ms.
    """

    name: str
    unit: str

    @property
    def column(self) -> str:
        """Where tables hold it."""
        return f"{self.name}_{'ms' if self.is_time else 'kmac_px'}"

    @property
    def flag(self) -> str:
        """Where tables say whether no other architecture beats a row in this cost and the loss."""
        return f"on_front_{self.name}"

    @property
    def is_time(self) -> bool:
        """Whether the cost is a time."""
        return self.unit == "ms"

    @property
    def label(self) -> str:
        """What it is called in a table or on a button."""
        return f"time to {self.name}" if self.is_time else self.name

    @property
    def title(self) -> str:
        """What an axis says."""
        if self.is_time:
            return f"time to {self.name} (ms at 768x512)"
        return f"{self.name} cost (kMAC per pixel at 768x512)"

    def limit(self, target: float) -> str:
        """A budget in it: `≤ 20`, `≤ 30 ms`.

        Args:
            target: the budget, in the cost's unit.
        """
        return f"≤ {target:.4g}{' ms' if self.is_time else ''}"


COSTS = {
    **{scope: Cost(scope, "kMAC/px") for scope in SCOPES},
    **{action: Cost(action, "ms") for action in ACTIONS},
}


@dataclass(frozen=True)
class View:
    """One horizontal axis, and the two fronts that are told apart on it.

    Attributes:
        across: what the axis is.
        macs, clock: the front in MACs and the front in time; `across` is one of them.
    """

    across: Cost
    macs: Cost
    clock: Cost


def clock_of(scope: str) -> Cost:
    """Whose time goes with a scope's MACs: as in budgets, that of encoding in `encoder`, else of decoding."""
    return COSTS["encode" if scope == "encoder" else "decode"]


def view_of(name: str, scope: str = "total") -> View:
    """The view against one cost; beside a time stand the MACs of a scope, those of `scope` if it fits.

    Args:
        name: name of the cost: a scope, or `encode` or `decode`.
        scope: `encoder`, `decoder` or `total`.
    """
    cost = COSTS[name]
    if not cost.is_time:
        return View(cost, cost, clock_of(name))
    fits = clock_of(scope) == cost
    return View(cost, COSTS[scope if fits else f"{name}r"], cost)
