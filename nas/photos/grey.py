"""Grey pictures: red, green and blue are equal in every pixel, and stay so when the picture is coded.

Networks decode three colours, so a grey photo comes back with faint tints. A `.nic` file therefore says that
its picture is grey, and every decoder gives each pixel the mean of its colours.
"""

from __future__ import annotations

import numpy as np

from nas.photos.images import Pixels


def is_grey(pixels: Pixels) -> bool:
    """Whether all pixels of a picture are grey.

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.
    """
    red, green, blue = (pixels[..., colour] for colour in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)


def to_grey(pixels: Pixels) -> Pixels:
    """Replace each pixel by the rounded mean of its red, green and blue.

    For a grey original, no other grey is nearer to what was decoded, and the mean before rounding is never
    farther from the original. Sums are whole numbers, and a third of one is never half way between two
    integers, so there is no tie: every decoder computes floor((red + green + blue + 1) / 3).

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.

    Returns:
        The grey picture in the same shape.
    """
    mean = (pixels.sum(-1, dtype=np.uint16) + 1) // 3
    return np.repeat(mean.astype(np.uint8)[..., None], 3, -1)
