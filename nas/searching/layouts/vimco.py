"""Layouts learned with VIMCO on frozen weights, over the same tables that greedy grouping searches."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch

from nas.searching.layouts.grouping import FoundLayout, StageTables, cells_of, shape_of
from nas.searching.layouts.rate import LayoutRate
from nas.spaces.architecture import Grouping
from nas.spaces.layout import closed, random_table
from nas.support.arrays import Array
from nas.support.progress import Report, silent
from nas.training.layout_logits import VIMCO_SAMPLES, LayoutLogits

VIMCO_STEPS = 150
SURE = 0.995  # mean certainty at which a start stops


def learn_layout(
    rate: LayoutRate,
    channels: int,
    grouping: Grouping,
    stages: int,
    *,
    starts: Sequence[Array | None] = (None,),
    steps: int = VIMCO_STEPS,
    samples: int = VIMCO_SAMPLES,
    learning_rate: float = 0.1,
    seed: int = 0,
    report: Report = silent,
) -> FoundLayout:
    """Learn layouts from several starts, and return the best one that any start met.

    All photos form one batch, so the weight of a sample is exact. A table that was met before costs nothing.

    Args:
        rate: the rate of y. The bits of all its photos together are minus log w, in bits.
        channels: number of channels of y.
        grouping: the tile and its groups.
        stages: number of stages that each cell chooses from.
        starts: tables to begin near, or None to begin with equal logits: see `random_starts`.
        steps: largest number of steps for each start.
        samples: number of samples K per step.
        learning_rate: learning rate of the logits.
        seed: seed of all samples.
        report: called with the work done, the total work and a note.
    """
    tables, best = StageTables(rate, channels), None
    stages = min(stages, cells_of(grouping))
    for number, start in enumerate(starts):
        rng = torch.Generator().manual_seed(hash_of(seed, stages, number))
        logits = LayoutLogits(
            channels, grouping, stages, samples=samples, learning_rate=learning_rate, start=start
        )
        for step in range(steps):
            drawn = logits.draw(rng)
            met = [closed(table.numpy()) for table in drawn]
            bpp = [tables.rate(table) for table in met]
            logits.learn(drawn, [rate.pixels * value for value in bpp])
            likeliest = int(np.argmin(bpp))
            if best is None or bpp[likeliest] < best.bpp:
                best = tables.as_found(met[likeliest], f"learned-{stages}")
            note = f"start {number + 1}/{len(starts)}  {best.bpp:.4f} bpp"
            report(number * steps + step + 1, len(starts) * steps, note)
            if logits.certainty() > SURE:
                break
        mode = logits.mode()
        if best is None or tables.rate(mode) < best.bpp:
            best = tables.as_found(mode, f"learned-{stages}")
    assert best is not None
    return best


def random_starts(grouping: Grouping, stages: int, count: int, seed: int) -> list[Array]:
    """Draw random tables as starts.

    Args:
        grouping: channel groups and tile.
        stages: number of stages.
        count: number of tables.
        seed: seed of the random numbers.

    Returns:
        `count` tables, [groups, rows, columns] each.
    """
    rng = random.Random(f"starts {seed} {stages}")
    return [random_table(shape_of(grouping), stages, rng) for _ in range(count)]


def hash_of(*numbers: int) -> int:
    """Combine several numbers into one seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
