"""Train the flagship for another phase, from its latest weights. The learning rate falls until the end.

    python -m experiments.flagship.train --data DIR --run RUN --steps 10000

If it is interrupted (Ctrl-C, SIGTERM), it keeps its state. Run the same command again: it continues.
`experiments.flagship.report` shows its progress.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.photos.images import list_images
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.support.files import digest
from nas.training.loop import Progress
from nas.training.settings import read_recipe
from nas.training.start import TrainingRequest, train_or_resume

SPACE, RECIPE = "patch-small", "patch-soap"
# The trained architectures: one strong encoder with decoders of 1 to 9 kMAC/px, so that every step of every
# decoder trains it, and two codecs with cheap encoders.
STRONG = "linear=64+g_a=128-64+g_a_depth=4-1+g_a_inner=256-512+h_a=96-96+"
_MIDDLE = "linear=64+g_a=64-64+g_a_depth=2-0+g_a_inner=128-128+h_a=96-64+"
_LINEAR = "linear=64+g_a=32-64+g_a_depth=0-0+g_a_inner=64-128+h_a=96-32+"
DECODERS = {
    1.0: "h_s=32-32+g_s=64-24+g_s_depth=0-2+g_s_inner=128-64+g_s_renderer=0+entropy_parameters=64-32"
    "+layout=none",
    1.5: "h_s=32-32+g_s=64-24+g_s_depth=1-2+g_s_inner=128-64+g_s_renderer=0+entropy_parameters=96-96"
    "+layout=checkerboard",
    3.0: "h_s=48-64+g_s=96-48+g_s_depth=1-3+g_s_inner=256-128+g_s_renderer=0+entropy_parameters=96-128"
    "+layout=raster-2x2",
    4.8: "h_s=48-64+g_s=96-96+g_s_depth=1-3+g_s_inner=384-128+g_s_renderer=0+entropy_parameters=128-128"
    "+layout=raster-2x2",
    9.3: "h_s=64-64+g_s=256-96+g_s_depth=2-4+g_s_inner=384-192+g_s_renderer=32+entropy_parameters=128-128"
    "+layout=raster-2x2",
}
# The four architectures whose codecs are compared with others are trained twice as often.
MEMBERS = [
    _LINEAR + DECODERS[1.5],
    _MIDDLE + DECODERS[3.0],
    STRONG + DECODERS[1.0],
    *2 * [STRONG + DECODERS[size] for size in (1.5, 3.0, 4.8, 9.3)],
]
# Settings that differ from the recipe.
PHASE = {
    "lmbda": "0.0018..0.18",
    "strategy": "front",
    "members": MEMBERS,
    "elsewhere": 0.05,
    "moved": 0.2,
    "random_layouts": 0.1,
    "preview_every": 0,
}
TOLD_EVERY = 20  # steps between lines of progress
_TILE = re.compile(r"_[0-9]$")  # ending of the tiles of a picture: NAME_0, NAME_1, ...


def split_by_picture(data: Path) -> dict[str, list[Path]]:
    """Split a folder into train, calibration and held-out (90/5/5). Tiles of a picture stay together."""
    pictures: dict[str, list[Path]] = {}
    for path in list_images(data):
        pictures.setdefault(_TILE.sub("", path.stem), []).append(path)
    ranked = sorted(pictures, key=digest)
    few = max(1, len(ranked) // 20)
    parts = {"calibration": ranked[:few], "held-out": ranked[few : 2 * few], "train": ranked[2 * few :]}
    return {part: sorted(path for name in names for path in pictures[name]) for part, names in parts.items()}


def tell(progress: Progress) -> None:
    """Print a line now and then. A training takes days, and its output goes to a file."""
    if progress.step % TOLD_EVERY == 0:
        photos = progress.photos_per_second
        print(f"step {progress.step}: loss {progress.loss:.4f}, {photos:.2f} crops/s", flush=True)


def train(
    space: str | SearchSpace, data: Path, run: Path, settings: dict[str, Any], init_from: str = "zoo:patch"
) -> Run:
    """Train a space on a folder of photos, or continue an interrupted training.

    Args:
        space: the space, or its name.
        data: folder of the photos. Tiles of one picture stay together.
        run: folder of the run.
        settings: training settings.
        init_from: initial weights: a run, or `klt` for the photos' KLT.

    Returns:
        The trained run.
    """
    request = TrainingRequest(
        space, str(data), run, settings=settings, init_from=init_from, split=split_by_picture(data)
    )
    return train_or_resume(request, tell)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=9600, help="steps of this phase")
    parser.add_argument("--init-from", default="zoo:patch", help="searched run with the initial weights")
    chosen = parser.parse_args(arguments)
    settings = {**read_recipe(RECIPE), **PHASE, "steps": chosen.steps}
    train(SPACE, chosen.data, chosen.run, settings, chosen.init_from)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
