"""Photos in and out: any image file becomes RGB in 8 bits, or one plain sentence."""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, PngImagePlugin

from nas.codec.nic import Nic
from nas.photos.images import (
    Photo,
    bundled,
    fingerprint,
    image_of,
    list_images,
    psnr,
    read_content,
    read_image,
    write_image,
)
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.support.errors import InputError, InputWarning

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


def test_pixels_that_are_no_numbers_are_counted_and_black(tmp_path):
    levels = np.full((4, 6), 0.5, np.float32)
    levels[1, 2:4] = np.nan
    Image.fromarray(levels).save(tmp_path / "undefined.tif")
    with pytest.warns(InputWarning, match="undefined.tif has 2 pixels that are not numbers"):
        pixels = read_image(tmp_path / "undefined.tif")
    assert (pixels[1, 2:4] == 0).all()
    assert (np.delete(pixels.reshape(24, 3), [8, 9], 0) == 128).all()


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
    with pytest.raises(InputError, match=r"no images in.* 1 no image \(notes.txt\)"):
        list_images(tmp_path)


def test_folders_take_what_compress_takes(tmp_path, chelsea):
    kinds = {
        "png": "PNG",
        "gif": "GIF",
        "jp2": "JPEG2000",
        "jpe": "JPEG",
        "pgm": "PPM",
        "tga": "TGA",
        "": "WEBP",
    }
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    for suffix, kind in kinds.items():
        written = io.BytesIO()
        Image.fromarray(chelsea).save(written, kind)
        (tmp_path / os.fsdecode(b"caf\xe9") / f"a.{suffix}".rstrip(".")).write_bytes(written.getvalue())
    found = list_images(tmp_path)
    assert len(found) == len(kinds)
    assert all(read_image(path).shape == chelsea.shape for path in found)


def test_folders_leave_out_copies_and_loops_and_count_them(tmp_path, chelsea):
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for folder in (photos / ".cache", photos / "__MACOSX", photos / "more", elsewhere):
        folder.mkdir(parents=True)
        write_image(folder / "photo.png", chelsea)
    write_image(photos / "._photo.png", chelsea)
    os.mkfifo(photos / "pipe.png")
    links = {
        "a-loop": photos,
        "above": tmp_path,
        "again": photos / "more",
        "linked": elsewhere,
        "z": "nowhere",
    }
    for name, target in links.items():
        (photos / name).symlink_to(target)
    (photos / "b.png").symlink_to(photos / "more" / "photo.png")
    with pytest.warns(InputWarning) as said:
        found = list_images(photos)
    assert found == [photos / "linked" / "photo.png", photos / "more" / "photo.png"]
    (message,) = (str(one.message) for one in said)
    assert "3 hidden" in message
    assert "4 listed under another name" in message
    assert "2 no file" in message


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


