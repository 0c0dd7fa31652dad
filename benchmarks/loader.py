"""Crops per second that the loader delivers, compared with those that the fastest training step uses.

    python benchmarks/loader.py [--data DIR] [--workers 0 1 2]

The fastest step trains a space's narrowest architecture alone: forward, backward, clipping and Adam. Both
sides are timed in turn, several times over, and each ratio belongs to one turn. The loader should be at least
three times as fast.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import torch

from nas.graph.network import Supernet
from nas.metrics.losses import batch_losses
from nas.metrics.objective import Objective
from nas.photos.images import bundled, list_images
from nas.photos.split import load_photos
from nas.spaces.space import SearchSpace
from nas.support.device import choose
from nas.training.data import CropSource, batches

SPACES = ("joint-ar-tiny", "joint-ar")


def loader_rate(source: CropSource, batch: int, workers: int, count: int, pin: bool) -> float:
    """Measure crops per second, after the workers have started and their first batches are used up."""
    ahead = 4 * workers + 2
    with closing(batches(source, batch=batch, first=0, last=10**9, workers=workers, pin=pin)) as served:
        for _ in range(ahead):
            next(served)
        began = time.perf_counter()
        for _ in range(count):
            next(served)
        return count * batch / (time.perf_counter() - began)


def training_step(name: str, x: torch.Tensor) -> Callable[[], object]:
    """Make a training step of a space's narrowest architecture, on a batch that is on the device already."""
    space = SearchSpace.load(name)
    net = Supernet(space).to(x.device)
    layout = net.activate(space.narrowest())
    parameters = [p for p in net.parameters() if p.requires_grad and p.numel()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    on_gpu = x.device.type == "cuda"

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=on_gpu):
            output = net(x, layout)
        losses = batch_losses(x, output, Objective(0.013))
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.total.item()  # waits for the device, as the training loop does

    return step


def step_rate(step: Callable[[], object], batch: int, count: int) -> float:
    """Measure the crops per second of a training step."""
    step()
    began = time.perf_counter()
    for _ in range(count):
        step()
    return count * batch / (time.perf_counter() - began)


def spread(values: Sequence[float], digits: int = 0) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} .. {most:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", help="folder of photos; default: the bundled ones")
    parser.add_argument("--photos", type=int, default=100, help="largest number of photos to use (100)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of worker processes to compare"
    )
    parser.add_argument("--crop", type=int, default=256, help="side of a crop in pixels")
    parser.add_argument("--batch", type=int, default=8, help="crops per batch")
    parser.add_argument("--batches", type=int, default=40, help="batches per turn (40)")
    parser.add_argument("--steps", type=int, default=4, help="training steps per turn (4)")
    parser.add_argument("--turns", type=int, default=5, help="number of turns")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    words = parser.parse_args()

    photos = load_photos(list_images(words.data)[: words.photos]) if words.data else bundled()["train"]
    device = choose(words.device)
    source = CropSource(photos, crop=words.crop, seed=0)
    pin = device.type == "cuda"
    x = next(batches(source, batch=words.batch, first=0, last=1)).to(device)
    steps = {name: training_step(name, x) for name in SPACES}
    loaded: dict[int, list[float]] = {workers: [] for workers in words.workers}
    trained: dict[str, list[float]] = {name: [] for name in SPACES}
    for _ in range(words.turns):
        for workers, rates in loaded.items():
            rates.append(loader_rate(source, words.batch, workers, words.batches, pin))
        for name, rates in trained.items():
            rates.append(step_rate(steps[name], words.batch, words.steps))

    size = sum(photo.size for photo in photos) / len(photos) / 1e6
    print(
        f"{len(photos)} photos of {size:.2f} megapixels, crop {words.crop}, batch {words.batch}, {device}, "
        f"{torch.get_num_threads()} threads; median (least .. most) of {words.turns} turns"
    )
    for name, rates in trained.items():
        print(f"step of {name}, narrowest: {spread(rates, 1)} crops/s")
    for workers, rates in loaded.items():
        print(f"loader, {workers} workers: {spread(rates)} crops/s")
        for name in SPACES:
            ratios = [a / b for a, b in zip(rates, trained[name], strict=True)]
            print(f"    {spread(ratios, 1)} times the step of {name}")


if __name__ == "__main__":
    main()
