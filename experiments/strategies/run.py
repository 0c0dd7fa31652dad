"""Strategies of training a supernet: what each does to its architectures, to the penalty and to the ranks.

    python -m experiments.strategies.run --data PHOTOS --runs RUNS

Every supernet begins as the same KLT and trains as many architectures. Eight architectures from end to end
of the range are also trained alone, each for as many steps as a supernet has. Writes results/strategies.json,
with what is there so far after every run, and its section of docs/results.md. Stopped, the same command goes
on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from experiments.pieces import SMALL, options
from experiments.results import ROOT, facts, read_result, renew, say, table, write_result
from nas.cost.table import CostTable
from nas.cost.tabulate import measured_costs
from nas.images import Photo
from nas.run import CALIBRATION_PHOTOS, Run
from nas.search.evaluator import Evaluator
from nas.search.kendall import agreement
from nas.search.rank import spread
from nas.space import Architecture, SearchSpace
from nas.training.data import load_photos, split_folder
from nas.training.settings import ALONE
from nas.training.start import KLT, TrainingRequest, train_or_resume

HERE = Path(__file__).parent
RESULT = HERE / "results" / "strategies.json"
SPACE = SearchSpace.load(HERE / "space.yaml")
LMBDA = 0.013
SETTINGS: dict[str, Any] = {**SMALL, "lmbda": LMBDA, "architectures": 3, "crop": 128, "learning_rate": 4e-4}
FIRST = {"only": "entropy", "learning_rate": 1e-3}  # of the entropy model alone: the random one of a KLT
STRATEGIES: dict[str, dict[str, Any]] = {
    "uniform": {"strategy": "uniform"},
    "strictly fair": {"strategy": "fair"},
    "sandwich": {"strategy": "sandwich"},
    "sandwich, distillation": {"strategy": "sandwich", "distillation": 0.5},
    "levels": {"strategy": "level"},
    "levels, structure learned with them": {"strategy": "level", "structure": "joint", "target": 2.5},
}
ALONE_COUNT = 8  # architectures trained alone
SCORED = 48  # architectures whose mean loss tells how good a supernet is


def train(
    space: SearchSpace, out: Path, settings: dict[str, Any], given: argparse.Namespace, seed: int
) -> Run:
    """A run from the KLT: the entropy model alone, then everything."""
    plain = {
        key: value for key, value in settings.items() if key not in ("distillation", "structure", "target")
    }
    first = {**SETTINGS, **plain, **FIRST, "seed": seed, "steps": given.entropy}
    request = TrainingRequest(space, str(given.data), out / "entropy", settings=first, init_from=KLT)
    begun = train_or_resume(request)
    last = {**SETTINGS, **settings, "seed": seed, "steps": given.steps}
    request = TrainingRequest(
        space, str(given.data), out / "whole", settings=last, init_from=begun.weights_path
    )
    return train_or_resume(request)


def losses(run: Run, architectures: list[Architecture], photos: list[Photo]) -> list[float]:
    """What architectures lose on photos with the weights of a run."""
    scores = Evaluator(run.supernet(), photos, lmbda=LMBDA).score_all(architectures)
    return [score.rd_loss for score in scores]


def alone(own: list[Architecture], photos: list[Photo], given: argparse.Namespace) -> list[float]:
    """What architectures lose that were trained alone."""
    found = []
    for number, architecture in enumerate(own):
        run = train(SPACE.only(architecture), given.runs / f"alone-{number}", ALONE, given, given.seed)
        found += losses(run, [run.space.widest()], photos)
        say(f"alone {number}  {found[-1]:.4f}")
    return found


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=2000, help="of all of a supernet")
    parser.add_argument("--entropy", type=int, default=400, help="of the entropy model alone, before")
    parser.add_argument("--seeds", type=int, default=1, help="supernets of each strategy")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    photos = load_photos(split_folder(given.data)["calibration"])[:CALIBRATION_PHOTOS]
    costs: CostTable = measured_costs(SPACE)
    ranked, scored = (spread(costs, count, given.seed) for count in (ALONE_COUNT, SCORED))
    base = alone(ranked, photos, given)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in STRATEGIES}
    for seed in range(given.seed, given.seed + given.seeds):
        for name, settings in STRATEGIES.items():
            folder = given.runs / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            run = train(SPACE, folder, settings, given, seed)
            shared = losses(run, ranked, photos)
            found[name].append(
                {
                    "seed": seed,
                    "scored": losses(run, scored, photos),
                    "ranked": shared,
                    "tau": agreement(shared, base).tau,
                }
            )
            say(f"{name} {seed}  {mean(found[name][-1]['scored']):.4f}")
            about = facts(given.seed, settings=SETTINGS, steps=given.steps, entropy=given.entropy)
            kmac_px = {"ranked": cost_of(costs, ranked), "scored": cost_of(costs, scored)}
            write_result(RESULT, {"facts": about, "kmac_px": kmac_px, "alone": base, "strategies": found})
    renew(ROOT / "docs" / "results.md", "strategies", tables())


def cost_of(costs: CostTable, architectures: list[Architecture]) -> list[float]:
    return [round(costs.kmac_px(architecture), 4) for architecture in architectures]


# The page


def tables() -> list[str]:
    """What stands between the page's marks."""
    found = read_result(RESULT)
    third = len(found["kmac_px"]["scored"]) // 3
    parts = {
        "narrow third": slice(0, third),
        "middle": slice(third, -third),
        "wide third": slice(-third, None),
    }
    rows = []
    for name, runs in found["strategies"].items():
        if not runs:
            continue
        penalty = [
            [100 * (one / other - 1) for one, other in zip(run["ranked"], found["alone"], strict=True)]
            for run in runs
        ]
        rows.append(
            [
                name,
                spoken([mean(run["scored"]) for run in runs], 3),
                *(spoken([mean(run["scored"][part]) for run in runs], 3) for part in parts.values()),
                spoken([mean(own) for own in penalty], 1),
                spoken([run["tau"] for run in runs], 2),
            ]
        )
    return [table(["strategy", "mean loss", *parts, "penalty of sharing, %", "tau"], rows)]


def spoken(values: list[float], digits: int) -> str:
    """A mean over seeds, with its standard deviation where there are several."""
    spread_ = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread_}"


if __name__ == "__main__":
    main()
