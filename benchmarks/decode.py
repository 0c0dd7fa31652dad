"""Time to decode y from a stream in each layout, compared with CompressAI's serial loop.

Both have the same weights and decode one photo of 768x512, each from a stream of its own. The time covers
everything that turns psi and the stream into y: context prediction, entropy parameters and the entropy coder.
The toolkit uses the exact entropy path, and must decode the encoder's integers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, heading, ratio, say, table
from PIL import Image

from nas.codec.codec import Codec
from nas.codec.quantize import quantized
from nas.graph.network import Supernet
from nas.photos.images import bundled, read_image
from nas.photos.tensors import to_tensor
from nas.spaces.layout import Layout, named_layout
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import Checkpoint, load_weights

ROOT = Path(__file__).parents[1]
EXPERIMENT = ROOT / "experiments" / "layouts"
NAMED = (
    *("none", "checkerboard", "checkerboard-interlaced", "channelwise-2"),
    *("raster-2x2", "channelwise-4", "channelwise-2-checkerboard"),
    *("channelwise-8", "channelwise-4-checkerboard", "elic-10", "multistage-4x4", "zigzag", "raster"),
)
THEIRS = "CompressAI, serial"


class Timed:
    """A function that remembers how long its last call took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *given: Any) -> Any:
        began = time.perf_counter()
        found = self.function(*given)
        self.seconds = time.perf_counter() - began
        return found


def supernet_of(weights: Path | None) -> Supernet:
    """Load the supernet of the layout experiments, or make one of real size.

    The random weights of the latter are scaled so that latents are not all zero.
    """
    if weights is not None:
        net = Supernet(SearchSpace.load(EXPERIMENT / "space.yaml"))
        load_weights(net, Checkpoint.read(weights).tensors, source=str(weights))
        return net.eval()
    torch.manual_seed(0)
    net = Supernet(SearchSpace.load("joint-ar")).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(10)
    return net


def codec_of(net: Supernet, layout: Layout) -> Codec:
    net.space = net.space.with_layouts({layout.name: layout})
    architecture = net.space.under(layout.name, net.space.widest())
    return Codec(net.extract(architecture), architecture)


def layouts_of(net: Supernet, results: Path) -> list[Layout]:
    """List hand-made layouts, and those that searches found for this number of channels."""
    channels = net.space.y_channels
    found = [named_layout(name, channels) for name in NAMED]
    if results.is_file():
        rows = json.loads(results.read_text())["layouts"]
        made = [name for name in rows if name.startswith(("greedy", "learned"))]
        fields = ("groups", "slope", "tile")
        found += [Layout.from_dict({key: rows[n][key] for key in fields}, name=n) for n in made]
    return [layout for layout in found if layout.channels == channels]


def codec_arguments(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options that choose the codec and the photo."""
    parser = arguments(description, repeats=5)
    parser.add_argument(
        "--weights",
        type=Path,
        default=ROOT / "experiments" / "weights" / "layouts.safetensors",
        help="file of the supernet's weights",
    )
    parser.add_argument(
        "--real-size", action="store_true", help="use joint-ar at 192 channels with random weights"
    )
    parser.add_argument("--photo", type=Path, help="a photo to code instead of a bundled one")
    return parser


def main() -> None:
    parser = codec_arguments(__doc__ or "")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = supernet_of(None if given.real_size else given.weights)
    pixels = read_image(given.photo) if given.photo else bundled()["test"][0].pixels
    x = to_tensor(np.asarray(Image.fromarray(pixels).resize((768, 512), Image.Resampling.LANCZOS)))
    sides: dict[str, tuple[Callable[[], Any], Timed]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for layout in layouts_of(net, EXPERIMENT / "results" / "rates.json"):
        codec = codec_of(net, layout)
        y_hat, z_hat = codec.latents(x)
        assert z_hat is not None
        codec = quantized(codec, [(y_hat, z_hat)])
        strings = codec.encode(y_hat, z_hat)
        timed = Timed(codec.coding_context.by_stages)
        object.__setattr__(codec.coding_context, "by_stages", timed)
        shape = codec.shape(512, 768)
        if not torch.equal(codec.decode(strings, shape)[0], y_hat):
            raise RuntimeError(f"{layout.name}: what was decoded is not what was encoded")
        sides[layout.name] = (lambda c=codec, s=strings, p=shape: c.decode(s, p)), timed  # type: ignore[misc]
        facts[layout.name] = {"stages": layout.stages(), "bytes": len(strings[0])}
    theirs: Any = codec_of(net, named_layout("raster", net.space.y_channels)).to_compressai()
    theirs.update(force=True)
    with torch.no_grad():
        coded = theirs.compress(x)
    theirs._decompress_ar = Timed(theirs._decompress_ar)
    sides[THEIRS] = (lambda: theirs.decompress(**coded)), theirs._decompress_ar
    facts[THEIRS] = {"stages": 32 * 48, "bytes": sum(len(s[0]) for s in coded["strings"])}

    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with torch.no_grad():
        for repeat in range(given.repeats + 1):
            for name, (run, timed) in sides.items():
                run()
                if repeat:
                    seconds[name].append(timed.seconds)
    say(heading())
    rows = [["layout", "stages", "bytes", "seconds", "CompressAI's time over it"]]
    for name, values in seconds.items():
        times = ratio(seconds[THEIRS], values)
        facts[name] |= {
            "seconds": statistics.median(values),
            "least": min(values),
            "most": max(values),
            "times_faster": [times.median, times.least, times.most],
        }
        f = facts[name]
        rows.append([name, str(f["stages"]), str(f["bytes"]), f"{f['seconds']:.3f}", str(times)])
    say(table(rows))
    if given.out:
        content = {
            "machine": heading(),
            "repeats": given.repeats,
            "channels": net.space.y_channels,
            "sides": facts,
        }
        given.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
