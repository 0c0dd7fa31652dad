"""Results on photos: codecs through complete .nic files, and JPEG, WebP and AVIF beside them.

Everything is measured from the outside: the bytes of whole files, the 8-bit pictures that come back, the
seconds that both take. Means are of each photo's value.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, features

from nas.codec.bitstream import Nic, compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import describe, load_codec
from nas.errors import InputError, nearest
from nas.files import refuse_existing, write_atomically
from nas.graph.entropy import bits
from nas.images import Photo, Pixels, bundled, list_images, pad, psnr, read_image, to_tensor
from nas.training.losses import rd_loss

BUNDLED = "bundled"  # as data: the photo that the demo tests on
MS_SSIM_SIDE = 160  # both sides must be longer than this: five scales of an 11x11 window
QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
BD_POINTS = 4  # the fewest points a BD-rate is computed from
Report = Callable[[int, int, str], None]

# Pillow's name for the library behind each format, and how files are written: the encoders' own defaults,
# with the slower search where it is cheap.
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("jpg", {"optimize": True}),
    "webp": ("webp", {"method": 6}),
    "avif": ("avif", {}),
}


def silent(done: int, total: int, note: str) -> None:
    """Reports nothing."""


class Result(Protocol):
    """One operating point: means over photos of each photo's value."""

    @property
    def bpp(self) -> float: ...
    @property
    def psnr(self) -> float: ...
    @property
    def ms_ssim(self) -> float: ...
    @property
    def encode_seconds(self) -> float: ...
    @property
    def decode_seconds(self) -> float: ...


# Codecs


