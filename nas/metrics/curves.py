"""Rate-distortion curves, and how many more bits one takes than another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from nas.metrics.quality import decibels

BD_POINTS = 4  # the fewest points a BD-rate is computed from
CurveKind = Literal["codecs", "format", "published"]
Measure = Literal["psnr", "ms_ssim_db"]
MEASURES: dict[Measure, str] = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}


class Measured(Protocol):
    """What an operating point is made from: means over photos of each photo's value."""

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
    """One operating point; NaN is what is not known. PSNR in dB, MS-SSIM as a fraction.

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
        """The point of something that was measured.

        Args:
            one: means of a codec or a format at one rate.
        """
        return cls(one.bpp, one.psnr, one.ms_ssim, one.encode_seconds, one.decode_seconds)


@dataclass(frozen=True)
class Curve:
    """Operating points of one thing, from few bits to many.

    Attributes:
        name: name of the curve.
        points: its points, by rising bpp.
        kind: what the points are of.
    """

    name: str
    points: tuple[CurvePoint, ...]
    kind: CurveKind = "codecs"

    @classmethod
    def of(cls, name: str, points: Iterable[Measured], kind: CurveKind = "codecs") -> Curve:
        """Points in any order.

        Args:
            name: name of the curve.
            points: measured points, in any order.
            kind: what the points are of.
        """
        return cls(name, tuple(sorted(map(CurvePoint.of, points), key=lambda point: point.bpp)), kind)

    def rising(self, measure: Measure) -> tuple[list[float], list[float]]:
        """Rates and qualities (dB) of the points that are better than every cheaper one.

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
    """How many per cent more bits `curve` takes than `anchor` for the same quality; negative is better.

    Attributes:
        measure: of quality: `psnr`, or `ms_ssim_db`.
        percent: None where there is none, and `why` says why.
        low, high: the qualities in dB between which it is the mean; NaN where there is none.
    """

    curve: str
    anchor: str
    measure: Measure
    percent: float | None
    low: float = math.nan
    high: float = math.nan
    why: str = ""


def bd_rate(curve: Curve, anchor: Curve, measure: Measure = "psnr") -> BdRate:
    """Bjontegaard's mean difference in rate, piecewise cubic (PCHIP), over the quality that both reach.

    There is none where a side has fewer than four points of rising quality, or no quality is in common.

    Args:
        curve: the curve to judge.
        anchor: the curve to compare with.
        measure: what quality is measured by.
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
