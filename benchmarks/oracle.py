"""How far the answers of a search are from the optimum, in a space small enough to score completely.

    python benchmarks/oracle.py RUN --tables folder          # RUN of joint-ar, joint-ar-per-edge inside it
    python benchmarks/oracle.py RUN --space benchmarks/per-edge-tiny.yaml --unseen 23  # RUN of joint-ar-tiny
    python benchmarks/oracle.py zoo:patch --space benchmarks/per-edge-patch.yaml --photos 8 --unseen 8

The run's space must have every width of the space (its layouts may differ), so that a coarse space can be
scored in the supernet of a fine one. Regret is how much the loss of an answer exceeds the least possible
loss, in %. It is measured at eight budgets, spread evenly over the range of total MACs: on the photos that
the search saw, and on held-out photos. There, the best architecture of the calibration photos has a regret of
its own.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import heading, say, table

from experiments.spaces import same_network
from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.quantity import Quantity, macs
from nas.graph.network import Supernet
from nas.photos.split import photos_of
from nas.profiling.quantities import Question
from nas.run import Run
from nas.searching.layouts.rate import LayoutRate
from nas.searching.sampler.moves import Rows
from nas.searching.sampler.rows import as_rows, proposer
from nas.searching.scoring.evaluator import Evaluator
from nas.shipped import in_zoo, zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.support.arrays import Floats
from nas.training.settings import settings_of
from nas.weights.checkpoint import Checkpoint, load_weights

BUDGETS = 8


class Inside:
    """A space whose architectures are scored in the supernet of a larger one.

    Args:
        run: a trained run.
        space: a space whose widths the run's space has, too.
        photos: the largest number of photos for each part of the split.
    """

    def __init__(self, run: Run, space: SearchSpace, photos: Mapping[str, int]) -> None:
        self.space = space
        self.whole = run.trained_space.with_layouts(space.layouts)
        supernet = Supernet(self.whole)
        load_weights(supernet, Checkpoint.read(run.weights_path).tensors, source=str(run.weights_path))
        objective = settings_of(run).objective
        self.evaluators = {
            part: Evaluator(supernet, photos_of(run, part)[:number], objective)
            for part, number in photos.items()
        }

    def larger(self, architecture: Architecture) -> Architecture:
        """Find the same network in the run's space."""
        return same_network(self.space, architecture, self.whole)

    def losses(self, part: str, architectures: Sequence[Architecture], table: Path | None) -> Floats:
        """Score architectures on one part of the run's photos: [n]. An existing table is read instead."""
        if table is not None and table.is_file():
            with open(table, newline="", encoding="utf-8") as file:
                rows = {row["arch"]: float(row["rd_loss"]) for row in csv.DictReader(file)}
            return np.array([rows[architecture.key] for architecture in architectures])
        evaluator, began = self.evaluators[part], time.monotonic()
        larger = [self.larger(architecture) for architecture in architectures]
        losses = np.array([score.rd_loss for score in evaluator.score_all(larger)])
        seconds = time.monotonic() - began
        say(f"{part}: {len(losses)} architectures on {len(evaluator.photos)} photos in {seconds:.0f} s")
        if table is not None:
            with open(table, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(("arch", "rd_loss"))
                writer.writerows(zip((a.key for a in architectures), losses.tolist(), strict=True))
        return losses

    def rates(self) -> dict[str, float]:
        """Measure the rates of y under the layouts, as a search does."""
        widest = self.larger(self.space.widest())
        rate = LayoutRate.of(self.evaluators["calibration"], widest, side=16)
        return {name: rate(layout) for name, layout in self.space.layouts.items()}


def everything(space: SearchSpace) -> list[Architecture]:
    regimes = (itertools.product(*regime) for regime in space.regimes)
    return [space.at(indexes) for indexes in itertools.chain(*regimes)]


def best(costs: Floats, losses: Floats, targets: Sequence[int]) -> list[int]:
    """Find the index of the least loss at or under each target."""
    return [int(np.flatnonzero(costs <= t)[losses[costs <= t].argmin()]) for t in targets]


def searched(
    space: SearchSpace,
    question: Question,
    rates: Mapping[str, float],
    of: Mapping[tuple[int, ...], float],
    scores: int,
    seed: int,
) -> Rows:
    """Return the rows that a search scores. It begins as `nas search` does, without logits."""
    found = proposer(space, question, rates, first=space.starts(), also=space.baselines(), seed=seed)
    rows: list[tuple[int, ...]] = []
    losses: list[float] = []
    for _ in range(scores):
        rows.append(found.propose(found.rows(rows), np.array(losses)))
        losses.append(of[rows[-1]])
    return found.rows(rows)


def eight(quantity: Quantity, span: tuple[int, int, int]) -> tuple[int, ...]:
    least, _, most = span
    return tuple(int(least + k * (most - least) / BUDGETS) for k in range(1, BUDGETS + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a trained run, or zoo:NAME")
    parser.add_argument("--space", default="joint-ar-per-edge", help="search space")
    parser.add_argument("--photos", type=int, default=24, help="largest number of calibration photos")
    parser.add_argument("--unseen", type=int, default=8, help="largest number of held-out photos")
    parser.add_argument("--tables", type=Path, help="folder that keeps the losses of all architectures")
    parser.add_argument(
        "--scores", type=int, nargs="+", default=[50, 100], help="numbers of scores to compare"
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    say(heading())
    space = SearchSpace.load(options.space)
    photos = {"calibration": options.photos, "held-out": options.unseen}
    run = zoo_run(options.run) if in_zoo(options.run) else Run.open(Path(options.run))
    inside, architectures = Inside(run, space, photos), everything(space)
    losses, unseen = (
        inside.losses(part, architectures, options.tables and options.tables / f"{part}.csv")
        for part in photos
    )
    quantity, within = macs(measured_costs(space), "total"), FeasibleSet(space)
    rows = as_rows(space, architectures)
    costs = quantity.of_rows(rows).astype(float)
    question = Question(quantity, within, (), within.span(quantity))
    question = replace(question, targets=eight(quantity, question.span))
    oracle = best(costs, losses, question.targets)
    of = dict(zip(map(tuple, rows.tolist()), losses.tolist(), strict=True))
    rates = inside.rates()
    place = {row: k for k, row in enumerate(of)}
    answers: dict[int, list[list[int]]] = {scores: [] for scores in options.scores}
    for seed in range(options.seeds):
        seen = searched(space, question, rates, of, max(options.scores), seed)
        for scores, found in answers.items():
            among = np.array([place[tuple(row)] for row in seen[:scores].tolist()])
            found.append([int(among[k]) for k in best(costs[among], losses[among], question.targets)])
    cells = [["regret, %", "scores", *(quantity.format(target) for target in question.targets), "worst"]]

    def line(name: str, scores: int, found: list[list[int]], of: Floats) -> None:
        least = of[best(costs, of, question.targets)]
        regrets = 100 * (of[np.array(found)] / least - 1)
        cells.append([name, str(scores), *(f"{v:.3f}" for v in regrets.mean(0)), f"{regrets.max():.3f}"])

    for scores, found in answers.items():
        line("search, calibration photos", scores, found, losses)
        line("search, unseen photos", scores, found, unseen)
    line("oracle of calibration, unseen photos", len(losses), [oracle], unseen)
    say(table(cells))
    say(f"means over {options.seeds} seeds; worst of all seeds and budgets. The oracle's answers:")
    for target, k in zip(question.targets, oracle, strict=True):
        say(f"{quantity.format(target):>16}  {losses[k]:.5f}  {architectures[k].key}")


if __name__ == "__main__":
    main()
