"""What a width per edge, a width per layer, and depths gain over one width, at equal MACs and over all rates.

    python -m experiments.widths.train --data PHOTOS --run RUN
    python -m experiments.widths.run RUN --data PHOTOS --test KODAK

All kinds of structure are parts of one space and use the same weights, which `train` trained equally often
for each kind. Every kind is searched for the same targets on calibration photos, beginning with the answers
of the next smaller kind. Its answers are then measured at several rates on KODAK and on photos that were held
out of the training. Do this for a run of each seed: results/widths.json keeps them side by side. It also
writes its section of docs/results.md and docs/widths.png.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from experiments.calibration.run import crops
from experiments.flagship.train import split_by_picture
from experiments.results import (
    ROOT,
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
from experiments.spaces import same_network
from experiments.widths.common import HERE, KINDS, WHOLE, space_of
from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.quantity import macs
from nas.metrics.curves import Curve, CurvePoint, bd_rate
from nas.photos.images import list_images
from nas.photos.split import load_photos
from nas.profiling.quantities import Question
from nas.report.style import COLOURS, GRID, INK, MARKERS, STYLE, write_figure
from nas.run import Run
from nas.searching.sampler.rows import proposer
from nas.searching.scoring.evaluator import Evaluator, Score
from nas.spaces.architecture import Architecture
from nas.training.settings import settings_of
from nas.weights.checkpoint import supernet_of

RESULT = HERE / "results" / "widths.json"
ALONE = HERE / "results" / "alone.json"  # written by `experiments.widths.alone`
TARGETS = (2.6, 3.2, 4.0, 5.1, 6.5, 8.8, 11.0, 13.8)  # targets in total kMAC/px; four are costs of one width
LAMBDAS = (0.0018, 0.0057, 0.018, 0.057, 0.18)  # lambdas of the curves
SCORES = 300  # scores of each search
DARK = 0.6  # relative place of a candidate from which its text is white
CALIBRATION, HELD_OUT = (6, 256), (24, 384)  # number of photos, and side of the central square of each


def searched(
    kind: str, smaller: Sequence[Architecture], evaluator: Evaluator, scores: int, seed: int
) -> list[Architecture]:
    """Search one kind for the best architecture within each target. Returns them in the whole space.

    Args:
        kind: one of `KINDS`.
        smaller: the answers of the smaller kind, which are scored first.
        evaluator: scores architectures of the whole space.
        scores: largest number of scored architectures.
        seed: seed of the search.
    """
    space, whole = space_of(kind), evaluator.space
    quantity, within = macs(measured_costs(space), "total"), FeasibleSet(space)
    targets = tuple(round(target * quantity.per_unit) for target in TARGETS)
    question = Question(quantity, within, targets, within.span(quantity))
    first = [*(same_network(whole, answer, space) for answer in smaller), *space.starts()]
    proposals = proposer(space, question, {}, first=first, also=space.baselines(), seed=seed)
    if space.size <= scores:
        rows = list(itertools.product(*map(range, space.shape)))
        losses = [evaluator.score(same_network(space, space.at(row), whole)).rd_loss for row in rows]
    else:
        rows, losses, report = [], [], progress(kind)
        for number in range(1, scores + 1):
            rows.append(proposals.propose(proposals.rows(rows), np.array(losses)))
            losses.append(evaluator.score(same_network(space, space.at(rows[-1]), whole)).rd_loss)
            report("scoring", number, scores, f"least loss {min(losses):.4f}")
    costs = quantity.of_rows(proposals.rows(rows))
    best = [min(np.flatnonzero(costs <= target), key=losses.__getitem__) for target in targets]
    return [same_network(space, space.at(rows[place]), whole) for place in best]


def curve_of(score: Score) -> list[dict[str, float]]:
    """List bpp, PSNR and loss at every rate, as means over photos."""
    return [{name: round(value, 6) for name, value in asdict(point).items()} for point in score.curve]


@dataclass(frozen=True)
class Sides:
    """A trained run with the photos that its architectures are chosen and measured on.

    Attributes:
        steps: the run's number of steps.
        seed: the run's seed.
        chosen: the evaluator of a search.
        measuring: the evaluator of each set of photos that a search never sees, by name.
    """

    steps: int
    seed: int
    chosen: Evaluator
    measuring: dict[str, Evaluator]


def sides_of(given: argparse.Namespace) -> Sides:
    """What the command line names: a run, its photos, and the photos for the final numbers."""
    torch.set_num_threads(given.threads)
    run, parts = Run.open(given.run), split_by_picture(given.data)
    net, settings = supernet_of(run), settings_of(run)
    photos = {
        "held-out": crops(parts["held-out"], *HELD_OUT, given.seed),
        "Kodak": load_photos(list_images(given.test)),
    }
    return Sides(
        settings.steps,
        settings.seed,
        Evaluator(net, crops(parts["calibration"], *CALIBRATION, given.seed), settings.objective),
        {name: Evaluator(net, own, settings.objective, lmbdas=LAMBDAS) for name, own in photos.items()},
    )


def measure(sides: Sides, architectures: Sequence[Architecture]) -> dict[str, dict[str, Any]]:
    """Costs, stages and curves of different architectures, by key."""
    space = sides.chosen.space
    costs, unlike = measured_costs(space), {own.key: own for own in architectures}
    measured: dict[str, dict[str, Any]] = {
        key: {"kmac_px": costs.scopes(own), "stages": space.layout(own).stages()}
        for key, own in unlike.items()
    }
    for name, evaluator in sides.measuring.items():
        report = functools.partial(progress(name), "measuring")
        scores = evaluator.score_all(list(unlike.values()), report=report)
        for key, score in zip(unlike, scores, strict=True):
            measured[key][name] = curve_of(score)
    return measured


def keep(path: Path, sides: Sides, answers: Any, measured: dict[str, Any], seed: int) -> None:
    """Write the result of a run beside those of runs with other seeds.

    Args:
        path: the result file.
        sides: the run and its photos.
        answers: keys of the answers to the targets.
        measured: see `measure`.
        seed: seed of the search and of the choice of photos.
    """
    about = facts(
        seed,
        trained=f"{sides.steps} steps from zoo:patch, seed {sides.seed}",
        lambdas=LAMBDAS,
        scores=SCORES,
        targets=TARGETS,
        photos={name: len(evaluator.photos) for name, evaluator in sides.measuring.items()},
    )
    seeds = read_result(path)["seeds"] if path.is_file() else {}
    seeds[str(sides.seed)] = {"facts": about, "answers": answers, "architectures": measured}
    write_result(path, {"seeds": seeds})


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("run", type=Path, help="the run that `train` made")
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    given = parser.parse_args()
    sides = sides_of(given)
    answers: dict[str, list[Architecture]] = {}
    for kind in KINDS:
        smaller = next(reversed(answers.values()), [])
        answers[kind] = searched(kind, smaller, sides.chosen, SCORES, given.seed)
    measured = measure(sides, [own for many in answers.values() for own in many])
    keys = {kind: [own.key for own in many] for kind, many in answers.items()}
    keep(RESULT, sides, keys, measured, given.seed)
    draw()
    renew(SUMMARY, "widths", tables())


# Tables for the page


def more_bits(curve: list[dict[str, float]], anchor: list[dict[str, float]]) -> float:
    """Compute the BD-rate of one curve against another in %. See `curve_of`."""
    ours, theirs = (
        Curve.of(name, (CurvePoint(point["bpp"], point["psnr"]) for point in points))
        for name, points in (("curve", curve), ("anchor", anchor))
    )
    percent = bd_rate(ours, theirs).percent
    assert percent is not None
    return percent


def compared(kind: str, anchor: str, photos: str) -> list[tuple[float, ...]]:
    """Compute the BD-rates of one kind's answers against another's, in %: for each target, one for each seed.

    Args:
        kind, anchor: two of `KINDS`.
        photos: `Kodak` or `held-out`.
    """
    by_seed = []
    for found in read_result(RESULT)["seeds"].values():
        rates = []
        for own, other in zip(found["answers"][kind], found["answers"][anchor], strict=True):
            sides = (found["architectures"][key][photos] for key in (own, other))
            rates.append(0.0 if own == other else more_bits(*sides))
        by_seed.append(rates)
    return list(zip(*by_seed, strict=True))


def alone_compared(photos: str) -> list[tuple[float, ...]]:
    """BD-rates of one width with weights of its own against shared weights, in %: see `compared`.

    Args:
        photos: `Kodak` or `held-out`.
    """
    alone, shared = read_result(ALONE)["seeds"], read_result(RESULT)["seeds"]
    by_seed = [
        [
            more_bits(
                alone[seed]["architectures"][key][photos], shared[seed]["architectures"][anchor][photos]
            )
            for key, anchor in zip(alone[seed]["answers"], shared[seed]["answers"]["one-width"], strict=True)
        ]
        for seed in alone
    ]
    return list(zip(*by_seed, strict=True))


def tables() -> list[str]:
    """Make the tables of the page: BD-rates within each target, on both sets of photos."""
    others = [kind for kind in KINDS if kind != "one-width"]
    pairs = [*((kind, "one-width") for kind in others), ("per-layer", "per-edge")]
    rates = [[compared(*pair, photos) for photos in ("Kodak", "held-out")] for pair in pairs]
    rates.insert(0, [alone_compared(photos) for photos in ("Kodak", "held-out")])
    heads = [
        "total kMAC/px at most",
        "one width, weights of its own",
        *(KINDS[kind] for kind in others),
        "per layer against per edge",
    ]
    rows = [
        [
            f"{target:g}",
            *(
                f"{over_seeds(kodak[place], 1, '+')} ({over_seeds(held_out[place], 1, '+')})"
                for kodak, held_out in rates
            ),
        ]
        for place, target in enumerate(TARGETS)
    ]
    return [table(heads, rows)]


def draw() -> None:
    """Draw docs/widths.png: BD-rates against one width, and the widths of the whole space's answers."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_rates(left)
        figure.colorbar(draw_answers(right), label="place among the candidates", shrink=0.8)
        write_figure(figure, [ROOT / "docs" / "widths.png"])


