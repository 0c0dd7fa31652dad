"""How much a KLT start helps: the same codec is trained from a KLT and from random weights.

    python -m experiments.starts.run --data PHOTOS --runs RUNS

The codec is the widest architecture of the space of `structure`, in checkerboard order. From the KLT, the
entropy model is trained alone at first. Its steps count, too. It writes results/starts.json and its section
of experiments/journal.md. If it is interrupted, run the same command again: it continues.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from experiments.pieces import SMALL, options
from experiments.results import JOURNAL, facts, read_result, renew, say, table, write_result
from experiments.structure.common import KINDS, SPACE
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.photos.split import load_photos, split_folder
from nas.run import CALIBRATION_PHOTOS, Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.space import SearchSpace
from nas.training.settings import ALONE
from nas.training.start import KLT, TrainingRequest, train_or_resume
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "starts.json"
LMBDA = 0.013
LAYOUT = "checkerboard"
EVERY = 250  # steps between rows of metrics.csv
SETTINGS: dict[str, Any] = {
    **SMALL,
    **ALONE,
    "lmbda": LMBDA,
    "checkpoint_every": EVERY,
    "integer_phase": 0.0,
}
FIRST = 500  # steps of the entropy model alone, from the KLT
# The compared settings: the start, and the learning rate of all weights.
STARTS = {
    "random weights": (None, 4e-4),
    "random weights, twice the rate": (None, 8e-4),
    "KLT": (KLT, 4e-4),
}


def space() -> SearchSpace:
    """Make the space of the widest codec alone."""
    whole = KINDS[SPACE].space
    widest = whole.widest().key.rpartition("layout=")[0]
    return whole.only(whole.parse(f"{widest}layout={LAYOUT}"))


def rows_of(run: Run, before: int) -> list[dict[str, float]]:
    """Read the losses during training. Each is a mean over the steps since the row before."""
    rows = csv.DictReader(run.metrics_path.read_text(encoding="utf-8").splitlines())
    names = ("loss", "bpp", "psnr", "seconds")
    return [{"step": before + int(row["step"]), **{name: float(row[name]) for name in names}} for row in rows]


def trained(name: str, steps: int, data: Path, runs: Path, seed: int, photos: list[Photo]) -> dict[str, Any]:
    """Train from one start. Returns the losses during training, and the final score."""
    source, rate = STARTS[name]
    folder = runs / name.replace(" ", "-").replace(",", "")
    before: Run | None = None
    if source == KLT:
        settings = {**SETTINGS, "seed": seed, "only": "entropy", "steps": FIRST, "learning_rate": 1e-3}
        before = train_or_resume(
            TrainingRequest(space(), str(data), folder / "entropy", settings=settings, init_from=source)
        )
        source, steps = before.weights_path, steps - FIRST
    settings = {**SETTINGS, "seed": seed + 1, "steps": steps, "learning_rate": rate}
    run = train_or_resume(
        TrainingRequest(space(), str(data), folder / "whole", settings=settings, init_from=source)
    )
    score = Evaluator(supernet_of(run), photos, Objective(LMBDA)).score(run.space.widest())
    say(f"{name}  {score}")
    rows = [*rows_of(before, 0), *rows_of(run, FIRST)] if before else rows_of(run, 0)
    return {"learning_rate": rate, "rows": rows, "end": vars(score)}


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)["starts"]
    rows = []
    for name, own in found.items():
        end, last = own["end"], own["rows"][-1]
        cells = [f"{end['bpp']:.3f}", f"{end['psnr']:.2f}", f"{end['rd_loss']:.3f}"]
        rows.append([name, f"{last['step']:,}", *cells])
    return [table(["from", "steps", "bpp", "PSNR, dB", "loss"], rows)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=2000, help="steps of each training")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    photos = load_photos(split_folder(given.data)["calibration"])[:CALIBRATION_PHOTOS]
    found = {name: trained(name, given.steps, given.data, given.runs, given.seed, photos) for name in STARTS}
    write_result(RESULT, {"facts": facts(given.seed, settings=SETTINGS), "starts": found})
    renew(JOURNAL, "starts", tables())


if __name__ == "__main__":
    main()
