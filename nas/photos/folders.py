"""Walking folders for files of one kind."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from nas.support.errors import InputError, InputWarning

_TWICE = "listed under another name"


def list_files(
    directory: str | Path, wanted: Callable[[Path], bool], *, what: str, other: str, hint: str
) -> list[Path]:
    """List the wanted files below a folder, sorted. Warns with the number of other files.

    Files and folders that begin with a dot are left out, and so is `__MACOSX`, because they hold copies and
    thumbnails. Links are followed, but nothing is listed twice.

    Args:
        directory: the folder.
        wanted: returns whether a file is of the wanted kind.
        what: word for such files in messages, such as `images`.
        other: word for other files in messages, such as `no image`.
        hint: what the folder needs, for the message that it has no such file.

    Raises:
        InputError: the folder does not exist, cannot be read, or has no such file.
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give one that holds {what}.")
    files: dict[str, Path] = {}
    left_out: dict[str, list[str]] = {}
    for path, why in _entries(root):
        if not why and not wanted(path):
            why = other
        if not why and files.setdefault(os.path.realpath(path), path) is not path:
            why = _TWICE
        if why:
            left_out.setdefault(why, []).append(path.relative_to(root).as_posix())
    reasons = [f"{len(names)} {why} ({_some(names)})" for why, names in sorted(left_out.items())]
    if not files:
        there = f" (left out: {', '.join(reasons)})" if reasons else ""
        raise InputError(f"There are no {what} in {root}{there}: {hint}.")
    if reasons:
        warnings.warn(f"Left out of {root}: {', '.join(reasons)}.", InputWarning, stacklevel=3)
    return sorted(files.values())


def _entries(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield everything below a folder except plain folders, each with the reason to leave it out, or ''.

    Links come after the files that they may point to, so that a photo has its own name and not a link's.
    """
    own = Path(os.path.realpath(root))
    folders, linked_folders, linked_files, visited = [root], list[Path](), list[Path](), set[Path]()
    while folders or linked_folders:
        folder = (folders or linked_folders).pop(0)
        real = Path(os.path.realpath(folder))
        if real in visited or (folder != root and own.is_relative_to(real)):  # else loops would have no end
            yield folder, _TWICE
            continue
        visited.add(real)
        try:
            for path in sorted(folder.iterdir()):
                linked = path.is_symlink()
                if path.name.startswith(".") or path.name == "__MACOSX":
                    yield path, "hidden"
                elif path.is_dir():
                    (linked_folders if linked else folders).append(path)
                elif linked and path.is_file():
                    linked_files.append(path)
                else:
                    yield path, "" if path.is_file() else "no file"
        except OSError as error:
            raise InputError(f"Cannot read the folder {folder}: {error.strerror}.") from error
    yield from ((path, "") for path in linked_files)


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join([*names[:most], "..."] if len(names) > most else names)
