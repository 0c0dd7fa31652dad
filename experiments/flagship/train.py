"""Train the flagship for another phase: it begins with the weights kept last, and its rate falls to the end.

    python -m experiments.flagship.train --data DIR --run RUN --steps 10000

Interrupted (Ctrl-C, SIGTERM), it keeps its state and goes on from there when the same command is run again.
`experiments.flagship.report` says how far it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from nas.photos.images import list_images
from nas.support.files import digest
from nas.training.loop import Progress
from nas.training.settings import read_recipe
from nas.training.start import TrainingRequest, resume_training, start_training

SPACE, RECIPE = "patch-small", "patch-muon"
# What differs from the recipe: all rates, and the front that the phase before ended with. A quarter of the
# steps is still level, so that what no front has is not forgotten.
PHASE = {"lmbda": "0.0018..0.18", "strategy": "front", "preview_every": 0}
TOLD_EVERY = 20  # steps
_TILE = re.compile(r"_[0-9]$")  # of a picture that was cut up: NAME_0, NAME_1, ...


def split_by_picture(data: Path) -> dict[str, list[Path]]:
    """The photos of a folder as train, calibration and held-out (90/5/5), tiles of one picture together."""
    pictures: dict[str, list[Path]] = {}
    for path in list_images(data):
        pictures.setdefault(_TILE.sub("", path.stem), []).append(path)
    ranked = sorted(pictures, key=digest)
    few = max(1, len(ranked) // 20)
    parts = {"calibration": ranked[:few], "held-out": ranked[few : 2 * few], "train": ranked[2 * few :]}
    return {part: sorted(path for name in names for path in pictures[name]) for part, names in parts.items()}


def tell(progress: Progress) -> None:
    """A line now and then: this runs for days, and its output goes to a file."""
    if progress.step % TOLD_EVERY == 0:
        photos = progress.photos_per_second
        print(f"step {progress.step}: loss {progress.loss:.4f}, {photos:.2f} crops/s", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--steps", type=int, default=10_000, help="of this phase")
    parser.add_argument("--init-from", default="zoo:patch", help="a searched run to go on from")
    chosen = parser.parse_args(arguments)
    if (chosen.run / "checkpoint" / "last.safetensors").is_file():
        resume_training(chosen.run, report=tell)
        return
    request = TrainingRequest(
        SPACE,
        str(chosen.data),
        chosen.run,
        settings={**read_recipe(RECIPE), **PHASE, "steps": chosen.steps},
        init_from=chosen.init_from,
        force=chosen.run.exists(),  # it stopped before its first checkpoint
        split=split_by_picture(chosen.data),
    )
    start_training(request, tell)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
