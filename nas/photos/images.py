"""Reading and writing of image files, and PSNR."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import stat
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from nas.photos.folders import list_files
from nas.photos.headers import START, check_header, may_be_picture, readable_formats
from nas.photos.metadata import JPEG, PNG, StrippedImage, strip_metadata, without_exif
from nas.support.errors import InputError, InputWarning
from nas.support.files import write_atomically
from nas.support.limits import MAX_BYTES, PICTURE_SUFFIXES
from nas.support.limits import MAX_PIXELS as MAX_PIXELS

Pixels = NDArray[np.uint8]


# Of zlib: photos take 1 % more bytes than at the usual 6, in half the time
_PNG_LEVEL = 4

# The longest sides of formats with the tightest limits, in pixels.
_LONGEST = {"JPEG": 65500, "WEBP": 16383}

_NO_IMAGE = "{} is not an image that Pillow can read: convert it to PNG."

# By the value of the orientation in EXIF, what rows and columns are turned into: columns, rows, swapped.
_TURNS = {
    2: (-1, 1, False),
    3: (-1, -1, False),
    4: (1, -1, False),
    5: (1, 1, True),
    6: (-1, 1, True),
    7: (-1, -1, True),
    8: (1, -1, True),
}


def read_image(path: str | Path) -> Pixels:
    """An image file as RGB, [H, W, 3], 8 bits: its orientation applied, grey, palette and CMYK expanded.

    Only pixels and orientation are used, and other metadata is ignored. Transparency is flattened onto white.
    Of several frames or pages the first one is read, with a warning. Colours are taken as sRGB, and embedded
    profiles are ignored. Grey of more than 8 bits is rounded to 8, by the depth and the sign that the file
    states. Of 16-bit colour, Pillow gives the upper 8 bits, which are used; a transparent colour in such a
    file is ignored.

    Args:
        path: path of the image file.

    Raises:
        InputError: the file is missing, unreadable, damaged, not an image, or has more than `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = [read_content(file, str(path))]
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"There is no image {path}: check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: give one image file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot read the image {path}: {reason}.") from error
    return image_of(data.pop(), str(path))


def read_content(file: IO[bytes], source: str) -> bytes:
    """Read a whole image file. If it cannot be one, reading stops: a device or a stream may be endless.

    Args:
        file: the file, open for reading.
        source: name of the file in messages.

    Raises:
        InputError: the beginning is not that of a picture, or the file is too long.
        OSError: the file cannot be read.
    """
    status = os.fstat(file.fileno()) if isinstance(file, io.BufferedReader) else None
    if status is not None and stat.S_ISREG(status.st_mode):
        data, too_long = b"", status.st_size > MAX_BYTES
    else:
        data, too_long = file.read(START), False
        if not may_be_picture(data):
            raise InputError(_NO_IMAGE.format(source))
    if not too_long:
        data += file.read(MAX_BYTES + 1 - len(data))
    if too_long or len(data) > MAX_BYTES:
        raise InputError(
            f"{source} has more than {MAX_BYTES} bytes, too many for one picture: scale it down."
        )
    return data


def image_of(data: bytes, source: str) -> Pixels:
    """Decode an image file in memory, [H, W, 3]. See `read_image`.

    Args:
        data: the file's bytes.
        source: name of the file in messages.

    Raises:
        InputError: it is damaged, not an image, or has more than `MAX_PIXELS`.
    """
    try:
        bare_file = strip_metadata(data)
        del data
        # A large picture and odd metadata are no reason for a warning: there is a limit to sizes here
        with _opened(bare_file) as image, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{source} has {image.width}x{image.height} pixels, more than {MAX_PIXELS} in all: "
                    "scale it down."
                )
            check_header(image, bare_file.data)
            frames = max(bare_file.frames, _frames(image))
            image.load()
            undefined = int(np.isnan(np.asarray(image)).sum()) if image.mode == "F" else 0
            pixels = _turned(_rgb(image), _orientation(image))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(_NO_IMAGE.format(source)) from None
    except Exception as error:  # of any kind: decoders of damaged files
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"Cannot read the image {source}: {error.strerror}.") from error
        reason = (str(error) or type(error).__name__).rstrip(".")
        raise InputError(
            f"Cannot read the image {source} ({reason}): get it again, or convert it to PNG."
        ) from error
    if frames > 1:
        warnings.warn(f"{source} holds {frames} pictures: the first is taken.", FramesWarning, stacklevel=2)
    if undefined:
        warnings.warn(
            f"{source} has {undefined} pixels that are not numbers (NaN): they are taken as black.",
            InputWarning,
            stacklevel=2,
        )
    return pixels


class FramesWarning(InputWarning):
    """A file holds several pictures, such as an animation, and only one of them is read."""


def _opened(bare_file: StrippedImage) -> Image.Image:
    """Pillow's image, with the orientation that the file states."""
    try:
        image = _identified(io.BytesIO(bare_file.data))
    except Exception:
        if not bare_file.data[4:8] == b"ftyp":
            raise
        # Pillow writes odd EXIF anew, and stumbles
        image = _identified(io.BytesIO(without_exif(bare_file.data)))
    for name, block in (("exif", bare_file.exif), ("xmp", bare_file.xmp)):
        if block:
            image.info[name] = block
    return image


def _identified(file: IO[bytes]) -> Image.Image:
    """Pillow's image of an open file: of a file, not of a path, which it might map and then turn wrongly."""
    with warnings.catch_warnings():  # there is a limit to sizes here, and odd metadata does not matter
        warnings.simplefilter("ignore")
        for load in (Image.preinit, Image.init):  # the common formats first; loading all takes longer
            load()
            with contextlib.suppress(UnidentifiedImageError):
                return Image.open(file, formats=readable_formats())
            file.seek(0)
    raise UnidentifiedImageError


def _frames(image: Image.Image) -> int:
    """Number of frames or pages. The layers of a Photoshop file count as one picture."""
    try:
        return 1 if image.format == "PSD" else getattr(image, "n_frames", 1)
    except Exception:  # a damaged second one is not needed
        return 1


def _orientation(image: Image.Image) -> int:
    """The orientation, 1 to 8 as in EXIF. 1 if the file states none, or if it cannot be read.

    Pillow applies and drops the orientation of TIFF files itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if orientation in _TURNS else 1
    except Exception:
        return 1


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    if orientation not in _TURNS:
        return pixels
    columns, rows, swapped = _TURNS[orientation]
    upright = pixels.swapaxes(0, 1) if swapped else pixels
    return np.ascontiguousarray(upright[::rows, ::columns])


def _rgb(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey(image)
    if getattr(image, "tag_v2", {}).get(SAMPLEFORMAT) == (2,) and image.mode == "L":
        return np.repeat(np.asarray(image)[..., None] ^ 0x80, 3, 2)  # signed
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return np.asarray(flat.convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_grey(image: Image.Image) -> Pixels:
    """Grey of more than 8 bits in 8: integers over the range that the file states, floats up to 1 or 255."""
    tags = getattr(image, "tag_v2", {})
    white_is_zero = tags.get(PHOTOMETRIC_INTERPRETATION) == 0
    values = np.asarray(image)
    if image.mode == "F":
        finite = values[np.isfinite(values)]
        low, high = 0, 1 if finite.max(initial=0) <= 1 else 255
        levels = np.nan_to_num(values.astype(np.float64), posinf=high, neginf=low)
    else:
        signed = tags.get(SAMPLEFORMAT, (1,))[0] == 2
        bits = tags.get(BITSPERSAMPLE, (16,))[0]  # other files than TIFF are scaled to 16 by Pillow
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        levels = (values if signed or bits < 32 else values.view(np.uint32)).astype(np.float64)
    scaled = (levels - low) * (255 / (high - low))
    if white_is_zero:
        scaled = 255 - scaled
    if image.mode != "F" and "transparency" in image.info:
        scaled[values == image.info["transparency"]] = 255
    grey = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def write_image(path: Path, pixels: Pixels) -> None:
    """Write 8-bit pixels in the format of the file's name (PNG, PPM, TIFF, ...).

    Args:
        path: the file.
        pixels: the picture, [H, W, 3], or [H, W] for a grey one: see `encoded`.

    Raises:
        InputError: the format does not exist or cannot hold so many pixels a side, or the file cannot be
            written.
    """
    write_atomically(path, encoded(pixels, check_format(path), str(path)))


def encoded(pixels: Pixels, format: str, name: str) -> bytes:
    """Encode 8-bit pixels as the bytes of an image file.

    Args:
        pixels: the picture, [H, W, 3] in RGB, or [H, W] for a grey one. The latter becomes a grey image file,
            or one in RGB where the format has no grey (WebP) or its name promises colours (PPM).
        format: Pillow's name for the format.
        name: name of the file in messages.

    Raises:
        InputError: the format cannot hold so many pixels a side.
    """
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    try:
        if max(width, height) > _LONGEST.get(format, math.inf):  # else libjpeg has its own say on stderr
            raise ValueError("too long a side")
        options = {"compress_level": _PNG_LEVEL} if format == "PNG" else {}
        image = Image.fromarray(pixels)
        (image.convert("RGB") if format == "PPM" else image).save(buffer, format=format, **options)
    except (OSError, ValueError, struct.error) as error:
        raise InputError(
            f"{name}: {format} cannot hold a picture of {width}x{height} pixels: choose a name that ends in "
            ".png."
        ) from error
    return buffer.getvalue()


def check_format(path: Path) -> str:
    """Pillow's name for the format of a file name. InputError if there is none.

    Args:
        path: path of the file to write.
    """
    suffix = path.suffix.lower()
    Image.preinit()  # the common formats; loading all takes longer
    name = Image.EXTENSION.get(suffix) or Image.registered_extensions().get(suffix)
    if name is None or suffix not in PICTURE_SUFFIXES:
        raise InputError(
            f"{path} does not say which image format to write: choose a name that ends in .png, for example."
        )
    return name


def list_images(directory: str | Path) -> list[Path]:
    """List the image files below a folder, sorted. Warns with the number of other files.

    The content of a file decides. A file that is a picture only by its name is listed too, and reading it
    then fails. Files and folders that begin with a dot are left out, and so is `__MACOSX`, because they hold
    copies and thumbnails. Links are followed, but nothing is listed twice.

    Args:
        directory: the folder. Its subfolders are searched as well.

    Raises:
        InputError: the folder does not exist, cannot be read, or has no image.
    """
    return list_files(
        directory,
        _is_image,
        what="images",
        other="no image",
        hint="it needs photos, such as .png or .jpg files",
    )


def _is_image(path: Path) -> bool:
    """Whether a file is a picture, or only its name says so."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            if file.read(len(PNG)).startswith((PNG, JPEG)):  # whatever metadata they have
                return True
            file.seek(0)
            _identified(file).close()
    except UnidentifiedImageError:
        return False
    except Exception:  # one of a kind that Pillow knows, or one that may not be read: reading it says more
        return True
    return True


def central_square(pixels: Pixels, side: int) -> Pixels:
    """The central square of a picture. Of a smaller picture it is the whole or a strip.

    Args:
        pixels: 8-bit RGB, [H, W, 3].
        side: side of the square, in pixels.

    Returns:
        [min(H, side), min(W, side), 3].
    """
    top, left = (max(0, length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of two 8-bit images, dB.

    Args:
        a: one image, [H, W, 3].
        b: the other image, of the same shape.
    """
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@dataclass(frozen=True)
class Photo:
    """One decoded photo in memory.

    Attributes:
        name: name of the photo.
        pixels: 8-bit RGB, [H, W, 3].
    """

    name: str
    pixels: Pixels

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.pixels.shape[0] * self.pixels.shape[1]


def fingerprint(photos: list[Photo]) -> str:
    """A short hash of the contents of some photos."""
    hasher = hashlib.blake2b(digest_size=6)
    for photo in photos:
        hasher.update(repr(photo.pixels.shape).encode() + photo.pixels.tobytes())
    return hasher.hexdigest()


BUNDLED = "bundled"  # value of --data


def bundled() -> dict[str, list[Photo]]:
    """The photos that scikit-image and matplotlib carry, by their part in the demo.

    motorcycle_right is left out, because it shows the same scene as motorcycle_left.
    """
    from matplotlib.cbook import get_sample_data
    from skimage import data

    def photo(name: str) -> Photo:
        path = Path(data.__file__).parent / name
        return Photo(name, read_image(path))

    hopper = get_sample_data("grace_hopper.jpg", asfileobj=False)
    return {
        "train": [photo(n) for n in ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")],
        "calibration": [Photo("grace_hopper.jpg", read_image(str(hopper)))],
        "test": [photo("astronaut.png")],
    }
