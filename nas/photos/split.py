"""Splits the photos of `--data` once into training, calibration and held-out photos."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Protocol

from nas.photos.images import BUNDLED, Photo, Pixels, bundled, list_images, read_image
from nas.support.errors import InputError, SeveralInputsError
from nas.support.files import digest
from nas.support.tables import read_rows, write_rows

SPLITS = ("train", "calibration", "held-out")


def split_folder(directory: str | Path) -> dict[str, list[Path]]:
    """Split a folder's photos into train, calibration and held-out (80/10/10, at least one each).

    A hash of the file names decides, so the same folder is always split in the same way. Copies of one file
    are in the same part, so that no test photo was trained on under another name.

    Args:
        directory: the folder. Its subfolders are searched as well.

    Raises:
        InputError: there are fewer than three different photos.
    """
    root = Path(directory)
    photos = list_images(root)
    ranked = _copies(sorted(photos, key=lambda path: digest(path.relative_to(root).as_posix())))
    if len(ranked) < 3:
        differ = f", of which {len(ranked)} differ" if len(ranked) < len(photos) else ""
        raise InputError(
            f"{root} holds {len(photos)} photos{differ}: at least three are needed, to train and to test."
        )
    tenth = max(1, round(len(ranked) / 10))
    parts = ranked[2 * tenth :], ranked[:tenth], ranked[tenth : 2 * tenth]
    return {name: sorted(chain.from_iterable(part)) for name, part in zip(SPLITS, parts, strict=True)}


def _copies(paths: Sequence[Path]) -> list[list[Path]]:
    """The files in order, with those of the same content grouped at the place of the first one."""
    sizes = Counter(path.stat().st_size if path.is_file() else None for path in paths)
    by_content: dict[str, list[Path]] = {}
    for path in paths:
        content = str(path)
        if path.is_file() and sizes[path.stat().st_size] > 1:
            with suppress(OSError), open(path, "rb") as file:  # one that cannot be read is told of later
                content = hashlib.file_digest(file, "blake2b").hexdigest()
        by_content.setdefault(content, []).append(path)
    return list(by_content.values())


def split_of(data: str) -> dict[str, list[Path]]:
    """Split the photos of `--data`: see `split_folder`. The bundled photos are given by name.

    Args:
        data: a folder of photos, or `bundled`.

    Raises:
        InputError: there are too few photos, or none.
    """
    if data != BUNDLED:
        return split_folder(data)
    parts = bundled()
    names = {"train": "train", "calibration": "calibration", "held-out": "test"}
    return {name: [Path(photo.name) for photo in parts[part]] for name, part in names.items()}


def write_split(path: Path, split: dict[str, list[Path]]) -> None:
    """Write the part of each photo in a split, as CSV.

    Args:
        path: the file.
        split: files of the photos by part: `train`, `calibration`, `held-out`.
    """
    rows = ({"split": name, "photo": photo} for name in SPLITS for photo in split.get(name, []))
    write_rows(path, ("split", "photo"), rows)


def read_split(path: Path) -> dict[str, list[Path]]:
    """Read the split of a run.

    Args:
        path: path of the split.csv.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        rows = read_rows(path)
        return {name: [Path(row["photo"]) for row in rows if row["split"] == name] for name in SPLITS}
    except (InputError, KeyError) as error:
        raise InputError(
            f"Cannot read {path}, which lists the run's photos: restore it, or train a new run."
        ) from error


def shared_photos(photos: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """The photos that are also among others, by content. Files that no longer exist are in no set.

    Args:
        photos: files of photos.
        others: files of other photos.
    """
    other_digests = {digest(other.read_bytes()) for other in others if other.is_file()}
    return [photo for photo in photos if photo.is_file() and digest(photo.read_bytes()) in other_digests]


def read_all(paths: Sequence[Path]) -> Iterator[tuple[Path, Pixels]]:
    """Yield each photo with its pixels, one at a time. Unreadable ones are reported together at the end.

    Args:
        paths: paths of the photos.

    Raises:
        InputError: raised after the last photo if some cannot be read.
    """
    bad = []
    for path in paths:
        try:
            pixels = read_image(path)
        except InputError as error:
            bad.append(error)
        else:
            yield path, pixels
    if len(bad) == 1:
        raise bad[0]
    if bad:
        raise SeveralInputsError(f"{len(bad)} photos cannot be used, so remove them", list(map(str, bad)))


def load_photos(paths: Sequence[Path]) -> list[Photo]:
    """Decode photos once, as 8-bit pixels. An InputError names all that cannot be read.

    Args:
        paths: paths of the photos.
    """
    return [Photo(path.name, pixels) for path, pixels in read_all(paths)]


def training_photos(data: str, split: Mapping[str, list[Path]]) -> list[Photo]:
    """The training photos. Photos of the other parts are read, too, to find damaged ones.

    Args:
        data: folder of the photos, or `bundled`.
        split: files of the photos by part: `train`, `calibration`, `held-out`.
    """
    if data == BUNDLED:
        return part_of(data, split, "train")
    train, photos = set(split["train"]), []
    for path, pixels in read_all([path for name in SPLITS for path in split[name]]):
        if path in train:
            photos.append(Photo(path.name, pixels))
    return photos


class HasPhotos(Protocol):
    """Anything with photos, such as a run."""

    @property
    def data(self) -> str:
        """The source of the photos: a folder, or `bundled`."""

    def split(self) -> dict[str, list[Path]]:
        """Files of the photos by part: `train`, `calibration`, `held-out`."""


def photos_of(run: HasPhotos, part: str, most: int | None = None) -> list[Photo]:
    """The photos of one part of a run's split (train, calibration, held-out), the first `most` of them.

    Args:
        run: a run.
        part: `train`, `calibration` or `held-out`.
        most: largest number of photos. By default all are used.
    """
    return part_of(run.data, run.split(), part, most)


def part_of(data: str, split: Mapping[str, list[Path]], part: str, most: int | None = None) -> list[Photo]:
    """The photos of one part of `--data`, according to `split`: train, calibration or held-out.

    Args:
        data: folder of the photos, or `bundled`.
        split: files of the photos by part.
        part: `train`, `calibration` or `held-out`.
        most: largest number of photos to decode.
    """
    if data != BUNDLED:
        return load_photos(split[part][:most])
    carried = {photo.name: photo for photos in bundled().values() for photo in photos}
    missing = [path.name for path in split[part] if path.name not in carried]
    if missing:
        raise InputError(f"No package carries a photo {missing[0]}: bundled are {', '.join(carried)}.")
    return [carried[path.name] for path in split[part]][:most]
