"""The rate-distortion loss, everywhere: CompressAI's convention and lambdas (no torch here)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


def rd_loss(bpp: Any, distortion: Any, lmbda: float, metric: str = "mse") -> Any:
    """`bpp + lambda * 255^2 * MSE` with images in [0, 1], or `bpp + lambda * (1 - MS-SSIM)`.

    Args:
        bpp: rate in bits per pixel.
        distortion: MSE of images in [0, 1], or 1 - MS-SSIM.
        lmbda: weight of the distortion.
        metric: `mse` or `ms-ssim`.
    """
    return bpp + lmbda * (255**2 if metric == "mse" else 1) * distortion


@dataclass(frozen=True)
class Objective:
    """What a codec is good at: the weight of the distortion, and how distortion is measured.

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
        """The same distortion with another weight; None stands for this one's.

        Args:
            lmbda: the other weight.
        """
        return self if lmbda is None else replace(self, lmbda=lmbda)
