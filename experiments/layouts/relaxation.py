"""A continuous relaxation of layout learning, for comparison with VIMCO.

Each cell's stage is a straight-through Gumbel-softmax sample (Jang et al., ICLR 2017). The masks, which say
which cell sees which, are then polynomials of the samples. Through them, the gradient of the rate reaches the
logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.graph.context import Cell
from nas.searching.layouts.grouping import FoundLayout, StageTables, cells_of
from nas.searching.layouts.rate import LayoutRate
from nas.searching.layouts.vimco import hash_of
from nas.spaces.architecture import Grouping
from nas.spaces.layout import Layout, closed
from nas.support.arrays import Array
from nas.support.progress import Report, silent
from nas.training.layout_logits import LayoutLogits
from nas.training.structure import gumbel_sample

HOT, COLD = 2.0, 0.3  # temperatures at the beginning and at the end


def relax_layout(
    rate: LayoutRate,
    channels: int,
    grouping: Grouping,
    stages: int,
    *,
    starts: Sequence[Array | None] = (None,),
    steps: int = 150,
    learning_rate: float = 0.1,
    seed: int = 0,
    report: Report = silent,
) -> FoundLayout:
    """Find the best layout within a number of stages over all starts. See `vimco.learn_layout`."""
    tables, best = StageTables(rate, channels), None
    stages = min(stages, cells_of(grouping))
    for number, start in enumerate(starts):
        rng = torch.Generator().manual_seed(hash_of(seed, stages, number))
        learned = LayoutLogits(channels, grouping, stages, learning_rate=learning_rate, start=start)
        for step in range(steps):
            temperature = HOT * (COLD / HOT) ** (step / max(1, steps - 1))
            chosen = torch.stack(
                [gumbel_sample(cell, temperature, rng) for cell in learned.logits.flatten(0, -2)]
            ).unflatten(0, learned.logits.shape[:-1])
            bits = relaxed_bits(rate, learned.layout(np.zeros(chosen.shape[:-1])), chosen)
            learned.optimizer.zero_grad()
            (bits / rate.pixels).backward()
            learned.optimizer.step()
            for table in (chosen.detach().argmax(-1).numpy(), learned.mode()):
                met = closed(table)
                if best is None or tables.rate(met) < best.bpp:
                    best = tables.as_found(met, f"relaxed-{stages}")
            assert best is not None
            note = f"start {number + 1}/{len(starts)}  {best.bpp:.4f} bpp"
            report(number * steps + step + 1, len(starts) * steps, note)
    assert best is not None
    return best


def relaxed_bits(rate: LayoutRate, tile: Layout, chosen: Tensor) -> Tensor:
    """Compute the bits of all photos together.

    Args:
        rate: the weights, which get no gradient, and the latents.
        tile: any layout with these groups and this size of tile.
        chosen: each cell's stage as weights over the stages, [groups, rows, columns, stages].
    """
    frozen = [(parameter, parameter.requires_grad) for parameter in rate.context.parameters()]
    for parameter, _ in frozen:
        parameter.requires_grad_(False)
    try:
        total = chosen.new_zeros(())
        for part in rate.latents:
            for cell in relaxed_cells(chosen, rate.context.window):
                total = total - rate.likelihood(part, tile, cell).log2().sum()
        return total
    finally:
        for parameter, wanted in frozen:
            parameter.requires_grad_(wanted)


def relaxed_cells(chosen: Tensor, window: int) -> list[Cell]:
    """Make the cells of a tile from weights of stages, [groups, rows, columns, stages].

    If the weights are one-hot, the masks are those of the layout.
    """
    groups, rows, columns, _ = chosen.shape
    reach = window // 2
    offsets = torch.arange(-reach, reach + 1)
    # [..., s]: probability that the stage is greater than s, and that it is at least s
    from_here = chosen.flip(-1).cumsum(-1).flip(-1)
    later = F.pad(from_here[..., 1:], (0, 1))
    own = torch.ones(groups, groups, window, window)
    own[torch.arange(groups), torch.arange(groups), reach, reach] = 0  # an element never sees itself
    cells = []
    for row in range(rows):
        for column in range(columns):
            near = chosen[:, ((row + offsets) % rows)[:, None], ((column + offsets) % columns)[None]]
            visible = own * torch.einsum("gs,hijs->ghij", later[:, row, column], near)
            known = torch.einsum("gs,hs->gh", from_here[:, row, column], chosen[:, row, column])
            known = known * (1 - torch.eye(groups)) + torch.eye(groups)  # a group always sees its own units
            live = (visible.detach().flatten(1).amax(1) > 0).to(chosen.dtype)
            cells.append(Cell(row, column, visible, live, known))
    return cells
