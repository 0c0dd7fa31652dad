"""Train the shared context model further under random layouts, and store the supernet in half precision.

The backbone stays as `nas train` left it. Hand-made layouts only appear by chance, except for the two ends of
the range, none and raster.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import torch

from experiments.layouts.common import latents_of, load_supernet, options, part_of, reductions
from experiments.layouts.tuning import tune
from experiments.results import say
from nas.spaces.layout import Layout, named_layout, random_layout
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import Checkpoint, to_half_precision

ENDS = 1 / 16  # how often each end is drawn


def any_layout(space: SearchSpace, rng: random.Random) -> Layout:
    """Draw one of the ends, or a random table. Tables with more groups are more likely."""
    share = rng.random()
    if share < 2 * ENDS:
        return named_layout("none" if share < ENDS else "raster", space.y_channels, space.window)
    counts = [n for n in range(1, space.grouping.groups + 1) if space.grouping.groups % n == 0]
    (groups,) = rng.choices(counts, weights=counts)
    cells = groups * space.grouping.tile[0] * space.grouping.tile[1]
    return random_layout(space.y_channels, groups, space.grouping.tile, rng.randint(1, cells), rng)


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=6000, help="training steps")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="learning rate at the beginning")
    parser.add_argument(
        "--versions", type=int, default=3, help="versions of every photo; all but one are reduced"
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the new weights")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = load_supernet(given.weights)
    latents = latents_of(net, reductions(part_of(given.data, "train"), given.versions, given.seed))
    recent: list[float] = []

    def report(step: int, bpp: float) -> None:
        recent.append(bpp)
        if step % 250 == 0:
            say(f"{step}/{given.steps}  {sum(recent[-250:]) / 250:.4f} bpp of y")

    tune(
        net.context,
        latents,
        partial(any_layout, net.space),
        steps=given.steps,
        learning_rate=given.learning_rate,
        seed=given.seed,
        report=report,
    )
    Checkpoint(to_half_precision(net.state_dict()), {"context_steps": given.steps}).write(given.out)
    say(str(given.out))


if __name__ == "__main__":
    main()
