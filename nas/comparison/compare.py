"""Runs an evaluation: every codec, and then every format, on every photo."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import features

from nas.codec.codec import Codec
from nas.comparison.comparison import Comparison, Conditions, SameSize, exact_photos
from nas.comparison.evaluate import Evaluation, PhotoResult, evaluate_codec
from nas.comparison.formats import LIBRARIES, QUALITIES, FormatPoint, FormatResult, nearest_size, sweep
from nas.comparison.partial_results import PartialResults
from nas.comparison.photos import Folder, evaluation_photos
from nas.comparison.plan import Plan, Subject
from nas.metrics.curves import MEASURES, Curve, bd_rate
from nas.metrics.objective import Objective
from nas.photos.images import Photo, fingerprint
from nas.support.device import machine_name
from nas.support.files import refuse_over_input
from nas.support.progress import Report, silent


def compare(
    plan: Plan,
    data: str | Path,
    report: Report = silent,
    *,
    device: str | torch.device = "cpu",
    qualities: Sequence[int] = QUALITIES,
) -> Comparison:
    """Everything that `nas evaluate` computes.

    Results are kept beside the plan's outputs as they come; an interrupted evaluation with the same outputs
    goes on there.

    Args:
        plan: plan of the evaluation.
        data: a folder of photos, searched recursively, or `bundled`.
        report: called with the steps done, of how many, and what is being done.
        device: device of the codecs.
        qualities: qualities at which formats are written.

    Raises:
        InputError: a photo cannot be read, before anything is measured; or a format cannot hold one.
    """
    photos = evaluation_photos(data, lambda done, total, note: report(done, total, f"reading {note}"))
    if isinstance(photos, Folder) and plan.outputs is not None:
        for output in plan.outputs.all():
            refuse_over_input(output, *photos.paths)
    work = _Work(plan, photos, torch.device(device), report, tuple(qualities))
    before = os.getloadavg()[0]
    evaluations = [work.codec(*pair) for pair in zip(plan.subjects, plan.codecs, strict=True)]
    sweeps = {format: work.sweep(format) for format in plan.formats}
    of_sizes = {(e.name, f): work.same_size(f, e) for f in plan.formats for e in evaluations}
    exact = exact_photos(evaluations, sweeps, of_sizes)
    left_out = frozenset(exact)
    evaluations = [replace(evaluation, exact=left_out) for evaluation in evaluations]
    sweeps = {name: tuple(replace(p, exact=left_out) for p in points) for name, points in sweeps.items()}
    same_size = tuple(SameSize.of(*names, results, left_out) for names, results in of_sizes.items())
    curves = _curves(plan, evaluations)
    curves += [Curve.of(name, points, "format") for name, points in sweeps.items()]
    curves += plan.published
    anchors = [next(curve for curve in curves if curve.name == name) for name in plan.anchors]
    pairs = [(curve, anchor) for anchor in anchors for curve in curves if curve is not anchor]
    rates = [bd_rate(curve, anchor, measure) for curve, anchor in pairs for measure in MEASURES]
    load = (before, os.getloadavg()[0])
    conditions = Conditions(
        len(photos), str(work.device), machine_name(work.device), torch.get_num_threads(), load, plan.effort
    )
    return Comparison(
        conditions,
        plan.subjects,
        tuple(evaluations),
        plan.groups,
        tuple(curves),
        sweeps,
        same_size,
        tuple(rates),
        exact,
        work.kept,
    )


def _curves(plan: Plan, evaluations: Sequence[Evaluation]) -> list[Curve]:
    by_name = {evaluation.name: evaluation for evaluation in evaluations}
    return [Curve.of(group.name, [by_name[name] for name in group.codecs]) for group in plan.groups]


class _Work:
    """Counts the steps and keeps the results of an evaluation."""

    def __init__(
        self,
        plan: Plan,
        photos: Sequence[Photo],
        device: torch.device,
        report: Report,
        qualities: tuple[int, ...],
    ) -> None:
        self.photos, self.device, self.qualities, self.effort = photos, device, qualities, plan.effort
        self.kept = PartialResults(plan.outputs.kept if plan.outputs is not None else None)
        self._report, self._done = report, 0
        passes = len(plan.subjects) + (len(qualities) + len(plan.subjects)) * len(plan.formats)
        self._total = passes * len(photos)

    def codec(self, subject: Subject, codec: Codec) -> Evaluation:
        made_by: tuple[object, ...] = (codec.fingerprint, codec.path_identity, subject.lmbda)
        made_by += (subject.metric, self.device)
        if subject.quality is not None:
            made_by += (f"quality {subject.quality:g}",)
        if self.effort:
            made_by += (f"effort {self.effort}",)
        evaluation = evaluate_codec(
            codec.to(self.device),
            self.photos,
            Objective(subject.lmbda, subject.metric),
            quality=subject.quality,
            effort=self.effort,
            name=subject.name,
            once=lambda photo, measure: self.kept.once(
                PhotoResult, measure, photo.name, fingerprint([photo]), *made_by
            ),
            report=self._stage(subject.name),
        )
        self._done += len(self.photos)
        return evaluation

    def sweep(self, format: str) -> tuple[FormatPoint, ...]:
        points = sweep(
            format,
            self.photos,
            self.qualities,
            once=lambda photo, quality, measure: self.kept.once(
                FormatResult, measure, photo.name, fingerprint([photo]), format, _version(format), quality
            ),
            report=self._stage(""),
        )
        self._done += len(self.qualities) * len(self.photos)
        return points

    def same_size(self, format: str, evaluation: Evaluation) -> tuple[FormatResult, ...]:
        results = []
        report = self._stage(f"{format} like {evaluation.name}")
        for done, (photo, result) in enumerate(zip(self.photos, evaluation.photos, strict=True)):
            report(done, len(self.photos), photo.name)
            results.append(self._nearest(format, photo, result.bytes))
        self._done += len(self.photos)
        report(0, 0, "")
        return tuple(results)

    def _nearest(self, format: str, photo: Photo, size: int) -> FormatResult:
        identity = (photo.name, fingerprint([photo]), format, _version(format), "size", size)
        return self.kept.once(FormatResult, lambda: nearest_size(format, photo, size), *identity)

    def _stage(self, what: str) -> Report:
        return lambda now, _, note: self._report(self._done + now, self._total, f"{what} {note}".strip())


def _version(format: str) -> str | None:
    """Of the library that writes a format."""
    return features.version(LIBRARIES[format])
