"""The context model as it runs in coding: block by block, only what a stage can see and needs.

A *column* is one window offset of one channel. A stage gathers the columns that were decoded before it and
multiplies once. If a table reads the context, the stage only looks things up. The encoder knows y and runs
each block over all its positions in one pass. The decoder runs the same blocks over the positions of one
stage at a time. Both call `StagedContext.block`. A layout therefore costs what fvcore counts on this code:
its visible share of a dense pass.

The arithmetic is that of the given products: floating point on a grid, or the integers of the exact
entropy path (`graph.integers`).
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

from nas.graph.affine import Affine, AnyAffine
from nas.graph.context import ContextModel, HyperOnly
from nas.graph.entropy import MEAN_STEPS, Y_LIMIT, quantize, to_grid
from nas.graph.layers.build import LEAKY_SLOPE
from nas.graph.scale_table import WEIGHTS, shifted, state, states, surprises
from nas.spaces.layout import AROUND, Layout, feature_channel, unit_channel
from nas.support.arrays import Array

# Largest number of positions that are computed together. It bounds the memory of gathered columns.
SLICE = 1 << 13

Work = tuple[int, Tensor]  # a block's number and flat positions in the latent
Parameters = tuple[Tensor, Tensor]  # scales and means, each [B, positions, channels]
Read = Callable[[tuple[Work, ...], list[Parameters]], list[Tensor]]
Grid = Callable[[Tensor, Tensor], Parameters]  # converts scales and means to integers, see `to_grid`


class GatheredProduct(nn.Module):
    """One matrix product over gathered columns. It is a module, so that fvcore can name what it counts."""

    def forward(self, columns: Tensor, affine: AnyAffine) -> Tensor:
        """Apply an affine map to gathered columns.

        Args:
            columns: gathered inputs, [..., inputs].
            affine: the map.

        Returns:
            [..., outputs].
        """
        return affine(columns)


@dataclass(frozen=True)
class VisiblePlaces:
    """Places of the window at which the same channels are visible.

    Attributes:
        places: rows and columns in the window, [2, places].
        channels: the visible channels of y.
    """

    places: Array
    channels: Array

    def columns(self) -> Array:
        """Channel, row and column of every visible column, place by place, [3, columns]."""
        rows, columns = np.repeat(self.places, len(self.channels), 1)
        return np.stack([np.tile(self.channels, self.places.shape[1]), rows, columns])


@dataclass(frozen=True)
class BlockPlan:
    """What one block reads and writes, as indexes of channels, features and hidden units. It has no weights.

    Attributes:
        seen: the visible columns of y.
        outputs: scales and means, the outputs of the last layer.
        features: outputs of context prediction that this block computes.
        phi: features that exist at this position by now, except those of groups that see nothing here.
        known_1, known_2: hidden units of both layers that are computed by now.
        units_1, units_2: hidden units of both layers that this block computes.
    """

    channels: Array
    seen: tuple[VisiblePlaces, ...]
    outputs: Array
    features: Array
    phi: Array
    units_1: Array
    known_1: Array
    units_2: Array
    known_2: Array

    @property
    def columns(self) -> int:
        """Number of visible columns of y."""
        return sum(near.places.shape[1] * len(near.channels) for near in self.seen)

    def products(self, psi: int) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the block's matrix products by name, for `psi` hyper features."""
        products = {
            "entropy_parameters.1": (psi + len(self.phi), len(self.units_1)),
            "entropy_parameters.2": (len(self.known_1), len(self.units_2)),
            "entropy_parameters.3": (len(self.known_2), len(self.outputs)),
        }
        return products | ({"context": (self.columns, len(self.features))} if self.seen else {})


