"""The data behind the figure and the page: one run's front, and everything that was scored around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nas.report.front.costs import COSTS, Cost, View
from nas.spaces.architecture import split_key
from nas.spaces.budget import check_scope
from nas.spaces.rates import range_text
from nas.support.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from nas.searching.scoring.evaluator import Point
    from nas.spaces.space import SearchSpace

_LOSS_COLUMNS = ("rd_loss", "bpp", "psnr")
_POINT_COLUMNS = ("arch", *(cost.column for cost in COSTS.values()), *_LOSS_COLUMNS)
_PAGE_FRONT_COLUMNS = (*_POINT_COLUMNS, "stages", "params", *(cost.flag for cost in COSTS.values()))
_MOST_CURVES = 5  # largest number of curves of one run


@dataclass(frozen=True)
class WidthRange:
    """One searched width: its slot, its edge, and its widest candidate in channels."""

    slot: str
    edge: str
    widest: int


@dataclass(frozen=True)
class Gain:
    """By how much a front is better than uniform widths.

    Only uniform architectures that no other uniform one beats are compared. For each of them, the best scored
    loss at or under its cost is found, and the least cost of scored architectures with at most its loss.
    Nothing is interpolated.

    Attributes:
        count: number of these uniform architectures.
        loss, most: % less loss at the same cost, as mean and maximum.
        cost: % less cost at the same loss, as mean.
    """

    count: int
    loss: float
    most: float
    cost: float

    def sentence(self) -> str:
        """The gain as a sentence."""
        if self.most <= 0:
            return "No better than uniform widths yet: search on."
        return (
            f"Compared with uniform widths ({self.count} at their best): {self.loss:.1f} % less loss at the "
            f"same cost on average (at most {self.most:.1f} %), the same loss at {self.cost:.0f} % less cost."
        )


@dataclass(frozen=True, eq=False)
class RunFront:
    """The front of one run (one lambda), and everything that was scored around it.

    Tables have a column for every cost. If the run was not profiled on this machine, the columns of time are
    NaN and the fronts in time are empty.

    Args:
        name: name of the run in legends.
        lmbda: weight of the distortion in the loss.
        metric: `mse` or `ms-ssim`.
        front: architectures that are on the front of some cost or were exported, with unique indexes. It has
            the columns of front.csv and of the time. `test_bpp`, `test_psnr` and `test_rd_loss` are NaN or
            absent for architectures that were not exported.
        scored: all scored architectures with the same columns. May be empty.
        uniform: architectures with uniform widths under hand-made layouts. May be empty.
        tapered: architectures that taper by hand. May be empty.
        targets: targets of the last search, by the name of the cost that they limit.
        machine: the machine on which the time was measured.
        space: the space, which gives the widest candidate of every slot. Without it, the widest scored width
            counts.
        answers: the search's answers by cost and target, as keys. Without an answer, the architecture on the
            front with the least loss at or under the target counts.
        curves: over a range of rates, the points of scored architectures by key.
        folder: the run's folder as it appears in commands. By default it is the run's name.

    Raises:
        InputError: the front is empty, a column is missing, or a key does not belong to an architecture.
    """

    name: str
    lmbda: float
    metric: str
    front: pd.DataFrame
    scored: pd.DataFrame
    uniform: pd.DataFrame
    tapered: pd.DataFrame
    targets: Mapping[str, Sequence[float]] = field(default_factory=dict)
    machine: str = ""
    space: SearchSpace | None = None
    answers: Mapping[str, Mapping[float, str]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    folder: str = ""

    def __post_init__(self) -> None:
        if self.front.empty:
            raise InputError(f"Run '{self.name}' has an empty front: run `nas search` first.")
        for what, table, needed in (
            ("front", self.front, _PAGE_FRONT_COLUMNS),
            ("scored", self.scored, _POINT_COLUMNS),
            ("uniform", self.uniform, _POINT_COLUMNS),
            ("tapered", self.tapered, _POINT_COLUMNS),
        ):
            missing = [column for column in needed if column not in table.columns]
            if missing and not table.empty:
                raise InputError(f"Run '{self.name}': its {what} table lacks {', '.join(missing)}.")
        for key in self.front["arch"]:
            self.widths(key)

    @property
    def label(self) -> str:
        """The run's name with its lambda."""
        return f"{self.name} (λ = {range_text(self.rates or (self.lmbda,))})"

    @property
    def rates(self) -> tuple[float, ...]:
        """The lambdas of the anchors over a range of rates. Empty for a single rate."""
        return self.space.rates if self.space is not None else ()

    @cached_property
    def timed(self) -> bool:
        """Whether the times of its architectures are known."""
        return bool(self.front["decode_ms"].notna().any())

    @cached_property
    def exported(self) -> pd.Series:
        """For every row of `front`, whether it was exported and measured on real files."""
        if "test_rd_loss" not in self.front.columns:
            return self.front["rd_loss"].isna() & False
        return self.front["test_rd_loss"].notna()

    @cached_property
    def between(self) -> pd.Series:
        """For every row of `front`, whether it was exported as one of a family's decoders, and is not an end.

        More than three exported architectures with the same encoder are a family. Its ends are the cheapest
        and the dearest decoder.
        """
        exported = self.front[self.exported].sort_values("decoder_kmac_px")
        encoders = exported["arch"].map(_encoder_of)
        several = encoders.map(encoders.value_counts()) > 3
        inside = several & encoders.duplicated(keep="first") & encoders.duplicated(keep="last")
        return self.exported & inside.reindex(self.front.index, fill_value=False)

    def on_front(self, cost: Cost) -> pd.DataFrame:
        """The rows on the front of one cost, cheapest first."""
        return self._fronts[cost.name]

    @cached_property
    def _fronts(self) -> dict[str, pd.DataFrame]:
        """The result of `on_front` for each cost, cached because a figure asks for it dozens of times."""
        return {cost.name: self._sorted(self.front[cost.flag].eq(True), cost) for cost in COSTS.values()}

    def curves_on(self, cost: Cost) -> dict[object, Sequence[Point]]:
        """The curves of a few architectures on the front of one cost, by equal ratios, the cheapest first.

        They are indexed by row. Empty for a single rate.
        """
        front = self.on_front(cost)
        with_curves = front[[len(self.curves.get(key, ())) > 1 for key in front["arch"]]]
        if with_curves.empty:
            return {}
        costs = with_curves[cost.column]
        goals = np.geomspace(costs.iloc[0], costs.iloc[-1], _MOST_CURVES)
        chosen = dict.fromkeys((costs - goal).abs().idxmin() for goal in goals)
        return {index: self.curves[with_curves.loc[index, "arch"]] for index in chosen}

    def members(self, view: View) -> pd.DataFrame:
        """The points of a view, the cheapest first: its fronts, exported architectures, and answers."""
        on = self.front[view.macs.flag].eq(True) | self.front[view.clock.flag].eq(True)
        chosen = self.front.index.isin([*self.chosen(view.macs).values(), *self.chosen(view.clock).values()])
        return self._sorted(
            (on | self.exported | chosen) & self.front[view.across.column].notna(), view.across
        )

    def _sorted(self, rows: pd.Series, cost: Cost) -> pd.DataFrame:
        found = self.front[rows]
        return found.iloc[np.lexsort((found["rd_loss"], found[cost.column]))]

    def chosen(self, cost: Cost) -> dict[float, object]:
        """For every target that an architecture meets, the index of the row that answers it.

        Args:
            cost: the limited cost.
        """
        front = self.on_front(cost)
        chosen: dict[float, object] = {}
        answers = self.answers.get(cost.name, {})
        for target in sorted(set(self.targets.get(cost.name, ()))):
            answer = self.front.index[self.front["arch"] == answers.get(target)]
            if len(answer):
                chosen[target] = answer[0]
                continue
            affordable = front[front[cost.column] <= target]
            if not affordable.empty:
                chosen[target] = affordable["rd_loss"].idxmin()
        return chosen

    def gain(self, cost: Cost) -> Gain | None:
        """The gain over uniform widths, or None if it is not known.

        Args:
            cost: the cost that the comparison uses.
        """
        from nas.metrics.pareto import non_dominated

        candidates = self.scored if not self.scored.empty else self.front
        if self.uniform.empty or candidates[cost.column].isna().any():
            return None
        best = self.uniform[
            non_dominated(self.uniform[cost.column].tolist(), self.uniform["rd_loss"].tolist())
        ]
        less_loss, less_cost = [], []
        for dear, loss in zip(best[cost.column], best["rd_loss"], strict=True):
            at_cost = candidates.loc[candidates[cost.column] <= dear, "rd_loss"].min()
            at_loss = candidates.loc[candidates["rd_loss"] <= loss, cost.column].min()
            less_loss.append(100 * (1 - at_cost / loss))
            less_cost.append(100 * (1 - at_loss / dear))
        count = len(best)
        return Gain(count, sum(less_loss) / count, max(less_loss), sum(less_cost) / count)

    def widths(self, key: str) -> tuple[int, ...]:
        """The widths of a key in channels, in the order of `ranges`.

        Raises:
            InputError: it is not a key of this space.
        """
        groups, _ = split_key(key)
        widths = tuple(width for values in groups.values() for width in values)
        if {edge: len(values) for edge, values in groups.items()} != self._counts:
            raise InputError(f"Run '{self.name}': the key '{key}' does not have the slots of the others.")
        return widths

    def shares(self, key: str) -> tuple[float, ...]:
        """Every width of a key relative to the widest of its slot, in [0, 1], in the order of `ranges`.

        A depth that is 0 in every architecture has the value 0.
        """
        return tuple(
            width / max(1, slot_range.widest)
            for width, slot_range in zip(self.widths(key), self.ranges, strict=True)
        )

    @cached_property
    def ranges(self) -> tuple[WidthRange, ...]:
        """The slots in the order of the key."""
        if self.space is not None:
            slots = _by_edge([slot.name for slot in self.space.slots])
            widest = {slot.name: max(slot.candidates) for slot in self.space.slots}
            return tuple(
                WidthRange(slot, edge, widest[slot]) for edge, names in slots.items() for slot in names
            )
        keys = [key for table in (self.front, self.scored, self.uniform) for key in table.get("arch", ())]
        most = [max(column) for column in zip(*(self.widths(key) for key in keys), strict=True)]
        names = [
            (edge if count == 1 else f"{edge}.{number + 1}", edge)
            for edge, count in self._counts.items()
            for number in range(count)
        ]
        return tuple(WidthRange(slot, edge, w) for (slot, edge), w in zip(names, most, strict=True))

    @cached_property
    def _counts(self) -> dict[str, int]:
        """The number of widths that a key lists for every edge."""
        if self.space is not None:
            slots = _by_edge([slot.name for slot in self.space.slots])
            return {edge: len(names) for edge, names in slots.items()}
        groups, _ = split_key(self.front["arch"].iloc[0])
        return {edge: len(values) for edge, values in groups.items()}


