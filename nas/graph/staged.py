"""The context model as it runs when coding: block by block, only what a stage can see and needs.

A stage gathers the columns (window offsets and channels) that were decoded before it and multiplies once.
The encoder knows y and runs each block over all its positions in one pass; the decoder runs the same
blocks over the positions of one stage at a time. Both call `StagedContext.block`, so a layout costs what
fvcore counts on this code: its visible share of a dense pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph.context import ContextModel, HyperOnly
from nas.graph.entropy import Y_LIMIT, quantize, snap
from nas.graph.layers import LEAKY_SLOPE
from nas.graph.layout import Array, Layout, unit_channel

Work = tuple[int, Tensor]  # a block's number and flat positions in the latent
Parameters = tuple[Tensor, Tensor]  # scales and means, each [B, positions, channels]
Read = Callable[[tuple[Work, ...], list[Parameters]], list[Tensor]]


class Gathered(nn.Module):
    """One matrix product over gathered columns; a module, so that fvcore can name what it counts."""

    def forward(self, columns: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(columns, weight, bias)


@dataclass(frozen=True)
class BlockPlan:
    """What one block reads and writes, as indexes into channels, features and hidden units (no weights).

    seen: channel, row offset and column offset of every visible column of y.
    outputs: features of context prediction and outputs of the last layer (the same indexes).
    phi: the features that exist at this position by now; nothing for groups that see nothing here.
    known_1, known_2: hidden units computed by now; units_1, units_2: those computed in this block.
    """

    channels: Array
    seen: tuple[Array, Array, Array]
    outputs: Array
    phi: Array
    units_1: Array
    known_1: Array
    units_2: Array
    known_2: Array

    def products(self, psi: int) -> dict[str, tuple[int, int]]:
        """The (inputs, outputs) of the block's matrix products, for `psi` hyper features."""
        products = {
            "entropy_parameters.1": (psi + len(self.phi), len(self.units_1)),
            "entropy_parameters.2": (len(self.known_1), len(self.units_2)),
            "entropy_parameters.3": (len(self.known_2), len(self.outputs)),
        }
        return products | ({"context": (len(self.seen[0]), len(self.outputs))} if len(self.seen[0]) else {})


def plan(layout: Layout, window: int, hidden: tuple[int, int]) -> tuple[BlockPlan, ...]:
    """The plan of every block of a layout, for the widths of the two hidden layers."""
    groups, blocks = layout.group_of_channel, layout.blocks(window)
    channels = layout.channels
    features = np.arange(2 * channels) % channels
    units_1, units_2 = (unit_channel(size, channels) for size in hidden)
    plans = []
    for block in blocks:
        mine, known = np.isin(groups, block.groups), block.known[groups]
        live = np.zeros(len(layout.groups), dtype=bool)
        for other in blocks:
            if (other.row, other.column) == (block.row, block.column):
                live[list(other.groups)] = other.visible.any()
        channel, row, column = np.nonzero(block.visible[groups])
        plans.append(
            BlockPlan(
                channels=np.flatnonzero(mine),
                seen=(channel, row, column),
                outputs=np.flatnonzero(mine[features]),
                phi=np.flatnonzero((known & live[groups])[features]),
                units_1=np.flatnonzero(mine[units_1]),
                known_1=np.flatnonzero(known[units_1]),
                units_2=np.flatnonzero(mine[units_2]),
                known_2=np.flatnonzero(known[units_2]),
            )
        )
    return tuple(plans)


@dataclass(frozen=True)
class _Product:
    """One matrix product of a block: which stored values it reads and writes, its weights."""

    reads: Tensor
    writes: Tensor
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class _BlockWeights:
    channels: Tensor
    seen: tuple[Tensor, Tensor, Tensor]
    context: _Product | None
    layers: tuple[_Product, _Product, _Product]