def plan(layout: Layout, window: int, hidden: tuple[int, int], phi: int) -> tuple[BlockPlan, ...]:
    """Make the plan of every block of a layout.

    Args:
        layout: the order of decoding.
        window: width of the context window.
        hidden: widths of the two hidden layers.
        phi: number of features of context prediction.
    """
    groups, blocks = layout.group_of_channel, layout.blocks(window)
    channels = layout.channels
    features, outputs = feature_channel(phi, channels), np.tile(np.arange(channels), 2)
    units_1, units_2 = (unit_channel(size, channels) for size in hidden)
    plans = []
    for block, seen in zip(blocks, _seen(layout, window), strict=True):
        mine, known_channels = np.isin(groups, block.groups), block.known[groups]
        live = np.zeros(len(layout.groups), dtype=bool)
        for other in blocks:
            if (other.row, other.column) == (block.row, block.column):
                live[list(other.groups)] = other.visible.any()
        plans.append(
            BlockPlan(
                channels=np.flatnonzero(mine),
                seen=seen,
                outputs=np.flatnonzero(mine[outputs]),
                features=np.flatnonzero(mine[features]),
                phi=np.flatnonzero((known_channels & live[groups])[features]),
                units_1=np.flatnonzero(mine[units_1]),
                known_1=np.flatnonzero(known_channels[units_1]),
                units_2=np.flatnonzero(mine[units_2]),
                known_2=np.flatnonzero(known_channels[units_2]),
            )
        )
    return tuple(plans)


@lru_cache(maxsize=256)
def _seen(layout: Layout, window: int) -> tuple[tuple[VisiblePlaces, ...], ...]:
    """The visible columns of every block of a layout. Cached, because they do not depend on widths."""
    groups = layout.group_of_channel
    return tuple(_near(block.visible, groups) for block in layout.blocks(window))


def _near(visible: Array, groups: Array) -> tuple[VisiblePlaces, ...]:
    """Group the places of the window by their visible groups, from [groups, window, window]."""
    places: dict[tuple[bool, ...], list[tuple[int, int]]] = {}
    for row, column in np.ndindex(visible.shape[1:]):
        places.setdefault(tuple(visible[:, row, column].tolist()), []).append((row, column))
    return tuple(
        VisiblePlaces(np.array(where).T, np.flatnonzero(np.array(seen)[groups]))
        for seen, where in places.items()
        if any(seen)
    )


@dataclass(frozen=True)
class Products:
    """The affine maps that compute the entropy parameters of y.

    Attributes:
        context_prediction: from a window of y, [F, M, window, window]. None if a table reads the context.
        entropy_parameters: the three pointwise layers.
        grid: converts the output of the last layer to integers on the coding grid.
        y_limit: the context reads y clamped to +- this limit.
    """

    context_prediction: AnyAffine | None
    entropy_parameters: tuple[AnyAffine, AnyAffine, AnyAffine]
    grid: Grid = to_grid
    y_limit: int = Y_LIMIT

    @classmethod
    def of(cls, context: ContextModel) -> Products:
        """The maps of a plain model, in its precision.

        Args:
            context: context model of plain layers.
        """
        prediction = None
        if context.phi:
            layer = context.context_prediction
            prediction = Affine(layer.weight, cast(Tensor, layer.bias))
        first, second, third = context.pointwise()
        return cls(
            prediction,
            (Affine(*first, LEAKY_SLOPE), Affine(*second, LEAKY_SLOPE), Affine(*third)),
        )

    @property
    def window(self) -> int:
        """Width of the context window, in elements of y, or 1 without a context prediction."""
        return 1 if self.context_prediction is None else self.context_prediction.weight.shape[-1]

    @property
    def hidden(self) -> tuple[int, int]:
        """The widths of the two hidden layers."""
        first, second, _ = self.entropy_parameters
        return len(first.bias), len(second.bias)

    @property
    def phi(self) -> int:
        """Number of features of context prediction."""
        return 0 if self.context_prediction is None else len(self.context_prediction.bias)

    @property
    def psi(self) -> int:
        """Number of hyper features."""
        return self.entropy_parameters[0].weight.shape[1] - self.phi


