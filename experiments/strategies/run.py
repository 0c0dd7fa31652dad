"""How the strategy of training a supernet affects losses, the penalty of sharing, and ranks.

    python -m experiments.strategies.run --data PHOTOS --runs RUNS

Every supernet begins as the same KLT and is trained on the same number of architectures. A search then
answers four targets with it. Eight architectures over the whole range are also trained alone, each for the
number of steps that a supernet has. After every run, it writes results/strategies.json and its section of
experiments/journal.md. Results of the same settings stay in that file, so more seeds can be added. If it is
interrupted, run the same command again: it continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import nas
from experiments.pieces import SMALL, options
from experiments.results import (
    JOURNAL,
    facts,
    over_seeds,
    read_result,
    renew,
    say,
    table,
    thirds,
    write_result,
)
from nas.analysis.kendall import agreement
from nas.analysis.rank_spread import spread
from nas.cost.counting.table import CostTable
from nas.cost.counting.tabulate import measured_costs
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.photos.split import load_photos, split_folder
from nas.run import CALIBRATION_PHOTOS, Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Amount, Budget
from nas.spaces.space import SearchSpace
from nas.training.settings import ALONE, settings_of
from nas.training.start import KLT, TrainingRequest, train_or_resume
from nas.weights.checkpoint import supernet_of

HERE = Path(__file__).parent
RESULT = HERE / "results" / "strategies.json"
SPACE = SearchSpace.load(HERE / "space.yaml")
LMBDA = 0.013
SETTINGS: dict[str, Any] = {
    **SMALL,
    "lmbda": LMBDA,
    "architectures": 3,
    "learning_rate": 4e-4,
    "precision": "bf16",
    "frozen": ["h_a.0"],
}
# The entropy model, which is random at a KLT start, is first trained alone
FIRST = {"only": "entropy", "learning_rate": 1e-3}
STRATEGIES: dict[str, dict[str, Any]] = {
    "uniform": {"strategy": "uniform"},
    "strictly fair": {"strategy": "fair"},
    "sandwich": {"strategy": "sandwich"},
    "sandwich, distillation": {"strategy": "sandwich", "distillation": 0.5},
    "levels": {"strategy": "level"},
    "levels, structure learned with them": {"strategy": "level", "structure": "joint", "target": 5.0},
    "levels, then their front": {"strategy": "front"},
}
FIRST_SEED = 0  # seed of what all seeds share: the measured architectures, and their training alone
ALONE_COUNT = 8  # architectures trained alone
SCORED = 24  # architectures whose mean loss measures a supernet
TARGETS = (2.0, 3.5, 5.0, 8.0)  # targets of the search in kMAC/px


def train(
    space: SearchSpace, out: Path, settings: dict[str, Any], given: argparse.Namespace, seed: int
) -> Run:
    """Train a supernet from the KLT: first the entropy model alone, then everything.

    With `strategy=front`, a search follows the first half of the steps. The second half trains what it found.
    """
    of_front = settings.get("strategy") == "front"
    last = {**SETTINGS, **settings, "seed": seed, "steps": given.steps // (2 if of_front else 1)}
    drawn = {**last, "strategy": "level"} if of_front else last
    plain = {key: value for key, value in drawn.items() if key not in ("distillation", "structure", "target")}
    first = {**plain, **FIRST, "steps": given.entropy}
    request = TrainingRequest(space, str(given.data), out / "entropy", settings=first, init_from=KLT)
    run = train_or_resume(request)
    if of_front:
        run = train_on(space, out / "half", drawn, run, given)
        answers(run, given.trials, seed)
    return train_on(space, out / "whole", last, run, given)


def train_on(
    space: SearchSpace, out: Path, settings: dict[str, Any], begun: Run, given: argparse.Namespace
) -> Run:
    """Train further from the weights of another run. If that run was searched, its front is trained."""
    source = begun.path if begun.front_path.is_file() else begun.weights_path
    return train_or_resume(TrainingRequest(space, str(given.data), out, settings=settings, init_from=source))


def losses(run: Run, architectures: list[Architecture], photos: list[Photo]) -> list[float]:
    """Compute the losses of architectures on photos, with the weights of a run."""
    scores = Evaluator(supernet_of(run), photos, Objective(LMBDA)).score_all(architectures)
    return [score.rd_loss for score in scores]


def alone(own: list[Architecture], photos: list[Photo], given: argparse.Namespace) -> list[float]:
    """Train architectures alone, and return their losses."""
    found = []
    for number, architecture in enumerate(own):
        run = train(SPACE.only(architecture), given.runs / f"alone-{number}", ALONE, given, FIRST_SEED)
        found += losses(run, [run.space.widest()], photos)
        say(f"alone {number}  {found[-1]:.4f}")
    return found


def answers(run: Run, trials: int, seed: int) -> list[float]:
    """Return the losses of a search's answers to the targets. A searched run is not searched again."""
    budget = Budget("targets", targets=tuple(Amount(target, "kMAC/px") for target in TARGETS))
    known = run.front_path.is_file()
    found = nas.load_run(run.path, device="cpu").search(budget, trials=None if known else trials, seed=seed)
    return [choice.rd_loss for choice in found.choices]


