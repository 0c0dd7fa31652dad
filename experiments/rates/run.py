"""What one model for all rates costs compared with models of one rate, and between its anchors.

    python -m experiments.rates.run --data PHOTOS --runs RUNS

One architecture of `zoo:patch` is trained further from the supernet's weights, once over the range of rates
and once at each of three anchors alone. All trainings have the same number of steps, the same crops and the
same schedule. The supernet is then scored at every anchor and halfway between each two. It writes
results/rates.json and its section of docs/training.md. If it is interrupted, run the same command again: it
continues.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from experiments.flagship.train import split_by_picture
from experiments.pieces import options
from experiments.results import ROOT, facts, read_result, renew, say, table, write_result
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.photos.split import load_photos
from nas.run import CALIBRATION_PHOTOS, Run
from nas.searching.scoring.evaluator import Evaluator, Point
from nas.shipped import zoo_run
from nas.spaces.rates import scored
from nas.spaces.space import SearchSpace
from nas.training.settings import ALONE
from nas.training.start import TrainingRequest, train_or_resume
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "rates.json"
SOURCE, TARGET = "zoo:patch", 3.0  # a supernet, and the target of its decoder in kMAC/px
RANGE = "0.0018..0.18"
SETTINGS: dict[str, Any] = {
    **ALONE,
    "optimizer": "muon",
    "learning_rate": 5e-4,
    "batch": 4,
    "crop": 256,
    "final_rate": 0.05,
    "integer_phase": 0.0,
    "frozen": ["g_a.0.linear", "g_s.0.linear"],
    "checkpoint_every": 100,
    "preview_every": 0,
}


def chosen(run: Run) -> SearchSpace:
    """Make the space of the trained architecture, in a layout of the run's own space."""
    space = SearchSpace.load(run.space.name)
    front = run.front().query("on_front_decoder and decoder_kmac_px <= @TARGET")
    keys = front.sort_values("decoder_kmac_px", ascending=False)["arch"]
    own = [key for key in keys if key.rpartition("layout=")[2] in space.layouts]
    return space.only(space.parse(own[0]))


def points_of(
    run: Run, photos: list[Photo], lmbdas: tuple[float, ...], key: str | None = None
) -> list[Point]:
    """Score an architecture of a run at some rates. By default, it is the widest one."""
    evaluator = Evaluator(supernet_of(run), photos, Objective(lmbdas[0]), lmbdas=lmbdas)
    score = evaluator.score(run.space.widest() if key is None else run.space.parse(key))
    return list(score.curve) or [Point(lmbdas[0], score.bpp, score.psnr, score.rd_loss)]


def beside(points: list[Point]) -> list[float]:
    """Compute by how many % the bits of every second point exceed the curve through the others."""
    anchors, between = points[::2], points[1::2]
    curve = PchipInterpolator([point.psnr for point in anchors], [math.log(point.bpp) for point in anchors])
    return [100 * (point.bpp / math.exp(float(curve(point.psnr))) - 1) for point in between]


def trained(name: str, lmbda: str, given: Any, space: SearchSpace, photos: list[Photo]) -> dict[str, Any]:
    """Run one training. Returns the final losses, at all three rates or at its only one."""
    settings = {**SETTINGS, "lmbda": lmbda, "steps": given.steps, "seed": given.seed}
    request = TrainingRequest(
        space,
        str(given.data),
        given.runs / name.replace(" ", "-"),
        settings=settings,
        init_from=SOURCE,
        split=split_by_picture(given.data),
    )
    run = train_or_resume(request)
    rates = scored(run.space.rates) if run.space.rates else (float(lmbda),)
    found = [vars(point) for point in points_of(run, photos, rates)]
    say(f"{name}  {[round(point['rd_loss'], 4) for point in found]}")
    return {"lmbda": lmbda, "points": found}


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)
    rows = []
    for together, name in zip(found["trained"]["all rates"]["points"], found["alone"], strict=True):
        alone = found["trained"][name]["points"][0]
        more = together["rd_loss"] - alone["rd_loss"]
        rows.append(
            [
                f"{alone['lmbda']:.4g}",
                f"{alone['rd_loss']:.4f}",
                f"{together['rd_loss']:.4f}",
                f"{100 * more / alone['rd_loss']:+.1f} %",
                f"{100 * more / alone['bpp']:+.1f} %",
            ]
        )
    columns = ["lambda", "loss of one rate", "loss of all rates", "difference", "in bits"]
    excess = found["between"]["excess"]
    line = (
        f"Halfway between two anchors, files take {min(excess):+.2f} to {max(excess):+.2f} % more bits than "
        "the curve through the anchors."
    )
    return [table(columns, rows), line]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each training")
    parser.add_argument(
        "--show", action="store_true", help="only write the page, from the results that exist"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not given.show:
        measure(given)
    renew(ROOT / "docs" / "training.md", "rates", tables())


def measure(given: Any) -> None:
    """Measure both parts. Every result is stored at once."""
    run = zoo_run(SOURCE)
    space, rates = chosen(run), run.space.rates
    photos = load_photos(split_by_picture(given.data)["calibration"])[:CALIBRATION_PHOTOS]
    found: dict[str, Any] = read_result(RESULT) if RESULT.is_file() else {"trained": {}}
    found["facts"] = facts(given.seed, steps=given.steps, settings=SETTINGS, arch=space.widest().key)
    if "between" not in found:
        halves = [math.sqrt(low * high) for low, high in pairwise(rates)]
        lmbdas = tuple(sorted((*rates, *halves)))
        points = points_of(run, photos, lmbdas, space.widest().key)
        found["between"] = {"points": [vars(point) for point in points], "excess": beside(points)}
        say(f"between  {np.round(found['between']['excess'], 2)}")
        write_result(RESULT, found)
    sides = {"all rates": RANGE, **{f"lambda {lmbda:.4g}": f"{lmbda:.6g}" for lmbda in scored(rates)}}
    found["alone"] = [name for name in sides if name != "all rates"]
    for name, lmbda in sides.items():
        if name not in found["trained"]:
            found["trained"][name] = trained(name, lmbda, given, space, photos)
            write_result(RESULT, found)


if __name__ == "__main__":
    main()
