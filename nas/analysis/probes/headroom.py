"""Headroom: how much a better activation would lower a picture's loss, with everything behind it frozen."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nas.analysis.probes.interfaces import Interface
from nas.analysis.probes.passage import Annealing, Passage
from nas.codec.refining.annealing import COLD, HOT, RATE

ROUNDED_NODES = ("y", "z")
# Adam's first step moves every number by its rate. The rates to try, in units of `steps_of`, and how much a
# random move of this size may raise the loss: a larger move would not follow a gradient
RATES = tuple(0.4 / 4.0**number for number in range(8))
MOST_RISE = 0.01


def steps_of(interface: Interface, spread: Tensor) -> Tensor:
    """The unit in which a channel moves: whole steps for rounded latents, else its standard deviation, [C].

    A channel that never changes has no scale of its own and is not moved.

    Args:
        interface: the interface.
        spread: standard deviation of each channel, [C].
    """
    return torch.ones_like(spread) if interface.name in ROUNDED_NODES else spread


@torch.no_grad()
def rate_of(passage: Passage, interface: Interface, unit: Tensor, generator: torch.Generator) -> float:
    """The rate of Adam for an activation: that of effort for y and z, otherwise the largest suitable one.

    It is the largest of `RATES` with which random moves of all numbers, up or down, raise the mean loss by at
    most `MOST_RISE`. In a linear path, a tenth of a standard deviation may be many steps of y, while a
    learned block hardly reacts to it.

    Args:
        passage: the pictures.
        interface: the interface.
        unit: unit in which each channel moves, [C, 1, 1].
        generator: generator of the random numbers.
    """
    if interface.name in ROUNDED_NODES:
        return RATE
    start = passage.activation(interface)
    draw = torch.rand(start.shape, generator=generator, device=start.device, dtype=start.dtype)
    move = unit * (2 * draw.round() - 1)
    for rate in RATES:
        losses = passage.losses_with(interface, partial(torch.add, rate * move))
        if float(losses.sum()) <= (1 + MOST_RISE) * float(passage.losses.sum()):
            return rate
    return RATES[-1]


def lowest_losses(
    passage: Passage, interface: Interface, unit: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """The loss of each picture after its activation at an interface has followed its gradient, [B].

    Rounding behind the interface is annealed as in `codec.refining.annealing`. The result is the loss of
    rounded latents, or that of the codec's own activation if no better one is found.

    Args:
        passage: the pictures.
        interface: the interface.
        unit: unit in which each channel moves, [C].
        steps: number of steps of Adam.
        generator: generator of the random numbers of the annealing.
    """
    start = passage.activation(interface)
    unit = unit.to(start.dtype)[:, None, None]
    move = torch.zeros_like(start).requires_grad_()
    rate = rate_of(passage, interface, unit, generator)
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
        losses = passage.losses_with(interface, change)
    return torch.where(losses < passage.losses, losses, passage.losses)
