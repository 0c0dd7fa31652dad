"""Entropy parameters of y, a scale and a mean for every element, over the whole latent at once.

Without a context model, they are psi itself (`HyperOnly`). With one, a masked convolution reads the elements
that were decoded earlier. Three pointwise layers turn its features and the hyper features psi into a scale
and a mean for every element::

    y_hat --context_prediction--> phi --+
                                        +--entropy_parameters--> scales, means
    z_hat --h_s--> psi -----------------+

Every feature, hidden unit and output belongs to one channel of y, and thereby to one channel group. At each
position it sees only units of groups whose stage is not later than its own. Decoding stage by stage
(`graph.staged`) therefore computes each of them once. All layouts share the weights.

A layout whose context is a table has no features phi. There psi alone gives scales and means, and the table
corrects the scales (`graph.scale_table`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from nas.graph.entropy import widened
from nas.graph.layers.build import LEAKY_SLOPE
from nas.graph.layers.precision import precise
from nas.graph.layers.width import Width
from nas.graph.scale_table import ScaleTable
from nas.spaces.layout import ContextKind, Layout, feature_channel, unit_channel
from nas.support.arrays import Array

Weights = tuple[Tensor, Tensor]
LARGE_KERNEL = 1 << 18  # number of values from which copying a kernel costs more than the calls that it saves


@dataclass(frozen=True)
class Cell:
    """What the channel groups see at one cell of the tile.

    Masks are boolean. In a relaxed layout they are weights, and gradients pass through them.

    Attributes:
        row, column: place of the cell in the tile.
        visible: whether a group (first axis) sees another one, [groups, groups, window, window]. None if
            nothing is visible.
        live: whether a group sees anything, [groups].
        known: whether a group (first axis) may use another one at the same position, because that one has the
            same stage or an earlier one, [groups, groups].
    """

    row: int
    column: int
    visible: Tensor | None
    live: Tensor
    known: Tensor


@lru_cache(maxsize=512)
def layout_cells(layout: Layout, window: int) -> tuple[Cell, ...]:
    """The cells of a layout's tile, row by row.

    Args:
        layout: the layout.
        window: width of the context window, in elements of y.
    """
    groups, rows, columns = layout.table.shape
    cells = []
    for row in range(rows):
        for column in range(columns):
            visible = torch.zeros(groups, groups, window, window, dtype=torch.bool)
            known_groups = torch.zeros(groups, groups, dtype=torch.bool)
            for block in layout.blocks(window):
                if (block.row, block.column) == (row, column):
                    for group in block.groups:
                        visible[group] = torch.from_numpy(block.visible)
                        known_groups[group] = torch.from_numpy(block.known)
            live = visible.flatten(1).any(1)
            cells.append(Cell(row, column, visible if live.any() else None, live, known_groups))
    return tuple(cells)


@dataclass(frozen=True)
class _Tap:
    """One offset of the window at one cell of the tile.

    products: pairs of ranges: outputs (sorted by channel group), and the channels that these outputs see.
    """

    row: int
    column: int
    products: tuple[tuple[slice, slice], ...]


@lru_cache(maxsize=512)
def _taps(layout: Layout, window: int, features: int) -> tuple[tuple[_Tap, ...], ...]:
    """The taps of every cell at which anything is visible, for the given number of features."""
    owners = layout.group_of_channel[feature_channel(features, layout.channels)]
    channels = np.cumsum([0, *layout.groups]).tolist()
    outputs = np.cumsum([0, *np.bincount(owners, minlength=len(layout.groups))]).tolist()

    def runs(keys: list[Any], bounds: list[int]) -> Iterator[tuple[Any, slice]]:
        """Runs of neighbouring groups with equal keys: the key, and the range between their `bounds`."""
        for key, run in groupby(range(len(keys)), key=keys.__getitem__):
            members = list(run)
            yield key, slice(bounds[members[0]], bounds[members[-1] + 1])

    def products(visible: Array) -> Iterator[tuple[slice, slice]]:
        for sources, mine in runs([tuple(row) for row in visible.tolist()], outputs):
            for seen, theirs in runs(list(sources), channels):
                if seen:
                    yield mine, theirs

    by_cell = []
    for cell in layout_cells(layout, window):
        places = np.ndindex(window, window) if cell.visible is not None else ()
        visible = cast(Tensor, cell.visible)
        taps = [_Tap(i, j, tuple(products(visible[:, :, i, j].numpy()))) for i, j in places]
        by_cell.append(tuple(tap for tap in taps if tap.products))
    return tuple(by_cell)


class _ByTaps(torch.autograd.Function):
    """Context prediction as matrix products, one for each tap and the channels that are visible there.

    Nothing is masked or gathered, and only the input and the kernel are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, layout: Layout, numbers: tuple[int, ...]) -> Tensor:
        """Compute phi without its bias, [cells, B, down, across, outputs].

        Args:
            padded: y in whole tiles with a border of half a window, [B, height, width, channels].
            weight: the kernel, [outputs, channels, window, window].
            layout: the order of decoding.
            numbers: cells of the tile, counted row by row.
        """
        ctx.save_for_backward(padded, weight)
        ctx.layout, ctx.numbers = layout, numbers
        order = _by_group(layout, len(weight))
        kernel = weight.index_select(0, order).permute(2, 3, 1, 0).contiguous()
        cells = _taps(layout, len(kernel), len(weight))
        shape = _near(padded, layout, len(kernel), 0, 0, 0).shape[:3]
        phi = padded.new_zeros(len(numbers), shape.numel(), len(weight))
        for index, number in enumerate(numbers):
            for tap in cells[number]:
                near = _near(padded, layout, len(kernel), number, tap.row, tap.column).flatten(0, 2)
                for outputs, inputs in tap.products:
                    phi[index, :, outputs].addmm_(
                        near[:, inputs], kernel[tap.row, tap.column, inputs, outputs]
                    )
        by_position: Tensor = phi.index_select(-1, order.argsort()).unflatten(1, shape)
        return by_position

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        padded, weight = ctx.saved_tensors
        layout, order = ctx.layout, _by_group(ctx.layout, len(weight))
        gradient = gradient.flatten(1, 3).index_select(-1, order)
        kernel = weight.index_select(0, order).permute(2, 3, 1, 0).contiguous()
        of_padded, of_kernel = torch.zeros_like(padded), torch.zeros_like(kernel)
        cells = _taps(layout, len(kernel), len(weight))
        for position, number in enumerate(ctx.numbers):
            for tap in cells[number]:
                where = layout, len(kernel), number, tap.row, tap.column
                near = _near(padded, *where)
                rows, of_rows = near.flatten(0, 2), near.new_zeros(near.shape).flatten(0, 2)
                for outputs, inputs in tap.products:
                    upper, part = gradient[position, :, outputs], (tap.row, tap.column, inputs, outputs)
                    of_rows[:, inputs].addmm_(upper, kernel[part].t())
                    of_kernel[part].addmm_(rows[:, inputs].t(), upper)
                _near(of_padded, *where).add_(of_rows.view(near.shape))
        del kernel
        return of_padded, of_kernel.permute(3, 2, 0, 1).index_select(0, order.argsort()), None, None