class _Some:
    """Selects some of the values that a store, [B, positions, values], holds for every position.

    Args:
        index: indexes of the values, rising.
        device: device of the store.
    """

    def __init__(self, index: Array, device: torch.device) -> None:
        self.index = torch.from_numpy(index).to(device)
        first, size = (int(index[0]) if len(index) else 0), len(index)
        whole = size == 0 or int(index[-1]) - first == size - 1
        self._span = slice(first, first + size) if whole else None

    def take(self, store: Tensor, positions: Tensor) -> Tensor:
        """Read the chosen values at the chosen positions, [B, positions, values]."""
        if self._span is not None:  # a slice is many times faster than indexes
            return store[..., self._span].index_select(1, positions)
        return store.index_select(1, positions)[..., self.index]

    def put(self, store: Tensor, positions: Tensor, values: Tensor) -> None:
        if self._span is not None:
            store[:, positions, self._span] = values
        else:
            store[:, positions[:, None], self.index] = values


@dataclass(frozen=True)
class BlockWeights:
    """The weights of one block: the rows that it computes, cut to the columns that it sees.

    Attributes:
        channels: channels of y whose parameters the block computes.
        seen: pairs of places in the window, [2, places], and the channels that are visible there.
        context: rows of the masked convolution, cut to what is seen. None if nothing is seen.
        layers: the three pointwise layers, cut likewise.
        reads: units of phi and of the two hidden layers that earlier blocks have computed.
        writes: units of phi and of the two hidden layers that this block computes.
        alone: whether no other block computes anything at the same positions, so that nothing is stored.
    """

    channels: _Some
    seen: tuple[tuple[Tensor, _Some], ...]
    context: AnyAffine | None
    layers: tuple[AnyAffine, AnyAffine, AnyAffine]
    reads: tuple[_Some, ...]
    writes: tuple[_Some, ...]
    alone: bool


