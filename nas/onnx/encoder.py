"""Write .nic files with the models beside this file: the reference, in NumPy, onnxruntime and constriction.

    pip install numpy onnxruntime "constriction>=0.5,<0.6" pillow
    python encoder.py PHOTO OUT.nic [--quality Q] [--layout NAME] [--force]

::

    picture --g_a--> y, scaled for the rate --------------------------- rounded --> y_hat
                     `--h_a--> z, scaled and shifted for the rate --- rounded --> z_hat
    z_hat under its tables, then y_hat stage by stage under Gaussians --> stream

It needs decoder.py beside it, because both compute the same scales and means. The file is the one that
`nas compress` writes, byte for byte, where g_a and h_a round to the same integers. Here and there they do
not, because runtimes add up in different orders; such a file decodes as well.

Two things are left to `nas compress`. It tests whether moving flat white or black areas beyond the range of
pixels lowers the loss. It also cuts pictures of more than 4 million pixels into tiles, while here the whole
picture passes through g_a at once, in memory that grows with it.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import constriction
import numpy as np

if __package__:  # within the toolkit
    from nas.onnx import decoder
else:
    import decoder  # type: ignore[import-not-found, no-redef]

if TYPE_CHECKING:
    from PIL import Image

    from nas.onnx.decoder import Floats, Ints, Pixels, Steps, Whole

HERE = Path(__file__).resolve().parent
MAX_SIDE = (1 << 16) - 1  # pixels
DEEP = 65535  # white in grey of 16 bits
ORIENTATION = 0x0112  # tag of EXIF
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 0x0102, 0x0106, 0x0153  # tags of TIFF
# How a picture is turned upright, by its orientation in EXIF: names of Pillow's Image.Transpose
TURNS = {
    **{2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"},
    **{6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"},
}


def encode(
    pixels: Pixels, quality: float | None = None, layout: str | None = None, folder: Path = HERE
) -> bytes:
    """Code a picture as a .nic file.

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.
        quality: 0 to 100, for a codec over a range of rates. By default it is that of the middle anchor.
        layout: name of the layout to code in. By default it is the codec's first.
        folder: folder of the ONNX models.

    Returns:
        The bytes of the file.

    Raises:
        InputError: the picture is empty or too large, the codec has no such quality or layout, or a file of
            the folder is missing or damaged.
    """
    codec = decoder.description(folder)
    with decoder.consistently(folder):
        step, chosen = step_of(codec, quality), layout_named(codec, layout)
        y_hat, z_hat = latents_of(pixels, step, folder)
        stream = encode_latents(y_hat, z_hat, chosen, folder)
        return file_of(chosen, pixels.shape[1], pixels.shape[0], step, stream, grey=is_grey(pixels))


def step_of(codec: dict[str, Any], quality: float | None) -> int | None:
    """The form in which files store a quality. None for a codec of one rate.

    Args:
        codec: description of the codec.
        quality: 0 to 100. By default it is that of the middle anchor, or the lower of two middle ones.

    Raises:
        InputError: the codec has one rate, or the quality is not from 0 to 100.
    """
    if "rates" not in codec:
        if quality is None:
            return None
        raise decoder.InputError(
            "This codec has one rate, so no quality can be chosen: leave the quality out."
        )
    if quality is None:
        lambdas = codec["rates"]["lambdas"]
        middle = lambdas[(len(lambdas) - 1) // 2]
        quality = 100 * math.log(middle / lambdas[0]) / math.log(lambdas[-1] / lambdas[0])
    if not 0 <= quality <= 100:
        raise decoder.InputError(f"Quality is a number from 0 to 100, not {quality:g}.")
    return round(quality / 100 * decoder.STEPS_OF_QUALITY)


def layout_named(codec: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The description of a layout.

    Args:
        codec: description of the codec.
        name: name of the layout. By default it is the first.

    Raises:
        InputError: the codec has no such layout.
    """
    layouts: dict[str, dict[str, Any]] = {each["name"]: each for each in codec["layouts"]}
    chosen = next(iter(layouts), None) if name is None else name
    if chosen not in layouts:
        raise decoder.InputError(f"This codec has no layout '{chosen}': choose one of {', '.join(layouts)}.")
    return layouts[chosen]


