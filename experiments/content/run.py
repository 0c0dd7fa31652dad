"""How well a front that was found on photos fits other kinds of pictures, and what a search on those gains.

    python -m experiments.content.run --runs SEARCHES

SEARCHES holds the searched run of `experiments.structure.search` at its first lambda. The pictures are those
of microscopy, astronomy, medicine, textures and print in scikit-image. Half of them calibrate a second
search, as `nas search --data` does. The answers of both searches are compared on the other half. It writes
results/content.json and its section of experiments/journal.md.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from skimage import data

import nas
from experiments.results import JOURNAL, facts, options, progress, read_result, renew, table, write_result
from experiments.structure.common import KINDS, LMBDAS, SPACE
from experiments.structure.common import RESULTS as STRUCTURE
from experiments.structure.search import answers_to_targets
from experiments.structure.show import stages
from nas.analysis.kendall import agreement
from nas.analysis.rank_spread import spread
from nas.api import LoadedRun
from nas.metrics.objective import Objective
from nas.photos.split import load_photos
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.architecture import Architecture
from nas.verbs.search import run_on_photos

RESULT = Path(__file__).parent / "results" / "content.json"
CALIBRATION = ("cell.png", "hubble_deep_field.jpg", "page.png", "brick.png", "gravel.png", "coins.png")
UNSEEN = ("ihc.png", "moon.png", "retina.jpg", "text.png", "grass.png", "clock_motion.png")
RANKED = 40  # architectures over the whole range, whose ranks are compared between photos and pictures


def pictures(names: tuple[str, ...]) -> list[Path]:
    """Return the files of pictures in scikit-image."""
    return [Path(data.__file__).parent / name for name in names]


def own_run(known: Run, out: Path) -> Run:
    """Make a run with the same weights and the pictures for calibration, as `nas search --data` does."""
    if (out / "config.yaml").is_file():
        return Run.open(out)
    folder = out.with_name(f"{out.name}-pictures")
    folder.mkdir(parents=True, exist_ok=True)
    for path in pictures(CALIBRATION):
        shutil.copyfile(path, folder / path.name)
    return run_on_photos(known, folder, out)


def losses(evaluator: Evaluator, architectures: list[Architecture]) -> list[float]:
    """Compute the losses of architectures on the evaluator's pictures."""
    return [score.rd_loss for score in evaluator.score_all(architectures)]


def compared(loaded: LoadedRun, known: LoadedRun, trials: int, seed: int) -> dict[str, Any]:
    """Compare answers that were found on photos with those found on pictures, on unseen pictures."""
    space, photos = known.searcher.space, known.searcher.evaluator
    unseen = Evaluator(photos.supernet, load_photos(pictures(UNSEEN)), Objective(photos.lmbda))
    found = answers_to_targets(loaded, KINDS[SPACE], trials, seed, progress("content"))
    by_photos = read_result(STRUCTURE / f"search-{LMBDAS[0]}.json")["kinds"][SPACE]["answers"]
    rows = []
    for (target, own), answer in zip(found, by_photos, strict=True):
        both = {"photos": space.parse(answer["arch"]), "pictures": own}
        lost = losses(unseen, list(both.values()))
        rows.append(
            {
                "target": target,
                **{
                    name: {
                        "arch": architecture.key,
                        "kmac_px": known.searcher.costs.kmac_px(architecture, "total"),
                        "stages": space.layout(architecture).stages(),
                        "rd_loss": loss,
                    }
                    for (name, architecture), loss in zip(both.items(), lost, strict=True)
                },
            }
        )
    ranked = spread(known.searcher.costs, RANKED, seed)
    tau = agreement(losses(photos, ranked), losses(unseen, ranked))
    return {"answers": rows, "ranked": len(ranked), "tau": tau.tau, "interval": tau.interval}


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the searched runs")
    parser.add_argument("--trials", type=int, default=160, help="scores of the search on the pictures")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run = Run.open(given.runs / f"{SPACE}-{LMBDAS[0]}")
    own = own_run(run, given.runs / f"content-{LMBDAS[0]}")
    loaded, known = (nas.load_run(one.path, device="cpu") for one in (own, run))
    found = compared(loaded, known, given.trials, given.seed)
    about = facts(given.seed, lmbda=LMBDAS[0], calibration=CALIBRATION, unseen=UNSEEN, trials=given.trials)
    write_result(RESULT, {"facts": about, **found})
    renew(JOURNAL, "content", tables())


# Tables for the page


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)
    rows = []
    for answer in found["answers"]:
        one, own = answer["photos"], answer["pictures"]
        less = 100 * (1 - own["rd_loss"] / one["rd_loss"])
        cells = [f"{side['kmac_px']:.2f}, {stages(side)}: {side['rd_loss']:.3f}" for side in (one, own)]
        rows.append([f"{answer['target']:.4g}", *cells, f"{less:+.2f}"])
    low, high = found["interval"]
    return [
        table(
            ["target", "found on photos", "found on pictures of the same kind", "reduction of loss, %"], rows
        ),
        f"The losses of {found['ranked']} architectures from end to end of the range were ranked on photos "
        f"and on the unseen pictures. Kendall's tau between the two is {found['tau']:.2f} ({low:.2f} to "
        f"{high:.2f}, 95 %).",
    ]


if __name__ == "__main__":
    main()
