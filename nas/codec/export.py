"""From one architecture of a run to a codec's folder, measured with real files on held-out photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.codec.codec import Codec
from nas.codec.evaluate import bits_of_latents, evaluate_codec
from nas.codec.folder import save_codec
from nas.codec.quantize import can_be_exact, quantized
from nas.cost.scopes import SCOPES
from nas.errors import InputError
from nas.files import clear, refuse_existing
from nas.images import Padded, Photo
from nas.run import HELD_OUT_PHOTOS, Run
from nas.search.final import note_tested, with_tested
from nas.search.front import write_front
from nas.space import Architecture

Report = Callable[[int, int, str], None]

QUANTIZING_PHOTOS = 8  # calibration photos that the whole numbers of the entropy path are chosen on
MOST_COST = 0.005  # of the exact entropy path in rate; beyond it the path stays in float64
ARITHMETICS = ("exact", "float64")


@dataclass(frozen=True)
class Made:
    """A codec, and what its exact entropy path costs.

    Attributes:
        codec: of one architecture.
        cost: how much more bits whole numbers take than float64 on calibration photos, a share; None where
            there is nothing to compare.
    """

    codec: Codec
    cost: float | None = None


def make_codec(run: Run, architecture: Architecture, arithmetic: str | None = None) -> Made:
    """The codec of one architecture of a run's supernet.

    Args:
        run: a trained run.
        architecture: what to extract.
        arithmetic: of the entropy path, exact or float64; by default exact, unless that is impossible or
            costs more than `MOST_COST`.

    Raises:
        InputError: an unknown arithmetic, or an exact one for latents that are no whole numbers.
    """
    if arithmetic not in (None, *ARITHMETICS):
        raise InputError(f"There is no arithmetic '{arithmetic}': use exact or float64.")
    floating = Codec(run.supernet().extract(architecture), architecture)
    if floating.network.centred and arithmetic == "exact":
        raise InputError(
            "The exact entropy path reads whole numbers, and this space's quantiser is centred: export with "
            "--arithmetic float64."
        )
    if not can_be_exact(floating) or arithmetic == "float64":
        return Made(floating)
    photos = run.photos("calibration")[:QUANTIZING_PHOTOS]
    latents = [_latents(floating, photo) for photo in photos]
    exact = quantized(floating, latents)
    theirs, ours = (sum(bits_of_latents(codec, *each) for each in latents) for codec in (floating, exact))
    cost = ours / theirs - 1
    kept = arithmetic == "exact" or cost <= MOST_COST
    return Made(exact if kept else floating, cost)


def _latents(codec: Codec, photo: Photo) -> tuple[Tensor, Tensor]:
    y_hat, z_hat = codec.latents(Padded(photo.pixels, codec.alignment))
    assert z_hat is not None
    return y_hat, z_hat


def export_codec(
    run: Run,
    architecture: Architecture,
    out: Path,
    *,
    arithmetic: str | None = None,
    force: bool = False,
    report: Report = lambda done, total, note: None,
) -> dict[str, Any]:
    """Write a codec's folder and note its results on held-out photos in the run's front.csv.

    Args:
        run: a trained run.
        architecture: what to export.
        out: the codec's folder.
        arithmetic: of the entropy path: see `make_codec`.
        force: replace what is there.
        report: called with photos measured, of how many, and a name.

    Returns:
        The content of codec.yaml.
    """
    refuse_existing(out, force=force, what="codec")
    settings, costs = run.settings, run.costs()
    made = make_codec(run, architecture, arithmetic)
    codec = made.codec
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
        **({} if made.cost is None else {"exact_costs": round(made.cost, 6)}),
    }
    if force:
        clear(out)
    content = save_codec(codec, out, facts)
    note_tested(run, architecture, measured)
    if run.front_path.is_file():
        write_front(run.front_path, with_tested(run.front(), run))
    return content
