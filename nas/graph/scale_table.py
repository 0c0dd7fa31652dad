"""A context that multiplies nothing: a table shifts the level of an element's scale.

After finite-state autoregressive coding (Zhang et al., ICLR 2024). Scales and means of all elements come from
psi alone. How far a decoded element lay from its mean, in units of its scale, is its surprise; the mean
surprise of the elements around one, of the same channel and as far as they are decoded, is its state, and a
learned table says for every channel and state by how much the scale is off::

    y_hat, scales, means --> surprises --around an element--> state --table--> shift of the scale's level

All of it is in whole numbers on the coding grid, in training too, so that a codec finds the very states that
the table was trained on. Only the shifts are real numbers until they are rounded to levels.
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

# The surprise of an element counts how many of these it exceeds, in standard deviations.
SURPRISES = (0.4, 1.0, 2.0)
# In the mean surprise of the elements around one, straight neighbours count twice; in the order of `AROUND`.
WEIGHTS = (2, 2, 2, 2, 1, 1, 1, 1)
FINENESS = 4  # the mean is told in steps of 1 / FINENESS
FEW = 5  # known neighbours of so much weight or less have states of their own
_MEANS = FINENESS * len(SURPRISES) + 1
STATES = 2 * _MEANS + 1  # few known, many known, none known
STEP = float(np.log(SCALE_MAX / SCALE_MIN)) / (SCALE_LEVELS - 1)  # between levels, in the logarithm

# Of every level: the deviations, in 1 / MEAN_STEPS, beyond which each surprise begins.
SURPRISE_BOUNDS = np.floor(np.outer(SURPRISES, MEAN_STEPS * SCALES))


def _states() -> Array:
    """The state by the weighted sum of surprises and the weight of all that are known, [sums, weights]."""
    most = sum(WEIGHTS)
    sums, weights = np.mgrid[: most * len(SURPRISES) + 1, : most + 1]
    rounded = (2 * FINENESS * sums + weights) // np.maximum(2 * weights, 1)
    with_mean = np.minimum(rounded, _MEANS - 1) + _MEANS * (weights > FEW)
    return np.where(weights > 0, with_mean, STATES - 1)


STATE_OF = _states()
_SURPRISE_BOUNDS, _STATE_OF = torch.from_numpy(SURPRISE_BOUNDS), torch.from_numpy(STATE_OF)


def surprises(values: Tensor, levels: Tensor, steps: Tensor) -> Tensor:
    """How surprising decoded values are, 0 to len(SURPRISES), in 8 bits.

    Args:
        values: decoded, of any shape.
        levels, steps: their Gaussians on the coding grid, see `to_grid`.
    """
    away = (values * MEAN_STEPS - steps).abs()
    exceeded = [(away > bound[levels]).to(torch.int8) for bound in _SURPRISE_BOUNDS.to(away)]
    return torch.stack(exceeded).sum(0, dtype=torch.int8)


def state(total: Tensor, weight: Tensor) -> Tensor:
    """The states of elements, of any shape.

    Args:
        total: the weighted sum of the surprises around them.
        weight: the sum of the weights alone.
    """
    return _STATE_OF.to(total.device)[total.long(), weight.long()]


def states(surprised: Tensor, layout: Layout) -> Tensor:
    """The states of all elements of a latent under a layout.

    Args:
        surprised: their surprises, [B, M, h, w].
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
    """What each neighbour of each element counts, 0 where it is not known, [8, M, height, width], 8 bits."""
    _, _, rows, columns = layout.around.shape
    down, across = np.arange(height), np.arange(width)
    weights = layout.around[:, :, (down % rows)[:, None], across % columns].astype(np.int8)
    for part, weight, (row, column) in zip(weights, WEIGHTS, AROUND, strict=True):
        inside = ((down + row >= 0) & (down + row < height))[:, None] & (across + column >= 0)
        part *= weight * (inside & (across + column < width))
    return torch.from_numpy(weights[:, layout.group_of_channel])


class ScaleTable(nn.Module):
    """What is learned: by which factor the scales of a channel are off in a state.

    Args:
        channels: of y.

    Attributes:
        log_factor: [channels, STATES], zero at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.zeros(channels, STATES))
        self.least = LowerBound(SCALE_MIN)

    def forward(self, scales: Tensor, means: Tensor, y_hat: Tensor, layout: Layout) -> Tensor:
        """Scales as what was decoded before corrects them, all arguments and the result [B, M, h, w].

        Args:
            scales: scales before correction.
            means: means of y.
            y_hat: rounded y. An element reads only those of smaller stages.
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
        """The shifts that codecs apply, [channels, STATES], whole numbers in 8 bits."""
        most = SCALE_LEVELS - 1
        return (self.log_factor / STEP).round().clamp(-most, most).to(torch.int8)


def shifted(levels: Tensor, table: Tensor, channels: Tensor, element_states: Tensor) -> Tensor:
    """Levels moved by a table's shifts, within those there are.

    Args:
        levels: of any shape.
        table: see `ScaleTable.levels`.
        channels: of y, whose levels they are; broadcast against them.
        element_states: their states, of the shape of `levels`.
    """
    shifts = table.flatten()[channels * STATES + element_states]
    return (levels + shifts).clamp(0, SCALE_LEVELS - 1)
