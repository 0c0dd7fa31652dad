"""CPU time to decode photos from their files, part by part, compared with JPEG, WebP and AVIF.

    OMP_NUM_THREADS=1 python benchmarks/decode_photos.py CODEC... --data PHOTOS [--size 1920x1080]

With --size, every photo is repeated until it fills a picture of that size. The codecs are loaded before the
timing begins, and every picture ends as 8-bit pixels in memory. Pillow writes the other formats at the
quality whose file size is nearest to the codec's. `Gaussians alone` is the toolkit with its tables for
reading symbols switched off. Every figure is the least of the repeats, because other programs disturb that
one least. A photo's figure is divided by AVIF's figure for the same photo. The output has the median over the
photos, the least and the most. Memory is what the first decode takes beyond what the process held before.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from common import MIB, arguments, extra_memory, heading, say, some_images, table
from onnx_folder import load
from PIL import Image

from nas.codec import bitstream, coder
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import DESCRIPTION, load_codec
from nas.codec.nic import Nic
from nas.comparison.formats import encode, nearest_size
from nas.photos.images import Photo, Pixels, psnr, read_image
from nas.profiling.profile import parse_size

OTHERS = {"JPEG": "jpeg", "WEBP": "webp", "AVIF": "avif"}  # formats by the titles of their columns
ALONE, ONNX = "Gaussians alone", "ONNX folder"
MIXED, MIXED_G_S = "all, g_s in bfloat16", "g_s in bfloat16"


class Clock:
    """Measures the CPU seconds of the parts of one decode, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            found = function(*given, **named)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began
            return found

        return run


@contextmanager
def watched(codec: Codec, clock: Clock) -> Iterator[None]:
    """Context in which a clock times the parts of a codec."""
    kept = coder.Decoder.on_grid, coder.Decoder.under_table, bitstream.picture_of
    coder.Decoder.on_grid = clock.timed("coder", kept[0])  # type: ignore[method-assign]
    coder.Decoder.under_table = clock.timed("coder", kept[1])  # type: ignore[method-assign]
    bitstream.picture_of = clock.timed("picture", kept[2])
    g_s = codec.network.g_s
    g_s.forward = clock.timed("g_s", type(g_s).forward.__get__(g_s))
    try:
        yield
    finally:
        coder.Decoder.on_grid, coder.Decoder.under_table, bitstream.picture_of = kept  # type: ignore[method-assign]
        del g_s.forward


@contextmanager
def without_tables() -> Iterator[None]:
    kept, coder.REACHES = coder.REACHES, ()
    try:
        yield
    finally:
        coder.REACHES = kept


