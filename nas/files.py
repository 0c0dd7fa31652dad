"""Writing results: an interrupted program never leaves half a file, and nothing is replaced unasked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from nas.errors import InputError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file under a temporary name, then move it into place."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class _Written(yaml.SafeDumper):
    """Writes what appears twice out twice, for people to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    text = yaml.dump(
        content, Dumper=_Written, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
    write_atomically(path, text)


def refuse_existing(path: Path, *, force: bool, what: str) -> None:
    """Stop before an existing output would be replaced. Removes nothing: see `clear`."""
    if path.exists() and not force and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} already exists: choose another place for the {what}, or add --force.")


def clear(path: Path) -> None:
    """Remove what a new output replaces."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(*parts: bytes | str, size: int = 8) -> str:
    """A short hexadecimal fingerprint of the parts, in order."""
    hasher = hashlib.blake2b(digest_size=size)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
