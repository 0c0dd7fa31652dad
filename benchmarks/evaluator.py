"""Time to score every architecture of a space: with the evaluator's caches, and with full forward passes.

The evaluator scores all architectures on the calibration photos. A full forward pass runs one extracted codec
on one photo and computes bits, distortion and PSNR; the time to extract the codec does not count. Only a
random sample of these passes is timed, between the evaluator's photos, and its mean is multiplied by the
number of all passes. The score of each sampled pass is compared with the evaluator's.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from common import MIB, arguments, extra_memory, heading, in_child, say, table

from nas.graph.entropy import bits
from nas.graph.network import CodecNetwork, Supernet
from nas.metrics.losses import distortion
from nas.metrics.objective import Objective, rd_loss
from nas.photos.images import Photo, bundled, list_images, psnr, read_image
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator, Score
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import supernet_of

LMBDA = 0.013
MEASURED = 2  # photos on which memory is measured: with the second, the cache drops the tensors of the first
SEEDED = 100.0  # factor of the random weights of g_a's last layer, so that not all latents are zero


def network(options: Namespace) -> Supernet:
    """Load the supernet of a run, or make one with random weights."""
    if options.weights:
        return supernet_of(Run.open(options.weights))
    torch.manual_seed(options.seed)
    net = Supernet(SearchSpace.load(options.space)).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(SEEDED)
    return net


def photos(options: Namespace) -> list[Photo]:
    """Load the wanted number of photos of a folder, or bundled ones. Too few photos are repeated."""
    if options.data:
        found = [Photo(path.name, read_image(path)) for path in list_images(options.data)[: options.photos]]
    else:
        found = list(itertools.chain(*bundled().values()))
    return list(itertools.islice(itertools.cycle(found), options.photos))


def architectures(space: SearchSpace) -> list[Architecture]:
    """List every architecture of a space."""
    regimes = (itertools.product(*regime) for regime in space.regimes)
    return [space.at(indexes) for indexes in itertools.chain(*regimes)]


def full_forward(plain: CodecNetwork, architecture: Architecture, photo: Photo) -> Score:
    """Score one architecture on one photo by a full forward pass."""
    x = to_tensor(photo.pixels)
    output = plain(pad(x, plain.space.family.alignment), plain.space.layout(architecture), coded=True)
    rate = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values()) / photo.size
    x_hat = output["x_hat"][..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
    error = float(distortion(x, x_hat, "mse")[0])
    return Score(rate, psnr(photo.pixels, to_pixels(x_hat)), rd_loss(rate, error, LMBDA))


class Sample:
    """Full forward passes of random architectures on random photos: their seconds and scores."""

    def __init__(self, net: Supernet, every: list[Architecture], photos: list[Photo], seed: int) -> None:
        self.net, self.every, self.photos = net, every, photos
        self.rng = random.Random(seed)
        self.seconds: list[float] = []
        self.pairs: list[tuple[Architecture, Photo, Score]] = []

    @torch.no_grad()
    def draw(self, count: int) -> None:
        for _ in range(count):
            architecture, photo = self.rng.choice(self.every), self.rng.choice(self.photos)
            plain = self.net.extract(architecture)
            began = time.perf_counter()
            score = full_forward(plain, architecture, photo)
            self.seconds.append(time.perf_counter() - began)
            self.pairs.append((architecture, photo, score))

    def apart(self) -> Iterator[tuple[float, bool]]:
        """Yield for each pass the relative difference in bpp, and whether PSNR is the same."""
        for architecture, photo, full in self.pairs:
            found = Evaluator(self.net, [photo], Objective(LMBDA)).score(architecture)
            yield abs(found.bpp / full.bpp - 1), found.psnr == full.psnr


def error_of(values: list[float]) -> float:
    """Two standard errors of the mean, relative to it. 0 for a single value, whose error is unknown."""
    if len(values) < 2:
        return 0.0
    return 2 * statistics.stdev(values) / math.sqrt(len(values)) / statistics.mean(values)


def given(options: Namespace) -> list[str]:
    """The options to hand on to a child process."""
    told = ["--space", options.space, "--seed", str(options.seed), "--photos", str(MEASURED)]
    for name in ("weights", "data"):
        if getattr(options, name):
            told += [f"--{name}", str(getattr(options, name))]
    return told


def main() -> None:
    parser = arguments(__doc__ or "", repeats=4)
    parser.add_argument("--space", default="joint-ar-per-edge", help="search space")
    parser.add_argument("--weights", help="a RUN whose space and weights are used; default: random weights")
    parser.add_argument("--data", type=Path, help="folder of photos; default: the bundled ones")
    parser.add_argument("--photos", type=int, default=24, help="number of calibration photos")
    parser.add_argument("--sample-photos", type=int, help="score this many photos only, and multiply")
    parser.add_argument("--seed", type=int, default=0, help="seed for all random choices")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net, chosen = network(options), photos(options)
    every = architectures(net.space)
    scored = chosen[: options.sample_photos]
    if options.memory:
        say(str(extra_memory(lambda: Evaluator(net, scored, Objective(LMBDA)).score_all(every))))
        return
    say(heading())
    weights = options.weights or "random"
    say(f"{net.space.name}: {len(every):,} architectures, {len(chosen)} photos; {weights} weights")
    sample = Sample(net, every, scored, options.seed)
    sample.draw(1)  # the first one is not counted
    sample.seconds.clear()
    seconds: list[float] = []
    began = time.perf_counter()

    def report(done: int, total: int, note: str) -> None:
        nonlocal began
        if done % len(every) == 0:
            seconds.append(time.perf_counter() - began)
            sample.draw(options.repeats)
            forward = statistics.mean(sample.seconds)
            say(f"{note}: {seconds[-1]:.1f} s; a full forward {forward:.2f} s")
            began = time.perf_counter()

    Evaluator(net, scored, Objective(LMBDA)).score_all(every, report=report)
    seconds[-1] += time.perf_counter() - began
    differences, same = zip(*sample.apart(), strict=True)
    memory = in_child(__file__, "--memory", "yes", *given(options))
    fast, slow = statistics.mean(seconds), statistics.mean(sample.seconds)
    times = len(every) * slow / fast
    within = times * math.hypot(error_of(seconds), error_of(sample.seconds))
    rows = [
        ["what", "seconds", "measured"],
        [
            "the evaluator",
            f"{len(chosen) * fast:,.0f}",
            f"{len(seconds)} of {len(chosen)} photos, {min(seconds):.1f} to {max(seconds):.1f} s each",
        ],
        [
            "full forwards",
            f"{len(chosen) * len(every) * slow:,.0f}",
            f"{len(sample.seconds)} of {len(chosen) * len(every):,}, {min(sample.seconds):.2f} to "
            f"{max(sample.seconds):.2f} s each; extrapolated",
        ],
    ]
    say(table(rows))
    say(f"times as fast: {times:.0f} (95 %: {times - within:.0f} to {times + within:.0f}); asked: 100")
    say(f"bpp apart by at most {max(differences):.1e} of it; PSNR the same in {sum(same)} of {len(same)}")
    say(f"peak memory of the evaluator: {memory / MIB:,.0f} MiB more than before, on {MEASURED} photos")


if __name__ == "__main__":
    main()