@dataclass(frozen=True)
class PhotoResult:
    """One photo through one codec.

    Attributes:
        bytes: of the whole file; bpp: its bits per pixel, the header included.
        estimated_bpp: what the network's likelihoods promise for the padded photo, per pixel of the photo.
        psnr: dB, of 8-bit pictures. ms_ssim: NaN where a side is 160 pixels or less.
        rd_loss: `bpp + lambda * 255^2 * MSE` of the 8-bit picture, or `bpp + lambda * (1 - MS-SSIM)`.
    """

    name: str
    bytes: int
    bpp: float
    estimated_bpp: float
    psnr: float
    ms_ssim: float
    rd_loss: float
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Evaluation:
    """One codec on some photos. The means leave out photos that have no such value (small ones: MS-SSIM)."""

    name: str
    arch: str
    fingerprint: str
    lmbda: float
    metric: str
    photos: tuple[PhotoResult, ...]

    @property
    def bpp(self) -> float:
        return self._mean("bpp")

    @property
    def estimated_bpp(self) -> float:
        return self._mean("estimated_bpp")

    @property
    def psnr(self) -> float:
        return self._mean("psnr")

    @property
    def ms_ssim(self) -> float:
        return self._mean("ms_ssim")

    @property
    def rd_loss(self) -> float:
        return self._mean("rd_loss")

    @property
    def encode_seconds(self) -> float:
        return self._mean("encode_seconds")

    @property
    def decode_seconds(self) -> float:
        return self._mean("decode_seconds")

    def _mean(self, value: str) -> float:
        return _mean(getattr(photo, value) for photo in self.photos)

    def means(self) -> dict[str, float]:
        """Every mean by name."""
        names = ("bpp", "estimated_bpp", "psnr", "ms_ssim", "rd_loss", "encode_seconds", "decode_seconds")
        return {name: self._mean(name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not finite becomes None."""
        facts = {key: getattr(self, key) for key in ("name", "arch", "fingerprint", "lmbda", "metric")}
        content = {**facts, "mean": self.means(), "photos": [asdict(photo) for photo in self.photos]}
        return _finite(content)


def evaluate_codec(
    codec: Codec,
    photos: Sequence[Photo],
    *,
    lmbda: float,
    metric: str = "mse",
    name: str = "",
    report: Report = silent,
) -> Evaluation:
    """Really compress and decompress photos.

    Args:
        codec: what to measure.
        photos: of any size.
        lmbda: weight of the distortion in `rd_loss`.
        metric: `mse` or `ms-ssim`, the distortion in `rd_loss`.
        name: what to call the codec; its architecture's key by default.
        report: called with the photos done, of how many, and a name.

    Raises:
        InputError: no photos, or an unknown metric.
    """
    if not photos:
        raise InputError("There are no photos to evaluate on: give a folder that holds some.")
    if metric not in ("mse", "ms-ssim"):
        raise InputError(f"There is no metric '{metric}': use mse or ms-ssim.")
    results = []
    for done, photo in enumerate(photos):
        report(done, len(photos), photo.name)
        results.append(_evaluate_photo(codec, photo, lmbda, metric))
    report(len(photos), len(photos), "")
    key = codec.architecture.key
    return Evaluation(name or key, key, codec.fingerprint, lmbda, metric, tuple(results))


def _evaluate_photo(codec: Codec, photo: Photo, lmbda: float, metric: str) -> PhotoResult:
    estimated = estimated_bits(codec, photo.pixels) / photo.size  # first: it warms up, too
    began = time.perf_counter()
    data = compress_image(codec, photo.pixels).to_bytes()
    encoded = time.perf_counter()
    decoded = decompress_image(codec, Nic.parse(data))
    ended = time.perf_counter()
    bpp = 8 * len(data) / photo.size
    similarity = ms_ssim(photo.pixels, decoded)
    error = _mse(photo.pixels, decoded) if metric == "mse" else 1 - similarity
    return PhotoResult(
        name=photo.name,
        bytes=len(data),
        bpp=bpp,
        estimated_bpp=estimated,
        psnr=psnr(photo.pixels, decoded),
        ms_ssim=similarity,
        rd_loss=float(rd_loss(bpp, error, lmbda, metric)),
        encode_seconds=encoded - began,
        decode_seconds=ended - encoded,
    )


@torch.no_grad()
def estimated_bits(codec: Codec, pixels: Pixels) -> float:
    """The bits that the network's likelihoods promise for one picture, [H, W, 3], padded as for coding."""
    device = next(codec.parameters()).device
    output = codec(pad(to_tensor(pixels).to(device), codec.alignment))
    return float(sum(bits(likelihood) for likelihood in output["likelihoods"].values()))


def ms_ssim(a: Pixels, b: Pixels) -> float:
    """MS-SSIM of two 8-bit pictures [H, W, 3]; NaN where a side is 160 pixels or less."""
    if min(a.shape[:2]) <= MS_SSIM_SIDE:
        return math.nan
    from pytorch_msssim import ms_ssim as compare

    return float(compare(to_tensor(a), to_tensor(b), data_range=1.0))


def _mse(a: Pixels, b: Pixels) -> float:
    """Mean squared error of two 8-bit pictures, with white at 1."""
    return float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)) / 255**2


# JPEG, WebP, AVIF


@dataclass(frozen=True)
class BaselineResult:
    """One picture, or the means over several, in a format at one quality."""

    format: str
    quality: int
    bytes: float
    bpp: float
    psnr: float
    ms_ssim: float = math.nan
    encode_seconds: float = math.nan
    decode_seconds: float = math.nan


@dataclass(frozen=True)
class Curve:
    """Operating points of one thing, from few bits to many."""

    name: str
    points: tuple[Result, ...]

    @classmethod
    def of(cls, name: str, points: Iterable[Result]) -> Curve:
        """Points in any order."""
        return cls(name, tuple(sorted(points, key=lambda point: point.bpp)))


def formats() -> list[str]:
    """The baselines that Pillow can write here."""
    return [name for name, (library, _) in _FORMATS.items() if features.check(library)]


def require_format(name: str) -> str:
    """The name of a baseline that can be written here.

    Raises:
        InputError: an unknown format, or one that this Pillow was built without.
    """
    if name not in _FORMATS:
        raise InputError(f"There is no format '{name}' to compare with: {nearest(name, formats())}")
    if name not in formats():
        available = ", ".join(formats()) or "none"
        raise InputError(f"Pillow was built without {name} here: compare with what it has ({available}).")
    return name


