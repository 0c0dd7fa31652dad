"""Functions that the layout experiments share: supernet, latents of photos, layouts by name, results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nas.graph.entropy import coded_range
from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.photos.images import Photo, list_images
from nas.photos.split import load_photos, split_folder
from nas.searching.layouts.rate import CalibrationLatents
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.layout import Layout, named_layout
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import Checkpoint, load_weights

HERE = Path(__file__).parent
SPACE = HERE / "space.yaml"
RESULTS = HERE / "results"
WEIGHTS = HERE.parent / "weights" / "layouts.safetensors"
LMBDA = 0.013

# The orders of a 2x2 tile that differ from raster-2x2 (row by row, a Z) and from each other, up to shifts.
ORDERS_2X2 = {
    "columns-2x2": ((0, 2), (1, 3)),
    "around-2x2": ((0, 1), (3, 2)),
    "around-back-2x2": ((0, 3), (1, 2)),
    "diagonal-2x2": ((0, 2), (3, 1)),
    "diagonal-back-2x2": ((0, 3), (2, 1)),
}


def options(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options of all layout experiments."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the photos that trained the supernet"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="file of the supernet's weights")
    parser.add_argument("--seed", type=int, default=0, help="seed for all random choices")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    return parser


def load_supernet(weights: Path) -> Supernet:
    """Load the trained supernet, which has only one choice of widths."""
    net = Supernet(SearchSpace.load(SPACE))
    load_weights(net, Checkpoint.read(weights).tensors, source=str(weights))
    net.activate(net.space.widest())
    return net.eval().requires_grad_(False)


def part_of(folder: Path, part: str | None = None) -> list[Photo]:
    """Load the photos of a folder, or of one part of its split."""
    return load_photos(list_images(folder) if part is None else split_folder(folder)[part])


def latents_of(net: Supernet, photos: Sequence[Photo]) -> list[CalibrationLatents]:
    """Compute the latents of every photo, one batch each."""
    evaluator = Evaluator(net, photos, Objective(LMBDA), cache_bytes=0)
    found = []
    for index in range(len(photos)):
        psi, y_hat = evaluator.latents(index, net.space.widest())
        found.append(CalibrationLatents(psi, y_hat, coded_range(y_hat)))
    return found


def reductions(photos: Sequence[Photo], versions: int, seed: int) -> list[Photo]:
    """Add randomly reduced versions of every photo, down to half its size. Half of them are mirrored."""
    rng = np.random.default_rng(seed)
    found = list(photos)
    for photo in photos:
        image = Image.fromarray(photo.pixels)
        for version in range(versions - 1):
            factor = rng.uniform(1, 2)
            small = image.resize(
                [max(256, round(side / factor)) for side in image.size], Image.Resampling.BOX
            )
            pixels = np.asarray(small)
            found.append(Photo(f"{photo.name}-{version}", pixels[:, ::-1].copy() if version % 2 else pixels))
    return found


def layout_named(name: str, channels: int) -> Layout:
    """Return a layout by its name in these experiments or in the toolkit."""
    if name in ORDERS_2X2:
        return Layout((channels,), (0, 0), (ORDERS_2X2[name],), name)
    return named_layout(name, channels)
