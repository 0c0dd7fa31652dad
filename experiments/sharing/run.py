"""What sharing weights costs in `patch`: codecs of the supernet, compared with the same codecs trained alone.

    python -m experiments.sharing.run --data PHOTOS --test KODAK --runs RUNS --start klt
    python -m experiments.sharing.run --data PHOTOS --test KODAK --runs RUNS --start zoo:patch

The supernet is trained like a phase of the flagship. Two of its architectures are trained alone, each for the
same number of steps and crops, from the same weights: those of `zoo:patch`, cut to the architecture, or the
photos' KLT. It writes results/sharing.json and its section of docs/results.md. If it is interrupted, run the
same
command again: it continues.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from experiments.calibration.run import crops
from experiments.flagship.train import DECODERS, PHASE, RECIPE, SPACE, STRONG, split_by_picture, train
from experiments.results import SUMMARY, facts, options, progress, read_result, renew, table, write_result
from experiments.widths.run import HELD_OUT, LAMBDAS, curve_of, more_bits
from nas.cost.counting.tabulate import measured_costs
from nas.photos.images import Photo, list_images
from nas.photos.split import load_photos
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.training.settings import ALONE, read_recipe, settings_of
from nas.training.start import KLT
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "sharing.json"
STARTS = {KLT: "the photos' KLT", "zoo:patch": "`zoo:patch`"}
SIZES = (1.5, 3.0)  # decoders that are also trained alone, in kMAC/px
CALIBRATION = (16, 256)  # number of photos, and side of the central square of each
Curves = dict[str, list[dict[str, float]]]  # curves by the name of the photos


def trained(size: float | None, start: str, steps: int, data: Path, runs: Path, seed: int) -> Run:
    """Train the supernet, or one of its architectures alone.

    Args:
        size: cost of the architecture's decoder, one of `SIZES`. None for the supernet.
        start: initial weights, one of `STARTS`.
        steps: number of steps, each of one architecture and four crops.
        data: folder of training photos.
        runs: folder for the runs.
        seed: seed of the training.
    """
    whole = SearchSpace.load(SPACE)
    space = whole if size is None else whole.only(whole.parse(STRONG + DECODERS[size]))
    own = {} if size is None else {**ALONE, "random_layouts": 0.0}
    settings = {**read_recipe(RECIPE), **PHASE, **own, "steps": steps, "seed": seed}
    folder = runs / start.replace(":", "-") / ("shared" if size is None else f"alone-{size:g}")
    return train(space, data, folder, settings, start)


def measured(run: Run, architecture: Architecture, photos: dict[str, list[Photo]]) -> Curves:
    """Measure bpp, PSNR and loss of an architecture at every rate, on each set of photos."""
    net, objective = supernet_of(run), settings_of(run).objective
    curves = {}
    for name, own in photos.items():
        evaluator = Evaluator(net, own, objective, lmbdas=LAMBDAS)
        report = functools.partial(progress(f"{run.path.name}, {name}"), "measuring")
        curves[name] = curve_of(evaluator.score_all([architecture], report=report)[0])
    return curves


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page: how many more bits sharing weights costs."""
    heads = ["both begin with", "steps", *(f"decoder of {size:g} kMAC/px" for size in SIZES)]
    rows = []
    for start, own in read_result(RESULT)["starts"].items():
        rates = [
            [more_bits(codec["shared"][photos], codec["alone"][photos]) for photos in ("Kodak", "held-out")]
            for codec in own["codecs"].values()
        ]
        cells = [f"{kodak:+.1f} % ({held_out:+.1f})" for kodak, held_out in rates]
        rows.append([STARTS[start], f"{own['steps']:,}", *cells])
    return [table(heads, rows)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--start", choices=STARTS, default=KLT, help="initial weights")
    parser.add_argument("--steps", type=int, default=1500, help="steps of each training")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    shared, *alone = (
        trained(size, given.start, given.steps, given.data, given.runs, given.seed) for size in (None, *SIZES)
    )
    parts = split_by_picture(given.data)
    photos = {
        "calibration": crops(parts["calibration"], *CALIBRATION, given.seed),
        "held-out": crops(parts["held-out"], *HELD_OUT, given.seed),
        "Kodak": load_photos(list_images(given.test)),
    }
    costs, codecs = measured_costs(shared.space), {}
    for size, run in zip(SIZES, alone, strict=True):
        architecture = shared.space.parse(STRONG + DECODERS[size])
        codecs[f"{size:g}"] = {
            "arch": architecture.key,
            "kmac_px": costs.scopes(architecture),
            "shared": measured(shared, architecture, photos),
            "alone": measured(run, architecture, photos),
        }
    starts = read_result(RESULT)["starts"] if RESULT.is_file() else {}
    starts[given.start] = {"steps": given.steps, "codecs": codecs}
    about = facts(given.seed, lambdas=LAMBDAS, photos={name: len(own) for name, own in photos.items()})
    write_result(RESULT, {"facts": about, "starts": starts})
    renew(SUMMARY, "sharing", tables())


if __name__ == "__main__":
    main()
