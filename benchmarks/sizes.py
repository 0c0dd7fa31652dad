"""Check that `--size` is kept: no file may be larger than asked, and most should be just below.

    OMP_NUM_THREADS=1 python benchmarks/sizes.py CODEC --data PHOTOS

The wanted sizes of a photo are spaced geometrically between its files of quality 5 and 95.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from common import arguments, heading, say, table

from nas.codec.family import CodecFamily
from nas.codec.folder import load_family
from nas.codec.recode import compress_smallest
from nas.photos.images import Pixels, list_images, read_image

LOW, HIGH = 5, 95  # qualities


def below(family: CodecFamily, pixels: Pixels, count: int) -> list[float]:
    """Compress a photo to `count` sizes. Returns by how many % each file is smaller than asked."""
    layouts = list(family.layouts)[:1]
    least, most = (
        len(compress_smallest(family, pixels, layouts, quality=quality).to_bytes()) for quality in (LOW, HIGH)
    )
    found = []
    for place in range(count):
        asked = least * (most / least) ** (place / max(1, count - 1))
        size = len(compress_smallest(family, pixels, layouts, most_bytes=asked).to_bytes())
        found.append(100 * (1 - size / asked))
    return found


def main() -> None:
    parser = arguments(__doc__ or "", repeats=1)
    parser.add_argument("codec", type=Path, help="folder of a codec over a range of rates")
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--sizes", type=int, default=5, help="number of sizes for every photo")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    family, paths = load_family(given.codec), list_images(given.data)
    say(heading() + f", {len(paths)} photos, {given.sizes} sizes each")
    found = [share for path in paths for share in below(family, read_image(path), given.sizes)]
    rows = [
        ["", "% below what was asked"],
        ["median", f"{statistics.median(found):.3f}"],
        ["most", f"{max(found):.3f}"],
        ["least", f"{min(found):.3f}"],
    ]
    say(table(rows))
    say(f"{sum(share < 0 for share in found)} of {len(found)} files are larger than asked")


if __name__ == "__main__":
    main()
