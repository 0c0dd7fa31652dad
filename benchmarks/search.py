"""How good a search is after a number of scores. Optuna's samplers get ten times as many.

    python benchmarks/search.py                        # the analytic problem, whose front is known exactly
    python benchmarks/search.py --problem FILE.py      # a module with W, evaluate(indexes), exact_front()
    python benchmarks/search.py --problem codec        # joint-ar-tiny with the starter's weights, real photos

The measure is the hypervolume in % of that of the exact front. For the codec, it is in % of that of the best
scores of all searches together. Its reference point is the cost of the widest and the loss of the narrowest
architecture. The table has the mean over the seeds, the least and the most.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna
import problem as analytic
import torch
from common import heading, say, table
from optuna.distributions import BaseDistribution, IntDistribution
from starter import Starter

from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.quantity import macs
from nas.metrics.pareto import hypervolume
from nas.profiling.quantities import Question
from nas.searching.sampler.acquisition import HypervolumeImprovement
from nas.searching.sampler.moves import Rows
from nas.searching.sampler.pareto import ParetoSampler, quiet_optuna
from nas.searching.sampler.proposer import Proposer
from nas.searching.sampler.rows import proposer
from nas.support.arrays import Floats

Point = tuple[float, float]
Sampler = optuna.samplers.BaseSampler
TIMES = 10  # how many times as many scores the other samplers get


@dataclass
class Problem:
    """A search problem: rows of indexes, their costs and losses, and the exact front if it is known."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    costs: Callable[[Rows], Floats]
    losses: Callable[[Rows], Floats]
    ours: Callable[[int], Proposer]
    front: tuple[Floats, Floats] | None = None
    seen: dict[tuple[int, ...], tuple[float, float]] = field(default_factory=dict)

    def score(self, row: Sequence[int]) -> tuple[float, float]:
        """Return the cost and the loss of a row. Each row is computed once."""
        key = tuple(map(int, row))
        if key not in self.seen:
            one = np.array([key], dtype=np.int64)
            self.seen[key] = float(self.costs(one)[0]), float(self.losses(one)[0])
        return self.seen[key]

    def reference(self) -> tuple[float, float]:
        """The reference point: the cost of the widest and the loss of the narrowest architecture."""
        ends = self.score([n - 1 for n in self.shape]), self.score([0] * len(self.shape))
        return ends[0][0], ends[1][1]

    def whole(self) -> float:
        """The hypervolume of the exact front, or otherwise of everything that was scored so far."""
        points = self.front or tuple(np.array(list(self.seen.values())).T)
        return hypervolume(points[0].tolist(), points[1].tolist(), self.reference())


def from_file(path: str | None) -> Problem:
    """Load the analytic problem, or one of the same form from a file."""
    costs, losses, front = analytic.costs, analytic.losses, analytic.front
    names: tuple[str, ...] = analytic.NAMES
    shape, widths = analytic.SHAPE, analytic.WIDTHS
    if path is not None:
        spec = importlib.util.spec_from_file_location("given", path)
        assert spec is not None
        assert spec.loader is not None
        given = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(given)
        widths, front = np.asarray(given.W, dtype=float), given.exact_front
        names = tuple(f"slot_{k}" for k in range(len(shape)))

        def costs(rows: Rows) -> Floats:
            return np.array([given.evaluate(row)[0] for row in rows.tolist()])

        def losses(rows: Rows) -> Floats:
            return np.array([given.evaluate(row)[1] for row in rows.tolist()])

    places = np.log(widths / widths[0]) / np.log(widths[-1] / widths[0])
    apart = np.abs(places[:, None] - places)
    uniform = [[k] * len(shape) for k in range(len(widths))]
    most = float(costs(np.array([[n - 1 for n in shape]]))[0])

    def ours(seed: int) -> Proposer:
        slots = dict.fromkeys(names, apart)
        return Proposer(slots, costs, HypervolumeImprovement(most), first=uniform, seed=seed)

    return Problem(names, shape, costs, losses, ours, front())


