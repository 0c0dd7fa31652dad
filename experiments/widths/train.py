"""Train `zoo:patch` further for several kinds of structure. Members of all kinds are drawn equally often.

    python -m experiments.widths.train --data PHOTOS --run RUN
    python -m experiments.widths.train --data PHOTOS --run OWN --kinds one-width    # shares with no other

If it is interrupted (Ctrl-C, SIGTERM), it keeps its state. Run the same command again: it continues.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.flagship.train import RECIPE, train
from experiments.spaces import same_network
from experiments.widths.common import KINDS, WHOLE, space_of
from nas.analysis.rank_spread import spread
from nas.cost.counting.tabulate import measured_costs
from nas.spaces.architecture import Architecture
from nas.training.settings import read_recipe

MEMBERS = 16  # members of each kind, spread evenly over its MACs; one width has no more


def members(kinds: Sequence[str], seed: int) -> list[str]:
    """Return the keys of the same number of architectures of each kind, ordered by MACs.

    Args:
        kinds: some of `KINDS`.
        seed: seed of the random numbers.
    """
    whole = space_of(WHOLE)
    costs, rng = measured_costs(whole), random.Random(seed)
    chosen: list[Architecture] = []
    for kind in kinds:
        space = space_of(kind)
        if space.size <= MEMBERS:
            own = [space.at(places) for places in itertools.product(*map(range, space.shape))]
        else:
            drawn = spread(measured_costs(space), MEMBERS, seed)
            own = [space.under(rng.choice(space.layout_names), architecture) for architecture in drawn]
        chosen += [same_network(space, architecture, whole) for architecture in own]
    return [architecture.key for architecture in sorted(chosen, key=costs.kmac_px)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND", help="what is trained"
    )
    parser.add_argument("--steps", type=int, default=6000, help="training steps")
    parser.add_argument("--seed", type=int, default=0, help="seed for all random choices")
    chosen = parser.parse_args(arguments)
    settings = {
        **read_recipe(RECIPE),
        "lmbda": "0.0018..0.18",
        "strategy": "front",
        "members": members(chosen.kinds, chosen.seed),
        "elsewhere": 0.0,
        "moved": 0.3,
        "random_layouts": 0.0,
        "preview_every": 0,
        "steps": chosen.steps,
        "seed": chosen.seed,
    }
    train(space_of(WHOLE), chosen.data, chosen.run, settings)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
