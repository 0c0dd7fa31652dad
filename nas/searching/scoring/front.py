"""The Pareto front: which architectures no other one beats in both cost and loss."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas.cost.counting.table import CostTable
from nas.metrics.curves import Curve, CurvePoint
from nas.metrics.objective import Objective
from nas.metrics.pareto import non_dominated
from nas.run import FRONT_COLUMNS, Run
from nas.searching.scoring.evaluator import Point, Score
from nas.searching.scoring.final import with_tested
from nas.spaces.architecture import Architecture
from nas.spaces.budget import SCOPES
from nas.support.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd


def score_table(
    scores: Iterable[tuple[Architecture, Score]], costs: CostTable, objective: Objective
) -> pd.DataFrame:
    """Make a table of all scored architectures by total cost, with costs and the fronts that they are on.

    Over a range of rates, `bd_rate` compares with the widest architecture, if that one has a score.

    Args:
        scores: architectures with their scores.
        costs: costs of the space.
        objective: objective of the run's training.
    """
    import pandas as pd

    rows, scored = [], dict(scores)
    widest = scored.get(costs.space.widest())
    for architecture, score in scored.items():
        kmac = costs.scopes(architecture)
        rows.append(
            {
                "arch": architecture.key,
                **{f"{scope}_kmac_px": kmac[scope] for scope in SCOPES},
                "stages": costs.space.layout(architecture).stages(),
                "params": costs.params(architecture),
                "bpp": score.bpp,
                "psnr": score.psnr,
                "rd_loss": score.rd_loss,
                "bd_rate": bd_rate_of(score, widest),
                "lmbda": objective.lmbda,
                "metric": objective.metric,
            }
        )
    table = pd.DataFrame(rows, columns=[c for c in FRONT_COLUMNS if not c.startswith(("on_front", "test"))])
    for scope in SCOPES:
        table[f"on_front_{scope}"] = non_dominated(
            table[f"{scope}_kmac_px"].tolist(), table["rd_loss"].tolist()
        )
    for column in ("test_bpp", "test_psnr", "test_rd_loss"):
        table[column] = np.nan
    return table.sort_values(["total_kmac_px", "rd_loss"], kind="stable", ignore_index=True)


def bd_rate_of(score: Score, anchor: Score | None) -> float:
    """The Bjøntegaard difference in rate between two scores' curves at equal PSNR, in per cent.

    NaN if a score has no curve, or if the curves have no common range of PSNR.

    Args:
        score: the score.
        anchor: the score to compare with, or None where there is none.
    """
    if anchor is None:
        return math.nan
    (own_rate, own_quality), (rate, quality) = rising_points(score.curve), rising_points(anchor.curve)
    if min(len(own_rate), len(rate)) < 2:
        return math.nan
    if max(quality[0], own_quality[0]) >= min(quality[-1], own_quality[-1]):
        return math.nan
    from bjontegaard import bd_rate as compare

    sides = (rate, quality, own_rate, own_quality)
    return float(compare(*sides, method="pchip", require_matching_points=False, min_overlap=0))


def rising_points(curve: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Rates and PSNR of a curve's finite points that are better than every cheaper one.

    Args:
        curve: the points of a score.
    """
    points = [CurvePoint(p.bpp, p.psnr) for p in curve if math.isfinite(p.bpp)]
    return Curve("", tuple(sorted(points, key=lambda point: point.bpp))).rising("psnr")


def on_any_front(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are on the front of at least one scope.

    Args:
        table: scored architectures, one row each.
    """
    flags = table[[f"on_front_{scope}" for scope in SCOPES]]
    return table[flags.any(axis=1)].reset_index(drop=True)


def write_front(run: Run, table: pd.DataFrame) -> None:
    """Replace a run's front.csv atomically: the rows on a front, with the results of exported codecs.

    Args:
        run: the run.
        table: one row per scored architecture, as `score_table` gives them.
    """
    buffer = io.StringIO()
    with_tested(on_any_front(table), run).to_csv(buffer, index=False, lineterminator="\n")
    write_atomically(run.front_path, buffer.getvalue())
