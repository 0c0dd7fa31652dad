"""Losses on calibration photos during training: of the narrowest, a median and the widest architecture.

The training loss is a poor measure of progress, because every step has other architectures, noisy latents and
random crops. The losses here always measure the same architectures on the same photos, with the rate of
integers, as a search scores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.graph.entropy import bits
from nas.graph.network import Supernet
from nas.metrics.losses import distortion
from nas.metrics.objective import rd_loss
from nas.photos.images import Photo, Pixels
from nas.photos.tensors import pad, to_tensor
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace

PHOTOS, WATCHED_SIDE = 8, 256  # number of photos, and side of the middle part of each in pixels


@dataclass(frozen=True)
class MonitoredRate:
    """One rate at which the losses are measured.

    Attributes:
        name: suffix of the columns after `loss_widest`. Empty for a run with one rate.
        lmbda: weight of the distortion.
    """

    name: str
    lmbda: float


class CalibrationMonitor:
    """Measures the same photos, architectures and rates again and again.

    Args:
        space: space of the supernet.
        photos: calibration photos. The middle of the first few is used.
        rates: the rates, at least one.
        metric: `mse` or `ms-ssim`. For the latter, photos with a side of 160 pixels or less are left out.
    """

    def __init__(
        self, space: SearchSpace, photos: Sequence[Photo], rates: Sequence[MonitoredRate], metric: str = "mse"
    ) -> None:
        least = 161 if metric == "ms-ssim" else 1
        middles = [_middle(photo.pixels) for photo in photos]
        self.pictures = [pixels for pixels in middles if min(pixels.shape[:2]) >= least][:PHOTOS]
        self.rates, self.metric, self.alignment = rates, metric, space.family.alignment
        self.architectures = monitored_architectures(space)

    @property
    def columns(self) -> list[str]:
        """The columns of the losses: `loss_narrowest`, `loss_median`, `loss_widest`, for each rate."""
        return [column(name, rate) for rate in self.rates for name in self.architectures]

    @property
    def pixels(self) -> int:
        """Number of pixels that pass the network at each look."""
        once = sum(picture.shape[0] * picture.shape[1] for picture in self.pictures)
        return once * len(self.architectures) * len(self.rates)

    @torch.no_grad()
    def losses(self, net: Supernet) -> dict[str, float]:
        """The mean losses over the photos, by column. The active architecture changes."""
        training, device = net.training, next(net.parameters()).device
        losses: dict[str, float] = {}
        net.eval()
        try:
            for name, architecture in self.architectures.items():
                layout = net.activate(architecture)
                for rate in self.rates:
                    each = []
                    for picture in self.pictures:
                        x = to_tensor(picture).to(device)
                        output = net(pad(x, self.alignment), layout, lmbda=rate.lmbda)
                        each.append(self._loss(x, output, rate.lmbda))
                    losses[column(name, rate)] = float(np.mean(each))
        finally:
            net.train(training)
        return losses

    def _loss(self, x: Tensor, output: Mapping[str, Any], lmbda: float) -> float:
        height, width = x.shape[-2:]
        rate = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values())
        error = float(distortion(x, output["x_hat"][..., :height, :width].clamp(0, 1), self.metric)[0])
        return float(rd_loss(rate / (height * width), error, lmbda, self.metric))


def monitored_architectures(space: SearchSpace) -> dict[str, Architecture]:
    """The measured architectures by name. A space with one architecture has only its widest."""
    if space.size == 1:
        return {"widest": space.widest()}
    return {"narrowest": space.narrowest(), "median": space.uniform(0.5), "widest": space.widest()}


def column(name: str, rate: MonitoredRate) -> str:
    """The column of metrics.csv for an architecture at a rate.

    Args:
        name: name of the architecture, such as `widest`.
        rate: the rate.
    """
    return f"loss_{name}{rate.name}"


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, side - WATCHED_SIDE) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + WATCHED_SIDE, left : left + WATCHED_SIDE])
