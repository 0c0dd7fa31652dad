"""Which optimiser trains a codec of the family `patch` best in equal CPU time.

    python -m experiments.optimizers.run --data PHOTOS --runs RUNS

All runs train the same architecture for all rates from the photos' KLT, on the same crops and with the same
schedule. Each optimiser has a separate run for each CPU time in `--seconds`, whose learning rate falls until
its end. A short run before it measures how many steps fit into this time. It writes results/optimizers.json
after each run, its section of docs/training.md and docs/optimizers.png. If it is interrupted, run the same
command again: it continues.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.pieces import options
from experiments.results import ROOT, facts, read_result, renew, say, table, write_result
from nas.metrics.objective import Objective
from nas.photos.split import load_photos, split_folder
from nas.run import CALIBRATION_PHOTOS, Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.rates import scored
from nas.spaces.space import SearchSpace
from nas.training.loop import Progress
from nas.training.settings import ALONE, settings_of
from nas.training.start import KLT, TrainingRequest, start_training
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "optimizers.json"
SPACE, SIZE = "patch", 0.5  # the space, and the relative place of the architecture in every slot
TIMED = 45  # steps of the short run; the first few do not count
UNCOUNTED = 5
SETTINGS: dict[str, Any] = {
    **ALONE,
    "lmbda": "0.0018..0.18",
    "batch": 4,
    "crop": 256,
    "schedule": "cosine",
    "hold": 0.25,
    "final_rate": 0.03,
    "integer_phase": 0.0,
    "checkpoint_every": 25,
    "preview_every": 0,
}
# The compared settings: the optimiser, its learning rate, and the parts that learn more slowly.
KEPT = {"frozen": ["g_a.0.linear", "g_s.0.linear"]}
SIDES: dict[str, dict[str, Any]] = {
    "adam, 0.001, all layers": {"optimizer": "adam", "learning_rate": 1e-3},
    "adam, 0.003, fan_in 64": {"optimizer": "adam", "learning_rate": 3e-3, "fan_in": 64, **KEPT},
    "muon, 0.002": {"optimizer": "muon", "learning_rate": 2e-3, **KEPT},
    "soap, 0.002": {"optimizer": "soap", "learning_rate": 2e-3, **KEPT},
    "soap, 0.002, all layers": {"optimizer": "soap", "learning_rate": 2e-3},
}
Sides = dict[str, dict[str, dict[str, Any]]]  # results by optimiser and by seconds


class CPUTime:
    """Records the CPU seconds of this process at every step that a training reports."""

    def __init__(self) -> None:
        self._began = time.process_time()
        self.seconds: dict[int, float] = {}

    def __call__(self, progress: Progress) -> None:
        self.seconds[progress.step] = time.process_time() - self._began

    @property
    def per_step(self) -> float:
        """CPU seconds of a step, without the first few steps."""
        last = max(self.seconds)
        return (self.seconds[last] - self.seconds[UNCOUNTED]) / (last - UNCOUNTED)


def train(side: str, steps: int, folder: Path, data: Path, seed: int) -> tuple[Run, CPUTime]:
    """Train with one optimiser for a number of steps."""
    whole = SearchSpace.load(SPACE)
    space = whole.only(whole.uniform(SIZE))
    settings = {**SETTINGS, **SIDES[side], "steps": steps, "seed": seed}
    clock = CPUTime()
    request = TrainingRequest(space, str(data), folder, settings=settings, init_from=KLT, force=True)
    return start_training(request, clock), clock


def seconds_a_step(side: str, data: Path, runs: Path, seed: int) -> float:
    """Measure the CPU seconds of an optimiser's step in a short run."""
    _, clock = train(side, TIMED, _folder(runs, side) / "short", data, seed)
    return clock.per_step


def scored_after(side: str, steps: int, data: Path, runs: Path, seed: int) -> dict[str, Any]:
    """Train with one optimiser, and return its CPU seconds and its loss on calibration photos."""
    run, clock = train(side, steps, _folder(runs, side) / str(steps), data, seed)
    photos = load_photos(split_folder(data)["calibration"])[:CALIBRATION_PHOTOS]
    evaluator = Evaluator(supernet_of(run), photos, Objective(settings_of(run).lmbda))
    loss = evaluator.score(run.space.widest()).rd_loss
    say(f"{side}  {steps} steps of {clock.per_step:.3f} s  loss {loss:.4f}")
    return {
        "steps": steps,
        "seconds": clock.seconds[steps],
        "seconds a step": clock.per_step,
        "loss": loss,
        "rates": list(scored(run.space.rates)),
    }


def _folder(runs: Path, side: str) -> Path:
    return runs / side.replace(", ", "-")


def tables(sides: Sides) -> list[str]:
    """Make the tables that stand between the marks of the page."""
    columns = ["optimiser and learning rate", "CPU seconds a step"]
    times = sorted({seconds for by_seconds in sides.values() for seconds in by_seconds}, key=int)
    columns += [f"loss after {seconds} s" for seconds in times]
    rows = []
    for side, by_seconds in sides.items():
        a_step = sum(own["seconds a step"] for own in by_seconds.values()) / len(by_seconds)
        runs = [by_seconds.get(seconds) for seconds in times]
        losses = [f"{own['loss']:.4f} ({own['steps']:,} steps)" if own else "" for own in runs]
        rows.append([side, f"{a_step:.3f}", *losses])
    return [table(columns, rows), "![Loss against CPU seconds for each optimiser](optimizers.png)"]


def draw(sides: Sides, path: Path) -> None:
    """Draw loss against CPU seconds, a line for each optimiser. Every point is the end of a run."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for side, by_seconds in sides.items():
        points = sorted((own["seconds"], own["loss"]) for own in by_seconds.values())
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, label=side)
    axes.set(xlabel="CPU seconds of training", ylabel="loss (geometric mean over three rates)")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--seconds", type=int, nargs="+", default=[100, 300, 900], help="CPU seconds of each training"
    )
    parser.add_argument(
        "--show", action="store_true", help="only write the page, from the results that exist"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sides: Sides = read_result(RESULT)["sides"] if RESULT.is_file() else {}
    a_step: dict[str, float] = {}
    for seconds in () if given.show else given.seconds:
        for side in SIDES:
            if str(seconds) in sides.setdefault(side, {}):
                continue
            if side not in a_step:
                a_step[side] = seconds_a_step(side, given.data, given.runs, given.seed)
            steps = round(seconds / a_step[side])
            sides[side][str(seconds)] = scored_after(side, steps, given.data, given.runs, given.seed)
            write_result(RESULT, {"facts": facts(given.seed, settings=SETTINGS), "sides": sides})
    draw(sides, ROOT / "docs" / "optimizers.png")
    renew(ROOT / "docs" / "training.md", "optimisers", tables(sides))


if __name__ == "__main__":
    main()
