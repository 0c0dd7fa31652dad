"""Flat areas of pure white, of black, or of another colour whose channels are all 0 or 255.

Rounding moves every element of y by up to half a step, which is two levels of brightness at low rates. On
most pictures this is lost among other errors, but a white background becomes slightly grey, with a faint grid
of blocks, and its edge shows on a white page. What a decoder makes is clamped to the range of pixels, so an
error that leads out of the range costs nothing. The encoder therefore moves y of such blocks outwards, by
enough for rounding not to lead back into the range. Files remain ordinary ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas.codec.codec import Codec
from nas.graph.affine import exact_arithmetic
from nas.photos.images import Pixels
from nas.photos.tensors import Padded
from nas.spaces.description import Y_REDUCTION
from nas.support.arrays import Array

# How far the element of y that moves most is moved, in its steps. Rounding takes half a step of it, and as
# much of every other element. Of 0.5 to 2 steps, 2 alone gave pure white at qualities 0, 30, 50 and 100 of
# zoo:patch, for files of the same size within 3 %.
OUTWARDS = 2.0
_LEVEL = 1 / 64  # how far beyond the range the colour lies that gives the direction; in [0, 1]
_SIDE = 128  # pixels of the flat picture that gives it, a multiple of every family's alignment


@torch.no_grad()
@exact_arithmetic()
def push_out_of_range(codec: Codec, pixels: Pixels, y: Tensor, lmbda: float | None = None) -> Tensor | None:
    """y with the saturated flat blocks moved out of the range of pixels; None where there are none.

    Args:
        codec: what codes the picture.
        pixels: the picture, [H, W, 3] in 8 bits.
        y: what g_a makes of it, as `bitstream.analyzed` gives it, [1, M, h, w].
        lmbda: lambda of the rate, for a codec over a range of rates. By default it is the middle anchor.

    Returns:
        In the shape of `y`, which stays as it is.
    """
    rows, columns, colours = saturated_blocks(pixels, codec.alignment)
    if not len(rows):
        return None
    moved = y.clone()
    for colour in np.unique(colours, axis=0):
        away = _push_direction(codec, colour)
        most = codec.network.scaled_y(away, lmbda).abs().max()
        if not 0 < most < torch.inf:
            continue
        chosen = (colours == colour).all(1)
        moved[0, :, rows[chosen], columns[chosen]] += OUTWARDS / most * away[0]
    return moved


def saturated_blocks(pixels: Pixels, multiple: int) -> tuple[Array, Array, Array]:
    """The blocks of a padded picture that have one colour, whose channels are all 0 or 255.

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.
        multiple: what both sides are padded to multiples of.

    Returns:
        Rows and columns of the blocks, in elements of y, [n] each, and their colours, [n, 3].
    """
    padded = Padded(pixels, multiple)
    corners = padded.levels(step=Y_REDUCTION)
    rows, columns = np.nonzero(((corners == 0) | (corners == 255)).all(-1))
    flat = np.zeros(len(rows), bool)
    for row in np.unique(rows):  # a row of blocks at a time takes little memory
        places = np.nonzero(rows == row)[0]
        band = padded.levels(slice(row * Y_REDUCTION, (row + 1) * Y_REDUCTION))
        same = (band.reshape(Y_REDUCTION, -1, Y_REDUCTION, 3) == corners[row, None, :, None]).all((0, 2, 3))
        flat[places] = same[columns[places]]
    rows, columns = rows[flat], columns[flat]
    return rows, columns, corners[rows, columns]


def _push_direction(codec: Codec, colour: Array) -> Tensor:
    """How y changes when a flat picture of a saturated colour goes out of the range of pixels, [1, M, 1]."""
    x = torch.from_numpy(colour / 255).float()
    both = torch.stack([x, x + (2 * x - 1) * _LEVEL]).to(codec.table.device)
    y = codec.analyze(both[..., None, None].expand(2, 3, _SIDE, _SIDE))
    middle = y[..., y.shape[-2] // 2, y.shape[-1] // 2]
    return (middle[1] - middle[0])[None, :, None]
