"""Types of tables, and CSV files: reading, writing and appending."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.support.errors import InputError
from nas.support.files import write_atomically

TableRow = list[Any]  # of a printed table: a value for each column
TitledTable = tuple[str, Sequence[str], Sequence[Sequence[Any]]]  # a title, columns, rows


def signed(value: float, spec: str) -> str:
    """Format a difference with its sign. What rounds to zero has none.

    Args:
        value: the difference.
        spec: format without the sign, such as `.2f` or `.1%`.
    """
    text = f"{value:+z{spec}}"
    return text if any(digit in text for digit in "123456789") else text.removeprefix("+")


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Read the rows of a CSV file by the columns of its heading. Missing values are empty.

    Args:
        path: the file.
        columns: the required heading, or None for any.

    Raises:
        InputError: the file cannot be read, or has another form.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            heading, rows = reader.fieldnames, list(reader)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except csv.Error as error:
        raise InputError(
            f"Cannot read {path}: it is damaged or not a CSV file ({error}). Restore it or move it away."
        ) from error
    if columns is not None and heading is not None and tuple(heading) != tuple(columns):
        raise InputError(f"{path} is not a table with the columns {', '.join(columns)}: move it away.")
    for row in rows:
        row.pop("", None)  # values beyond the heading
    return rows


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = (), *, heading: bool = True) -> str:
    """A table as the text of a CSV file.

    Args:
        columns: names of the columns, in order.
        rows: values by column. What a row lacks is empty, and what is no column is left out.
        heading: begin with the names of the columns.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", extrasaction="ignore", lineterminator="\n")
    if heading:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as a CSV file, whole or not at all.

    Args:
        path: the file.
        columns: names of the columns, in order.
        rows: values by column. What a row lacks is empty, and what is no column is left out.
    """
    write_atomically(path, csv_text(columns, rows))


def append_rows(path: Path, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> int:
    """Append rows to a CSV file, which begins with its columns. Returns the number of written bytes.

    Args:
        path: the file.
        columns: names of the columns.
        rows: the rows, one text per column.

    Raises:
        InputError: the file cannot be written.
    """
    text = csv_text(columns, (dict(zip(columns, row, strict=True)) for row in rows), heading=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            text = csv_text(columns) + text
        elif path.read_bytes()[-1:] != b"\n":  # a crash cut the last row short
            text = f"\n{text}"
        added = text.encode()
        with open(path, "ab") as file:  # one write: rows of several processes never mix
            file.write(added)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error
    return len(added)
