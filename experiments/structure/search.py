"""Searches one trained supernet under each kind of structure, for the same eight targets.

    python -m experiments.structure.search --data PHOTOS --test KODAK --runs RUNS

All kinds are spaces over the same weights, except SlimCAE and the kind whose front was trained. Architectures
are chosen on calibration photos and then scored on KODAK, which the search does not see. It writes
results/search-LMBDA.json for each trained lambda.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import nas
from experiments.pieces import pieces_seen
from experiments.results import facts, options, progress, read_result, say, write_result
from experiments.structure.common import HERE, KINDS, LMBDAS, RESULTS, SPACE, Kind, weights_of
from nas.api import LoadedRun
from nas.cost.counting.scopes import CONTEXT_EDGES
from nas.metrics.objective import Objective
from nas.photos.images import Photo, list_images
from nas.photos.split import load_photos, split_folder, write_split
from nas.run import Run
from nas.searching.layouts.candidates import LayoutSettings
from nas.searching.scoring.evaluator import Evaluator
from nas.searching.sources import Sources, prepare_layouts
from nas.spaces.architecture import Architecture
from nas.support.progress import StageReport
from nas.training.settings import TrainingSettings

Answer = tuple[float | None, Architecture]


def run_of(name: str, kind: Kind, lmbda: float, given: argparse.Namespace) -> Run:
    """Make the run of one kind at one lambda, with the stored weights and the layouts found for them."""
    weights = weights_of(kind.weights, lmbda)
    run = Run(given.runs / f"{name}-{lmbda}")
    if run.weights_path.is_file() and run.weights_path.read_bytes() == weights.read_bytes():
        return run
    run = Run.create(run.path, kind.space, TrainingSettings(lmbda=lmbda).model_dump())
    write_split(run.split_path, split_folder(given.data))
    run.weights_path.write_bytes(weights.read_bytes())
    found = Run(given.runs / f"{SPACE}-{lmbda}").layouts_path
    if kind.found and name != SPACE and kind.weights == SPACE and found.is_file():
        run.search_path.mkdir(exist_ok=True)
        run.layouts_path.write_bytes(found.read_bytes())
    return run


def begin_with(run: Run, other: Run, found: bool, seed: int, report: StageReport) -> None:
    """Score first what was best at another lambda, in the layouts that both runs have."""
    if found:
        evaluator = nas.load_run(run.path, device="cpu").searcher.evaluator
        prepare_layouts(run, evaluator, LayoutSettings(), seed=seed, report=report)
    front = other.front().query("on_front_total")["arch"].tolist()
    known = [key for key in front if key.rpartition("layout=")[2] in run.space.layouts]
    run.begin_with(known)


def search(name: str, lmbda: float, test: list[Photo], given: argparse.Namespace) -> dict[str, Any]:
    """Search one kind of structure at one lambda. Returns its answers and its front."""
    kind, main, began = KINDS[name], lmbda == LMBDAS[0], time.perf_counter()
    run, first = run_of(name, kind, lmbda, given), Run(given.runs / f"{name}-{LMBDAS[0]}")
    report = progress(run.path.name)
    if not main and first.front_path.is_file():
        begin_with(run, first, kind.found, given.seed, report)
    loaded = nas.load_run(run.path, device="cpu")
    if (
        len(loaded.searcher.space.shape) == 2 and not kind.found
    ):  # so few architectures that each is an answer
        space = loaded.searcher.space
        chosen: list[Answer] = [(None, space.at((width, 0))) for width in range(space.shape[0])]
    else:
        trials = kind.trials[not main] if given.trials is None else given.trials
        chosen = answers_to_targets(loaded, kind, trials, given.seed, report)
    seconds = time.perf_counter() - began
    say(f"{run.path.name}  testing")
    return {
        "command": facts(given.seed)["command"],
        "architectures": loaded.searcher.space.size,
        "scored": len(loaded.searcher.table()),
        "seconds": round(seconds),
        "answers": answers_of(loaded, chosen, test),
        "front": front_of(loaded),
    }


def answers_to_targets(
    loaded: LoadedRun, kind: Kind, trials: int, seed: int, report: StageReport
) -> list[Answer]:
    """Find the best architecture at or under each target that the kind can meet."""
    budget = nas.Budget.load(HERE / "budget.yaml")
    (reach,) = [r for r in loaded.searcher.ranges().values() if r.quantity.name == budget.scope]
    least = reach.whole[0] / reach.quantity.per_unit
    budget = replace(budget, targets=tuple(t for t in budget.targets if t.value >= least))
    found = loaded.search(
        budget, trials=trials, sources=Sources(layouts=kind.found), seed=seed, report=report
    )
    return [(round(choice.target, 6), choice.architecture) for choice in found.choices]


def answers_of(loaded: LoadedRun, answers: list[Answer], test: list[Photo]) -> list[dict[str, Any]]:
    """Return for each answer its costs and its scores on calibration photos and on test photos."""
    searcher = loaded.searcher
    own = searcher.evaluator
    unseen = Evaluator(own.supernet, test, Objective(own.lmbda))
    rows = []
    for target, architecture in answers:
        by_edge, layout = searcher.costs.by_edge(architecture), searcher.space.layout(architecture)
        rows.append(
            {
                "target": target,
                "arch": architecture.key,
                "kmac_px": searcher.costs.scopes(architecture),
                "context_kmac_px": sum(by_edge.get(edge, 0.0) for edge in CONTEXT_EDGES),
                "layout": layout.to_dict(),
                "stages": layout.stages(),
                "calibration": vars(searcher.scores.of(architecture)),
                "test": vars(unseen.score(architecture)),
            }
        )
    return rows


def front_of(loaded: LoadedRun) -> list[list[float]]:
    """Return the front of all scored architectures in total MACs and loss: (kMAC/px, loss)."""
    table = loaded.searcher.table().sort_values(["total_kmac_px", "rd_loss"])
    best = table["rd_loss"].cummin()
    kept = table[table["rd_loss"] <= best].drop_duplicates("rd_loss")
    pairs = zip(kept["total_kmac_px"], kept["rd_loss"], strict=True)
    return [[round(cost, 5), round(loss, 6)] for cost, loss in pairs]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--lmbda", type=float, nargs="*", default=list(LMBDAS), help="lambdas to work on")
    parser.add_argument(
        "--kinds",
        nargs="*",
        default=["space", "per-edge", "shared"],
        choices=list(KINDS),
        help="kinds of structure to search",
    )
    parser.add_argument("--trials", type=int, help="scores of each search; default: those of the kind")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    test = load_photos(list_images(given.test))
    for lmbda in given.lmbda:
        path, weights = RESULTS / f"search-{lmbda}.json", weights_of(SPACE, lmbda)
        if not weights.is_file():
            continue
        kinds = read_result(path)["kinds"] if path.is_file() else {}
        pieces = pieces_seen(weights)
        for name in given.kinds:
            kinds[name] = search(name, lmbda, test, given)
            about = facts(given.seed, lmbda=lmbda, test_photos=len(test), pieces=pieces)
            write_result(path, {"facts": about, "kinds": kinds})


if __name__ == "__main__":
    main()