def png(width: int, height: int, depth: int, kind: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG file byte by byte: Pillow writes no 16-bit colour. `rows` each begin with a filter of 0."""

    def chunk(name: str, content: bytes) -> bytes:
        checked = name.encode() + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    more = b"".join(chunk(name, content) for name, content in chunks.items())
    parts = chunk("IHDR", header) + more + chunk("IDAT", zlib.compress(rows)) + chunk("IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


GREY, COLOUR, INDEXED, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


def read_bytes(tmp_path, data: bytes, suffix: str = ".png") -> np.ndarray:
    path = tmp_path / f"made{suffix}"
    path.write_bytes(data)
    return read_image(path)


def of_16_bits(*levels: int) -> bytes:
    return np.array(levels, ">u2").tobytes()


def test_16_bit_colour_has_its_upper_8_bits(tmp_path):
    data = png(2, 1, 16, COLOUR, b"\0" + of_16_bits(0, 255, 256, 0x80FF, 0xFF00, 0xFFFF))
    assert read_bytes(tmp_path, data).tolist() == [[[0, 0, 1], [128, 255, 255]]]


def test_16_bit_transparency_is_flattened_onto_white(tmp_path):
    clear, full = 0, 0xFFFF
    data = png(2, 1, 16, COLOUR_ALPHA, b"\0" + of_16_bits(0x80FF, 0, 0, full, 5, 5, 5, clear))
    assert read_bytes(tmp_path, data).tolist() == [[[128, 0, 0], [255] * 3]]
    data = png(2, 1, 16, GREY_ALPHA, b"\0" + of_16_bits(0x80FF, full, 5, clear))
    assert read_bytes(tmp_path, data).tolist() == [[[128] * 3, [255] * 3]]
    data = png(3, 1, 16, GREY, b"\0" + of_16_bits(257, 0x80FF, 514), tRNS=of_16_bits(0x80FF))
    assert read_bytes(tmp_path, data).tolist() == [[[1] * 3, [255] * 3, [2] * 3]]


def test_a_transparent_colour_is_flattened_onto_white(tmp_path):
    data = png(2, 1, 8, COLOUR, b"\0\1\2\3\7\7\7", tRNS=of_16_bits(1, 2, 3))
    assert read_bytes(tmp_path, data).tolist() == [[[255] * 3, [7] * 3]]
    data = png(2, 1, 8, GREY, b"\0\7\11", tRNS=of_16_bits(7))
    assert read_bytes(tmp_path, data).tolist() == [[[255] * 3, [9] * 3]]
    colours, alphas = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]), bytes([0, 128])
    data = png(3, 1, 8, INDEXED, b"\0\0\1\2", PLTE=colours, tRNS=alphas)
    assert read_bytes(tmp_path, data).tolist() == [[[255] * 3, [127, 255, 127], [0, 0, 255]]]


@pytest.mark.parametrize(("depth", "levels"), [(1, [0, 255]), (2, [0, 85, 170, 255]), (4, [0, 17, 34, 51])])
def test_grey_of_few_bits_covers_the_whole_range(tmp_path, depth, levels):
    packed = sum(level << (8 * 2 - depth * (place + 1)) for place, level in enumerate(range(len(levels))))
    rows = b"\0" + packed.to_bytes(2, "big")[: -(-len(levels) * depth // 8)]
    found = read_bytes(tmp_path, png(len(levels), 1, depth, GREY, rows))
    assert found[0, :, 0].tolist() == levels
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize(
    ("mode", "order", "white_is_zero"), [("I;16", "<", False), ("I;16", "<", True), ("I;16B", ">", False)]
)
def test_16_bit_grey_tiff(tmp_path, mode, order, white_is_zero):
    levels = np.array([[0, 128, 129, 257, 0x80FF, 65535]], f"{order}u2")
    written = io.BytesIO()
    Image.frombytes(mode, (6, 1), levels.tobytes()).save(written, "TIFF")
    meaning = struct.pack(f"{order}HHIH", 262, 3, 1, 1)  # the tag that says that black is zero
    assert written.getvalue().count(meaning) == 1
    data = written.getvalue()
    if white_is_zero:
        data = data.replace(meaning, struct.pack(f"{order}HHIH", 262, 3, 1, 0))
    bright = 65535 - levels.astype(float) if white_is_zero else levels.astype(float)
    assert (read_bytes(tmp_path, data, ".tif") == np.rint(bright / 257)[..., None]).all()


def test_cmyk_is_ink(tmp_path):
    for suffix in (".jpg", ".tif"):
        Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(tmp_path / f"ink{suffix}")
        assert np.abs(read_image(tmp_path / f"ink{suffix}").astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
@pytest.mark.parametrize("clear", [False, True])
def test_of_several_frames_the_first_is_read(tmp_path, suffix, clear):
    colours = [(255, 0, 0, 0 if clear else 255), (0, 0, 255, 255)]
    first, *others = (Image.new("RGBA", (8, 6), colour) for colour in colours)
    first.save(tmp_path / f"frames{suffix}", save_all=True, append_images=others)
    expected = [255, 255, 255] if clear else [255, 0, 0]
    with pytest.warns(InputWarning, match=r"frames.*holds 2 pictures: the first is taken"):
        found = read_image(tmp_path / f"frames{suffix}")
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_profile_changes_nothing(tmp_path, chelsea):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(chelsea).save(tmp_path / "photo.png", icc_profile=profile)
    assert (read_image(tmp_path / "photo.png") == chelsea).all()


@pytest.mark.parametrize("orientation", [3, 6])
def test_rotation_in_the_exif_of_a_jpeg_is_applied_once(tmp_path, chelsea, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(chelsea).save(tmp_path / "plain.jpg", quality=95)
    Image.fromarray(chelsea).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    plain = read_image(tmp_path / "plain.jpg")
    turned = plain[::-1, ::-1] if orientation == 3 else np.rot90(plain, -1)
    assert (read_image(tmp_path / "turned.jpg") == turned).all()


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
def test_pictures_of_no_size_are_refused(tmp_path, width, height):
    with pytest.raises(InputError, match=r"made\.png"):
        read_bytes(tmp_path, png(width, height, 8, GREY, b""))


@pytest.mark.parametrize(("width", "height"), [(2**14, 2**13 + 1), (2**31 - 1, 2**31 - 1)])
def test_forged_sizes_are_refused_before_anything_is_read(tmp_path, width, height):
    with pytest.raises(InputError, match=r"made\.png.*pixels") as caught:
        read_bytes(tmp_path, png(width, height, 8, GREY, b""))
    assert str(caught.value).count("made.png") == 1


def claiming(tmp_path, compression: str | None, width: int, height: int, rows: int) -> bytes:
    """A TIFF of 96x96 pixels whose directory says otherwise."""
    photo = Image.fromarray(np.arange(96 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(96, 96, 3))
    photo.save(tmp_path / "honest.tif", compression=compression)
    data = bytearray((tmp_path / "honest.tif").read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    for offset in range(start + 2, start + 2 + 12 * data[start], 12):
        (tag,) = struct.unpack_from("<H", data, offset)
        if value := {256: width, 257: height, 278: rows}.get(tag):
            struct.pack_into("<HHII", data, offset, tag, 4, 1, value)
    return bytes(data)


@pytest.mark.parametrize(
    "compression", [None, "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "lzma", "zstd"]
)
def test_a_tiff_that_cannot_hold_its_pixels_takes_no_memory(tmp_path, compression, monkeypatch):
    data = claiming(tmp_path, compression, 11585, 11585, 11585)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("pixels were decoded"))
    with pytest.raises(InputError, match=r"made\.tif .*claims 11585x11585 pixels, which \d+ bytes cannot"):
        read_bytes(tmp_path, data, ".tif")


def test_other_files_that_cannot_hold_their_pixels_take_no_memory(tmp_path, chelsea, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("pixels were decoded"))
    write_image(tmp_path / "honest.jpg", chelsea[:64, :64])
    jpeg = bytearray((tmp_path / "honest.jpg").read_bytes())
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 11585, 11585)
    for suffix, data in (
        (".jpg", bytes(jpeg)),
        (".png", png(11585, 11585, 8, GREY, bytes(9))),
        (".ppm", b"P6 11585 11585 255 " + bytes(99)),
    ):
        with pytest.raises(InputError, match="claims 11585x11585 pixels"):
            read_bytes(tmp_path, data, suffix)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_without_all_of_its_strips_is_not_black_but_refused(tmp_path, compression):
    data = claiming(tmp_path, compression, 96, 960, 96)
    with pytest.raises(InputError, match=r"lists 1 of 10 strips"):
        read_bytes(tmp_path, data, ".tif")


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_deflate", "jpeg", "lzma", "zstd"])
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_tiff_with_a_part_that_ends_too_early_is_not_black_but_refused(
    tmp_path, chelsea, compression, share
):
    photo = Image.fromarray(chelsea[:64, :96])
    photo.save(tmp_path / "whole.tif", compression=compression)
    with Image.open(tmp_path / "whole.tif") as image:
        (begin,), (length,) = (image.tag_v2[tag] for tag in (273, 279))
    data = (tmp_path / "whole.tif").read_bytes()
    assert read_bytes(tmp_path, data, ".tif").shape == (64, 96, 3)
    kept = int(length * share)  # what a download that was broken off leaves, where room was made for all
    cut = data[: begin + kept] + bytes(length - kept) + data[begin + length :]
    by_libtiff = compression == "zstd"  # it says so itself
    reason = "its strip 1 of 1 is cut short or damaged" if not by_libtiff else "decoder error -2"
    with pytest.raises(InputError, match=rf"made\.tif.*\({reason}.*\): get it"):
        read_bytes(tmp_path, cut, ".tif")


@pytest.mark.parametrize("lacking", [1, 5, 12, 200])
@pytest.mark.parametrize("noise", [False, True])
def test_an_lzma_part_without_its_end_is_refused(tmp_path, chelsea, lacking, noise):
    """Noise is stored as it is, which LZMA does not see the end of."""
    pixels = chelsea[:64, :96]
    if noise:
        pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.tif", compression="lzma")
    data = (tmp_path / "whole.tif").read_bytes()
    assert np.array_equal(read_bytes(tmp_path, data, ".tif"), pixels)
    with Image.open(tmp_path / "whole.tif") as image:
        end = image.tag_v2[273][0] + image.tag_v2[279][0]
    cut = data[: end - lacking] + bytes(lacking) + data[end:]
    with pytest.raises(InputError, match="its strip 1 of 1 is cut short or damaged"):
        read_bytes(tmp_path, cut, ".tif")


def test_damaged_and_large_files_give_no_other_warning(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # Pillow warns beyond this
    assert read_bytes(tmp_path, claiming(tmp_path, "tiff_lzw", 96, 96, 96), ".tif").shape == (96, 96, 3)
    with pytest.raises(InputError):
        read_bytes(tmp_path, claiming(tmp_path, "tiff_lzw", 96, 97, 97), ".tif")
    assert not recwarn.list


@pytest.mark.parametrize("kind", [".png", ".tif", ".ppm", ".tga", ".gif", ".avif"])
def test_a_stream_is_read_like_a_file(tmp_path, chelsea, kind):
    buffer = io.BytesIO()
    Image.fromarray(chelsea).save(buffer, Image.registered_extensions()[kind])
    (tmp_path / f"file{kind}").write_bytes(buffer.getvalue())
    content = read_content(io.BytesIO(buffer.getvalue()), "stream")
    assert (image_of(content, "stream") == read_image(tmp_path / f"file{kind}")).all()


class Endless(io.RawIOBase):
    """A stream that never ends."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size < 1 << 20
        self.taken += size
        return bytes(size)


def test_a_stream_that_is_no_picture_is_not_read_to_its_end():
    endless = Endless()
    with pytest.raises(InputError, match="stream is not an image"):
        read_content(endless, "stream")
    assert endless.taken < 1 << 20
    if Path("/dev/zero").exists():
        with pytest.raises(InputError, match="/dev/zero is not an image"):
            read_image("/dev/zero")
    with pytest.raises(InputError, match=r"standard input is not a \.nic file"):
        Nic.read_from(endless, source="standard input")


@pytest.mark.parametrize("side", [8192, 9600])
@pytest.mark.slow
def test_pictures_up_to_the_limit_are_read_without_a_warning(tmp_path, side):
    Image.new("1", (side, side), 1).save(tmp_path / "large.png")
    pixels = read_image(tmp_path / "large.png")
    assert pixels.shape == (side, side, 3)
    assert pixels.min() == 255


@pytest.mark.slow
def test_damaged_avif_files_are_refused(tmp_path, chelsea):
    write_image(tmp_path / "a.avif", chelsea)
    data = bytearray((tmp_path / "a.avif").read_bytes())
    refused = 0
    for place in range(4, len(data), 3):
        bad = bytearray(data)
        bad[place] ^= 0xFF
        (tmp_path / "a.avif").write_bytes(bad)
        try:
            pixels = read_image(tmp_path / "a.avif")
        except InputError:
            refused += 1
        else:  # damage that the format cannot see
            assert pixels.dtype == np.uint8
            assert pixels.shape[2:] == (3,)
    assert refused > 10


def tiff(levels: np.ndarray, *, bits: int, sample_format: int, white_is_zero: bool = False) -> bytes:
    """A grey TIFF file byte by byte, of one row; levels of 12 bits come as packed bytes."""
    width = levels.size * levels.itemsize * 8 // bits
    order = "<" if levels.dtype.str[0] in "<|" else ">"
    entries = [(256, 4, width), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, int(not white_is_zero))]
    entries += [(273, 4, 200), (277, 3, 1), (278, 4, 1), (279, 4, levels.nbytes), (339, 3, sample_format)]
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    for tag, kind, value in entries:
        head += struct.pack(
            f"{order}HHI" + ("HH" if kind == 3 else "I"), tag, kind, 1, value, *[0] * (kind == 3)
        )
    return head.ljust(200, b"\0") + levels.tobytes()