def sweep(
    format: str, photos: Sequence[Photo], qualities: Sequence[int] = QUALITIES, *, report: Report = silent
) -> Curve:
    """A format over a range of qualities.

    Args:
        format: jpeg, webp or avif.
        photos: what to code.
        qualities: 1 to 100, one point each (the means over the photos).
        report: called with the pictures done, of how many, and a name.

    Raises:
        InputError: the format cannot be written here, or cannot hold a photo.
    """
    require_format(format)
    if not photos:
        raise InputError(f"There are no photos to code as {format}: give a folder that holds some.")
    points, total = [], len(photos) * len(qualities)
    for row, quality in enumerate(qualities):
        results = []
        for column, photo in enumerate(photos):
            report(row * len(photos) + column, total, f"{format} {quality}: {photo.name}")
            results.append(_baseline(format, photo, quality))
        points.append(_average(results))
    report(total, total, "")
    return Curve.of(format, points)


def nearest_size(format: str, photo: Photo, target_bytes: float) -> BaselineResult:
    """The quality at which a photo's file is nearest to a size (a search by halves: sizes grow with quality).

    Args:
        format: jpeg, webp or avif.
        photo: what to code.
        target_bytes: the wanted size of the file.

    Raises:
        InputError: the format cannot be written here, or cannot hold the photo.
    """
    require_format(format)
    sizes: dict[int, int] = {}

    def size(quality: int) -> int:
        if quality not in sizes:
            sizes[quality] = len(_encode(format, photo, quality))
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
    return _baseline(format, photo, best)


def _encode(format: str, photo: Photo, quality: int) -> bytes:
    buffer = io.BytesIO()
    try:
        Image.fromarray(photo.pixels).save(buffer, format=format, quality=quality, **_FORMATS[format][1])
    except (OSError, ValueError) as error:
        raise InputError(f"{photo.name} cannot be written as {format} ({error}): leave one out.") from error
    return buffer.getvalue()


def _baseline(format: str, photo: Photo, quality: int) -> BaselineResult:
    began = time.perf_counter()
    data = _encode(format, photo, quality)
    encoded = time.perf_counter()
    with Image.open(io.BytesIO(data)) as image:
        decoded = np.asarray(image.convert("RGB"))
    ended = time.perf_counter()
    return BaselineResult(
        format=format,
        quality=quality,
        bytes=len(data),
        bpp=8 * len(data) / photo.size,
        psnr=psnr(photo.pixels, decoded),
        ms_ssim=ms_ssim(photo.pixels, decoded),
        encode_seconds=encoded - began,
        decode_seconds=ended - encoded,
    )


def _average(results: Sequence[BaselineResult]) -> BaselineResult:
    """The means over photos, at the quality of the first."""
    names = ("bytes", "bpp", "psnr", "ms_ssim", "encode_seconds", "decode_seconds")
    means = {name: _mean(getattr(result, name) for result in results) for name in names}
    return BaselineResult(results[0].format, results[0].quality, **means)


# Comparing


def to_compressai(name: str, description: str, evaluations: Iterable[Result]) -> dict[str, Any]:
    """Results in CompressAI's JSON format, which its plot tool reads: one entry per codec, by rising bpp.

    What is not finite (MS-SSIM of small photos) becomes None.
    """
    points = sorted(evaluations, key=lambda point: point.bpp)
    results = {
        "psnr-rgb": [point.psnr for point in points],
        "ms-ssim-rgb": [point.ms_ssim for point in points],
        "bpp": [point.bpp for point in points],
        "encoding_time": [point.encode_seconds for point in points],
        "decoding_time": [point.decode_seconds for point in points],
    }
    return {"name": name, "description": description, "results": _finite(results)}


