"""Compares integer and centred latents. A mean-scale hyperprior is trained further with each quantiser.

    python -m experiments.quantizer.run --data PHOTOS --test KODAK --runs RUNS

`integer` codes round(y). `centred` codes round(y - mean), as CompressAI does. At each lambda, both continue
from the committed weights for the same number of steps, with the same seed. After every seed, it writes all
results so far into results/quantizer.json and into its section of experiments/journal.md. If it is
interrupted, run the same command again: it continues.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from experiments.families.common import LMBDAS, space_of, weights_of
from experiments.pieces import SMALL, options
from experiments.results import JOURNAL, facts, over_seeds, read_result, renew, say, table, write_result
from nas.metrics.curves import Curve, CurvePoint, bd_rate
from nas.metrics.objective import Objective
from nas.photos.images import Photo, list_images
from nas.photos.split import load_photos
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.schema import Quantizer
from nas.training.settings import ALONE
from nas.training.start import TrainingRequest, train_or_resume
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "quantizer.json"
FAMILY = "mean-scale-hyperprior"
QUANTIZERS: tuple[Quantizer, ...] = ("integer", "centred")
SETTINGS: dict[str, Any] = {**SMALL, **ALONE, "learning_rate": 2e-4, "precision": "bf16"}
Scores = dict[str, dict[str, float]]  # results by lambda


def trained(lmbda: float, quantizer: Quantizer, steps: int, data: Path, folder: Path, seed: int) -> Run:
    """Train the family at one lambda further with a quantiser."""
    space = replace(space_of(FAMILY), quantizer=quantizer)
    settings = {**SETTINGS, "lmbda": lmbda, "steps": steps, "seed": seed}
    out = folder / f"{quantizer}-{lmbda}-{seed}"
    request = TrainingRequest(space, str(data), out, settings=settings, init_from=weights_of(FAMILY, lmbda))
    return train_or_resume(request)


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    parser.add_argument("--steps", type=int, default=600, help="steps of each run")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    photos: list[Photo] = load_photos(list_images(given.test))
    found: list[dict[str, Any]] = []
    for seed in range(given.seed, given.seed + given.seeds):
        scores: dict[str, Scores] = {quantizer: {} for quantizer in QUANTIZERS}
        for lmbda in LMBDAS:
            for quantizer in QUANTIZERS:
                run = trained(lmbda, quantizer, given.steps, given.data, given.runs, seed)
                score = Evaluator(supernet_of(run), photos, Objective(lmbda)).score(run.space.widest())
                scores[quantizer][str(lmbda)] = vars(score)
                say(f"{quantizer}, lambda {lmbda}, seed {seed}: {score}")
        found.append({"seed": seed, **scores})
        about = facts(given.seed, settings=SETTINGS, steps=given.steps, photos=len(photos))
        write_result(RESULT, {"facts": about, "seeds": found})
    renew(JOURNAL, "quantizer", tables())


# Tables for the page


def curve(name: str, scores: Scores) -> Curve:
    """Make the curve of one quantiser over the lambdas."""
    points = [CurvePoint(score["bpp"], score["psnr"]) for score in scores.values()]
    return Curve(name, tuple(sorted(points, key=lambda point: point.bpp)))


def more_rate(scores: dict[str, Scores]) -> float:
    """Compute the BD-rate of centred against integer latents in %."""
    centred, integer = (curve(name, scores[name]) for name in ("centred", "integer"))
    percent = bd_rate(centred, integer).percent
    assert percent is not None
    return percent


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    seeds = read_result(RESULT)["seeds"]
    rows = []
    for lmbda in sorted(seeds[0]["integer"], key=float):
        cells = []
        for name in QUANTIZERS:
            bpp, psnr = (mean(seed[name][lmbda][what] for seed in seeds) for what in ("bpp", "psnr"))
            cells.append(f"{bpp:.3f} bpp, {psnr:.2f} dB")
        integer, centred = ([seed[name][lmbda]["rd_loss"] for seed in seeds] for name in QUANTIZERS)
        more = [100 * (two / one - 1) for one, two in zip(integer, centred, strict=True)]
        rows.append([lmbda, *cells, over_seeds(more, 2, "+")])
    return [
        table(["lambda", "integer", "centred", "loss of centred over integer, %"], rows),
        f"BD-rate of centred against integer latents (seeds: {len(seeds)}): "
        f"{over_seeds([more_rate(seed) for seed in seeds], 2, '+')} %.",
    ]


if __name__ == "__main__":
    main()
