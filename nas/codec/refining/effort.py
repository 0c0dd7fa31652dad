"""Effort: refines the latents of one picture for that picture's own loss before they are coded.

g_a serves all pictures. For a single picture there are better latents. y and z move along the gradient of the
loss through g_s and the entropy path, whose weights stay as they are. The file therefore decodes like any
other at the same cost. Rounding has no gradient. Stochastic Gumbel annealing replaces it (SGA; Yang, Bamler
and Mandt, NeurIPS 2020): a value is drawn from the two whole numbers around it, and the draw becomes a choice
as a temperature falls.

At the end, and as the only step of effort 1, rounding weighs bits against error (rate-distortion optimised
quantisation). The nearest whole number is best for the picture, but not for the file. If the entropy model
expects another number, the second nearest one, and above all a zero, may save more bits than its error costs.
Video encoders decide the same way for transform coefficients (Karczewicz, Ye, Chong, VCEG-AH21, 2008).

A large picture is refined tile by tile, while everything around a tile is held fixed. Flat areas of pure
white or black start where `codec.refining.saturated` moves them to, if that is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from typing import cast

import torch
from torch import Tensor

from nas.codec.bitstream import Latents, picture_of
from nas.codec.codec import Codec
from nas.codec.refining.saturated import beyond
from nas.codec.tiles import TILING, TileSide, Tiling, step, tile_sides
from nas.graph.affine import exactly
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, bits, from_grid
from nas.metrics.losses import distortion
from nas.metrics.objective import Objective
from nas.metrics.quality import MS_SSIM_SIDE, error_of
from nas.photos.images import Pixels
from nas.photos.tensors import Padded
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION
from nas.support.errors import InputError
from nas.support.limits import MOST_EFFORT
from nas.support.progress import Report, silent

# Steps of refinement by effort, from effort 2 on. Each effort takes about 1.6 times as long as the last one.
STEPS_OF_EFFORT = (0, 0, 12, 20, 32, 50, 80, 130, 200, 320, 500)
# The best settings for 20 to 300 steps on calibration photos of the `patch` supernet: the learning rate of
# Adam in steps of y, and the temperature at the start and at the end.
RATE, HOT, COLD = 0.03, 0.7, 0.05
# Settings of rounding that weighs bits: how many squared steps of y a bit is worth, and the number of passes,
# because each decision changes what later stages expect. Of values from 0.03 to 0.2, this one gained most on
# calibration photos of the `patch` supernet, at all rates alike.
BIT, PASSES = 0.04, 2
# With its surroundings such a tile has 1024x1024 pixels. The gradients of a decoder of 3 kMAC/px then take
# 0.6 GB.
PIECES = Tiling(limit=1 << 20, side=768)
_EDGE = 1e-4  # least distance to a whole number, at which the logits would be infinite


def check_effort(effort: int) -> None:
    """Raise InputError if the effort is out of range.

    Args:
        effort: 0 (the latents of g_a) to `MOST_EFFORT`.
    """
    if not isinstance(effort, Integral) or not 0 <= effort <= MOST_EFFORT:
        raise InputError(f"Effort is a whole number from 0 to {MOST_EFFORT}, not {effort}.")


def is_too_small(pixels: Pixels, objective: Objective) -> bool:
    """Whether a picture is too small for the distortion to be measured.

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.
        objective: the loss.
    """
    return objective.metric == "ms-ssim" and min(pixels.shape[:2]) <= MS_SSIM_SIDE


@torch.inference_mode(False)
@torch.no_grad()
def refined(
    codec: Codec,
    pixels: Pixels,
    y: Tensor,
    objective: Objective,
    effort: int,
    *,
    tiling: Tiling = TILING,
    pieces: Tiling = PIECES,
    seed: int = 0,
    report: Report = silent,
) -> Latents:
    """Refine y_hat and z_hat of one picture at a rate. Returns plain rounding if refinement is not better.

    The decision uses the real file and picture: bytes, and the distortion in 8 bits.

    Args:
        codec: the codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        y: output of g_a for the picture, from `bitstream.analyzed`, [1, M, h, w].
        objective: the loss. For a codec over a range of rates, its lambda also sets the rate.
        effort: 0 to `MOST_EFFORT`.
        tiling: when the picture passes g_s in tiles during decoding.
        pieces: when and how the picture is refined in tiles.
        seed: seed of the annealing.
        report: called with the steps done, the total number of steps and a note.

    Raises:
        InputError: the effort is out of range.
    """
    check_effort(effort)
    rate = _rate(codec, objective)
    plain = codec.rounded(y, rate)
    if not effort or is_too_small(pixels, objective):
        return plain

    def loss_of(latents: Latents) -> float:
        return loss_of_file(codec, latents, codec.encode(*latents)[0], pixels, objective, tiling)

    best = loss_of(plain), plain
    if (moved := beyond(codec, pixels, y, rate)) is not None:
        moved_latents = codec.rounded(moved, rate)
        if (loss := loss_of(moved_latents)) < best[0]:
            y, best = moved, (loss, moved_latents)
    with exactly():
        y = codec.network.scaled_y(y, rate)
    candidates = [weighed(codec, y, best[1])]
    if steps := STEPS_OF_EFFORT[effort]:
        y, z = _refine(codec, pixels, y, objective, steps, pieces, seed, report, moved is not None)
        annealed_latents = codec.to_integers(y, z)
        candidates += [annealed_latents, weighed(codec, y, annealed_latents)]
    distinct = {id(latents): latents for latents in candidates if latents is not best[1]}.values()
    found = [best, *((loss_of(latents), latents) for latents in distinct)]  # `weighed` may change nothing
    return min(found, key=lambda each: each[0])[1]


@torch.no_grad()
@exactly()
def weighed(codec: Codec, y: Tensor, latents: Latents) -> Latents:
    """Round y so that every value has the whole number with the least error and bits together.

    Each decision treats the other values as fixed. Its effect on later stages is seen in the next pass.

    Args:
        codec: the codec.
        y: y at a rate, before rounding, [1, M, h, w].
        latents: y_hat and z_hat by plain rounding.

    Returns:
        The new latents. They are the given ones if y is rounded about its mean or has no hyperprior, because
        a zero is not cheap there.
    """
    y_hat, z_hat = latents
    if z_hat is None or codec.network.centred:
        return latents
    below = y.floor()
    for _ in range(PASSES):
        scales, means = (part.float() for part in from_grid(*codec.parameters_of_y(y_hat, z_hat)))
        least = torch.full_like(y, torch.inf)
        for candidate in (below, below + 1, torch.zeros_like(y)):
            likelihood = codec.network.gaussian.likelihood(candidate, scales, means)
            cost = (candidate - y).square() - BIT * likelihood.log2()
            y_hat, least = torch.where(cost < least, candidate, y_hat), torch.minimum(cost, least)
    return y_hat.clamp(-Y_LIMIT, Y_LIMIT), z_hat


def _rate(codec: Codec, objective: Objective) -> float | None:
    """The lambda of the rate, or None for a codec of one rate."""
    return objective.lmbda if codec.rates else None


def loss_of_file(
    codec: Codec, latents: Latents, stream: bytes, pixels: Pixels, objective: Objective, tiling: Tiling
) -> float:
    """The loss of a file and of the picture that it decodes to.

    Args:
        codec: the codec.
        latents: y_hat and z_hat.
        stream: the coded latents, without the file's header.
        pixels: the picture that was coded, [H, W, 3] in 8 bits.
        objective: the loss. For a codec over a range of rates its lambda is the rate, too.
        tiling: when the picture passes g_s in tiles.
    """
    height, width = pixels.shape[:2]
    decoded = picture_of(codec, latents[0], width, height, tiling, _rate(codec, objective))
    error = error_of(pixels, decoded, objective.metric)
    return float(objective.loss(8 * len(stream) / (height * width), error))


@dataclass(frozen=True)
class _Piece:
    """A tile of the picture, with sides in elements of y."""

    rows: TileSide
    columns: TileSide

    def slices(self, unit: int) -> tuple[slice, slice]:
        """The tile's place in a tensor with one element per `unit` pixels: the picture 1, y 16, z 64."""
        rows, columns = (_scaled(side.low, side.high, unit) for side in (self.rows, self.columns))
        return rows, columns

    def core(self, unit: int) -> tuple[slice, slice]:
        """The place of the tile's core within the tile, in the same way."""
        rows, columns = (
            _scaled(side.start - side.low, side.stop - side.low, unit) for side in (self.rows, self.columns)
        )
        return rows, columns


