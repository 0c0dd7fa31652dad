"""Draws docs/flagship-crops.png: crops of three photos in a codec and three formats, at equal bytes.

    python -m experiments.flagship.crops CODEC

The photos come with Python packages. Each format has the quality whose file size is nearest to that of the
codec's file.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import nas
from experiments.results import ROOT, say
from nas.codec.bitstream import compress_image, decompress_image
from nas.comparison.formats import encode, nearest_size
from nas.photos.images import Photo, Pixels, bundled, psnr

FIGURE = ROOT / "docs" / "flagship-crops.png"
FORMATS = ("jpeg", "webp", "avif")
CROPS = {"astronaut.png": (20, 150), "chelsea.png": (60, 130), "motorcycle_left.png": (180, 250)}  # top, left
SIDE = 160  # side of a crop in pixels
QUALITY = 25.0


def coded(format: str, photo: Photo, size: int) -> tuple[int, Pixels]:
    """Code a photo in a format, in the file nearest to a size. Returns its bytes and its picture."""
    data = encode(format, photo, nearest_size(format, photo, size).quality)
    return len(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("codec", type=Path, help="folder of the codec")
    parser.add_argument(
        "--quality", type=float, default=QUALITY, help="quality of the codec's files, 0 to 100"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    codec = nas.load_codec(given.codec)
    photos = {photo.name: photo for part in bundled().values() for photo in part}
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    axes = figure.subplots(len(CROPS), 2 + len(FORMATS))
    for row, (name, (top, left)) in zip(axes, CROPS.items(), strict=True):
        photo = photos[name]
        nic = compress_image(codec, photo.pixels, quality=given.quality)
        size = len(nic.to_bytes())
        shown = {
            "original": (photo.pixels.size, photo.pixels),
            "this codec": (size, decompress_image(codec, nic)),
        }
        shown |= {format: coded(format, photo, size) for format in FORMATS}
        for place, (title, (length, pixels)) in zip(row, shown.items(), strict=True):
            place.imshow(pixels[top : top + SIDE, left : left + SIDE], interpolation="nearest")
            place.set_axis_off()
            same = title == "original"
            told = title if same else f"{title}, {length:,} bytes, {psnr(photo.pixels, pixels):.1f} dB"
            place.set_title(told, fontsize=8)
    figure.savefig(FIGURE, dpi=110, metadata={"Software": None})
    say(str(FIGURE.relative_to(ROOT)))


if __name__ == "__main__":
    main()
