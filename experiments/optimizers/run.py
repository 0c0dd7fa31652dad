"""Which optimiser trains a codec of the family `patch` furthest in equal CPU time.

    python -m experiments.optimizers.run --data PHOTOS --runs RUNS

One architecture, all rates in one model, from the photos' KLT, single crops and schedule alike. The steps of
each optimiser are as many as fit into `--seconds` of CPU time, told from a short run before. Writes
results/optimizers.json after each, and its section of docs/training.md. Stopped, it begins anew with the
optimiser it was at.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

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
SPACE, SIZE = "patch", 0.5  # its architecture in the middle of every slot
TIMED = 45  # steps of the short run, of which the first few do not count
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
# What is compared: the optimiser, its rate of learning, and what moves at less than that rate.
KEPT = {"frozen": ["g_a.0.linear", "g_s.0.linear"]}
SIDES: dict[str, dict[str, Any]] = {
    "adam, 0.001, all layers": {"optimizer": "adam", "learning_rate": 1e-3},
    "adam, 0.003, fan_in 64": {"optimizer": "adam", "learning_rate": 3e-3, "fan_in": 64, **KEPT},
    "soap, 0.002": {"optimizer": "soap", "learning_rate": 2e-3, **KEPT},
    "muon, 0.002": {"optimizer": "muon", "learning_rate": 2e-3, **KEPT},
    "muon, 0.003": {"optimizer": "muon", "learning_rate": 3e-3, **KEPT},
}


class CPUTime:
    """CPU seconds of this process by step, as a training reports its steps."""

    def __init__(self) -> None:
        self._began = time.process_time()
        self.seconds: dict[int, float] = {}

    def __call__(self, progress: Progress) -> None:
        self.seconds[progress.step] = time.process_time() - self._began

    @property
    def per_step(self) -> float:
        """Of a step after the first few."""
        last = max(self.seconds)
        return (self.seconds[last] - self.seconds[UNCOUNTED]) / (last - UNCOUNTED)


def train(side: str, steps: int, folder: Path, data: Path, seed: int) -> tuple[Run, CPUTime]:
    """One optimiser's run of so many steps."""
    whole = SearchSpace.load(SPACE)
    space = whole.only(whole.uniform(SIZE))
    settings = {**SETTINGS, **SIDES[side], "steps": steps, "seed": seed}
    clock = CPUTime()
    request = TrainingRequest(space, str(data), folder, settings=settings, init_from=KLT, force=True)
    return start_training(request, clock), clock


def compared(side: str, seconds: float, data: Path, runs: Path, seed: int) -> dict[str, Any]:
    """One optimiser: its seconds a step, its rows, and its scores at the end."""
    folder = runs / side.replace(", ", "-")
    _, clock = train(side, TIMED, folder / "short", data, seed)
    steps = round(seconds / clock.per_step)
    run, clock = train(side, steps, folder / "long", data, seed)
    photos = load_photos(split_folder(data)["calibration"])[:CALIBRATION_PHOTOS]
    evaluator = Evaluator(supernet_of(run), photos, Objective(settings_of(run).lmbda))
    score = evaluator.score(run.space.widest())
    say(f"{side}  {steps} steps of {clock.per_step:.3f} s  loss {score.rd_loss:.4f}")
    return {
        "steps": steps,
        "seconds a step": clock.per_step,
        "loss": score.rd_loss,
        "rates": list(scored(run.space.rates)),
    }


def tables(found: dict[str, Any]) -> list[str]:
    """What stands between the page's marks."""
    best = min(own["loss"] for own in found.values())
    rows = [
        [side, f"{own['steps']:,}", f"{own['seconds a step']:.3f}", f"{own['loss']:.4f}", _over(own, best)]
        for side, own in found.items()
    ]
    columns = ["optimiser and learning rate", "steps", "CPU seconds a step", "loss", "above the best"]
    return [table(columns, rows)]


def _over(own: dict[str, Any], best: float) -> str:
    return f"{100 * (own['loss'] / best - 1):.1f} %"


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=300, help="of CPU time for each")
    parser.add_argument("--show", action="store_true", help="write the page from the results alone")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not given.show:
        found = read_result(RESULT)["sides"] if RESULT.is_file() else {}
        for side in [side for side in SIDES if side not in found]:
            found[side] = compared(side, given.seconds, given.data, given.runs, given.seed)
            content = {"facts": facts(given.seed, seconds=given.seconds, settings=SETTINGS), "sides": found}
            write_result(RESULT, content)
    sides = read_result(RESULT)["sides"]
    renew(ROOT / "docs" / "training.md", "optimisers", tables(sides))


if __name__ == "__main__":
    main()
