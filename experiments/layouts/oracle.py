"""Compares layout searches with all 256 tables of two channel groups, 2x2 cells and two stages.

Greedy grouping, VIMCO and a relaxation choose a table on calibration photos. The results are their excess
over the best table, on calibration photos and on held-out photos.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import torch

from experiments.layouts.common import RESULTS, latents_of, load_supernet, options, part_of
from experiments.layouts.relaxation import relax_layout
from experiments.results import facts, say, write_result
from nas.searching.layouts.grouping import greedy_layouts
from nas.searching.layouts.rate import CalibrationLatents, LayoutRate
from nas.searching.layouts.vimco import learn_layout, random_starts
from nas.spaces.architecture import Grouping
from nas.spaces.layout import Layout, named_layout, tiled_layout

GROUPING = Grouping(2, (2, 2), (2,))
STARTS = 8


def shifted(table: np.ndarray) -> frozenset[bytes]:
    """Return a table and its shifts by whole cells. They differ only at the borders."""
    return frozenset(np.roll(table, (i, j), (1, 2)).tobytes() for i in (0, 1) for j in (0, 1))


def main() -> None:
    given = options(__doc__ or "").parse_args()
    torch.set_num_threads(given.threads)
    net = load_supernet(given.weights)
    channels = net.space.y_channels
    rates = {
        part: LayoutRate(net.context, CalibrationLatents.stack(latents_of(net, part_of(given.data, part))))
        for part in ("calibration", "held-out")
    }
    tables = [np.array(bits).reshape(2, 2, 2) for bits in itertools.product((0, 1), repeat=8)]
    layouts = [tiled_layout(channels, table, "table") for table in tables]
    began = time.perf_counter()
    found = {part: [rate(layout) for layout in layouts] for part, rate in rates.items()}
    seconds = time.perf_counter() - began
    best = {part: min(values) for part, values in found.items()}
    winner = tables[int(np.argmin(found["calibration"]))]

    def excess(layout: Layout) -> dict[str, float]:
        return {part: 100 * (rate(layout) / best[part] - 1) for part, rate in rates.items()}

    methods: dict[str, Any] = {}
    ways = {
        "greedy": lambda rate: greedy_layouts(
            rate, channels, GROUPING, ladders=STARTS // 2, rivals=STARTS // 2, seed=given.seed
        )[0],
        "vimco": lambda rate: learn_layout(
            rate,
            channels,
            GROUPING,
            2,
            starts=random_starts(GROUPING, 2, STARTS, given.seed),
            seed=given.seed,
        ),
        "vimco, one start": lambda rate: learn_layout(rate, channels, GROUPING, 2, seed=given.seed),
        "relaxation": lambda rate: relax_layout(
            rate, channels, GROUPING, 2, starts=[None] * 4, steps=40, seed=given.seed
        ),
    }
    for name, way in ways.items():
        fresh = LayoutRate(net.context, rates["calibration"].latents)  # without cached rates
        began = time.perf_counter()
        answer = way(fresh)
        methods[name] = {
            "table": answer.table.tolist(),
            "excess_percent": excess(answer.layout),
            "tables_scored": fresh.scored,
            "seconds": time.perf_counter() - began,
        }
        say(f"{name}: {methods[name]}")
    named = ("none", "checkerboard", "checkerboard-interlaced", "channelwise-2", "raster")
    content = facts(
        given.seed,
        tables=len(tables),
        up_to_shifts=len({shifted(table) for table in tables}),
        enumeration_seconds=seconds,
        photos={part: sum(len(p.y_hat) for p in rate.latents) for part, rate in rates.items()},
        best_bpp=best,
        best_table=winner.tolist(),
        mean_excess_percent={part: 100 * (np.mean(v) / best[part] - 1) for part, v in found.items()},
        held_out_excess_of_calibrations_best_percent=excess(tiled_layout(channels, winner, "best"))[
            "held-out"
        ],
        methods=methods,
        named_excess_percent={name: excess(named_layout(name, channels)) for name in named},
    )
    write_result(RESULTS / "oracle.json", content)
    say(str(content))


if __name__ == "__main__":
    main()
