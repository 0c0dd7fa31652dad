"""The tiles in which a picture is refined, and the loss of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from nas.codec.codec import Codec
from nas.codec.tiles import TileSide, Tiling, core_multiple, tile_sides
from nas.metrics.losses import distortion
from nas.metrics.objective import Objective
from nas.photos.grey import is_grey
from nas.photos.images import Pixels
from nas.photos.tensors import Padded
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION
from nas.support.progress import Report, silent

# With its surroundings such a tile has 1024x1024 pixels. The gradients of a decoder of 3 kMAC/px then take
# 0.6 GB.
REFINEMENT_TILING = Tiling(limit=1 << 20, side=768)


@dataclass(frozen=True)
class RefinementTile:
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

    def core_mask(self, values: Tensor, unit: int) -> Tensor:
        """1 in the core of the tile and 0 around it, [h, w].

        Args:
            values: the tile's part of a latent, [..., h, w].
            unit: pixels across an element of the latent.
        """
        mask = torch.zeros(values.shape[-2:], device=values.device)
        mask[self.core(unit)] = 1
        return mask

    def cut(self, values: Tensor, unit: int) -> Tensor:
        """A copy of a latent's values in the tile."""
        rows, columns = self.slices(unit)
        return values[..., rows, columns].clone()

    def paste(self, values: Tensor, part: Tensor, unit: int) -> None:
        """Write the core of the tile back to its place in a latent."""
        (rows, columns), (top, left) = self.core(unit), self.slices(unit)
        target = values[..., top, left]
        target[..., rows, columns] = part.detach()[..., rows, columns]


def _scaled(start: int, stop: int, unit: int) -> slice:
    """Convert a range of elements of y to elements of `unit` pixels."""
    return slice(start * Y_REDUCTION // unit, -(-stop * Y_REDUCTION // unit))


def refinement_tiles(codec: Codec, height: int, width: int, tiling: Tiling) -> Iterator[RefinementTile]:
    """The tiles in which a latent with this number of rows and columns is refined."""
    multiples = [side // Y_REDUCTION for side in core_multiple(codec.layout)]
    whole = height * width * Y_REDUCTION**2 <= tiling.limit
    side = tiling.side // Y_REDUCTION
    sides = [
        tile_sides(length, length if whole else side, multiple, (2 * multiple, 2 * multiple))
        for length, multiple in zip((height, width), multiples, strict=True)
    ]
    for rows, columns in product(*sides):
        yield RefinementTile(rows, columns)


class TileLoss:
    """The loss of one tile's latents.

    Args:
        codec: the codec.
        x: the pixels of the tile without padding, [1, 3, H, W] in [0, 1].
        objective: the loss. For a codec over a range of rates, its lambda also sets the rate.
        saturated: the picture has saturated areas, where what leads out of the range of pixels is no error.
        grey: the picture is grey, so that decoders give each pixel the mean of its colours.
    """

    def __init__(
        self, codec: Codec, x: Tensor, objective: Objective, saturated: bool = False, grey: bool = False
    ) -> None:
        self.codec, self.x, self.objective, self._grey = codec, x, objective, grey
        self._saturated = (x == 0) | (x == 1) if saturated else None

    @property
    def pixels(self) -> int:
        """The number of pixels of the tile."""
        return self.x.shape[-2] * self.x.shape[-1]

    def __call__(self, rate: Tensor, y_hat: Tensor) -> Tensor:
        """The loss, a scalar with a gradient.

        Args:
            rate: bits of the tile, a scalar or [1].
            y_hat: values of y that g_s decodes, [1, M, h, w].
        """
        return self.of(rate, self.decoded(y_hat))

    def decoded(self, y_hat: Tensor) -> Tensor:
        """What g_s makes of y, [1, 3, H, W], with values beyond [0, 1] as they are.

        Args:
            y_hat: values of y, [1, M, h, w].
        """
        net = self.codec.network
        height, width = self.x.shape[-2:]
        read = net.unscaled_y(y_hat, self.objective.lmbda if self.codec.rates else None)
        x_hat: Tensor = net.g_s(read.contiguous(memory_format=torch.channels_last))[..., :height, :width]
        return x_hat

    def of(self, rate: Tensor, x_hat: Tensor) -> Tensor:
        """The loss of a decoded tile.

        Args:
            rate: bits of the tile, a scalar or [1].
            x_hat: the decoded tile, [1, 3, H, W].
        """
        if self._saturated is not None:  # beyond the range of pixels there is no error
            x_hat = torch.where(self._saturated, x_hat.clamp(0, 1), x_hat)
        if self._grey:
            x_hat = x_hat.mean(1, keepdim=True).expand_as(x_hat)
        error = distortion(self.x, x_hat, self.objective.metric)
        loss: Tensor = self.objective.loss(rate / self.pixels, error).mean()
        return loss


Told = Callable[[int], None]
Refine = Callable[[TileLoss, RefinementTile, Tensor, Tensor | None, Told], tuple[Tensor, Tensor | None]]


def refine_by_tiles(
    codec: Codec,
    pixels: Pixels,
    latents: tuple[Tensor, Tensor | None],
    objective: Objective,
    refine: Refine,
    steps: int,
    *,
    tiling: Tiling = REFINEMENT_TILING,
    saturated: bool = False,
    report: Report = silent,
) -> tuple[Tensor, Tensor | None]:
    """Refine latents tile by tile. Later tiles see what earlier ones became.

    Args:
        codec: the codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        latents: y, [1, M, h, w], and z, [1, N, h/4, w/4], or None if there is no z.
        objective: the loss.
        refine: called with the loss of a tile, the tile, its y and z, and a function that it tells the number
            of its steps done; gives the refined y and z, of which the core counts.
        steps: number of steps in each tile.
        tiling: when and how the picture is refined in tiles.
        saturated: see `TileLoss`.
        report: called with the steps done, the total number of steps and a note.
    """
    y, z = (None if values is None else values.clone() for values in latents)
    assert y is not None
    x, grey = Padded(pixels, codec.alignment, y.device), is_grey(pixels)
    tiles = list(refinement_tiles(codec, y.shape[-2], y.shape[-1], tiling))
    for number, tile in enumerate(tiles):
        rows, columns = tile.slices(1)
        part = x[..., rows, columns][..., : pixels.shape[0] - rows.start, : pixels.shape[1] - columns.start]
        loss = TileLoss(codec, part, objective, saturated, grey)
        own_z = None if z is None else tile.cut(z, Z_REDUCTION)
        before = number * steps

        def told(done: int, before: int = before) -> None:
            report(before + done, len(tiles) * steps, "")

        own_y, own_z = refine(loss, tile, tile.cut(y, Y_REDUCTION), own_z, told)
        tile.paste(y, own_y, Y_REDUCTION)
        if z is not None and own_z is not None:
            tile.paste(z, own_z, Z_REDUCTION)
    report(len(tiles) * steps, len(tiles) * steps, "")
    return y, z
