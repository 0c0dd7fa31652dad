"""The storage of a study: a journal file, or a database given by its URL."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, SAWarning, SQLAlchemyError

from nas.searching.study.sqlite import check_sqlite
from nas.support.errors import InputError
from nas.support.paths import check_path

STORAGE_FORMS = "postgresql://USER:PASSWORD@HOST/DATABASE, sqlite:///FILE, or the path of a journal"
EXTRAS = {"pg8000": ".[postgres]"}
ANSWER = 60.0  # seconds to wait for a database's answer; in SQLite this includes other workers' turns
CONNECTION_ATTEMPTS = 5
LOCK_PAUSE = 0.005  # seconds between attempts to take the journal's lock
_SCHEME = re.compile(r"(sqlite|postgres(ql)?|mysql|mariadb|oracle|mssql|redis)(\+\w+)?:(?!//)")
_BEGINNING = b'{"op_code":'  # every record of a journal begins like this
JOURNAL = "study.log"  # name of the journal in a run's search folder


class CrashSafeJournal(JournalFileBackend):
    """Optuna's journal with one line per change. It stays usable if its writers are killed.

    Writers take turns with a lock file beside the journal. If a writer is killed, the system releases the
    lock. A line that was cut off is removed before the next line is written.

    Args:
        path: path of the file. Its folder is created if necessary.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path, self._alone = path, FileLock(path.with_name(f".{path.name}.lock"))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the records from a given one on. A line that is not a record is refused, even the last one.

        Args:
            log_number_from: number of the first record.
        """
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise damaged_storage_error(self._path) from error

    def check_end(self) -> None:
        """Raise InputError if the last whole line is not a record; Optuna would wait for its end."""
        with open(self._path, "rb") as file:
            whole, _, torn = file.read().rpartition(b"\n")
        if not _BEGINNING.startswith(torn.rstrip(b"\0")[: len(_BEGINNING)]):
            # otherwise it would be removed like a line that was cut off
            raise damaged_storage_error(self._path)
        if whole:
            try:
                json.loads(whole.rpartition(b"\n")[2])
            except ValueError as error:
                raise damaged_storage_error(self._path) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, each as a whole line or not at all.

        Args:
            logs: the records.

        Raises:
            InputError: the file cannot be written.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with self._alone.acquire(poll_interval=LOCK_PAUSE), open(self._path, "ab") as file:
                self._cut_torn_line()
                file.write(lines.encode())
                file.flush()
                if any(log.get("values") for log in logs):  # sync this and all earlier records
                    os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"Cannot write the journal {self._path}: {error.strerror or error}. Make it writable, or "
                "give another --storage, and search again: all scores are kept."
            ) from error

    def _cut_torn_line(self) -> None:
        with open(self._path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            if file.read() in (b"\n", b""):
                return
            file.seek(0)
            torn = len(file.read().rpartition(b"\n")[2])
        os.truncate(self._path, self._path.stat().st_size - torn)


def open_storage(where: str | Path) -> BaseStorage:
    """Open the storage of a URL or of a journal's path.

    Args:
        where: a URL, or the path of a journal.

    Raises:
        InputError: the storage cannot be opened.
    """
    if isinstance(where, str) and "://" in where:
        return _database(where)
    if _SCHEME.match(str(where)):
        raise InputError(f"--storage is not a database URL, which has ://: give {STORAGE_FORMS}.")
    check_path("storage", where)
    path = Path(where)
    try:
        if path.exists() and not path.is_file():  # a device may be endless, and a pipe stores nothing
            raise InputError(f"Cannot open the journal {path}: it is not a file. Give {STORAGE_FORMS}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = CrashSafeJournal(path)
        journal.check_end()
        return JournalStorage(journal)
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"Cannot open the journal {path}: {error.strerror or error}. Change its permissions, or give "
            "another --storage."
        ) from error
    except Exception as error:  # lines that are not records cause errors of many kinds
        raise damaged_storage_error(path) from error


def damaged_storage_error(where: str | Path) -> InputError:
    """The error to raise if a storage does not hold what a search wrote."""
    if isinstance(where, str) and "://" in where:
        return InputError(
            f"{name_of(where)} is damaged, or holds something else than a search of this toolkit: give "
            "another --storage. The search then begins a new study with the scores that the run keeps."
        )
    return InputError(
        f"The journal {where} is damaged, or is not a journal: move it away and search again. The search "
        "then begins a new journal with the scores that the run keeps."
    )


def close_storage(storage: BaseStorage) -> None:
    """Close the storage's connections.

    Args:
        storage: the storage.
    """
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def name_of(where: str | Path) -> str:
    """The name of a storage in messages, without its password.

    Args:
        where: a URL, or the path of a journal.
    """
    if isinstance(where, Path):
        return f"the journal {where}"
    return "--storage " + re.sub("(://[^:/@]*:).*@", r"\1***@", where)


@contextlib.contextmanager
def explain_database_errors(where: str | Path) -> Iterator[None]:
    """Turn errors of a database into one plain sentence.

    Args:
        where: a URL or the path of a journal, for the message.

    Raises:
        InputError: the database or journal cannot be used.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, UnicodeDecodeError) as error:
        what = "the database" if isinstance(where, str) and "://" in where else "the journal"
        raise InputError(
            f"{name_of(where)} cannot be used: {_reason(error)}. Check {what}, or give another --storage."
        ) from error