def latents_of(pixels: Pixels, step: int | None, folder: Path = HERE) -> tuple[Floats, Floats | None]:
    """y_hat [1, M, h, w] and z_hat [1, N, h/4, w/4] (None without a z) of a picture, integers in float32.

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.
        step: the stored quality, or None for a codec of one rate.
        folder: folder of the ONNX models.

    Raises:
        InputError: the picture is empty or too large, or the models are missing or damaged.
    """
    codec = decoder.description(folder)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise decoder.InputError(
            f"A picture is [H, W, 3] in 8 bits, not {pixels.shape} in {pixels.dtype}: convert it."
        )
    height, width = pixels.shape[:2]
    if not 0 < min(height, width) <= max(height, width) <= MAX_SIDE or height * width > decoder.MAX_PIXELS:
        raise decoder.InputError(
            f"A picture of {width}x{height} pixels cannot be coded: it needs 1 to {MAX_SIDE} pixels a side, "
            f"and at most {decoder.MAX_PIXELS} in all."
        )
    x = padded(pixels, codec["alignment"]).transpose(2, 0, 1)[None].astype(np.float32) / 255
    y = decoder.run(folder, "g_a.onnx", {"x": x}, "y")["y"] * decoder.gains(codec, step, "before_rounding")
    y_hat = rounded(y, codec["y_limit"])
    if not codec["z_channels"]:
        return y_hat, None
    z = decoder.run(folder, "h_a.onnx", {"y": y}, "z")["z"]
    if "rates" in codec:
        shift = decoder.at_rate(codec["rates"], "z_shift", step).astype(np.float32)
        z = z * decoder.gains(codec, step, "z_before_rounding") + shift
    return y_hat, rounded(z, codec["z_limit"])


def padded(pixels: Pixels, multiple: int) -> Pixels:
    """Mirror a picture beyond its bottom and right edge, as often as needed, without repeating the edge.

    Args:
        pixels: the picture, [H, W, 3].
        multiple: number that both sides become multiples of.
    """
    more = [(0, -side % multiple) for side in pixels.shape[:2]]
    return np.pad(pixels, (*more, (0, 0)), "reflect")


def rounded(latent: Floats, limit: int) -> Floats:
    """Round a latent to integers of at most `limit` on either side of zero. Halves go to even integers.

    Args:
        latent: the latent, of any shape.
        limit: the largest absolute value.

    Raises:
        InputError: some values are not finite.
    """
    if not np.isfinite(latent).all():
        raise decoder.InputError(
            "The models give numbers that are not finite, because the codec's weights are broken: export it "
            "again."
        )
    return np.rint(latent).clip(-limit, limit)


def encode_latents(y_hat: Floats, z_hat: Floats | None, layout: dict[str, Any], folder: Path = HERE) -> bytes:
    """The stream of latents: the largest absolute values of z and y, then z and y.

    Args:
        y_hat: rounded y, [1, M, h, w].
        z_hat: rounded z, [1, N, h/4, w/4], or None where there is no z.
        layout: description of the layout.
        folder: folder of the ONNX models.

    Raises:
        InputError: the models are missing or damaged.
    """
    codec, coder = decoder.description(folder), constriction.stream.queue.RangeEncoder()
    latents = [y_hat] if z_hat is None else [z_hat, y_hat]
    limits = [int(np.abs(latent).max()) for latent in latents]
    under_tables(coder, codec["table"], latents[0], limits[0])
    if z_hat is not None:
        gaussian_y(coder, codec, layout, z_hat, y_hat, limits[1], folder)
    words: bytes = coder.get_compressed().astype("<u4").tobytes()
    return b"".join(map(write_varint, limits)) + words


