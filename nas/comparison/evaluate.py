"""A codec on photos, through complete .nic files.

Everything is measured from the outside: the bytes of whole files, the 8-bit pictures that come back, the
seconds that both take. Means are of each photo's value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.codec.bitstream import decompress_image, lmbda_of, picture_of, read_latents, step_of
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.nic import Nic
from nas.codec.recode import compress_smallest
from nas.graph.entropy import bits
from nas.metrics.objective import Objective
from nas.metrics.quality import decibels, mean, ms_ssim, mse, psnr_without
from nas.photos.images import Photo, psnr
from nas.support.errors import InputError
from nas.support.progress import Report, silent

METRICS = ("mse", "ms-ssim")


@dataclass(frozen=True)
class PhotoResult:
    """One photo through one codec.

    Attributes:
        bytes: size of the whole file; bpp: its bits per pixel, with the header.
        estimated_bpp: what the network's likelihoods promise for the padded photo, per pixel of the photo.
        psnr: dB, of 8-bit pictures; infinite where they are equal.
        ms_ssim: NaN where a side is 160 pixels or less.
        rd_loss: `bpp + lambda * 255^2 * MSE` of the 8-bit picture, or `bpp + lambda * (1 - MS-SSIM)`.
        name: name of the photo.
        width: its width, in pixels.
        height: its height, in pixels.
        encode_seconds: seconds from pixels to bytes.
        decode_seconds: seconds from bytes to pixels.
    """

    name: str
    width: int
    height: int
    bytes: int
    bpp: float
    estimated_bpp: float
    psnr: float
    ms_ssim: float
    rd_loss: float
    encode_seconds: float
    decode_seconds: float


OncePerPhoto = Callable[[Photo, Callable[[], PhotoResult]], PhotoResult]


def measure_photo_uncached(photo: Photo, measure: Callable[[], PhotoResult]) -> PhotoResult:
    """Measure a photo in any case, where no earlier results are kept.

    Args:
        photo: the photo.
        measure: called without arguments, measures it.
    """
    return measure()


@dataclass(frozen=True)
class Evaluation:
    """One codec on some photos. The means leave out photos that have no such value (small ones: MS-SSIM).

    Attributes:
        exact: names of photos that the mean of PSNR leaves out: something gave them back exactly.
        name: name of the codec.
        arch: key of its architecture.
        fingerprint: its fingerprint.
        lmbda: lambda of the loss.
        metric: `mse` or `ms-ssim`.
    """

    name: str
    arch: str
    fingerprint: str
    lmbda: float
    metric: str
    photos: tuple[PhotoResult, ...]
    exact: frozenset[str] = frozenset()

    @property
    def bytes(self) -> float:
        """Mean size of a file, in bytes."""
        return self._mean("bytes")

    @property
    def bpp(self) -> float:
        """Mean rate of the files, in bits per pixel."""
        return self._mean("bpp")

    @property
    def estimated_bpp(self) -> float:
        """Mean rate that the network's likelihoods promise, in bits per pixel."""
        return self._mean("estimated_bpp")

    @property
    def psnr(self) -> float:
        """Mean PSNR in dB, without the photos in `exact`."""
        return psnr_without(self.photos, self.exact)

    @property
    def ms_ssim(self) -> float:
        """Mean MS-SSIM, as a fraction."""
        return self._mean("ms_ssim")

    @property
    def rd_loss(self) -> float:
        """Mean rate-distortion loss."""
        return self._mean("rd_loss")

    @property
    def encode_seconds(self) -> float:
        """Mean time to compress a photo, in seconds."""
        return self._mean("encode_seconds")

    @property
    def decode_seconds(self) -> float:
        """Mean time to decompress a photo, in seconds."""
        return self._mean("decode_seconds")

    def _mean(self, value: str) -> float:
        return mean(getattr(photo, value) for photo in self.photos)

    def means(self) -> dict[str, float]:
        """Every mean by name; `ms_ssim_db` is of the mean MS-SSIM, as CompressAI's plots have it."""
        return {
            "bytes": self.bytes,
            "bpp": self.bpp,
            "estimated_bpp": self.estimated_bpp,
            "psnr": self.psnr,
            "ms_ssim": self.ms_ssim,
            "ms_ssim_db": decibels(self.ms_ssim),
            "rd_loss": self.rd_loss,
            "encode_seconds": self.encode_seconds,
            "decode_seconds": self.decode_seconds,
        }


