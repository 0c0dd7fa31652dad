"""Converts pictures to .nic files and back. `nas.codec.nic` describes the file."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas.codec.codec import Codec
from nas.codec.inputs import check_pixels, check_y
from nas.codec.nic import MAX_SIDE, Nic
from nas.codec.tiles import TILING, Tiling, tiles
from nas.photos.grey import is_grey, to_grey
from nas.photos.images import Pixels
from nas.photos.tensors import Padded, to_pixels
from nas.spaces.description import Y_REDUCTION
from nas.spaces.rates import STEPS_OF_QUALITY, lmbda_at, middle, quality_at
from nas.support.errors import InputError
from nas.support.limits import MAX_PIXELS, check_count, is_whole

Latents = tuple[Tensor, Tensor | None]  # y_hat [1, M, h, w] and z_hat [1, N, h/4, w/4] or None


@torch.no_grad()
def compress_image(
    codec: Codec, pixels: Pixels, *, quality: float | None = None, tiling: Tiling = TILING
) -> Nic:
    """Code one picture, [H, W, 3] in 8 bits. It is mirrored up to aligned sides; decoding crops it again.

    Large pictures pass g_a in tiles and are never stored as numbers wider than 8 bits.

    Args:
        codec: the codec.
        pixels: the picture.
        quality: 0 to 100, for a codec over a range of rates. By default it is that of the middle anchor.
        tiling: when and how to split large pictures into tiles.

    Raises:
        InputError: a side has no pixels or more than a file may have, or the quality does not exist.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    step = step_of(codec, quality)
    latents = latents_of(codec, pixels, tiling, lmbda_of(codec, step))
    return write_latents(codec, latents, width, height, step, is_grey(pixels))


def step_of(codec: Codec, quality: float | None) -> int | None:
    """Convert a quality to the form that files store, or None for a codec of one rate.

    Args:
        codec: the codec that writes the file.
        quality: from 0 to 100. By default it is that of the middle anchor.

    Raises:
        InputError: the codec has one rate, or the quality is not from 0 to 100.
    """
    if not codec.rates:
        if quality is None:
            return None
        raise InputError(
            "This codec has one rate, so no quality can be chosen: leave the quality out, or export a codec "
            "from a run that was trained over a range of lambdas (nas train --lmbda 0.0018..0.18)."
        )
    quality = quality_at(codec.rates, middle(codec.rates)) if quality is None else quality
    lmbda_at(codec.rates, quality)
    return round(quality / 100 * STEPS_OF_QUALITY)


def lmbda_of(codec: Codec, step: int | None) -> float | None:
    """The lambda of a stored quality, or None for a codec of one rate.

    Args:
        codec: the codec of the file.
        step: the stored quality, from 0 to `STEPS_OF_QUALITY`, or None.
    """
    if not codec.rates or step is None:
        return None
    return lmbda_at(codec.rates, 100 * step / STEPS_OF_QUALITY)


def latents_of(codec: Codec, pixels: Pixels, tiling: Tiling = TILING, lmbda: float | None = None) -> Latents:
    """y_hat and z_hat of one picture, as `compress_image` codes them. It raises the same errors.

    Args:
        codec: the codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        tiling: when to split large pictures into tiles.
        lmbda: lambda of the rate, for a codec over a range of rates. By default it is the middle anchor.
    """
    return codec.rounded(analyzed(codec, pixels, tiling), lmbda)


def analyzed(codec: Codec, pixels: Pixels, tiling: Tiling = TILING) -> Tensor:
    """The output of g_a for one picture, [1, M, h, w]. It does not depend on the rate.

    Args:
        codec: the codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        tiling: when to split large pictures into tiles.

    Raises:
        InputError: it is no picture in 8 bits, or a side has no pixels, or more than a file may have.
    """
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    if not 0 < min(height, width) <= max(height, width) <= MAX_SIDE:
        raise InputError(
            f"A picture of {width}x{height} pixels cannot be coded: its sides must be 1 to {MAX_SIDE} pixels."
        )
    return codec.analyze(Padded(pixels, codec.alignment, codec.table.device), tiling)


def write_latents(
    codec: Codec, latents: Latents, width: int, height: int, step: int | None = None, grey: bool = False
) -> Nic:
    """Make the file of a picture of this size from its latents at a quality.

    Args:
        codec: the codec.
        latents: y_hat and z_hat, from `latents_of`.
        width: width of the picture, in pixels.
        height: height of the picture, in pixels.
        step: the stored quality, from `step_of`.
        grey: whether the picture is grey, so that it has to decode grey.

    Raises:
        InputError: these are not latents of one picture of this size, or the quality does not exist.
    """
    if not isinstance(latents, tuple | list) or len(latents) != 2:
        raise InputError(f"Latents are a pair, y_hat and z_hat, not {type(latents).__name__}.")
    _check_step(codec, step)
    strings = codec.encode(*latents)
    _check_fit(codec, latents[0], width, height)
    (stream,) = strings
    return Nic(codec.path_identity, codec.fingerprint, width, height, stream, 0, step, grey)