def bd_rate(curve: Curve, anchor: Curve) -> float | None:
    """How many per cent more bits `curve` takes than `anchor` for the same PSNR; negative is better.

    Piecewise cubic (PCHIP) over the PSNR that both reach. None where a side has fewer than four points of
    rising PSNR, or the two have no PSNR in common.
    """
    from bjontegaard import bd_rate as compare

    (rate, quality), (anchor_rate, anchor_quality) = _rising(curve), _rising(anchor)
    if min(len(rate), len(anchor_rate)) < BD_POINTS:
        return None
    if min(quality[-1], anchor_quality[-1]) <= max(quality[0], anchor_quality[0]):
        return None
    sides = (anchor_rate, anchor_quality, rate, quality)
    return float(compare(*sides, method="pchip", require_matching_points=False, min_overlap=0))


def _rising(curve: Curve) -> tuple[list[float], list[float]]:
    """Rates and PSNRs of the points that are better than every cheaper one."""
    rates: list[float] = []
    qualities: list[float] = []
    for point in sorted(curve.points, key=lambda point: point.bpp):
        if math.isfinite(point.psnr) and (not qualities or point.psnr > qualities[-1]):
            rates.append(point.bpp)
            qualities.append(point.psnr)
    return rates, qualities


@dataclass(frozen=True)
class SameSize:
    """A codec against a format at the same sizes: each photo's file is the nearest in size to the codec's."""

    codec: str
    format: str
    bpp: float
    psnr: float


@dataclass(frozen=True)
class EvaluationReport:
    """What `nas evaluate` found.

    Attributes:
        photos: how many there were.
        codecs: one evaluation each, in the order given.
        baselines: the sweep of each format.
        same_size: every codec against every format at the codec's own sizes.
        bd_rates: per cent against each format, where four codecs or more make a curve.
    """

    photos: int
    codecs: tuple[Evaluation, ...]
    baselines: dict[str, Curve] = field(default_factory=dict)
    same_size: tuple[SameSize, ...] = ()
    bd_rates: dict[str, float | None] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """What `rows` hold."""
        names = ["codec", "bpp", "estimated", "PSNR", "MS-SSIM", "rd_loss", "encode s", "decode s"]
        return names + [f"{name} PSNR at this size" for name in self.baselines]

    def rows(self) -> list[list[Any]]:
        """One row per codec; an empty text where there is no value."""
        found = []
        for codec in self.codecs:
            same = [s.psnr for s in self.same_size if s.codec == codec.name]
            values = [*codec.means().values(), *same]
            found.append([codec.name, *("" if math.isnan(value) else value for value in values)])
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values; what is not finite becomes None."""
        content = {
            "photos": self.photos,
            "codecs": [codec.to_json() for codec in self.codecs],
            "baselines": {
                name: [asdict(point) for point in curve.points if isinstance(point, BaselineResult)]
                for name, curve in self.baselines.items()
            },
            "same_size": [asdict(entry) for entry in self.same_size],
            "bd_rate": self.bd_rates,
        }
        return _finite(content)

    def files(self, path: Path) -> dict[Path, dict[str, Any]]:
        """What `write` writes where, in CompressAI's format."""
        described = f"{self.photos} photos, complete files, 8-bit RGB"
        found = {path: to_compressai("nas-codec", f"{described}; {self._names()}", self.codecs)}
        for name, curve in self.baselines.items():
            place = path.with_name(f"{path.stem}-{name}{path.suffix or '.json'}")
            found[place] = to_compressai(name, f"{described}, Pillow", curve.points)
        return found

    def _names(self) -> str:
        return ", ".join(codec.name for codec in sorted(self.codecs, key=lambda codec: codec.bpp))

    def write(self, path: Path, *, force: bool = False) -> list[Path]:
        """Write FILE.json for the codecs and FILE-jpeg.json and so on beside it, each whole or not at all.

        Raises:
            InputError: one of them is there already and `force` is not given; nothing is written then.
        """
        files = self.files(path)
        for place in files:
            refuse_existing(place, force=force, what="results")
        for place, content in files.items():
            write_atomically(place, json.dumps(content, indent=2, allow_nan=False) + "\n")
        return list(files)


