"""The result of an evaluation, as tables, as JSON, and as files."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.comparison.evaluate import Evaluation, PhotoResult
from nas.comparison.formats import FormatPoint, FormatResult
from nas.comparison.partial_results import PartialResults
from nas.comparison.plan import Group, Outputs, Subject
from nas.metrics.curves import BdRate, Curve, Measured
from nas.metrics.quality import decibels, mean, psnr_without
from nas.spaces.budget import SCOPES
from nas.spaces.rates import range_text
from nas.support.files import write_atomically
from nas.support.tables import TitledTable, csv_text, signed

if TYPE_CHECKING:
    import pandas as pd

PHOTO_COLUMNS = (
    "name",
    "quality",
    "photo",
    "width",
    "height",
    "bytes",
    "bpp",
    "estimated_bpp",
    "psnr",
    "ms_ssim",
    "ms_ssim_db",
    "rd_loss",
    "encode_seconds",
    "decode_seconds",
)


@dataclass(frozen=True)
class Conditions:
    """The conditions of the measurements: photos, device, threads and machine.

    Attributes:
        photos: number of photos.
        device: device of the codecs, `cpu` or `cuda`.
        machine: architecture of the processor, and number of its cores.
        threads: number of torch's threads.
        load: mean load of the machine over a minute, before and after.
        effort: effort of compressing.
    """

    photos: int
    device: str
    machine: str
    threads: int
    load: tuple[float, float]
    effort: int = 0

    def __str__(self) -> str:
        photos = f"{self.photos} photo{'s' * (self.photos != 1)}"
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        before, after = self.load
        where = f"{self.device} ({self.machine}, {threads}, load {before:.1f} to {after:.1f})"
        return f"{photos}; {where}" + (f"; effort {self.effort}" if self.effort else "")


@dataclass(frozen=True)
class SameSize:
    """A codec against a format at the same sizes: each photo's file is the nearest in size to the codec's.

    Attributes:
        codec: name of the codec.
        format: name of the image format.
        bpp, psnr, ms_ssim: the format's means over photos: bits per pixel, dB, and MS-SSIM from 0 to 1.
        encode_seconds, decode_seconds: the format's mean times for a photo.
    """

    codec: str
    format: str
    bpp: float
    psnr: float
    ms_ssim: float
    encode_seconds: float
    decode_seconds: float

    @classmethod
    def of(cls, codec: str, format: str, results: Sequence[FormatResult], exact: Collection[str]) -> SameSize:
        """The means over photos; that of PSNR without the photos in `exact`.

        Args:
            codec: name of the codec whose file sizes were matched.
            format: name of the image format.
            results: results by photo.
            exact: names of the photos that came back exactly.
        """
        names = ("bpp", "ms_ssim", "encode_seconds", "decode_seconds")
        means = {name: mean(getattr(one, name) for one in results) for name in names}
        return cls(codec, format, psnr=psnr_without(results, exact), **means)


def exact_photos(
    codecs: Iterable[Evaluation],
    sweeps: Mapping[str, Sequence[FormatPoint]],
    of_sizes: Mapping[tuple[str, str], Sequence[FormatResult]],
) -> dict[str, list[str]]:
    """The names of photos that came back exactly at least once, each with the codecs and formats of that.

    Args:
        codecs: results of the codecs.
        sweeps: points of each image format's quality sweep, by name.
        of_sizes: results of image formats at the sizes of a codec's files, by codec and format.
    """
    names_by_photo: dict[str, list[str]] = {}
    results: list[tuple[str, Iterable[PhotoResult | FormatResult]]] = [(c.name, c.photos) for c in codecs]
    results += [(name, point.photos) for name, points in sweeps.items() for point in points]
    results += [(format, photos) for (_, format), photos in of_sizes.items()]
    for name, photos in results:
        for photo in photos:
            if math.isinf(photo.psnr) and name not in names_by_photo.setdefault(photo.name, []):
                names_by_photo[photo.name].append(name)
    return names_by_photo


@dataclass(frozen=True)
class Comparison:
    """The result of `nas evaluate`.

    Attributes:
        conditions: on what and where it was measured.
        subjects, codecs: the measured codecs and their results, in the given order.
        groups: the codecs that make a curve.
        curves: curves of the codecs, of the formats and of files.
        sweeps: every format over its qualities.
        same_size: every codec against every format at the codec's own sizes.
        bd_rates: every curve against every anchor, in PSNR and in MS-SSIM.
        exact: photos that came back exactly from these codecs and formats; no mean of PSNR counts them.
        kept: files to remove when the results are written.
        files: the written files.
    """

    conditions: Conditions
    subjects: tuple[Subject, ...]
    codecs: tuple[Evaluation, ...]
    groups: tuple[Group, ...]
    curves: tuple[Curve, ...]
    sweeps: dict[str, tuple[FormatPoint, ...]]
    same_size: tuple[SameSize, ...]
    bd_rates: tuple[BdRate, ...]
    exact: dict[str, list[str]]
    kept: PartialResults
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        codecs = ", ".join(codec.name for codec in self.codecs)
        rates = f", {len(self.bd_rates)} BD-rates" if self.bd_rates else ""
        return f"Comparison({codecs} on {self.conditions}{rates})"

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each codec and rate: its means over the photos, and what it costs."""
        import pandas as pd

        return pd.DataFrame(
            {
                "codec": subject.codec,
                "quality": subject.quality,
                "lmbda": subject.lmbda,
                **evaluation.means(),
                **{f"{scope}_kmac_px": subject.kmac_px[scope] for scope in SCOPES},
                "stages": subject.stages,
                "params": subject.params,
            }
            for subject, evaluation in zip(self.subjects, self.codecs, strict=True)
        )

    # For people

    def tables(self) -> Iterator[TitledTable]:
        """Tables to print. An unknown value is an empty text."""
        yield self._results()
        yield self._costs()
        if self.same_size:
            yield self._beside_formats()
        if self.bd_rates:
            yield self._rates()

    def notes(self) -> list[str]:
        """Sentences to print: why a BD-rate is missing, how means are taken, which curves are published."""
        notes = [f"No BD-rate: {rate.why}." for rate in self.bd_rates if rate.why]
        if not self.groups and (self.sweeps or self.bd_rates):
            notes.insert(
                0, "No BD-rate of the codecs: a curve takes codecs for different lambdas, see --curve."
            )
        if self.same_size:
            notes.append(
                "`codec above` is the mean of each photo's difference, at that photo's size; the curves join "
                "means over photos at one quality, so what lies between them is another difference."
            )
        notes += self._about_exact()
        published = ", ".join(curve.name for curve in self.curves if curve.kind == "published")
        if published:
            notes.append(f"As published: {published}. That compares only on the photos it was published for.")
        return list(dict.fromkeys(notes))

    def _about_exact(self) -> list[str]:
        if not self.exact:
            return []
        count, others = len(self.exact), self.conditions.photos - len(self.exact)
        names = ", ".join(f"{photo} from {' and '.join(by)}" for photo, by in list(self.exact.items())[:3])
        photos = f"{count} photo{'s' * (count != 1)}"
        what = f"{photos} came back exactly ({names}{', ...' * (count > 3)}): there PSNR is infinite"
        if others:
            return [
                f"{what}, so all means of PSNR are over the other {others}; all other means are over all."
            ]
        return [f"{what}, so each mean of PSNR is over what does not come back exactly."]

    def _results(self) -> TitledTable:
        columns = ["codec", "bytes", "bpp", "estimated", "PSNR", "MS-SSIM", "in dB", "rd_loss"]
        rows = []
        for codec in self.codecs:
            means = codec.means() | {"bytes": round(codec.bytes)}
            rows.append([codec.name, *map(_shown, means.values())])
        title = f"means of {self.conditions}"
        return title, [*columns, "encode s", "decode s"], rows

    def _costs(self) -> TitledTable:
        lambdas: dict[str, list[float]] = {}
        for subject in self.subjects:
            lambdas.setdefault(subject.codec, []).append(subject.lmbda)
        rows: list[list[Any]] = [
            [
                *(s.codec, range_text(lambdas[s.codec]), s.metric),
                *(*(s.kmac_px[scope] for scope in SCOPES), s.stages, s.params),
            ]
            for s in {subject.codec: subject for subject in self.subjects}.values()
        ]
        columns = ["codec", "lambda", "metric", *SCOPES, "stages", "parameters"]
        return "what the codecs cost (scopes in kMAC/px, stages at 768x512)", columns, rows

    def _beside_formats(self) -> TitledTable:
        psnr = {codec.name: codec.psnr for codec in self.codecs}
        rows = [
            [
                *(same.codec, same.format, same.bpp, same.psnr, _shown(same.ms_ssim)),
                *(psnr[same.codec] - same.psnr, same.encode_seconds, same.decode_seconds),
            ]
            for same in self.same_size
        ]
        columns = ["codec", "format", "bpp", "PSNR", "MS-SSIM", "codec above, dB", "encode s", "decode s"]
        return "formats at each codec's sizes, photo by photo", columns, rows

    def _rates(self) -> TitledTable:
        rows, pairs = [], list(zip(self.bd_rates[::2], self.bd_rates[1::2], strict=True))
        for by_psnr, by_ms_ssim in pairs:
            row = [by_psnr.curve, by_psnr.anchor]
            for rate in (by_psnr, by_ms_ssim):
                if rate.percent is None:
                    row += ["none", ""]
                else:
                    row += [signed(rate.percent, ".1f") + " %", f"{rate.low:.1f} - {rate.high:.1f}"]
            rows.append(row)
        columns = ["curve", "against", "by PSNR", "over, dB", "by MS-SSIM", "over, dB"]
        return "BD-rate (bits for the same quality; negative is better)", columns, rows

    # For programs

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values; what is not finite becomes None."""
        content: dict[str, Any] = {
            **asdict(self.conditions),
            "codecs": [
                {
                    **asdict(subject),
                    "folder": str(subject.folder),
                    "arch": codec.arch,
                    "fingerprint": codec.fingerprint,
                    "mean": codec.means(),
                    "photos": [asdict(photo) for photo in codec.photos],
                }
                for subject, codec in zip(self.subjects, self.codecs, strict=True)
            ],
            "formats": {
                name: [{**asdict(point), "exact": sorted(point.exact)} for point in points]
                for name, points in self.sweeps.items()
            },
            "curves": [asdict(curve) for curve in self.curves],
            "same_size": [asdict(entry) for entry in self.same_size],
            "bd_rate": [asdict(rate) for rate in self.bd_rates],
            "exact": self.exact,
        }
        return {key: finite(value) for key, value in content.items()}

    def photo_rows(self) -> Iterator[dict[str, Any]]:
        """`PHOTO_COLUMNS`: a row per photo and codec, with the quality where it has several.

        And one per photo, format and quality.
        """
        for subject, codec in zip(self.subjects, self.codecs, strict=True):
            for photo in codec.photos:
                row = {**asdict(photo), "photo": photo.name, "name": subject.codec}
                row |= {} if subject.quality is None else {"quality": subject.quality}
                yield {**row, "ms_ssim_db": decibels(photo.ms_ssim)}
        for name, points in self.sweeps.items():
            for result in (result for point in points for result in point.photos):
                row = {**asdict(result), "photo": result.name, "name": name}
                yield {**row, "ms_ssim_db": decibels(result.ms_ssim)}

    def write(self, outputs: Outputs) -> list[Path]:
        """Write the results; each file is there whole or not at all. Returns all files, the pictures too.

        FILE.json: all codecs in CompressAI's format, with everything else under `evaluation`. FILE.csv: a row
        per photo. FILE-NAME.json: each format, and each curve of the codecs where FILE.json is not that curve
        itself.

        Args:
            outputs: paths of the files.
        """
        described = "; ".join([f"{self.conditions}; complete files, 8-bit RGB", *self._about_exact()])
        ordered = sorted(self.codecs, key=lambda codec: codec.bpp)
        names = ", ".join(codec.name for codec in ordered)
        whole = self.groups[0].name if outputs.whole_curve else "nas-codec"
        content = compressai_results(whole, f"{described}; codecs: {names}", self.codecs)
        _write_json(outputs.json, {**content, "evaluation": self.to_json()})
        by_name = {curve.name: curve for curve in self.curves}
        for name in outputs.names:
            _write_json(outputs.curve(name), compressai_results(name, described, by_name[name].points))
        write_atomically(outputs.table, _csv(self.photo_rows()))
        self.kept.clear()
        return outputs.all()

    def subtitle(self) -> str:
        """A sentence on the points of the figure."""
        photos = self.conditions.photos
        published = "; dotted: as published, for its own photos"
        dotted = published if any(curve.kind == "published" for curve in self.curves) else ""
        return (
            f"Each point: means of {photos} photo{'s' * (photos != 1)} at one quality, complete files{dotted}"
        )

    def drawn(self) -> list[Curve]:
        """The curves, and every codec that is on none as a point."""
        on_curves = {name for group in self.groups for name in group.codecs}
        alone = [Curve.of(codec.name, [codec]) for codec in self.codecs if codec.name not in on_curves]
        return [*(c for c in self.curves if c.kind == "codecs"), *alone] + [
            curve for curve in self.curves if curve.kind != "codecs"
        ]


def compressai_results(name: str, description: str, points: Iterable[Measured]) -> dict[str, Any]:
    """Results in CompressAI's JSON format, which its plot tool reads: one entry per point, by rising bpp.

    MS-SSIM is left out where a point has none (all photos small): the tool then says that there is none.

    Args:
        name: name of the results.
        description: description of the points.
        points: measured points, in any order.
    """
    ordered: Sequence[Measured] = sorted(points, key=lambda point: point.bpp)
    results = {
        "psnr-rgb": [point.psnr for point in ordered],
        "ms-ssim-rgb": [point.ms_ssim for point in ordered],
        "bpp": [point.bpp for point in ordered],
        "encoding_time": [point.encode_seconds for point in ordered],
        "decoding_time": [point.decode_seconds for point in ordered],
    }
    finite = {key: values for key, values in results.items() if all(map(math.isfinite, values))}
    return {"name": name, "description": description, "results": finite}


def finite(content: Any) -> Any:
    """The same content with None for what is not finite: JSON knows no NaN and no infinity."""
    match content:
        case dict():
            return {key: finite(value) for key, value in content.items()}
        case list() | tuple():
            return [finite(value) for value in content]
        case float():
            return content if math.isfinite(content) else None
        case _:
            return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(finite(content), indent=2, allow_nan=False, default=str) + "\n")


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    return csv_text(PHOTO_COLUMNS, ({key: _shown(value) for key, value in row.items()} for row in rows))


def _shown(value: Any) -> Any:
    """An empty text for what is not known."""
    return "" if isinstance(value, float) and math.isnan(value) else value
