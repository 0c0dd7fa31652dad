"""One sandwich step of four architectures, compared with steps of the same four as separate plain networks.

The architectures are the widest, the narrowest and two random ones of `joint-ar`. The time covers forward,
backward and Adam. The supernet takes one step for all four, and each plain network takes a step of its own.
Memory is what two steps need beyond the weights in a fresh process, with gradients and Adam's averages. The
supernet's memory is compared with that of the largest of the four networks.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import torch
from common import MIB, arguments, extra_memory, heading, in_child, interleaved, ratio, say, table
from torch import Tensor

from nas.graph.network import CodecNetwork, Supernet
from nas.metrics.losses import batch_losses
from nas.metrics.objective import Objective
from nas.spaces.architecture import Architecture
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace


def drawn(space: SearchSpace) -> list[Architecture]:
    """The widest, the narrowest and two random architectures, each under a random layout of the space."""
    rng = random.Random(0)
    found = [space.widest(), space.narrowest(), space.sample(rng), space.sample(rng)]
    return [space.under(rng.choice(space.layout_names), architecture) for architecture in found]


def noise(like: Tensor) -> Tensor:
    """The uniform noise that training adds to latents."""
    return torch.rand_like(like) - 0.5


def backward(net: CodecNetwork, x: Tensor, layout: Layout) -> None:
    """Compute the gradient of a quarter of one architecture's loss."""
    (batch_losses(x, net(x, layout, noise), Objective(0.013)).total / 4).backward()


def supernet_step(space: SearchSpace, samples: list[Architecture], x: Tensor) -> Callable[[], None]:
    """Make a step of the supernet over all samples, one after the other."""
    net = Supernet(space)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.numel()], lr=1e-5)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        for sample in samples:
            backward(net, x, net.activate(sample))
        optimizer.step()

    return run


def plain_step(space: SearchSpace, sample: Architecture, x: Tensor) -> Callable[[], None]:
    """Make a step of one architecture as a separate plain network."""
    net = CodecNetwork(space.only(sample))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-5)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(net, x, space.layout(sample))
        optimizer.step()

    return run


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument("--space", default="joint-ar", help="search space")
    parser.add_argument("--batch", type=int, default=2, help="crops per step")
    parser.add_argument("--crop", type=int, default=128, help="side of a crop in pixels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    space = SearchSpace.load(options.space)
    samples = drawn(space)
    x = torch.rand(options.batch, 3, options.crop, options.crop)
    if options.memory:
        pick = options.memory
        step = (
            supernet_step(space, samples, x)
            if pick == "supernet"
            else plain_step(space, samples[int(pick)], x)
        )
        say(str(extra_memory(lambda: (step(), step()))))
        return
    say(heading() + f", {options.space}, batch {options.batch} of {options.crop}x{options.crop}")
    for number, sample in enumerate(samples):
        say(f"{number}: {sample.key}")
    together = supernet_step(space, samples, x)
    alone = [plain_step(space, sample, x) for sample in samples]
    sides = {"supernet": together, **{str(number): run for number, run in enumerate(alone)}}
    seconds = interleaved(sides, options.repeats)
    apart = [sum(values) for values in zip(*(seconds[str(n)] for n in range(4)), strict=True)]
    shape = ["--space", options.space, "--batch", str(options.batch), "--crop", str(options.crop)]
    memory = {name: [in_child(__file__, "--memory", name, *shape) / MIB for _ in range(2)] for name in sides}
    largest = max((memory[str(number)] for number in range(4)), key=statistics.median)
    say(
        table(
            [
                ["", "supernet", "four plain", "ratio", "asked"],
                [
                    "seconds a step",
                    f"{statistics.median(seconds['supernet']):.2f}",
                    f"{statistics.median(apart):.2f}",
                    str(ratio(seconds["supernet"], apart)),
                    "at most 1.05",
                ],
                [
                    "peak MiB",
                    f"{statistics.median(memory['supernet']):.0f}",
                    f"{statistics.median(largest):.0f} (the largest)",
                    str(ratio(memory["supernet"], largest)),
                    "at most 1.3",
                ],
            ]
        )
    )


if __name__ == "__main__":
    main()