@contextlib.contextmanager
def explain_record_errors(where: str | Path) -> Iterator[None]:
    """Turn errors from reading foreign or damaged records into one plain sentence.

    Args:
        where: a URL or the path of a journal, for the message.

    Raises:
        InputError: the stored data does not come from a search.
    """
    try:
        with explain_database_errors(where):
            yield
    except InputError:
        raise
    except (ArithmeticError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise damaged_storage_error(where) from error


def _database(address: str) -> RDBStorage:
    where = name_of(address)
    try:
        url = make_url(address)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+pg8000")
        url.get_dialect()
    except (ArgumentError, ValueError) as error:
        raise InputError(f"{where} is not a database URL: give {STORAGE_FORMS}.") from error
    database = url.database or ""
    if url.get_backend_name() == "sqlite" and database not in ("", ":memory:") and "uri" not in url.query:
        check_path("storage", database)
        check_sqlite(Path(database), where, ANSWER)
    with explain_database_errors(address):
        for attempt in range(1, CONNECTION_ATTEMPTS + 1):
            try:
                _refuse_other_version(url, address)
                return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=_options(url))
            except ImportError as error:
                raise InputError(f"{where} needs {_driver(url)}.") from error
            except (InputError, UnicodeDecodeError):
                raise
            except (TypeError, ValueError, SAWarning) as error:  # caused by options after a question mark
                raise InputError(f"{where} has a wrong option ({_reason(error)}): leave it out.") from error
            except SQLAlchemyError as error:
                # workers that create the tables at the same time disturb each other; on the next attempt the
                # tables exist
                if attempt == CONNECTION_ATTEMPTS or isinstance(error, InterfaceError):
                    raise
                time.sleep(0.1 * attempt)
    raise AssertionError


def _refuse_other_version(url: URL, address: str) -> None:
    """Raise InputError if another version of Optuna made the tables, or they lack something.

    Nothing is written, no table created.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", SAWarning)  # turn the warning into an error, so that it is not missed
        engine = create_engine(url, **_options(url))
    try:
        tables = set(inspect(engine).get_table_names())
        if "studies" not in tables:
            return
        made_by, revision = (
            _only(engine, f"SELECT {column} FROM {table}") if table in tables else None
            for column, table in (("library_version", "version_info"), ("version_num", "alembic_version"))
        )
        if revision is None and made_by in (None, optuna.__version__):  # another worker creates it right now
            return
        new = RDBStorage("sqlite://")
        is_current = revision == new.get_head_version()
        if is_current and (made_by is None or not _columns(new.engine) <= _columns(engine)):
            # Optuna would add what it lacks, or print errors while it reads
            raise damaged_storage_error(address)
    finally:
        engine.dispose()
    if not is_current:
        raise InputError(
            f"{name_of(address)} was made by another version of Optuna: bring it up to date with "
            "`optuna storage upgrade --storage URL`, or give another --storage."
        )


def _only(engine: Engine, query: str) -> str | None:
    """The value of a query: None where there is no row, and empty where there are several."""
    with engine.connect() as connection:
        values = connection.execute(text(query)).scalars().fetchmany(2)
    return None if not values else str(values[0]) if len(values) == 1 else ""


def _columns(engine: Engine) -> set[tuple[str, str]]:
    """The tables of a database, each with the name of every column."""
    tables = inspect(engine).get_multi_columns()
    return {(table, column["name"]) for (_, table), columns in tables.items() for column in columns}


def _options(url: URL) -> dict[str, Any]:
    waits = url.get_backend_name() == "sqlite" or url.get_driver_name() == "pg8000"
    return {"pool_pre_ping": True, "connect_args": {"timeout": ANSWER} if waits else {}}


def _driver(url: URL) -> str:
    name = url.get_driver_name()
    extra = EXTRAS.get(name)
    return f"a driver: pip install '{extra}'" if extra else f"the driver {name}, which is not installed"


def _reason(error: BaseException) -> str:
    """The driver's own message, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = error.args[0] if error.args else type(error).__name__
    if isinstance(said, dict):  # pg8000 returns the server's fields; M is the message
        said = said.get("M", said)
    return " ".join(str(said).split()).rstrip(".")