@pytest.mark.parametrize(
    ("levels", "bits", "sample_format"),
    [
        (np.array([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x00], "u1"), 12, 1),
        (np.array([-128, 0, 127], "i1"), 8, 2),
        *((np.array([-(2**15), 0, 2**15 - 1], f"{order}i2"), 16, 2) for order in "<>"),
        (np.array([0, 2**31, 2**32 - 1], "<u4"), 32, 1),
        *((np.array([-(2**31), 0, 2**31 - 1], f"{order}i4"), 32, 2) for order in "<>"),
        *((np.array([0, 0.5, 1], f"{order}f4"), 32, 3) for order in "<>"),
    ],
)
def test_grey_has_the_depth_and_the_sign_of_its_file(tmp_path, levels, bits, sample_format):
    found = read_bytes(tmp_path, tiff(levels, bits=bits, sample_format=sample_format), ".tif")
    expected = [0, 128, 255, 0] if bits == 12 else [0, 128, 255]
    assert found[0, :, 0].tolist() == expected
    assert (found == found[..., :1]).all()


def test_white_may_be_zero_in_floats(tmp_path):
    data = tiff(np.array([0, 0.5, 1], "<f4"), bits=32, sample_format=3, white_is_zero=True)
    assert read_bytes(tmp_path, data, ".tif")[0, :, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "F"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 8])
