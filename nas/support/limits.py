"""Upper limits on numbers. Beyond them, libraries fail or memory runs out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from nas.support.errors import InputError

MAX_BYTES = 1 << 31  # largest file that is read, because a stream may be endless
MAX_PIXELS = 1 << 27  # default limit for one picture: two of 8192x8192
ONE_THREAD = 1 << 20  # number of pixels up to which a single thread is as fast as several
PADDED = 64  # both sides are padded to multiples of this before a picture is coded
MOST_SEED = (1 << 63) - 1
MOST_BITS = 1000  # of whole numbers: floats hold 1024, and Python prints 4300 digits
MOST_CHANNELS = 4096  # of a layer; published codecs stay below 2000, and two such layers take a gigabyte
MOST_BLOCKS = 100  # limit of a stack
MOST_TILE = 64  # rows or columns of a layout's tile; a latent of 768x512 pixels has 32 and 48
MOST_STEPS = 1_000_000  # limit of a stage's number and of a slope
# What pictures are written as, and what a file is called that must be a picture
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"})
MOST_EFFORT = 10  # largest effort of compressing
LEAST_LMBDA, MOST_LMBDA = 1e-9, 1e9  # beyond these, only rate or only distortion counts


def is_whole(value: object) -> bool:
    """Whether a value is a whole number of any integer type. A boolean is not.

    Args:
        value: the value.
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_absurd(value: object) -> bool:
    """Whether a value is a whole number of hundreds of digits: no float holds it, and none may print it.

    Args:
        value: the value.
    """
    return isinstance(value, int) and value.bit_length() > MOST_BITS


def check_seed(seed: int) -> int:
    """Check a seed.

    Raises:
        InputError: it is not a whole number, below 0 or too large.
    """
    if not is_whole(seed) or not 0 <= seed <= MOST_SEED:
        shown = "Such a large number" if is_absurd(seed) else seed
        raise InputError(f"{shown} is not a seed: give a whole number from 0 to {MOST_SEED}.")
    return int(seed)


def check_count(number: int, what: str, least: int = 0) -> int:
    """Check a number of things.

    Args:
        number: the number.
        what: name of the number in messages.
        least: the least allowed number.

    Raises:
        InputError: it is no whole number, or below `least`.
    """
    if is_absurd(number):
        raise InputError(f"{what} cannot be so large a number: give a smaller one, from {least}.")
    if not is_whole(number) or number < least:
        shown = repr(number) if isinstance(number, str) else number
        raise InputError(f"{what} cannot be {shown}: give a whole number from {least}.")
    return int(number)


def check_settings(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check settings by name. None gives an empty mapping.

    Args:
        settings: settings by name, or None.

    Raises:
        InputError: they are no mapping.
    """
    if not isinstance(settings, Mapping | None):
        raise InputError(f"Settings are names and values, such as {{'batch': 4}}, not {settings}.")
    return dict(settings or {})


def check_size(width: int, height: int) -> tuple[int, int]:
    """Check the size of a picture in pixels.

    Args:
        width: width of the picture, in pixels.
        height: height of the picture, in pixels.

    Raises:
        InputError: no picture has it, or too large a one.
    """
    coded = math.prod(-(-side // PADDED) * PADDED for side in (width, height))
    if width < 1 or height < 1 or coded > MAX_PIXELS:
        raise InputError(
            f"A photo cannot measure {width}x{height} here: give a width and a height of at least 1 pixel, "
            f"and of at most {MAX_PIXELS} in all."
        )
    return width, height


def check_precision(precision: str) -> str:
    """Check a precision: `auto`, `32` or `bf16`.

    Raises:
        InputError: it is none of these.
    """
    if precision not in ("auto", "32", "bf16"):
        raise InputError(f"There is no precision '{precision}': choose auto, 32 or bf16.")
    return precision
