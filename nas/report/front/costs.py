"""The costs that fronts are drawn against: MACs of a scope, or time to encode or decode."""

from __future__ import annotations

from dataclasses import dataclass

from nas.spaces.budget import ACTIONS, SCOPES


@dataclass(frozen=True)
class Cost:
    """One cost of every architecture, and its columns in tables.

    Attributes:
        name: a scope (`encoder`, `decoder`, `total`) or an action (`encode`, `decode`), as in limits of
            budgets.
        unit: kMAC/px or ms.
    """

    name: str
    unit: str

    @property
    def column(self) -> str:
        """The column of the cost in tables."""
        return f"{self.name}_{'ms' if self.is_time else 'kmac_px'}"

    @property
    def flag(self) -> str:
        """The column that says whether a row is on the front of this cost."""
        return f"on_front_{self.name}"

    @property
    def is_time(self) -> bool:
        """Whether the cost is a time."""
        return self.unit == "ms"

    @property
    def label(self) -> str:
        """The name of the cost in a table or on a button."""
        return f"time to {self.name}" if self.is_time else self.name

    @property
    def title(self) -> str:
        """The title of an axis."""
        if self.is_time:
            return f"time to {self.name} (ms at 768x512)"
        return f"{self.name} cost (kMAC per pixel at 768x512)"

    def limit(self, target: float) -> str:
        """Format a limit on this cost: `≤ 20`, `≤ 30 ms`.

        Args:
            target: the limit, in the cost's unit.
        """
        return f"≤ {target:.4g}{' ms' if self.is_time else ''}"


COSTS = {
    **{scope: Cost(scope, "kMAC/px") for scope in SCOPES},
    **{action: Cost(action, "ms") for action in ACTIONS},
}


@dataclass(frozen=True)
class View:
    """One horizontal axis, and the two fronts that are distinguished on it.

    Attributes:
        across: the cost on the axis.
        macs: the front in MACs.
        clock: the front in time. `across` is one of the two.
    """

    across: Cost
    macs: Cost
    clock: Cost


def clock_of(scope: str) -> Cost:
    """The time that belongs to a scope's MACs: to encode for `encoder`, else to decode, as in budgets."""
    return COSTS["encode" if scope == "encoder" else "decode"]


def view_of(name: str, scope: str = "total") -> View:
    """The view against one cost. A time is shown beside the MACs of a scope, which is `scope` if that fits.

    Args:
        name: name of the cost: a scope, or `encode` or `decode`.
        scope: `encoder`, `decoder` or `total`.
    """
    cost = COSTS[name]
    if not cost.is_time:
        return View(cost, cost, clock_of(name))
    fits = clock_of(scope) == cost
    return View(cost, COSTS[scope if fits else f"{name}r"], cost)
