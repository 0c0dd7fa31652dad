"""Checks the size that an image file claims against its content, before memory is allocated for it."""

from __future__ import annotations

import io
import lzma
import math
import warnings
import zlib
from typing import Any

from PIL import Image, TiffImagePlugin

START = 1 << 16  # number of bytes that show whether a file can be a picture

# Pillow knows these, but they are no rasters that it decodes itself, or it ignores their scale of grey.
_NOT_READ = {"EPS", "PDF", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS", "MCIDAS"}

# The most pixels that one byte of a file can stand for, by Pillow's decoder: never fewer than are possible.
# deflate reaches 1032 to 1, LZW 2560 to 1; a progressive JPEG has a bit for a block, of each component.
_MOST_PIXELS = {
    **{"raw": 8, "zip": 8 * 1032, "jpeg": 2048, "gif": 2560, "qoi": 62},
    **{"packbits": 8 * 64, "tga_rle": 128, "sgi_rle": 128},
}
# The same for TIFF, by its compression. Fax has none: it repeats lines of any length.
_MOST_PIXELS_OF_TIFF = {
    **{"raw": 8, "packbits": 8 * 64, "tiff_lzw": 8 * 2560, "tiff_deflate": 8 * 1032},
    **{"tiff_adobe_deflate": 8 * 1032, "jpeg": 2048, "lzma": 1 << 15, "zstd": 1 << 18},
}
_PLANAR, _SEPARATE = TiffImagePlugin.PLANAR_CONFIGURATION, 2
_DEFLATE, _JPEG, _LZMA = {"tiff_deflate", "tiff_adobe_deflate"}, "jpeg", "lzma"
_JPEG_END = b"\xff\xd9"
_FILL_ORDER, _REVERSED = TiffImagePlugin.FILLORDER, 2
_CHUNK = 1 << 20  # bytes of an unpacked part that are in memory at a time
_ARITHMETIC = (b"\xff\xc9", b"\xff\xca", b"\xff\xcb")  # JPEG's frames that may take less than a bit a block


def readable_formats() -> list[str]:
    """Pillow's names of the readable formats that it has loaded so far."""
    return [name for name in Image.ID if name not in _NOT_READ]


def may_be_picture(start: bytes) -> bool:
    """Whether a file with this beginning can be a picture. A device or a stream may be endless.

    Args:
        start: the first `START` bytes, or the whole file if it is shorter.
    """
    Image.init()
    for name in readable_formats():
        open_format, accept = Image.OPEN[name]
        if accept is not None:
            if accept(start[:16]):
                return True
            continue
        try:  # a format without a signature is known by its header alone
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                open_format(io.BytesIO(start), "")
        except Exception:  # of any kind: whatever a plug-in stumbles over
            continue
        return True
    return False


def check_header(image: Image.Image, data: bytes) -> None:
    """Compare the size that a file claims with its length, and check that the parts of a TIFF are complete.

    libtiff fills what a part lacks without a word. In TIFF it cannot be known of raw samples and of fax,
    whose parts need not say where they end, whether zeros or white lines at their ends are the picture's.
    Parts that zstd packed are left to libtiff, which misses their ends. Blocks that zstd could not shorten
    are raw samples, too.

    Args:
        image: the file as Pillow has opened it.
        data: the file.

    Raises:
        ValueError: so few bytes cannot hold so many pixels, or strips of a TIFF are missing or cut short.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is not None and image.format == "TIFF":
        _check_parts(tags)
        _check_ends(tags, image.info.get("compression", ""), data)
        most = _MOST_PIXELS_OF_TIFF.get(image.info.get("compression", ""), math.inf)
    else:
        codecs = {tile[0] for tile in getattr(image, "tile", None) or ()}
        most = max((_MOST_PIXELS.get(codec, math.inf) for codec in codecs), default=math.inf)
        if codecs == {"jpeg"} and any(frame in data[:START] for frame in _ARITHMETIC):
            most = math.inf
    if image.width * image.height > most * len(data):
        raise ValueError(
            f"its header claims {image.width}x{image.height} pixels, which {len(data)} bytes cannot hold"
        )


def _check_parts(tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """ValueError where a TIFF lists too few strips or tiles for its size: Pillow leaves the rest black."""
    sides: list[Any] = [tags.get(tag) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)]
    if TiffImagePlugin.STRIPOFFSETS in tags:
        listed, what = tags[TiffImagePlugin.STRIPOFFSETS], "strips"
        part = [sides[0], tags.get(TiffImagePlugin.ROWSPERSTRIP, sides[1])]
    elif TiffImagePlugin.TILEOFFSETS in tags:
        listed, what = tags[TiffImagePlugin.TILEOFFSETS], "tiles"
        part = [tags.get(tag) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
    else:
        return
    if not all(isinstance(side, int) and side > 0 for side in (*sides, *part)):
        return  # Pillow says what is wrong
    planes = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) if tags.get(_PLANAR) == _SEPARATE else 1
    needed = planes * math.prod(-(-whole // side) for whole, side in zip(sides, part, strict=True))
    if len(listed) < needed:
        raise ValueError(f"it lists {len(listed)} of {needed} {what}")


def _check_ends(tags: TiffImagePlugin.ImageFileDirectory_v2, compression: str, data: bytes) -> None:
    """ValueError where a strip or tile of a TIFF has no end, or not the checksum of what it holds."""
    if compression not in {*_DEFLATE, _JPEG, _LZMA} or tags.get(_FILL_ORDER) == _REVERSED:
        return
    for kind, (offsets, counts) in {
        "strip": (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS),
        "tile": (TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS),
    }.items():
        begins = tags.get(offsets, ())
        lengths = tags.get(counts, (len(data),) * len(begins))
        for number, (begin, length) in enumerate(zip(begins, lengths, strict=False), 1):
            part = memoryview(data)[begin : begin + length]
            if compression == _JPEG:
                whole = _JPEG_END in bytes(part)
            else:
                whole = _is_complete_xz(part) if compression == _LZMA else _is_complete_deflate(part)
            if length and not whole:  # one of no bytes is left out on purpose
                raise ValueError(f"its {kind} {number} of {len(begins)} is cut short or damaged")


def _is_complete_deflate(deflated: memoryview) -> bool:
    """Whether deflated bytes reach their end, and the checksum there is right."""
    stream, rest = zlib.decompressobj(), bytes(deflated)
    try:
        while rest and not stream.eof:
            stream.decompress(rest, _CHUNK)
            rest = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof


def _is_complete_xz(packed: memoryview) -> bool:
    """Whether bytes that LZMA packed reach the end of their stream, and what it says of itself is right."""
    stream, rest = lzma.LZMADecompressor(lzma.FORMAT_XZ), bytes(packed)
    try:
        while not stream.eof and (rest or not stream.needs_input):
            stream.decompress(rest, _CHUNK)
            rest = b""
    except lzma.LZMAError:
        return False
    return stream.eof