@torch.no_grad()
def decompress_image(
    codec: Codec,
    nic: Nic,
    *,
    max_pixels: int = MAX_PIXELS,
    tiling: Tiling = TILING,
    precision: str = "32",
) -> Pixels:
    """Decode the picture of a .nic file, [H, W, 3] in 8 bits, tile by tile.

    Args:
        codec: a codec with the entropy path that made the file.
        nic: the file.
        max_pixels: refuse larger pictures, because a forged size costs an attacker nothing.
        tiling: when and how to split large pictures into tiles.
        precision: precision of g_s, see `Codec.mixed`.

    Raises:
        InputError: another entropy path made the file, its picture is too large, or g_s has no such
            precision.
    """
    mixed = codec.mixed(precision)
    y_hat, _ = read_latents(codec, nic, max_pixels=max_pixels)
    lmbda = lmbda_of(codec, nic.step)
    return picture_of(codec, y_hat, nic.width, nic.height, tiling, lmbda, mixed=mixed, grey=nic.grey)


def read_latents(codec: Codec, nic: Nic, *, max_pixels: int = MAX_PIXELS) -> Latents:
    """Decode y_hat and z_hat of a .nic file.

    Args:
        codec: a codec with the entropy path that made the file.
        nic: the file.
        max_pixels: largest number of pixels of the picture.

    Raises:
        InputError: another entropy path made the file, or its picture is too large.
    """
    if nic.path_identity != codec.path_identity:
        other = "use the codec that did, or one of its family."
        if not codec.network.space.fixed_latents:
            other = "its latents shrink with its width, so no other decoder fits: use the codec that did."
        raise InputError(
            f"This codec (entropy path {codec.path_identity}) did not make the file (entropy path "
            f"{nic.path_identity}): {other}"
        )
    _check_size(nic, max_pixels)
    return codec.decode([nic.stream], codec.shape(nic.height, nic.width))


@torch.no_grad()
def picture_of(
    codec: Codec,
    y_hat: Tensor,
    width: int,
    height: int,
    tiling: Tiling = TILING,
    lmbda: float | None = None,
    *,
    mixed: bool = False,
    grey: bool = False,
) -> Pixels:
    """The output of g_s for y_hat at a rate, [H, W, 3] in 8 bits, without the padding.

    Args:
        codec: the codec.
        y_hat: rounded y of one picture, [1, M, h, w].
        width: width of the picture, in pixels.
        height: height of the picture, in pixels.
        tiling: when to split large pictures into tiles.
        lmbda: lambda of the rate, for a codec over a range of rates. By default it is the middle anchor.
        mixed: compute g_s in mixed precision, see `Codec.mixed`.
        grey: give each pixel the mean of its colours, as the file of a grey picture asks for.

    Raises:
        InputError: y_hat is not rounded y of one picture of this size.
    """
    check_y(codec.network, y_hat, rounded=True, reader="g_s")
    _check_fit(codec, y_hat, width, height)
    pixels = np.empty((height, width, 3), np.uint8)
    y_hat = codec.network.unscaled_y(y_hat, lmbda)
    for rows, columns, x_hat in tiles(codec.network, "g_s", codec.layout, y_hat, tiling, mixed=mixed):
        target = pixels[rows, columns]
        decoded = to_pixels(x_hat[..., : target.shape[0], : target.shape[1]])
        target[:] = to_grey(decoded) if grey else decoded
    return pixels


def _check_step(codec: Codec, step: int | None) -> None:
    """InputError where a file of a codec cannot hold a quality in these steps."""
    allowed = f"a whole number from 0 to {STEPS_OF_QUALITY}" if codec.rates else "None"
    fits = step is None if not codec.rates else is_whole(step) and 0 <= (step or 0) <= STEPS_OF_QUALITY
    if not fits:
        raise InputError(f"The step of a quality of this codec is {allowed}, not {step}: see step_of.")


def _check_fit(codec: Codec, y_hat: Tensor, width: int, height: int) -> None:
    """InputError where y_hat is not of one picture of so many pixels."""
    height, width = check_count(height, "height", 1), check_count(width, "width", 1)
    sides = (-(-side // codec.alignment) * codec.alignment // Y_REDUCTION for side in (height, width))
    expected = (1, y_hat.shape[1], *sides)
    if max(width, height) > MAX_SIDE or tuple(y_hat.shape) != expected:
        raise InputError(
            f"A picture of {width}x{height} pixels has y_hat of the shape {expected} and at most {MAX_SIDE} "
            f"pixels a side, but the shape is {tuple(y_hat.shape)}."
        )


def _check_size(nic: Nic, max_pixels: int) -> None:
    """Refuse an impossible or too large size before any memory is allocated for it."""
    if max(nic.width, nic.height) > MAX_SIDE:
        raise InputError(
            f"The file says that its picture has {nic.width}x{nic.height} pixels, but no side can have more "
            f"than {MAX_SIDE}. The file is damaged: get it again."
        )
    if nic.width * nic.height > max_pixels:
        raise InputError(
            f"The file says that its picture has {nic.width}x{nic.height} pixels, which is more than "
            f"{max_pixels} in all: if you trust the file, raise the limit (--max-pixels)."
        )
