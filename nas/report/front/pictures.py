"""Decoded pictures for the report page: one detail of a held-out photo, coded along the front."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nas.report.front.costs import Cost
from nas.report.front.fronts import RunFront
from nas.support.progress import StageReport, silent

if TYPE_CHECKING:
    from nas.photos.images import Photo, Pixels
    from nas.run import Run

PICTURE_SIDE = 256  # side of the detail in pixels
MOST_PICTURES = 12  # default number of pictures on a page
PICTURE_QUALITY = 15  # quality of the file that sets the size limit; low enough to show differences
_WEBP = 92  # quality for browsers; the compared files are .nic files


@dataclass(frozen=True)
class Picture:
    """The detail as one architecture codes it.

    Attributes:
        image: the decoded detail as a data URL.
        bytes: size of its .nic file.
        psnr: PSNR of the decoded detail, in dB.
    """

    image: str
    bytes: int
    psnr: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for the report page."""
        return {"image": self.image, "bytes": self.bytes, "psnr": round(self.psnr, 2)}


@dataclass(frozen=True)
class Pictures:
    """The detail of one run's photo, and its decoded versions.

    Attributes:
        photo: name of the photo.
        original: the detail as a data URL.
        width, height: size of the detail in pixels.
        most_bytes: size limit of all files, or None if the codecs have one rate and no quality to choose.
        jpeg: a JPEG file of about that size, for comparison.
        decoded: decoded versions by key.
    """

    photo: str
    original: str
    width: int
    height: int
    most_bytes: int | None = None
    jpeg: Picture | None = None
    decoded: Mapping[str, Picture] = field(default_factory=dict)


def along_the_front(run: RunFront, cost: Cost, count: int) -> list[str]:
    """Keys of architectures to show, the cheapest first: exported ones, answers, and others along the front.

    Args:
        run: a run's front.
        cost: the cost of the front.
        count: largest number of keys.
    """
    front = run.on_front(cost)
    chosen = [run.front.loc[index, "arch"] for index in run.chosen(cost).values()]
    first = dict.fromkeys([*run.front.loc[run.exported & ~run.between, "arch"], *chosen])
    keys = dict.fromkeys(list(first)[:count])
    others = [key for key in front["arch"] if key not in keys]
    room = min(count - len(keys), len(others))
    places = [round(k * (len(others) - 1) / max(1, room - 1)) for k in range(room)]
    keys |= dict.fromkeys(others[index] for index in places)
    ordered = run.front.sort_values([cost.column, "rd_loss"], kind="stable")["arch"]
    return [key for key in ordered if key in keys]


def decode_pictures(run: Run, keys: Sequence[str], report: StageReport = silent) -> Pictures:
    """Compress and decode the detail with some architectures of a run.

    Codecs over a range of rates are compared at equal bytes: no file exceeds the size of the first codec's
    file at a low quality. Codecs of one rate have a single size.

    Args:
        run: a trained run.
        keys: keys of the architectures.
        report: called as the work goes on.

    Raises:
        InputError: the run's weights or its held-out photo cannot be read.
    """
    from nas.codec.codec import Codec
    from nas.photos.images import Photo
    from nas.photos.split import photos_of
    from nas.weights.checkpoint import supernet_of

    photo = photos_of(run, "held-out", 1)[0]
    detail = _detail(photo.pixels)
    supernet = supernet_of(run)
    decoded: dict[str, Picture] = {}
    most_bytes: int | None = None
    for done, key in enumerate(keys):
        report("decoding pictures", done, len(keys), "")
        architecture = run.space.parse(key)
        codec = Codec(supernet.extract(architecture), architecture)
        decoded[key], size = _decoded(codec, detail, most_bytes)
        if codec.rates and most_bytes is None:
            most_bytes = size
    report("decoding pictures", len(keys), len(keys), "")
    height, width = detail.shape[:2]
    jpeg = _jpeg(Photo(photo.name, detail), most_bytes) if most_bytes is not None else None
    return Pictures(photo.name, _url(detail), width, height, most_bytes, jpeg, decoded)


def _decoded(codec: Any, detail: Pixels, most_bytes: int | None) -> tuple[Picture, int]:
    """Code and decode the detail. Returns the picture and the size of its file."""
    from nas.codec.bitstream import compress_image, decompress_image
    from nas.codec.family import CodecFamily
    from nas.codec.recode import compress_smallest
    from nas.photos.images import psnr
    from nas.support.errors import InputError

    nic = compress_image(codec, detail, quality=PICTURE_QUALITY if codec.rates else None)
    if most_bytes is not None:
        family = CodecFamily(codec)
        try:
            nic = compress_smallest(family, detail, list(family.layouts), most_bytes=most_bytes)
        except InputError:  # even the lowest quality is too large
            nic = compress_image(codec, detail, quality=0)
    pixels = decompress_image(codec, nic)
    size = len(nic.to_bytes())
    return Picture(_url(pixels), size, psnr(detail, pixels)), size


def _jpeg(photo: Photo, size: int) -> Picture:
    """The detail as a JPEG file of about the given size."""
    import numpy as np
    from PIL import Image

    from nas.comparison.formats import encode, nearest_size

    matched = nearest_size("jpeg", photo, size)
    with Image.open(io.BytesIO(encode("jpeg", photo, matched.quality))) as image:
        return Picture(_url(np.asarray(image.convert("RGB"))), matched.bytes, matched.psnr)


def _detail(pixels: Pixels) -> Pixels:
    """A square from the middle of a photo, or slightly above it, where faces usually are."""
    import numpy as np

    height, width = (min(PICTURE_SIDE, side) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 3, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _url(pixels: Pixels) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_WEBP, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
