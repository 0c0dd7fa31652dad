"""The rate-distortion loss in CompressAI's convention, used everywhere. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


def rd_loss(bpp: Any, distortion: Any, lmbda: float, metric: str = "mse") -> Any:
    """The rate-distortion loss: `bpp + lambda * 255^2 * MSE`, or `bpp + lambda * (1 - MS-SSIM)`.

    Args:
        bpp: rate in bits per pixel.
        distortion: MSE of images in [0, 1], or 1 - MS-SSIM.
        lmbda: weight of the distortion.
        metric: `mse` or `ms-ssim`.
    """
    return bpp + lmbda * (255**2 if metric == "mse" else 1) * distortion


@dataclass(frozen=True)
class Objective:
    """The objective of a codec: the weight of the distortion, and its metric.

    Attributes:
        lmbda: weight of the distortion.
        metric: `mse` or `ms-ssim`.
    """

    lmbda: float
    metric: str = "mse"

    def loss(self, bpp: Any, distortion: Any) -> Any:
        """The rate-distortion loss: see `rd_loss`.

        Args:
            bpp: rate in bits per pixel.
            distortion: MSE of images in [0, 1], or 1 - MS-SSIM.
        """
        return rd_loss(bpp, distortion, self.lmbda, self.metric)

    def at(self, lmbda: float | None) -> Objective:
        """The same metric with another lambda.

        Args:
            lmbda: the other lambda, or None to keep the present one.
        """
        return self if lmbda is None else replace(self, lmbda=lmbda)
