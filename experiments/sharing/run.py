"""What sharing weights costs in `patch`: codecs of the supernet, compared with the same codecs trained alone.

    python -m experiments.sharing.run --data PHOTOS --test KODAK --runs RUNS --start klt
    python -m experiments.sharing.run --data PHOTOS --test KODAK --runs RUNS --start zoo:patch

The supernet is trained like a phase of the flagship. Three of its architectures are trained alone, each for
the same number of steps and crops, from the same weights: those of `zoo:patch`, cut to the architecture, or
the photos' KLT. All of this is done for several seeds. It writes results/sharing.json after each seed, and
its section of docs/results.md. If it is interrupted, run the same command again: it continues.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.calibration.run import crops
from experiments.flagship.train import DECODERS, PHASE, RECIPE, SPACE, STRONG, split_by_picture, train
from experiments.results import (
    SUMMARY,
    facts,
    options,
    over_seeds,
    progress,
    read_result,
    renew,
    table,
    write_result,
)
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
SIZES = (1.5, 3.0, 4.8)  # decoders that are also trained alone, in kMAC/px
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
    name = "shared" if size is None else f"alone-{size:g}"
    folder = runs / f"{start.replace(':', '-')}-{seed}" / name
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


def compared(shared: Run, alone: Mapping[float, Run], photos: dict[str, list[Photo]]) -> dict[str, Any]:
    """Measure every architecture that was trained alone, with its own weights and with the supernet's.

    Args:
        shared: the trained supernet.
        alone: the runs of one architecture by the cost of its decoder.
        photos: sets of photos by name.

    Returns:
        For each architecture its key, costs, and curves on each set of photos.
    """
    costs, codecs = measured_costs(shared.space), {}
    for size, run in alone.items():
        architecture = shared.space.parse(STRONG + DECODERS[size])
        codecs[f"{size:g}"] = {
            "arch": architecture.key,
            "kmac_px": costs.scopes(architecture),
            "shared": measured(shared, architecture, photos),
            "alone": measured(run, architecture, photos),
        }
    return codecs


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page: how many more bits sharing weights costs."""
    heads = ["both begin with", "steps", "seeds", *(f"decoder of {size:g} kMAC/px" for size in SIZES)]
    rows = []
    for start, own in read_result(RESULT)["starts"].items():
        cells = []
        for size in SIZES:
            codecs = [codecs[f"{size:g}"] for codecs in own["seeds"].values()]
            kodak, held_out = (
                [more_bits(codec["shared"][name], codec["alone"][name]) for codec in codecs]
                for name in ("Kodak", "held-out")
            )
            cells.append(f"{over_seeds(kodak, 1, '+')} % ({over_seeds(held_out, 1, '+')})")
        rows.append([STARTS[start], f"{own['steps']:,}", str(len(own["seeds"])), *cells])
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
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts = split_by_picture(given.data)
    photos = {
        "held-out": crops(parts["held-out"], *HELD_OUT, given.seed),
        "Kodak": load_photos(list_images(given.test)),
    }
    about = facts(given.seed, lambdas=LAMBDAS, photos={name: len(own) for name, own in photos.items()})
    codecs: dict[str, Any] = {}
    for seed in range(given.seed, given.seed + given.seeds):
        shared, *alone = (
            trained(size, given.start, given.steps, given.data, given.runs, seed) for size in (None, *SIZES)
        )
        codecs[str(seed)] = compared(shared, dict(zip(SIZES, alone, strict=True)), photos)
        starts = read_result(RESULT)["starts"] if RESULT.is_file() else {}
        starts[given.start] = {"facts": about, "steps": given.steps, "seeds": codecs}
        write_result(RESULT, {"starts": starts})
    renew(SUMMARY, "sharing", tables())


if __name__ == "__main__":
    main()
