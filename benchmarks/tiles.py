"""Peak memory and time of large pictures, in tiles and as a whole, and the time of tiles at ordinary sizes.

Memory is the peak of a fresh process, without the codec and the picture, which it holds anyway.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
import torch
from common import MIB, arguments, heading, interleaved, ratio, say, table

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.tiles import TILING, Tiling, run_tiled, tiles
from nas.graph.entropy import Y_LIMIT, quantize
from nas.graph.network import CodecNetwork
from nas.photos.images import Pixels
from nas.photos.tensors import Padded, pad, to_pixels, to_tensor
from nas.profiling.memory import forget_peak, peak_bytes, sample_photo
from nas.spaces.space import SearchSpace

T = TypeVar("T")
WHOLE = Tiling(limit=1 << 40)
WAYS = {"tiles": TILING, "whole": WHOLE}
SIZES = ((768, 512), (2048, 1365))
SIDES = (256, 384, 512, 768, 1024)
LAYOUTS = ("checkerboard", "raster")
LARGEST_WHOLE = 4096  # pixels a side


@dataclass(frozen=True)
class Measured:
    """Seconds and extra bytes of encoding and of decoding."""

    encode_seconds: float
    encode_bytes: int
    decode_seconds: float
    decode_bytes: int


def codec_of(space: SearchSpace, layout: str) -> Codec:
    """Make the widest architecture. Its random weights give latents of a few steps from zero."""
    torch.manual_seed(0)
    architecture = space.under(layout, space.widest())
    network = CodecNetwork(space.only(architecture)).eval()
    with torch.no_grad():
        y = network.g_a(to_tensor(sample_photo(512, 512)))
        network.g_a[-1].weight.mul_(8 / y.std())
    return Codec(network, architecture)


def measured(run: Callable[[], T]) -> tuple[float, int, T]:
    """Run a function. Returns its seconds, its peak of extra bytes, and its result."""
    forget_peak()
    before, began = peak_bytes(), time.perf_counter()
    result = run()
    return time.perf_counter() - began, peak_bytes() - before, result


@torch.no_grad()
def edges(codec: Codec, pixels: Pixels, tiling: Tiling) -> Measured:
    """Measure the edges: from pixels to y and z, and from rounded y to pixels."""
    network, x = codec.network, Padded(pixels, codec.alignment)

    def encode() -> torch.Tensor:
        y = run_tiled(network, "g_a", codec.layout, x, tiling)
        network.h_a(y)
        return quantize(y, Y_LIMIT)

    def decode(y_hat: torch.Tensor) -> None:
        out = np.empty(pixels.shape, np.uint8)
        for rows, columns, x_hat in tiles(network, "g_s", codec.layout, y_hat, tiling):
            place = out[rows, columns]
            place[:] = to_pixels(x_hat[..., : place.shape[0], : place.shape[1]])

    seconds, extra, y_hat = measured(encode)
    return Measured(seconds, extra, *measured(lambda: decode(y_hat))[:2])


def whole_codec(codec: Codec, pixels: Pixels, tiling: Tiling) -> Measured:
    """Measure the whole codec: from pixels to the content of a file, and back."""
    seconds, extra, nic = measured(lambda: compress_image(codec, pixels, tiling=tiling))
    return Measured(
        seconds,
        extra,
        *measured(lambda: decompress_image(codec, nic, tiling=tiling))[:2],
    )


def in_child(given: argparse.Namespace, part: str, layout: str, way: str) -> Measured:
    """Run one measurement in a fresh process."""
    options = ["--threads", str(given.threads), "--side", str(given.side), "--space", given.space]
    command = [sys.executable, __file__, *options, "--memory", f"{part},{layout},{way}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout))


def as_child(given: argparse.Namespace) -> None:
    part, layout, way = given.memory.split(",")
    codec, pixels = codec_of(SearchSpace.load(given.space), layout), sample_photo(given.side, given.side)
    run = {"edges": edges, "codec": whole_codec}[part]
    say(json.dumps(asdict(run(codec, pixels, WAYS[way]))))


def memory_rows(given: argparse.Namespace) -> list[list[str]]:
    rows = [["what", "layout", "way", "encode s", "encode MiB", "decode s", "decode MiB"]]
    ways = [way for way in WAYS if way != "whole" or given.side <= LARGEST_WHOLE]
    for part, layouts in (("edges", LAYOUTS[:1]), ("codec", LAYOUTS)):
        for layout in layouts:
            for way in ways:
                found = in_child(given, part, layout, way)
                cells = [f"{found.encode_seconds:.1f}", f"{found.encode_bytes / MIB:.0f}"]
                cells += [f"{found.decode_seconds:.1f}", f"{found.decode_bytes / MIB:.0f}"]
                rows.append([part, layout, way, *cells])
    return rows


@torch.no_grad()
def speed_rows(given: argparse.Namespace) -> list[list[str]]:
    codec = codec_of(SearchSpace.load("joint-ar"), "checkerboard")
    rows = [["edge", "size", "tile", "whole s", "tiles s", "whole's time over it", "apart"]]
    for width, height in SIZES:
        x = pad(to_tensor(sample_photo(width, height)), codec.alignment)
        y_hat = quantize(codec.network.g_a(x), Y_LIMIT)
        for edge, source in (("g_a", x), ("g_s", y_hat)):

            def run(tiling: Tiling, edge: str = edge, source: torch.Tensor = source) -> torch.Tensor:
                return run_tiled(codec.network, edge, codec.layout, source, tiling)

            sides = {"whole": lambda: run(WHOLE)}
            for side in SIDES:
                if side < max(x.shape[-2:]):
                    sides[str(side)] = lambda side=side: run(Tiling(0, side))  # type: ignore[misc]
            expected, seconds = run(WHOLE), interleaved(sides, given.repeats)
            for name in list(sides)[1:]:
                apart = (sides[name]() - expected).abs().max() / expected.abs().max()
                medians = [f"{np.median(seconds[way]):.3f}" for way in ("whole", name)]
                faster = str(ratio(seconds["whole"], seconds[name]))
                rows.append([edge, f"{width}x{height}", name, *medians, faster, f"{apart:.1e}"])
    return rows


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument("--side", type=int, default=4096, help="side of the large picture in pixels")
    parser.add_argument(
        "--space", default="joint-ar-tiny", help="search space of the codec for the large picture"
    )
    parser.add_argument("--only", choices=["memory", "speed"], help="measure only memory, or only speed")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory:
        as_child(given)
        return
    say(heading())
    if given.only != "speed":
        say(f"{given.side}x{given.side}, the widest of {given.space}")
        say(table(memory_rows(given)))
    if given.only != "memory":
        say("the widest of joint-ar")
        say(table(speed_rows(given)))


if __name__ == "__main__":
    main()
