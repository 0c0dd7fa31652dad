"""`nas compress`, `nas decompress` and `nas transcode`: pictures and .nic files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.support.errors import InputError
from nas.support.files import refuse_existing, refuse_over_input, write_atomically


@dataclass(frozen=True)
class Compressed:
    """A .nic file that was written.

    Attributes:
        file: where.
        bytes: its size.
        bpp: the same in bits per pixel.
        layout: the layout that it is coded in; None where its codec has no name for it.
        quality: 0 to 100, of a codec of a range of rates.
    """

    file: Path
    bytes: int
    bpp: float
    layout: str | None
    quality: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        at = {} if self.quality is None else {"quality": self.quality}
        return {"file": str(self.file), "bytes": self.bytes, "bpp": self.bpp, "layout": self.layout, **at}


@dataclass(frozen=True)
class Decompressed:
    """A picture that was written.

    Attributes:
        image: where.
        width, height: in pixels.
        arch: the key of the codec that decoded it.
        kmac_px: what decoding costs, where the codec's family has several decoders.
    """

    image: Path
    width: int
    height: int
    arch: str
    kmac_px: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"image": str(self.image), "width": self.width, "height": self.height, "arch": self.arch}


@dataclass(frozen=True)
class Transcoded:
    """A .nic file in another layout.

    Attributes:
        file: where.
        bytes, bytes_before: its size, and that of the file it was made from.
        layout, layout_before: what both are coded in.
    """

    file: Path
    bytes: int
    bytes_before: int
    layout: str | None
    layout_before: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        before = {"from": self.layout_before}
        return {"file": str(self.file), "bytes": self.bytes, "layout": self.layout, **before}


def compress(
    codec: str | Path,
    image: str | Path,
    file: str | Path,
    *,
    layout: str | None = None,
    stages: int | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size: int | None = None,
    device: str = "auto",
    force: bool = False,
) -> Compressed:
    """Compress a picture into a .nic file.

    Args:
        codec: folder of an exported codec.
        image: the picture, in any format that Pillow reads.
        file: the .nic file.
        layout: what to code in, for a codec that has several.
        stages: try every layout with at most this many stages, and keep the smallest file.
        quality: 0 (smallest file) to 100 (best picture), for a codec of a range of rates.
        bpp: instead, the best quality with at most this many bits per pixel.
        size: instead, the best quality with at most this many bytes.
        device: `auto`, `cpu` or `cuda`.
        force: replace the file.

    Raises:
        InputError: before anything is written, where it cannot be done.

    Example:
        >>> packed = nas.compress("codecs/a", "photo.png", "photo.nic")  # doctest: +SKIP
        >>> packed.bytes  # doctest: +SKIP
        20480
    """
    picture, path = Path(image), Path(file)
    if sum(value is not None for value in (quality, bpp, size)) > 1:
        raise InputError("Give one of --quality, --bpp and --size: each of them decides the rate.")
    refuse_existing(path, force=force, what=".nic file", folder=False)
    refuse_over_input(path, picture)
    from nas.photos.images import read_image

    pixels = read_image(picture)
    from nas.codec.folder import load_family
    from nas.codec.recode import compress_smallest
    from nas.spaces.rates import STEPS_OF_QUALITY
    from nas.support.device import choose

    family = load_family(codec).to(choose(device))
    area = pixels.shape[0] * pixels.shape[1]
    most = size if bpp is None else bpp * area / 8
    nic = compress_smallest(
        family, pixels, family.choose_layouts(layout, stages), quality=quality, most_bytes=most
    )
    stream = nic.to_bytes()
    write_atomically(path, stream)
    at = None if nic.step is None else 100 * nic.step / STEPS_OF_QUALITY
    return Compressed(path, len(stream), 8 * len(stream) / area, family.layout_of(nic.path_identity), at)


def decompress(
    codec: str | Path,
    file: str | Path,
    image: str | Path,
    *,
    target: str | None = None,
    max_pixels: int | None = None,
    device: str = "auto",
    force: bool = False,
) -> Decompressed:
    """Decompress a .nic file into a picture.

    Args:
        codec: folder of the codec that made the file, or of one with the same entropy path.
        file: the .nic file.
        image: the picture, in a format that Pillow writes.
        target: use the best decoder that costs at most 10 (kMAC per pixel of decoding) or 60% (of the most
            expensive one), for a codec that has several.
        max_pixels: refuse files of larger pictures; by default `MAX_PIXELS`.
        device: `auto`, `cpu` or `cuda`.
        force: replace the picture.

    Raises:
        InputError: before anything is written, where it cannot be done.

    Example:
        >>> nas.decompress("codecs/a", "photo.nic", "photo.png").width  # doctest: +SKIP
        768
    """
    stream, picture = Path(file), Path(image)
    refuse_existing(picture, force=force, what="picture", folder=False)
    refuse_over_input(picture, stream)
    from nas.codec.bitstream import Nic, decompress_image
    from nas.codec.folder import load_family
    from nas.photos.images import MAX_PIXELS, check_format, write_image
    from nas.support.device import choose

    check_format(picture)
    nic = Nic.read(stream)
    family = load_family(codec)
    layout = family.layout_of(nic.path_identity)
    decoder = family.decoder_within(target, layout) if target and layout else family.default
    chosen = family.to(choose(device)).codec(layout, decoder)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    write_image(picture, decompress_image(chosen, nic, max_pixels=limit))
    several = layout is not None and len(family.decoders) > 1
    cost = family.decoder_kmac_px(decoder, layout) if several and layout is not None else None
    return Decompressed(picture, nic.width, nic.height, chosen.architecture.key, cost)


def transcode(
    codec: str | Path,
    file: str | Path,
    out: str | Path,
    *,
    layout: str | None = None,
    stages: int | None = None,
    max_pixels: int | None = None,
    device: str = "auto",
    force: bool = False,
) -> Transcoded:
    """Code a .nic file again in another layout of its codec; the picture stays exactly the same.

    Args:
        codec: folder of the codec that made the file.
        file: the .nic file.
        out: the .nic file to write.
        layout: what to code in.
        stages: or try every layout with at most this many stages, and keep the smallest file.
        max_pixels: refuse files of larger pictures; by default `MAX_PIXELS`.
        device: `auto`, `cpu` or `cuda`.
        force: replace what is in `out`.

    Raises:
        InputError: before anything is written, where it cannot be done.

    Example:
        >>> done = nas.transcode("codecs/family", "photo.nic", "fast.nic", stages=8)  # doctest: +SKIP
        >>> done.layout  # doctest: +SKIP
        'checkerboard'
    """
    path = Path(out)
    refuse_existing(path, force=force, what=".nic file", folder=False)
    if layout is None and stages is None:
        raise InputError(
            "Choose a layout: --layout NAME, or --stages N for the smallest file with at most N stages."
        )
    from nas.codec.bitstream import Nic
    from nas.codec.folder import load_family
    from nas.codec.recode import transcode as coded_again
    from nas.photos.images import MAX_PIXELS
    from nas.support.device import choose

    before = Nic.read(Path(file))
    family = load_family(codec).to(choose(device))
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    after = coded_again(family, before, family.choose_layouts(layout, stages), max_pixels=limit)
    stream = after.to_bytes()
    write_atomically(path, stream)
    layouts = (family.layout_of(nic.path_identity) for nic in (after, before))
    return Transcoded(path, len(stream), len(before.to_bytes()), *layouts)
