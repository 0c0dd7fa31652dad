"""Trains the five families alike, a piece at a time: each run goes on from the committed weights.

    python experiments/families/train.py --data PHOTOS --runs RUNS --first 3000 --others 1000

A piece is a run of its own with a rate of learning that rises and falls; its weights, in half precision, and
the steps they have seen are written to experiments/weights/families. The first lambda of every family is
trained first; the others start from it. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import CODECS, LMBDAS, say, space_of, weights_of

from nas.run import Run
from nas.training.checkpoint import Checkpoint, halved
from nas.training.loop import Progress
from nas.training.start import TrainingRequest, train_or_resume

SETTINGS = {
    "strategy": "uniform",
    "architectures": 1,
    "batch": 4,
    "crop": 192,
    "final_rate": 0.03,
    "checkpoint_every": 250,
    "preview_every": 0,
}
RATES = {True: 1e-3, False: 5e-4}  # of a first piece from random weights, and of all others


def train_piece(name: str, lmbda: float, steps: int, given: argparse.Namespace) -> None:
    """One codec at one lambda for some steps more; writes its weights."""
    path, start = weights_of(name, lmbda), weights_of(name, LMBDAS[0])
    begun = path if path.is_file() else start if start.is_file() else None
    record = Checkpoint.read(path).record if path.is_file() else {"pieces": []}
    if record["pieces"] and begun == path and len(record["pieces"]) >= given.piece:
        return
    seed = given.seed + len(record["pieces"])
    settings = {
        **SETTINGS,
        "steps": steps,
        "lmbda": lmbda,
        "seed": seed,
        "learning_rate": RATES[begun is None],
    }
    out = given.runs / f"{name}-{lmbda}-{len(record['pieces']) + 1}"
    request = TrainingRequest(
        space_of(name), str(given.data), out, settings=settings, init_from=begun, device=given.device
    )

    def report(progress: Progress) -> None:
        if progress.step % 100 == 0:
            say(
                f"{out.name}  {progress.step}/{progress.steps}  loss {progress.loss:.4f}  "
                f"{progress.bpp:.4f} bpp  {progress.seconds_left / 60:.0f} min left"
            )

    run = train_or_resume(request, report)
    piece = {"steps": steps, "seed": seed, "from": begun.stem if begun else "random weights"}
    write_half(run, path, {**record, "lmbda": lmbda, "pieces": [*record["pieces"], piece]})


def write_half(run: Run, path: Path, record: dict[str, object]) -> None:
    """A run's weights in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Checkpoint(halved(Checkpoint.read(run.weights_path).tensors), record).write(path)
    say(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of training photos")
    parser.add_argument("--runs", type=Path, required=True, help="where runs are kept while they train")
    parser.add_argument("--first", type=int, default=3000, help="steps at the first lambda")
    parser.add_argument("--others", type=int, default=1000, help="steps at every other one")
    parser.add_argument("--piece", type=int, default=1, help="train up to so many pieces of each")
    parser.add_argument("--only", nargs="*", default=list(CODECS), choices=list(CODECS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for lmbda in LMBDAS:
        for name in given.only:
            train_piece(name, lmbda, given.first if lmbda == LMBDAS[0] else given.others, given)


if __name__ == "__main__":
    main()
