"""Time to look up the cost of an architecture, compared with tracing it at 768x512, and to build the tables.

Every repeat takes one random architecture of the space. fvcore traces its encoder and its decoder, and the
cost table adds up its entries. Both must give exactly the same MACs.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import torch
from common import arguments, heading, ratio, say, table

from nas.codec.codec import Codec
from nas.cost.counting.cache import load_or_measure_costs
from nas.graph.network import Supernet
from nas.profiling.audit import traced_edges
from nas.spaces.budget import REFERENCE_SIZE
from nas.spaces.space import SearchSpace

LOOKED_UP = 2000  # look-ups in a row, because one takes microseconds


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument("--space", default="joint-ar", help="search space")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    space = SearchSpace.load(given.space)
    with tempfile.TemporaryDirectory() as place:
        seconds = []
        for _ in range(2):  # the first time the costs are measured, the second time they are read
            began = time.perf_counter()
            costs = load_or_measure_costs(space, Path(place) / "costs.npz")
            seconds.append(time.perf_counter() - began)
    net, rng = Supernet(space), random.Random(0)
    traced, looked_up = [], []
    width, height = REFERENCE_SIZE
    for _ in range(given.repeats):
        architecture = space.sample(rng)
        codec = Codec(net.extract(architecture), architecture)
        began = time.perf_counter()
        found = traced_edges(codec, height, width)
        traced.append(time.perf_counter() - began)
        began = time.perf_counter()
        for _ in range(LOOKED_UP):
            macs = costs.macs(architecture, "encoder"), costs.macs(architecture, "decoder")
        looked_up.append((time.perf_counter() - began) / LOOKED_UP)
        if macs != tuple(sum(found[scope].values()) for scope in ("encoder", "decoder")):
            raise RuntimeError(f"{architecture.key}: table and trace differ")
    say(heading())
    say(f"{space.name}: {space.size:,} architectures")
    rows = [
        ["what", "seconds", "trace over it"],
        ["building the tables, then reading them", f"{seconds[0]:.2f}, {seconds[1]:.3f}", ""],
        ["a trace of encoder and decoder", f"{min(traced):.2f} to {max(traced):.2f}", ""],
        [
            "a look-up of both",
            f"{1e6 * min(looked_up):.1f} to {1e6 * max(looked_up):.1f} us",
            str(ratio(traced, looked_up)),
        ],
    ]
    say(table(rows))


if __name__ == "__main__":
    main()
