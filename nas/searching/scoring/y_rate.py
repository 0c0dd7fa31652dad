"""The rate of y from separately computed parts, which several architectures can share.

The first of the three pointwise layers is a sum of two parts: one reads psi, the other reads phi. Only what
follows this sum has to run for every pair of parts::

    psi --> hyper part ----+
                           +--> activation, second and third layer --> scales, means --> bits of y
    phi --> context part --+

psi depends on (g_a, h_a, h_s), phi on (g_a, layout). As in coding (`graph.staged`), hidden units of a stage
read only units that are known by then, so nothing is multiplied by zero. Where nothing was decoded before
(half of a checkerboard), the bits equal those of the layout `none`.
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
from nas.graph.layers.build import LEAKY_SLOPE
from nas.graph.staged import BlockPlan
from nas.graph.staged import plan as block_plans
from nas.spaces.layout import Block, Layout, named_layout
from nas.support.arrays import Array

RowIndex = Tensor | slice
TileCell = tuple[int, int]
Places = tuple[tuple[slice, slice], ...]
EVERYWHERE = ((slice(None), slice(None)),)


class StageWeights(NamedTuple):
    """The weights of one stage's channel groups at some positions. Inputs that are known earlier come first.

    Attributes:
        channels: the n channels of y that are decoded.
        first: from the known features of phi to the units of the stage, [units, features].
        second: from the known units, [units, known], and the bias, [units, 1].
        third: likewise to scales and then means, [2n, known] and [2n, 1].
    """

    channels: RowIndex
    first: Tensor
    second: Weights
    third: Weights


class Phase(NamedTuple):
    """Positions at which the channel groups are decoded in the same order, and what runs there.

    Attributes:
        places: see `take`.
        units: units of the first layer, in the order in which they become known.
        features: features of phi, in the same way.
        steps: the weights, stage by stage.
    """

    places: Places
    units: RowIndex
    features: RowIndex
    steps: tuple[StageWeights, ...]


class LayoutPlan(NamedTuple):
    """What a context model at its active widths runs under a layout.

    Attributes:
        alone: positions at which no element sees another one: see `take`.
        phases: all other positions.
    """

    alone: Places
    phases: tuple[Phase, ...]


def take(values: Tensor, channels: RowIndex, places: Places) -> Tensor:
    """Take some channels of values, [C, h, w], at some positions: [channels, positions]. A view if possible.

    Args:
        values: values of the whole latent.
        channels: indexes of the channels, or a slice of them.
        places: rows and columns as slices, one pair for each cell of the tile.
    """
    taken = values[channels] if isinstance(channels, slice) else values.index_select(0, channels)
    parts = [taken[:, down, across].flatten(1) for down, across in places]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def layout_plan(context: ContextModel, layout: Layout) -> LayoutPlan:
    """Make the plan of a layout. Cells of the tile with the same order of groups share a phase.

    Args:
        context: context model of the supernet, with its active widths.
        layout: the layout.
    """
    (w1, _), (w2, _), _ = context.pointwise()
    plans = block_plans(layout, context.window, (len(w1), len(w2)), context.phi)
    at_cell: dict[TileCell, list[tuple[Block, BlockPlan]]] = {}
    for block, planned in zip(layout.blocks(context.window), plans, strict=True):
        at_cell.setdefault((block.row, block.column), []).append((block, planned))
    alone: list[TileCell] = []
    alike: dict[tuple[tuple[int, ...], ...], list[TileCell]] = {}
    for cell, stages in at_cell.items():
        if len(stages) == 1 and not stages[0][0].visible.any():
            alone.append(cell)
        else:
            alike.setdefault(tuple(block.groups for block, _ in stages), []).append(cell)
    return LayoutPlan(
        _places(alone, layout),
        tuple(
            _phase(context, _places(cells, layout), [planned for _, planned in at_cell[cells[0]]])
            for cells in alike.values()
        ),
    )


def _places(cells: Sequence[TileCell], layout: Layout) -> Places:
    _, rows, columns = layout.table.shape
    if len(cells) == rows * columns:
        return EVERYWHERE
    return tuple((slice(row, None, rows), slice(column, None, columns)) for row, column in cells)


@torch.no_grad()
def _phase(context: ContextModel, places: Places, stages: Sequence[BlockPlan]) -> Phase:
    (w1, _), (w2, b2), (w3, b3) = context.pointwise()
    of_phi = w1[:, -context.phi :]

    def rows(name: str, stages: Sequence[BlockPlan]) -> RowIndex:
        return _rows(np.concatenate([getattr(stage, name) for stage in stages]), w1.device)

    steps = []
    for count, stage in enumerate(stages, 1):
        earlier, mine = stages[:count], [stage]
        units_2, outputs = rows("units_2", mine), rows("outputs", mine)
        steps.append(
            StageWeights(
                channels=rows("channels", mine),
                first=of_phi[rows("units_1", mine)][:, rows("features", earlier)],
                second=(w2[units_2][:, rows("units_1", earlier)], b2[units_2][:, None]),
                third=(w3[outputs][:, rows("units_2", earlier)], b3[outputs][:, None]),
            )
        )
    return Phase(places, rows("units_1", stages), rows("features", stages), tuple(steps))


def _rows(index: Array, device: torch.device) -> RowIndex:
    """Indexes as a slice if they are consecutive, so that taking these rows copies nothing."""
    first = int(index[0]) if len(index) else 0
    if (index == np.arange(first, first + len(index))).all():
        return slice(first, first + len(index))
    return torch.from_numpy(index).to(device)


@torch.no_grad()
def hyper_part(context: ContextModel, psi: Tensor) -> Tensor:
    """The contribution of psi, [1, P, h, w], to the units of the first layer, with their bias: [u1, h, w].

    Args:
        context: context model of the supernet, with its active widths.
        psi: hyper features of one photo.
    """
    weight, bias = context.pointwise()[0]
    part = torch.addmm(bias[:, None], weight[:, : psi.shape[1]], psi[0].flatten(1))
    as_picture: Tensor = part.unflatten(1, psi.shape[-2:])
    return as_picture


@torch.no_grad()
def context_part(
    context: ContextModel, y_hat: Tensor, layout: Layout, phases: tuple[Phase, ...]
) -> tuple[Tensor, ...]:
    """The contribution of previously decoded elements: [u1, positions] for each phase, in order.

    Args:
        context: the model that the phases belong to.
        y_hat: integers, [1, M, h, w].
        layout: the order of decoding.
        phases: phases of the layout's plan.
    """
    if not phases:
        return ()
    _, rows, columns = layout.table.shape
    cells = layout_cells(layout, context.window)
    phi = y_hat.new_zeros(context.phi, *y_hat.shape[-2:])
    for cell, prediction in zip(cells, context.predict(y_hat, layout, cells), strict=True):
        if prediction is not None:
            here = phi[:, cell.row :: rows, cell.column :: columns]
            here.copy_(prediction[0, :, : here.shape[1], : here.shape[2]])
    parts = []
    for phase in phases:
        seen = take(phi, phase.features, phase.places)
        parts.append(torch.cat([step.first @ seen[: step.first.shape[1]] for step in phase.steps]))
    return tuple(parts)


@torch.no_grad()
def bits_alone(context: ContextModel, gaussian: ConditionalGaussian, y_hat: Tensor, hyper: Tensor) -> Tensor:
    """Bits of every position of y_hat, [1, M, h, w], if no element saw another one: [1, h, w].

    Args:
        context: context model of the network, at the active widths.
        gaussian: conditional Gaussian of the network.
        y_hat: integers.
        hyper: the hyper part.
    """
    hidden = len(context.pointwise()[0][0]), len(context.pointwise()[1][0])
    stages = block_plans(named_layout("none", context.channels), context.window, hidden, context.phi)
    phase = _phase(context, EVERYWHERE, stages)
    return _bits(gaussian, phase, y_hat, hyper, None).view(1, *y_hat.shape[-2:])


@torch.no_grad()
def y_bits(
    gaussian: ConditionalGaussian,
    plan: LayoutPlan,
    y_hat: Tensor,
    hyper: Tensor,
    seen: tuple[Tensor, ...],
    alone: Tensor | None,
) -> float:
    """Bits of y_hat, [1, M, h, w], under a layout.

    Args:
        gaussian: conditional Gaussian of the network.
        plan: plan of the layout.
        y_hat: integers.
        hyper, seen: the hyper part and the context part.
        alone: the result of `bits_alone`, if the plan needs it.
    """
    total = 0.0 if alone is None else float(take(alone, slice(None), plan.alone).sum())
    for phase, part in zip(plan.phases, seen, strict=True):
        total += float(_bits(gaussian, phase, y_hat, hyper, part).sum())
    return total


def _bits(
    gaussian: ConditionalGaussian, phase: Phase, y_hat: Tensor, hyper: Tensor, seen: Tensor | None
) -> Tensor:
    """Bits of every position of a phase, [positions], in double precision."""
    limit = float(coded_range(y_hat))
    hidden_1 = take(hyper, phase.units, phase.places)
    hidden_1 = hidden_1.clone() if seen is None else hidden_1 + seen
    F.leaky_relu_(hidden_1, LEAKY_SLOPE)
    units, positions = sum(len(step.second[0]) for step in phase.steps), hidden_1.shape[1]
    hidden_2, ready = hidden_1.new_empty(units, positions), 0
    total = hidden_1.new_zeros(positions, dtype=torch.float64)
    for step in phase.steps:
        (w2, b2), (w3, b3) = step.second, step.third
        mine = hidden_2[ready : ready + len(w2)]
        F.leaky_relu_(torch.addmm(b2, w2, hidden_1[: w2.shape[1]], out=mine), LEAKY_SLOPE)
        ready += len(w2)
        scales, means = torch.addmm(b3, w3, hidden_2[:ready]).chunk(2)
        values = take(y_hat[0], step.channels, phase.places)
        total += gaussian.coded_bits(values, scales, means, limit).sum(0, dtype=torch.float64)
    return total
