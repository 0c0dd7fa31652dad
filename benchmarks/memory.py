"""Check whether memory grows over the steps of one training, and over many trainings in one process.

It prints the resident memory of this process after some of the steps and after every run, and the growth per
100 steps and per run. Memory that the first steps and the first run allocate for good does not count.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from common import MIB, arguments, heading, say, table

import nas
from nas.photos.images import BUNDLED
from nas.profiling.memory import held_bytes_now
from nas.spaces.space import SearchSpace
from nas.training.loop import Progress
from nas.training.start import TrainingRequest, start_training

SETTINGS = {"batch": 4, "crop": 256, "checkpoint_every": 1000, "preview_every": 0}


def resident() -> float:
    """The resident memory of this process, MiB."""
    gc.collect()
    return held_bytes_now() / MIB


def over_steps(space: str, steps: int, folder: Path) -> dict[int, float]:
    """Measure the resident memory in MiB after each fifth of one training."""
    held = {}

    def look(progress: Progress) -> None:
        if progress.step % (steps // 5) == 0:
            held[progress.step] = resident()

    start_training(TrainingRequest(space, BUNDLED, folder, settings=settings(space, steps)), look)
    return held


def over_runs(space: str, runs: int, folder: Path) -> list[float]:
    """Measure the resident memory in MiB after each of some short trainings."""
    held = []
    for number in range(runs):
        nas.train(space, BUNDLED, folder / str(number), settings=settings(space, 6))
        held.append(resident())
    return held


def settings(space: str, steps: int) -> dict[str, object]:
    """Settings of a training. A space with several rates is trained over all of them."""
    rates = SearchSpace.load(space).rates
    return {**SETTINGS, "steps": steps, **({"lmbda": f"{rates[0]}..{rates[-1]}"} if rates else {})}


def growth(held: Sequence[float]) -> float:
    """Mean growth in MiB from one entry to the next, without the first entry."""
    return (held[-1] - held[1]) / (len(held) - 2)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], repeats=10)
    parser.add_argument("--space", default="patch-tiny", help="search space")
    parser.add_argument("--steps", type=int, default=200, help="steps of the long training")
    given = parser.parse_args()
    if given.repeats < 3:
        parser.error("--repeats is at least 3: growth is counted from the second run on.")
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        steps = over_steps(given.space, given.steps, Path(folder) / "one")
        runs = over_runs(given.space, given.repeats, Path(folder) / "many")
    say(heading())
    per_step = growth(list(steps.values())) / (given.steps // 5) * 100
    say(
        table(
            [
                ("", "resident MiB", "growth"),
                (
                    "steps " + ", ".join(map(str, steps)),
                    told(steps.values()),
                    f"{per_step:.1f} MiB per 100 steps",
                ),
                (f"{given.repeats} runs", told(runs), f"{growth(runs):.1f} MiB per run"),
            ]
        )
    )


def told(held: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in held)


if __name__ == "__main__":
    main()