def test_tiffs_are_turned_however_they_are_stored(tmp_path, mode, compression, orientation):
    ramp = np.arange(9 * 6 * 3, dtype=np.uint8).reshape(9, 6, 3)
    image = Image.fromarray(ramp)
    if mode.startswith("I;16"):
        image = Image.frombytes(
            mode, (6, 9), (ramp[..., 0] * 400).astype(f"{'<>'[mode[-1] == 'B']}u2").tobytes()
        )
    else:
        image = (image.convert("L") if mode in "PF" else image).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "plain.tif", compression=compression)
    image.save(tmp_path / "turned.tif", compression=compression, exif=exif)
    (plain, turned) = (read_image(tmp_path / f"{name}.tif") for name in ("plain", "turned"))
    expected = {
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        5: plain.swapaxes(0, 1),
        6: np.rot90(plain, -1),
        8: np.rot90(plain),
    }
    assert (turned == expected[orientation]).all()
    assert turned.shape == expected[orientation].shape


def directory(entries: list[tuple[int, int, int, bytes]], start: int) -> bytes:
    """An image file directory at an offset, little-endian: tag, kind, count and data of each entry."""
    body, more = b"", b""
    end = start + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in entries:
        value = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", end + len(more))
        more += data if len(data) > 4 else b""
        body += struct.pack("<HHI", tag, kind, count) + value
    return struct.pack("<H", len(entries)) + body + b"\0" * 4 + more