def _scaled(start: int, stop: int, unit: int) -> slice:
    """Convert a range of elements of y to elements of `unit` pixels."""
    return slice(start * Y_REDUCTION // unit, -(-stop * Y_REDUCTION // unit))


def _pieces(codec: Codec, height: int, width: int, pieces: Tiling) -> Iterator[_Piece]:
    """The tiles in which a latent with this number of rows and columns is refined."""
    multiples = [side // Y_REDUCTION for side in step(codec.layout)]
    whole = height * width * Y_REDUCTION**2 <= pieces.limit
    side = pieces.side // Y_REDUCTION
    sides = [
        tile_sides(length, length if whole else side, multiple, (2 * multiple, 2 * multiple))
        for length, multiple in zip((height, width), multiples, strict=True)
    ]
    for rows, columns in product(*sides):
        yield _Piece(rows, columns)


def _refine(
    codec: Codec,
    pixels: Pixels,
    y: Tensor,
    objective: Objective,
    steps: int,
    pieces: Tiling,
    seed: int,
    report: Report,
    saturated: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """y and z after the steps in each tile, before rounding, from y at the rate."""
    net, y = codec.network, y.clone()
    with exactly():
        z = net.z_of(y, _rate(codec, objective)) if net.with_z else None
    x = Padded(pixels, codec.alignment, y.device)
    generator = torch.Generator(y.device).manual_seed(seed)
    tiles = list(_pieces(codec, y.shape[-2], y.shape[-1], pieces))
    for number, piece in enumerate(tiles):
        rows, columns = piece.slices(1)
        part = x[..., rows, columns][..., : pixels.shape[0] - rows.start, : pixels.shape[1] - columns.start]
        search = _Search(
            codec,
            part,
            _cut(y, piece),
            None if z is None else _cut(z, piece, Z_REDUCTION),
            objective,
            saturated,
        )
        search.hold(piece)
        for done in range(steps):
            report(number * steps + done, len(tiles) * steps, "")
            search.step(done / steps, generator)
        _paste(y, search.y, piece)
        if z is not None and search.z is not None:
            _paste(z, search.z, piece, Z_REDUCTION)
    report(len(tiles) * steps, len(tiles) * steps, "")
    return y, z


def _cut(values: Tensor, piece: _Piece, unit: int = Y_REDUCTION) -> Tensor:
    """A copy of a latent's values in a tile."""
    rows, columns = piece.slices(unit)
    return values[..., rows, columns].clone()


def _paste(values: Tensor, part: Tensor, piece: _Piece, unit: int = Y_REDUCTION) -> None:
    """Write the core of a tile back to its place."""
    (rows, columns), (top, left) = piece.core(unit), piece.slices(unit)
    target = values[..., top, left]
    target[..., rows, columns] = part.detach()[..., rows, columns]


class _Search:
    """The search for better latents of one tile.

    Args:
        codec: the codec.
        x: the pixels of the tile without padding, [1, 3, H, W] in [0, 1].
        y: y of the tile at a rate, before rounding, [1, M, h, w].
        z: z in the same way, [1, N, h / 4, w / 4], or None if there is no z.
        objective: the loss.
        saturated: the picture has saturated areas, where what leads out of the range of pixels is no error.
    """

    def __init__(
        self,
        codec: Codec,
        x: Tensor,
        y: Tensor,
        z: Tensor | None,
        objective: Objective,
        saturated: bool = False,
    ) -> None:
        self.codec, self.net, self.x, self.objective = codec, codec.network, x, objective
        self.y, self.z = y.requires_grad_(), None if z is None else z.requires_grad_()
        self.optimizer = torch.optim.Adam([self.y] if self.z is None else [self.y, self.z], lr=RATE)
        # the centre of y's rounding, from the last step
        self.centre: Tensor | float = 0.0
        if self.net.centred and self.z is None:
            self.centre = cast(Tensor, self.net.centre(self.net.y_prior))
        self._masks: list[tuple[Tensor, Tensor]] = []
        self.saturated = (x == 0) | (x == 1) if saturated else None

    def hold(self, piece: _Piece) -> None:
        """Let only values in the tile's core move."""
        for values, unit in ((self.y, Y_REDUCTION), (self.z, Z_REDUCTION)):
            if values is not None:
                mask = torch.zeros(values.shape[-2:], device=values.device)
                mask[piece.core(unit)] = 1
                self._masks.append((values, mask))

    def step(self, progress: float, generator: torch.Generator) -> None:
        """Take one step along the gradient. `progress` is the share of the steps that are done."""
        temperature = max(HOT * (1 - progress), COLD)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * (1 - 0.9 * progress)
        self.optimizer.zero_grad()
        with torch.enable_grad(), exactly():
            self._soft_loss(temperature, generator).backward()
        for values, mask in self._masks:
            assert values.grad is not None
            values.grad *= mask
        self.optimizer.step()

    def _soft_loss(self, temperature: float, generator: torch.Generator) -> Tensor:
        """The loss of latents between whole numbers."""
        net, layout = self.net, self.codec.layout
        y = annealed(self.y, temperature, generator, self.centre).clamp(-Y_LIMIT, Y_LIMIT)
        if self.z is None:
            rate = bits(net.y_prior.likelihood(y))
        else:
            z = annealed(self.z, temperature, generator, net.centre(net.prior)).clamp(-Z_LIMIT, Z_LIMIT)
            scales, means = net.context(net.h_s(z), y, layout)
            rate = bits(net.gaussian.likelihood(y, scales, means)) + bits(net.prior.likelihood(z))
            if net.centred:
                self.centre = means.detach()
        height, width = self.x.shape[-2:]
        read = net.unscaled_y(y, _rate(self.codec, self.objective))
        x_hat = net.g_s(read.contiguous(memory_format=torch.channels_last))[..., :height, :width]
        if self.saturated is not None:  # beyond the range of pixels there is no error
            x_hat = torch.where(self.saturated, x_hat.clamp(0, 1), x_hat)
        error = distortion(self.x, x_hat, self.objective.metric)
        loss: Tensor = self.objective.loss(rate / (height * width), error).mean()
        return loss


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
