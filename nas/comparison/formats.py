"""JPEG, WebP and AVIF as Pillow writes them: whole files in memory, over qualities or at a given size."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from nas.metrics.quality import mean, ms_ssim, psnr_without
from nas.photos.images import Photo, psnr
from nas.support.errors import InputError, nearest
from nas.support.progress import Report, silent

QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)

# Pillow's name for the library behind each format.
LIBRARIES = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}
# How files are written: the encoders' own defaults, with the slower search where it is cheap.
_OPTIONS: dict[str, dict[str, Any]] = {"jpeg": {"optimize": True}, "webp": {"method": 6}, "avif": {}}


@dataclass(frozen=True)
class FormatResult:
    """One photo in a format at one quality. MS-SSIM is NaN where a side is 160 pixels or less.

    Attributes:
        name: name of the photo.
        width: its width, in pixels.
        height: its height, in pixels.
        bytes: size of the file.
        bpp: bits per pixel.
        psnr: PSNR in dB.
        ms_ssim: MS-SSIM as a fraction.
        encode_seconds: seconds from pixels to bytes.
        decode_seconds: seconds from bytes to pixels.
    """

    name: str
    format: str
    quality: int
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float = math.nan
    encode_seconds: float = math.nan
    decode_seconds: float = math.nan


@dataclass(frozen=True)
class FormatPoint:
    """A format at one quality over several photos: the means of each photo's value; see `Evaluation`.

    Attributes:
        exact: names of the photos that come back exactly at some quality. Means of PSNR leave them out.
    """

    format: str
    quality: int
    photos: tuple[FormatResult, ...]
    exact: frozenset[str] = frozenset()

    @property
    def bpp(self) -> float:
        """Mean rate of the files, in bits per pixel."""
        return mean(photo.bpp for photo in self.photos)

    @property
    def psnr(self) -> float:
        """Mean PSNR in dB, without the photos in `exact`."""
        return psnr_without(self.photos, self.exact)

    @property
    def ms_ssim(self) -> float:
        """Mean MS-SSIM, as a fraction."""
        return mean(photo.ms_ssim for photo in self.photos)

    @property
    def encode_seconds(self) -> float:
        """Mean time to compress a photo, in seconds."""
        return mean(photo.encode_seconds for photo in self.photos)

    @property
    def decode_seconds(self) -> float:
        """Mean time to decompress a photo, in seconds."""
        return mean(photo.decode_seconds for photo in self.photos)


OncePerFile = Callable[[Photo, int, Callable[[], FormatResult]], FormatResult]


def measure_file_uncached(photo: Photo, number: int, measure: Callable[[], FormatResult]) -> FormatResult:
    """Measure a photo in a format in any case, where no earlier results are kept.

    Args:
        photo: the photo.
        number: quality that the format is used at.
        measure: called without arguments, measures it.
    """
    return measure()


def formats() -> list[str]:
    """The formats that Pillow can write here."""
    return [name for name, library in LIBRARIES.items() if features.check(library)]


def require_format(name: str) -> str:
    """The name of a format that can be written here.

    Raises:
        InputError: an unknown format, or one that this Pillow was built without.
    """
    if name not in LIBRARIES:
        raise InputError(f"There is no format '{name}' to compare with: {nearest(name, formats())}")
    if name not in formats():
        available = ", ".join(formats()) or "none"
        raise InputError(f"Pillow was built without {name} here: compare with what it has ({available}).")
    return name


def sweep(
    format: str,
    photos: Sequence[Photo],
    qualities: Sequence[int] = QUALITIES,
    *,
    once: OncePerFile = measure_file_uncached,
    report: Report = silent,
) -> tuple[FormatPoint, ...]:
    """A format over a range of qualities, one point each.

    Args:
        format: jpeg, webp or avif.
        photos: the photos.
        qualities: 1 to 100.
        once: called with each photo, the quality and the function that measures it; may give an earlier
            result instead.
        report: called with the pictures done, of how many, and a name.

    Raises:
        InputError: the format cannot be written here, or cannot hold a photo.
    """
    require_format(format)
    if not len(photos):
        raise InputError(f"There are no photos to code as {format}: give a folder that holds some.")
    by_quality: dict[int, list[FormatResult]] = {quality: [] for quality in qualities}
    total = len(photos) * len(qualities)
    for row, photo in enumerate(photos):  # a photo is read once for all its qualities
        for column, (quality, results) in enumerate(by_quality.items()):
            report(row * len(qualities) + column, total, f"{format} {quality}: {photo.name}")
            results.append(once(photo, quality, lambda p=photo, q=quality: measure_format(format, p, q)))  # type: ignore[misc]
    report(total, total, "")
    return tuple(FormatPoint(format, quality, tuple(results)) for quality, results in by_quality.items())


def nearest_size(format: str, photo: Photo, target_bytes: float) -> FormatResult:
    """The quality at which a photo's file is nearest to a size (a search by halves: sizes grow with quality).

    Args:
        format: jpeg, webp or avif.
        photo: the photo.
        target_bytes: the wanted size of the file.

    Raises:
        InputError: the format cannot be written here, or cannot hold the photo.
    """
    require_format(format)
    sizes: dict[int, int] = {}

    def size(quality: int) -> int:
        if quality not in sizes:
            sizes[quality] = len(encode(format, photo, quality))
        return sizes[quality]

    low, high = 1, 100
    while low < high:  # the least quality that reaches the target
        middle = (low + high) // 2
        if size(middle) < target_bytes:
            low = middle + 1
        else:
            high = middle
    size(low)
    best = min(sizes, key=lambda quality: (abs(sizes[quality] - target_bytes), quality))
    return measure_format(format, photo, best)


def encode(format: str, photo: Photo, quality: int) -> bytes:
    """A photo's file in a format.

    Args:
        format: name of the format, as Pillow has it.
        photo: the photo.
        quality: the format's own quality.

    Raises:
        InputError: the format cannot hold the photo.
    """
    buffer = io.BytesIO()
    try:
        Image.fromarray(photo.pixels).save(buffer, format=format, quality=quality, **_OPTIONS[format])
    except (OSError, ValueError) as error:
        raise InputError(
            f"{photo.name} cannot be written as {format} ({error}): leave out the photo or the format."
        ) from error
    return buffer.getvalue()


def measure_format(format: str, photo: Photo, quality: int) -> FormatResult:
    """A photo through a file of a format.

    Args:
        format: name of the format, as Pillow has it.
        photo: the photo.
        quality: the format's own quality.

    Raises:
        InputError: the format cannot hold the photo.
    """
    began = time.perf_counter()
    data = encode(format, photo, quality)
    encoded = time.perf_counter()
    with Image.open(io.BytesIO(data)) as image:
        decoded = np.asarray(image.convert("RGB"))
    ended = time.perf_counter()
    return FormatResult(
        name=photo.name,
        format=format,
        quality=quality,
        width=photo.pixels.shape[1],
        height=photo.pixels.shape[0],
        bytes=len(data),
        bpp=8 * len(data) / photo.size,
        psnr=psnr(photo.pixels, decoded),
        ms_ssim=ms_ssim(photo.pixels, decoded),
        encode_seconds=encoded - began,
        decode_seconds=ended - encoded,
    )
