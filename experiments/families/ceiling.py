"""What the number of y's channels allows: PSNR of a KLT over 16x16 blocks that keeps as many coefficients.

    python -m experiments.families.ceiling --data PHOTOS --test KODAK

y has one element per channel for every 16x16 pixels. A linear transform with as few coefficients, learned on
training photos and not quantised at all, tells about what picture they carry. Writes results/ceiling.json.
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
    """All whole blocks of a photo, [n, 768], in [0, 1]."""
    rows, columns = (side // SIDE for side in photo.pixels.shape[:2])
    whole = photo.pixels[: rows * SIDE, : columns * SIDE].astype(np.float32) / 255
    return whole.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2).reshape(-1, 3 * SIDE**2)


def ceilings(train: Sequence[Photo], test: Sequence[Photo]) -> dict[str, float]:
    """Mean PSNR in dB of the test photos by the number of coefficients."""
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
    parser.add_argument("--data", type=Path, required=True, help="the folder of training photos")
    parser.add_argument("--test", type=Path, required=True, help="the folder of photos for the final numbers")
    given = parser.parse_args()
    train = load_photos(split_folder(given.data)["train"])
    found = ceilings(train, load_photos(list_images(given.test)))
    say(str(found))
    write_result(RESULTS / "ceiling.json", {"facts": facts(seed=0), "psnr": found})


if __name__ == "__main__":
    main()
