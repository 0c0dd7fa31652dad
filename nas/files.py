"""Writing results: an interrupted program never leaves half a file, and nothing is replaced unasked."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
from collections.abc import Sequence
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


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file by the columns of its heading; what a row lacks is empty.

    Args:
        path: the file.
        columns: what the heading has to be; None for any.

    Raises:
        InputError: the file cannot be read, or is no such table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            rows = list(reader)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is damaged, or no CSV file ({error}): move it away or restore it."
        ) from error
    if columns is not None and reader.fieldnames is not None and tuple(reader.fieldnames) != tuple(columns):
        raise InputError(f"{path} is not a table with the columns {', '.join(columns)}: move it away.")
    for row in rows:
        row.pop("", None)  # values beyond the heading
    return rows


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
