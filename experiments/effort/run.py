"""How much smaller a codec's files get with effort.

    python -m experiments.effort.run CODEC --data KODAK [--photos 4] [--efforts 3 5 7] [--show]

The script measures BD-rates by PSNR over every other anchor of the codec's range of rates, and the seconds to
compress a photo. It compresses photos that are spread evenly over the folder into real files. It writes
results/effort.json after each effort, and its table in docs/codec.md.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import torch

from experiments.results import ROOT, facts, options, read_result, renew, say, table, write_result
from nas.codec.codec import Codec
from nas.codec.folder import load_codec, read_description
from nas.codec.refining.effort import STEPS_OF_EFFORT
from nas.comparison.evaluate import evaluate_codec
from nas.metrics.curves import Curve, bd_rate
from nas.metrics.objective import Objective
from nas.photos.images import Photo, list_images
from nas.photos.split import load_photos
from nas.spaces.rates import anchor_qualities

RESULT = Path(__file__).parent / "results" / "effort.json"


def measured(codec: Codec, photos: list[Photo], effort: int) -> list[dict[str, float]]:
    """Measure means over the photos at every other anchor."""
    points = []
    for quality, lmbda in list(anchor_qualities(codec.rates).items())[::2]:
        found = evaluate_codec(codec, photos, Objective(lmbda), quality=quality, effort=effort)
        points.append({"quality": quality, **found.means()})
        say(f"effort {effort}, quality {quality:g}: {found.bpp:.4f} bpp, {found.psnr:.2f} dB")
    return points


def curve(name: str, points: list[dict[str, float]]) -> Curve:
    """Make the curve of one effort."""
    return Curve.of(name, [SimpleNamespace(**point) for point in points])


def tables(found: dict[str, Any]) -> list[str]:
    """Make the tables that stand between the marks of the page."""
    plain = curve("0", found["efforts"]["0"])
    rows = []
    for effort, points in found["efforts"].items():
        seconds = mean(point["encode_seconds"] for point in points)
        losses = [
            point["rd_loss"] / other["rd_loss"]
            for point, other in zip(points, found["efforts"]["0"], strict=True)
        ]
        rate = bd_rate(curve(effort, points), plain).percent if effort != "0" else None
        gained = ["", ""] if rate is None else [f"{rate:+.1f}", f"{100 * (mean(losses) - 1):+.1f}"]
        rows.append([effort, str(STEPS_OF_EFFORT[int(effort)]), *gained, f"{seconds:.2f}"])
    columns = ["effort", "steps", "BD-rate, %", "loss, %", "seconds a photo"]
    about = (
        f"Measured on {found['photos']} Kodak photos with a codec of {found['decoder']:.1f} kMAC/px in the "
        "decoder, on one core that did other work as well:"
    )
    return [about, table(columns, rows)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("codec", type=Path, nargs="?", help="folder of a codec over a range of rates")
    parser.add_argument("--data", type=Path, help="folder of photos")
    parser.add_argument("--photos", type=int, default=4, help="number of photos")
    parser.add_argument("--efforts", type=int, nargs="+", default=[3, 5, 7], help="efforts to measure")
    parser.add_argument(
        "--show", action="store_true", help="only write the page, from the results that exist"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not given.show:
        paths = list_images(given.data)
        photos = load_photos(paths[:: max(1, len(paths) // given.photos)][: given.photos])
        codec, cost = load_codec(given.codec), read_description(given.codec)["kmac_px"]["decoder"]
        efforts: dict[str, Any] = {}
        for effort in (0, *given.efforts):
            efforts[str(effort)] = measured(codec, photos, effort)
            content = {"facts": facts(given.seed), "decoder": cost, "photos": len(photos), "efforts": efforts}
            write_result(RESULT, content)
    renew(ROOT / "docs" / "codec.md", "effort", tables(read_result(RESULT)))


if __name__ == "__main__":
    main()
