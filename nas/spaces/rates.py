"""All rates in one model: a range of lambdas, its anchors, and the quality from 0 to 100. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.support.errors import InputError
from nas.support.limits import LEAST_LMBDA, MOST_LMBDA

ANCHORS = 8  # number of anchors; CompressAI has eight lambdas from 0.0018 to 0.18
STEPS_OF_QUALITY = 1000  # number of steps of the quality in files
RANGE = ".."
NARROWEST = 1.01  # least ratio of the ends of a range, so that its anchors differ


def parse_lmbda(text: str | float) -> float | tuple[float, float]:
    """Read a lambda such as `0.013`, or a range such as `0.0018..0.18` as its two ends.

    Args:
        text: the text, or a number.

    Raises:
        InputError: it is neither, a number is too small or large, or the ends are too close or swapped.
    """
    words = str(text).split(RANGE)
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(LEAST_LMBDA <= value <= MOST_LMBDA for value in values):
        raise InputError(
            f"'{text}' is not a value for lmbda: give a number from {LEAST_LMBDA:g} to {MOST_LMBDA:g} "
            "(0.013), or a range of them (0.0018..0.18)."
        )
    if len(values) == 1:
        return values[0]
    low, high = values
    if not low < high:
        raise InputError(f"The range {text} is empty: write the smaller lambda first (0.0018..0.18).")
    if high < NARROWEST * low:
        raise InputError(f"The range {text} is too narrow for several rates: give one lambda, {low:g}.")
    return low, high


def anchors_between(low: float, high: float, count: int = ANCHORS) -> tuple[float, ...]:
    """Lambdas from low to high, with a constant ratio.

    Args:
        low: the lowest lambda.
        high: the highest lambda.
        count: number of anchors, at least 2.
    """
    shares = (number / (count - 1) for number in range(count))
    return tuple(float(f"{low * (high / low) ** share:.6g}") for share in shares)


def range_text(anchors: Sequence[float]) -> str:
    """Format a range as `parse_lmbda` reads it, such as `0.0018..0.18`, or a single lambda as `0.013`.

    Args:
        anchors: lambdas of the anchors, rising.
    """
    return RANGE.join(f"{lmbda:g}" for lmbda in dict.fromkeys((anchors[0], anchors[-1])))


def scored(anchors: Sequence[float]) -> tuple[float, float, float]:
    """The lowest, the middle and the highest anchor, which a search scores.

    Args:
        anchors: lambdas of the anchors, rising.
    """
    return anchors[0], middle(anchors), anchors[-1]


def middle(anchors: Sequence[float]) -> float:
    """The middle anchor. Of an even number it is the lower one.

    Args:
        anchors: lambdas of the anchors, rising.
    """
    return anchors[(len(anchors) - 1) // 2]


def lmbda_at(anchors: Sequence[float], quality: float) -> float:
    """The lambda of a quality from 0 (the lowest rate) to 100: LOW * (HIGH / LOW)^(quality / 100).

    Args:
        anchors: lambdas of the range, rising.
        quality: from 0 to 100.

    Raises:
        InputError: the quality is not from 0 to 100.
    """
    if not 0 <= quality <= 100:
        raise InputError(f"Quality is a number from 0 to 100, not {quality:g}.")
    return float(anchors[0] * (anchors[-1] / anchors[0]) ** (quality / 100))


def quality_at(anchors: Sequence[float], lmbda: float) -> float:
    """The quality of a lambda, from 0 to 100 within the range.

    Args:
        anchors: lambdas of the range, rising.
        lmbda: the lambda.
    """
    return 100 * math.log(lmbda / anchors[0]) / math.log(anchors[-1] / anchors[0])


def anchor_qualities(anchors: Sequence[float]) -> dict[float, float]:
    """The quality of every anchor as files store it, from 0 to 100, with the anchor's lambda.

    Args:
        anchors: lambdas of the anchors, rising.
    """
    return {
        100 * round(quality_at(anchors, lmbda) / 100 * STEPS_OF_QUALITY) / STEPS_OF_QUALITY: lmbda
        for lmbda in anchors
    }


def middle_quality(anchors: Sequence[float]) -> float:
    """The quality of the middle anchor as files store it, which is the default.

    Args:
        anchors: lambdas of the anchors, rising.
    """
    return next(quality for quality, lmbda in anchor_qualities(anchors).items() if lmbda == middle(anchors))


def meaning_of_scores(anchors: Sequence[float]) -> str:
    """A sentence without its full stop: what bpp, PSNR and loss are of, where there are several rates.

    Args:
        anchors: lambdas of the anchors, rising.
    """
    return (
        f"bpp and PSNR are at quality {middle_quality(anchors):g} (the middle anchor), and the loss is the "
        "geometric mean at the lowest, the middle and the highest anchor"
    )


def geometric_mean(losses: Sequence[float]) -> float:
    """The geometric mean, in which one per cent counts the same at every rate.

    Args:
        losses: losses above 0.
    """
    return math.exp(sum(map(math.log, losses)) / len(losses))
