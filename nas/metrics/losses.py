"""The rate-distortion loss of a batch, and the distortion of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.graph.entropy import bits
from nas.metrics.objective import Objective


@dataclass(frozen=True)
class Losses:
    """Means over a batch.

    Attributes:
        total: the rate-distortion loss, a scalar.
        bpp: bits per pixel, a scalar.
        distortion: MSE, or 1 - MS-SSIM, a scalar.
    """

    total: Tensor
    bpp: Tensor
    distortion: Tensor


def distortion(x: Tensor, x_hat: Tensor, metric: str) -> Tensor:
    """MSE or 1 - MS-SSIM of each image, [B].

    Args:
        x: images in [0, 1], [B, 3, H, W].
        x_hat: decoded images, of the same shape.
        metric: `mse` or `ms-ssim`.
    """
    if metric == "mse":
        return F.mse_loss(x_hat, x, reduction="none").mean((1, 2, 3))
    from pytorch_msssim import ms_ssim

    similarity: Tensor = ms_ssim(x_hat, x, data_range=1.0, size_average=False)
    return 1 - similarity


def batch_losses(x: Tensor, output: dict[str, Any], objective: Objective) -> Losses:
    """The losses of one forward pass.

    Args:
        x: the images, [B, 3, H, W].
        output: output of `CodecNetwork.forward`. Without a picture there is no distortion.
        objective: weight and metric of the distortion.
    """
    pixels = x.shape[-2] * x.shape[-1]
    likelihoods = output["likelihoods"].values()
    bpp = (torch.stack([bits(likelihood) for likelihood in likelihoods]).sum(0) / pixels).mean()
    shown = "x_hat" in output
    error = distortion(x, output["x_hat"], objective.metric).mean() if shown else torch.zeros_like(bpp)
    return Losses(objective.loss(bpp, error), bpp, error)