def evaluate_folders(
    codec_folders: Sequence[str | Path],
    data: str | Path,
    against: Sequence[str] = (),
    report: Report = silent,
    *,
    device: str | torch.device = "cpu",
    qualities: Sequence[int] = QUALITIES,
) -> EvaluationReport:
    """Everything that `nas evaluate` computes.

    Args:
        codec_folders: exported codecs.
        data: a folder of photos, searched recursively, or `bundled`.
        against: formats to compare with, among `formats()`.
        report: called with the steps done, of how many, and what is being done.
        device: where the codecs run.
        qualities: of the formats' sweeps.

    Raises:
        InputError: before anything is measured, where a codec, a photo or a format cannot be used.
    """
    if not codec_folders:
        raise InputError("There is no codec to evaluate: give the folder of one or more.")
    names = _names(codec_folders)
    asked = [require_format(name) for name in dict.fromkeys(against)]
    facts = [_facts(Path(folder)) for folder in codec_folders]
    codecs = [load_codec(folder).to(device) for folder in codec_folders]
    photos = evaluation_photos(data)
    steps = [len(photos)] * len(codecs) + [(len(qualities) + len(codecs)) * len(photos)] * len(asked)
    done, total = 0, sum(steps)

    def stage(what: str) -> Report:
        return lambda now, _, note: report(done + now, total, f"{what} {note}".strip())

    evaluations = []
    for name, codec, (lmbda, metric) in zip(names, codecs, facts, strict=True):
        found = evaluate_codec(codec, photos, lmbda=lmbda, metric=metric, name=name, report=stage(name))
        evaluations.append(found)
        done += len(photos)
    baselines, same_size = {}, []
    for format in asked:
        baselines[format] = sweep(format, photos, qualities, report=stage(""))
        done += len(qualities) * len(photos)
        for evaluation in evaluations:
            reporter = stage(f"{format} like {evaluation.name}")
            same_size.append(_at_same_size(format, photos, evaluation, reporter))
            done += len(photos)
    curve = Curve.of("codecs", evaluations)
    rates = {name: bd_rate(curve, anchor) for name, anchor in baselines.items()}
    return EvaluationReport(len(photos), tuple(evaluations), baselines, tuple(same_size), rates)


def evaluation_photos(data: str | Path) -> list[Photo]:
    """Every photo below a folder, or the demo's test photo for `bundled`.

    Raises:
        InputError: no such folder, no image in it, or one that cannot be read.
    """
    if str(data) == BUNDLED:
        return bundled()["test"]
    root = Path(data)
    return [Photo(path.relative_to(root).as_posix(), read_image(path)) for path in list_images(root)]


def _at_same_size(format: str, photos: Sequence[Photo], evaluation: Evaluation, report: Report) -> SameSize:
    found = []
    for done, (photo, result) in enumerate(zip(photos, evaluation.photos, strict=True)):
        report(done, len(photos), photo.name)
        found.append(nearest_size(format, photo, result.bytes))
    report(len(photos), len(photos), "")
    return SameSize(evaluation.name, format, _mean(r.bpp for r in found), _mean(r.psnr for r in found))


def _names(folders: Sequence[str | Path]) -> list[str]:
    """Short names for codecs: their folders', or the whole paths where those are not different.

    Raises:
        InputError: a folder is given twice.
    """
    paths = [Path(folder).resolve() for folder in folders]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise InputError(f"The codec {twice[0]} is given twice: name it once.")
    short = [path.name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _facts(folder: Path) -> tuple[float, str]:
    """The lambda and the metric that a codec was trained for."""
    content = describe(folder)
    try:
        return float(content["lmbda"]), str(content["metric"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{folder}/codec.yaml lacks `lmbda` or `metric`: export the codec again.") from None


def _mean(values: Iterable[float]) -> float:
    """The mean of the values that are numbers; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _finite(content: Any) -> Any:
    """The same content with None for what is not finite: JSON knows no NaN and no infinity."""
    match content:
        case dict():
            return {key: _finite(value) for key, value in content.items()}
        case list() | tuple():
            return [_finite(value) for value in content]
        case float():
            return content if math.isfinite(content) else None
        case _:
            return content
