"""Rounding of latents, and the Gaussian that y is coded with.

y_hat = round(y) and z_hat = round(z). The integers themselves are coded: y under a Gaussian with a fractional
mean, integrated over each integer's bin, and z under a factorised prior (`graph.priors`). The entropy path
therefore never changes the picture, and distortion and rate can be scored separately.

The alternative for comparisons is CompressAI's centred rounding, round(y - mean) + mean. There every value is
rounded about a `centre`: the Gaussian's mean for y, and the prior's median for z.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.graph._compressai import GaussianConditional

# Latents are clamped when they are quantised, so that every coder's alphabet is bounded.
Y_LIMIT = 1023
Z_LIMIT = 127

# The grid of the entropy parameters in coding: CompressAI's range and number of scales.
SCALE_MIN, SCALE_MAX, SCALE_LEVELS = 0.11, 256.0, 64
MEAN_STEPS = 64
# Scales are compared in whole multiples of this unit, so that integer arithmetic finds the same level.
SCALE_UNIT = 2.0**-10

# The coder works with 24 bits and gives every symbol of its alphabet at least one unit.
CODER_UNIT = 2.0**-24

# In single precision a normal distribution has no mass beyond this many standard deviations.
_CERTAIN = 6.0
# Number of values in a piece for each thread, so that intermediate results stay in a core's L2 cache.
_PIECE_OF_LATENTS = 1 << 15


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scale of every level, and for all levels but the last one the most units of scale in it.

    Scales are log-spaced and then rounded far more coarsely than the last digit of any logarithm, so that
    they are the same on every machine.
    """
    first, last = math.log(SCALE_MIN), math.log(SCALE_MAX)
    places = np.linspace(first, last, 2 * SCALE_LEVELS - 1)  # levels, and their geometric means between
    levels = np.round(np.exp(places[::2]) * 2**16) / 2**16
    return levels, np.round(np.exp(places[1::2]) / SCALE_UNIT)


SCALES, SCALE_BOUNDS = _grid()
_BOUNDS = torch.from_numpy(SCALE_BOUNDS)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, limit: int) -> Tensor:
        return values.round().clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def quantize(values: Tensor, limit: int, centre: Tensor | float = 0.0) -> Tensor:
    """Round to whole steps from a centre, at most `limit` of them. Gradients pass straight through.

    Args:
        values: values to round, of any shape.
        limit: largest number of steps on either side of the centre.
        centre: origin of the steps, a number or a tensor that broadcasts to `values`.
    """
    if isinstance(centre, float) and centre == 0:
        return cast(Tensor, _StraightThrough.apply(values, limit))
    return cast(Tensor, _StraightThrough.apply(values - centre, limit)) + centre


def widened(values: Tensor) -> Tensor:
    """Convert half precision to single, because half precision cannot hold integers beyond 256.

    Args:
        values: a tensor of any shape and precision.

    Returns:
        A tensor in the shape of `values`. Single and double precision stay as they are.
    """
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