ODD = {
    "text as numbers": (0x0132, 3, 2, struct.pack("<HH", 1, 2)),
    "copyright as a float": (0x8298, 11, 1, struct.pack("<f", 1.5)),
    "resolution of 0/0": (0x011A, 5, 1, bytes(8)),
    "resolution that is none": (0x011A, 11, 1, struct.pack("<f", math.nan)),
    "infinite resolution": (0x011A, 12, 1, struct.pack("<d", math.inf)),
    "two resolutions": (0x011A, 5, 2, struct.pack("<IIII", 72, 1, 72, 1)),
    "bits as text": (0x0102, 2, 2, b"8\0"),
    "comment of shorts": (0x9286, 3, 5, bytes(10)),
    "bias of -2/0": (0x9204, 10, 1, struct.pack("<ii", -2, 0)),
    "smallest over -1": (0x9204, 10, 1, struct.pack("<ii", -(2**31), -1)),
    "positions nowhere": (0x8825, 4, 1, struct.pack("<I", 2**32 - 1)),
    "an unknown kind": (0x0131, 99, 4, b"abcd"),
    "more than there is": (0x010F, 2, 2**31, struct.pack("<I", 2**31)),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "PNG text"])
@pytest.mark.parametrize("odd", list(ODD))
def test_odd_metadata_does_not_matter(tmp_path, odd, kind):
    first = directory([(0x0112, 3, 1, struct.pack("<H", 6)), ODD[odd]], 8)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first
    path, image = tmp_path / "odd", Image.new("RGB", (6, 4), (200, 100, 50))
    if kind == "AVIF":  # its encoder wants to understand the orientation, and its decoder goes by boxes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(path, kind, exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory([ODD[odd]], 8))
        expected = (4, 6, 3)
    elif kind == "PNG text":
        info = PngImagePlugin.PngInfo()
        info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}zz\n")
        image.save(path, "PNG", pnginfo=info)
        expected = (6, 4, 3)
    else:
        image.save(path, kind, exif=exif)
        expected = (6, 4, 3)
    assert read_image(path).shape == expected


