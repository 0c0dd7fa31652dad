"""Chooses among the possible files of one picture: the layout of a family, and the quality.

Another layout changes only the size of the file, because the latents and the picture stay the same. The
quality changes the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nas.codec.bitstream import Latents, analyzed, lmbda_of, read_latents, step_of, write_latents
from nas.codec.family import CodecFamily
from nas.codec.nic import Nic
from nas.codec.refining.effort import check_effort, is_too_small, loss_of_file, refined
from nas.codec.refining.saturated import push_out_of_range
from nas.codec.tiles import TILING, Tiling
from nas.metrics.objective import Objective
from nas.photos.grey import is_grey
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
    """Code one picture, [H, W, 3] in 8 bits, in several layouts, and return the smallest file.

    Only the entropy path runs for each layout. The header of the file names the chosen one.

    Args:
        family: the codec family.
        pixels: the picture.
        layouts: names of the layouts to try.
        quality: see `compress_image`.
        most_bytes: take the best quality whose file, header included, has at most this size.
        effort: how long the latents are refined for this picture: see `codec.refining.effort`.
        tiling: see `compress_image`.
        report: called while the latents are refined: see `codec.refining.effort`.

    Raises:
        InputError: a layout or the quality does not exist, the picture cannot be coded, or even the file of
            the lowest quality is too large.
    """
    check_effort(effort)
    height, width = pixels.shape[:2]
    step = step_of(family.base, quality if most_bytes is None else 0)  # refuses a fixed quality
    y, grey = analyzed(family.base, pixels, tiling), is_grey(pixels)

    def written(latents: Latents, step: int | None) -> Nic:
        return _smallest(family, latents, width, height, layouts, step, grey)

    def plain(step: int | None) -> Nic:
        return written(family.base.rounded(y, lmbda_of(family.base, step)), step)

    def coded(step: int | None, effort: int) -> Nic:
        if not effort:
            return _without_effort(family, pixels, y, step, written, tiling)[1]
        objective = _objective(family, step)
        latents = refined(family.base, pixels, y, objective, effort, tiling=tiling, report=report)
        return written(latents, step)

    if most_bytes is None:
        return coded(step, effort)
    best = _best_within(plain, most_bytes)
    return _refined_within(plain, coded, best, most_bytes, effort)


@torch.no_grad()
def file_without_effort(family: CodecFamily, pixels: Pixels, step: int | None) -> tuple[Latents, Nic]:
    """The latents and the file of a picture as `compress_smallest` makes them without effort, in one layout.

    Args:
        family: what codes it, in the layout of its base codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        step: the quality, as `step_of` gives it.

    Raises:
        InputError: the picture cannot be coded.
    """
    (height, width), grey = pixels.shape[:2], is_grey(pixels)

    def written(latents: Latents, step: int | None) -> Nic:
        return write_latents(family.base, latents, width, height, step, grey)

    return _without_effort(family, pixels, analyzed(family.base, pixels), step, written, TILING)


def _without_effort(
    family: CodecFamily,
    pixels: Pixels,
    y: Tensor,
    step: int | None,
    written: Callable[[Latents, int | None], Nic],
    tiling: Tiling,
) -> tuple[Latents, Nic]:
    """The latents and file without effort: of y as it is, or with saturated areas moved where that is better.

    Args:
        family: what codes it.
        pixels: the picture, [H, W, 3] in 8 bits.
        y: what g_a makes of it, [1, M, h, w].
        step: the quality, as `step_of` gives it.
        written: the file of latents at a quality.
        tiling: see `compress_image`.
    """
    codec, rate = family.base, lmbda_of(family.base, step)
    plain = codec.rounded(y, rate)
    moved = None if family.objective is None else push_out_of_range(codec, pixels, y, rate)
    if moved is None or is_too_small(pixels, objective := _objective(family, step)):
        return plain, written(plain, step)
    candidates = [(latents, written(latents, step)) for latents in (plain, codec.rounded(moved, rate))]
    losses = [
        loss_of_file(codec, latents, pixels, objective, tiling, nic.stream) for latents, nic in candidates
    ]
    return candidates[losses[1] < losses[0]]


def _objective(family: CodecFamily, step: int | None) -> Objective:
    """The objective for which the latents of a file are refined."""
    rate = lmbda_of(family.base, step)
    if family.objective is None:
        raise InputError(
            "This codec does not say what it was trained for (lmbda and metric in codec.yaml), so effort has "
            "no goal: leave --effort out, or export the codec again."
        )
    return family.objective if rate is None else Objective(rate, family.objective.metric)


def _refined_within(
    plainly: Callable[[int], Nic],
    coded: Callable[[int, int], Nic],
    plain: Nic,
    most_bytes: float,
    effort: int,
) -> Nic:
    """The file of the highest quality that fits after refinement.

    Refinement makes a file smaller by a share that changes slowly with the quality. The first attempt
    therefore tells how large a plain file may be.

    Args:
        plainly: makes the file of a quality by plain rounding.
        coded: makes the file of a quality and an effort.
        plain: the best file by plain rounding.
        most_bytes: largest size of a file.
        effort: the effort.
    """
    assert plain.step is not None
    best, size = plain, len(plain.to_bytes())
    first = coded(plain.step, effort)
    if len(first.to_bytes()) <= most_bytes:
        best = first
    if not effort:
        return best
    larger = _best_within(plainly, most_bytes * size / len(first.to_bytes()))
    assert larger.step is not None
    if larger.step > plain.step:
        second = coded(larger.step, effort)
        if len(second.to_bytes()) <= most_bytes:
            best = second
    return best


def _best_within(coded: Callable[[int], Nic], most_bytes: float) -> Nic:
    """The file of the highest quality that fits, found by bisection.

    Sizes grow with the quality except for a few bytes. The result is therefore the best one or next to it,
    and it is never too large.
    """
    low, high = 0, STEPS_OF_QUALITY
    best = coded(low)
    if not len(best.to_bytes()) <= most_bytes:  # written so that NaN is refused, too
        least, pixels = len(best.to_bytes()), best.width * best.height
        raise InputError(
            f"The lowest quality takes {least} bytes ({8 * least / pixels:.3g} bpp), and at most "
            f"{most_bytes:.4g} ({8 * most_bytes / pixels:.3g} bpp) were asked for: allow more."
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
    """Code the latents of a file again in several layouts, and return the smallest file.

    The result is bit-exact with the file that compressing the picture in that layout gives.

    Args:
        family: the codec family of the file.
        nic: the file.
        layouts: names of the layouts to try.
        max_pixels: see `decompress_image`.

    Raises:
        InputError: a layout does not exist, or the file belongs to no layout of this family.
    """
    codec = family.codec(family.layout_of(nic.path_identity))
    latents = read_latents(codec, nic, max_pixels=max_pixels)
    return _smallest(family, latents, nic.width, nic.height, layouts, nic.step, nic.grey)


def _smallest(
    family: CodecFamily,
    latents: Latents,
    width: int,
    height: int,
    layouts: Sequence[str],
    step: int | None,
    grey: bool,
) -> Nic:
    """The smallest file. Of equal sizes it is the first one."""
    files = (write_latents(family.codec(name), latents, width, height, step, grey) for name in layouts)
    return min(files, key=lambda nic: len(nic.stream))