def _encoder_of(key: str) -> tuple[object, ...]:
    """What the decoders of one family share in their keys: everything but g_s and the layout."""
    widths, _ = split_key(key)
    return tuple((edge, each) for edge, each in widths.items() if edge.split("_")[:2] != ["g", "s"])


def check(fronts: Sequence[RunFront], scope: str) -> None:
    """Check that there is something to draw, and that the scope exists.

    Args:
        fronts: fronts of the runs.
        scope: name of the scope.

    Raises:
        InputError: there is no run, or the scope does not exist.
    """
    check_scope(scope)
    if not fronts:
        raise InputError("There is no run to draw: name at least one.")


def loss_formula(fronts: Sequence[RunFront]) -> str:
    """The formula of the loss, if all runs share one.

    Args:
        fronts: fronts of the runs.
    """
    formulas = {"mse": "bpp + λ·255²·MSE", "ms-ssim": "bpp + λ·(1 - MS-SSIM)"}
    used = {formulas.get(run.metric, run.metric) for run in fronts}
    formula = used.pop() if len(used) == 1 else "bpp + λ·distortion"
    rated = any(run.rates for run in fronts)
    return f"{formula}, geometric mean over three λ" if rated else formula


def on_one_axis(fronts: Sequence[RunFront]) -> Sequence[RunFront]:
    """Make the losses of runs comparable: with several lambdas, in % above each run's least loss.

    Args:
        fronts: fronts of the runs.
    """
    if len({(run.rates, run.lmbda, run.metric) for run in fronts}) < 2:
        return fronts
    return [_relative(run) for run in fronts]


def _relative(run: RunFront) -> RunFront:
    tables = {name: getattr(run, name) for name in ("front", "scored", "uniform", "tapered")}
    least = min(table["rd_loss"].min() for table in tables.values() if not table.empty)
    above = {
        name: table.assign(rd_loss=100 * (table["rd_loss"] / least - 1))
        for name, table in tables.items()
        if not table.empty
    }
    return replace(run, **above)


def loss_title(fronts: Sequence[RunFront]) -> str:
    """The title of an axis of losses.

    Args:
        fronts: fronts of the runs.
    """
    if on_one_axis(fronts) is fronts:
        return f"rate-distortion loss, {loss_formula(fronts)}"
    return "rate-distortion loss, % above the least of its run"


def _by_edge(slots: Sequence[str]) -> dict[str, list[str]]:
    """Slots grouped as `Architecture.key` groups them."""
    edges: dict[str, list[str]] = {}
    for slot in slots:
        edges.setdefault(slot.split(".")[0], []).append(slot)
    return edges
