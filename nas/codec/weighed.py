"""Rounding that weighs bits against error: rate-distortion optimised quantisation of y.

The nearest whole number is the best one for the picture, not for the file: where the entropy model expects
another, the second nearest may save more bits than its error is worth, most of all a zero. Video encoders
decide alike for the coefficients of their transforms (Karczewicz, Ye and Chong, VCEG-AH21, 2008).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nas.codec.bitstream import Latents
from nas.codec.codec import Codec
from nas.graph.affine import exactly
from nas.graph.entropy import Y_LIMIT, from_grid

# The squared steps of y that a bit is worth: of 0.03 to 0.2 what gained most on calibration photos of the
# `patch` supernet, alike at all rates.
BIT = 0.04
PASSES = 2  # what is decided changes what later stages expect


@torch.no_grad()
@exactly()
def weighed(codec: Codec, y: Tensor, latents: Latents) -> Latents:
    """Latents whose y_hat has, for every value, the whole number with the least error and bits together.

    Each decision takes the others as they are; what it changes for later stages is seen in the next pass.

    Args:
        codec: what codes them.
        y: y at a rate, before it is rounded, [1, M, h, w].
        latents: y_hat and z_hat by plain rounding.

    Returns:
        The latents as given where y is rounded about its mean or has no hyperprior: no zero is cheap there.
    """
    y_hat, z_hat = latents
    if z_hat is None or codec.network.centred:
        return latents
    below = y.floor()
    for _ in range(PASSES):
        scales, means = (part.float() for part in from_grid(*codec.parameters_of_y(y_hat, z_hat)))
        least = torch.full_like(y, torch.inf)
        for candidate in (below, below + 1, torch.zeros_like(y)):
            likelihood = codec.network.gaussian.likelihood(candidate, scales, means)
            cost = (candidate - y).square() - BIT * likelihood.log2()
            y_hat, least = torch.where(cost < least, candidate, y_hat), torch.minimum(cost, least)
    return y_hat.clamp(-Y_LIMIT, Y_LIMIT), z_hat
