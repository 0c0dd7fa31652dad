"""How much rate integer arithmetic in the entropy path costs after training, without any tuning.

The reference is the same network in float64 without any grid. It is compared with float64 on the coding grid,
with the exact path, and with the exact path with fewer bits for activations. The exact path is calibrated on
training photos, and rates are measured on other photos. The weights are those of the supernet of the layout
experiments (48 channels), or of a run's widest architecture.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nas.codec import quantize
from nas.codec.codec import Codec
from nas.codec.quantize import quantized
from nas.graph.entropy import from_grid
from nas.graph.network import Supernet
from nas.photos.images import Photo, list_images, read_image
from nas.photos.tensors import pad, to_tensor
from nas.run import Run
from nas.spaces.layout import Layout, named_layout
from nas.spaces.space import SearchSpace
from nas.support.files import write_atomically
from nas.weights.checkpoint import Checkpoint, load_weights

HERE = Path(__file__).parent
LAYOUTS = ("none", "checkerboard", "raster-2x2", "channelwise-4", "elic-10", "raster")
BITS = (6, 8, 9, 11)  # bits of activations that are compared with ten
MEANS = (16, 64)  # steps of the mean per unit
Latents = tuple[Tensor, Tensor]


def supernet_of(run: Path | None) -> Supernet:
    if run is not None:
        return supernet_of(Run.open(run))
    net = Supernet(SearchSpace.load(HERE.parent / "layouts" / "space.yaml"))
    weights = HERE.parent / "weights" / "layouts.safetensors"
    load_weights(net, Checkpoint.read(weights).tensors, source=str(weights))
    return net.eval()


def codec_of(net: Supernet, layout: Layout) -> Codec:
    net.space = net.space.with_layouts({layout.name: layout})
    architecture = net.space.under(layout.name, net.space.widest())
    return Codec(net.extract(architecture), architecture)


def latents_of(codec: Codec, photos: Sequence[Photo]) -> list[Latents]:
    found = [codec.latents(pad(to_tensor(photo.pixels), codec.alignment)) for photo in photos]
    return [(y_hat, z_hat) for y_hat, z_hat in found if z_hat is not None]


def bits_of(
    codec: Codec, latents: Sequence[Latents], means: int | None = None, *, grid: bool = True
) -> float:
    """Estimate the bits of y: on the coding grid, with other steps of the mean, or without a grid."""
    total, gaussian = 0.0, codec.network.gaussian
    for y_hat, z_hat in latents:
        context, y = codec.coding_context, y_hat.to(codec.coding_dtype)
        raw = context.one_pass(codec.psi(z_hat), y)
        scales, centres = from_grid(*context.grid(*raw)) if grid else raw
        if means is not None:
            centres = (raw[1] * means).round() / means
        total -= float(gaussian.coded_likelihood(y_hat.double(), scales, centres).log2().sum())
    return total


def bytes_of(codec: Codec, latents: Sequence[Latents]) -> int:
    return sum(len(string) for pair in latents for string in codec.encode(*pair))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of calibration photos")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of photos that rates are measured on"
    )
    parser.add_argument("--chosen-on", type=int, default=8, help="number of calibration photos")
    parser.add_argument("--photos", type=int, default=24, help="number of photos that rates are measured on")
    parser.add_argument(
        "--run", type=Path, help="run with a context model; default: the supernet of the layout experiments"
    )
    parser.add_argument("--layouts", nargs="*", default=LAYOUTS, help="layouts to compare")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results" / "rates.json", help="file of the results"
    )
    given = parser.parse_args()
    net = supernet_of(given.run)
    chosen, tested = (
        [Photo(path.name, read_image(path)) for path in list_images(folder)[:count]]
        for folder, count in ((given.data, given.chosen_on), (given.test, given.photos))
    )
    rows = []
    for name in given.layouts:
        floating = codec_of(net, named_layout(name, net.space.y_channels))
        seen, unseen = latents_of(floating, chosen), latents_of(floating, tested)
        free = bits_of(floating, unseen, grid=False)

        def share(bits: float, free: float = free) -> float:
            return 100 * (bits / free - 1)

        exact = quantized(floating, seen)
        row = {"layout": name, "bits of y per photo": free / len(unseen)}
        row["float64 on the grid, %"] = share(bits_of(floating, unseen))
        for steps in MEANS:
            row[f"the same, means in 1/{steps}, %"] = share(bits_of(floating, unseen, steps))
        row["exact, %"] = share(bits_of(exact, unseen))
        for size in BITS:
            quantize.LIMIT = 2**size - 1
            row[f"exact, activations of {size} bits, %"] = share(bits_of(quantized(floating, seen), unseen))
        quantize.LIMIT = 2**10 - 1
        row["files: exact over float64, %"] = 100 * (bytes_of(exact, unseen) / bytes_of(floating, unseen) - 1)
        rows.append(row)
        sys.stdout.write(f"{json.dumps(row)}\n")
        sys.stdout.flush()
    content = {
        "command": "python -m experiments.exact.rates --data PHOTOS --test KODAK",
        "channels": net.space.y_channels,
        "photos": {"chosen on": len(chosen), "measured on": len(tested)},
        "torch": str(torch.__version__),
        "rows": rows,
    }
    write_atomically(given.out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