def filling(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Repeat a photo until it fills a picture of this width and height."""
    width, height = size
    across, down = -(-width // pixels.shape[1]), -(-height // pixels.shape[0])
    return np.tile(pixels, (down, across, 1))[:height, :width]


def near_in_size(pixels: Pixels, kind: str, size: int) -> bytes:
    """Write a photo in another format, at the quality whose file size is nearest to `size`."""
    photo = Photo("photo", pixels)
    return encode(kind, photo, nearest_size(kind, photo, size).quality)


def by_pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def by_us(codec: Codec, data: bytes, precision: str = "32") -> Pixels:
    return decompress_image(codec, Nic.parse(data), precision=precision)


def times(codec: Codec, decoder: Any, pixels: Pixels, data: bytes, repeats: int) -> dict[str, float]:
    """Measure one photo: the least CPU seconds of every format, and of every part of the codec."""
    sides = {kind: partial(by_pillow, near_in_size(pixels, OTHERS[kind], len(data))) for kind in OTHERS}
    if decoder is not None:
        sides[ONNX] = partial(decoder.decode, data)
    with without_tables():
        expected = by_us(codec, data)
    if not np.array_equal(by_us(codec, data), expected):
        raise RuntimeError("with and without tables, other pixels are decoded")
    least: dict[str, float] = {}

    def note(name: str, seconds: float) -> None:
        least[name] = min(seconds, least.get(name, seconds))

    def run(name: str, side: Callable[[], object]) -> None:
        began = time.process_time()
        side()
        note(name, time.process_time() - began)

    for _ in range(repeats):
        for name, side in sides.items():
            run(name, side)
        with without_tables():
            run(ALONE, partial(by_us, codec, data))
        run("all", partial(by_us, codec, data))
        if codec.mixed("auto"):
            run(MIXED, partial(by_us, codec, data, "bf16"))
            clock = Clock()
            with watched(codec, clock):
                by_us(codec, data, "bf16")
            note(MIXED_G_S, clock.seconds["g_s"])
        clock, began = Clock(), time.process_time()
        with watched(codec, clock):
            by_us(codec, data)
        rest = time.process_time() - began
        note("coder", clock.seconds["coder"])
        note("g_s", clock.seconds["g_s"])
        note("colour, checks", clock.seconds["picture"] - clock.seconds["g_s"])
        note("h_s, context, entropy parameters", rest - clock.seconds["picture"] - clock.seconds["coder"])
    return least


def in_mixed(codec: Codec, photo: Pixels, data: bytes) -> tuple[float, float]:
    """Compare g_s in bfloat16 with single precision: the loss in dB, and the share of values that change."""
    single, mixed = by_us(codec, data), by_us(codec, data, "bf16")
    if np.abs(single.astype(int) - mixed).max() > 1:
        raise RuntimeError("bfloat16 changes values by more than one level")
    return psnr(photo, single) - psnr(photo, mixed), float((single != mixed).mean())


def matrix_rate(repeats: int, dtype: torch.dtype = torch.float32) -> float:
    """Measure the multiply-adds per second of a large matrix product."""
    side, least = 1024, float("inf")
    a = torch.randn(side, side).to(dtype)
    for _ in range(max(5, repeats)):
        began = time.process_time()
        a @ a
        least = min(least, time.process_time() - began)
    return side**3 / least


def spread(values: Sequence[float], digits: int = 1) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def main() -> None:
    parser = arguments(__doc__ or "", repeats=7)
    parser.add_argument("codecs", type=Path, nargs="+", help="folders of codecs over a range of rates")
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--photos", type=int, default=4, help="number of photos to measure")
    parser.add_argument("--quality", type=float, default=45.0, help="quality of the codec's files, 0 to 100")
    parser.add_argument(
        "--size", type=parse_size, help="width x height of pictures; default: the sizes of the photos"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    paths = some_images(given.data, given.photos)
    say(heading())
    say(f"a matrix product: {matrix_rate(given.repeats) / 1e9:.0f} billion multiply-adds a second")
    for path in given.codecs:
        codec, onnx = load_codec(path), path / "onnx" / "decoder.py"
        decoder = load(onnx) if onnx.is_file() else None
        if decoder is not None:
            decoder.THREADS = given.threads
        photos = [read_image(photo) for photo in paths]
        if given.size:
            photos = [filling(photo, given.size) for photo in photos]
        files = [compress_image(codec, photo, quality=given.quality).to_bytes() for photo in photos]
        memory = [extra_memory(partial(by_us, codec, data)) / MIB for data in files]
        found = [
            times(codec, decoder, photo, data, given.repeats)
            for photo, data in zip(photos, files, strict=True)
        ]
        rows = [["", "ms", "over AVIF's"]]
        rows += [
            [
                name,
                spread([1000 * each[name] for each in found]),
                spread([each[name] / each["AVIF"] for each in found]),
            ]
            for name in found[0]
        ]
        say(f"\n{path.name}: {codec.architecture.key}")
        say(table(rows))
        say(f"memory of a first decode: {spread(memory, 0)} MiB")
        say("Gaussians alone over all: " + spread([each[ALONE] / each["all"] for each in found], 2))
        kmacs = yaml.safe_load((path / DESCRIPTION).read_text())["kmac_px_by_edge"]["g_s"]
        for part, dtype in {"g_s": torch.float32, MIXED_G_S: torch.bfloat16}.items():
            if part not in found[0]:
                continue
            product = matrix_rate(given.repeats, dtype)
            rates = [
                1000 * kmacs * photo.shape[0] * photo.shape[1] / each[part] / product
                for photo, each in zip(photos, found, strict=True)
            ]
            say(f"{part}, {kmacs:.2f} kMAC/px: share of such a product's rate " + spread(rates, 2))
        if MIXED in found[0]:
            lost = [in_mixed(codec, photo, data) for photo, data in zip(photos, files, strict=True)]
            say("bfloat16: PSNR lower by " + spread([each for each, _ in lost], 4) + " dB")
            say(
                "values that differ: "
                + spread([100 * each for _, each in lost], 1)
                + " %, by one level at most"
            )


if __name__ == "__main__":
    main()
