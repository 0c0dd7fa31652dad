"""Whether a search widens the layers in which the probes find headroom, once wider candidates are trained.

    python -m experiments.probes.wider --data PHOTOS --runs RUNS

`zoo:patch` was hardly trained with wider layers around most of its architectures. So it is trained further
for each of three architectures, in which every slot with a probed activation also has its next wider
candidate. Each wider slot is trained equally often, alone and together with all others. All combinations are
then scored, and the best one within a limit of MACs is found among three kinds: those that widen only the
slots with more headroom, only the other slots, or any. Photos that were held out of the training measure it.
It reads results/probes.json and writes results/wider.json after each training, and its section of
docs/probes.md. If it is interrupted, run the same command again: it continues.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from experiments.calibration.run import crops
from experiments.flagship.train import DECODERS, RECIPE, STRONG, split_by_picture, train
from experiments.probes.run import PAGE, RUN, Slots
from experiments.probes.run import RESULT as PROBES
from experiments.results import facts, options, over_seeds, progress, read_result, renew, table, write_result
from nas.cost.counting.tabulate import measured_costs
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.shipped import zoo_run
from nas.spaces.architecture import Architecture
from nas.training.settings import read_recipe, settings_of
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "wider.json"
SIZES = (1.0, 1.5, 3.0)  # decoders in kMAC/px
SETTINGS = {  # settings that differ from the recipe
    "lmbda": "0.0018..0.18",
    "strategy": "front",
    "elsewhere": 0.0,
    "moved": 0.0,
    "random_layouts": 0.0,
    "preview_every": 0,
}
PHOTOS = {
    "calibration": (16, 256),
    "held-out": (24, 256),
}  # number of photos, side of their central squares
MORE = (1.02, 1.06)  # limits of the total MACs, relative to the architecture that is widened


def headroom_of(size: float) -> dict[str, float]:
    """Read the headroom of the slots that have a wider candidate, in %, by name.

    Args:
        size: cost of the architecture's decoder, one of `SIZES`.
    """
    slots: Slots = read_result(PROBES)["decoders"][f"{size:g}"]["slots"]
    return {name: own["headroom"] for name, own in slots.items() if "wider" in own}


def combinations(size: float) -> list[Architecture]:
    """List the architectures in which each slot of `headroom_of` has its own candidate or the next wider one.

    The first one is the decoder's own architecture, and the last slot changes first.

    Args:
        size: cost of the architecture's decoder, one of `SIZES`.
    """
    space = zoo_run(RUN).space
    own, names = space.indexes(space.parse(STRONG + DECODERS[size])), list(headroom_of(size))
    slots = [slot.name for slot in space.slots]
    rows = []
    for steps in itertools.product((0, 1), repeat=len(names)):
        row = list(own)
        for name, step in zip(names, steps, strict=True):
            row[slots.index(name)] += step
        rows.append(space.at(row))
    return rows


def trained(size: float, steps: int, data: Path, runs: Path, seed: int) -> Run:
    """Train the combinations of one decoder, each wider slot equally often.

    Args:
        size: cost of the architecture's decoder, one of `SIZES`.
        steps: number of steps.
        data: folder of training photos.
        runs: folder for the runs.
        seed: seed of the training.
    """
    every = combinations(size)
    count = len(headroom_of(size))
    members = [every[place].key for place in (0, *single_steps(count), len(every) - 1)]
    settings = {**read_recipe(RECIPE), **SETTINGS, "members": members, "steps": steps, "seed": seed}
    return train(zoo_run(RUN).space, data, runs / f"wider-{size:g}-{seed}", settings, RUN)


def single_steps(count: int) -> list[int]:
    """List the places in `combinations` of those with one wider slot, slot by slot.

    Args:
        count: number of slots.
    """
    return [2 ** (count - 1 - place) for place in range(count)]


def scored(run: Run, size: float, data: Path, seed: int) -> dict[str, list[float]]:
    """Score all `combinations` with the weights of a run.

    Args:
        run: a run of `trained`.
        size: cost of the architecture's decoder, one of `SIZES`.
        data: folder of training photos.
        seed: seed for the choice of photos.

    Returns:
        Total kMAC/px of each, and its loss on each set of photos.
    """
    net, objective, every = supernet_of(run), settings_of(run).objective, combinations(size)
    costs, parts = measured_costs(run.space), split_by_picture(data)
    found = {"kmac_px": [costs.kmac_px(own) for own in every]}
    for name, (number, side) in PHOTOS.items():
        evaluator = Evaluator(net, crops(parts[name], number, side, seed), objective)
        scores = evaluator.score_all(every, report=functools.partial(progress(run.path.name), name))
        found[name] = [score.rd_loss for score in scores]
    return found


# Tables for the page


def best_within(
    more: float, allowed: NDArray[np.bool_], steps: NDArray[np.bool_], found: dict[str, list[float]]
) -> tuple[NDArray[np.bool_], float]:
    """Find the best combination within a limit: chosen on calibration photos, measured on the held-out ones.

    Args:
        more: the limit of the total MACs, relative to the architecture without a wider slot.
        allowed: for each slot, whether it may be widened.
        steps: for each architecture and slot, whether the slot is widened. The first architecture has none.
        found: see `scored`.

    Returns:
        Its row of `steps`, and the change in loss against the first architecture in %.
    """
    costs, losses, held_out = (np.array(found[name]) for name in ("kmac_px", *PHOTOS))
    within = (costs <= more * costs[0]) & ~(steps & ~allowed).any(axis=1)
    best = min(np.flatnonzero(within), key=losses.__getitem__)
    return steps[best], 100 * float(held_out[best] / held_out[0] - 1)


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    agreements, answers = [], []
    for size, own in read_result(RESULT)["decoders"].items():
        names = own["slots"]
        headroom = np.array([headroom_of(float(size))[name] for name in names])
        steps = np.array(list(itertools.product((False, True), repeat=len(names))))
        single = [
            int(np.flatnonzero((steps == one).all(axis=1))[0]) for one in np.eye(len(names), dtype=bool)
        ]
        pointed = headroom > np.median(headroom)
        seeds = list(own["seeds"].values())
        taus, gains = [], []
        for found in seeds:
            losses = np.array(found["held-out"])
            gains.append(100 * (1 - losses[single] / losses[0]))
            taus.append(float(kendalltau(headroom, gains[-1]).statistic))
        ordered = sorted(zip(names, headroom, np.mean(gains, axis=0), strict=True), key=lambda slot: -slot[1])
        described = ", ".join(f"`{name}` {room:.1f} / {gain:+.2f}" for name, room, gain in ordered)
        agreements.append([size, described, over_seeds(taus, 2, "+")])
        for more in MORE:
            kinds = (pointed, ~pointed, np.ones(len(names), dtype=bool))
            chosen = [[best_within(more, kind, steps, found) for found in seeds] for kind in kinds]
            cells = [over_seeds([change for _, change in of_kind], 2, "+") for of_kind in chosen]
            often = np.sum([row for row, _ in chosen[-1]], axis=0)
            widest = ", ".join(f"`{name}` {n}" for name, n in zip(names, often, strict=True) if n)
            answers.append([size, f"{100 * (more - 1):+.0f} %", *cells, widest or "none"])
    return [
        table(
            ["decoder, kMAC/px", "slots: headroom / gain of one step wider, %", "Kendall's tau"], agreements
        ),
        table(
            [
                "decoder, kMAC/px",
                "limit of MACs",
                "slots with more headroom",
                "other slots",
                "any slot",
                "widened, and in how many seeds",
            ],
            answers,
        ),
    ]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each training")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    about = facts(given.seed, steps=given.steps, settings=SETTINGS, photos=PHOTOS)
    decoders: dict[str, Any] = {}
    for seed in range(given.seed, given.seed + given.seeds):
        for size in SIZES:
            run = trained(size, given.steps, given.data, given.runs, seed)
            own = decoders.setdefault(f"{size:g}", {"slots": list(headroom_of(size)), "seeds": {}})
            own["seeds"][str(seed)] = scored(run, size, given.data, given.seed)
            write_result(RESULT, {"facts": about, "decoders": decoders})
    renew(PAGE, "wider", tables())


if __name__ == "__main__":
    main()