def under_tables(coder: Any, tables: list[list[int]], latent: Floats, limit: int) -> None:
    """Write a whole latent under one table of frequencies per channel.

    Args:
        coder: range encoder of the stream.
        tables: frequencies of each channel, centred on zero.
        latent: the latent, [1, channels, rows, columns].
        limit: the largest absolute value in the latent.
    """
    reach = max(1, limit)
    rows = decoder.frequencies(tables, reach)
    for row, channel in zip(rows, latent[0], strict=True):
        symbols = (channel.ravel() + reach).astype(np.int32)
        coder.encode(symbols, decoder.models.Categorical(row, perfect=False))


def gaussian_y(
    coder: Any,
    codec: dict[str, Any],
    layout: dict[str, Any],
    z_hat: Floats,
    y_hat: Floats,
    limit: int,
    folder: Path,
) -> None:
    """Write y_hat in the order in which it will be read, each element under the Gaussian that decoding finds.

    Args:
        coder: range encoder of the stream.
        codec: description of the codec.
        layout: description of the layout.
        z_hat: rounded z, [1, N, h/4, w/4].
        y_hat: rounded y, [1, M, h, w].
        limit: the largest absolute value in y_hat.
        folder: folder of the ONNX models.
    """
    psi = decoder.run(folder, "h_s.onnx", {"z_hat": z_hat}, "psi")["psi"]
    model = decoder.models.QuantizedGaussian(-max(1, limit), max(1, limit))
    scales, y = np.array(codec["scales"]), y_hat[0].reshape(codec["y_channels"], -1).T.astype(np.int32)

    def write(block: dict[str, Any], positions: Ints, levels: Ints, steps: Steps) -> Whole:
        values: Whole = y[positions[:, None], block["channels"]]
        means = steps.ravel() / np.float64(codec["mean_steps"])
        coder.encode(values.ravel(), model, means, scales[levels.ravel()])
        return values

    decoder.by_stages(codec, layout, psi, write, folder)


def is_grey(pixels: Pixels) -> bool:
    """Whether red, green and blue are equal in every pixel. Decoders then keep them equal.

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.
    """
    return bool((pixels == pixels[..., :1]).all())


def file_of(
    layout: dict[str, Any], width: int, height: int, step: int | None, stream: bytes, *, grey: bool
) -> bytes:
    """Put the header of a .nic file before a stream.

    Args:
        layout: description of the layout. It names the entropy path and the codec.
        width: width of the picture, in pixels.
        height: height of the picture, in pixels.
        step: the stored quality, or None for a codec of one rate.
        stream: the coded latents.
        grey: whether the picture is grey.
    """
    version = (decoder.PLAIN if step is None else decoder.RATED) | (decoder.GREY if grey else 0)
    head = decoder.MAGIC + bytes([version]) + bytes.fromhex(layout["entropy_path"] + layout["fingerprint"])
    rate = b"" if step is None else write_varint(step)
    tail = write_varint(width) + write_varint(height) + rate + stream
    return head + zlib.crc32(head + tail).to_bytes(4, "little") + tail


def write_varint(value: int) -> bytes:
    """Write a number in seven bits a byte, the lowest first.

    Args:
        value: the number, at least 0.
    """
    more = b""
    while value >= 0x80:
        more += bytes([value & 0x7F | 0x80])
        value >>= 7
    return more + bytes([value])