def measured(
    run: Run, architectures: dict[str, list[Architecture]], photos: list[Photo], given: argparse.Namespace
) -> dict[str, Any]:
    """Return the losses of a supernet's architectures, for each list, and of the answers of a search."""
    lost = {name: losses(run, own, photos) for name, own in architectures.items()}
    seed = settings_of(run).seed
    return {"seed": seed, **lost, "answers": answers(run, given.trials, seed)}


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=2000, help="steps that train a whole supernet")
    parser.add_argument(
        "--entropy", type=int, default=400, help="steps of the entropy model alone, before that"
    )
    parser.add_argument("--trials", type=int, default=24, help="architectures that a search scores")
    parser.add_argument("--seeds", type=int, default=1, help="number of supernets per strategy")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=STRATEGIES,
        default=list(STRATEGIES),
        metavar="STRATEGY",
        help="strategies to train",
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    photos = load_photos(split_folder(given.data)["calibration"])[:CALIBRATION_PHOTOS]
    costs: CostTable = measured_costs(SPACE)
    architectures = {
        "ranked": spread(costs, ALONE_COUNT, FIRST_SEED),
        "scored": spread(costs, SCORED, FIRST_SEED),
    }
    same = {
        "settings": SETTINGS,
        "steps": given.steps,
        "entropy": given.entropy,
        "trials": given.trials,
        "targets": list(TARGETS),
    }
    kmac_px = {name: cost_of(costs, own) for name, own in architectures.items()}
    known = known_result(same)
    base = known["alone"] if known else alone(architectures["ranked"], photos, given)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in STRATEGIES}
    found |= known["strategies"] if known else {}
    for seed in range(given.seed, given.seed + given.seeds):
        for name in given.only:
            if any(row["seed"] == seed for row in found[name]):
                continue
            folder = given.runs / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            row = measured(train(SPACE, folder, STRATEGIES[name], given, seed), architectures, photos, given)
            found[name].append({**row, "tau": agreement(row["ranked"], base).tau})
            say(f"{name} {seed}  {mean(row['scored']):.4f}  {mean(row['answers']):.4f}")
            about = facts(given.seed, **same)
            write_result(RESULT, {"facts": about, "kmac_px": kmac_px, "alone": base, "strategies": found})
    renew(JOURNAL, "strategies", tables())


def known_result(same: dict[str, Any]) -> dict[str, Any] | None:
    """Read the results of an earlier run with the same settings."""
    if not RESULT.is_file():
        return None
    known = read_result(RESULT)
    return known if {name: known["facts"].get(name) for name in same} == same else None


def cost_of(costs: CostTable, architectures: list[Architecture]) -> list[float]:
    return [round(costs.kmac_px(architecture), 4) for architecture in architectures]


# Tables for the page


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)
    titles = thirds(found["kmac_px"]["scored"])
    rows, answered = [], []
    for name, runs in found["strategies"].items():
        if not runs:
            continue
        penalty = [
            mean(100 * (one / other - 1) for one, other in zip(run["ranked"], found["alone"], strict=True))
            for run in runs
        ]
        parts = [thirds(run["scored"]) for run in runs]
        rows.append(
            [
                name,
                str(len(runs)),
                over_seeds([mean(run["scored"]) for run in runs], 3),
                *(over_seeds([part[title] for part in parts], 3) for title in titles),
                over_seeds(penalty, 1),
                over_seeds([run["tau"] for run in runs], 2),
            ]
        )
        answered.append(
            [name, *(over_seeds(list(own), 3) for own in zip(*(run["answers"] for run in runs), strict=True))]
        )
    return [
        table(["strategy", "seeds", "mean loss", *titles, "penalty of sharing, %", "tau"], rows),
        "The losses of a search's answers, by target in kMAC/px:",
        table(["strategy", *(f"{target:g}" for target in found["facts"]["targets"])], answered),
    ]


if __name__ == "__main__":
    main()