class StagedContext(nn.Module):
    """Entropy parameters of y, a block at a time.

    Args:
        context: the plain context model; its weights are copied in their precision.
        layout: the order of decoding.
    """

    def __init__(self, context: ContextModel, layout: Layout) -> None:
        super().__init__()
        self.layout, self.window, self.channels = layout, context.window, context.channels
        self.context_prediction = Gathered()
        self.entropy_parameters = nn.ModuleList(Gathered() for _ in range(3))
        (w1, _), (w2, _), _ = context.pointwise()
        self._hidden = (len(w1), len(w2))
        with torch.no_grad():
            self._blocks = [_slice(context, block) for block in plan(layout, self.window, self._hidden)]

    def start(self, psi: Tensor) -> State:
        """What blocks read and write while one batch is coded.

        Args:
            psi: hyper features, [B, 2M, h, w].
        """
        batch, _, height, width = psi.shape
        reach, positions = self.window // 2, height * width
        return State(
            height=height,
            width=width,
            psi=psi.flatten(2).transpose(1, 2).contiguous(),
            padded=psi.new_zeros(batch, self.channels, height + 2 * reach, width + 2 * reach),
            phi=psi.new_zeros(batch, positions, 2 * self.channels),
            hidden_1=psi.new_zeros(batch, positions, self._hidden[0]),
            hidden_2=psi.new_zeros(batch, positions, self._hidden[1]),
        )

    def block(self, number: int, positions: Tensor, state: State) -> Parameters:
        """Scales and means of one block's channels at some of its positions, each [B, positions, channels].

        Everything the block sees must have been written to `state` (see `write`).
        """
        weights = self._blocks[number]
        if weights.context is not None:
            columns, predict = state.columns(positions, weights.seen), weights.context
            phi = self.context_prediction(columns, predict.weight, predict.bias)
            _put(state.phi, positions, predict.writes, phi)
        first, second, third = weights.layers
        inputs = torch.cat([state.psi[:, positions], _take(state.phi, positions, first.reads)], -1)
        hidden = self.entropy_parameters[0](inputs, first.weight, first.bias)
        _put(state.hidden_1, positions, first.writes, F.leaky_relu(hidden, LEAKY_SLOPE))
        hidden = _take(state.hidden_1, positions, second.reads)
        hidden = self.entropy_parameters[1](hidden, second.weight, second.bias)
        _put(state.hidden_2, positions, second.writes, F.leaky_relu(hidden, LEAKY_SLOPE))
        hidden = _take(state.hidden_2, positions, third.reads)
        scales, means = self.entropy_parameters[2](hidden, third.weight, third.bias).chunk(2, -1)
        return scales, means

    def write(self, number: int, positions: Tensor, values: Tensor, state: State) -> None:
        """Make decoded values, [B, positions, channels], visible to later blocks."""
        reach = self.window // 2
        rows, columns = positions // state.width + reach, positions % state.width + reach
        channels = self._blocks[number].channels
        state.padded[:, channels[None], rows[:, None], columns[:, None]] = values

    def block_channels(self, number: int) -> Tensor:
        """The channels of y that a block sets."""
        return self._blocks[number].channels

    def one_pass(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of every element, each [B, M, h, w], when all of y is known (encoding)."""
        state = self.start(psi)
        reach = self.window // 2
        state.padded[:, :, reach : reach + state.height, reach : reach + state.width] = y_hat
        out = psi.new_empty(2, len(y_hat), self.channels, state.height * state.width)
        for number, positions in whole(self.layout, self.window, state.height, state.width):
            scales, means = self.block(number, positions, state)
            channels = self.block_channels(number)[:, None]
            out[0][:, channels, positions] = scales.transpose(1, 2)
            out[1][:, channels, positions] = means.transpose(1, 2)
        scales, means = out.unflatten(-1, (state.height, state.width)).unbind()
        return scales, means

    def by_stages(self, psi: Tensor, read: Read) -> Tensor:
        """Decode y stage by stage.

        Args:
            psi: hyper features, [B, 2M, h, w].
            read: given one stage's work and its scales and means, block by block, returns the values of
                each block, [B, positions, channels].

        Returns:
            y_hat, [B, M, h, w].
        """
        state = self.start(psi)
        for work in steps(self.layout, self.window, state.height, state.width):
            parameters = [self.block(number, positions, state) for number, positions in work]
            for (number, positions), values in zip(work, read(work, parameters), strict=True):
                self.write(number, positions, values, state)
        reach = self.window // 2
        return state.padded[:, :, reach : reach + state.height, reach : reach + state.width]


class StagedHyper(nn.Module):
    """The same calls where there is no context model: one stage, and psi says it all.

    Args:
        context: how psi is read.
        layout: of one stage.
    """

    def __init__(self, context: HyperOnly, layout: Layout) -> None:
        super().__init__()
        self.context, self.layout, self.window = context, layout, context.window

    def block_channels(self, number: int) -> Tensor:
        """All of them."""
        return torch.arange(self.layout.channels)

    def one_pass(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of every element, each [B, M, h, w]."""
        scales, means = self.context(psi, y_hat, self.layout)
        return scales, means

    def by_stages(self, psi: Tensor, read: Read) -> Tensor:
        """Decode y, [B, M, h, w], in one stage."""
        height, width = psi.shape[-2:]
        parameters = self.one_pass(psi, psi)
        scales, means = (part.flatten(2).transpose(1, 2) for part in parameters)
        (work,) = steps(self.layout, self.window, height, width)
        (values,) = read(work, [(scales, means)])
        return values.transpose(1, 2).unflatten(2, (height, width)).contiguous()


Staged = StagedContext | StagedHyper


def staged(context: ContextModel | HyperOnly, layout: Layout) -> Staged:
    """The entropy parameters of y as they run when coding under one layout."""
    if isinstance(context, HyperOnly):
        return StagedHyper(context, layout)
    return StagedContext(context, layout)


def rounding(context: Staged, y: Tensor) -> Read:
    """A `read` for `by_stages` that rounds y, [B, M, h, w], about the means of each stage on their grid."""
    columns = y.flatten(2).transpose(1, 2)

    def read(work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
        found = []
        for (number, positions), (scales, means) in zip(work, parameters, strict=True):
            values = columns[:, positions[:, None], context.block_channels(number)]
            found.append(quantize(values, Y_LIMIT, snap(scales, means)[1]))
        return found

    return read


@dataclass
class State:
    """The arrays of one batch while it is coded; positions run row by row."""

    height: int
    width: int
    psi: Tensor  # [B, positions, 2M]
    padded: Tensor  # [B, M, h + 2 * reach, w + 2 * reach], the integers known so far
    phi: Tensor  # [B, positions, 2M]
    hidden_1: Tensor
    hidden_2: Tensor

    def columns(self, positions: Tensor, seen: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The visible columns around each position, [B, positions, columns]."""
        wide = self.padded.shape[-1]
        channel, row, column = seen
        offsets = (channel * self.padded.shape[-2] + row) * wide + column
        corners = (positions // self.width) * wide + positions % self.width
        index = corners[:, None] + offsets
        return self.padded.flatten(1)[:, index]


@lru_cache(maxsize=64)
def steps(layout: Layout, window: int, height: int, width: int) -> tuple[tuple[Work, ...], ...]:
    """The decoder's work on a latent of this size: one tuple of (block, positions) per stage."""
    by_step: dict[int, list[Work]] = {}
    for number, positions in whole(layout, window, height, width):
        block = layout.blocks(window)[number]
        rows, columns = positions // width, positions % width
        when = layout.slope[0] * rows + layout.slope[1] * columns + block.stage
        order = torch.argsort(when, stable=True)
        found, counts = torch.unique_consecutive(when[order], return_counts=True)
        for step, members in zip(found.tolist(), order.split(counts.tolist()), strict=True):
            by_step.setdefault(step, []).append((number, positions[members]))
    return tuple(tuple(by_step[step]) for step in sorted(by_step))


@lru_cache(maxsize=64)
def whole(layout: Layout, window: int, height: int, width: int) -> tuple[Work, ...]:
    """The encoder's work: every block once, over all its positions."""
    _, tile_rows, tile_columns = layout.table.shape
    return tuple(_places(layout, window, tile_rows, tile_columns, height, width))


def _places(
    layout: Layout, window: int, tile_rows: int, tile_columns: int, height: int, width: int
) -> Iterator[Work]:
    for number, block in enumerate(layout.blocks(window)):
        rows = torch.arange(height)[block.row :: tile_rows]
        columns = torch.arange(width)[block.column :: tile_columns]
        if len(rows) and len(columns):
            yield number, (rows[:, None] * width + columns).flatten()


def _slice(context: ContextModel, block: BlockPlan) -> _BlockWeights:
    """One block's weights: the rows it computes and the columns it sees."""
    (w1, b1), (w2, b2), (w3, b3) = context.pointwise()
    index = {name: torch.from_numpy(value) for name, value in vars(block).items() if name != "seen"}
    channel, row, column = (torch.from_numpy(part) for part in block.seen)
    outputs = index["outputs"]

    def product(reads: Tensor, writes: Tensor, weight: Tensor, bias: Tensor, inputs: Tensor) -> _Product:
        return _Product(reads, writes, weight[writes][:, inputs].contiguous(), bias[writes].clone())

    predict = None
    if len(channel):
        kernel, bias = context.context_prediction.weight, cast(Tensor, context.context_prediction.bias)
        predict = _Product(channel, outputs, kernel[outputs][:, channel, row, column], bias[outputs].clone())
    hyper = torch.arange(2 * context.channels)
    inputs = torch.cat([hyper, index["phi"] + len(hyper)])
    return _BlockWeights(
        channels=index["channels"],
        seen=(channel, row, column),
        context=predict,
        layers=(
            product(index["phi"], index["units_1"], w1, b1, inputs),
            product(index["known_1"], index["units_2"], w2, b2, index["known_1"]),
            product(index["known_2"], outputs, w3, b3, index["known_2"]),
        ),
    )


def _take(store: Tensor, positions: Tensor, channels: Tensor) -> Tensor:
    """store[:, positions][:, :, channels], without a second gather where all channels are wanted."""
    rows = store[:, positions]
    return rows if len(channels) == store.shape[-1] else rows[..., channels]


def _put(store: Tensor, positions: Tensor, channels: Tensor, values: Tensor) -> None:
    if len(channels) == store.shape[-1]:
        store[:, positions] = values
    else:
        store[:, positions[:, None], channels] = values
