"""How many calibration photos a search needs: what its answers lose on photos that it did not see.

    python -m experiments.calibration.run --data PHOTOS

Scores the architectures that come with `zoo:patch` on photos it was not trained on, square crops of them.
Many times, these are parted at random into two halves: the answers to some targets are chosen by the losses
on a few photos of one half, and compared with the best possible ones by the losses on the other half. Writes
results/calibration.json and its section of docs/search.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from experiments.flagship.train import split_by_picture
from experiments.results import ROOT, facts, options, read_result, renew, say, table, write_result
from nas.photos.images import Photo, central_square, read_image
from nas.profiling.quantities import costs_of
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.shipped import zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.rates import geometric_mean
from nas.support.arrays import Array
from nas.support.tables import read_rows
from nas.training.settings import settings_of
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "calibration.json"
PAGE = ROOT / "docs" / "search.md"
PHOTOS, SIDE = 24, 384  # photos, and the side of the crop in the middle of each
TARGETS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 9.3)  # kMAC/px of the decoder
COUNTS = (1, 2, 3, 5, 8, 12)
SPLITS = 500


def crops(paths: Sequence[Path], number: int, side: int, seed: int) -> list[Photo]:
    """Some photos, each cut to the square in its middle.

    Args:
        paths: the photos to draw from.
        number: how many are drawn.
        side: of the square, in pixels.
        seed: of the drawing.
    """
    drawn = np.random.default_rng(seed).permutation(np.array(sorted(paths), dtype=object))[:number]
    return [Photo(path.name, central_square(read_image(path), side)) for path in sorted(drawn)]


def losses(run: Run, photos: Sequence[Photo], architectures: Sequence[Architecture]) -> Array:
    """The loss of every architecture on every photo at three rates, [architectures, photos, rates]."""
    net, objective = supernet_of(run), settings_of(run).objective
    columns = []
    for number, photo in enumerate(photos, 1):
        evaluator = Evaluator(net, [photo], objective)
        scores = evaluator.score_all(architectures)
        columns.append([[point.rd_loss for point in score.curve] for score in scores])
        say(f"{number} of {len(photos)} photos")
    return np.array(columns).swapaxes(0, 1)


def on(lost: Array, photos: Sequence[int]) -> Array:
    """An architecture's loss on some photos as a search has it: geometric over rates, [architectures]."""
    return np.array([geometric_mean(rates) for rates in lost[:, photos].mean(1).tolist()])


def regrets(lost: Array, costs: Array, seed: int) -> dict[int, Array]:
    """By how many photos chose: how much more the answers lose than the best ones, [splits, targets]."""
    rng = np.random.default_rng(seed)
    allowed = [np.flatnonzero(costs <= target) for target in TARGETS]
    found: dict[int, list[list[float]]] = {count: [] for count in COUNTS}
    for _ in range(SPLITS):
        order = rng.permutation(lost.shape[1])
        unseen = on(lost, order[len(order) // 2 :])
        for count in COUNTS:
            seen = on(lost, order[:count])
            found[count].append([unseen[own[seen[own].argmin()]] / unseen[own].min() - 1 for own in allowed])
    return {count: np.array(rows) for count, rows in found.items()}


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of photos that the flagship was trained on"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run = zoo_run("zoo:patch")
    architectures = [run.space.parse(row["key"]) for row in read_rows(run.scores_path)]
    table_of_costs = costs_of(run)
    costs = np.array([table_of_costs.kmac_px(found, "decoder") for found in architectures])
    split = split_by_picture(given.data)
    untrained = [*split["calibration"], *split["held-out"]]
    lost = losses(run, crops(untrained, PHOTOS, SIDE, given.seed), architectures)
    rows = [
        {
            "photos": count,
            "mean": float(own.mean()),
            "largest_of_20": float(np.quantile(own, 0.95)),
            "best": float((own == 0).mean()),
        }
        for count, own in regrets(lost, costs, given.seed).items()
    ]
    about = facts(
        given.seed,
        weights=run.fingerprint,
        trained=run.config["trained"],
        architectures=len(architectures),
        photos=PHOTOS,
        side=SIDE,
        targets=TARGETS,
        splits=SPLITS,
    )
    write_result(RESULT, {"facts": about, "rows": rows})
    renew(PAGE, "calibration", tables())


# The page


def tables() -> list[str]:
    """What stands between the page's marks."""
    found = read_result(RESULT)
    heads = [
        "calibration photos",
        "mean excess of loss",
        "exceeded once in 20 times",
        "best one chosen",
    ]
    rows = [
        [
            str(row["photos"]),
            f"{row['mean']:.2%}",
            f"{row['largest_of_20']:.2%}",
            f"{row['best']:.0%}",
        ]
        for row in found["rows"]
    ]
    return [table(heads, rows)]


if __name__ == "__main__":
    main()
