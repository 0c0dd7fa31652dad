"""Searches one trained supernet under each kind of structure: what each answers to the same eight targets.

    python -m experiments.structure.search --data PHOTOS --test KODAK --runs RUNS

One width for all layers, one per edge and one per layer are three spaces over the same weights and the same
layouts; SlimCAE has weights of its own. Architectures are chosen on calibration photos; then scored on
KODAK, which the search does not see. Writes results/search-LMBDA.json for each lambda that is trained.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import nas
from experiments.results import facts, say, write_result
from experiments.structure.common import HERE, LMBDAS, RESULTS, SPACES, weights_of
from nas.api import LoadedRun
from nas.cost.scopes import CONTEXT_EDGES
from nas.files import write_yaml
from nas.images import Photo, list_images
from nas.run import Run
from nas.search.evaluator import Evaluator
from nas.search.layouts import LayoutSettings
from nas.search.progress import Report
from nas.search.sources import prepare_layouts
from nas.space import Architecture
from nas.training.checkpoint import Checkpoint
from nas.training.data import load_photos, split_folder, write_split
from nas.training.settings import TrainingSettings

TRIALS = {"space": (260, 120), "per-edge": (160, 80), "shared": (120, 120)}  # first lambda, others
FIRST = 30  # architectures of the first lambda's front that the others score first
SPACE = "space"  # one width per layer; the layouts found for its weights serve the others
SAID = 20  # scores between lines of progress


def run_of(kind: str, lmbda: float, given: argparse.Namespace) -> Run:
    """The run of one kind at one lambda: the committed weights, and the layouts that were found for them."""
    weights = weights_of("slimcae" if kind == "slimcae" else SPACE, lmbda)
    run = Run(given.runs / f"{kind}-{lmbda}")
    if not run.weights_path.is_file() or run.weights_path.read_bytes() != weights.read_bytes():
        run = Run.create(run.path, SPACES[kind](), TrainingSettings(lmbda=lmbda))
        write_split(run.split_path, split_folder(given.data))
        run.weights_path.write_bytes(weights.read_bytes())
        run.search_path.mkdir(exist_ok=True)
        found = Run(given.runs / f"{SPACE}-{lmbda}").layouts_path
        if kind in ("shared", "per-edge") and found.is_file():
            run.layouts_path.write_bytes(found.read_bytes())
    return run


def begin_with(run: Run, other: Run, seed: int, report: Report) -> None:
    """Have a search begin with what was best at another lambda, under the layouts that both have."""
    evaluator = nas.load_run(run.path, device="cpu").searcher.evaluator
    prepare_layouts(run, evaluator, LayoutSettings(), seed=seed, report=report)
    front = other.front().query("on_front_total")["arch"].tolist()
    known = [key for key in front if key.rpartition("layout=")[2] in run.space.layouts]
    write_yaml(run.first_path, {"arch": known[:: -(-len(known) // FIRST)]})


def search(kind: str, lmbda: float, test: list[Photo], given: argparse.Namespace) -> dict[str, Any]:
    """What one kind of structure answers at one lambda."""
    run, first = run_of(kind, lmbda, given), Run(given.runs / f"{kind}-{LMBDAS[0]}")
    main, began = lmbda == LMBDAS[0], time.perf_counter()

    def report(stage: str, done: int, total: int, note: str) -> None:
        if done % SAID == 0 or done == total:
            say(f"{run.path.name}  {stage} {done}/{total}  {note}")

    if not main and kind != "slimcae" and first.front_path.is_file():
        begin_with(run, first, given.seed, report)
    loaded = nas.load_run(run.path, device="cpu")

    if kind == "slimcae":
        space = loaded.searcher.space
        answers: list[tuple[float | None, Architecture]] = [
            (None, space.at((width, 0))) for width in range(space.shape[0])
        ]
    else:
        budget = nas.Budget.load(HERE / "budget.yaml")
        found = loaded.search(
            budget, trials=given.trials or TRIALS[kind][not main], seed=given.seed, report=report
        )
        answers = [(choice.target, choice.best.architecture) for choice in found.choices]
    seconds = time.perf_counter() - began
    say(f"{run.path.name}  testing")
    return {
        "architectures": loaded.searcher.space.size,
        "scored": len(loaded.searcher.table()),
        "seconds": round(seconds),
        "answers": answers_of(loaded, answers, test),
        "front": front_of(loaded),
    }


def answers_of(
    loaded: LoadedRun, answers: list[tuple[float | None, Architecture]], test: list[Photo]
) -> list[dict[str, Any]]:
    """Each answer: its costs, its score on calibration photos and on the test photos."""
    searcher = loaded.searcher
    own = searcher.evaluator
    unseen = Evaluator(own.supernet, test, lmbda=own.lmbda)
    rows = []
    for target, architecture in answers:
        by_edge = searcher.costs.by_edge(architecture)
        rows.append(
            {
                "target": target,
                "arch": architecture.key,
                "kmac_px": {
                    s: searcher.costs.kmac_px(architecture, s) for s in ("encoder", "decoder", "total")
                },
                "context_kmac_px": sum(by_edge.get(edge, 0.0) for edge in CONTEXT_EDGES),
                "layout": searcher.space.layout(architecture).to_dict(),
                "stages": searcher.space.layout(architecture).stages(),
                "calibration": vars(searcher.scores.of(architecture)),
                "test": vars(unseen.score(architecture)),
            }
        )
    return rows


def front_of(loaded: LoadedRun) -> list[list[float]]:
    """All scored architectures that no other beats in total MACs and loss: (kMAC/px, loss)."""
    table = loaded.searcher.table().sort_values(["total_kmac_px", "rd_loss"])
    best = table["rd_loss"].cummin()
    kept = table[table["rd_loss"] <= best].drop_duplicates("rd_loss")
    return [
        [round(cost, 5), round(loss, 6)]
        for cost, loss in zip(kept["total_kmac_px"], kept["rd_loss"], strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of training photos")
    parser.add_argument("--test", type=Path, required=True, help="the folder of photos for the final numbers")
    parser.add_argument("--runs", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--lmbda", type=float, nargs="*", default=list(LMBDAS))
    parser.add_argument("--trials", type=int, help="scores of each search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    test = load_photos(list_images(given.test))
    for lmbda in given.lmbda:
        if not weights_of(SPACE, lmbda).is_file():
            continue
        kinds = [SPACE, "per-edge", "shared"]
        kinds += ["slimcae"] if weights_of("slimcae", lmbda).is_file() else []
        found = {kind: search(kind, lmbda, test, given) for kind in kinds}
        weights = {"pieces": Checkpoint.read(weights_of(SPACE, lmbda)).record["pieces"]}
        about = facts(given.seed, lmbda=lmbda, test_photos=len(test), **weights)
        write_result(RESULTS / f"search-{lmbda}.json", {"facts": about, "kinds": found})


if __name__ == "__main__":
    main()
