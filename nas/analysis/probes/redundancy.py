"""Redundancy: the fewest principal components of an activation that keep the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.analysis.probes.interfaces import Interface
from nas.analysis.probes.passage import Passage


@dataclass(frozen=True)
class Components:
    """The principal components of an activation over all positions of some pictures, in double precision.

    Attributes:
        mean: mean of each channel, [C].
        basis: the components as orthonormal columns, [C, C], in the order of falling variance.
        spread: standard deviation of each channel, [C].
    """

    mean: Tensor
    basis: Tensor
    spread: Tensor

    @classmethod
    def of(cls, activations: Sequence[Tensor]) -> Components:
        """Compute the components of activations.

        Args:
            activations: activations of some pictures, [B, C, h, w] each. Their sizes may differ.
        """
        columns = [a.double().transpose(0, 1).flatten(1) for a in activations]
        count = sum(c.shape[1] for c in columns)
        mean = torch.stack([c.sum(1) for c in columns]).sum(0) / count
        covariance = torch.zeros(len(mean), len(mean), dtype=mean.dtype, device=mean.device)
        for column in columns:
            centred = column - mean[:, None]
            covariance += centred @ centred.t() / count
        _, vectors = torch.linalg.eigh(covariance)
        return cls(mean, vectors.flip(1), covariance.diagonal().clamp_min(0).sqrt())

    def projected(self, activation: Tensor, count: int) -> Tensor:
        """Project an activation onto its first components, in its own precision, [B, C, h, w].

        Args:
            activation: the activation, [B, C, h, w].
            count: number of components. With 0, every position gets the mean.
        """
        away = activation.permute(0, 2, 3, 1).double() - self.mean
        basis = self.basis[:, :count]
        kept = self.mean + (away @ basis) @ basis.t()
        return kept.to(activation.dtype).permute(0, 3, 1, 2)


def fewest(most: int, keeps: Callable[[int], bool]) -> int:
    """Find the smallest number that is enough, by bisection. `most` must be enough.

    If enough is not monotone, the result is a number that is enough although one less is not.

    Args:
        most: the largest number.
        keeps: returns whether a number is enough.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if keeps(middle):
            high = middle
        else:
            low = middle + 1
    return high


@torch.no_grad()
def mean_loss(passages: Sequence[Passage], interface: Interface, components: Components, count: int) -> float:
    """The mean loss of pictures with only some components of their activation at an interface.

    Args:
        passages: the pictures.
        interface: the interface.
        components: its components.
        count: number of components to keep.
    """
    losses = [
        passage.losses_with(interface, lambda values: components.projected(values, count))
        for passage in passages
    ]
    return float(torch.cat(losses).double().mean())


def components_needed(
    passages: Sequence[Passage], interface: Interface, components: Components, tolerance: float
) -> int:
    """The fewest components with which the mean loss rises by at most a share.

    Args:
        passages: the pictures.
        interface: the interface.
        components: its components.
        tolerance: the share, such as 0.01.
    """
    whole = float(torch.cat([passage.losses for passage in passages]).double().mean())
    most = (1 + tolerance) * whole
    channels = len(components.mean)
    return fewest(channels, lambda count: mean_loss(passages, interface, components, count) <= most)