def from_codec(photos: int) -> Problem:
    """Make the problem of the space joint-ar-tiny, with the package's weights, on crops of photos."""
    starter = Starter.on(photos)
    space, evaluator = starter.space, starter.evaluator
    total, within = macs(measured_costs(space), "total"), FeasibleSet(space)
    question = Question(total, within, (), within.span(total))
    names = (*(slot.name for slot in space.slots), "layout")

    def costs(rows: Rows) -> Floats:
        return total.of_rows(rows) / total.per_unit

    def losses(rows: Rows) -> Floats:
        return np.array([evaluator.score(space.at(row)).rd_loss for row in rows.tolist()])

    def ours(seed: int) -> Proposer:
        return proposer(space, question, starter.rates, first=space.starts(), seed=seed)

    return Problem(names, space.shape, costs, losses, ours)


def samplers(
    found: Problem, scores: int
) -> Mapping[str, tuple[int, Callable[[int], optuna.samplers.BaseSampler]]]:
    """For each sampler by name: its number of scores, and a function that makes it for a seed."""
    others = {
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "TPE, multivariate": lambda seed: optuna.samplers.TPESampler(multivariate=True, seed=seed),
        "NSGA-II, population 50": lambda seed: optuna.samplers.NSGAIISampler(population_size=50, seed=seed),
        "NSGA-II, population 20": lambda seed: optuna.samplers.NSGAIISampler(population_size=20, seed=seed),
    }
    return {
        "ours": (scores, lambda seed: ParetoSampler(found.ours(seed))),
        **{name: (TIMES * scores, make) for name, make in others.items()},
    }


def one(found: Problem, sampler: Sampler, scores: int) -> tuple[list[Point], float]:
    """Run one search. Returns its points in order, and the seconds that Optuna and the sampler took."""
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    space: dict[str, BaseDistribution] = {
        name: IntDistribution(0, n - 1) for name, n in zip(found.names, found.shape, strict=True)
    }
    points, spent = [], 0.0
    for _ in range(scores):
        began = time.perf_counter()
        trial = study.ask(space)
        row = [trial.params[name] for name in found.names]
        spent += time.perf_counter() - began
        points.append(found.score(row))
        began = time.perf_counter()
        study.tell(trial, points[-1])
        spent += time.perf_counter() - began
    return points, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", help="`codec`, or a Python file; default: the analytic problem")
    parser.add_argument(
        "--scores",
        type=int,
        nargs="+",
        default=[100, 200],
        help="scores of our sampler; the others get ten times as many",
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--photos", type=int, default=3, help="number of photos for --problem codec")
    parser.add_argument("--alone", action="store_true", help="run our sampler only")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    quiet_optuna()
    marks = sorted(options.scores)
    found = from_codec(options.photos) if options.problem == "codec" else from_file(options.problem)
    say(heading())
    runs: dict[str, list[list[Point]]] = {}
    rows = {}
    for name, (scores, make) in samplers(found, marks[-1]).items():
        if options.alone and name != "ours":
            continue
        seconds = []
        for seed in range(options.seeds):
            points, spent = one(found, make(seed), scores)
            runs.setdefault(name, []).append(points)
            seconds.append(spent)
            say(f"{name}, seed {seed}: {len(set(points))} different of {scores}, sampler {spent:.1f} s")
        rows[name] = seconds
    whole, reference = found.whole(), found.reference()

    def share(points: list[Point]) -> float:
        costs, losses = zip(*points, strict=True)
        return 100 * hypervolume(costs, losses, reference) / whole

    cells = [["", "scores", *(f"at {mark}" for mark in marks), "sampler, ms a score"]]
    for name, seconds in rows.items():
        times = 1 if name == "ours" else TIMES
        shares = [[share(points[: times * mark]) for points in runs[name]] for mark in marks]
        told = [f"{np.mean(s):.2f} ({min(s):.2f} to {max(s):.2f})" for s in shares]
        cost = 1000 * np.mean(seconds) / len(runs[name][0])
        cells.append([name, "as given" if times == 1 else f"x {times}", *told, f"{cost:.0f}"])
    say(table(cells))


if __name__ == "__main__":
    main()
