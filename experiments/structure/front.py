"""What training a front gains: weights before it, after it, and after as many steps of ordinary training.

    python -m experiments.structure.front --test KODAK --searched RUN

RUN is the searched run whose front `train --front RUN` trained. The supernet's own last piece continued from
the same weights with ordinary training and the same seed. It writes results/front.json and its section of
experiments/journal.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.pieces import pieces_seen
from experiments.results import JOURNAL, facts, options, read_result, renew, table, thirds, write_result
from experiments.structure.common import FRONT, KINDS, LMBDAS, RESULTS, SPACE, supernet, weights_of
from nas.analysis.rank_spread import spread
from nas.cost.counting.tabulate import measured_costs
from nas.metrics.objective import Objective
from nas.photos.images import list_images
from nas.photos.split import load_photos
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.architecture import Architecture
from nas.training.strategies import architectures_on_fronts

RESULT = RESULTS / "front.json"
SEEN = 24  # number of architectures in each set


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    parser.add_argument("--searched", type=Path, required=True, help="run whose front was trained")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    space, searched, lmbda = KINDS[SPACE].space, Run.open(given.searched), LMBDAS[0]
    sides = {
        "before": searched.weights_path,
        "level": weights_of(SPACE, lmbda),
        "front": weights_of(FRONT, lmbda),
    }
    front, costs = architectures_on_fronts(searched, space), measured_costs(space)
    sets = {
        "the front": front[:: -(-len(front) // SEEN)],
        "others": spread(costs, SEEN, given.seed),
    }
    photos = load_photos(list_images(given.test))
    found: dict[str, Any] = {
        name: {"kmac_px": [round(costs.kmac_px(architecture), 4) for architecture in own]}
        for name, own in sets.items()
    }
    for side, path in sides.items():
        evaluator = Evaluator(supernet(space, path), photos, Objective(lmbda))
        for name, own in sets.items():
            found[name][side] = losses(evaluator, own)
    pieces = {side: pieces_seen(path) for side, path in sides.items()}
    about = facts(given.seed, lmbda=lmbda, test_photos=len(photos), pieces=pieces)
    write_result(RESULT, {"facts": about, "sets": found})
    renew(JOURNAL, "front", tables())


def losses(evaluator: Evaluator, architectures: Sequence[Architecture]) -> list[float]:
    return [round(score.rd_loss, 6) for score in evaluator.score_all(list(architectures))]


# Tables for the page


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    rows = []
    for name, own in read_result(RESULT)["sets"].items():
        means = {side: thirds(own[side]) for side in ("before", "level", "front")}
        for title in means["before"]:
            before, level, front = (means[side][title] for side in means)
            changes = (f"{after:.3f} ({100 * (after / before - 1):+.1f} %)" for after in (level, front))
            rows.append([f"{name}, {title}", f"{before:.3f}", *changes])
    return [table(["mean loss on Kodak", "before", "after more of `level`", "after `front`"], rows)]


if __name__ == "__main__":
    main()
