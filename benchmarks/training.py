"""Time of a training step on this CPU: of the toolkit, in plain torch, and of CompressAI.

Three steps take the same crops in turn. The first one is `nas train`'s own, on a space's widest architecture.
The second trains the same network in plain layers, with CompressAI's GDN, channels last, and torch's Adam.
The third trains CompressAI's model of the family with its own loss, at the same widths of g_a, g_s and y. The
output also has the toolkit's MACs per second, as a share of those of a large matrix product in the same
precision. A step counts as three forward passes.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import arguments, heading, interleaved, ratio, say, table
from compressai.losses import RateDistortionLoss
from compressai.models import JointAutoregressiveHierarchicalPriors, MeanScaleHyperprior
from torch import Tensor, nn

from nas.cost.counting.tabulate import measured_costs
from nas.graph import _compressai
from nas.graph.layers.gdn import GDN
from nas.graph.network import CodecNetwork
from nas.metrics.losses import batch_losses
from nas.metrics.objective import Objective
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.training.devices import make_fabric
from nas.training.loop import Training
from nas.training.settings import TrainingSettings

PRODUCT = 1024
THEIRS = {"joint-ar": JointAutoregressiveHierarchicalPriors, "mean-scale-hyperprior": MeanScaleHyperprior}
Step = Callable[[Tensor], Any]


def ours(space: SearchSpace, precision: str, optimizer: str, folder: Path) -> Step:
    """Make a function that takes one training step of the toolkit on the space's only architecture."""
    values = {"precision": precision, "optimizer": optimizer, "strategy": "uniform", "architectures": 1}
    run = Run.create(folder, space, TrainingSettings.make({**values, "random_layouts": 0.0}).model_dump())
    training, numbers = Training(run, make_fabric("cpu", precision)), itertools.count()
    return lambda x: training.step(next(numbers), x)


def stepped(net: nn.Module, loss: Callable[[Tensor], Tensor], precision: str) -> Step:
    """Make a training step as people write it in plain torch."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-4)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            found = loss(x.contiguous(memory_format=torch.channels_last))
        found.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return step


def plain(space: SearchSpace, precision: str) -> Step:
    """Make a step of the same network in plain layers, with CompressAI's GDN and channels last."""
    net = CodecNetwork(space).to(memory_format=torch.channels_last)
    for edge in (net.g_a, net.g_s):
        for name, layer in edge.named_modules():
            if isinstance(layer, GDN):
                other = _compressai.GDN(len(layer.beta), inverse=layer.inverse)
                edge.set_submodule(name, other)
    layout = space.layout(space.widest())

    def loss(x: Tensor) -> Tensor:
        return batch_losses(x, net(x, layout, lambda y: torch.rand_like(y) - 0.5), Objective(0.013)).total

    return stepped(net, loss, precision)


def theirs(space: SearchSpace, precision: str) -> Step | None:
    """Make a step of CompressAI's model with its own loss. None if it has no such model."""
    if space.family.name not in THEIRS:
        return None
    net = THEIRS[space.family.name](space.candidates("g_a.1")[-1], space.y_channels)
    criterion = RateDistortionLoss(0.013)
    return stepped(
        net.to(memory_format=torch.channels_last), lambda x: criterion(net(x), x)["loss"], precision
    )


def main() -> None:
    parser = arguments(__doc__ or "", repeats=9)
    parser.add_argument("--space", default="joint-ar-small", help="search space")
    parser.add_argument("--arch", help="key of the architecture to train; default: the widest")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32", help="precision of the step")
    parser.add_argument("--optimizer", default="adam", help="optimiser of the toolkit's step")
    parser.add_argument("--batch", type=int, default=4, help="crops per step")
    parser.add_argument("--crop", type=int, default=256, help="side of a crop in pixels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    whole = SearchSpace.load(options.space)
    space = whole.only(whole.parse(options.arch) if options.arch else whole.widest())
    x = torch.rand(options.batch, 3, options.crop, options.crop)
    kind = torch.bfloat16 if options.precision == "bf16" else torch.float32
    matrix = torch.randn(PRODUCT, PRODUCT).to(kind)
    say(heading() + f", {options.space}, {options.batch} crops of {options.crop}, {options.precision}")
    with tempfile.TemporaryDirectory() as place:
        steps: dict[str, Step | None] = {
            "toolkit": ours(space, options.precision, options.optimizer, Path(place) / "run"),
            "plain torch": plain(space, options.precision),
            "CompressAI": theirs(space, options.precision),
        }
        sides = {name: lambda step=step: step(x) for name, step in steps.items() if step is not None}
        seconds = interleaved(
            {**sides, "product": lambda: matrix @ matrix}, options.repeats, time.process_time
        )
    megapixels = options.batch * options.crop**2 / 1e6
    rows = [["", "CPU s", "megapixels/s", "its time over the toolkit's"]]
    for name in sides:
        median = statistics.median(seconds[name])
        over = str(ratio(seconds[name], seconds["toolkit"]))
        rows.append([name, f"{median:.3f}", f"{megapixels / median:.2f}", over])
    say(table(rows))
    cost = measured_costs(space).kmac_px(space.widest())
    macs = 3 * cost * 1e9 * megapixels
    rate = macs / statistics.median(seconds["toolkit"])
    product = PRODUCT**3 / statistics.median(seconds["product"])
    say(f"{cost:.1f} kMAC/px; toolkit: {rate / product:.2f} of a {PRODUCT}x{PRODUCT} product's rate")


if __name__ == "__main__":
    main()