def draw_rates(axes: Axes) -> None:
    """Draw the BD-rate against one width at every target: a line for each kind, a band for its seeds."""
    for kind, colour, marker in zip(KINDS, COLOURS, MARKERS, strict=False):
        rates = compared(kind, "one-width", "Kodak")
        axes.plot(TARGETS, list(map(mean, rates)), color=colour, marker=marker, label=KINDS[kind])
        axes.fill_between(
            TARGETS, list(map(min, rates)), list(map(max, rates)), color=colour, alpha=0.15, lw=0
        )
    axes.set(xscale="log", xlabel="total kMAC/px at most", ylabel="BD-rate against one width, % (Kodak)")
    axes.set_xticks(TARGETS, [f"{target:g}" for target in TARGETS])
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.7)
    axes.legend(frameon=False)


def draw_answers(axes: Axes) -> ScalarMappable:
    """Draw the whole space's answer to every target for the first seed: all slots, wide candidates darker."""
    whole = space_of(WHOLE)
    slots = [(place, slot) for place, slot in enumerate(whole.slots) if len(slot.candidates) > 1]
    first = next(iter(read_result(RESULT)["seeds"].values()))
    answers = [whole.indexes(whole.parse(key)) for key in first["answers"][WHOLE]]
    shares = [[own[place] / (len(slot.candidates) - 1) for own in answers] for place, slot in slots]
    picture = axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for row, (place, slot) in enumerate(slots):
        for column, own in enumerate(answers):
            colour = "white" if shares[row][column] > DARK else INK
            text = str(slot.candidates[own[place]])
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    axes.set_yticks(range(len(slots)), [slot.name for _, slot in slots], fontsize=7.5)
    axes.set_xticks(range(len(TARGETS)), [f"{target:g}" for target in TARGETS])
    axes.set(xlabel="total kMAC/px at most", title="answers with a width per layer and a depth per stage")
    return picture


if __name__ == "__main__":
    main()
