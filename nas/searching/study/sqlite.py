"""Checks an SQLite file before Optuna writes a study into it."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from nas.support.errors import InputError
from nas.support.files import is_writable, may_write

_BEGINNING = b"SQLite format 3\0"
_STUDIES = {"study_id", "study_name"}  # columns of the first table that Optuna creates
_OUTSIDE = ("locked", "readonly", "unable to open")  # parts of SQLite's messages that do not mean damage


def check_sqlite(path: Path, where: str, wait: float) -> None:
    """Refuse a file that SQLite cannot use, or that belongs to another program. The file is not changed.

    A file that does not exist or is empty counts as a new database.

    Args:
        path: the file.
        where: name of the file in messages.
        wait: seconds to wait for other workers, which lock the file while they write.

    Raises:
        InputError: the file is not a database, or is damaged, locked or read-only, or does not hold studies.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{where} is not a file: give sqlite:///FILE with the path of one.")
        with open(path, "rb") as file:
            start = file.read(len(_BEGINNING))
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise InputError(
                f"{where} cannot be made: there is no folder {path.parent}. Make it first."
            ) from None
        return
    except OSError as error:
        raise InputError(_refusal(where, error.strerror or str(error))) from error
    if start not in (b"", _BEGINNING):
        raise InputError(
            f"{where} is not an SQLite database: give another file. If it is a journal, give its path "
            "without sqlite:///."
        )
    try:
        tables, damage = _look(path, wait)
    except sqlite3.Error as error:
        raise InputError(_refusal(where, str(error))) from error
    if damage:
        raise InputError(
            f"{where} is damaged ({damage}): move it away and search again. The search then begins a new one "
            "with the scores that the run keeps."
        )
    if tables and _STUDIES - tables.get("studies", set()):
        raise InputError(f"{where} is a database of another program: give a file of its own to --storage.")
    if not (is_writable(path.parent) and may_write(path)):
        raise InputError(_refusal(where, "readonly"))


def _look(path: Path, wait: float) -> tuple[dict[str, set[str]], str]:
    """Read every page: return the columns of each table, and what is damaged. Nothing is written."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", timeout=wait, uri=True)) as database:
        try:
            names = [
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            columns = {
                name: {row[1] for row in database.execute("SELECT * FROM pragma_table_info(?)", (name,))}
                for name in names
            }
            (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            # a row of a trial that is gone would become one of the next trial, which gets its number
            if columns.get("studies", set()) >= _STUDIES and said == "ok":
                orphan = database.execute("PRAGMA foreign_key_check").fetchone()
                said = "ok" if orphan is None else f"{orphan[0]} has rows of {orphan[2]} that are not there"
        except sqlite3.Error as error:
            if any(word in str(error) for word in _OUTSIDE):
                raise
            return {}, str(error)
        if said == "ok":
            database.execute("BEGIN IMMEDIATE")  # fails if the file is locked or read-only
            database.rollback()
            return columns, ""
    return columns, " ".join(said.removeprefix("*** in database main ***").split())


def _refusal(where: str, reason: str) -> str:
    if "locked" in reason:
        return (
            f"{where} is locked by another process: wait until that one has finished, or give another "
            "--storage."
        )
    if "readonly" in reason:
        return (
            f"{where} cannot be written, since it or its folder is read-only: change its permissions, or "
            "copy it to another folder and give the copy to --storage."
        )
    return f"{where} cannot be used ({reason}): change its permissions, or give another --storage."
