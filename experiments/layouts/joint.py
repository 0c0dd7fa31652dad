"""Improves a layout and the weights of the context model in turn.

The shared weights fit no layout in particular. Here, a copy of them is trained on tables near the best known
one, with twice as many channel groups. Then the table is improved on calibration photos with these weights,
and so on. The reported rate is that on --test photos after tuning the shared weights, as in `rates.py`.
"""

from __future__ import annotations

import copy
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.layouts.common import RESULTS, latents_of, load_supernet, options, part_of, reductions
from experiments.layouts.rates import SETTINGS, tuned_rate
from experiments.layouts.tuning import tune
from experiments.results import facts, read_result, say, write_result
from nas.searching.layouts.grouping import StageTables
from nas.searching.layouts.rate import CalibrationLatents, LayoutRate
from nas.spaces.layout import Layout, tiled_layout
from nas.support.arrays import Array

GROUPS, ROUNDS = 8, 2
CHANGED = 0.25  # share of cells that are changed in tables near the best


def table_of(entry: dict[str, Any]) -> Array:
    """Return the stages of a committed layout over the finer groups."""
    layout = Layout.from_dict({key: entry[key] for key in ("groups", "slope", "tile")})
    sizes = layout.group_of_channel[:: layout.channels // GROUPS]
    rows, columns = (2 // side for side in layout.table.shape[1:])
    return np.tile(layout.table[sizes], (1, rows, columns))


def near(table: Array, stages: int, channels: int, rng: random.Random) -> Layout:
    """Make a layout in which some cells of a table have a random stage."""
    changed = table.copy()
    for cell in np.ndindex(table.shape):
        if rng.random() < CHANGED:
            changed[cell] = rng.randrange(stages)
    return tiled_layout(channels, changed, "near")


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos that nothing was chosen on (Kodak)"
    )
    parser.add_argument("--stages", type=int, nargs="+", default=[4, 8], help="numbers of stages")
    parser.add_argument(
        "--steps", type=int, default=800, help="training steps near the best table, in each round"
    )
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds for the final tuning")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = load_supernet(given.weights)
    channels = net.space.y_channels
    rates = read_result(RESULTS / "rates.json")
    calibration = latents_of(net, part_of(given.data, "calibration"))[: SETTINGS.photos]
    middle = CalibrationLatents.stack([part.middle(SETTINGS.side) for part in calibration])
    train = latents_of(net, reductions(part_of(given.data, "train"), 2, given.seed))
    test = latents_of(net, part_of(given.test))
    rows: dict[str, Any] = {}
    for stages in given.stages:
        began = time.perf_counter()
        table = table_of(rates["layouts"][f"greedy-{stages}"])
        context = copy.deepcopy(net.context)

        bpp = []
        for turn in range(ROUNDS):
            tune(
                context,
                train,
                partial(near, table, stages, channels),
                steps=given.steps,
                seed=given.seed + turn,
            )
            tables = StageTables(LayoutRate(context, middle), channels)
            bpp.append(tables.rate(table))
            table = tables.improve(table, pairs=turn == ROUNDS - 1)
            bpp.append(tables.rate(table))
            say(f"{stages} stages, round {turn + 1}: {bpp[-2]:.5f} to {bpp[-1]:.5f} bpp")
        seconds = time.perf_counter() - began
        layout = tables.layout(table, f"joint-{stages}").reduced()
        tuned = []
        for seed in range(given.seeds):
            tuned.append(tuned_rate(net.context, layout, train, test, rates["tuning_steps"], seed))
            say(f"{layout.name} tuned, seed {seed}: {tuned[-1]:.5f} bpp")
        rows[layout.name] = {
            "stages": layout.stages(),
            "calibration_bpp": LayoutRate(net.context, middle)(layout),
            "test_bpp": LayoutRate(net.context, CalibrationLatents.stack(test))(layout),
            "tuned_test_bpp": tuned,
            "rounds_bpp": bpp,
            "seconds": seconds,
            **layout.to_dict(),
        }
        write_result(RESULTS / "joint.json", facts(given.seed, steps=given.steps, layouts=rows))


if __name__ == "__main__":
    main()