class ConditionalGaussian(GaussianConditional):
    """CompressAI's conditional Gaussian, used for the likelihood of given values."""

    def __init__(self) -> None:
        super().__init__(None, scale_bound=SCALE_MIN)

    def quantize(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        """Return values that are rounded or noisy already as they are. Symbols are made as in CompressAI.

        Args:
            inputs: the values.
            mode: `noise`, `dequantize` or `symbols`.
            means: means of the Gaussians, in the shape of `inputs`.
        """
        return super().quantize(inputs, mode, means) if mode == "symbols" else inputs

    def likelihood(self, values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """The probability of the unit bin around each value. All arguments have one shape.

        Args:
            values: the values.
            scales: standard deviations of the Gaussians.
            means: means of the Gaussians.
        """
        return super().forward(values, scales, means)[1]

    def coded_likelihood(
        self,
        values: Tensor,
        scales: Tensor,
        means: Tensor,
        centre: Tensor | float = 0.0,
        limit: Tensor | None = None,
    ) -> Tensor:
        """The probability with which rounded values are really coded, within each image's own range.

        Args:
            values, scales, means: tensors of one shape, [B, ...].
            centre: origin of the rounding.
            limit: the range of each image, [B], if `values` are only a part of it.
        """
        limit = coded_range(values - centre) if limit is None else limit
        reach = limit[:, None, None, None] + 0.5
        bounded = self.lower_bound_scale(scales)
        ends = (centre + reach - means) / bounded, (centre - reach - means) / bounded
        high, low = (0.5 * torch.erfc(-(0.5**0.5) * end) for end in ends)
        inside = (high - low).clamp_min(CODER_UNIT)
        return (self.likelihood(values, scales, means) / inside + CODER_UNIT).clamp_max(1)

    @torch.no_grad()
    def coded_bits(self, values: Tensor, scales: Tensor, means: Tensor, limit: float) -> Tensor:
        """`-coded_likelihood(...).log2()` of integers of one image, in a third of the time.

        Args:
            values, scales, means: tensors of one shape, in single precision.
            limit: the largest step from the mean that the coder can write for this image.

        Returns:
            The bits of each value, in the shape of `values`.
        """
        of_all = torch.empty(values.shape, device=values.device)
        size = _PIECE_OF_LATENTS * torch.get_num_threads() if of_all.device.type == "cpu" else of_all.numel()
        parts = (part.flatten().split(size) for part in (values, scales, means))
        for value, scale, mean, of_piece in zip(*parts, of_all.view(-1).split(size), strict=True):
            self._bits_of_few(value, scale, mean, limit + 0.5, of_piece)
        return of_all

    def _bits_of_few(
        self, values: Tensor, scales: Tensor, means: Tensor, reach: float, likelihood: Tensor
    ) -> None:
        """The bits of a few values, [n], in place. The share within reach is computed only if it is not 1."""
        scales = torch.maximum(scales, self.lower_bound_scale.bound)
        beyond = (means.abs().add_(scales, alpha=_CERTAIN) > reach).nonzero()[:, 0]
        step = scales.reciprocal_().mul_(0.5**0.5)
        away = (values - means).abs_()
        torch.sub(away, 0.5, out=likelihood).mul_(step).erfc_()
        likelihood -= away.add_(0.5).mul_(step).erfc_()
        torch.maximum(likelihood.mul_(0.5), self.likelihood_lower_bound.bound, out=likelihood)
        if len(beyond):
            means, step = means[beyond], step[beyond]
            inside = (means - reach).mul_(step).erfc_()
            inside -= (means + reach).mul_(step).erfc_()
            likelihood[beyond] /= inside.mul_(0.5).clamp_min_(CODER_UNIT)
        likelihood.add_(CODER_UNIT).clamp_max_(1).log2_().neg_()


def coded_range(values: Tensor) -> Tensor:
    """The largest step from the centre in each image, at least 1, [B]. It sets the coder's alphabet.

    Args:
        values: steps from the centre, [B, C, h, w].
    """
    return values.detach().abs().flatten(1).amax(1).clamp_min(1)


def to_grid(scales: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Convert entropy parameters to integers on the coding grid: 64 log-spaced scales, means in 1/64.

    An encoder and a decoder that compute the parameters in float64 with arrays of different shapes agree to
    about 1e-13. On the grid they agree exactly.

    Args:
        scales, means: tensors of one shape.

    Returns:
        Levels (places in `SCALES`) and steps (of 1 / MEAN_STEPS), in the same shape.
    """
    return levels_of(scales / SCALE_UNIT), (means * MEAN_STEPS).round()


def levels_of(units: Tensor) -> Tensor:
    """The level of every scale, for scales in units of `SCALE_UNIT`.

    Args:
        units: scales divided by `SCALE_UNIT`, of any shape.

    Returns:
        Places in `SCALES`, in the shape of `units`.
    """
    return torch.bucketize(units.contiguous(), _BOUNDS.to(units), out_int32=True)


def levels_of_whole(units: Tensor) -> Tensor:
    """The same as `levels_of` for whole units, several times as fast on a CPU by a table of all of them."""
    if units.device.type != "cpu":
        return levels_of(units)
    table = _table_of_levels()
    return table[units.clamp(0, len(table) - 1).int()]


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _table_of_levels() -> Tensor:
    """The level of every scale in whole units, up to the first unit of the last level."""
    return levels_of(torch.arange(int(SCALE_BOUNDS[-1]) + 2, dtype=torch.float32))


def from_grid(levels: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and means in float64, in the form that the coder needs.

    Args:
        levels: places in `SCALES`.
        steps: means in steps of 1 / MEAN_STEPS, in the shape of `levels`.
    """
    return torch.from_numpy(SCALES).to(levels.device)[levels], steps.double() / MEAN_STEPS


def snap(scales: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Round entropy parameters to the coding grid, in their own precision.

    Args:
        scales: standard deviations, of any shape.
        means: means, in the shape of `scales`.
    """
    snapped = from_grid(*to_grid(scales, means))
    return snapped[0].to(scales), snapped[1].to(means)


def bits(likelihood: Tensor) -> Tensor:
    """Estimated bits of each image, [B], from likelihoods, [B, ...]."""
    return -likelihood.log2().flatten(1).sum(1)
