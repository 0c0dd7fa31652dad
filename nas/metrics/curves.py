"""Rate-distortion curves and BD-rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from nas.metrics.quality import decibels

BD_POINTS = 4  # least number of points for a BD-rate
CurveKind = Literal["codecs", "format", "published"]
Measure = Literal["psnr", "ms_ssim_db"]
MEASURES: dict[Measure, str] = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}


class Measured(Protocol):
    """The measurements behind an operating point, as means over photos."""

    @property
    def bpp(self) -> float:
        """Rate in bits per pixel."""

    @property
    def psnr(self) -> float:
        """PSNR in dB."""

    @property
    def ms_ssim(self) -> float:
        """MS-SSIM as a fraction."""

    @property
    def encode_seconds(self) -> float:
        """Time to compress a photo, in seconds."""

    @property
    def decode_seconds(self) -> float:
        """Time to decompress a photo, in seconds."""


@dataclass(frozen=True)
class CurvePoint:
    """One operating point. Unknown values are NaN.

    Attributes:
        bpp: bits per pixel.
        psnr: PSNR in dB.
        ms_ssim: MS-SSIM as a fraction.
        encode_seconds: seconds from pixels to bytes.
        decode_seconds: seconds from bytes to pixels.
    """

    bpp: float
    psnr: float
    ms_ssim: float = math.nan
    encode_seconds: float = math.nan
    decode_seconds: float = math.nan

    @property
    def ms_ssim_db(self) -> float:
        """MS-SSIM in dB."""
        return decibels(self.ms_ssim)

    @classmethod
    def of(cls, one: Measured) -> CurvePoint:
        """Make the point of a measurement.

        Args:
            one: means of a codec or a format at one rate.
        """
        return cls(one.bpp, one.psnr, one.ms_ssim, one.encode_seconds, one.decode_seconds)


@dataclass(frozen=True)
class Curve:
    """A curve of operating points, by rising rate.

    Attributes:
        name: name of the curve.
        points: its points, by rising bpp.
        kind: the kind of the points, such as codecs or formats.
    """

    name: str
    points: tuple[CurvePoint, ...]
    kind: CurveKind = "codecs"

    @classmethod
    def of(cls, name: str, points: Iterable[Measured], kind: CurveKind = "codecs") -> Curve:
        """Make a curve from points in any order.

        Args:
            name: name of the curve.
            points: measured points, in any order.
            kind: the kind of the points.
        """
        return cls(name, tuple(sorted(map(CurvePoint.of, points), key=lambda point: point.bpp)), kind)

    def rising(self, measure: Measure) -> tuple[list[float], list[float]]:
        """Rates and qualities (dB) of the points that are better than every cheaper point.

        Args:
            measure: PSNR or MS-SSIM.
        """
        rates: list[float] = []
        qualities: list[float] = []
        for point in self.points:
            quality = getattr(point, measure)
            if math.isfinite(quality) and (not qualities or quality > qualities[-1]):
                rates.append(point.bpp)
                qualities.append(quality)
        return rates, qualities


@dataclass(frozen=True)
class BdRate:
    """The BD-rate of `curve` against `anchor`: % more bits at equal quality. Negative is better.

    Attributes:
        measure: measure of quality: `psnr` or `ms_ssim_db`.
        percent: the BD-rate, or None if there is none. `why` then gives the reason.
        low, high: range of qualities in dB that the mean covers, or NaN if there is none.
    """

    curve: str
    anchor: str
    measure: Measure
    percent: float | None
    low: float = math.nan
    high: float = math.nan
    why: str = ""


def bd_rate(curve: Curve, anchor: Curve, measure: Measure = "psnr") -> BdRate:
    """Bjontegaard's mean difference in rate, piecewise cubic (PCHIP), over the common range of quality.

    There is none if a curve has fewer than four points of rising quality, or if there is no common range.

    Args:
        curve: the curve to judge.
        anchor: the curve to compare with.
        measure: measure of quality.
    """
    from bjontegaard import bd_rate as compare

    word = MEASURES[measure]
    for side in (curve, anchor):
        count = len(side.rising(measure)[0])
        if count < BD_POINTS:
            points = f"{count} point{'s' * (count != 1)}" if count else "no points"
            why = f"{side.name} has {points} of rising {word}, and {BD_POINTS} are needed"
            exact = sum(math.isinf(getattr(point, measure)) for point in side.points)
            if exact:
                why += f"; at {exact} of its {len(side.points)} points every photo comes back exactly"
            return BdRate(curve.name, anchor.name, measure, None, why=why)
    (rate, quality), (anchor_rate, anchor_quality) = curve.rising(measure), anchor.rising(measure)
    low, high = max(quality[0], anchor_quality[0]), min(quality[-1], anchor_quality[-1])
    if high <= low:
        better, worse = (curve, anchor) if quality[0] >= anchor_quality[-1] else (anchor, curve)
        why = f"no {word} in common: {worse.name} ends at {high:.2f} dB, {better.name} begins at {low:.2f} dB"
        return BdRate(curve.name, anchor.name, measure, None, why=why)
    sides = (anchor_rate, anchor_quality, rate, quality)
    percent = float(compare(*sides, method="pchip", require_matching_points=False, min_overlap=0))
    return BdRate(curve.name, anchor.name, measure, percent, low, high)
