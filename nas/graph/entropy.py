"""Integer latents and the probabilities they are coded with.

y_hat = round(y) and z_hat = round(z): the integers themselves are coded, y under a Gaussian of fractional
mean integrated over each integer's bin, z under a factorised prior. So the entropy path never changes the
picture, and distortion and rate can be scored apart.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from nas.graph._compressai import EntropyBottleneck, GaussianConditional

# Latents are clamped as part of quantising, so that every coder's alphabet is bounded.
Y_LIMIT = 1023
Z_LIMIT = 127

# The grid on which entropy parameters lie when coding: CompressAI's range and number of scales.
SCALE_MIN, SCALE_MAX, SCALE_LEVELS = 0.11, 256.0, 64
MEAN_STEPS = 64

_LOG_STEP = (math.log(SCALE_MAX) - math.log(SCALE_MIN)) / (SCALE_LEVELS - 1)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, limit: int) -> Tensor:
        return values.round().clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def quantize(values: Tensor, limit: int) -> Tensor:
    """Round to integers within +-limit; the gradient passes straight through."""
    return cast(Tensor, _StraightThrough.apply(values, limit))


class FactorizedPrior(EntropyBottleneck):
    """CompressAI's entropy bottleneck, asked for the likelihood of given values instead of rounding them.

    Its quantiles stay untouched: integer latents have no medians, and each photo's own range is coded.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.quantiles.requires_grad_(False)

    def likelihood(self, values: Tensor) -> Tensor:
        """The probability of the unit bin around each value, shape [B, C, h, w] like `values`."""
        by_channel = values.transpose(0, 1)
        found, _, _ = self._likelihood(by_channel.reshape(len(by_channel), 1, -1))
        return self.likelihood_lower_bound(found).reshape(by_channel.shape).transpose(0, 1)


class ConditionalGaussian(GaussianConditional):
    """CompressAI's conditional Gaussian, asked for the likelihood of given values."""

    def __init__(self) -> None:
        super().__init__(None, scale_bound=SCALE_MIN)

    def likelihood(self, values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """The probability of the unit bin around each value; all of one shape."""
        return cast(Tensor, self.likelihood_lower_bound(self._likelihood(values, scales, means)))


def snap(scales: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy parameters on the coding grid: 64 log-spaced scales, means in 1/64.

    Encoder and decoder compute them in float64 with different shapes of arrays, which agree to about
    1e-13; on the grid they agree exactly.
    """
    level = ((scales.clamp(SCALE_MIN, SCALE_MAX).log() - math.log(SCALE_MIN)) / _LOG_STEP).round()
    return (level * _LOG_STEP + math.log(SCALE_MIN)).exp(), (means * MEAN_STEPS).round() / MEAN_STEPS


def bits(likelihood: Tensor) -> Tensor:
    """Estimated bits of each image, shape [B], from likelihoods of shape [B, ...]."""
    return -likelihood.log2().flatten(1).sum(1)