def read_picture(path: Path) -> Pixels:
    """Read a picture that Pillow knows as RGB, [H, W, 3] in 8 bits.

    It is turned upright as its EXIF data says. Grey, palettes and CMYK become RGB, transparency is laid on
    white, and of several frames the first is taken. Grey of 16 bits is rounded to 8; of 16-bit colour, Pillow
    gives the upper 8 bits. Colour profiles are ignored. Signed and floating-point numbers are refused, and so
    is deep grey in a TIFF file of another depth, or with a white of zero: `nas compress` reads them.

    Args:
        path: path of the picture.

    Raises:
        InputError: it is no such picture, or it is damaged, or has more than `decoder.MAX_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata does not matter, and sizes have a limit below
            with Image.open(path) as image:
                if image.width * image.height > decoder.MAX_PIXELS:
                    raise decoder.InputError(
                        f"{path} has {image.width}x{image.height} pixels, more than {decoder.MAX_PIXELS} in "
                        "all: scale it down."
                    )
                image.load()
                return np.asarray(_upright(image, _rgb(image)))
    except decoder.InputError:
        raise
    except UnidentifiedImageError:
        raise decoder.InputError(f"{path} is no picture that Pillow can read: convert it to PNG.") from None
    except Exception as error:  # of any kind: Pillow's readers of damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise decoder.InputError(
            f"Cannot read the picture {path} ({' '.join(reason.split()).rstrip('.')}): check the path, or "
            "convert it to a PNG of 8 bits."
        ) from error


def _rgb(image: Image.Image) -> Image.Image:
    """A loaded picture in the mode RGB, as it is stored. ValueError says what is not supported."""
    from PIL import Image

    tags = getattr(image, "tag_v2", {})  # of a TIFF file
    if image.mode == "F" or set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        raise ValueError("its pixels are signed or floating-point numbers")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image, tags)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _from_16_bits(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Grey of 16 bits in 8. Of other formats than TIFF, Pillow scales deep grey to 16 bits itself."""
    from PIL import Image

    if tags and (tags.get(BITS_PER_SAMPLE), tags.get(PHOTOMETRIC)) != ((16,), 1):
        raise ValueError("it is grey of another depth than 8 and 16 bits, or its white is zero")
    values = np.asarray(image).astype(np.float64)
    if "transparency" in image.info:
        values[values == image.info["transparency"]] = DEEP
    grey = np.rint(values * (255 / DEEP)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    """Turn the pixels of a loaded picture as its EXIF data says, if that can be read."""
    from PIL import Image

    orientation = 1
    with suppress(Exception):  # of any kind: damaged metadata
        orientation = image.getexif().get(ORIENTATION, 1)
    turn = TURNS.get(orientation)
    return pixels.transpose(Image.Transpose[turn]) if turn else pixels


def check_output(out: Path, photo: Path, *, force: bool) -> None:
    """Refuse an output that exists, before any work is done.

    Args:
        out: the file to write.
        photo: the picture that is read, which is never replaced.
        force: replace an ordinary file.

    Raises:
        InputError: the output cannot be written, or must not be replaced.
    """
    if not out.parent.is_dir():
        raise decoder.InputError(f"There is no folder {out.parent}: make it, or choose another place.")
    if not out.exists():
        return
    if not out.is_file() or (photo.exists() and out.samefile(photo)):
        raise decoder.InputError(f"{out} cannot be replaced: choose another name for the .nic file.")
    if not force:
        raise decoder.InputError(f"{out} already exists: choose another name, or add --force.")


def write_whole(out: Path, data: bytes) -> None:
    """Write a file under a temporary name, then move it into place, so that no part of a file is left.

    Args:
        out: the file. What a link points to is replaced, not the link.
        data: its content.

    Raises:
        InputError: it cannot be written.
    """
    target = out.resolve()
    temporary = target.with_name(f".encoder-{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except OSError as error:
        raise decoder.InputError(f"Cannot write {out}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Code a picture as a .nic file.")
    parser.add_argument("photo", type=Path, help="a picture that Pillow reads")
    parser.add_argument("out", type=Path, help="the file to write, such as OUT.nic")
    parser.add_argument(
        "--quality",
        type=float,
        help="0 (smallest file) to 100 (best picture), for a codec over a range of rates",
    )
    parser.add_argument("--layout", help="name of the layout to code in, for a codec that has several")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    given = parser.parse_args()
    try:
        check_output(given.out, given.photo, force=given.force)
        data = encode(read_picture(given.photo), given.quality, given.layout)
        write_whole(given.out, data)
    except (decoder.InputError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
