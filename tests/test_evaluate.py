"""Results on photos: from complete files, in other people's formats, beside other people's codecs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.codec import evaluate
from nas.codec.bitstream import Nic, compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.evaluate import (
    BaselineResult,
    Curve,
    bd_rate,
    evaluate_codec,
    evaluate_folders,
    nearest_size,
    sweep,
    to_compressai,
)
from nas.codec.folder import save_codec
from nas.errors import InputError
from nas.graph.network import Supernet
from nas.images import Photo, psnr

FORMATS = ("jpeg", "webp", "avif")


@pytest.fixture(scope="module")
def photos(chelsea: np.ndarray) -> list[Photo]:
    """One of odd size that is too small for MS-SSIM, and one that is not."""
    large = np.ascontiguousarray(np.pad(chelsea, ((0, 40), (0, 0), (0, 0)), mode="reflect"))
    return [Photo("small", chelsea), Photo("large", large)]


@pytest.fixture(scope="module")
def codec(supernet: Supernet) -> Codec:
    architecture = supernet.space.uniform(0.5, "checkerboard")
    return Codec(supernet.extract(architecture), architecture)


@pytest.fixture(scope="module")
def folders(supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four codecs, from narrow to wide."""
    root, found = tmp_path_factory.mktemp("codecs"), []
    for level in (0.0, 0.3, 0.6, 1.0):
        architecture = supernet.space.uniform(level, "none")
        found.append(root / f"level-{level}")
        save_codec(
            Codec(supernet.extract(architecture), architecture), found[-1], {"lmbda": 0.01, "metric": "mse"}
        )
    return found


def point(bpp: float, quality: float) -> BaselineResult:
    return BaselineResult("jpeg", 50, 1, bpp, quality)


# Codecs


def test_a_codec_is_measured_by_its_files(codec: Codec, photos: list[Photo]) -> None:
    seen: list[tuple[int, int, str]] = []
    found = evaluate_codec(codec, photos, lmbda=0.02, report=lambda *step: seen.append(step))
    for photo, result in zip(photos, found.photos, strict=True):
        data = compress_image(codec, photo.pixels).to_bytes()
        decoded = decompress_image(codec, Nic.parse(data))
        pixels = photo.pixels.shape[0] * photo.pixels.shape[1]
        error = np.mean((photo.pixels.astype(float) - decoded) ** 2)
        assert result.bytes == len(data)
        assert result.bpp == 8 * len(data) / pixels
        assert result.psnr == psnr(photo.pixels, decoded)
        assert result.rd_loss == pytest.approx(result.bpp + 0.02 * error, rel=1e-9)
        assert result.estimated_bpp > 0
        assert min(result.encode_seconds, result.decode_seconds) > 0
    assert found.bpp == sum(result.bpp for result in found.photos) / 2
    assert found.fingerprint == codec.fingerprint
    assert [step[0] for step in seen] == [0, 1, 2]


def test_ms_ssim_is_of_photos_that_are_large_enough(codec: Codec, photos: list[Photo]) -> None:
    found = evaluate_codec(codec, photos, lmbda=8.0, metric="ms-ssim")
    small, large = found.photos
    assert math.isnan(small.ms_ssim)
    assert math.isnan(small.rd_loss)
    assert 0 <= large.ms_ssim <= 1
    assert large.rd_loss == pytest.approx(large.bpp + 8 * (1 - large.ms_ssim))
    assert found.ms_ssim == large.ms_ssim
    assert found.rd_loss == large.rd_loss
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["photos"][0]["ms_ssim"] is None


def test_ms_ssim_of_a_picture_with_itself(photos: list[Photo]) -> None:
    assert evaluate.ms_ssim(photos[1].pixels, photos[1].pixels) == pytest.approx(1)


def test_nothing_to_evaluate_is_said(codec: Codec, photos: list[Photo]) -> None:
    with pytest.raises(InputError, match="no photos"):
        evaluate_codec(codec, [], lmbda=0.01)
    with pytest.raises(InputError, match="no metric 'vmaf'"):
        evaluate_codec(codec, photos, lmbda=0.01, metric="vmaf")


# Baselines


@pytest.mark.parametrize("name", FORMATS)
def test_a_sweep_rises(name: str, photos: list[Photo]) -> None:
    if name not in evaluate.formats():
        pytest.skip(f"this Pillow has no {name}")
    curve = sweep(name, photos, (10, 50, 90))
    rates, qualities = [p.bpp for p in curve.points], [p.psnr for p in curve.points]
    assert rates == sorted(rates)
    assert qualities == sorted(qualities)
    assert 15 < qualities[0] < qualities[-1] < 60


