"""Choosing among the files of one picture: the layout of a family, and the quality.

Under another layout the latents are the same: no picture changes, only what its file weighs. The quality
decides what is kept of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nas.codec.bitstream import Latents, analyzed, lmbda_of, read_latents, step_of, write_latents
from nas.codec.effort import check_effort, refined
from nas.codec.family import CodecFamily
from nas.codec.nic import Nic
from nas.codec.tiles import TILING, Tiling
from nas.metrics.objective import Objective
from nas.photos.images import Pixels
from nas.spaces.rates import STEPS_OF_QUALITY
from nas.support.errors import InputError
from nas.support.limits import MAX_PIXELS
from nas.support.progress import Report, silent


@torch.no_grad()
def compress_smallest(
    family: CodecFamily,
    pixels: Pixels,
    layouts: Sequence[str],
    *,
    quality: float | None = None,
    most_bytes: float | None = None,
    effort: int = 0,
    tiling: Tiling = TILING,
    report: Report = silent,
) -> Nic:
    """The smallest file of one picture, [H, W, 3] in 8 bits, over some layouts.

    Only the entropy path runs for each of them; the file's header says which it was.

    Args:
        family: what codes it.
        pixels: the picture.
        layouts: the names of some.
        quality: see `compress_image`.
        most_bytes: take the best quality whose file is no larger, the header included.
        effort: how long the latents are refined for this picture, see `codec.effort`.
        tiling: see `compress_image`.
        report: called as the latents are refined, see `codec.effort`.

    Raises:
        InputError: no such layout or quality, a picture that cannot be coded, or one of which even the file
            of the lowest quality is too large.
    """
    check_effort(effort)
    height, width = pixels.shape[:2]
    step = step_of(family.base, quality if most_bytes is None else 0)  # there must be a quality to choose
    y = analyzed(family.base, pixels, tiling)

    def coded(step: int | None, effort: int = 0) -> Nic:
        if not effort:
            latents = family.base.rounded(y, lmbda_of(family.base, step))
        else:
            objective = _objective(family, step)
            latents = refined(family.base, pixels, y, objective, effort, tiling=tiling, report=report)
        return _smallest(family, latents, width, height, layouts, step)

    if most_bytes is None:
        return coded(step, effort)
    best = _best_within(coded, most_bytes)
    return best if not effort else _refined_within(coded, best, most_bytes, effort)


def _objective(family: CodecFamily, step: int | None) -> Objective:
    """What the latents of a file are refined for."""
    rate = lmbda_of(family.base, step)
    if family.objective is None:
        raise InputError(
            "This codec does not say what it was trained for (lmbda and metric in codec.yaml), so effort has "
            "no goal: leave --effort out, or export the codec again."
        )
    return family.objective if rate is None else Objective(rate, family.objective.metric)


def _refined_within(coded: Callable[[int, int], Nic], plain: Nic, most_bytes: float, effort: int) -> Nic:
    """The file of the highest quality that is not too large when it is refined.

    A refined file is smaller than a plain one of its quality by a share that changes slowly with the quality,
    so the first attempt says how large a plain file may be.

    Args:
        coded: the file of a quality and an effort.
        plain: the best file without effort.
        most_bytes: how large a file may be.
        effort: more than 0.
    """
    assert plain.step is not None
    best, size = plain, len(plain.to_bytes())
    first = coded(plain.step, effort)
    if len(first.to_bytes()) <= most_bytes:
        best = first
    larger = _best_within(lambda step: coded(step, 0), most_bytes * size / len(first.to_bytes()))
    assert larger.step is not None
    if larger.step > plain.step:
        second = coded(larger.step, effort)
        if len(second.to_bytes()) <= most_bytes:
            best = second
    return best


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
def transcode(family: CodecFamily, nic: Nic, layouts: Sequence[str], *, max_pixels: int = MAX_PIXELS) -> Nic:
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
    family: CodecFamily, latents: Latents, width: int, height: int, layouts: Sequence[str], step: int | None
) -> Nic:
    """Of equal sizes the first."""
    files = (write_latents(family.codec(name), latents, width, height, step) for name in layouts)
    return min(files, key=lambda nic: len(nic.stream))
