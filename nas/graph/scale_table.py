"""A context without multiplications: a table shifts the level of an element's scale.

This follows finite-state autoregressive coding (Zhang et al., ICLR 2024). psi alone gives the scales and
means of all elements. The *surprise* of a decoded element is its distance from its mean, in units of its
scale. The *state* of an element is the mean surprise of the decoded elements around it, of the same channel.
A learned table says by how much the scale is off, for every channel and state::

    y_hat, scales, means --> surprises --around an element--> state --table--> shift of the scale's level

Everything is in integers on the coding grid, in training too, so that a codec meets exactly the states
that the table was trained on. Only the shifts are real numbers until they are rounded to levels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph._compressai import LowerBound
from nas.graph.entropy import MEAN_STEPS, SCALE_LEVELS, SCALE_MAX, SCALE_MIN, SCALES, to_grid
from nas.spaces.layout import AROUND, Layout
from nas.support.arrays import Array

# The surprise of an element is the number of these that it exceeds, in standard deviations.
SURPRISES = (0.4, 1.0, 2.0)
# Weights in the mean surprise, in the order of `AROUND`: straight neighbours count twice.
WEIGHTS = (2, 2, 2, 2, 1, 1, 1, 1)
FINENESS = 4  # the mean has steps of 1 / FINENESS
FEW = 5  # if known neighbours have at most this weight, there are separate states
_MEANS = FINENESS * len(SURPRISES) + 1
STATES = 2 * _MEANS + 1  # few known, many known, none known
STEP = float(np.log(SCALE_MAX / SCALE_MIN)) / (SCALE_LEVELS - 1)  # distance of two levels, in the logarithm

# For every level: the deviations, in 1 / MEAN_STEPS, beyond which each surprise begins.
SURPRISE_BOUNDS = np.floor(np.outer(SURPRISES, MEAN_STEPS * SCALES))


def _states() -> Array:
    """The state by the weighted sum of surprises and the weight of the known neighbours, [sums, weights]."""
    most = sum(WEIGHTS)
    sums, weights = np.mgrid[: most * len(SURPRISES) + 1, : most + 1]
    rounded = (2 * FINENESS * sums + weights) // np.maximum(2 * weights, 1)
    with_mean = np.minimum(rounded, _MEANS - 1) + _MEANS * (weights > FEW)
    return np.where(weights > 0, with_mean, STATES - 1)


STATE_OF = _states()
_SURPRISE_BOUNDS, _STATE_OF = torch.from_numpy(SURPRISE_BOUNDS), torch.from_numpy(STATE_OF)


def surprises(values: Tensor, levels: Tensor, steps: Tensor) -> Tensor:
    """The surprises of decoded values, 0 to len(SURPRISES), in 8 bits.

    Args:
        values: decoded values, of any shape.
        levels, steps: parameters of their Gaussians on the coding grid, see `to_grid`.
    """
    away = (values * MEAN_STEPS - steps).abs()
    exceeded = [(away > bound[levels]).to(torch.int8) for bound in _SURPRISE_BOUNDS.to(away)]
    return torch.stack(exceeded).sum(0, dtype=torch.int8)


def state(total: Tensor, weight: Tensor) -> Tensor:
    """The states of elements, of any shape.

    Args:
        total: weighted sum of the surprises around each element.
        weight: sum of the weights alone.
    """
    return _STATE_OF.to(total.device)[total.long(), weight.long()]


def states(surprised: Tensor, layout: Layout) -> Tensor:
    """The states of all elements of a latent under a layout.

    Args:
        surprised: surprises of the elements, [B, M, h, w].
        layout: the order of decoding.
    """
    height, width = surprised.shape[-2:]
    weights = _weights(layout, int(height), int(width)).to(surprised.device)
    padded, total = F.pad(surprised, (1, 1, 1, 1)), torch.zeros_like(surprised)
    for (row, column), weight in zip(AROUND, weights, strict=True):
        total += weight * padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]
    return state(total, weights.sum(0, dtype=torch.int8).expand(total.shape))


@lru_cache(maxsize=64)
def _weights(layout: Layout, height: int, width: int) -> Tensor:
    """The weight of each neighbour of each element, 0 if it is not known, [8, M, height, width], 8 bits."""
    _, _, rows, columns = layout.around.shape
    down, across = np.arange(height), np.arange(width)
    weights = layout.around[:, :, (down % rows)[:, None], across % columns].astype(np.int8)
    for part, weight, (row, column) in zip(weights, WEIGHTS, AROUND, strict=True):
        inside = ((down + row >= 0) & (down + row < height))[:, None] & (across + column >= 0)
        part *= weight * (inside & (across + column < width))
    return torch.from_numpy(weights[:, layout.group_of_channel])


class ScaleTable(nn.Module):
    """The learned factors by which the scales of a channel are off in each state.

    Args:
        channels: number of channels of y.

    Attributes:
        log_factor: logarithms of the factors, [channels, STATES], zero at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.zeros(channels, STATES))
        self.least = LowerBound(SCALE_MIN)

    def forward(self, scales: Tensor, means: Tensor, y_hat: Tensor, layout: Layout) -> Tensor:
        """Correct scales by previously decoded elements. All arguments and the result are [B, M, h, w].

        Args:
            scales: scales before correction.
            means: means of y.
            y_hat: rounded y. An element reads only elements of earlier stages.
            layout: the order of decoding.
        """
        with torch.no_grad():
            of_elements = states(surprises(y_hat, *to_grid(scales, means)), layout)
        rows = of_elements.transpose(0, 1)
        factors = self.log_factor.gather(1, rows.flatten(1)).exp().view(rows.shape).transpose(0, 1)
        corrected: Tensor = self.least(scales) * factors
        return corrected

    @torch.no_grad()
    def levels(self) -> Tensor:
        """The shifts of levels that codecs apply, [channels, STATES], 8-bit integers."""
        most = SCALE_LEVELS - 1
        return (self.log_factor / STEP).round().clamp(-most, most).to(torch.int8)


def shifted(levels: Tensor, table: Tensor, channels: Tensor, element_states: Tensor) -> Tensor:
    """Shift levels by the entries of a table, clamped to the existing levels.

    Args:
        levels: levels of any shape.
        table: see `ScaleTable.levels`.
        channels: channels of y that the levels belong to. They broadcast against the levels.
        element_states: states of the elements, in the shape of `levels`.
    """
    shifts = table.flatten()[channels * STATES + element_states]
    return (levels + shifts).clamp(0, SCALE_LEVELS - 1)
