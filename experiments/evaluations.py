"""What `nas evaluate` wrote, as experiments commit it and read it again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from experiments.results import read_result
from nas.metrics.curves import Curve, CurvePoint, bd_rate


def evaluation_to_commit(path: Path) -> dict[str, Any]:
    """A result of `nas evaluate` without the formats' single photos, and without paths of this machine."""
    found = read_result(path)
    evaluation = found["evaluation"]
    for codec in evaluation["codecs"]:
        codec["folder"] = codec["name"]
    for points in evaluation["formats"].values():
        for point in points:
            del point["photos"]
    return found


def curves_of(found: dict[str, Any]) -> dict[str, Curve]:
    """Every curve of a result by its name."""
    curves = {}
    for curve in found["curves"]:
        points = [
            CurvePoint(**{k: math.nan if v is None else v for k, v in point.items()})
            for point in curve["points"]
        ]
        curves[curve["name"]] = Curve(curve["name"], tuple(points), curve["kind"])
    return curves


def percent(curve: Curve | None, anchor: Curve | None) -> str:
    """BD-rate by PSNR; nothing where there is none."""
    if curve is None or anchor is None or curve is anchor:
        return ""
    rate = bd_rate(curve, anchor)
    return "" if rate.percent is None else f"{rate.percent:+.1f}"
