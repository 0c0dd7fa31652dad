"""What each source of architectures adds to a search of `zoo:patch`. One source is switched off at a time.

    python -m experiments.sources.run --runs RUNS

Every search begins without scores and asks for the same decoder targets. One runs with all sources, and the
others without width logits, without the layouts that were found for the weights, without steps from the
front, and with random architectures instead of the sampler's. Architectures are scored on central crops of
the bundled photos. The searches share their scores, so that only their choice of architectures differs. It
writes results/sources.json and its section of docs/search.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.results import ROOT, facts, options, progress, read_result, renew, say, table, write_result
from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.photos.images import Photo, central_square
from nas.photos.split import photos_of
from nas.run import CALIBRATION_PHOTOS, Run
from nas.searching.scoring.evaluator import Evaluator, Score
from nas.searching.scoring.scores import Scores, read_scores
from nas.searching.searcher import Searcher
from nas.searching.sources import Sources
from nas.shipped import copied, zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Amount, Budget
from nas.support.files import clear
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "sources.json"
PAGE = ROOT / "docs" / "search.md"
ZOO, SIDE = "zoo:patch", 192  # the supernet, and the side of the central square of each photo
TARGETS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 9.3)  # targets of the decoder, in kMAC/px
COUNTS = (30, 100, 300)  # numbers of scores after which the answers are noted
SEEDS = (0, 1, 2)
RANDOM = "random architectures in place of the sampler's"
SIDES = {
    "all sources": Sources(),
    "without width logits": Sources(logits=False),
    "without the layouts found for the weights": Sources(layouts=False),
    "without steps from the front": Sources(moves=False),
    RANDOM: Sources(trials=False),
}


class Remembering(Evaluator):
    """An evaluator that looks up architectures that another search has scored already.

    Args:
        supernet: trained supernet.
        photos: calibration photos.
        objective: the loss.
        known: scores of all searches by key. New scores are added.
    """

    def __init__(
        self, supernet: Supernet, photos: Sequence[Photo], objective: Objective, known: dict[str, Score]
    ) -> None:
        super().__init__(supernet, photos, objective)
        self._known = known

    def score(self, architecture: Architecture) -> Score:
        if architecture.key not in self._known:
            self._known[architecture.key] = super().score(architecture)
        return self._known[architecture.key]


def fresh(folder: Path, sources: Sources, logits: Path) -> Run:
    """Copy the zoo's run without its scores. Layouts and logits are copied if the search may use them.

    Args:
        folder: folder of the copy.
        sources: the sources that its search may use.
        logits: width logits of another search with the same seed, if there was one.
    """
    run = copied(zoo_run(ZOO), folder, force=True)
    run.front_path.unlink(missing_ok=True)
    for path in run.search_path.iterdir():
        if path.name != "costs.npz" and not (sources.layouts and path == run.layouts_path):
            clear(path)
    if sources.logits and logits.is_file():
        shutil.copyfile(logits, run.search_path / logits.name)
    return Run.open(folder)


def searched(name: str, seed: int, runs: Path, known: dict[str, Score]) -> dict[str, list[float]]:
    """Search, and return the least loss within each target after each number of scores."""
    sources, logits = SIDES[name], runs / f"seed-{seed}" / "logits-decoder.yaml"
    run = fresh(runs / f"seed-{seed}" / name.replace(" ", "-"), sources, logits)
    searcher = Searcher(run, device="cpu")
    photos = photos_of(run, "calibration", CALIBRATION_PHOTOS)
    searcher.evaluator = Remembering(
        supernet_of(run),
        [Photo(photo.name, central_square(photo.pixels, SIDE)) for photo in photos],
        searcher.settings.objective,
        known,
    )
    searcher.scores = Scores(run.scores_path, searcher.evaluator, run.fingerprint)
    report = progress(name)
    budget = Budget("decoders", "decoder", tuple(Amount(target, "kMAC/px") for target in TARGETS))
    if name == RANDOM:
        question, rng = searcher.question(budget), np.random.default_rng(seed)
        drawn = question.feasible.draw(
            question.quantity, question.span[0], question.targets[-1], 2 * COUNTS[-1], rng
        )
        for number, architecture in enumerate([*searcher.space.starts(), *drawn][: COUNTS[-1]], 1):
            searcher.scores.of(architecture)
            report("scoring", number, COUNTS[-1], "")
    else:
        searcher.search(budget, trials=COUNTS[-1], sources=sources, seed=seed, report=report)
        if sources.logits and not logits.is_file():
            shutil.copyfile(run.search_path / logits.name, logits)
    rows = read_scores(run.scores_path)[: COUNTS[-1]]
    scored = [
        (searcher.costs.kmac_px(searcher.space.parse(row["key"]), "decoder"), float(row["rd_loss"]))
        for row in rows
    ]
    return {str(count): least(scored[:count]) for count in COUNTS}


def least(scored: Sequence[tuple[float, float]]) -> list[float]:
    """Find the least loss within each target, among pairs of decoder kMAC/px and loss."""
    return [round(min(loss for cost, loss in scored if cost <= target), 6) for target in TARGETS]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the searches")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run = zoo_run(ZOO)
    known: dict[str, Score] = {}
    found: dict[str, list[Any]] = {name: [] for name in SIDES}
    for seed in SEEDS:
        for name in SIDES:
            found[name].append(searched(name, seed, given.runs, known))
            say(f"seed {seed}, {name}: {len(known)} architectures are scored")
        about = facts(
            given.seed,
            weights=run.fingerprint,
            trained=run.config["trained"],
            side=SIDE,
            seeds=SEEDS[: seed + 1],
            targets=TARGETS,
        )
        write_result(RESULT, {"facts": about, "least_loss": found})
    renew(PAGE, "sources", tables())


# Tables for the page


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page: the mean excess over the least loss."""
    found = read_result(RESULT)["least_loss"]
    losses = {
        name: {count: np.array([seed[str(count)] for seed in seeds]) for count in COUNTS}
        for name, seeds in found.items()
    }
    best = np.min([own[COUNTS[-1]].min(0) for own in losses.values()], axis=0)
    heads = ["search", *(f"after {count} scores" for count in COUNTS), f"worst answer after {COUNTS[-1]}"]
    rows = []
    for name, own in losses.items():
        means = [f"{np.mean(own[count] / best - 1):.2%}" for count in COUNTS]
        rows.append([name, *means, f"{np.max(own[COUNTS[-1]] / best - 1):.2%}"])
    return [table(heads, rows)]


if __name__ == "__main__":
    main()
