"""How many calibration photos a search needs, measured by the loss of its answers on unseen photos.

    python -m experiments.calibration.run --data PHOTOS

The script scores the architectures that come with `zoo:patch` on square crops of photos that it was not
trained on. It divides the photos into two random halves many times. Each time, it chooses answers to some
targets by their losses on a few photos of one half, and compares them with the best possible answers by the
losses on the other half. It writes results/calibration.json and its section of docs/search.md.
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
PHOTOS, SIDE = 24, 384  # number of photos, and side of the central square of each
TARGETS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 9.3)  # targets of the decoder, in kMAC/px
COUNTS = (1, 2, 3, 5, 8, 12)
SPLITS = 500


def crops(paths: Sequence[Path], number: int, side: int, seed: int) -> list[Photo]:
    """Draw photos at random and crop each to its central square.

    Args:
        paths: the photos to draw from.
        number: number of photos to draw.
        side: side of the square in pixels.
        seed: seed of the drawing.
    """
    drawn = np.random.default_rng(seed).permutation(np.array(sorted(paths), dtype=object))[:number]
    return [Photo(path.name, central_square(read_image(path), side)) for path in sorted(drawn)]


def losses(run: Run, photos: Sequence[Photo], architectures: Sequence[Architecture]) -> Array:
    """Compute the losses of all architectures: [architectures, photos, rates], at three rates."""
    net, objective = supernet_of(run), settings_of(run).objective
    columns = []
    for number, photo in enumerate(photos, 1):
        evaluator = Evaluator(net, [photo], objective)
        scores = evaluator.score_all(architectures)
        columns.append([[point.rd_loss for point in score.curve] for score in scores])
        say(f"{number} of {len(photos)} photos")
    return np.array(columns).swapaxes(0, 1)


def on(lost: Array, photos: Sequence[int]) -> Array:
    """Average losses as a search does, over some photos and geometrically over rates: [architectures]."""
    return np.array([geometric_mean(rates) for rates in lost[:, photos].mean(1).tolist()])


def regrets(lost: Array, costs: Array, seed: int) -> dict[int, Array]:
    """For each number of photos, how much more answers lose than the best ones: [splits, targets]."""
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
        "--data", type=Path, required=True, help="folder of photos that the flagship was trained on"
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


# Tables for the page


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
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