def _by_group(layout: Layout, features: int) -> Tensor:
    """Indexes of the features of context prediction, sorted by their channel group."""
    owners = layout.group_of_channel[feature_channel(features, layout.channels)]
    return torch.from_numpy(np.argsort(owners, kind="stable"))


def _near(padded: Tensor, layout: Layout, window: int, number: int, row: int, column: int) -> Tensor:
    """Values at one offset of the window from all positions of one cell, [B, down, across, channels]."""
    _, rows, columns = layout.table.shape
    top, left = number // columns + row, number % columns + column
    bottom, right = (size - window + 1 for size in padded.shape[1:3])
    return padded[:, top : top + bottom : rows, left : left + right : columns]


def _to_tiles(layout: Layout, height: int, width: int) -> tuple[int, int, int, int]:
    """The padding of a latent to whole tiles: left, right, top and bottom."""
    _, rows, columns = layout.table.shape
    return (0, -width % columns, 0, -height % rows)


def _to_places(parts: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Interleave the cells of a tile, each [B, C, down, across], with channels last in memory, as in y."""
    cells = [part.permute(0, 2, 3, 1) for part in parts]
    of_rows = [
        torch.stack(cells[row * columns : (row + 1) * columns], 3).flatten(2, 3) for row in range(rows)
    ]
    return torch.stack(of_rows, 2).flatten(1, 2).permute(0, 3, 1, 2)


class HyperOnly(nn.Module):
    """The entropy parameters without a context model: psi holds the scales of y, or its scales and means.

    Args:
        parts: number of values of psi per channel of y, 1 or 2.
    """

    window = 1

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, psi: Tensor, y_hat: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Scales and means, in the same form as from `ContextModel`. y and the layout are not used.

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: rounded y, [B, M, h, w], which is not read.
            layout: the layout, which is not read.
        """
        if self.parts == 1:
            return psi, torch.zeros_like(psi)
        scales, means = psi.chunk(2, 1)
        return scales, means


class ContextModel(nn.Module):
    """Context prediction and entropy parameters (Minnen et al., 2018), for any layout.

    Args:
        channels: channels of y.
        window: width of the context window.
        hidden: widths of the two hidden pointwise layers.
        psi: number of hyper features. By default two for each channel of y.
        phi: number of features of context prediction. By default two for each channel of y. 0 means that
            there is no context convolution.
        tables: whether there is a table, for layouts that read their context from it.
    """

    def __init__(
        self,
        channels: int,
        window: int,
        hidden: tuple[int, int],
        psi: int | None = None,
        phi: int | None = None,
        *,
        tables: bool = False,
    ) -> None:
        super().__init__()
        psi, phi = psi or 2 * channels, 2 * channels if phi is None else phi
        self.channels, self.window, self.phi = channels, window, phi
        if phi:
            self.context_prediction = nn.Conv2d(channels, phi, window, padding=window // 2)
        if tables:
            self.table = ScaleTable(channels)
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(psi + phi, hidden[0], 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(hidden[0], hidden[1], 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(hidden[1], 2 * channels, 1),
        )
        for size, name in zip(hidden, ("units_1", "units_2"), strict=True):
            self.register_buffer(name, torch.from_numpy(unit_channel(size, channels)), persistent=False)
        owners = {"features": feature_channel(phi, channels), "outputs": np.tile(np.arange(channels), 2)}
        for name, owner in owners.items():
            self.register_buffer(name, torch.from_numpy(owner), persistent=False)

    def pointwise(self) -> tuple[Weights, Weights, Weights]:
        """Weight [outputs, inputs] and bias of the three pointwise layers."""
        first, second, third = (
            (layer.weight[:, :, 0, 0], cast(Tensor, layer.bias))
            for layer in self.entropy_parameters
            if isinstance(layer, nn.Conv2d)
        )
        return first, second, third

    def gate(self, hidden: Tensor, layer: int) -> Tensor:
        """Apply the mask of a slimmable model after hidden layer 0 or 1. A plain model has no mask.

        Args:
            hidden: values of the hidden layer, [B, units, h, w].
            layer: number of the hidden layer, 0 or 1.
        """
        return hidden

    def forward(self, psi: Tensor, y_hat: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Scales and means of y.

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: integers, [B, M, h, w]. An element reads only elements of earlier stages.
            layout: the order of decoding.

        Returns:
            Scales and means, each [B, M, h, w].
        """
        if layout.context == "table":
            scales, means = self(psi, y_hat, layout.of_network)
            return self.table(widened(scales), widened(means), y_hat, layout), means
        _, rows, columns = layout.table.shape
        height, width = y_hat.shape[-2:]
        parts = self.at_cells(psi, y_hat, layout, layout_cells(layout, self.window))
        out = parts[0] if len(parts) == 1 else _to_places(parts, rows, columns)
        scales, means = out[..., :height, :width].chunk(2, 1)
        return scales, means

    def at_cells(self, psi: Tensor, y_hat: Tensor, layout: Layout, cells: Sequence[Cell]) -> list[Tensor]:
        """Scales and means at the positions of some cells of the tile only.

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: integers, [B, M, h, w].
            layout: gives the groups and the size of the tile.
            cells: what the groups see there, of the layout or relaxed.

        Returns:
            For each cell [B, 2M, down, across], scales first. It covers whole tiles, also beyond the latent's
            border.
        """
        _, rows, columns = layout.table.shape
        groups = torch.from_numpy(layout.group_of_channel).to(y_hat.device)
        weights = self.pointwise()
        psi = F.pad(psi, _to_tiles(layout, *y_hat.shape[-2:]))
        return [
            self._refine(psi[..., cell.row :: rows, cell.column :: columns], phi, cell, groups, weights)
            for cell, phi in zip(cells, self.predict(y_hat, layout, cells), strict=True)
        ]

    def predict(self, y_hat: Tensor, layout: Layout, cells: Sequence[Cell]) -> list[Tensor | None]:
        """phi at some cells of the tile, [B, F, down, across], or None where nothing was decoded before.

        Args:
            y_hat: integers, [B, M, h, w].
            layout: gives the groups and the size of the tile.
            cells: what the groups see there.
        """
        if not self.phi:
            return [None] * len(cells)
        extra, reach = _to_tiles(layout, *y_hat.shape[-2:]), self.window // 2
        padded = F.pad(y_hat, [side + reach for side in extra])
        weight = self.context_prediction.weight
        kind = weight.device.type
        relaxed = any(cell.known.is_floating_point() for cell in cells)
        if (
            kind == "cpu"
            and weight.numel() >= LARGE_KERNEL
            and not relaxed
            and not torch.is_autocast_enabled(kind)
        ):
            return self._predict_by_taps(padded, layout, cells)
        return self._predict_by_cells(padded, layout, cells)

    def _bias(self, cell: Cell, layout: Layout) -> Tensor:
        """The bias of the features that see anything at a cell."""
        bias = cast(Tensor, self.context_prediction.bias)
        if len(cell.live) == 1:
            return bias
        reader = torch.from_numpy(layout.group_of_channel).to(bias.device)[cast(Tensor, self.features)]
        return bias * cell.live.to(bias.device)[reader]

    def _predict_by_taps(self, padded: Tensor, layout: Layout, cells: Sequence[Cell]) -> list[Tensor | None]:
        padded = padded.permute(0, 2, 3, 1).contiguous()
        columns = layout.table.shape[2]
        numbers = tuple(cell.row * columns + cell.column for cell in cells)
        phi = cast(Tensor, _ByTaps.apply(padded, self.context_prediction.weight, layout, numbers))
        return [
            None if cell.visible is None else (here + self._bias(cell, layout)).permute(0, 3, 1, 2)
            for cell, here in zip(cells, phi, strict=True)
        ]

    def _predict_by_cells(self, padded: Tensor, layout: Layout, cells: Sequence[Cell]) -> list[Tensor | None]:
        """One strided convolution per cell, with the mask folded into its kernel; backward rebuilds it."""
        stride = layout.table.shape[1:]
        tall, wide = (size - step + 1 for size, step in zip(padded.shape[-2:], stride, strict=True))
        large = self.context_prediction.weight.numel() >= LARGE_KERNEL and torch.is_grad_enabled()

        def convolve(seen: Tensor, cell: Cell) -> Tensor:
            weight, visible = self.context_prediction.weight, cast(Tensor, cell.visible)
            visible = visible.to(weight.device)
            if len(visible) > 1:
                groups = torch.from_numpy(layout.group_of_channel).to(weight.device)
                visible = visible[groups[cast(Tensor, self.features)]][:, groups]
            return F.conv2d(seen, weight * visible, self._bias(cell, layout), stride)

        predictions: list[Tensor | None] = []
        for cell in cells:
            if cell.visible is None:
                predictions.append(None)
                continue
            seen = padded[..., cell.row : cell.row + tall, cell.column : cell.column + wide]
            if large:
                again = checkpoint(convolve, seen, cell, use_reentrant=False, preserve_rng_state=False)
                predictions.append(again)
            else:
                predictions.append(convolve(seen, cell))
        return predictions

    def _refine(
        self,
        psi: Tensor,
        phi: Tensor | None,
        cell: Cell,
        groups: Tensor,
        weights: tuple[Weights, Weights, Weights],
    ) -> Tensor:
        """The pointwise layers at one cell. Where nothing was decoded before, they do not read phi."""
        (w1, b1), (w2, b2), (w3, b3) = weights
        hyper = psi.shape[1]
        if len(cell.known) > 1:
            known_groups = cell.known.to(w1.device)
            owner_phi = groups[cast(Tensor, self.features)]
            owner_1 = groups[cast(Tensor, self.units_1)[: len(w1)]]
            owner_2 = groups[cast(Tensor, self.units_2)[: len(w2)]]
            owner_out = groups[cast(Tensor, self.outputs)]
            w1 = torch.cat([w1[:, :hyper], w1[:, hyper:] * known_groups[owner_1][:, owner_phi]], 1)
            w2 = w2 * known_groups[owner_2][:, owner_1]
            w3 = w3 * known_groups[owner_out][:, owner_2]
        if phi is None:
            hidden = F.conv2d(psi, w1[:, :hyper, None, None], b1)
        else:
            hidden = F.conv2d(torch.cat([psi, phi], 1), w1[:, :, None, None], b1)
        hidden = self.gate(F.leaky_relu(hidden, LEAKY_SLOPE), 0)
        hidden = self.gate(F.leaky_relu(F.conv2d(hidden, w2[:, :, None, None], b2), LEAKY_SLOPE), 1)
        with precise(hidden):
            return F.conv2d(widened(hidden), w3[:, :, None, None], b3)


class SlimmableContextModel(ContextModel):
    """The supernet's context model. Its two hidden widths are chosen at run time.

    Args:
        channels: channels of y.
        window: width of the context window, in elements of y.
        widths: widths of the two hidden pointwise layers.
        psi: number of hyper features. None stands for two per channel of y.
        phi: number of features of context prediction. None stands for two per channel of y, and 0 for no
            context convolution.
        tables: whether there is a table, for layouts that read their context from it.

    Attributes:
        kind: how the active layout reads its context. It determines the parts of an extracted model.
    """

    def __init__(
        self,
        channels: int,
        window: int,
        widths: tuple[Width, Width],
        psi: int | None,
        phi: int | None,
        *,
        tables: bool,
    ) -> None:
        super().__init__(channels, window, (widths[0].full, widths[1].full), psi, phi, tables=tables)
        self.widths = widths
        self.kind: ContextKind = "convolution"

    def pointwise(self) -> tuple[Weights, Weights, Weights]:
        """The weights and biases of the three pointwise layers at their active widths."""
        (w1, b1), (w2, b2), (w3, b3) = super().pointwise()
        u1, u2 = (width.active for width in self.widths)
        return (w1[:u1], b1[:u1]), (w2[:u2, :u1], b2[:u2]), (w3[:, :u2], b3)

    def gate(self, hidden: Tensor, layer: int) -> Tensor:
        """Mask the hidden units of a layer by its sampled width, if there is one.

        Args:
            hidden: activations of the hidden layer, [B, full width, h, w].
            layer: 0 for the first hidden layer, 1 for the second.

        Returns:
            In the shape of `hidden`.
        """
        mask = self.widths[layer].mask()
        return hidden if mask is None else hidden * mask.to(hidden.dtype)[:, None, None]

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain model at the active widths.

        Returns:
            Tensors by name, in the shapes of the plain model.
        """
        name = "table" if self.kind == "table" else "context_prediction"
        own = self.get_submodule(name).state_dict() if hasattr(self, name) else {}
        state = {f"{name}.{key}": value for key, value in own.items()}
        for index, (weight, bias) in zip((0, 2, 4), self.pointwise(), strict=True):
            state[f"entropy_parameters.{index}.weight"] = weight[:, :, None, None]
            state[f"entropy_parameters.{index}.bias"] = bias
        if self.kind == "table":  # a model with a table reads psi alone
            first = state["entropy_parameters.0.weight"]
            state["entropy_parameters.0.weight"] = first[:, : first.shape[1] - self.phi]
        return state
