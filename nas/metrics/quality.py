"""Measures of the similarity of two 8-bit pictures, and means over photos. PSNR is in `nas.photos.images`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import numpy as np

from nas.photos.images import Pixels
from nas.photos.tensors import to_tensor


class HasPsnr(Protocol):
    """A result for one photo."""

    @property
    def name(self) -> str:
        """Name of the photo."""

    @property
    def psnr(self) -> float:
        """PSNR in dB."""


MS_SSIM_SIDE = 160  # both sides must be longer than this: five scales of an 11x11 window


def ms_ssim(a: Pixels, b: Pixels) -> float:
    """MS-SSIM of two 8-bit pictures, [H, W, 3]. NaN if a side has 160 pixels or less.

    Args:
        a: one picture.
        b: the other picture, of the same shape.
    """
    if min(a.shape[:2]) <= MS_SSIM_SIDE:
        return math.nan
    from pytorch_msssim import ms_ssim as compare

    return float(compare(to_tensor(a), to_tensor(b), data_range=1.0))


def decibels(similarity: float) -> float:
    """Convert MS-SSIM to dB, `-10 log10(1 - MS-SSIM)`, as CompressAI does. Infinite for equal pictures.

    Args:
        similarity: MS-SSIM, at most 1.
    """
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def mse(a: Pixels, b: Pixels) -> float:
    """Mean squared error of two 8-bit pictures, with white at 1.

    Args:
        a: one picture, [H, W, 3].
        b: the other picture, of the same shape.
    """
    return float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)) / 255**2


def error_of(a: Pixels, b: Pixels, metric: str) -> float:
    """The distortion between two 8-bit pictures, as in the loss.

    Args:
        a: one picture, [H, W, 3].
        b: the other picture, of the same shape.
        metric: `mse`, or `ms-ssim` for 1 - MS-SSIM.
    """
    return mse(a, b) if metric == "mse" else 1 - ms_ssim(a, b)


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are not NaN. NaN if there are none."""
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


def mean_psnr(values: Iterable[float]) -> float:
    """The mean of the finite values: a photo that comes back exactly says nothing about the others.

    Infinite if every photo comes back exactly, NaN if there are no values.

    Args:
        values: PSNR of each photo, in dB.
    """
    every = list(values)
    return mean([value for value in every if math.isfinite(value)] or every)


def psnr_without(photos: Sequence[HasPsnr], exact: Collection[str]) -> float:
    """`mean_psnr` without the photos in `exact`. If those are all photos, none is left out.

    Args:
        photos: results by photo, with PSNR in dB.
        exact: names of the photos to leave out.
    """
    others = [photo.psnr for photo in photos if photo.name not in exact]
    return mean_psnr(others or (photo.psnr for photo in photos))
