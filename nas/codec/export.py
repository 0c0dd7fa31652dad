"""From one architecture of a run to a codec's folder, measured with real files on held-out photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas.codec.codec import Codec
from nas.codec.evaluate import evaluate_codec
from nas.codec.folder import save_codec
from nas.cost.scopes import SCOPES
from nas.files import clear, refuse_existing
from nas.run import HELD_OUT_PHOTOS, Run
from nas.search.final import note_tested, with_tested
from nas.search.front import write_front
from nas.space import Architecture

Report = Callable[[int, int, str], None]


def make_codec(run: Run, architecture: Architecture) -> Codec:
    """The codec of one architecture of a run's supernet."""
    return Codec(run.supernet().extract(architecture), architecture)


def export_codec(
    run: Run,
    architecture: Architecture,
    out: Path,
    *,
    force: bool = False,
    report: Report = lambda done, total, note: None,
) -> dict[str, Any]:
    """Write a codec's folder and note its results on held-out photos in the run's front.csv.

    Args:
        run: a trained run.
        architecture: what to export.
        out: the codec's folder.
        force: replace what is there.
        report: called with photos measured, of how many, and a name.

    Returns:
        The content of codec.yaml.
    """
    refuse_existing(out, force=force, what="codec")
    settings, costs = run.settings, run.costs()
    codec = make_codec(run, architecture)
    photos = run.photos("held-out")[:HELD_OUT_PHOTOS]
    found = evaluate_codec(codec, photos, lmbda=settings.lmbda, metric=settings.metric, report=report)
    measured = {"bpp": found.bpp, "psnr": found.psnr, "rd_loss": found.rd_loss}
    facts = {
        "lmbda": settings.lmbda,
        "metric": settings.metric,
        "kmac_px": {scope: round(costs.kmac_px(architecture, scope), 6) for scope in SCOPES},
        "kmac_px_by_edge": {edge: round(cost, 6) for edge, cost in costs.by_edge(architecture).items()},
        "stages": codec.layout.stages(),
        "params": costs.params(architecture),
        "measured": {"split": "held-out", "photos": len(photos), **measured},
    }
    if force:
        clear(out)
    content = save_codec(codec, out, facts)
    note_tested(run, architecture, measured)
    if run.front_path.is_file():
        write_front(run.front_path, with_tested(run.front(), run))
    return content
