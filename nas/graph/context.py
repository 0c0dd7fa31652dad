"""Entropy parameters of y: a scale and a mean for every element, over the whole latent at once.

Without a context model they are psi itself (`HyperOnly`). With one, a masked convolution reads what was
decoded earlier, and three pointwise layers turn its features and the hyper features psi into a scale and a
mean for every element::

    y_hat --context_prediction--> phi --+
                                        +--entropy_parameters--> scales, means
    z_hat --h_s--> psi -----------------+

Every feature, hidden unit and output belongs to one channel of y and so to one channel group; at each
position it sees the units of groups whose stage is not later than its own, so that decoding stage by stage
(`graph.staged`) computes each of them once. The weights are shared by all layouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph.layers import LEAKY_SLOPE
from nas.graph.layout import Layout, unit_channel
from nas.graph.width import Width

Weights = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Cell:
    """Who sees whom at one cell of the tile, by channel group.

    visible: [groups, groups, window, window], reader first; None where nothing is visible.
    live: [groups], whether a group sees anything; known: [groups, groups] at the same position.
    """

    row: int
    column: int
    visible: Tensor | None
    live: Tensor
    known: Tensor


@lru_cache(maxsize=512)
def _cells(layout: Layout, window: int) -> tuple[_Cell, ...]:
    groups, rows, columns = layout.table.shape
    cells = []
    for row in range(rows):
        for column in range(columns):
            visible = torch.zeros(groups, groups, window, window, dtype=torch.bool)
            known = torch.zeros(groups, groups, dtype=torch.bool)
            for block in layout.blocks(window):
                if (block.row, block.column) == (row, column):
                    for group in block.groups:
                        visible[group] = torch.from_numpy(block.visible)
                        known[group] = torch.from_numpy(block.known)
            live = visible.flatten(1).any(1)
            cells.append(_Cell(row, column, visible if live.any() else None, live, known))
    return tuple(cells)


class HyperOnly(nn.Module):
    """No context model: psi holds the scales of y, or its scales and means, each with y's channels.

    Args:
        parts: values of psi per channel of y, 1 or 2.
    """

    window = 1

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, psi: Tensor, y_hat: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Scales and means, as `ContextModel` gives them; y and the layout play no part."""
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
    """

    def __init__(self, channels: int, window: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.window = channels, window
        self.context_prediction = nn.Conv2d(channels, 2 * channels, window, padding=window // 2)
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(4 * channels, hidden[0], 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(hidden[0], hidden[1], 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(hidden[1], 2 * channels, 1),
        )
        for size, name in zip(hidden, ("units_1", "units_2"), strict=True):
            self.register_buffer(name, torch.from_numpy(unit_channel(size, channels)), persistent=False)
        self.register_buffer("features", torch.arange(2 * channels) % channels, persistent=False)

    def pointwise(self) -> tuple[Weights, Weights, Weights]:
        """Weight [outputs, inputs] and bias of the three pointwise layers."""
        first, second, third = (
            (layer.weight[:, :, 0, 0], cast(Tensor, layer.bias))
            for layer in self.entropy_parameters
            if isinstance(layer, nn.Conv2d)
        )
        return first, second, third

    def gate(self, hidden: Tensor, layer: int) -> Tensor:
        """What a slimmable model masks after hidden layer 0 or 1; nothing here."""
        return hidden

    def forward(self, psi: Tensor, y_hat: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Scales and means of y.

        Args:
            psi: hyper features, [B, 2M, h, w].
            y_hat: integers, [B, M, h, w]; an element reads only those of smaller stages.
            layout: the order of decoding.

        Returns:
            scales, means: each [B, M, h, w].
        """
        _, rows, columns = layout.table.shape
        height, width = y_hat.shape[-2:]
        down, across = -(-height // rows), -(-width // columns)  # positions per cell
        extra = (0, across * columns - width, 0, down * rows - height)
        reach = self.window // 2
        groups = torch.from_numpy(layout.group_of_channel).to(y_hat.device)
        weights = self.pointwise()
        psi = F.pad(psi, extra)
        padded = F.pad(y_hat, [side + reach for side in extra])
        parts = []
        for cell in _cells(layout, self.window):
            psi_here = psi[..., cell.row :: rows, cell.column :: columns]
            phi = None
            if cell.visible is not None:
                tall, wide = (down - 1) * rows + self.window, (across - 1) * columns + self.window
                seen = padded[..., cell.row : cell.row + tall, cell.column : cell.column + wide]
                phi = self._predict(seen, cell, groups, (rows, columns))
            parts.append(self._refine(psi_here, phi, cell, groups, weights))
        if len(parts) == 1:
            out = parts[0]
        else:  # cells back to their places
            stacked = torch.stack(parts, -1).unflatten(-1, (rows, columns))  # [B, 2M, down, across, R, C]
            out = stacked.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)
        scales, means = out[..., :height, :width].chunk(2, 1)
        return scales, means

    def _predict(self, seen: Tensor, cell: _Cell, groups: Tensor, stride: tuple[int, int]) -> Tensor:
        """phi at one cell of the tile: one strided convolution with the mask folded into its kernel."""
        weight, bias = self.context_prediction.weight, cast(Tensor, self.context_prediction.bias)
        visible = cast(Tensor, cell.visible).to(weight.device)
        if len(visible) > 1:
            reader = groups[cast(Tensor, self.features)]
            visible = visible[reader][:, groups]
            bias = bias * cell.live.to(weight.device)[reader]
        return F.conv2d(seen, weight * visible, bias, stride)

    def _refine(
        self,
        psi: Tensor,
        phi: Tensor | None,
        cell: _Cell,
        groups: Tensor,
        weights: tuple[Weights, Weights, Weights],
    ) -> Tensor:
        """The pointwise layers at one cell; where nothing was decoded before, phi has no part in them."""
        (w1, b1), (w2, b2), (w3, b3) = weights
        hyper = psi.shape[1]
        if len(cell.known) > 1:
            known = cell.known.to(w1.device)
            owner_phi = groups[cast(Tensor, self.features)]
            owner_1 = groups[cast(Tensor, self.units_1)[: len(w1)]]
            owner_2 = groups[cast(Tensor, self.units_2)[: len(w2)]]
            w1 = torch.cat([w1[:, :hyper], w1[:, hyper:] * known[owner_1][:, owner_phi]], 1)
            w2 = w2 * known[owner_2][:, owner_1]
            w3 = w3 * known[owner_phi][:, owner_2]
        if phi is None:
            hidden = F.conv2d(psi, w1[:, :hyper, None, None], b1)
        else:
            hidden = F.conv2d(torch.cat([psi, phi], 1), w1[:, :, None, None], b1)
        hidden = self.gate(F.leaky_relu(hidden, LEAKY_SLOPE), 0)
        hidden = self.gate(F.leaky_relu(F.conv2d(hidden, w2[:, :, None, None], b2), LEAKY_SLOPE), 1)
        return F.conv2d(hidden, w3[:, :, None, None], b3)


class SlimmableContextModel(ContextModel):
    """The supernet's context model: the two hidden widths are chosen at run time."""

    def __init__(self, channels: int, window: int, widths: tuple[Width, Width]) -> None:
        super().__init__(channels, window, (widths[0].full, widths[1].full))
        self.widths = widths

    def pointwise(self) -> tuple[Weights, Weights, Weights]:
        (w1, b1), (w2, b2), (w3, b3) = super().pointwise()
        u1, u2 = (width.active for width in self.widths)
        return (w1[:u1], b1[:u1]), (w2[:u2, :u1], b2[:u2]), (w3[:, :u2], b3)

    def gate(self, hidden: Tensor, layer: int) -> Tensor:
        mask = self.widths[layer].mask()
        return hidden if mask is None else hidden * mask.to(hidden.dtype)[:, None, None]

    def sliced(self) -> dict[str, Tensor]:
        """The plain model's state at the active widths."""
        state = {f"context_prediction.{k}": v for k, v in self.context_prediction.state_dict().items()}
        for index, (weight, bias) in zip((0, 2, 4), self.pointwise(), strict=True):
            state[f"entropy_parameters.{index}.weight"] = weight[:, :, None, None]
            state[f"entropy_parameters.{index}.bias"] = bias
        return state
