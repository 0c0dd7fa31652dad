"""Descent over integers: y_hat of one picture changes where the loss of the picture falls.

Any value may go one step up, one step down, or to zero. For each of these changes the loss is estimated from

- the bits of the value itself, exactly;
- the gradient of the distortion, and of the bits of all other values, which see this one as their context;
- the curvature of the distortion, at first a mean for each channel: the diagonal of the Hessian, estimated
  with random signs (Bekas, Kokiopoulou and Saad, Applied Numerical Mathematics 57, 2007).

The values that gain change together, each with a probability, because changes of neighbours influence each
other. A step after which the loss is higher is taken back, and the probability is halved. Where the slope has
risen by more than the curvature says, the curvature is that rise from then on: a gain that was estimated too
high is not tried again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nas.codec.bitstream import Latents
from nas.codec.codec import Codec
from nas.codec.refining.tiles import RefinementTile, TileLoss, Told, refine_by_tiles
from nas.codec.tiles import Tiling
from nas.graph.affine import exact_arithmetic
from nas.graph.entropy import Y_LIMIT, bits
from nas.metrics.objective import Objective
from nas.photos.images import Pixels
from nas.spaces.description import Y_REDUCTION
from nas.support.progress import Report

# The probability that a value which gains is changed, at first and at least.
FIRST, LEAST = 0.4, 0.1


def descended(
    codec: Codec,
    pixels: Pixels,
    latents: Latents,
    objective: Objective,
    steps: int,
    tiling: Tiling,
    seed: int,
    report: Report,
    saturated: bool = False,
) -> Latents:
    """The latents with a better y_hat, after the steps in each tile.

    Args:
        codec: a codec with z whose y is rounded to integers.
        pixels: the picture, [H, W, 3] in 8 bits.
        latents: y_hat and z_hat.
        objective: the loss.
        steps: number of steps in each tile.
        tiling: when and how the picture is refined in tiles.
        seed: seed of the random numbers.
        report: called with the steps done, the total number of steps and a note.
        saturated: see `TileLoss`.
    """
    generator = torch.Generator(latents[0].device).manual_seed(seed)

    def refine(
        loss: TileLoss, tile: RefinementTile, y_hat: Tensor, z_hat: Tensor | None, told: Told
    ) -> tuple[Tensor, Tensor | None]:
        assert z_hat is not None
        descent = Descent(loss, y_hat, z_hat, tile.core_mask(y_hat, Y_REDUCTION), generator)
        for done in range(steps):
            told(done)
            descent.step()
        return descent.y_hat, z_hat

    return refine_by_tiles(
        codec, pixels, latents, objective, refine, steps, tiling=tiling, saturated=saturated, report=report
    )


class Descent:
    """The descent of one tile.

    Args:
        loss: the loss of the tile.
        y_hat: integers, [1, M, h, w].
        z_hat: integers, [1, N, h / 4, w / 4]. They stay as they are.
        mask: 1 where values may change, and 0 elsewhere, [h, w].
        generator: generator of the random numbers.

    Attributes:
        y_hat: the best integers so far.
        probability: that a value which gains is changed.
    """

    def __init__(
        self, loss: TileLoss, y_hat: Tensor, z_hat: Tensor, mask: Tensor, generator: torch.Generator
    ) -> None:
        self.y_hat, self.probability = y_hat, FIRST
        self._loss, self._net, self._mask, self._generator = loss, loss.codec.network, mask, generator
        with exact_arithmetic():
            self._psi = self._net.h_s(z_hat)
        self._curvature = self._estimate_curvature()
        self._least, *self._slopes = self._measured(y_hat)

    def step(self) -> None:
        """Change the values that gain, each with a probability, if that lowers the loss."""
        gain, change = self.gains(*self._slopes)
        drawn = torch.rand(change.shape, generator=self._generator, device=change.device)
        chosen = (gain > 0) & (drawn < self.probability) & (self._mask > 0)
        y_hat = torch.where(chosen, self.y_hat + change, self.y_hat)
        loss, *slopes = self._measured(y_hat)
        rise = (slopes[0] - self._slopes[0]) / torch.where(chosen, change, 1)
        self._curvature = torch.where(chosen, torch.maximum(self._curvature, rise), self._curvature)
        if loss < self._least:
            self.y_hat, self._least, self._slopes = y_hat, loss, slopes
        else:
            self.probability = max(self.probability / 2, LEAST)

    def gains(self, gradient: Tensor, scales: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
        """By how much the loss is estimated to fall for the best change of each value, and that change.

        Args:
            gradient: of the loss without a value's own bits, in the shape of y_hat.
            scales: of the Gaussians, in the same shape.
            means: of the Gaussians, in the same shape.
        """
        here, likelihood = self.y_hat, self._net.gaussian.likelihood
        own = likelihood(here, scales, means).log2()
        gain, change = torch.zeros_like(here), torch.zeros_like(here)
        for move in (torch.ones_like(here), -torch.ones_like(here), -here):
            saved = (likelihood(here + move, scales, means).log2() - own) / self._loss.pixels
            found = saved - gradient * move - self._curvature / 2 * move.square()
            better = (found > gain) & ((here + move).abs() <= Y_LIMIT)
            gain, change = torch.where(better, found, gain), torch.where(better, move, change)
        return gain, change

    @exact_arithmetic()
    def _measured(self, y_hat: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        """The loss of y_hat as it is decoded, in the range of pixels, and what `gains` needs there."""
        with torch.enable_grad():
            y = y_hat.clone().requires_grad_()
            scales, means = self._net.context(self._psi, y, self._loss.codec.layout)
            rate, x_hat = bits(self._net.gaussian.likelihood(y_hat, scales, means)), self._loss.decoded(y)
            (gradient,) = torch.autograd.grad(self._loss.of(rate, x_hat), y)
        loss = self._loss.of(rate.detach(), x_hat.detach().clamp(0, 1))
        return float(loss), gradient, scales.detach(), means.detach()

    @exact_arithmetic()
    def _estimate_curvature(self) -> Tensor:
        """The second derivative of the distortion by a value, a mean for each channel, [1, M, 1, 1]."""
        drawn = torch.rand(self.y_hat.shape, generator=self._generator, device=self.y_hat.device)
        signs = 2 * drawn.round() - 1
        above, below = (self._gradient_of_distortion(self.y_hat + side * signs) for side in (0.5, -0.5))
        curvature = (signs * (above - below)).mean((0, 2, 3), keepdim=True)
        return curvature.clamp_min(0)

    def _gradient_of_distortion(self, y: Tensor) -> Tensor:
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self._loss(torch.zeros(1, device=y.device), y), y)
        return gradient
