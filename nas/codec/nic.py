"""The .nic file: a header that names the codec, and one stream of coded latents. No torch is needed.

====== =======================================================================
bytes  content
====== =======================================================================
4      the letters NIC, and the version of this format; 4 is added to the version of a grey picture
4      the identity of the entropy path that made the file
4      the fingerprint of the codec
4      CRC-32 of everything else in the file
1 - 3  width in pixels, at most 65535, as a variable-length number
1 - 3  height in pixels, in the same form
1 - 2  only in version 2: the quality from 0 to 100, in tenths, in the same form
rest   the stream: the largest steps of z and y, then z and y (see `Codec.encode`)
====== =======================================================================
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nas.spaces.rates import STEPS_OF_QUALITY
from nas.support.errors import InputError
from nas.support.limits import MAX_BYTES

MAGIC = b"NIC"
PLAIN, RATED = 1, 2  # versions of the format: without and with a quality
GREY = 4  # added to the version where the picture is grey: decoders then level out its colours
FIXED = 16  # number of bytes before the image size
MAX_SIDE = 65535  # pixels


@dataclass(frozen=True)
class Nic:
    """A parsed .nic file.

    Attributes:
        path_identity: identity of the entropy path that made the file.
        fingerprint: fingerprint of the codec that made the file.
        width, height: size of the picture in pixels.
        stream: output of `Codec.encode`.
        header_bytes: number of bytes before the stream.
        step: the quality in steps of `rates.STEPS_OF_QUALITY`, or None for a codec of one rate.
        grey: whether the picture is grey, so that decoders pass it through `grey.to_grey`.
    """

    path_identity: str
    fingerprint: str
    width: int
    height: int
    stream: bytes
    header_bytes: int
    step: int | None = None
    grey: bool = False

    def to_bytes(self) -> bytes:
        """The bytes of the whole file, with its checksum."""
        version = PLAIN if self.step is None else RATED
        names = bytes.fromhex(self.path_identity + self.fingerprint)
        head = MAGIC + bytes([version | GREY if self.grey else version]) + names
        rate = b"" if self.step is None else write_varint(self.step)
        tail = write_varint(self.width) + write_varint(self.height) + rate + self.stream
        return head + zlib.crc32(head + tail).to_bytes(4, "little") + tail

    @classmethod
    def parse(cls, data: bytes, *, source: str = "the file") -> Nic:
        """Read and check a file's bytes.

        Args:
            data: the bytes of the whole file.
            source: name of the file in error messages.

        Raises:
            InputError: the bytes are not a .nic file, or the file is newer, truncated or altered.
        """
        if data[:3] != MAGIC:
            raise InputError(f"{source} is not a .nic file: `nas compress` makes them.")
        version = data[3] & ~GREY if len(data) > 3 else PLAIN  # such a short one has no checksum either
        if version not in (PLAIN, RATED):
            raise InputError(
                f"{source} has .nic version {version}, but this toolkit reads versions up to {RATED}: update "
                "the toolkit."
            )
        head, tail = data[:12], data[FIXED:]
        if len(data) <= FIXED or zlib.crc32(head + tail).to_bytes(4, "little") != data[12:16]:
            raise InputError(
                f"{source} is cut short or damaged, because its checksum does not fit: get it again."
            )
        width, rest = read_varint(tail, source)
        height, stream = read_varint(rest, source)
        if width == 0 or height == 0:
            raise InputError(f"{source} says that its picture is empty, so it is damaged: get it again.")
        step = None
        if version == RATED:
            step, stream = read_varint(stream, source)
            if step > STEPS_OF_QUALITY:
                raise InputError(
                    f"{source} has a quality that does not exist, so it is damaged: get it again."
                )
        size, grey = FIXED + len(tail) - len(stream), bool(data[3] & GREY)
        return cls(head[4:8].hex(), head[8:12].hex(), width, height, stream, size, step, grey)

    @classmethod
    def read(cls, path: Path) -> Nic:
        """Read a file. An InputError says what is wrong with it.

        Args:
            path: path of the .nic file.
        """
        try:
            with open(path, "rb") as file:
                return cls.read_from(file, source=str(path))
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}.") from error

    @classmethod
    def read_from(cls, file: IO[bytes], *, source: str) -> Nic:
        """Read and check an open file. If its beginning is not that of a .nic file, the rest is not read.

        Args:
            file: the file, open for reading.
            source: name of the file in messages.

        Raises:
            InputError: it is not a .nic file, or it is damaged.
        """
        start = file.read(len(MAGIC))
        return cls.parse(start + (file.read(MAX_BYTES) if start == MAGIC else b""), source=source)


def write_varint(value: int) -> bytes:
    """Encode a non-negative number with seven bits per byte, the lowest bits first.

    Args:
        value: the number, at least 0.
    """
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, source: str = "The file") -> tuple[int, bytes]:
    """Decode a number from `write_varint`. Returns the number and the remaining bytes.

    Args:
        data: bytes that begin with the number.
        source: what error messages call the file.

    Raises:
        InputError: the number does not end within five bytes.
    """
    value = 0
    for index, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, data[index + 1 :]
    raise InputError(f"{source} is cut short or damaged, because a number in it does not end: get it again.")
