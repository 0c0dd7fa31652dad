"""Prepares results of `nas evaluate` for a commit, and reads the committed results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from experiments.results import read_result
from nas.metrics.curves import Curve, CurvePoint, bd_rate


def evaluation_to_commit(path: Path) -> dict[str, Any]:
    """Read a result of `nas evaluate`, without the single photos of formats and without local paths."""
    found = read_result(path)
    evaluation = found["evaluation"]
    for codec in evaluation["codecs"]:
        codec["folder"] = codec["name"]
    for points in evaluation["formats"].values():
        for point in points:
            del point["photos"]
    return found


def curves_of(found: dict[str, Any]) -> dict[str, Curve]:
    """Return the curves of a result by their names."""
    curves = {}
    for curve in found["curves"]:
        points = [
            CurvePoint(**{k: math.nan if v is None else v for k, v in point.items()})
            for point in curve["points"]
        ]
        curves[curve["name"]] = Curve(curve["name"], tuple(points), curve["kind"])
    return curves


def percent(curve: Curve | None, anchor: Curve | None) -> str:
    """Format the BD-rate by PSNR. Empty if there is none."""
    if curve is None or anchor is None or curve is anchor:
        return ""
    rate = bd_rate(curve, anchor)
    return "" if rate.percent is None else f"{rate.percent:+.1f}"
