"""A family on photos: what every decoder makes of the same files, and what those weigh under every layout."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas.codec.bitstream import Nic, latents_of, picture_of, read_latents, write_latents
from nas.codec.evaluate import check_request
from nas.codec.family import Family
from nas.codec.quality import mean, mean_psnr, ms_ssim, mse
from nas.errors import InputWarning
from nas.images import Photo, psnr
from nas.progress import Report, silent
from nas.training.losses import rd_loss


@dataclass(frozen=True)
class FamilyResult:
    """A family on some photos, as means.

    Attributes:
        decoders: `bpp`, `psnr` and `rd_loss` of each, with files in the first layout. Photos that come back
            exactly are left out of the mean of PSNR, with a warning.
        layouts: `bpp` of each by name.
    """

    decoders: tuple[dict[str, float], ...]
    layouts: dict[str, float]

    def noted_in(self, family: Family) -> Family:
        """The family with its results among what is known of each part."""
        members = [
            replace(member, facts={**member.facts, "measured": measured})
            for member, measured in zip(family.decoders, self.decoders, strict=True)
        ]
        facts = {name: {**known, "bpp": self.layouts[name]} for name, known in family.layout_facts.items()}
        return Family(family.base, family.layouts, members, facts)


def measure_family(
    family: Family, photos: Sequence[Photo], *, lmbda: float, metric: str = "mse", report: Report = silent
) -> FamilyResult:
    """Really compress photos under every layout, and decompress with every decoder.

    Arguments and errors as in `evaluate_codec`.
    """
    check_request(photos, metric)
    codecs = [family.codec(decoder=place) for place in range(len(family.decoders))]
    others = [family.codec(name) for name in family.layouts][1:]
    found: list[list[tuple[float, float, float]]] = [[] for _ in codecs]
    rates: list[list[float]] = [[] for _ in family.layouts]
    exact: dict[str, None] = {}
    for done, photo in enumerate(photos):
        report(done, len(photos), photo.name)
        height, width = photo.pixels.shape[:2]
        latents = latents_of(family.base, photo.pixels)
        file = write_latents(family.base, latents, width, height).to_bytes()
        files = [file, *(write_latents(codec, latents, width, height).to_bytes() for codec in others)]
        for rate, each in zip(rates, files, strict=True):
            rate.append(8 * len(each) / photo.size)
        y_hat, _ = read_latents(family.base, Nic.parse(file), max_pixels=photo.size)
        for codec, results in zip(codecs, found, strict=True):
            decoded = picture_of(codec, y_hat, width, height)
            error = mse(photo.pixels, decoded) if metric == "mse" else 1 - ms_ssim(photo.pixels, decoded)
            loss = float(rd_loss(rates[0][-1], error, lmbda, metric))
            results.append((rates[0][-1], psnr(photo.pixels, decoded), loss))
            if math.isinf(results[-1][1]):
                exact[photo.name] = None
    report(len(photos), len(photos), "")
    if exact:
        warnings.warn(
            f"The mean of PSNR leaves out photos that come back exactly: {', '.join(exact)}.",
            InputWarning,
            stacklevel=2,
        )
    decoders = []
    for results in found:
        rate_each, quality, losses = zip(*results, strict=True)
        decoders.append({"bpp": mean(rate_each), "psnr": mean_psnr(quality), "rd_loss": mean(losses)})
    return FamilyResult(tuple(decoders), dict(zip(family.layouts, map(mean, rates), strict=True)))
