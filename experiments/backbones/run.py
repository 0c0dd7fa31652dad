"""How much the backbone of a space matters: `patch-small` and `joint-ar-small` in equal CPU time.

    python -m experiments.backbones.run --data PHOTOS --runs RUNS

Each space is trained for all rates from the photos' KLT, with the recipe that suits it, for the same number
of CPU seconds. Each is then searched with the same number of trials. The script compares the losses of the
best codecs under three budgets. It writes results/backbones.json and its section of docs/supernet.md. If it
is interrupted, run the
same command again: it continues with the first space that is missing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

import nas
from experiments.optimizers.run import CPUTime
from experiments.pieces import options
from experiments.results import ROOT, facts, progress, read_result, renew, say, table, write_result
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.training.loop import Progress
from nas.training.settings import read_recipe
from nas.training.start import KLT, TrainingRequest, train_or_resume

RESULT = Path(__file__).parent / "results" / "backbones.json"
SPACES = {"joint-ar-small": "laptop", "patch-small": "patch-soap"}  # spaces with the recipes that suit them
BUDGETS = 2.0, 5.0, 10.0  # budgets in total kMAC/px
TIMED = 125  # steps of the short run that measures the time of a step
SETTINGS: dict[str, Any] = {"lmbda": "0.0018..0.18", "preview_every": 0}


def train(space: str, steps: int, folder: Path, data: Path, seed: int, tell: Any) -> Run:
    """Train a space up to a number of steps. An earlier training continues."""
    settings = {**read_recipe(SPACES[space]), **SETTINGS, "steps": steps, "seed": seed}
    request = TrainingRequest(SearchSpace.load(space), str(data), folder, settings=settings, init_from=KLT)
    return train_or_resume(request, tell)


def trained(space: str, seconds: float, data: Path, runs: Path, seed: int) -> tuple[Run, dict[str, Any]]:
    """Train a space for a number of CPU seconds. Returns its run and facts such as the steps."""
    clock = CPUTime()
    train(space, TIMED, runs / space / "short", data, seed, clock)
    steps = round(seconds / clock.per_step)

    def tell(now: Progress) -> None:
        if now.step % 100 == 0:
            say(f"{space}  {now.step}/{steps}  loss {now.loss:.4f}")

    began = time.process_time()
    run = train(space, steps, runs / space / "whole", data, seed, tell)
    return run, {"steps": steps, "seconds": round(time.process_time() - began, 1)}


def searched(run: Run, trials: int, seed: int) -> dict[str, dict[str, Any]]:
    """Find the best codec of a run under each budget."""
    loaded = nas.load_run(run.path, device="cpu")
    loaded.search(trials=trials, seed=seed, report=progress(run.space.name))
    front, found = loaded.front(), {}
    for budget in BUDGETS:
        under = front[front["total_kmac_px"] <= budget]
        best = under.loc[under["rd_loss"].idxmin()]
        columns = ("arch", "total_kmac_px", "decoder_kmac_px", "bpp", "psnr", "rd_loss")
        found[f"{budget:g}"] = {name: best[name] for name in columns}
    return found


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)["spaces"]
    first, second = SPACES
    columns = ["total kMAC/px, at most", *(f"loss of {space}" for space in SPACES), "difference"]
    rows = []
    for budget in BUDGETS:
        losses = [found[space]["best"][f"{budget:g}"]["rd_loss"] for space in SPACES]
        rows.append(
            [
                f"{budget:g}",
                *(f"{loss:.4f}" for loss in losses),
                f"{100 * (losses[1] / losses[0] - 1):+.1f} %",
            ]
        )
    counted = " and ".join(f"{found[space]['steps']:,} steps of {space}" for space in (first, second))
    return [table(columns, rows), f"These were {counted}."]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=1800, help="CPU seconds for each space")
    parser.add_argument("--trials", type=int, default=150, help="trials of each search")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    spaces = read_result(RESULT)["spaces"] if RESULT.is_file() else {}
    for space in SPACES:
        if space in spaces:
            continue
        run, spent = trained(space, given.seconds, given.data, given.runs, given.seed)
        spaces[space] = {**spent, "best": searched(run, given.trials, given.seed)}
        write_result(
            RESULT, {"facts": facts(given.seed, recipes=SPACES, settings=SETTINGS), "spaces": spaces}
        )
    renew(ROOT / "docs" / "supernet.md", "backbones", tables())


if __name__ == "__main__":
    main()
