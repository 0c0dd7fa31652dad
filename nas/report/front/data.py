"""The data of the report page as plain values: rows of its table, axes and runs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.report.front.costs import COSTS, Cost, view_of
from nas.report.front.fronts import RunFront, loss_formula, loss_title, on_one_axis
from nas.report.front.scale import Scale, cost_scale, measure_scale

if TYPE_CHECKING:
    import pandas as pd

MOST_DOTS = (
    2000  # largest number of other scored architectures; more make the page heavy and show nothing new
)
_COLOUR_COUNT = 7  # number of colours of runs in the style sheet
Place = tuple[int, object]  # place of a run among the fronts, and index of a row in its front


@dataclass(frozen=True)
class PageRow:
    """One architecture of one run's front, as the page shows it.

    Attributes:
        name: anchor of the row in the page.
        number: number of the row on the page, from 1.
        run_index: place of its run among the fronts.
        run: its run.
        values: its row of the front.
        budgets: the targets whose answer it is, each with the cost that it limits.
        exported: whether it was exported and measured on real files.
        between: whether it was exported within a family, and is neither its cheapest nor its dearest decoder.
    """

    name: str
    number: int
    run_index: int
    run: RunFront
    values: Any
    budgets: tuple[tuple[Cost, float], ...]
    exported: bool
    between: bool = False

    @property
    def colour(self) -> str:
        """The CSS class with the colour of its run."""
        return run_class(self.run_index)

    @property
    def badges(self) -> list[str]:
        """Short labels, such as answers to budgets."""
        limits = [f"{cost.label} {cost.limit(target)}" for cost, target in self.budgets]
        return [*limits, *["exported"] * self.exported]


def run_class(run_index: int) -> str:
    """The CSS class with the colour of a run.

    Args:
        run_index: place of the run among the drawn ones.
    """
    return f"run-{run_index % _COLOUR_COUNT}"


def known_costs(fronts: Sequence[RunFront]) -> list[Cost]:
    """The costs that at least one run knows: MACs always, time if it was measured.

    Args:
        fronts: fronts of the runs.
    """
    timed = any(run.timed for run in fronts)
    return [cost for cost in COSTS.values() if timed or not cost.is_time]


def is_rated(fronts: Sequence[RunFront]) -> bool:
    """Whether any architecture has a BD-rate.

    Args:
        fronts: fronts of the runs.
    """
    return any("bd_rate" in run.front.columns and run.front["bd_rate"].notna().any() for run in fronts)


def collect(fronts: Sequence[RunFront], scope: str) -> dict[Place, PageRow]:
    """The rows of all fronts, run by run, the cheapest first.

    Args:
        fronts: fronts of the runs.
        scope: scope whose MACs order the rows of a run: `encoder`, `decoder` or `total`.
    """
    rows: dict[Place, PageRow] = {}
    for run_index, run in enumerate(fronts):
        budgets: dict[object, list[tuple[Cost, float]]] = {}
        for cost in known_costs(fronts):
            for target, index in run.chosen(cost).items():
                budgets.setdefault(index, []).append((cost, target))
        for index, values in run.front.sort_values(f"{scope}_kmac_px", kind="stable").iterrows():
            count = len(rows) + 1
            chosen, exported = tuple(budgets.get(index, ())), bool(run.exported.loc[index])
            between = bool(run.between.loc[index])
            rows[run_index, index] = PageRow(
                f"a{count}", count, run_index, run, values, chosen, exported, between
            )
    return rows


def page_data(fronts: Sequence[RunFront], scope: str, rows: Mapping[Place, PageRow]) -> dict[str, Any]:
    """All data for the page's script, ready for JSON.

    The script reads the layout and the widths of a row from its key in the table.

    Args:
        fronts: fronts of the runs.
        scope: the scope shown first.
        rows: their rows, from `collect`.
    """
    drawn = on_one_axis(fronts)
    measures = _measures(fronts)
    shown = [_values(drawn[run_index].front, measures, index) for run_index, index in rows]
    return {
        "scope": scope,
        "measures": measures,
        "costs": {cost.name: _axis(fronts, drawn, cost, scope, measures) for cost in known_costs(fronts)},
        "runs": [_run(run, known_costs(fronts), measures, len(fronts)) for run in drawn],
        "rows": [_row(row) | {"shown": each} for row, each in zip(rows.values(), shown, strict=True)],
    }


def _measures(fronts: Sequence[RunFront]) -> dict[str, dict[str, str]]:
    """The choices for the vertical axis, by column."""
    loss = loss_title(fronts).partition(",")[2].strip()
    measures = {
        "rd_loss": {
            "label": "loss",
            "title": "Rate-distortion loss" + (f" ({loss})" if loss != loss_formula(fronts) else ""),
            "better": "lower",
        },
        "bpp": {"label": "rate", "title": "Rate (bits per pixel)", "better": "lower"},
        "psnr": {"label": "PSNR", "title": "PSNR (dB)", "better": "higher"},
    }
    if is_rated(fronts):
        title = "BD-rate (% of bits against the widest)"
        measures["bd_rate"] = {"label": "BD-rate", "title": title, "better": "lower"}
    return measures


def _axis(
    fronts: Sequence[RunFront],
    drawn: Sequence[RunFront],
    cost: Cost,
    scope: str,
    measures: Mapping[str, object],
) -> dict[str, Any]:
    """One cost: its names, its visible range, and the sentences about the fronts in it."""
    view = view_of(cost.name, scope)
    gains = []
    for run in fronts:
        gain = run.gain(cost)
        if gain is not None:
            gains.append((f"{run.label}: " if len(fronts) > 1 else "") + gain.sentence())
    return {
        "label": cost.label,
        "unit": cost.unit,
        "title": cost.title[:1].upper() + cost.title[1:],
        "macs": view.macs.name,
        "clock": view.clock.name,
        "across": _ends(cost_scale(drawn, view)),
        "up": {measure: _ends(measure_scale(drawn, measure, view)) for measure in measures},
        "gains": gains,
    }


def _ends(scale: Scale) -> dict[str, Any]:
    return {"domain": [scale.low, scale.high], "log": scale.log}


def _run(run: RunFront, costs: Sequence[Cost], measures: Mapping[str, object], runs: int) -> dict[str, Any]:
    scored = run.scored
    most = max(1, MOST_DOTS // runs)
    if len(scored) > most:
        scored = scored.sample(most, random_state=0)
    around = {"scored": scored, "uniform": run.uniform, "tapered": run.tapered}
    columns = [*(cost.column for cost in costs), *measures]
    return {
        "label": run.label,
        "folder": shlex.quote(run.folder or run.name),
        "slots": [[slot_range.slot, slot_range.edge, slot_range.widest] for slot_range in run.ranges],
        "known": run.space is not None,
        "targets": {cost.name: sorted(set(run.targets.get(cost.name, ()))) for cost in costs},
        "around": {
            name: {column: [_short(value) for value in table.get(column, ())] for column in columns}
            for name, table in around.items()
        },
    }


def _row(row: PageRow) -> dict[str, Any]:
    values = row.values
    final = [_exact(values.get(f"test_{name}", math.nan)) for name in ("bpp", "psnr", "rd_loss")]
    curve = row.run.curves.get(values["arch"], ())
    return {
        "id": row.name,
        "run": row.run_index,
        "costs": {cost.name: _exact(values[cost.column]) for cost in COSTS.values()},
        "stages": int(values["stages"]),
        "params": int(values["params"]),
        "bpp": _exact(values["bpp"]),
        "psnr": _exact(values["psnr"]),
        "rd_loss": _exact(values["rd_loss"]),
        "bd_rate": _exact(values.get("bd_rate", math.nan)),
        "on": [cost.name for cost in COSTS.values() if values[cost.flag]],
        "chosen": [cost.name for cost, _ in row.budgets],
        "badges": row.badges,
        "exported": row.exported,
        "between": row.between,
        "final": final if row.exported else None,
        "curve": [[point.lmbda, _exact(point.bpp), _exact(point.psnr)] for point in curve],
    }


def _values(front: pd.DataFrame, measures: Mapping[str, object], index: object) -> dict[str, float | None]:
    """The values that the charts show for a row. They are relative if runs of several lambdas are drawn."""
    return {name: _exact(front.loc[index, name]) if name in front.columns else None for name in measures}


def _exact(value: Any) -> float | None:
    """A number for JSON with seven digits, or None if it is not finite."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _short(value: Any) -> float | None:
    """A number with five digits, for dots whose value nobody reads."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
