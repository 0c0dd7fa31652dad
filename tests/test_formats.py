"""JPEG, WebP and AVIF as baselines."""

from __future__ import annotations

import numpy as np
import pytest

from nas.comparison import formats
from nas.comparison.formats import FormatResult, nearest_size, sweep
from nas.photos.images import Photo
from nas.support.errors import InputError


@pytest.fixture(scope="module")
def photos(chelsea: np.ndarray) -> list[Photo]:
    return [Photo("one", chelsea), Photo("other", np.ascontiguousarray(chelsea[::-1, :170]))]


@pytest.mark.parametrize("name", formats.LIBRARIES)
def test_a_sweep_rises(name: str, photos: list[Photo]) -> None:
    if name not in formats.formats():
        pytest.skip(f"this Pillow has no {name}")
    points = sweep(name, photos, (10, 50, 90))
    rates, qualities = [p.bpp for p in points], [p.psnr for p in points]
    assert [point.quality for point in points] == [10, 50, 90]
    assert rates == sorted(rates)
    assert qualities == sorted(qualities)
    assert 15 < qualities[0] < qualities[-1] < 60
    for point in points:
        assert [result.name for result in point.photos] == ["one", "other"]
        for photo, result in zip(photos, point.photos, strict=True):
            assert result.bytes == len(formats.encode(name, photo, point.quality))
            assert result.bpp == 8 * result.bytes / photo.size
        assert point.psnr == sum(result.psnr for result in point.photos) / 2


def test_an_earlier_result_stands_for_a_new_one(photos: list[Photo]) -> None:
    made = FormatResult("one", "jpeg", 50, 1, 1, 1, 1.0, 30.0)
    (point,) = sweep("jpeg", photos[:1], [50], once=lambda photo, quality, measure: made)
    assert point.photos == (made,)


@pytest.mark.parametrize("target", [1, 3000, 6000, 10**9])
def test_the_nearest_size_is_the_nearest(target: int, photos: list[Photo]) -> None:
    found = nearest_size("jpeg", photos[0], target)
    sizes = [len(formats.encode("jpeg", photos[0], quality)) for quality in range(1, 101)]
    assert abs(found.bytes - target) == min(abs(size - target) for size in sizes)
    assert found.bpp == 8 * found.bytes / photos[0].size


def test_formats_that_cannot_be_written(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="did you mean jpeg"):
        sweep("jpg", photos)
    with pytest.raises(InputError, match="no photos"):
        sweep("jpeg", [])
    monkeypatch.setattr(formats.features, "check", lambda library: library == "jpg")
    with pytest.raises(InputError, match=r"without avif here: compare with what it has \(jpeg\)"):
        nearest_size("avif", photos[0], 1000)


def test_a_photo_that_a_format_cannot_hold() -> None:
    wide = Photo("wide", np.zeros((1, 20000, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="wide cannot be written as webp"):
        sweep("webp", [wide], [50])
