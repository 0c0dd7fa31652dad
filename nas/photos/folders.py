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
    """Every wanted file below a folder, sorted; warns of how many other files there are.

    Files and folders that begin with a dot and `__MACOSX` are left out: copies and thumbnails lie there.
    Links are followed, but nothing is listed twice.

    Args:
        directory: the folder.
        wanted: whether a file is of the kind.
        what: what messages call such files, such as `images`.
        other: what messages call any other file, such as `no image`.
        hint: what such a folder needs, for the message that nothing is there.

    Raises:
        InputError: no such folder, one that cannot be read, or no such file in it.
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
        there = f"; there is {', '.join(reasons)}" if reasons else ""
        raise InputError(f"There are no {what} in {root}{there}: {hint}.")
    if reasons:
        warnings.warn(f"Left out of {root}: {', '.join(reasons)}.", InputWarning, stacklevel=3)
    return sorted(files.values())


def _entries(root: Path) -> Iterator[tuple[Path, str]]:
    """Everything below a folder but plain folders, each with the reason why it is left out, or an empty text.

    Links come after what they may point to: so a photo has its own name, not a link's.
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
