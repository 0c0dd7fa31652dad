"""The time to decode a whole photo by width and number of stages, compared with CompressAI's models.

    python -m experiments.decoding.run --photo PHOTO

The codecs of `joint-ar` have a quarter, half and all of the published width, in layouts of one to 141 stages,
with the exact entropy path. They are compared with CompressAI's hyperpriors, its autoregressive model and
Cheng's, at 192 channels. Weights are random, because the time does not depend on how good a picture is. The
last layer of g_a is scaled so that latents are not all zero. All codecs decode in turn. It writes
results/decoding.json and its section of experiments/journal.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import interleaved, ratio
from experiments.results import JOURNAL, facts, options, read_result, renew, say, table, write_result
from nas.codec.codec import Codec
from nas.codec.quantize import quantized
from nas.graph.network import Supernet
from nas.photos.images import read_image
from nas.photos.tensors import to_tensor
from nas.spaces.space import SearchSpace

RESULT = Path(__file__).parent / "results" / "decoding.json"
LEVELS = {48: 0.2, 96: 0.6, 192: 1.0}  # widths, with their relative place in the space
LAYOUTS = ("none", "checkerboard", "raster-2x2", "elic-10", "raster")
LOUDER = 10  # factor of g_a's last layer, which is so small at first that all of y is zero
THEIRS = {  # class names of CompressAI, with their channels
    "scale hyperprior": ("ScaleHyperprior", 192, 192),
    "mean-scale hyperprior": ("MeanScaleHyperprior", 192, 192),
    "joint autoregressive": ("JointAutoregressiveHierarchicalPriors", 192, 192),
    "Cheng 2020, anchor": ("Cheng2020Anchor", 192),
}
Decoding = Callable[[], object]


def ours(x: Tensor) -> dict[str, tuple[Decoding, dict[str, Any]]]:
    """For every width and layout, return a function that decodes a photo, and facts about the codec."""
    torch.manual_seed(0)
    net = Supernet(SearchSpace.load("joint-ar")).eval()
    net.g_a[-1].weight.mul_(LOUDER)
    space, found = net.space, {}
    for width, level in LEVELS.items():
        for name in LAYOUTS:
            architecture = space.uniform(level, name)
            floating = Codec(net.extract(architecture), architecture)
            codec = quantized(floating, [floating.latents(x)])  # type: ignore[list-item]
            coded = codec.compress(x)
            about = {"width": width, "layout": name, "stages": space.layout(architecture).stages()}
            found[f"{width}, {name}"] = (lambda codec=codec, coded=coded: codec.decompress(**coded)), about
    return found


def theirs(x: Tensor) -> dict[str, tuple[Decoding, dict[str, Any]]]:
    """For every model of CompressAI, return a function that decodes a photo, and facts about it."""
    from compressai import models  # needs torch_geometric, which tests of the tables do without

    decodings = {}
    for name, (kind, *channels) in THEIRS.items():
        torch.manual_seed(0)
        model: Any = getattr(models, kind)(*channels).eval()
        last = [layer for layer in model.g_a.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        last.weight.mul_(LOUDER)
        model.update(force=True)
        coded = model.compress(x)
        decodings[f"CompressAI, {name}"] = (lambda model=model, coded=coded: model.decompress(**coded)), {}
    return decodings


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--photo", type=Path, required=True, help="photo of 768x512")
    parser.add_argument("--repeats", type=int, default=5, help="number of repeats")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    x = to_tensor(read_image(given.photo))
    sides = {**ours(x), **theirs(x)}
    say(f"timing {len(sides)} decoders, {given.repeats + 1} rounds")
    seconds = interleaved({name: decode for name, (decode, _) in sides.items()}, given.repeats)
    rows = {name: {**about, "seconds": seconds[name]} for name, (_, about) in sides.items()}
    write_result(RESULT, {"facts": facts(given.seed, photo=list(x.shape[-2:])), "decoding": rows})
    renew(JOURNAL, "decoding", tables())


# Tables for the page


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)["decoding"]
    own = {(row["width"], row["layout"]): row for row in found.values() if "width" in row}
    others = {name: row["seconds"] for name, row in found.items() if "width" not in row}
    serial = others["CompressAI, joint autoregressive"]
    columns = [f"{layout}, {own[48, layout]['stages']}" for layout in LAYOUTS]
    ran = [[str(width), *(spread(own[width, layout]["seconds"]) for layout in LAYOUTS)] for width in LEVELS]
    times = [str(ratio(serial, own[192, layout]["seconds"])) for layout in LAYOUTS]
    ran.append(["CompressAI's joint autoregressive model, relative to 192", *times])
    return [
        table(["width", *columns], ran),
        table(["", "seconds"], [[name, spread(values)] for name, values in others.items()]),
    ]


if __name__ == "__main__":
    main()
