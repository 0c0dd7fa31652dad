"""How the number of channels of y limits PSNR, measured by a KLT with the same number of coefficients.

    python -m experiments.families.ceiling --data PHOTOS --test KODAK

y has one element per channel for every 16x16 pixels. A linear transform of 16x16 blocks that keeps the same
number of coefficients, learned on training photos and without quantisation, shows roughly how good pictures
can get. It writes results/ceiling.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.families.common import RESULTS
from experiments.results import facts, say, write_result
from nas.photos.images import Photo, list_images
from nas.photos.split import load_photos, split_folder

SIDE = 16
CHANNELS = (32, 48, 64, 96, 128, 192, 320)


def blocks(photo: Photo) -> NDArray[np.float32]:
    """Cut a photo into whole blocks, [n, 768], with values in [0, 1]."""
    rows, columns = (side // SIDE for side in photo.pixels.shape[:2])
    whole = photo.pixels[: rows * SIDE, : columns * SIDE].astype(np.float32) / 255
    return whole.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2).reshape(-1, 3 * SIDE**2)


def ceilings(train: Sequence[Photo], test: Sequence[Photo]) -> dict[str, float]:
    """Compute the mean PSNR in dB of the test photos by the number of coefficients."""
    seen = np.concatenate([blocks(photo) for photo in train])
    mean = seen.mean(0)
    _, vectors = np.linalg.eigh(np.cov(seen - mean, rowvar=False))
    found = {}
    for count in CHANNELS:
        kept = vectors[:, -count:]
        errors = [np.square(b - b @ kept @ kept.T).mean() for b in (blocks(photo) - mean for photo in test)]
        found[str(count)] = float(np.mean(-10 * np.log10(errors)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    given = parser.parse_args()
    train = load_photos(split_folder(given.data)["train"])
    found = ceilings(train, load_photos(list_images(given.test)))
    say(str(found))
    write_result(RESULTS / "ceiling.json", {"facts": facts(seed=0), "psnr": found})


if __name__ == "__main__":
    main()