@pytest.mark.parametrize("odd", list(ODD))
def test_odd_metadata_of_tiff_does_not_matter(tmp_path, odd):
    tag, kind, count, data = ODD[odd]
    if tag == 0x0102:
        return  # of a TIFF file itself, this is no metadata
    levels = struct.pack("<H", 6)
    sizes = [
        (256, 3, 3),
        (257, 3, 2),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 400),
        (277, 3, 1),
        (279, 4, 6),
    ]
    entries = [(t, k, 1, struct.pack("<I" if k == 4 else "<H", value)) for t, k, value in sizes]
    entries = sorted([*entries, (0x0112, 3, 1, levels), (tag, kind, count, data)])
    file = (b"II*\0" + struct.pack("<I", 8) + directory(entries, 8)).ljust(400, b"\0") + bytes(range(6))
    assert read_bytes(tmp_path, file, ".tif")[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_text_that_would_fill_the_memory_does_not_matter(tmp_path):
    bomb = b"comment\0\0" + zlib.compress(bytes(1 << 27))
    data = png(1, 1, 8, GREY, b"\0\7", zTXt=bomb, iCCP=b"x\0\0" + bytes(9), eXIf=b"odd")
    assert read_bytes(tmp_path, data).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT"])
@pytest.mark.parametrize("part", ["content", "checksum"])
def test_wrong_checksums_are_refused(tmp_path, kind, part):
    whole = png(2, 1, 8, INDEXED, b"\0\0\1", PLTE=bytes(range(6)), tRNS=b"\xff\xff")
    place = whole.index(kind)
    (length,) = struct.unpack(">I", whole[place - 4 : place])
    data = bytearray(whole)
    data[place + 4 + length - (part == "content")] ^= 1
    for before, suffix in ((b"", ".png"), (icon_before(data), ".ico")):
        with pytest.raises(InputError, match="checksum"):
            read_bytes(tmp_path, before + bytes(data), suffix)
    assert read_bytes(tmp_path, icon_before(whole) + whole, ".ico").shape == (1, 2, 3)


def icon_before(picture: bytes) -> bytes:
    """What stands before a PNG in a Windows icon."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 2, 1, 0, 0, 1, 8, len(picture), 22)


def test_the_compressed_pixels_have_a_checksum_of_their_own(tmp_path):
    rows = bytearray(zlib.compress(b"\0\1\2"))
    rows[-1] ^= 1
    split = png(2, 1, 8, GREY, b"\0\1\2").partition(b"IDAT")[0][:-4]
    for parts in ([bytes(rows)], [bytes(rows[:-4]), bytes(rows[-4:])]):
        chunks = [(b"IDAT", part) for part in parts] + [(b"IEND", b"")]
        data = split + b"".join(
            struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
        )
        with pytest.raises(InputError, match=r"made\.png"):
            read_bytes(tmp_path, data)


@pytest.mark.parametrize("missing", [1, 4, 12, 15, 16])
def test_a_png_that_ends_behind_its_pixels_has_them_all(tmp_path, missing):
    whole = png(2, 1, 8, GREY, b"\0\1\2")
    assert read_bytes(tmp_path, whole[:-missing])[0, :, 0].tolist() == [1, 2]
    with pytest.raises(InputError, match="cut off"):  # one byte of the pixels' own checksum is gone too
        read_bytes(tmp_path, whole[:-17])


def test_a_png_may_say_that_its_pixels_go_on_beyond_the_file(tmp_path):
    whole = bytearray(png(2, 1, 8, GREY, b"\0\1\2"))
    whole[whole.index(b"IDAT") - 2] = 0x1B
    assert read_bytes(tmp_path, bytes(whole))[0, :, 0].tolist() == [1, 2]


@pytest.mark.parametrize(("suffix", "width"), [(".jpg", 65535), (".webp", 20000)])
def test_sides_that_a_format_cannot_hold(tmp_path, suffix, width):
    with pytest.raises(InputError, match=f"cannot hold a picture of {width}x1"):
        write_image(tmp_path / f"wide{suffix}", np.zeros((1, width, 3), np.uint8))
    assert not list(tmp_path.iterdir())
