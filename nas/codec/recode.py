"""Choosing among the files of one picture: the layout of a family, and the quality.

Under another layout the latents are the same: no picture changes, only what its file weighs. The quality
decides what is kept of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nas.codec.bitstream import (
    Latents,
    Nic,
    analyzed,
    latents_of,
    lmbda_of,
    read_latents,
    step_of,
    write_latents,
)
from nas.codec.family import Family
from nas.codec.tiles import TILING, Tiling
from nas.photos.images import MAX_PIXELS, Pixels
from nas.spaces.rates import STEPS_OF_QUALITY
from nas.support.errors import InputError


@torch.no_grad()
def compress_smallest(
    family: Family,
    pixels: Pixels,
    layouts: Sequence[str],
    *,
    quality: float | None = None,
    most_bytes: float | None = None,
    tiling: Tiling = TILING,
) -> Nic:
    """The smallest file of one picture, [H, W, 3] in 8 bits, over some layouts.

    Only the entropy path runs for each of them; the file's header says which it was.

    Args:
        family: what codes it.
        pixels: the picture.
        layouts: the names of some.
        quality: see `compress_image`.
        most_bytes: take the best quality whose file is no larger, the header included.
        tiling: see `compress_image`.

    Raises:
        InputError: no such layout or quality, a picture that cannot be coded, or one of which even the file
            of the lowest quality is too large.
    """
    height, width = pixels.shape[:2]
    if most_bytes is None:
        step = step_of(family.base, quality)
        latents = latents_of(family.base, pixels, tiling, lmbda_of(family.base, step))
        return _smallest(family, latents, width, height, layouts, step)
    step_of(family.base, 0)  # there must be a quality to choose
    y = analyzed(family.base, pixels, tiling)

    def coded(step: int) -> Nic:
        latents = family.base.rounded(y, lmbda_of(family.base, step))
        return _smallest(family, latents, width, height, layouts, step)

    return _best_within(coded, most_bytes)


def _best_within(coded: Callable[[int], Nic], most_bytes: float) -> Nic:
    """The file of the highest quality that is not too large, found by halving the range.

    Sizes grow with the quality but for a few bytes, so the one found is the best or next to it; it is never
    too large.
    """
    low, high = 0, STEPS_OF_QUALITY
    best = coded(low)
    if not len(best.to_bytes()) <= most_bytes:  # of NaN neither is true
        raise InputError(
            f"The lowest quality takes {len(best.to_bytes())} bytes, and at most {most_bytes:g} were asked "
            "for: allow more, or make the picture smaller."
        )
    while low < high:
        middle = (low + high + 1) // 2
        tried = coded(middle)
        if len(tried.to_bytes()) <= most_bytes:
            best, low = tried, middle
        else:
            high = middle - 1
    return best


@torch.no_grad()
def transcode(family: Family, nic: Nic, layouts: Sequence[str], *, max_pixels: int = MAX_PIXELS) -> Nic:
    """The smallest file, over some layouts, of the latents that a file holds.

    It is what compressing the same picture under that layout gives, to the last bit.

    Args:
        family: its own.
        nic: the file.
        layouts: the names of some.
        max_pixels: see `decompress_image`.

    Raises:
        InputError: no such layout, or a file of no layout of this family.
    """
    codec = family.codec(family.layout_of(nic.path_identity))
    latents = read_latents(codec, nic, max_pixels=max_pixels)
    return _smallest(family, latents, nic.width, nic.height, layouts, nic.step)


def _smallest(
    family: Family, latents: Latents, width: int, height: int, layouts: Sequence[str], step: int | None
) -> Nic:
    """Of equal sizes the first."""
    files = (write_latents(family.codec(name), latents, width, height, step) for name in layouts)
    return min(files, key=lambda nic: len(nic.stream))
