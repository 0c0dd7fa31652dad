"""A codec on photos, through complete files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.nic import Nic
from nas.comparison.evaluate import evaluate_codec
from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.metrics.quality import decibels, mean, ms_ssim
from nas.photos.images import Photo, psnr
from nas.support.errors import InputError


@pytest.fixture(scope="module")
def photos(chelsea: np.ndarray) -> list[Photo]:
    """One of odd size that is too small for MS-SSIM, and one that is not."""
    large = np.ascontiguousarray(np.pad(chelsea, ((0, 40), (0, 0), (0, 0)), mode="reflect"))
    return [Photo("small", chelsea), Photo("large", large)]


@pytest.fixture(scope="module")
def codec(supernet: Supernet) -> Codec:
    architecture = supernet.space.uniform(0.5, "checkerboard")
    return Codec(supernet.extract(architecture), architecture)


def test_a_codec_is_measured_by_its_files(codec: Codec, photos: list[Photo]) -> None:
    seen: list[tuple[int, int, str]] = []
    found = evaluate_codec(codec, photos, Objective(0.02), report=lambda *step: seen.append(step))
    for photo, result in zip(photos, found.photos, strict=True):
        data = compress_image(codec, photo.pixels).to_bytes()
        decoded = decompress_image(codec, Nic.parse(data))
        error = np.mean((photo.pixels.astype(float) - decoded) ** 2)
        assert (result.height, result.width) == photo.pixels.shape[:2]
        assert result.bytes == len(data)
        assert result.bpp == 8 * len(data) / (result.height * result.width)
        assert result.psnr == psnr(photo.pixels, decoded)
        assert result.rd_loss == pytest.approx(result.bpp + 0.02 * error, rel=1e-9)
        assert result.estimated_bpp > 0
        assert min(result.encode_seconds, result.decode_seconds) > 0
    assert found.bpp == sum(result.bpp for result in found.photos) / 2
    assert found.fingerprint == codec.fingerprint
    assert [step[0] for step in seen] == [0, 1, 2]


def test_ms_ssim_is_of_photos_that_are_large_enough(codec: Codec, photos: list[Photo]) -> None:
    found = evaluate_codec(codec, photos, Objective(8.0, "ms-ssim"))
    small, large = found.photos
    assert math.isnan(small.ms_ssim)
    assert math.isnan(small.rd_loss)
    assert 0 <= large.ms_ssim <= 1
    assert large.rd_loss == pytest.approx(large.bpp + 8 * (1 - large.ms_ssim))
    assert found.ms_ssim == large.ms_ssim
    assert found.rd_loss == large.rd_loss
    assert found.means()["ms_ssim_db"] == decibels(large.ms_ssim)


def test_effort_is_measured_by_its_files(codec: Codec, photos: list[Photo]) -> None:
    plain, better = (evaluate_codec(codec, photos[:1], Objective(1e-4), effort=effort) for effort in (0, 4))
    assert better.rd_loss < plain.rd_loss
    (result,) = better.photos
    assert result.estimated_bpp == pytest.approx(result.bpp, rel=0.05)
    assert result.encode_seconds > plain.photos[0].encode_seconds


def test_an_earlier_result_stands_for_a_new_one(codec: Codec, photos: list[Photo]) -> None:
    first = evaluate_codec(codec, photos, Objective(0.02))
    by_name = {result.name: result for result in first.photos}
    again = evaluate_codec(codec, photos, Objective(0.02), once=lambda photo, measure: by_name[photo.name])
    assert again == first  # the seconds, too


def test_ms_ssim_of_a_picture_with_itself(photos: list[Photo]) -> None:
    assert ms_ssim(photos[1].pixels, photos[1].pixels) == pytest.approx(1)
    assert decibels(0.9) == pytest.approx(10)
    assert decibels(1.0) == math.inf
    assert math.isnan(decibels(math.nan))
    assert math.isnan(mean([math.nan]))


def test_nothing_to_evaluate_is_said(codec: Codec, photos: list[Photo]) -> None:
    with pytest.raises(InputError, match="no photos"):
        evaluate_codec(codec, [], Objective(0.01))
    with pytest.raises(InputError, match="no metric 'vmaf'"):
        evaluate_codec(codec, photos, Objective(0.01, "vmaf"))
