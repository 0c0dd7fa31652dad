"""Which source of a search finds what: width logits, Optuna's sampler, layouts of its own, single moves.

    python -m experiments.sources.run

Searches the weights of `zoo:patch` from the beginning, on the photos that come with the package: with
everything, and with one source switched off. The layouts are those that were found for these weights. In
place of Optuna's sampler architectures are drawn at random.
Regret is by how much the loss of the best one that was scored within a budget exceeds the least that any of
the searches found there, as a mean over some decoder budgets. Writes results/sources.json after each search,
and its section of docs/search.md. Stopped, it goes on with the search it was at.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from experiments.results import (
    ROOT,
    facts,
    options,
    over_seeds,
    read_result,
    renew,
    say,
    table,
    write_result,
)
from nas.run import Run
from nas.searching.searcher import Searcher
from nas.searching.sources import Sources
from nas.shipped import zoo_run

RESULT = Path(__file__).parent / "results" / "sources.json"
PAGE = ROOT / "docs" / "search.md"
WEIGHTS = "zoo:patch"
SCORES = (30, 100, 300)
SEEDS = (0, 1, 2)
TARGETS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 9.3)  # kMAC/px of the decoder
Found = dict[str, dict[str, dict[str, list[float]]]]  # least losses at the targets, by side, seed and scores
Search = Callable[[Searcher, int, int], None]  # a searcher, how many scores there are to be, the seed


def with_sources(**off: bool) -> Search:
    """A search without some of its sources."""

    def search(searcher: Searcher, scores: int, seed: int) -> None:
        missing = scores - len(searcher.scores)
        searcher.search(trials=missing, seed=seed, sources=Sources(**off))

    return search


def at_random(searcher: Searcher, scores: int, seed: int) -> None:
    """Both ends of the space and random architectures, with the layouts that were found."""
    for architecture in (searcher.space.narrowest(), searcher.space.widest()):
        searcher.scores.attempt(architecture)
    rng = random.Random(f"{seed} {scores}")
    while len(searcher.scores) < scores:
        searcher.scores.attempt(searcher.space.sample(rng))


WITHOUT_LAYOUTS = "without layouts of its own"
SIDES: dict[str, Search] = {
    "everything": with_sources(),
    "without width logits": with_sources(logits=False),
    WITHOUT_LAYOUTS: with_sources(layouts=False),
    "without single moves": with_sources(moves=False),
    "without Optuna's sampler (random)": at_random,
}


def unsearched(folder: Path, *, layouts: bool) -> Run:
    """The weights as a training leaves them, beside the layouts that were found for them."""
    run = zoo_run(WEIGHTS)
    shutil.copytree(run.path, folder)
    own = Run.open(folder)
    own.front_path.unlink()
    for path in own.search_path.iterdir():
        if path != own.costs_path and not (layouts and path == own.layouts_path):
            path.unlink()
    return own


def found_by(side: str, seed: int) -> dict[str, list[float]]:
    """The least loss within each target when a search has a number of scores, by these numbers."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        run = unsearched(Path(place) / "run", layouts=side != WITHOUT_LAYOUTS)
        for scores in SCORES:
            searcher = Searcher(run, device="cpu")
            SIDES[side](searcher, scores, seed)
            scored = searcher.table()
            costs, losses = (scored[name].to_numpy() for name in ("decoder_kmac_px", "rd_loss"))
            found[str(scores)] = [float(losses[costs <= target].min()) for target in TARGETS]
    return found


def regrets(found: Found) -> dict[str, dict[str, list[float]]]:
    """By search and number of scores: the regret of each seed, in %."""
    best = np.min([own[str(SCORES[-1])] for seeds in found.values() for own in seeds.values()], axis=0)
    return {
        side: {
            str(scores): [100 * float(np.mean(own[str(scores)] / best - 1)) for own in seeds.values()]
            for scores in SCORES
        }
        for side, seeds in found.items()
    }


def tables(found: Found) -> list[str]:
    """What stands between the page's marks."""
    columns = ["search", *(f"regret after {scores} scores, %" for scores in SCORES)]
    rows = [
        [side, *(over_seeds(own[str(scores)], 2) for scores in SCORES)]
        for side, own in regrets(found).items()
    ]
    return [table(columns, rows)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--show", action="store_true", help="write the page from the results alone")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found: Found = read_result(RESULT)["found"] if RESULT.is_file() else {}
    for seed in () if given.show else SEEDS:
        for side in SIDES:
            if str(seed) not in found.setdefault(side, {}):
                found[side][str(seed)] = found_by(side, seed)
                say(f"{side}, seed {seed}")
                about = facts(given.seed, weights=zoo_run(WEIGHTS).fingerprint, targets=TARGETS)
                write_result(RESULT, {"facts": about, "found": found})
    renew(PAGE, "sources", tables(found))


if __name__ == "__main__":
    main()
