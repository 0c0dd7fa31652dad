"""A grey photo decodes grey: its file says so, and every decoder levels out the colours alike."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import image
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from modules import module_at
from PIL import Image
from test_effort import codec_of, objective_of
from test_family import make_family
from test_saturated import packaged_codec, product

import nas
from nas.codec.bitstream import compress_image, decompress_image, latents_of, lmbda_of, step_of
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.folder import save_family
from nas.codec.nic import FIXED, GREY, PLAIN, RATED, Nic
from nas.codec.recode import compress_smallest, transcode
from nas.codec.refining.effort import loss_of_file
from nas.codec.refining.tiles import TileLoss, refine_by_tiles
from nas.codec.tiles import TILING, Tiling
from nas.comparison.evaluate import evaluate_codec
from nas.comparison.evaluate_family import _at_rate
from nas.metrics.objective import Objective
from nas.metrics.quality import mse
from nas.photos.grey import is_grey, to_grey
from nas.photos.images import Photo, psnr, read_image, write_image
from nas.report.info.info import Info
from nas.support.errors import InputError
from nas.support.progress import silent

SIZES = ((1, 1), (37, 90), (64, 64), (65, 1))
PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def tinted(nic: Nic, codec: Codec) -> np.ndarray:
    """What a grey picture's file decodes to where nothing levels out its colours."""
    return decompress_image(codec, replace(nic, grey=False))


def mode_of(path: Path) -> str:
    """Pillow's word for the colours of an image file: L if it is grey."""
    with Image.open(path) as picture:
        return picture.mode


@pytest.fixture(scope="module")
def family() -> CodecFamily:
    """Several decoders and layouts."""
    return make_family("joint-ar-integer")


@pytest.fixture(scope="module")
def trained() -> Codec:
    return packaged_codec()


