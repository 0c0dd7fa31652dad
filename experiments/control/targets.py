"""How close the answers of searches come to 64 targets, in four kinds of space.

    python -m experiments.control.targets --runs SEARCHES

SEARCHES holds the searched runs of `experiments.structure.search`: with one width, one per edge and one per
layer. The fourth kind has a width per layer and depths. It has random weights and bundled photos, because
costs do not depend on weights. Targets are random and uniform over the costs that each kind can reach. It
writes results/targets.json and its section of experiments/journal.md.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import nas
from experiments.results import JOURNAL, facts, options, read_result, renew, say, table, write_result
from experiments.structure.common import KINDS, LMBDAS
from nas.api import LoadedRun
from nas.graph.network import Supernet
from nas.photos.images import BUNDLED
from nas.photos.split import split_of, write_split
from nas.run import Run
from nas.spaces.budget import Budget
from nas.spaces.space import SearchSpace
from nas.support.files import write_yaml
from nas.support.progress import silent
from nas.training.settings import TrainingSettings

HERE = Path(__file__).parent
TRAINED = ("shared", "per-edge", "space")
DEPTH = "a width per layer, and depth"
RESULT = HERE / "results" / "targets.json"
MANY = 100_000  # larger numbers of architectures are rounded
FIRST = 40  # scores of the search with depth, before its targets


def with_depth(folder: Path, seed: int) -> LoadedRun:
    """Make a run of random weights over the space with depth, with a short search."""
    space = SearchSpace.load(HERE / "depth.yaml")
    run = Run.create(folder, space, TrainingSettings(seed=seed).model_dump())
    write_yaml(run.config_path, {**run.config, "data": BUNDLED})
    write_split(run.split_path, split_of(BUNDLED))
    torch.manual_seed(seed)
    save_file({k: v.contiguous() for k, v in Supernet(space).state_dict().items()}, run.weights_path)
    loaded = nas.load_run(folder, device="cpu")
    loaded.search(trials=FIRST, seed=seed)
    return loaded


def control(loaded: LoadedRun, count: int, seed: int) -> dict[str, Any]:
    """Ask for answers to targets over the whole range of total MACs.

    Returns:
        The slack, which is how much less than its target an answer costs, in % of the target. It is given for
        the nearest scored architecture, and for the one that export takes. That one may be cheaper and
        better.
    """
    searcher = loaded.searcher
    question = searcher.question(Budget("whole range"))
    least, _, most = question.span
    before, began = len(searcher.table()), time.perf_counter()
    targets = np.random.default_rng(seed).integers(least, most, count, endpoint=True)
    choices = [searcher.choose(question, int(target), report=silent) for target in targets]
    seconds, more = time.perf_counter() - began, len(searcher.table()) - before

    def slack(costs: list[int]) -> dict[str, Any]:
        left = 100 * (1 - np.array(costs) / targets)
        return {"mean": left.mean(), "worst": left.max(), "over": int((left < 0).sum())}

    of = question.quantity.of
    return {
        "architectures": searcher.space.size,
        "reach_kmac_px": [end / question.quantity.per_unit for end in (least, most)],
        "nearest": slack([of((choice.nearest or choice).architecture) for choice in choices]),
        "exported": slack([of(choice.architecture) for choice in choices]),
        "scored_more": more,
        "seconds": round(seconds),
    }


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the searched runs")
    parser.add_argument("--targets", type=int, default=64, help="number of random targets")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = {}
    for kind in TRAINED:
        loaded = nas.load_run(given.runs / f"{kind}-{LMBDAS[0]}", device="cpu")
        found[KINDS[kind].title] = control(loaded, given.targets, given.seed)
        say(f"{kind}  {found[KINDS[kind].title]}")
    with tempfile.TemporaryDirectory() as folder:
        found[DEPTH] = control(with_depth(Path(folder) / "depth", given.seed), given.targets, given.seed)
        say(f"{DEPTH}  {found[DEPTH]}")
    about = facts(given.seed, targets=given.targets)
    write_result(RESULT, {"facts": about, "kinds": found})
    renew(JOURNAL, "control", tables())


# Tables for the page


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    rows = []
    for title, own in read_result(RESULT)["kinds"].items():
        nearest, exported = own["nearest"], own["exported"]
        rows.append(
            [
                title,
                f"{own['architectures']:.2g}" if own["architectures"] > MANY else str(own["architectures"]),
                "{:.2f} to {:.2f}".format(*own["reach_kmac_px"]),
                str(nearest["over"] + exported["over"]),
                f"{nearest['mean']:.2f}, {nearest['worst']:.2f}",
                f"{exported['mean']:.2f}, {exported['worst']:.2f}",
                f"{own['scored_more']}, {own['seconds']}",
            ]
        )
    slack = "slack of {}, % (mean, worst)"
    columns = ["kind", "architectures", "kMAC/px", "over the target", slack.format("the nearest below")]
    return [table([*columns, slack.format("the exported one"), "scores and seconds in all"], rows)]


if __name__ == "__main__":
    main()
