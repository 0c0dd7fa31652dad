"""The same latents under other layouts of a family: no picture changes, only what its file weighs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nas.codec.bitstream import Latents, Nic, latents_of, read_latents, write_latents
from nas.codec.family import Family
from nas.codec.tiles import TILING, Tiling
from nas.images import MAX_PIXELS, Pixels


@torch.no_grad()
def compress_smallest(
    family: Family, pixels: Pixels, layouts: Sequence[str], *, tiling: Tiling = TILING
) -> Nic:
    """The smallest file of one picture, [H, W, 3] in 8 bits, over some layouts.

    Only the entropy path runs for each of them; the file's header says which it was.

    Raises:
        InputError: no such layout, or a picture that cannot be coded.
    """
    height, width = pixels.shape[:2]
    return _smallest(family, latents_of(family.base, pixels, tiling), width, height, layouts)


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
    return _smallest(family, latents, nic.width, nic.height, layouts)


def _smallest(family: Family, latents: Latents, width: int, height: int, layouts: Sequence[str]) -> Nic:
    """Of equal sizes the first."""
    files = (write_latents(family.codec(name), latents, width, height) for name in layouts)
    return min(files, key=lambda nic: len(nic.stream))
