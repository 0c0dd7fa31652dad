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

# The coder works with 24 bits and gives every symbol of its alphabet at least one unit; frequencies of z
# are integers that add up to about 2^22, each at least 1.
CODER_UNIT = 2.0**-24
Z_PRECISION = 1 << 22

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

    def coded_likelihood(self, values: Tensor) -> Tensor:
        """The probability with which integers are really coded: within each image's own range."""
        reach = coded_range(values) + 0.5
        ends = torch.stack([-reach, reach], -1).expand(self.channels, -1, -1).flatten(1)[:, None]
        low, high = (
            self._logits_cumulative(ends, stop_gradient=False).sigmoid().unflatten(-1, (-1, 2)).unbind(-1)
        )
        inside = (high - low)[:, 0].transpose(0, 1)[..., None, None].clamp_min(1 / Z_PRECISION)
        return ((self.likelihood(values) / inside).clamp_min(1 / Z_PRECISION) + CODER_UNIT).clamp_max(1)


class ConditionalGaussian(GaussianConditional):
    """CompressAI's conditional Gaussian, asked for the likelihood of given values."""

    def __init__(self) -> None:
        super().__init__(None, scale_bound=SCALE_MIN)

    def likelihood(self, values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """The probability of the unit bin around each value; all of one shape."""
        return cast(Tensor, self.likelihood_lower_bound(self._likelihood(values, scales, means)))

    def coded_likelihood(self, values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """The probability with which integers are really coded: within each image's own range."""
        reach = coded_range(values)[:, None, None, None] + 0.5
        bounded = self.lower_bound_scale(scales)
        high = self._standardized_cumulative((reach - means) / bounded)
        low = self._standardized_cumulative((-reach - means) / bounded)
        inside = (high - low).clamp_min(CODER_UNIT)
        return (self.likelihood(values, scales, means) / inside + CODER_UNIT).clamp_max(1)


def coded_range(values: Tensor) -> Tensor:
    """The largest magnitude in each image, at least 1, shape [B]: the coder's alphabet, in the stream."""
    return values.detach().abs().flatten(1).amax(1).clamp_min(1)


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
