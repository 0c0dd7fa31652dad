"""Trains an entropy path of published size (192 channels) alone, to measure the cost of integer arithmetic.

Training a whole model of this size takes a GPU. To test bounds and rounding, only h_s, context prediction and
entropy parameters need trained weights. They are therefore trained for rate, with h_a and the prior of z, on
latents of a random g_a that are scaled to some steps from zero. The pictures mean nothing, but the rates of
exact and of floating-point arithmetic can be compared.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from pathlib import Path

import torch
from torch import Tensor

from experiments.exact.rates import HERE, bits_of, bytes_of
from nas.codec.codec import Codec
from nas.codec.quantize import quantized
from nas.graph.entropy import Y_LIMIT, bits, quantize
from nas.graph.network import CodecNetwork
from nas.photos.images import list_images, read_image
from nas.photos.tensors import pad, to_tensor
from nas.spaces.space import SearchSpace
from nas.support.files import write_atomically

BATCH, SIDE = 4, 16  # windows per step, and their sides in positions of y
SPREAD = 2.5  # standard deviation of y


def network_of(layout: str) -> tuple[CodecNetwork, SearchSpace]:
    space = SearchSpace.load("joint-ar")
    torch.manual_seed(0)
    return CodecNetwork(space.only(space.under(layout, space.widest()))), space


@torch.no_grad()
def latents_of(net: CodecNetwork, paths: list[Path]) -> list[Tensor]:
    """Compute y before rounding. g_a's last layer is scaled so that channels have the wanted spread."""
    net.eval()
    found = [net.g_a(pad(to_tensor(read_image(path)), 64)) for path in paths[:4]]
    spread = torch.cat([y.flatten(2) for y in found], 2).std((0, 2))
    mean = torch.cat([y.flatten(2) for y in found], 2).mean((0, 2))
    # few channels with large values, many with small ones
    loud = SPREAD * torch.exp(torch.linspace(1, -3, len(spread)))
    last = net.g_a[-1]
    last.weight.mul_((loud / spread)[:, None, None, None])
    last.bias.sub_(mean).mul_(loud / spread)
    return [net.g_a(pad(to_tensor(read_image(path)), 64)) for path in paths]


def train(net: CodecNetwork, latents: list[Tensor], steps: int, learning_rate: float = 1e-3) -> None:
    rng, layout = random.Random(0), next(iter(net.space.layouts.values()))
    parts = (net.h_a, net.h_s, net.context, net.prior)
    weights = [p for part in parts for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            fall = (1 + math.cos(math.pi * step / steps)) / 2
            group["lr"] = learning_rate * (0.05 + 0.95 * fall) * min(1, (step + 1) / 50)
        y = torch.cat([_window(rng.choice(latents), rng) for _ in range(BATCH)])
        z = net.h_a(y)
        y_hat = quantize(y, Y_LIMIT)
        scales, means = net.context(net.h_s(net.round_z(z)), y_hat, layout)
        rate = bits(net.gaussian.likelihood(y_hat, scales, means)).sum()
        rate = rate + bits(net.prior.likelihood(z + torch.rand_like(z) - 0.5)).sum()
        optimizer.zero_grad()
        (rate / (256 * y[:, 0].numel())).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 50 == 49:
            sys.stdout.write(
                f"{step + 1}/{steps}  {float(rate.detach()) / (256 * y[:, 0].numel()):.4f} bpp\n"
            )
            sys.stdout.flush()


def _window(y: Tensor, rng: random.Random) -> Tensor:
    top, left = (4 * rng.randint(0, (size - SIDE) // 4) for size in y.shape[-2:])
    return y[..., top : top + SIDE, left : left + SIDE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of photos that rates are measured on"
    )
    parser.add_argument("--layout", default="raster", help="layout of the codec")
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--photos", type=int, default=8, help="number of photos to measure on")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results" / "real-size.json", help="file of the results"
    )
    given = parser.parse_args()
    net, space = network_of(given.layout)
    latents = latents_of(net, list_images(given.data)[:60])
    train(net, latents, given.steps)
    codec = Codec(net, space.under(given.layout, space.widest()))
    with torch.no_grad():
        seen = [
            codec.latents(pad(to_tensor(read_image(path)), 64)) for path in list_images(given.data)[60:68]
        ]
        unseen = [
            codec.latents(pad(to_tensor(read_image(path)), 64))
            for path in list_images(given.test)[: given.photos]
        ]
        exact = quantized(codec, seen)
        free = bits_of(codec, unseen, grid=False)
        row = {
            "command": "python -m experiments.exact.real_size --data PHOTOS --test KODAK",
            "layout": given.layout,
            "steps": given.steps,
            "bits of y per photo": free / len(unseen),
            "float64 on the grid, %": 100 * (bits_of(codec, unseen) / free - 1),
            "exact, %": 100 * (bits_of(exact, unseen) / free - 1),
            "files: exact over float64, %": 100 * (bytes_of(exact, unseen) / bytes_of(codec, unseen) - 1),
            "largest sums, bits": [math.log2(each) for each in exact.integers.largest_sums()],
            "largest weights": [int(layer.weight.abs().max()) for layer in exact.integers.layers],
        }
    sys.stdout.write(json.dumps(row) + "\n")
    write_atomically(given.out, json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
