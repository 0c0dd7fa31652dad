"""How close the answers of a search come to their targets. They are never above, so this is how far below.

    python benchmarks/targets.py            # joint-ar-tiny with the weights of the package

It first searches as `nas search` does, and then asks for 64 random targets within the reachable total MACs.
The slack is how much less than its target an answer costs, in % of the target. The baseline are uniform
widths: the most expensive of them at or under each target, in any layout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import heading, say, table
from starter import Starter

from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.quantity import macs
from nas.profiling.quantities import Question
from nas.searching.answers import Answers
from nas.searching.sampler.rows import history, proposer
from nas.searching.scoring.scores import Scores
from nas.support.progress import silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=64, help="number of random targets")
    parser.add_argument("--scores", type=int, default=100, help="scores of the search")
    parser.add_argument("--photos", type=int, default=2, help="number of photos that score architectures")
    parser.add_argument("--seed", type=int, default=0, help="seed for all random choices")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    say(heading())
    starter = Starter.on(options.photos)
    space, costs = starter.space, measured_costs(starter.space)
    quantity, within = macs(costs, "total"), FeasibleSet(space)
    question = Question(quantity, within, (), within.span(quantity))
    least, _, most = question.span
    with tempfile.TemporaryDirectory() as folder:
        scores = Scores(Path(folder) / "scores.csv", starter.evaluator, "starter")
        first, also = space.starts(), space.baselines()
        found = proposer(space, question, starter.rates, first=first, also=also, seed=options.seed)
        for _ in range(options.scores):
            scores.of(space.at(found.propose(*history(space, scores.items()))))
        answers, began, before = Answers(costs, scores, starter.rates), time.monotonic(), scores.computed
        targets = np.random.default_rng(options.seed).integers(least, most, options.targets, endpoint=True)
        choices = [answers.choose(question, int(target), silent) for target in targets]
        more, seconds = scores.computed - before, time.monotonic() - began
    spent = np.array([quantity.of((choice.nearest or choice).architecture) for choice in choices])
    one = [quantity.of(space.uniform(k / 4, name)) for k in range(5) for name in space.layout_names]
    cheapest = np.array([max((cost for cost in one if cost <= target), default=0) for target in targets])
    cells = [["", "over", "slack, mean %", "worst %"]]
    for name, cost in (("answers", spent), ("one shared width", cheapest)):
        slack = 100 * (1 - cost / targets)
        cells.append([name, str((cost > targets).sum()), f"{slack.mean():.3f}", f"{slack.max():.3f}"])
    say(table(cells))
    better = sum(choice.nearest is not None for choice in choices)
    say(
        f"{len(choices)} targets, {more} scores more in {seconds:.0f} s; at {better} of them an architecture "
        "further below is better still, and is told beside."
    )


if __name__ == "__main__":
    main()