class StagedContext(nn.Module):
    """Computes the entropy parameters of y block by block.

    Args:
        products: the weights, which are cut up and copied.
        layout: the order of decoding.
    """

    def __init__(self, products: Products, layout: Layout) -> None:
        super().__init__()
        self.layout, self.window, self.channels = layout, products.window, layout.channels
        self.grid, self.y_limit, self._hidden = products.grid, products.y_limit, products.hidden
        self.psi, self.phi = products.psi, products.phi
        self.context_prediction = GatheredProduct()
        self.entropy_parameters = nn.ModuleList(GatheredProduct() for _ in range(3))
        plans = plan(layout, self.window, self._hidden, self.phi)
        with torch.no_grad():
            self.blocks = [_cut_weights(products, block) for block in plans]
        self._keeps = not all(block.alone for block in self.blocks)

    def start(self, psi: Tensor) -> State:
        """Make the arrays that blocks read and write while one batch is coded.

        Args:
            psi: hyper features, [B, P, h, w].
        """
        batch, _, height, width = psi.shape
        reach, positions = self.window // 2, height * width if self._keeps else 0
        return State(
            height=height,
            width=width,
            psi=psi.flatten(2).transpose(1, 2).contiguous(),
            padded=psi.new_zeros(batch, height + 2 * reach, width + 2 * reach, self.channels),
            phi=psi.new_zeros(batch, positions, self.phi),
            hidden_1=psi.new_zeros(batch, positions, self._hidden[0]),
            hidden_2=psi.new_zeros(batch, positions, self._hidden[1]),
        )

    def block(self, number: int, positions: Tensor, state: State) -> Parameters:
        """Scales and means of one block's channels at some of its positions, each [B, positions, channels].

        Everything the block sees must have been written to `state` (see `write`).

        Args:
            number: number of the block in the layout.
            positions: positions of the latent, counted row by row, [positions].
            state: the elements decoded so far.
        """
        block, positions = self.blocks[number], positions.to(state.psi.device)
        phi = None
        if block.context is not None:
            columns = torch.cat([state.columns(positions, *seen) for seen in block.seen], -1)
            phi = self.context_prediction(columns.clamp_(-self.y_limit, self.y_limit), block.context)
        stores = (state.phi, state.hidden_1, state.hidden_2)

        def known_values(layer: int, values: Tensor | None) -> Tensor | None:
            """The inputs of one layer: everything known at these positions, with the block's own values."""
            if block.alone:
                return values
            if values is not None:
                block.writes[layer].put(stores[layer], positions, values)
            return block.reads[layer].take(stores[layer], positions)

        features, psi = known_values(0, phi), state.psi[:, positions]
        inputs = psi if features is None else torch.cat([psi, features], -1)
        hidden = known_values(1, self.entropy_parameters[0](inputs, block.layers[0]))
        hidden = known_values(2, self.entropy_parameters[1](hidden, block.layers[1]))
        scales, means = self.entropy_parameters[2](hidden, block.layers[2]).chunk(2, -1)
        return scales, means

    def write(self, number: int, positions: Tensor, values: Tensor, state: State) -> None:
        """Make decoded values, [B, positions, channels], visible to later blocks.

        Args:
            number: number of the block in the layout.
            positions: positions of the latent, counted row by row, [positions].
            values: decoded values of the block's channels there.
            state: the elements decoded so far. It is changed.
        """
        here, reach = state.corners(positions.to(state.psi.device)), self.window // 2
        here = here + (reach * state.padded.shape[2] + reach)
        self.blocks[number].channels.put(state.padded.flatten(1, 2), here, values.to(state.padded))

    def block_channels(self, number: int) -> Tensor:
        """The channels of y that a block decodes.

        Args:
            number: number of the block in the layout.

        Returns:
            Indexes of the channels, [channels].
        """
        return self.blocks[number].channels.index

    def one_pass(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of every element, each [B, M, h, w], from the whole y. The encoder uses this.

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: rounded y, [B, M, h, w].
        """
        state = self.start(psi)
        inside = state.inside(self.window // 2)
        inside.copy_(y_hat.permute(0, 2, 3, 1))
        out = psi.new_empty(2, len(y_hat), state.height * state.width, self.channels)
        for number, positions in whole(self.layout, self.window, state.height, state.width):
            channels = self.blocks[number].channels
            for here in positions.split(SLICE):
                for part, values in zip(out, self.block(number, here, state), strict=True):
                    channels.put(part, here.to(part.device), values)
        scales, means = out.transpose(2, 3).unflatten(-1, (state.height, state.width)).unbind()
        return scales, means

    def by_stages(self, psi: Tensor, read: Read) -> Tensor:
        """Decode y stage by stage.

        Args:
            psi: hyper features, [B, P, h, w].
            read: takes the work of one stage (or of a slice of it) with its scales and means, block by block.
                Returns the values of each block, [B, positions, channels].

        Returns:
            y_hat, [B, M, h, w].
        """
        state = self.start(psi)
        for work in steps(self.layout, self.window, state.height, state.width):
            parameters = [self.block(number, positions, state) for number, positions in work]
            for (number, positions), values in zip(work, read(work, parameters), strict=True):
                self.write(number, positions, values, state)
        return state.inside(self.window // 2).permute(0, 3, 1, 2)


class StagedHyper(nn.Module):
    """The counterpart of `StagedContext` without a context model: one stage, which reads psi alone.

    Args:
        context: says how psi is read.
        layout: a layout with one stage.
        grid: converts the content of psi to integers on the coding grid.
    """

    def __init__(self, context: HyperOnly, layout: Layout, grid: Grid = to_grid) -> None:
        super().__init__()
        self.context, self.layout, self.window, self.grid = context, layout, context.window, grid

    def block_channels(self, number: int) -> Tensor:
        """The channels of y that a block decodes. Without a context model it decodes all of them.

        Args:
            number: number of the block. There is only one.

        Returns:
            Indexes of the channels, [M].
        """
        return torch.arange(self.layout.channels)

    def one_pass(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of every element, each [B, M, h, w].

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: rounded y, [B, M, h, w]. It is not used.
        """
        scales, means = self.context(psi, y_hat, self.layout)
        return scales, means

    def by_stages(self, psi: Tensor, read: Read) -> Tensor:
        """Decode y, [B, M, h, w], in one stage.

        Args:
            psi: hyper features, [B, P, h, w].
            read: returns the values of each block. See `StagedContext.by_stages`.
        """
        height, width = psi.shape[-2:]
        scales, means = (part.flatten(2).transpose(1, 2) for part in self.one_pass(psi, psi))
        parts = []
        for work in steps(self.layout, self.window, height, width):
            (_, positions), (first, last) = work[0], (int(work[0][1][0]), int(work[0][1][-1]))
            assert len(positions) == last + 1 - first  # one block in row order
            parts += read(work, [(scales[:, first : last + 1], means[:, first : last + 1])])
        y_hat: Tensor = torch.cat(parts, 1).to(psi.device).transpose(1, 2).unflatten(2, (height, width))
        return y_hat


class StagedTable(StagedContext):
    """The counterpart of `StagedContext` for a context table. Its results are on the coding grid already.

    The network runs once over all positions, as under the layout `none`. Stage by stage, the table then
    shifts the levels of the scales.

    Args:
        products: weights of the network, of which only those that read psi are used.
        table: see `ScaleTable.levels`.
        layout: the order of decoding.
    """

    def __init__(self, products: Products, table: Tensor, layout: Layout) -> None:
        super().__init__(products, layout.of_network)
        self.order, self.table = layout, table
        self.to_grid, self.grid = self.grid, _on_grid
        groups = layout.group_of_channel
        self.members: list[tuple[_Some, Tensor]] = []  # for each block: channels, and weights around them
        for block in layout.blocks(self.window):
            mine = np.flatnonzero(np.isin(groups, block.groups))
            around = layout.around[:, groups[mine], block.row, block.column]
            weights = torch.from_numpy(around * np.array(WEIGHTS, dtype=np.int8)[:, None])
            self.members.append((_Some(mine, table.device), weights.to(table.device)))

    def block_channels(self, number: int) -> Tensor:
        """The channels of y that a block decodes, given by its number.

        Returns:
            Indexes of the channels, [channels].
        """
        return self.members[number][0].index

    def alone(self, psi: Tensor) -> Parameters:
        """Levels and steps of every element from psi alone, each [B, M, h, w]."""
        unread = psi.new_zeros(len(psi), self.channels, *psi.shape[-2:])
        return self.to_grid(*super().one_pass(psi, unread))

    def one_pass(self, psi: Tensor, y_hat: Tensor) -> Parameters:
        """Levels and steps of every element, each [B, M, h, w], from the whole y. The encoder uses this.

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: rounded y, [B, M, h, w].
        """
        levels, means = self.alone(psi)
        of_elements = states(surprises(y_hat, levels, means), self.order)
        channels = torch.arange(self.channels, device=psi.device)[:, None, None]
        return shifted(levels, self.table, channels, of_elements), means

    def by_stages(self, psi: Tensor, read: Read) -> Tensor:
        """Decode y stage by stage: see `StagedContext.by_stages`.

        Args:
            psi: hyper features, [B, P, h, w].
            read: returns the values of each block. See `StagedContext.by_stages`.
        """
        height, width = psi.shape[-2:]
        levels, means = (part.flatten(2).transpose(1, 2).contiguous() for part in self.alone(psi))
        wide = width + 2  # with a border, whose weight is 0
        noted = levels.new_zeros(len(psi), (height + 2) * wide, self.channels, dtype=torch.int8)
        inside = F.pad(noted.new_ones(height, width), (1, 1, 1, 1)).flatten()[:, None]
        y_hat = psi.new_zeros(len(psi), height * width, self.channels)
        for work in steps(self.order, self.window, height, width):
            places, parameters = [], []
            for number, positions in work:
                channels, weights = self.members[number]
                here = positions.to(psi.device)
                middle = (here // width + 1) * wide + here % width + 1
                own = channels.take(levels, here)
                total, known_weight = (own.new_zeros(own.shape, dtype=torch.int8) for _ in range(2))
                for (row, column), weight in zip(AROUND, weights, strict=True):
                    there = middle + (row * wide + column)
                    total += weight * channels.take(noted, there)
                    known_weight += weight * inside[there]
                own = shifted(own, self.table, channels.index, state(total, known_weight))
                parameters.append((own, channels.take(means, here)))
                places.append((here, middle, channels))
            for (here, middle, channels), values in zip(places, read(work, parameters), strict=True):
                values = values.to(y_hat)
                channels.put(y_hat, here, values)
                surprise = surprises(values, channels.take(levels, here), channels.take(means, here))
                channels.put(noted, middle, surprise)
        as_picture: Tensor = y_hat.transpose(1, 2).unflatten(2, (height, width))
        return as_picture


def _on_grid(levels: Tensor, steps: Tensor) -> Parameters:
    return levels, steps


Staged = StagedContext | StagedHyper


def staged(context: ContextModel | HyperOnly, layout: Layout) -> Staged:
    """The entropy parameters of y as they run in coding under one layout, in the model's own precision.

    Args:
        context: the trained model.
        layout: the order of decoding.
    """
    if isinstance(context, HyperOnly):
        return StagedHyper(context, layout)
    if layout.context == "table":
        return StagedTable(Products.of(context), context.table.levels(), layout)
    return StagedContext(Products.of(context), layout)


def rounding(context: Staged, y: Tensor) -> Read:
    """Make a `read` for `by_stages` that rounds y, [B, M, h, w], about the means of each stage on the grid.

    Args:
        context: staged form of the model that gives the means.
        y: y before rounding, [B, M, h, w].
    """
    columns = y.flatten(2).transpose(1, 2)

    def read(work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
        rounded = []
        for (number, positions), (scales, means) in zip(work, parameters, strict=True):
            channels = context.block_channels(number)
            values = columns[:, positions.to(y.device)[:, None], channels.to(y.device)]
            means = context.grid(scales, means)[1] / MEAN_STEPS
            rounded.append(quantize(values, Y_LIMIT, means))
        return rounded

    return read


@dataclass
class State:
    """The arrays of one batch while it is coded. Positions run row by row, and channels are last.

    Attributes:
        height, width: sides of y, in positions.
        psi: output of h_s, [B, positions, psi channels].
        padded: the integers known so far with a border of zeros, [B, h + 2 * reach, w + 2 * reach, M].
        phi, hidden_1, hidden_2: features of the context and values of the hidden layers, [B, positions,
            units]. They have no positions if no two blocks share one.
    """

    height: int
    width: int
    psi: Tensor
    padded: Tensor
    phi: Tensor
    hidden_1: Tensor
    hidden_2: Tensor

    def corners(self, positions: Tensor) -> Tensor:
        """Flat indexes in `padded` of the upper left corners of the windows around some positions.

        Args:
            positions: flat positions of y, [n].

        Returns:
            Indexes, [n].
        """
        return (positions // self.width) * self.padded.shape[2] + positions % self.width

    def inside(self, reach: int) -> Tensor:
        """y without the border, [B, h, w, M], as a view.

        Args:
            reach: rows and columns of the border that is cut off on each side.
        """
        return self.padded[:, reach : reach + self.height, reach : reach + self.width]

    def columns(self, positions: Tensor, places: Tensor, channels: _Some) -> Tensor:
        """y at some places of the window around each position, [B, positions, places * channels].

        Args:
            positions: positions of the latent, counted row by row, [positions].
            places: rows and columns in the window, [2, places].
            channels: the channels of y to take.
        """
        near = self.corners(positions)[:, None] + (places[0] * self.padded.shape[2] + places[1])
        taken = channels.take(self.padded.flatten(1, 2), near.flatten())
        by_position: Tensor = taken.unflatten(1, near.shape)
        return by_position.flatten(2)


def steps(layout: Layout, window: int, height: int, width: int) -> tuple[tuple[Work, ...], ...]:
    """The decoder's work on a latent of this size: a tuple of (block, positions) for each stage.

    A stage with more than `SLICE` positions is cut into parts, which do not see each other.

    Args:
        layout: the order of decoding.
        window: width of the context window, in elements of y.
        height: rows of the latent.
        width: columns of the latent.
    """
    kept = _steps(layout, window, int(height), int(width))
    return tuple(part for work in kept for part in _cut_up(_as_tensors(work)))


def whole(layout: Layout, window: int, height: int, width: int) -> tuple[Work, ...]:
    """The encoder's work: every block once, over all its positions.

    Args:
        layout: the order of decoding.
        window: width of the context window, in elements of y.
        height: rows of the latent.
        width: columns of the latent.
    """
    return _as_tensors(_whole(layout, window, int(height), int(width)))


def _cut_up(work: tuple[Work, ...]) -> Iterator[tuple[Work, ...]]:
    if sum(len(positions) for _, positions in work) <= SLICE:
        yield work
    else:
        yield from (((number, part),) for number, positions in work for part in positions.split(SLICE))


# Cached as arrays and for sizes that are plain numbers, because tensors of a tracer are useless later.
_StoredWork = tuple[tuple[int, Array], ...]


def _as_tensors(work: _StoredWork) -> tuple[Work, ...]:
    return tuple((number, torch.from_numpy(positions)) for number, positions in work)


@lru_cache(maxsize=64)
def _steps(layout: Layout, window: int, height: int, width: int) -> tuple[_StoredWork, ...]:
    by_step: dict[int, list[tuple[int, Array]]] = {}
    for number, positions in _whole(layout, window, height, width):
        block = layout.blocks(window)[number]
        rows, columns = np.divmod(positions, width)
        when = layout.slope[0] * rows + layout.slope[1] * columns + block.stage
        order = np.argsort(when, kind="stable")
        numbers, first = np.unique(when[order], return_index=True)
        for step, members in zip(numbers.tolist(), np.split(positions[order], first[1:]), strict=True):
            by_step.setdefault(step, []).append((number, members))
    return tuple(tuple(by_step[step]) for step in sorted(by_step))


@lru_cache(maxsize=64)
def _whole(layout: Layout, window: int, height: int, width: int) -> _StoredWork:
    _, tile_rows, tile_columns = layout.table.shape
    work = []
    for number, block in enumerate(layout.blocks(window)):
        rows, columns = np.arange(block.row, height, tile_rows), np.arange(block.column, width, tile_columns)
        if len(rows) and len(columns):
            work.append((number, (rows[:, None] * width + columns).ravel()))
    return tuple(work)


def _cut_weights(products: Products, plan: BlockPlan) -> BlockWeights:
    """The weights of one block: the rows that it computes, cut to the columns that it sees."""
    predict, (first, second, third) = products.context_prediction, products.entropy_parameters
    device = first.weight.device
    index = {name: torch.from_numpy(value).to(device) for name, value in vars(plan).items() if name != "seen"}
    context = None
    if plan.seen and predict is not None:
        columns = np.concatenate([near.columns() for near in plan.seen], 1)
        context = predict.select(index["features"], *torch.from_numpy(columns).to(device))
    hyper = torch.arange(products.psi, device=device)
    return BlockWeights(
        channels=_Some(plan.channels, device),
        seen=tuple((torch.from_numpy(n.places).to(device), _Some(n.channels, device)) for n in plan.seen),
        context=context,
        layers=(
            first.select(index["units_1"], torch.cat([hyper, index["phi"] + len(hyper)])),
            second.select(index["units_2"], index["known_1"]),
            third.select(index["outputs"], index["known_2"]),
        ),
        reads=tuple(_Some(members, device) for members in (plan.phi, plan.known_1, plan.known_2)),
        writes=tuple(_Some(own, device) for own in (plan.features, plan.units_1, plan.units_2)),
        alone=2 * len(plan.channels) == len(third.bias),
    )
