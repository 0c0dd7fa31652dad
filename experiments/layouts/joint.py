"""Layouts and weights in turn: the context model moves towards good layouts, then the layout is improved.

The shared weights serve every layout a little. Here a copy is trained on tables near the best known one, over
twice as many channel groups; then the table is improved on calibration photos under those weights; and so on.
What is reported is tuned from the shared weights, as all others are by `rates.py`, on --test photos.
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
CHANGED = 0.25  # of the cells, in tables near the best


def table_of(entry: dict[str, Any]) -> Array:
    """A committed layout's stages over the finer groups."""
    layout = Layout.from_dict({key: entry[key] for key in ("groups", "slope", "tile")})
    sizes = layout.group_of_channel[:: layout.channels // GROUPS]
    rows, columns = (2 // side for side in layout.table.shape[1:])
    return np.tile(layout.table[sizes], (1, rows, columns))


def near(table: Array, stages: int, channels: int, rng: random.Random) -> Layout:
    """A table in which some cells have a random stage."""
    changed = table.copy()
    for cell in np.ndindex(table.shape):
        if rng.random() < CHANGED:
            changed[cell] = rng.randrange(stages)
    return tiled_layout(channels, changed, "near")


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--test", type=Path, required=True, help="photos that nothing was chosen on (Kodak)")
    parser.add_argument("--stages", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--steps", type=int, default=800, help="of training near the best, each round")
    parser.add_argument("--seeds", type=int, default=2, help="of tuning in the end")
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
