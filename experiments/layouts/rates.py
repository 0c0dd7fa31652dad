"""Compares the rates of hand-made, greedy and learned layouts with equal stages on unseen photos.

Layouts are found on calibration photos. The rates are those of --test photos (Kodak), once with the shared
weights and once tuned: only the context model is trained further for each layout, with the same steps and
seeds for all.
"""

from __future__ import annotations

import copy
import itertools
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.layouts.common import (
    ORDERS_2X2,
    RESULTS,
    latents_of,
    layout_named,
    load_supernet,
    options,
    part_of,
    reductions,
)
from experiments.layouts.relaxation import relax_layout
from experiments.layouts.tuning import tune
from experiments.results import facts, say, write_result
from nas.graph.context import ContextModel
from nas.searching.layouts.candidates import LayoutSettings, find_layouts
from nas.searching.layouts.grouping import FoundLayout
from nas.searching.layouts.rate import CalibrationLatents, LayoutRate
from nas.searching.layouts.vimco import learn_layout, random_starts
from nas.spaces.architecture import Grouping
from nas.spaces.layout import Layout

STAGES = (16, 12, 10, 8, 6, 4, 3, 2, 1)
HAND_MADE = (
    *("none", "checkerboard", "checkerboard-interlaced", "channelwise-2"),
    *("raster-2x2", *ORDERS_2X2, "channelwise-4", "channelwise-2-checkerboard"),
    *("channelwise-8", "channelwise-4-checkerboard", "elic-10", "multistage-4x4", "raster"),
)
TUNED_STAGES = (2, 4, 8, 10)  # stages of the found layouts that are tuned
UNTUNED = {"columns-2x2", "around-back-2x2", "diagonal-back-2x2"}
LEARNED_STAGES = (4, 8)  # stages at which VIMCO and the relaxation are compared
SETTINGS = LayoutSettings(photos=12, side=24, steps=40)


def tuned_rate(
    context: ContextModel,
    layout: Layout,
    train: list[CalibrationLatents],
    test: list[CalibrationLatents],
    steps: int,
    seed: int,
) -> float:
    """Tune the context model for one layout. Returns bpp of y on the test photos."""
    torch.set_num_threads(1)
    mine = copy.deepcopy(context)
    tune(mine, train, lambda rng: layout, steps=steps, seed=seed)
    return LayoutRate(mine, CalibrationLatents.stack(test))(layout)


def ablation(
    rate: LayoutRate, channels: int, grouping: Grouping, found: list[FoundLayout], seed: int
) -> list[Any]:
    """Compare VIMCO and the relaxation, from random orders and from the greedy layout, with its rate."""
    rows = []
    for greedy in found:
        stages = int(greedy.table.max()) + 1
        if stages not in LEARNED_STAGES or not greedy.layout.name.startswith("greedy"):
            continue
        begins = {"greedy": [greedy.table], "random": random_starts(grouping, stages, 3, seed)}
        ways = {"vimco": partial(learn_layout, steps=60), "relaxation": partial(relax_layout, steps=40)}
        for (method, way), (begin, starts) in itertools.product(ways.items(), begins.items()):
            began = time.perf_counter()
            fresh = LayoutRate(rate.context, rate.latents)
            best = way(fresh, channels, grouping, stages, starts=starts, seed=seed)
            rows.append(
                {
                    "stages": stages,
                    "method": method,
                    "begins": f"{begin}, {len(starts)} start{'s' * (len(starts) > 1)}",
                    "percent_over_greedy": 100 * (best.bpp / greedy.bpp - 1),
                    "layouts_scored": fresh.scored,
                    "seconds": time.perf_counter() - began,
                }
            )
            say(str(rows[-1]))
    return rows


_WORKER: dict[str, Any] = {}


def _work(name: str, layout: Layout, steps: int, seed: int) -> tuple[str, int, float]:
    return name, seed, tuned_rate(_WORKER["context"], layout, _WORKER["train"], _WORKER["test"], steps, seed)


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos that nothing was chosen on (Kodak)"
    )
    parser.add_argument("--steps", type=int, default=500, help="tuning steps of each layout")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds for the tuning")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = load_supernet(given.weights)
    channels = net.space.y_channels
    calibration = latents_of(net, part_of(given.data, "calibration"))
    middle = [part.middle(SETTINGS.side) for part in calibration[: SETTINGS.photos]]
    rate = LayoutRate(net.context, CalibrationLatents.stack(middle))
    test = latents_of(net, part_of(given.test))
    on_test = LayoutRate(net.context, CalibrationLatents.stack(test))
    grouping = net.space.grouping
    space = replace(net.space, grouping=Grouping(grouping.groups, grouping.tile, STAGES))
    began = time.perf_counter()
    found = find_layouts(rate, space, SETTINGS, seed=given.seed, report=_progress)
    search_seconds = time.perf_counter() - began
    layouts = {name: layout_named(name, channels) for name in HAND_MADE}
    layouts |= {f.layout.name: f.layout for f in found if f.layout.name != "greedy-1"}
    rows = {
        name: {
            "stages": layout.stages(),
            "calibration_bpp": rate(layout),
            "test_bpp": on_test(layout),
            **layout.to_dict(),
        }
        for name, layout in layouts.items()
    }
    content = facts(
        given.seed,
        search_seconds=search_seconds,
        calibration_photos=len(middle),
        test_photos=len(test),
        tuning_steps=given.steps,
        layouts=rows,
    )
    write_result(RESULTS / "rates.json", content)
    for name, row in rows.items():
        say(f"{name:28} {row['stages']:4}  {row['calibration_bpp']:.5f}  {row['test_bpp']:.5f}")

    _WORKER["context"], _WORKER["test"] = net.context, test
    _WORKER["train"] = latents_of(net, reductions(part_of(given.data, "train"), 2, given.seed))
    made = [n for n in layouts if n not in HAND_MADE and int(n.rpartition("-")[2]) in TUNED_STAGES]
    wanted = [*(n for n in HAND_MADE if n not in UNTUNED), *made]
    jobs = [(name, seed) for seed in range(given.seeds) for name in wanted]
    with ProcessPoolExecutor(given.workers, mp_context=get_context("fork")) as pool:
        futures = [pool.submit(_work, name, layouts[name], given.steps, seed) for name, seed in jobs]
        # computed while the pool works
        content["ablation"] = ablation(rate, channels, grouping, found, given.seed)
        write_result(RESULTS / "rates.json", content)
        for future in futures:
            name, seed, bpp = future.result()
            rows[name].setdefault("tuned_test_bpp", []).append(bpp)
            say(f"tuned {name:28} seed {seed}  {bpp:.5f}")
            write_result(RESULTS / "rates.json", content)
    say(f"means: { ({n: float(np.mean(rows[n]['tuned_test_bpp'])) for n in wanted}) }")


def _progress(done: int, total: int, note: str) -> None:
    if done % 10 == 0:
        say(f"{done}/{total}  {note}")


if __name__ == "__main__":
    main()
