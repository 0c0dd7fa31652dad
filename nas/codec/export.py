"""From one architecture of a run to a codec's folder, measured with real files on held-out photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.codec.bitstream import Nic, compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.cost.macs import SCOPES
from nas.files import clear, refuse_existing
from nas.images import Photo, psnr, to_tensor
from nas.run import Run
from nas.search.front import write_front
from nas.space import Architecture
from nas.training.losses import distortion, rd_loss

HELD_OUT_PHOTOS = 24  # at most so many are measured
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Measured:
    """Means over photos of each photo's value, from real files and decoded 8-bit pictures."""

    photos: int
    bpp: float
    psnr: float
    rd_loss: float


def make_codec(run: Run, architecture: Architecture) -> Codec:
    """The codec of one architecture of a run's supernet."""
    return Codec(run.supernet().extract(architecture), architecture)


def measure(
    codec: Codec,
    photos: list[Photo],
    *,
    lmbda: float,
    metric: str,
    report: Report = lambda done, total, note: None,
) -> Measured:
    """Compress and decompress photos through complete .nic files."""
    rows = []
    for done, photo in enumerate(photos):
        report(done, len(photos), photo.name)
        data = compress_image(codec, photo.pixels).to_bytes()
        decoded = decompress_image(codec, Nic.parse(data))
        bpp = 8 * len(data) / photo.size
        error = float(distortion(to_tensor(photo.pixels), to_tensor(decoded), metric)[0])
        rows.append((bpp, psnr(photo.pixels, decoded), rd_loss(bpp, error, lmbda, metric)))
    report(len(photos), len(photos), "")
    bpp, quality, loss = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return Measured(len(rows), bpp, quality, loss)


def export(
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
    measured = measure(codec, photos, lmbda=settings.lmbda, metric=settings.metric, report=report)
    facts = {
        "lmbda": settings.lmbda,
        "metric": settings.metric,
        "kmac_px": {scope: round(costs.kmac_px(architecture, scope), 6) for scope in SCOPES},
        "stages": codec.layout.stages(),
        "params": costs.params(architecture),
        "measured": {"split": "held-out", **vars(measured)},
    }
    if force:
        clear(out)
    content = save_codec(codec, out, facts)
    _note_in_front(run, architecture, measured)
    return content


def _note_in_front(run: Run, architecture: Architecture, measured: Measured) -> None:
    if not run.front_path.is_file():
        return
    front = run.front()
    row = front["arch"] == architecture.key
    for column in ("bpp", "psnr", "rd_loss"):
        front.loc[row, f"test_{column}"] = getattr(measured, column)
    write_front(run.front_path, front)
