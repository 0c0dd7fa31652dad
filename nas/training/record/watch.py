"""Seeing a supernet learn: losses on calibration photos of its narrowest, a median and its widest member.

The training loss is of other architectures in every step, on noisy latents and random crops, so it hardly
shows whether anything is learned. These losses are of the same architectures on the same photos, with the
rate of integers, as a search scores them.
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

PHOTOS, WATCHED_SIDE = 8, 256  # how many photos, and how many pixels a side from the middle of each


@dataclass(frozen=True)
class WatchedRate:
    """One rate at which a supernet is watched.

    Attributes:
        name: what follows `loss_widest` in the columns; empty where a run has one rate.
        lmbda: weight of the distortion.
    """

    name: str
    lmbda: float


class Watch:
    """Some photos, architectures and rates, looked at again and again.

    Args:
        space: the supernet's.
        photos: calibration photos; the middle of the first few is used.
        rates: at least one.
        metric: `mse` or `ms-ssim`; for the latter, photos of 160 pixels and less are left out.
    """

    def __init__(
        self, space: SearchSpace, photos: Sequence[Photo], rates: Sequence[WatchedRate], metric: str = "mse"
    ) -> None:
        least = 161 if metric == "ms-ssim" else 1
        middles = [_middle(photo.pixels) for photo in photos]
        self.pictures = [pixels for pixels in middles if min(pixels.shape[:2]) >= least][:PHOTOS]
        self.rates, self.metric, self.alignment = rates, metric, space.family.alignment
        self.architectures = watched(space)

    @property
    def columns(self) -> list[str]:
        """The names of the losses: `loss_narrowest`, `loss_median`, `loss_widest`, for each rate."""
        return [column(name, rate) for rate in self.rates for name in self.architectures]

    @property
    def pixels(self) -> int:
        """How many pixels go through the network at each look."""
        once = sum(picture.shape[0] * picture.shape[1] for picture in self.pictures)
        return once * len(self.architectures) * len(self.rates)

    @torch.no_grad()
    def losses(self, net: Supernet) -> dict[str, float]:
        """The mean loss over the photos, by column; the network's active architecture is changed."""
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


def watched(space: SearchSpace) -> dict[str, Architecture]:
    """The architectures that are watched, by name; a space of one has only its widest."""
    if space.size == 1:
        return {"widest": space.widest()}
    return {"narrowest": space.narrowest(), "median": space.uniform(0.5), "widest": space.widest()}


def column(name: str, rate: WatchedRate) -> str:
    """What metrics.csv calls the loss of an architecture at a rate.

    Args:
        name: name of the architecture, such as `widest`.
        rate: the rate.
    """
    return f"loss_{name}{rate.name}"


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, side - WATCHED_SIDE) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + WATCHED_SIDE, left : left + WATCHED_SIDE])
