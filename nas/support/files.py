"""Writes results: files are replaced atomically, and nothing is replaced without permission."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from nas.support.errors import InputError

MOST_NAME_BYTES = 255  # limit of a name on nearly every file system
MOST_PATH_BYTES = 4096 - 1 - MOST_NAME_BYTES  # limit of a folder's path on Linux, with room for a file in it
LOCK = ".training.lock"  # in a folder in which one process trains
# By which file, and how it begins, a folder is known that may be replaced
_KNOWN_BY = {
    "run": ("config.yaml", "format: nas-run"),
    "codec": ("codec.yaml", "format: nas-codec"),
    "folder of pieces": ("pieces.json", '{"format": "nas-pieces'),
}


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file under a temporary name, then move it into place.

    What a link points to is replaced, not the link. Pipes and devices are written into.

    Args:
        path: the file. Its folder is made where there is none.
        content: content of the file, as bytes or text.

    Raises:
        InputError: it cannot be written there.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    temporary = None
    try:
        if _is_stream(path):
            with open(path, "wb") as stream:
                stream.write(data)
            return
        target = link_target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(target)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def link_target(path: Path) -> Path:
    """The target of a path after following links, whether it exists or not."""
    return Path(os.path.realpath(path))


def temporary_name(path: Path) -> Path:
    """A hidden name beside a path for what will be moved there, short whatever the path's own name is."""
    return path.with_name(f".nas-{digest(path.name, size=6)}-{os.getpid()}.tmp")


def sibling_path(path: Path, before: str, after: str) -> Path:
    """A path next to another one: its name with a text before it and another text instead of its suffix.

    Args:
        path: the path.
        before: text before the name.
        after: text after the name, with the new suffix.
    """
    name = os.fsencode(f"{before}{path.stem}{after}")
    if len(name) <= MOST_NAME_BYTES:
        return path.with_name(os.fsdecode(name))
    after = f"-{digest(path.stem, size=4)}{after}"
    room = MOST_NAME_BYTES - len(os.fsencode(before + after))
    return path.with_name(before + os.fsencode(path.stem)[:room].decode(errors="ignore") + after)


def _mode(path: Path) -> int | None:
    """The type of the file at a path (see `stat.S_ISDIR` and so on), or None if there is none.

    Raises:
        InputError: nothing can be there: its name is too long, or its parent is a file.
    """
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot write {path}: {getattr(error, 'strerror', None) or error}.") from error


def _is_stream(path: Path) -> bool:
    """Whether a pipe or a device is there."""
    mode = _mode(path)
    return mode is not None and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode))


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError as error:
        raise InputError(f"Cannot read the folder {folder}: {error.strerror}.") from error


class _Written(yaml.SafeDumper):
    """Writes what appears twice out twice, for people to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as a YAML file, whole or not at all.

    Args:
        path: the file.
        content: content of the file.
    """
    text = yaml.dump(
        content, Dumper=_Written, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
    write_atomically(path, text)


def refuse_existing(path: Path, *, force: bool, what: str, folder: bool = True) -> None:
    """Refuse to replace an existing output. Nothing is removed here: see `clear`.

    Args:
        path: path of the output.
        force: existing output of the same kind may be replaced, and pipes and devices may be written to.
        what: kind of the output in a word: for folders `run` or `codec`.
        folder: whether the output is a folder or a single file.

    Raises:
        InputError: something is there, or the path cannot be used.
    """
    mode = _mode(path)
    is_folder = mode is not None and stat.S_ISDIR(mode)
    if mode is not None and (is_folder != folder or stat.S_ISSOCK(mode)):
        there = "a folder" if is_folder else "no folder" if folder else "a socket"
        raise InputError(f"{path} is {there}: choose another place for the {what}.")
    if is_folder and not _is_empty(path) and not _is_a(what, path):
        raise InputError(
            f"{path} already exists and is not a {what}, so --force does not replace it: choose another."
        )
    if mode is not None and not force and not (is_folder and _is_empty(path)):
        raise InputError(f"{path} already exists: choose another place for the {what}, or add --force.")
    if path.is_dir() or path.is_file() or not path.exists():  # others are written into
        refuse_unwritable(path)


def _is_a(what: str, folder: Path) -> bool:
    """Whether a folder holds an output of a kind, whole or damaged."""
    name, beginning = _KNOWN_BY[what]
    try:
        with open(folder / name, "rb") as file:
            return file.read(len(beginning)) == beginning.encode()
    except OSError:
        return False


def refuse_over_input(path: Path, *inputs: str | Path) -> None:
    """Refuse to replace a file or folder that is an input.

    Args:
        path: the output: a file, or a folder that is replaced with all that is in it.
        inputs: files and folders that are read; words that are none, such as `bundled`, are nowhere.

    Raises:
        InputError: one of them is the output, or lies in it.
    """
    for given in map(Path, inputs):
        if path.exists() and given.exists() and link_target(given).is_relative_to(link_target(path)):
            raise InputError(
                f"{path} would replace {given}, which is read: choose another place for the output."
            )


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or replaced."""
    return _may(folder, os.W_OK | os.X_OK)


def may_write(file: Path) -> bool:
    """Whether a file that is there can be written into."""
    return _may(file, os.W_OK)


def _may(path: Path, what: int) -> bool:
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def refuse_unwritable(path: Path) -> None:
    """Refuse an output that cannot be written, before the work begins.

    Raises:
        InputError: the folder it is in, or would be made in, is read-only or none.
    """
    folder = path if path.is_dir() else link_target(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"Cannot write {path}: {folder} is not a folder.")
    if not is_writable(folder):
        raise InputError(f"Cannot write {path}: {folder} is read-only here, so choose another place.")


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where there is none; where a link leads to nothing, there.

    Args:
        path: path of the folder.

    Raises:
        InputError: it cannot be made, or a file is in its place.
    """
    try:
        link_target(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {path}: {error.strerror}.") from error


def clear(path: Path) -> None:
    """Remove an old output. Of a link, the content of its folder is removed.

    Args:
        path: file, folder or link to remove.

    Raises:
        InputError: another process is training in there, or it cannot be removed.
    """
    for lock in path.rglob(LOCK) if path.is_dir() else ():
        with folder_lock(lock):
            pass
    try:
        _remove(path)
    except OSError as error:
        raise InputError(f"Cannot replace {path}: {error.strerror or error}.") from error


@contextlib.contextmanager
def folder_lock(lock: Path) -> Iterator[None]:
    """Hold the lock of a folder. The system releases the lock of a process that was killed.

    Raises:
        InputError: another process has it, or it cannot be written.
    """
    lock_file = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock_file.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is training in {lock.parent}: wait until it has ended, or give another folder."
        ) from None
    except OSError as error:
        raise InputError(f"Cannot write in {lock.parent}: {error.strerror or error}.") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()  # whoever waits for it notices
        lock_file.release()


def _remove(path: Path) -> None:
    if path.is_symlink() and path.is_dir():
        for inside in path.iterdir():
            _remove(inside)
    elif path.is_dir():
        shutil.rmtree(path)
    elif path.exists() or not path.is_symlink():
        path.unlink(missing_ok=True)


def digest(*parts: bytes | str, size: int = 8) -> str:
    """A short hexadecimal fingerprint of the parts, in order.

    Args:
        *parts: the parts, as bytes or text.
        size: length of the fingerprint, in bytes.
    """
    hasher = hashlib.blake2b(digest_size=size)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
