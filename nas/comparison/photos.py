"""The photos of a folder, read when they are needed: a long list of large ones does not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from nas.photos.images import BUNDLED, Photo, bundled, list_images, read_image
from nas.photos.split import read_all
from nas.support.progress import Report, silent


class Folder(Sequence[Photo]):
    """Every photo below a folder, by its path from there.

    Args:
        root: the folder.

    Raises:
        InputError: no such folder, or no image in it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.paths = list_images(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Photo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Photo]: ...
    def __getitem__(self, index: int | slice) -> Photo | Sequence[Photo]:
        if isinstance(index, slice):
            return [self._read(path) for path in self.paths[index]]
        return self._read(self.paths[index])

    def _read(self, path: Path) -> Photo:
        return Photo(path.relative_to(self.root).as_posix(), read_image(path))


def evaluation_photos(data: str | Path, report: Report = silent) -> Sequence[Photo]:
    """Every photo below a folder, or the demo's test photo for `bundled`; each was read once, to be sure.

    Args:
        data: folder of the photos, or `bundled`.
        report: called as the work goes on.

    Raises:
        InputError: no such folder, no image in it, or some that cannot be read, all of which are named.
    """
    if str(data) == BUNDLED:
        return bundled()["test"]
    photos = Folder(data)
    for done, (path, _) in enumerate(read_all(photos.paths), 1):
        report(done, len(photos), path.name)
    report(len(photos), len(photos), "")
    return photos