@pytest.fixture(scope="module")
def place(family: CodecFamily, chelsea: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a codec, its ONNX models, and a grey and a coloured photo with their files."""
    from nas.onnx.write import write_onnx

    pytest.importorskip("onnx")
    place = tmp_path_factory.mktemp("grey")
    save_family(family, place / "plain", {"lmbda": 0.01, "metric": "mse"})
    save_family(family, place / "codec", {"lmbda": 0.01, "metric": "mse"})
    write_onnx(family, place / "codec" / "onnx")
    (place / "photos").mkdir()
    for name, pixels in (("grey", to_grey(chelsea)), ("colour", chelsea)):
        write_image(place / "photos" / f"{name}.png", pixels[:70, :101])
        nas.compress(place / "codec", place / "photos" / f"{name}.png", place / f"{name}.nic")
    return place


# Pixels


@given(PICTURES, st.booleans())
def test_a_picture_is_grey_where_every_pixel_is(pixels: np.ndarray, grey: bool) -> None:
    pixels = np.repeat(pixels[..., :1], 3, -1) if grey else pixels
    assert is_grey(pixels) == all(len(set(pixel)) == 1 for pixel in pixels.reshape(-1, 3).tolist())
    for colour in range(3):  # one value of one pixel is enough
        other = pixels.copy()
        other[-1, -1, colour] ^= 1
        assert not (is_grey(pixels) and is_grey(other))


@given(PICTURES, st.integers(0, 255))
def test_levelling_out_takes_the_nearest_grey(decoded: np.ndarray, level: int) -> None:
    grey = to_grey(decoded)
    assert grey.shape == decoded.shape
    assert grey.dtype == np.uint8
    assert is_grey(grey)
    assert np.array_equal(to_grey(grey), grey)
    sums = decoded.astype(int).sum(-1)
    assert (np.abs(3 * grey[..., 0].astype(int) - sums) <= 1).all()  # within a third of the mean
    own = ((decoded.astype(int) - grey) ** 2).sum(-1)
    assert (own <= ((decoded.astype(int) - level) ** 2).sum(-1)).all()  # no grey level is nearer


@given(st.data())
def test_the_error_to_a_grey_original_does_not_grow_but_by_rounding(data: st.DataObject) -> None:
    """The mean itself never adds error, and rounding it moves no value by more than a third of a level."""
    decoded = data.draw(PICTURES).astype(int)
    original = data.draw(arrays(np.uint8, decoded.shape[:2])).astype(int)[..., None]
    mean = decoded.mean(-1, keepdims=True).repeat(3, -1)
    before = ((decoded - original) ** 2).sum(-1)
    assert (((mean - original) ** 2).sum(-1) <= before + 1e-6).all()
    after = ((to_grey(decoded.astype(np.uint8)).astype(int) - original) ** 2).sum(-1)
    assert (np.sqrt(after) <= np.sqrt(before) + np.sqrt(3) / 3 + 1e-6).all()
    exact = decoded.sum(-1) % 3 == 0
    assert (after <= before)[exact].all()


# The file


@given(st.booleans(), st.none() | st.integers(0, 1000), st.integers(1, 65535), st.integers(1, 65535))
def test_a_header_says_whether_its_picture_is_grey(
    grey: bool, step: int | None, wide: int, high: int
) -> None:
    nic = Nic("0123abcd", "89efcdab", wide, high, b"\1" * 9, 0, step, grey)
    data = nic.to_bytes()
    assert replace(Nic.parse(data), header_bytes=0) == nic
    assert data[3] == (PLAIN if step is None else RATED) + (GREY if grey else 0)
    other = replace(nic, grey=not grey).to_bytes()
    assert [at for at in range(len(data)) if data[at] != other[at] and not 12 <= at < FIXED] == [3]


def test_unknown_versions_are_refused(place: Path) -> None:
    decoder = module_at(place / "codec" / "onnx" / "decoder.py")
    data = (place / "grey.nic").read_bytes()
    known = {PLAIN, RATED, PLAIN | GREY, RATED | GREY}
    for version in {*range(256)} - known:
        head, tail = data[:3] + bytes([version]) + data[4:12], data[FIXED:]
        other = head + zlib.crc32(head + tail).to_bytes(4, "little") + tail
        with pytest.raises(InputError, match=r"has \.nic version \d+, but this toolkit reads .* up to 2"):
            Nic.parse(other)
        with pytest.raises(decoder.InputError, match=r"has \.nic version \d+, but .* reads .* up to 2"):
            decoder.parse(other)


@pytest.mark.parametrize(
    "name", ["factorized-integer", "joint-ar-integer", "cheng-integer", "patch-integer-rates"]
)
def test_grey_pictures_of_any_size_decode_grey(name: str, chelsea: np.ndarray) -> None:
    codec = codec_of(name)
    for height, width in SIZES:
        colour = np.ascontiguousarray(chelsea[:height, :width])
        pixels = to_grey(colour)
        nic = Nic.parse(compress_image(codec, pixels).to_bytes())
        decoded = decompress_image(codec, nic)
        assert nic.grey
        assert decoded.shape == pixels.shape
        assert is_grey(decoded)
        assert np.array_equal(decoded, to_grey(tinted(nic, codec)))
        assert height * width == 1 or not is_grey(tinted(nic, codec))  # what there was to mend
        nic = compress_image(codec, colour)
        assert not nic.grey
        assert np.array_equal(decompress_image(codec, nic), tinted(nic, codec))


def test_a_trained_codec_gains(trained: Codec, chelsea: np.ndarray) -> None:
    pixels = to_grey(chelsea)
    for quality in (0, 50, 100):
        nic = compress_image(trained, pixels, quality=quality)
        assert psnr(pixels, decompress_image(trained, nic)) > psnr(pixels, tinted(nic, trained))


def test_tiles_and_bfloat16_level_out_the_colours_too(trained: Codec, chelsea: np.ndarray) -> None:
    pixels = to_grey(chelsea)
    nic = compress_image(trained, pixels)
    whole = decompress_image(trained, nic).astype(int)
    for options in ({"tiling": Tiling(limit=0, side=64)}, {"precision": "bf16"}):
        decoded = decompress_image(trained, nic, **options)  # type: ignore[arg-type]
        assert is_grey(decoded)
        assert np.abs(decoded - whole).max() <= 2


# Every way to write a file


@pytest.mark.parametrize(
    "options",
    [{"quality": 30}, {"most_bytes": 900}, {"quality": 30, "effort": 1}, {"most_bytes": 900, "effort": 2}],
    ids=str,
)
def test_every_choice_among_files_is_of_grey_ones(
    trained: Codec, chelsea: np.ndarray, options: dict[str, Any]
) -> None:
    family = CodecFamily(trained, objective=objective_of(trained))
    colour = product(chelsea)  # with a white background, which is coded beyond the range of pixels
    for pixels in (colour, to_grey(colour)):
        nic = compress_smallest(family, pixels, list(family.layouts), **options)
        assert nic.grey == is_grey(pixels)
        assert is_grey(decompress_image(trained, nic)) == nic.grey


def test_transcoding_and_every_decoder_of_a_family_keep_a_picture_grey(
    family: CodecFamily, chelsea: np.ndarray
) -> None:
    for pixels in (chelsea[:50, :70], to_grey(chelsea[:50, :70])):
        nic = compress_image(family.base, pixels)
        for layout in family.layouts:
            other = transcode(family, nic, [layout])
            assert other.to_bytes() == compress_image(family.codec(layout), pixels).to_bytes()
            assert other.grey == is_grey(pixels)
            for number in range(len(family.decoders)):
                assert is_grey(decompress_image(family.codec(layout, number), other)) == other.grey


# What is measured


@pytest.mark.parametrize("effort", [0, 1])
def test_figures_are_of_the_picture_that_decodes(trained: Codec, chelsea: np.ndarray, effort: int) -> None:
    photo, objective = Photo("a", to_grey(product(chelsea))), objective_of(trained)
    step = step_of(trained, 50)
    at = Objective(lmbda_of(trained, step) or 0, objective.metric)
    family = CodecFamily(trained, objective=objective)
    nic = compress_smallest(family, photo.pixels, list(family.layouts), quality=50, effort=effort)
    decoded = decompress_image(trained, nic)
    written = 8 * len(nic.to_bytes()) / photo.size, psnr(photo.pixels, decoded)
    evaluated = evaluate_codec(trained, [photo], at, quality=50, effort=effort)
    assert (evaluated.bpp, evaluated.psnr) == pytest.approx(written)
    if not effort:
        measured = _at_rate(CodecFamily(trained), [photo], at, step, silent).decoders[0]
        assert (measured["bpp"], measured["psnr"]) == pytest.approx(written)
    assert psnr(photo.pixels, tinted(nic, trained)) != pytest.approx(written[1])


def test_the_loss_of_a_file_is_of_the_picture_that_decodes(trained: Codec, chelsea: np.ndarray) -> None:
    pixels, nic = to_grey(chelsea), compress_image(trained, to_grey(chelsea), quality=50)
    objective = Objective(lmbda_of(trained, nic.step) or 0)
    latents = latents_of(trained, pixels, lmbda=objective.lmbda)
    found = loss_of_file(trained, latents, pixels, objective, TILING, nic.stream)
    bpp, error = 8 * len(nic.stream) / pixels[..., 0].size, mse(pixels, decompress_image(trained, nic))
    assert found == pytest.approx(objective.loss(bpp, error))


def test_refinement_takes_a_tint_of_a_grey_picture_for_no_error() -> None:
    codec, rate = codec_of("mean-scale-hyperprior-integer"), torch.zeros(1)
    grey = image(0, batch=1).mean(1, keepdim=True).expand(1, 3, 64, 64)
    tint = torch.tensor([0.1, -0.25, 0.15])[:, None, None]
    plain, aware = (TileLoss(codec, grey, Objective(0.01), grey=known) for known in (False, True))
    assert float(plain.of(rate, grey + tint)) > 1
    assert float(aware.of(rate, grey + tint)) == pytest.approx(0, abs=1e-6)
    assert float(aware.of(rate, grey + 0.1)) == pytest.approx(float(plain.of(rate, grey + 0.1)))


def test_the_whole_picture_decides_how_its_tiles_are_refined(chelsea: np.ndarray) -> None:
    codec, objective = codec_of("mean-scale-hyperprior-integer"), Objective(0.01)
    pixels = to_grey(np.ascontiguousarray(chelsea[:64, :192]))
    coloured = pixels.copy()
    coloured[:, -1] = chelsea[:64, 191]  # its first tile has no colour
    tint = torch.tensor([0.1, -0.25, 0.15])[:, None, None]
    for picture, expected in ((pixels, 0.0), (coloured, 0.01 * 255**2 * float(tint.square().mean()))):
        errors = []

        def refine(loss: TileLoss, _: object, y: Any, z: Any, __: object, into: list[float] = errors) -> Any:
            into.append(float(loss.of(torch.zeros(1), loss.x + tint)))
            return y, z

        tiling = Tiling(limit=0, side=64)
        refine_by_tiles(codec, picture, latents_of(codec, picture), objective, refine, 1, tiling=tiling)
        assert len(errors) == 3
        assert errors == pytest.approx([expected] * 3, abs=1e-4)


# Commands, and the decoders without torch


def test_a_folder_of_files_comes_back_in_its_colours(place: Path, tmp_path: Path) -> None:
    batch = nas.compress(place / "codec", place / "photos", tmp_path / "packed", psnr=True)
    for each in batch.done:
        photo = place / "photos" / f"{each.file.stem}.png"
        assert Nic.read(each.file).grey == (each.file.stem == "grey")
        assert each.file.read_bytes() == (place / f"{each.file.stem}.nic").read_bytes()
        nas.decompress(place / "plain", each.file, tmp_path / "out.png", force=True)
        assert each.psnr == pytest.approx(psnr(read_image(photo), read_image(tmp_path / "out.png")))
    nas.decompress(place / "plain", tmp_path / "packed", tmp_path / "pictures")
    modes = {path.stem: mode_of(path) for path in (tmp_path / "pictures").iterdir()}
    assert modes == {"grey": "L", "colour": "RGB"}
    nas.transcode(place / "codec", place / "grey.nic", tmp_path / "again.nic", layout="raster")
    assert Nic.read(tmp_path / "again.nic").grey


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp", "ppm", "avif"])
@pytest.mark.parametrize("codec", ["plain", "codec"])
def test_grey_image_files_where_the_format_has_them(
    place: Path, tmp_path: Path, suffix: str, codec: str
) -> None:
    nas.decompress(place / codec, place / "grey.nic", tmp_path / f"a.{suffix}")
    nas.decompress(place / codec, place / "colour.nic", tmp_path / f"b.{suffix}")
    modes = [mode_of(tmp_path / f"{name}.{suffix}") for name in "ab"]
    assert modes == ["RGB" if suffix in ("webp", "ppm") else "L", "RGB"]
    assert read_image(tmp_path / f"a.{suffix}").shape == (70, 101, 3)
    if suffix in ("png", "tif", "bmp", "ppm"):
        nas.decompress(place / codec, place / "grey.nic", tmp_path / "c.png")
        assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), read_image(tmp_path / "c.png"))
        assert is_grey(read_image(tmp_path / f"a.{suffix}"))


def test_decoders_without_torch_level_out_the_same_colours(place: Path, family: CodecFamily) -> None:
    from nas.onnx.quick import decode_quickly

    decoder = module_at(place / "codec" / "onnx" / "decoder.py")
    for name in ("grey", "colour"):
        nic = Nic.read(place / f"{name}.nic")
        ours = decompress_image(family.codec(family.layout_of(nic.path_identity)), nic).astype(int)
        theirs, plain = (decoder.decode(each.to_bytes()) for each in (nic, replace(nic, grey=False)))
        assert np.array_equal(theirs, to_grey(plain) if nic.grey else plain)
        assert np.abs(theirs - ours).max() <= 1
        quick = decode_quickly(place / "codec", nic)
        assert quick is not None
        assert np.array_equal(quick.pixels, theirs)
        assert is_grey(quick.pixels) == nic.grey


def test_information_on_a_file_says_grey(place: Path) -> None:
    for name in ("grey", "colour"):
        info: Info = nas.info(str(place / f"{name}.nic"))
        assert info.fields["grey"] is (name == "grey")
        assert info.fields["version"] == PLAIN
