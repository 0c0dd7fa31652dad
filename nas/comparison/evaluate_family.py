"""Measures a family on photos: every decoder's pictures of the same files, and file sizes by layout."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas.codec.bitstream import lmbda_of, picture_of, read_latents, step_of, write_latents
from nas.codec.family import CodecFamily
from nas.codec.nic import Nic
from nas.codec.recode import file_without_effort
from nas.comparison.evaluate import check_request
from nas.metrics.objective import Objective
from nas.metrics.quality import error_of, mean, mean_psnr
from nas.photos.images import Photo, psnr
from nas.spaces.rates import geometric_mean, quality_at, scored
from nas.support.errors import InputWarning
from nas.support.progress import Report, silent


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

    def noted_in(self, family: CodecFamily) -> CodecFamily:
        """The family with its results among what is known of each part."""
        members = [
            replace(member, facts={**member.facts, "measured": measured})
            for member, measured in zip(family.decoders, self.decoders, strict=True)
        ]
        facts = {
            name: {**layout_facts, "bpp": self.layouts[name]}
            for name, layout_facts in family.layout_facts.items()
        }
        return CodecFamily(family.base, family.layouts, members, facts)


def measure_family(
    family: CodecFamily,
    photos: Sequence[Photo],
    objective: Objective,
    *,
    report: Report = silent,
) -> FamilyResult:
    """Really compress photos under every layout, and decompress with every decoder.

    Over a range of rates at three anchors: `rd_loss` is the geometric mean of the losses, all else is of the
    middle one. Arguments and errors as in `evaluate_codec`.

    Args:
        family: codecs that share an encoder and an entropy path.
        photos: the photos.
        objective: what `rd_loss` is; its lambda counts for a family of one rate.
        report: called as the work goes on.
    """
    check_request(photos, objective.metric)
    if not family.base.rates:
        return _at_rate(family, photos, objective, None, report)
    lmbdas = scored(family.base.rates)
    results = []
    for index, rate in enumerate(lmbdas):

        def here(done: int, total: int, note: str, index: int = index) -> None:
            report(index * total + done, len(lmbdas) * total, note)

        step = step_of(family.base, quality_at(family.base.rates, rate))
        results.append(_at_rate(family, photos, objective.at(rate), step, here))
    middle, decoders = results[len(results) // 2], zip(*(each.decoders for each in results), strict=True)
    losses = [geometric_mean([point["rd_loss"] for point in points]) for points in decoders]
    merged = ({**measured, "rd_loss": loss} for measured, loss in zip(middle.decoders, losses, strict=True))
    return FamilyResult(tuple(merged), middle.layouts)


def _at_rate(
    family: CodecFamily, photos: Sequence[Photo], objective: Objective, step: int | None, report: Report
) -> FamilyResult:
    aimed = CodecFamily(family.base, family.layouts, family.decoders, objective=objective)
    codecs = [family.codec(decoder=index) for index in range(len(family.decoders))]
    others = [family.codec(name) for name in family.layouts][1:]
    points: list[list[tuple[float, float, float]]] = [[] for _ in codecs]
    rates: list[list[float]] = [[] for _ in family.layouts]
    exact: dict[str, None] = {}
    for done, photo in enumerate(photos):
        report(done, len(photos), photo.name)
        height, width = photo.pixels.shape[:2]
        rate_of_file = lmbda_of(family.base, step)
        # as `nas compress` settles on them, so that what is measured is what it writes
        latents, nic = file_without_effort(aimed, photo.pixels, step)
        file = nic.to_bytes()
        others_files = (write_latents(codec, latents, width, height, step, nic.grey) for codec in others)
        files = [file, *(other.to_bytes() for other in others_files)]
        for rate, each in zip(rates, files, strict=True):
            rate.append(8 * len(each) / photo.size)
        y_hat, _ = read_latents(family.base, Nic.parse(file), max_pixels=photo.size)
        for codec, results in zip(codecs, points, strict=True):
            decoded = picture_of(codec, y_hat, width, height, lmbda=rate_of_file, grey=nic.grey)
            error = error_of(photo.pixels, decoded, objective.metric)
            loss = float(objective.loss(rates[0][-1], error))
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
    for results in points:
        rate_each, quality, losses = zip(*results, strict=True)
        decoders.append({"bpp": mean(rate_each), "psnr": mean_psnr(quality), "rd_loss": mean(losses)})
    return FamilyResult(tuple(decoders), dict(zip(family.layouts, map(mean, rates), strict=True)))
