"""Photos in and out: reading any image file, tensors, padding, PSNR."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION
from torch import Tensor

from nas.errors import InputError
from nas.files import write_atomically

Pixels = NDArray[np.uint8]

MAX_PIXELS = 1 << 27  # of one picture, unless more are asked for: two of 8192x8192
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"}


def read_image(path: str | Path) -> Pixels:
    """An image file as RGB, [H, W, 3], 8 bits: EXIF rotation applied, grey, palette and CMYK expanded.

    Transparency is flattened onto white. Of several frames or pages the first is read. Colours are taken as
    sRGB: an embedded profile is ignored. Grey of more than 8 bits is rounded to 8; of 16-bit colour Pillow
    hands out the upper 8 bits, which are taken, and a transparent colour among them is not.

    Raises:
        InputError: the file is missing, unreadable, no image, or of more than `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        with _open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS} in all: "
                    "scale it down."
                )
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                return _deep_grey(image)
            if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                layer = image.convert("RGBA")
                flat = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
                return np.asarray(flat.convert("RGB"))
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"There is no image {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: give one image file.") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that Pillow can read.") from None
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise InputError(f"Cannot read the image {path}: {error}.") from error


def _open(path: Path) -> Image.Image:
    """Pillow's image without its warning about large ones: there is a limit here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def _deep_grey(image: Image.Image) -> Pixels:
    """Grey of more than 8 bits in 8: whole numbers are of 16 bits, floats of a range up to 1 or 255."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    if image.mode == "F":
        scaled = values * (255 if values.max(initial=0) <= 1 else 1)
    else:
        white_is_zero = getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0
        scaled = (65535 - values if white_is_zero else values) / 257
        if "transparency" in image.info:
            scaled[values == image.info["transparency"]] = 255
    grey = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def write_image(path: Path, pixels: Pixels) -> None:
    """Write 8-bit RGB pixels in the format of the file's name (PNG, PPM, TIFF, ...)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=check_format(path))
    write_atomically(path, buffer.getvalue())


def check_format(path: Path) -> str:
    """Pillow's name for the format a picture's file name asks for; InputError where there is none."""
    name = Image.registered_extensions().get(path.suffix.lower())
    if name is None or path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} does not say which image format to write: name it .png, say.")
    return name


def list_images(directory: str | Path) -> list[Path]:
    """Every image file below a folder, sorted.

    Raises:
        InputError: no such folder, or no image in it.
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give one that holds photos.")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(
            f"There are no images in {root}: it needs files such as {', '.join(sorted(SUFFIXES))}."
        )
    return found


def to_tensor(pixels: Pixels) -> Tensor:
    """8-bit pixels [H, W, 3] as a batch of one in [0, 1], [1, 3, H, W]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def to_pixels(x: Tensor) -> Pixels:
    """An image [1, 3, H, W] clamped to [0, 1] and rounded to 8 bits, [H, W, 3]."""
    return (x[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def pad(x: Tensor, multiple: int) -> Tensor:
    """Mirror an image beyond its bottom and right edge until its sides are multiples of a number."""
    height, width = x.shape[-2:]
    rows = _mirror(height, -(-height // multiple) * multiple).to(x.device)
    columns = _mirror(width, -(-width // multiple) * multiple).to(x.device)
    return x if len(rows) == height and len(columns) == width else x[..., rows[:, None], columns]


class Padded:
    """A picture in 8 bits, mirrored as by `pad`, that becomes a tensor only where it is read.

    `padded[..., rows, columns]` is what `pad(to_tensor(pixels), multiple)[..., rows, columns]` would be.

    Args:
        pixels: [H, W, 3].
        multiple: what both sides are padded to multiples of.
        device: of the tensors.
    """

    def __init__(self, pixels: Pixels, multiple: int, device: torch.device | str = "cpu") -> None:
        self._pixels, self._device = pixels, device
        self._places = [_mirror(side, -(-side // multiple) * multiple).numpy() for side in pixels.shape[:2]]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the padded picture as a batch of one, [1, 3, H, W]."""
        return 1, 3, len(self._places[0]), len(self._places[1])

    def __getitem__(self, place: tuple[EllipsisType, slice, slice]) -> Tensor:
        """A crop in [0, 1]: [1, 3, rows, columns]."""
        _, rows, columns = place
        crop = self._pixels[self._places[0][rows, None], self._places[1][columns]]
        return to_tensor(crop).to(self._device)


def _mirror(size: int, wanted: int) -> Tensor:
    """Indexes 0 .. size-1 .. 0 .. as far as wanted, the edge not repeated; works for a size of 1."""
    period = max(1, 2 * (size - 1))
    place = torch.arange(wanted) % period
    return torch.minimum(place, period - place) if size > 1 else torch.zeros(wanted, dtype=torch.long)


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of two 8-bit images, dB."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@dataclass(frozen=True)
class Photo:
    """One photo held in memory."""

    name: str
    pixels: Pixels

    @property
    def size(self) -> int:
        """Pixels."""
        return self.pixels.shape[0] * self.pixels.shape[1]


def fingerprint(photos: list[Photo]) -> str:
    """A short name for a set of photos, from their contents."""
    hasher = hashlib.blake2b(digest_size=6)
    for photo in photos:
        hasher.update(repr(photo.pixels.shape).encode() + photo.pixels.tobytes())
    return hasher.hexdigest()


BUNDLED = "bundled"  # as --data


def bundled() -> dict[str, list[Photo]]:
    """The photos that scikit-image and matplotlib carry, by what the demo uses them for.

    motorcycle_right is left out: it is motorcycle_left's twin.
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
