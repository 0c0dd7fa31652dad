"""Headroom: how much a better activation of each picture would lower its loss, with all behind it frozen."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.analysis.probes.interfaces import Interface
from nas.analysis.probes.passage import Annealing, Passage
from nas.codec.effort import COLD, HOT, RATE

ROUNDED = ("y", "z")
# Adam's rate where channels are moved in standard deviations: 40 steps at 0.1 found more than at 0.03 at each
# interface of a middle `patch` architecture that was tried; for y and z effort's rate of 0.03 found most
RATE_OF_SPREAD = 0.1


def steps_of(interface: Interface, spread: Tensor) -> Tensor:
    """What a channel is moved in: whole steps of latents that are rounded, else its standard deviation, [C].

    A channel that never changes has no scale of its own, and is not moved.

    Args:
        interface: the interface.
        spread: standard deviation of each channel, [C].
    """
    return torch.ones_like(spread) if interface.name in ROUNDED else spread


def lowest_losses(
    passage: Passage, interface: Interface, unit: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """The loss of each picture after its activation at an interface has followed its gradient, [B].

    Rounding behind the interface is annealed as `codec.effort` does it. What is returned is the loss of
    rounded latents, and that of the codec's own activation where no better one was found.

    Args:
        passage: the pictures.
        interface: the interface.
        unit: what a channel is moved in, [C].
        steps: number of steps of Adam.
        generator: generator of the random numbers of the annealing.
    """
    start = passage.activation(interface)
    unit = unit.to(start.dtype)[:, None, None]
    move = torch.zeros_like(start).requires_grad_()
    rate = RATE if interface.name in ROUNDED else RATE_OF_SPREAD
    optimizer = torch.optim.Adam([move], lr=rate)

    def change(values: Tensor) -> Tensor:
        return values + unit * move

    for done in range(steps):
        progress = done / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - 0.9 * progress)
        optimizer.zero_grad()
        annealing = Annealing(max(HOT * (1 - progress), COLD), generator)
        with torch.enable_grad():
            passage.losses_with(interface, change, annealing).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = passage.losses_with(interface, change)
    return torch.where(found < passage.losses, found, passage.losses)
