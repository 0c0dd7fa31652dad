"""Removes metadata from image files: only what pixels and orientation need reaches the decoders.

The texts, profiles, thumbnails and maker notes of photos come from thousands of programs, and an odd entry is
no reason to refuse a photo. PNG, JPEG and TIFF files are parsed only as far as this needs.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_RAW_PROFILE = b"Raw profile type exif\0"
_XMP_TEXT = b"XML:com.adobe.xmp\0"
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"

# What decoders of TIFF read: sizes, samples, strips and tiles, colour maps, fax, JPEG, YCbCr, orientation.
_TIFF_KEPT = {
    *(
        254,
        255,
        256,
        257,
        258,
        259,
        262,
        266,
        273,
        274,
        277,
        278,
        279,
        280,
        281,
        284,
        290,
        291,
        292,
        293,
        317,
    ),
    *(320, 321, 322, 323, 324, 325, 326, 327, 328, 332, 334, 336, 338, 339, 340, 341, 347),
    *(512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 50674),
}


@dataclass
class StrippedImage:
    """An image file without metadata.

    Attributes:
        data: the file.
        exif, xmp: blocks that may contain the orientation. Empty if there are none, or if the decoder returns
            them.
        frames: number of pictures that a PNG or JPEG claims to have.
    """

    data: bytes
    exif: bytes = b""
    xmp: bytes = b""
    frames: int = 1


def strip_metadata(data: bytes) -> StrippedImage:
    """Remove metadata from a file's content. Files other than PNG, JPEG and TIFF stay as they are.

    Args:
        data: content of an image file.

    Raises:
        ValueError: a PNG is cut short, or a checksum of its pixels is wrong.
    """
    if data.startswith(PNG):
        return _strip_png(data)
    if data.startswith(JPEG):
        return _strip_jpeg(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return StrippedImage(_strip_tiff(data))
    for signature in re.finditer(re.escape(PNG), data):  # icons hold whole PNGs
        _strip_png(data[signature.start() :])
    return StrippedImage(data)


def without_exif(data: bytes) -> bytes:
    """Empty the EXIF blocks of a file. Its length stays the same.

    Args:
        data: content of an image file.
    """
    little, big = (
        head + struct.pack(f"{order}IH", 8, 0) for head, order in ((b"II*\0", "<"), (b"MM\0*", ">"))
    )
    emptied = re.sub(rb"II\*\0.{6}", little, data, flags=re.DOTALL)
    return re.sub(rb"MM\0\*.{6}", big, emptied, flags=re.DOTALL)


def _strip_png(data: bytes) -> StrippedImage:
    bare_file, kept, inflater = StrippedImage(b""), [PNG], zlib.decompressobj()
    for kind, content, whole in _chunks(data):
        if not whole:
            if kind == b"IDAT":
                _inflate(inflater, content)
                kept.append(_chunk(kind, content[: len(content) - len(inflater.unused_data)]))
            if not inflater.eof:  # else all pixels are there, and agree with zlib's own checksum
                raise ValueError("it is cut off")
        elif kind in _PNG_KEPT:
            if zlib.crc32(kind + content).to_bytes(4, "big") != whole[-4:]:
                raise ValueError(f"the checksum of its {kind.decode()} is wrong, so it is damaged")
            kept.append(whole)
            if kind == b"IDAT":
                _inflate(inflater, content)
        elif kind == b"eXIf":
            bare_file.exif = content
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _read_text(bare_file, kind, content)
        elif kind == b"acTL" and len(content) == 8:
            bare_file.frames = int.from_bytes(content[:4], "big")
        elif not kind[0] & 0x20:  # one that a decoder must understand
            kept.append(whole)
        if kind == b"IEND":
            break
    bare_file.data = b"".join(kept)
    return bare_file


def _inflate(inflater: zlib._Decompress, content: bytes, most: int = 1 << 20) -> None:
    """Let zlib compare the compressed pixels with their checksum, which Pillow may not read."""
    try:
        while content:
            inflater.decompress(content, most)
            content = inflater.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"its compressed pixels are damaged ({error})") from error


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, content and bytes of each chunk of a PNG. The bytes are empty if the file is cut there."""
    offset = len(PNG)
    while offset + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        whole = data[offset : offset + 12 + length]
        if len(whole) < 12 + length:
            yield whole[4:8], whole[8:], b""
        else:
            yield whole[4:8], whole[8:-4], whole
        offset += len(whole)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _read_text(bare_file: StrippedImage, kind: bytes, content: bytes) -> None:
    if content.startswith(_RAW_PROFILE) and not bare_file.exif:
        text = content[len(_RAW_PROFILE) :]
        if kind == b"zTXt":
            text = _inflated(text[1:])
        # "\nexif\n  LENGTH\nHEXADECIMAL", as ImageMagick writes it
        digits = re.match(rb"[0-9a-fA-F\s]*", b"".join(text.split(b"\n")[3:]))
        pairs = re.sub(rb"\s", b"", digits[0] if digits else b"")
        bare_file.exif = bytes.fromhex(pairs[: len(pairs) // 2 * 2].decode())
    elif kind == b"iTXt" and content.startswith(_XMP_TEXT):
        text = content[len(_XMP_TEXT) :]
        words = text[2:].split(b"\0", 2)[-1]
        bare_file.xmp = _inflated(words) if text[:1] == b"\1" else words


def _inflated(data: bytes, most: int = 1 << 24) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""


def _strip_jpeg(data: bytes) -> StrippedImage:
    """Segments up to the first scan, of which the decoder needs all but application data and comments."""
    bare_file, kept, offset = StrippedImage(b""), [data[:2]], 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if marker == 0xDA or marker == 0x01 or 0xD0 <= marker <= 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, offset + 2)
        content = data[offset + 4 : offset + 2 + length]
        if length < 2 or len(content) < length - 2:
            break
        if marker == 0xE1 and content.startswith(_EXIF):
            bare_file.exif += content[len(_EXIF) :] if bare_file.exif else content
        elif marker == 0xE1 and content.startswith(_XMP):
            bare_file.xmp = content[len(_XMP) :]
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            bare_file.frames = _pictures_in_jpeg(content[4:])
        # JFIF and Adobe say how colours are stored
        of_pixels = content[:5] in (b"JFIF\0", b"Adobe") and len(content) >= 12
        if (not 0xE0 <= marker <= 0xEF and marker != 0xFE) or of_pixels:
            kept.append(data[offset : offset + 2 + length])
        offset += 2 + length
    bare_file.data = b"".join([*kept, data[offset:]])
    return bare_file


def _pictures_in_jpeg(index: bytes) -> int:
    """The number of pictures in the index of a Multi-Picture file."""
    order = "<" if index.startswith(b"II") else ">"
    offset = index.find(struct.pack(f"{order}HHI", 0xB001, 4, 1))
    return (
        int.from_bytes(index[offset + 8 : offset + 12], "little" if order == "<" else "big")
        if offset > 0
        else 1
    )


def _strip_tiff(data: bytes) -> bytes:
    """The same file whose first directory lacks the entries that no decoder reads."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2 if order == "<" else 3] == 43
    # where the first directory is said to be, its number of entries, the size of one, the next directory
    offset_at, offset, count, size, after = (8, "Q", "Q", 20, 8) if big else (4, "I", "H", 12, 4)
    try:
        (start,) = struct.unpack_from(order + offset, data, offset_at)
        (entries,) = struct.unpack_from(order + count, data, start)
    except struct.error:
        return data
    first = start + struct.calcsize(count)
    end = first + entries * size
    if end + after > len(data):
        return data
    rows = [data[offset : offset + size] for offset in range(first, end, size)]
    kept = [row for row in rows if struct.unpack_from(order + "H", row)[0] in _TIFF_KEPT]
    directory = struct.pack(order + count, len(kept)) + b"".join(kept) + data[end : end + after]
    return data[:start] + directory + data[start + len(directory) :]