@pytest.mark.parametrize("target", [1, 3000, 6000, 10**9])
def test_the_nearest_size_is_the_nearest(target: int, photos: list[Photo]) -> None:
    found = nearest_size("jpeg", photos[0], target)
    sizes = [len(evaluate._encode("jpeg", photos[0], quality)) for quality in range(1, 101)]
    assert abs(found.bytes - target) == min(abs(size - target) for size in sizes)
    assert found.bpp == 8 * found.bytes / photos[0].size


def test_formats_that_cannot_be_written(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="did you mean jpeg"):
        sweep("jpg", photos)
    monkeypatch.setattr(evaluate.features, "check", lambda library: library == "jpg")
    with pytest.raises(InputError, match=r"without avif here: compare with what it has \(jpeg\)"):
        nearest_size("avif", photos[0], 1000)


def test_a_photo_that_a_format_cannot_hold() -> None:
    wide = Photo("wide", np.zeros((1, 20000, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="wide cannot be written as webp"):
        sweep("webp", [wide], [50])


# Comparing


def test_bd_rate_has_the_right_sign_and_size() -> None:
    anchor = Curve.of("anchor", [point(0.1 * 2**k, 30 + 2 * k) for k in range(6)])
    cheaper = Curve.of("cheaper", [point(0.08 * 2**k, 30 + 2 * k) for k in reversed(range(6))])
    assert bd_rate(cheaper, anchor) == pytest.approx(-20, abs=0.1)
    assert bd_rate(anchor, cheaper) == pytest.approx(25, abs=0.1)
    assert bd_rate(anchor, anchor) == pytest.approx(0, abs=1e-9)


def test_bd_rate_where_there_is_none() -> None:
    anchor = Curve.of("anchor", [point(0.1 * 2**k, 30 + 2 * k) for k in range(6)])
    short = Curve.of("short", anchor.points[:3])
    falling = Curve.of("falling", [point(0.1 * 2**k, 40 - k) for k in range(6)])
    apart = Curve.of(
        "apart", [replace(p, psnr=p.psnr + 50) for p in anchor.points if isinstance(p, BaselineResult)]
    )
    assert bd_rate(short, anchor) is None
    assert bd_rate(anchor, short) is None
    assert bd_rate(falling, anchor) is None
    assert bd_rate(apart, anchor) is None


def test_compressai_format() -> None:
    content = to_compressai("mine", "words", [point(0.5, 33), point(0.2, 30)])
    assert (content["name"], content["description"]) == ("mine", "words")
    results = content["results"]
    assert set(results) == {"psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time"}
    assert results["bpp"] == [0.2, 0.5]
    assert results["psnr-rgb"] == [30, 33]
    assert results["ms-ssim-rgb"] == [None, None]


def test_folders_together(folders: list[Path], photo_folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = evaluate_folders(
        folders,
        photo_folder,
        ["jpeg"],
        lambda done, total, _: steps.append((done, total)),
        qualities=(10, 50, 90),
    )
    assert report.photos == 5
    assert [codec.name for codec in report.codecs] == [folder.name for folder in folders]
    assert all(len(row) == len(report.columns) for row in report.rows())
    assert {entry.codec for entry in report.same_size} == {folder.name for folder in folders}
    assert set(report.bd_rates) == {"jpeg"}
    assert steps == sorted(steps)
    assert steps[-1] == (steps[0][1], steps[0][1])
    json.dumps(report.to_json(), allow_nan=False)
    written = report.write(tmp_path / "results.json")
    assert written == [tmp_path / "results.json", tmp_path / "results-jpeg.json"]
    ours, jpeg = (json.loads(path.read_text())["results"] for path in written)
    assert ours["bpp"] == sorted(codec.bpp for codec in report.codecs)
    assert len(jpeg["bpp"]) == 3
    with pytest.raises(InputError, match="already exists"):
        report.write(tmp_path / "results.json")
    report.write(tmp_path / "results.json", force=True)


def test_nothing_is_measured_before_all_is_checked(
    folders: list[Path], photo_folder: Path, tmp_path: Path
) -> None:
    for codecs, data, against, words in (
        ([], photo_folder, [], "no codec"),
        ([folders[0], folders[0]], photo_folder, [], "given twice"),
        ([tmp_path], photo_folder, [], "not a codec"),
        (folders[:1], tmp_path, [], "no images"),
        (folders[:1], photo_folder, ["gif"], "no format 'gif'"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate_folders(codecs, data, against, lambda *_: pytest.fail("something was measured"))
