"""Annealing: y and z of one picture move along the gradient of its loss.

Rounding has no gradient. Stochastic Gumbel annealing replaces it (SGA; Yang, Bamler and Mandt, NeurIPS 2020):
a value is drawn from the two integers around it, and the draw becomes a choice as a temperature falls.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from nas.codec.codec import Codec
from nas.codec.refining.tiles import RefinementTile, TileLoss, Told, refine_by_tiles
from nas.codec.tiles import Tiling
from nas.graph.affine import exact_arithmetic
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, bits
from nas.metrics.objective import Objective
from nas.photos.images import Pixels
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION
from nas.support.progress import Report

# The best settings for 20 to 300 steps on calibration photos of the `patch` supernet: the learning rate of
# Adam in steps of y, and the temperature at the start and at the end.
RATE, HOT, COLD = 0.03, 0.7, 0.05
_EDGE = 1e-4  # least distance to an integer, at which the logits would be infinite


def annealed_latents(
    codec: Codec,
    pixels: Pixels,
    y: Tensor,
    objective: Objective,
    steps: int,
    tiling: Tiling,
    seed: int,
    report: Report,
    saturated: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """y and z after the steps in each tile, before rounding.

    Args:
        codec: the codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        y: y at the rate, before rounding, [1, M, h, w].
        objective: the loss.
        steps: number of steps in each tile.
        tiling: when and how the picture is refined in tiles.
        seed: seed of the random numbers.
        report: called with the steps done, the total number of steps and a note.
        saturated: see `TileLoss`.
    """
    net = codec.network
    with exact_arithmetic():
        z = net.z_of(y, objective.lmbda if codec.rates else None) if net.with_z else None
    generator = torch.Generator(y.device).manual_seed(seed)

    def refine(
        loss: TileLoss, tile: RefinementTile, y: Tensor, z: Tensor | None, told: Told
    ) -> tuple[Tensor, Tensor | None]:
        search = Annealing(loss, y, z)
        search.hold(tile)
        for done in range(steps):
            told(done)
            search.step(done / steps, generator)
        return search.y, search.z

    return refine_by_tiles(
        codec, pixels, (y, z), objective, refine, steps, tiling=tiling, saturated=saturated, report=report
    )


class Annealing:
    """The search for better latents of one tile.

    Args:
        loss: the loss of the tile.
        y: y of the tile at a rate, before rounding, [1, M, h, w].
        z: z in the same way, [1, N, h / 4, w / 4], or None if there is no z.
    """

    def __init__(self, loss: TileLoss, y: Tensor, z: Tensor | None) -> None:
        self.loss, self.codec, self.net = loss, loss.codec, loss.codec.network
        self.y, self.z = y.requires_grad_(), None if z is None else z.requires_grad_()
        self.optimizer = torch.optim.Adam([self.y] if self.z is None else [self.y, self.z], lr=RATE)
        # the centre of y's rounding, from the last step
        self.centre: Tensor | float = 0.0
        if self.net.centred and self.z is None:
            self.centre = cast(Tensor, self.net.centre(self.net.y_prior))
        self._masks: list[tuple[Tensor, Tensor]] = []

    def hold(self, tile: RefinementTile) -> None:
        """Let only values in the tile's core move."""
        for values, unit in ((self.y, Y_REDUCTION), (self.z, Z_REDUCTION)):
            if values is not None:
                self._masks.append((values, tile.core_mask(values, unit)))

    def step(self, progress: float, generator: torch.Generator) -> None:
        """Take one step along the gradient. `progress` is the share of the steps that are done."""
        temperature = max(HOT * (1 - progress), COLD)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * (1 - 0.9 * progress)
        self.optimizer.zero_grad()
        with torch.enable_grad(), exact_arithmetic():
            self.soft_loss(temperature, generator).backward()
        for values, mask in self._masks:
            assert values.grad is not None
            values.grad *= mask
        self.optimizer.step()

    def soft_loss(self, temperature: float, generator: torch.Generator) -> Tensor:
        """The loss of latents between integers.

        Args:
            temperature: temperature of the draw.
            generator: generator of the random numbers.
        """
        net = self.net
        y = annealed(self.y, temperature, generator, self.centre).clamp(-Y_LIMIT, Y_LIMIT)
        if self.z is None:
            return self.loss(bits(net.y_prior.likelihood(y)), y)
        z = annealed(self.z, temperature, generator, net.centre(net.prior)).clamp(-Z_LIMIT, Z_LIMIT)
        scales, means = net.context(net.h_s(z), y, self.codec.layout)
        rate = bits(net.gaussian.likelihood(y, scales, means)) + bits(net.prior.likelihood(z))
        if net.centred:
            self.centre = means.detach()
        return self.loss(rate, y)


def annealed(
    values: Tensor, temperature: float, generator: torch.Generator, centre: Tensor | float = 0.0
) -> Tensor:
    """Draw values between the two whole steps around each value, the nearer one more often (SGA).

    The logits of the steps below and above are -atanh(distance) / temperature. A Gumbel-softmax of them at
    the same temperature gives the share of the upper step in the drawn value.

    Args:
        values: values to draw around, of any shape.
        temperature: temperature, above 0. Towards 0 the draw becomes rounding.
        generator: generator of the random numbers.
        centre: origin of the whole steps.
    """
    away = values - centre
    below = away.detach().floor()
    share = (away - below).clamp(_EDGE, 1 - _EDGE)
    drawn = torch.rand(share.shape, generator=generator, device=share.device).clamp(1e-6, 1 - 1e-6)
    logit = (torch.atanh(share) - torch.atanh(1 - share)) / temperature
    # the difference of two Gumbel variables is logistic
    return below + torch.sigmoid((logit + torch.logit(drawn)) / temperature) + centre
