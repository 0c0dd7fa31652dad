"""Training photos: the split, and random crops of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas.errors import InputError
from nas.files import digest, write_atomically
from nas.images import Photo, list_images, read_image

SPLITS = ("train", "calibration", "held-out")


def split_folder(directory: str | Path) -> dict[str, list[Path]]:
    """A folder's photos in three: train, calibration, held-out (80/10/10, at least one each).

    The order of a hash of the file names decides, so the same folder is always split alike.

    Raises:
        InputError: fewer than three photos.
    """
    root = Path(directory)
    photos = list_images(root)
    if len(photos) < 3:
        raise InputError(
            f"{root} holds {len(photos)} photos: at least three are needed, to train and to test."
        )
    ranked = sorted(photos, key=lambda path: digest(path.relative_to(root).as_posix()))
    tenth = max(1, round(len(photos) / 10))
    parts = ranked[2 * tenth :], ranked[:tenth], ranked[tenth : 2 * tenth]
    return {name: sorted(part) for name, part in zip(SPLITS, parts, strict=True)}


def write_split(path: Path, split: dict[str, list[Path]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["split", "photo"])
    writer.writerows([name, str(photo)] for name in SPLITS for photo in split.get(name, []))
    write_atomically(path, buffer.getvalue())


def read_split(path: Path) -> dict[str, list[Path]]:
    """The split a run was made with."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [Path(row["photo"]) for row in rows if row["split"] == name] for name in SPLITS}
    except (OSError, KeyError) as error:
        raise InputError(f"Cannot read {path}, which lists the run's photos: restore it.") from error


def load_photos(paths: Sequence[Path]) -> list[Photo]:
    """Photos decoded once, kept as 8-bit pixels."""
    return [Photo(path.name, read_image(path)) for path in paths]


class Crops:
    """Random square crops of photos, each from a randomly reduced version of its photo, flipped at random.

    Args:
        photos: decoded photos; smaller ones than the crop are enlarged.
        crop: side in pixels, a multiple of 64.
        batch: crops per batch.
        seed: of its own generator, whose state `state` and `restore` carry.
    """

    # Reducing by up to this factor hides the artefacts of JPEG sources and varies the content's scale.
    largest_reduction = 2.0

    def __init__(self, photos: Sequence[Photo], *, crop: int, batch: int, seed: int) -> None:
        if crop % 64 or crop < 64:
            raise InputError(f"Crops must be a multiple of 64 pixels, not {crop}: set crop=64, 128, 256, ...")
        self._images = [Image.fromarray(photo.pixels) for photo in photos]
        self._weights = np.array([photo.size for photo in photos], dtype=float) / sum(p.size for p in photos)
        self.crop, self.batch = crop, batch
        self._rng = np.random.default_rng(seed)

    def next(self) -> Tensor:
        """A batch in [0, 1], [batch, 3, crop, crop]."""
        picks = self._rng.choice(len(self._images), size=self.batch, p=self._weights)
        crops = np.stack([self._crop(self._images[pick]) for pick in picks])
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255

    def _crop(self, image: Image.Image) -> np.ndarray:
        most = min(self.largest_reduction, min(image.size) / self.crop)
        factor = most if most < 1 else self._rng.uniform(1, most)
        side = self.crop * factor
        left = self._rng.uniform(0, image.width - side)
        top = self._rng.uniform(0, image.height - side)
        if factor < 1.05 and most >= 1:  # too little to be worth resampling
            x, y = int(left), int(top)
            part = image.crop((x, y, x + self.crop, y + self.crop))
        else:
            box = (left, top, left + side, top + side)
            part = image.resize(
                (self.crop, self.crop), Image.Resampling.BOX if factor > 1 else Image.Resampling.BICUBIC, box
            )
        pixels = np.asarray(part)
        return pixels[:, ::-1] if self._rng.random() < 0.5 else pixels

    def state(self) -> dict[str, object]:
        return dict(self._rng.bit_generator.state)

    def restore(self, state: dict[str, object]) -> None:
        self._rng.bit_generator.state = state