def evaluate_codec(
    codec: Codec,
    photos: Sequence[Photo],
    objective: Objective,
    *,
    quality: float | None = None,
    effort: int = 0,
    name: str = "",
    once: OncePerPhoto = measure_photo_uncached,
    report: Report = silent,
) -> Evaluation:
    """Really compress and decompress photos.

    Args:
        codec: the codec.
        photos: the photos, of any size.
        objective: weight and metric of the distortion in `rd_loss`.
        quality: from 0 to 100, where the codec codes at a range of rates; by default the middle anchor's.
        effort: how long latents are refined for each photo, see `codec.refining.effort`.
        name: name of the codec. By default it is its architecture's key.
        once: called with each photo and the function that measures it; may give an earlier result instead.
        report: called with the photos done, of how many, and a name.

    Raises:
        InputError: no photos, an unknown metric, or a quality that there is not.
    """
    check_request(photos, objective.metric)
    results = []
    bench = _PhotoMeasurer(codec, objective, quality, effort)
    for done, photo in enumerate(photos):
        report(done, len(photos), photo.name)
        results.append(once(photo, lambda photo=photo: bench.measure(photo)))  # type: ignore[misc]
    report(len(photos), len(photos), "")
    key = codec.architecture.key
    return Evaluation(name or key, key, codec.fingerprint, objective.lmbda, objective.metric, tuple(results))


class _PhotoMeasurer:
    """Measures photos, each in one run that is not the first of its kind."""

    def __init__(self, codec: Codec, objective: Objective, quality: float | None, effort: int) -> None:
        self.codec, self.objective, self.quality, self.effort = codec, objective, quality, effort
        self._family = CodecFamily(codec, objective=objective)
        self._rate = lmbda_of(codec, step_of(codec, quality))
        self._warm = False

    def measure(self, photo: Photo) -> PhotoResult:
        codec, objective = self.codec, self.objective
        if not self._warm:
            coded = Nic.parse(self._compressed(photo, 0))
            decompress_image(codec, coded, max_pixels=photo.size)
            self._warm = True
        began = time.perf_counter()
        data = self._compressed(photo, self.effort)
        encoded = time.perf_counter()
        nic = Nic.parse(data)
        latents = read_latents(codec, nic, max_pixels=photo.size)
        decoded = picture_of(codec, latents[0], nic.width, nic.height, lmbda=self._rate, grey=nic.grey)
        ended = time.perf_counter()
        bpp = 8 * len(data) / photo.size
        similarity = ms_ssim(photo.pixels, decoded)
        error = mse(photo.pixels, decoded) if objective.metric == "mse" else 1 - similarity
        return PhotoResult(
            name=photo.name,
            width=photo.pixels.shape[1],
            height=photo.pixels.shape[0],
            bytes=len(data),
            bpp=bpp,
            estimated_bpp=bits_of_latents(codec, *latents) / photo.size,
            psnr=psnr(photo.pixels, decoded),
            ms_ssim=similarity,
            rd_loss=float(objective.loss(bpp, error)),
            encode_seconds=encoded - began,
            decode_seconds=ended - encoded,
        )

    def _compressed(self, photo: Photo, effort: int) -> bytes:
        layouts = list(self._family.layouts)
        nic = compress_smallest(self._family, photo.pixels, layouts, quality=self.quality, effort=effort)
        return nic.to_bytes()


def check_request(photos: Sequence[Photo], metric: str) -> None:
    """InputError where there are no photos, or no such metric.

    Args:
        photos: photos to evaluate on.
        metric: `mse` or `ms-ssim`.

    Raises:
        InputError: there are no photos, or there is no such metric.
    """
    if not len(photos):
        raise InputError("There are no photos to evaluate on: give a folder that holds some.")
    if metric not in METRICS:
        raise InputError(f"There is no metric '{metric}': use mse or ms-ssim.")


@torch.no_grad()
def bits_of_latents(codec: Codec, y_hat: Tensor, z_hat: Tensor | None) -> float:
    """The bits that the network's likelihoods promise for one picture's rounded latents.

    Args:
        codec: the codec.
        y_hat: rounded y, [1, M, h, w].
        z_hat: rounded z, [1, N, h, w], or None where there is no z.
    """
    return float(sum(bits(likelihood) for likelihood in codec.likelihoods(y_hat, z_hat).values()))
