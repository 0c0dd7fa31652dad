"""Photos in and out: any image file becomes RGB in 8 bits, or one plain sentence."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from nas.errors import InputError
from nas.images import (
    Photo,
    bundled,
    fingerprint,
    list_images,
    pad,
    psnr,
    read_image,
    to_pixels,
    to_tensor,
    write_image,
)

pictures = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".tiff", ".PNG"])
def test_lossless_formats_give_the_pixels_back(tmp_path, chelsea, suffix):
    path = tmp_path / f"photo{suffix}"
    write_image(path, chelsea)
    assert (read_image(path) == chelsea).all()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_lossy_formats_give_about_the_pixels_back(tmp_path, chelsea, suffix):
    path = tmp_path / f"photo{suffix}"
    write_image(path, chelsea)
    assert psnr(read_image(path), chelsea) > 25


@pytest.mark.parametrize("name", ["photo", "photo.xyz", "photo.psd"])
def test_a_name_that_is_no_format(tmp_path, chelsea, name):
    with pytest.raises(InputError, match="which image format"):
        write_image(tmp_path / name, chelsea)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, chelsea, mode):
    grey = Image.fromarray(chelsea).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = Image.fromarray(chelsea).convert(mode)
    path = tmp_path / ("photo.tif" if mode in ("CMYK", "YCbCr", "HSV") else "photo.png")
    if mode == "HSV":
        image = image.convert("RGB")
    image.save(path)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == chelsea.shape
    if mode in ("RGB", "RGBA"):
        assert (pixels == chelsea).all()
    elif mode in ("L", "LA", "I;16"):
        assert (pixels == np.asarray(grey)[..., None]).all()
    else:
        assert psnr(pixels, chelsea) > (5 if mode == "1" else 15)


def test_more_than_8_bits_are_rounded(tmp_path):
    levels = np.array([[0, 128, 129, 257, 385, 386, 65535, 65406]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    expected = np.rint(levels / 257).astype(np.uint8)
    assert (read_image(tmp_path / "deep.png") == expected[..., None]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_flattened_onto_white(tmp_path, mode):
    path = tmp_path / "clear.png"
    if mode == "P":
        image = Image.new("P", (4, 3), 1)
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.save(path, transparency=1)
    else:
        Image.new(mode, (4, 3), (0,) * len(mode)).save(path)
    assert (read_image(path) == 255).all()


def test_half_transparency_is_mixed(tmp_path):
    Image.new("RGBA", (2, 2), (0, 100, 255, 128)).save(tmp_path / "half.png")
    found = read_image(tmp_path / "half.png")[0, 0].astype(int)
    assert np.abs(found - [127, 177, 255]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_in_exif_is_applied(tmp_path, chelsea, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(chelsea).save(path, exif=exif)
    expected = [
        *(chelsea, chelsea[:, ::-1], chelsea[::-1, ::-1], chelsea[::-1]),
        *(
            chelsea.swapaxes(0, 1),
            np.rot90(chelsea, -1),
            chelsea[::-1, ::-1].swapaxes(0, 1),
            np.rot90(chelsea),
        ),
    ][orientation - 1]
    assert (read_image(path) == expected).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm", ".avif"])
def test_truncated_files_are_refused(tmp_path, chelsea, suffix):
    whole, part = tmp_path / f"whole{suffix}", tmp_path / f"part{suffix}"
    write_image(whole, chelsea)
    data = whole.read_bytes()
    for share in (0, 0.01, 0.1, 0.5, 0.9):
        part.write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError, match="part"):
            read_image(part)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    for name, message in (("text.png", "not an image"), ("folder.png", "folder"), ("absent.png", "no image")):
        with pytest.raises(InputError, match=message) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)


def test_folders_are_searched_recursively(photo_folder, tmp_path):
    found = list_images(photo_folder)
    assert len(found) == 5
    assert found == sorted(found)
    with pytest.raises(InputError, match="no images in"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        list_images(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="no images in"):
        list_images(tmp_path)


# Tensors


@given(pictures)
def test_pixels_survive_as_a_tensor(pixels):
    x = to_tensor(pixels)
    assert x.shape == (1, 3, *pixels.shape[:2])
    assert x.dtype == torch.float32
    assert 0 <= x.min() <= x.max() <= 1
    assert (to_pixels(x) == pixels).all()
    assert (to_pixels(x * 3 - 1) <= 255).all()


@given(pictures, st.sampled_from([1, 4, 16, 64]))
def test_padding_mirrors_beyond_the_edge(pixels, multiple):
    height, width = pixels.shape[:2]
    x = to_tensor(pixels)
    padded = pad(x, multiple)
    tall, wide = padded.shape[-2:]
    assert tall % multiple == wide % multiple == 0
    assert tall < height + multiple
    assert wide < width + multiple
    assert torch.equal(padded[..., :height, :width], x)
    expected = np.pad(pixels, ((0, tall - height), (0, wide - width), (0, 0)), mode="reflect")
    assert (to_pixels(padded) == expected).all()


@given(pictures)
def test_padding_what_fits_changes_nothing(pixels):
    x = to_tensor(pixels)
    assert pad(x, 1) is x
    once = pad(x, 8)
    assert pad(once, 8) is once


# Scores


@given(pictures, st.integers(0, 2**32 - 1))
def test_psnr_is_symmetric_and_falls_with_the_error(pixels, seed):
    other = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
    assert psnr(pixels, pixels) == math.inf
    assert psnr(pixels, other) == psnr(other, pixels)
    halfway = ((pixels.astype(int) + other) // 2).astype(np.uint8)
    assert psnr(pixels, halfway) >= psnr(pixels, other)


def test_psnr_of_known_errors():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)


@given(pictures, pictures)
def test_a_fingerprint_is_of_the_contents(one, other):
    same = one.shape == other.shape and (one == other).all()
    assert (fingerprint([Photo("a", one)]) == fingerprint([Photo("b", other)])) == same
    assert fingerprint([Photo("a", one)]) != fingerprint([Photo("a", one)] * 2)


def test_bundled_photos_are_in_one_part_each():
    parts = bundled()
    assert set(parts) == {"train", "calibration", "test"}
    names = [photo.name for part in parts.values() for photo in part]
    assert len(set(names)) == len(names) >= 3
    assert all(photo.pixels.ndim == 3 and photo.size > 10_000 for part in parts.values() for photo in part)


def test_dark_16_bit_pictures_stay_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "dark.png")
    assert (read_image(tmp_path / "dark.png") == 1).all()


def test_damaged_avif_files_are_refused(tmp_path, chelsea):
    write_image(tmp_path / "a.avif", chelsea)
    data = bytearray((tmp_path / "a.avif").read_bytes())
    for place in range(4, len(data), 3):
        bad = bytearray(data)
        bad[place] ^= 0xFF
        (tmp_path / "a.avif").write_bytes(bad)
        with contextlib.suppress(InputError):
            read_image(tmp_path / "a.avif")
