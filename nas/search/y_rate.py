"""The rate of y from parts that are computed apart, so that architectures can share them.

The first of the three pointwise layers is a sum over what it reads: a part of psi, and a part of phi. Only
what follows that sum has to run for every pair of them::

    psi --> hyper part ----+
                           +--> activation, second and third layer --> scales, means --> bits of y
    phi --> context part --+

psi depends on (g_a, h_a, h_s), phi on (g_a, layout). Stage by stage, as when coding (`graph.staged`), hidden
units read only those known by then, so nothing is multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.graph.context import ContextModel, Weights, layout_cells
from nas.graph.entropy import ConditionalGaussian, coded_range
from nas.graph.layers import LEAKY_SLOPE
from nas.graph.layout import Array, Layout
from nas.graph.staged import BlockPlan, plan

Rows = Tensor | slice


class Step(NamedTuple):
    """The weights of one stage's channel groups at some positions; inputs known sooner come first.

    Attributes:
        channels: those of y, n of them.
        first: from the features of phi known by then to the stage's units, [units, features].
        second: from the units known by then, [units, known], and its bias [units, 1].
        third: likewise to scales and then means, [2n, known] and [2n, 1].
    """

    channels: Rows
    first: Tensor
    second: Weights
    third: Weights


class Phase(NamedTuple):
    """The positions at which the channel groups follow one another in one way, and what runs there.

    Attributes:
        places: rows and columns of the latent, as slices; one pair for each cell of the tile, or for all.
        units: those of the first layer, in the order in which they are known.
        features: of phi, likewise.
        steps: stage by stage.
    """

    places: tuple[tuple[slice, slice], ...]
    units: Rows
    features: Rows
    steps: tuple[Step, ...]

    def take(self, values: Tensor, rows: Rows) -> Tensor:
        """Some rows of values, [C, h, w], at the phase's positions, [rows, positions]; a view if it can."""
        taken = values[rows]
        parts = [taken[:, down, across].flatten(1) for down, across in self.places]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def layout_phases(context: ContextModel, layout: Layout) -> tuple[Phase, ...]:
    """What a context model runs under a layout, at its active widths."""
    (w1, _), (w2, _), _ = context.pointwise()
    at_cell: dict[tuple[int, int], list[tuple[tuple[int, ...], BlockPlan]]] = {}
    plans = plan(layout, context.window, (len(w1), len(w2)))
    for block, planned in zip(layout.blocks(context.window), plans, strict=True):
        at_cell.setdefault((block.row, block.column), []).append((block.groups, planned))
    alike: dict[tuple[tuple[int, ...], ...], list[tuple[int, int]]] = {}
    for cell, stages in at_cell.items():
        alike.setdefault(tuple(groups for groups, _ in stages), []).append(cell)
    _, rows, columns = layout.table.shape
    everywhere = ((slice(None), slice(None)),)
    found = []
    for cells in alike.values():
        places = tuple((slice(row, None, rows), slice(column, None, columns)) for row, column in cells)
        stages = at_cell[cells[0]]
        found.append(_phase(context, everywhere if len(alike) == 1 else places, [s for _, s in stages]))
    return tuple(found)


@torch.no_grad()
def _phase(
    context: ContextModel, places: tuple[tuple[slice, slice], ...], stages: Sequence[BlockPlan]
) -> Phase:
    (w1, _), (w2, b2), (w3, b3) = context.pointwise()
    of_phi = w1[:, -2 * context.channels :]

    def rows(name: str, stages: Sequence[BlockPlan]) -> Rows:
        return _rows(np.concatenate([getattr(stage, name) for stage in stages]), w1.device)

    steps = []
    for count, stage in enumerate(stages, 1):
        known, mine = stages[:count], [stage]
        units_2, outputs = rows("units_2", mine), rows("outputs", mine)
        steps.append(
            Step(
                channels=rows("channels", mine),
                first=of_phi[rows("units_1", mine)][:, rows("outputs", known)],
                second=(w2[units_2][:, rows("units_1", known)], b2[units_2][:, None]),
                third=(w3[outputs][:, rows("units_2", known)], b3[outputs][:, None]),
            )
        )
    return Phase(places, rows("units_1", stages), rows("outputs", stages), tuple(steps))


def _rows(index: Array, device: torch.device) -> Rows:
    """Rows by number: as a slice where they follow one another, so that taking them copies nothing."""
    first = int(index[0]) if len(index) else 0
    if (index == np.arange(first, first + len(index))).all():
        return slice(first, first + len(index))
    return torch.from_numpy(index).to(device)


@torch.no_grad()
def hyper_part(context: ContextModel, psi: Tensor) -> Tensor:
    """What psi, [1, 2M, h, w], gives the first layer's units, their bias with it: [u1, h, w]."""
    weight, bias = context.pointwise()[0]
    part = torch.addmm(bias[:, None], weight[:, : psi.shape[1]], psi[0].flatten(1))
    return part.unflatten(1, psi.shape[-2:])


@torch.no_grad()
def context_part(
    context: ContextModel, y_hat: Tensor, layout: Layout, phases: tuple[Phase, ...]
) -> tuple[Tensor, ...]:
    """What the elements decoded before give them: [u1, positions] for each phase, in its order.

    Args:
        context: the model that the phases are of.
        y_hat: integers, [1, M, h, w].
        layout: the order of decoding; where nothing has a context there is no such part.
        phases: what runs under it.
    """
    if not layout.has_context:
        return ()
    _, rows, columns = layout.table.shape
    cells = layout_cells(layout, context.window)
    phi = y_hat.new_zeros(2 * context.channels, *y_hat.shape[-2:])
    for cell, found in zip(cells, context.predict(y_hat, layout, cells), strict=True):
        if found is not None:
            here = phi[:, cell.row :: rows, cell.column :: columns]
            here.copy_(found[0, :, : here.shape[1], : here.shape[2]])
    parts = []
    for phase in phases:
        seen = phase.take(phi, phase.features)
        parts.append(torch.cat([step.first @ seen[: step.first.shape[1]] for step in phase.steps]))
    return tuple(parts)


@torch.no_grad()
def y_bits(
    gaussian: ConditionalGaussian,
    y_hat: Tensor,
    hyper: Tensor,
    seen: tuple[Tensor, ...],
    phases: tuple[Phase, ...],
) -> float:
    """Bits of y_hat, [1, M, h, w], from the hyper part and the context part of its parameters."""
    limit, total = float(coded_range(y_hat)), 0.0
    for number, phase in enumerate(phases):
        hidden_1 = phase.take(hyper, phase.units)
        hidden_1 = F.leaky_relu(hidden_1 + seen[number] if seen else hidden_1, LEAKY_SLOPE)
        count = sum(len(step.second[0]) for step in phase.steps)
        hidden_2, known = hidden_1.new_empty(count, hidden_1.shape[1]), 0
        for step in phase.steps:
            (w2, b2), (w3, b3) = step.second, step.third
            mine = hidden_2[known : known + len(w2)]
            torch.addmm(b2, w2, hidden_1[: w2.shape[1]], out=mine)
            F.leaky_relu_(mine, LEAKY_SLOPE)
            known += len(w2)
            scales, means = torch.addmm(b3, w3, hidden_2[:known]).chunk(2)
            total += gaussian.coded_bits(phase.take(y_hat[0], step.channels), scales, means, limit)
    return total
