"""Handles many files with one command, several at a time."""

from __future__ import annotations

import glob
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeVar

from nas.support.errors import InputError
from nas.support.files import link_target, make_folder, refuse_existing, refuse_over_input, refuse_unwritable
from nas.support.progress import StageReport, silent

if TYPE_CHECKING:
    import pandas as pd

STANDARD = Path("-")  # standard input or output
MOST_TOGETHER = 1 << 22  # pixels of all pictures that are worked on at a time, unless one alone has more


class Result(Protocol):
    """The result for one file."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        ...

    def row(self) -> dict[str, Any]:
        """A row of a table by column: the file's name, then numbers."""
        ...


Content = TypeVar("Content")
Done = TypeVar("Done", bound=Result)


@dataclass(frozen=True)
class Job:
    """One input file and its output file. Either may be `STANDARD`.

    Attributes:
        source: file that is read.
        target: file that is written.
    """

    source: Path
    target: Path

    @property
    def source_name(self) -> str:
        """The name of the source in messages."""
        return "standard input" if self.source == STANDARD else str(self.source)


@dataclass(frozen=True)
class FileKind:
    """The kinds of files that a command reads and writes.

    Attributes:
        many: word for several input files in messages.
        one: word for one output file in messages.
        suffix: suffix of output files in a folder.
        suffixes: suffixes by which an output name means a file, not a folder.
        listed: lists the input files below a folder.
    """

    many: str
    one: str
    suffix: str
    suffixes: frozenset[str]
    listed: Callable[[Path], list[Path]]


@dataclass(frozen=True)
class BatchPlan:
    """The plan of a command.

    Attributes:
        jobs: all input files with their outputs, in the order of the inputs.
        folder: folder of the results, or None for a single file.
        skipped: results that exist already in the folder.
    """

    jobs: tuple[Job, ...]
    folder: Path | None = None
    skipped: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A file that could not be used, with the reason.

    Attributes:
        source: the file.
        reason: the reason, in one sentence.
    """

    source: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {"source": self.source, "error": self.reason}


@dataclass(frozen=True)
class Batch(Generic[Done]):
    """The results for many files.

    Attributes:
        done: a result for each written file, in the order of the inputs.
        skipped: files that existed already and were left unchanged.
        failed: files that failed. The others are done.
        seconds: time without loading the codec.
    """

    done: tuple[Done, ...]
    skipped: tuple[Path, ...]
    failed: tuple[Failure, ...]
    seconds: float

    def __repr__(self) -> str:
        return f"Batch({len(self.done)} done, {len(self.skipped)} skipped, {len(self.failed)} failed)"

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each written file, with the columns of `table`."""
        import pandas as pd

        return pd.DataFrame([result.row() for result in self.done])

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {
            "done": [each.to_json() for each in self.done],
            "skipped": [str(path) for path in self.skipped],
            "failed": [each.to_json() for each in self.failed],
            "seconds": round(self.seconds, 3),
        }

    def sentence(self) -> str:
        """Sentences on the written files with their speed, and on the skipped ones. Empty if all failed."""
        speed = f" in {self.seconds:.1f} s, {len(self.done) / max(self.seconds, 1e-9):.2f} pictures/s"
        sentences = []
        if self.done or not self.failed:
            sentences.append(f"{_count(len(self.done), 'picture')}{speed if self.done else ''}.")
        if self.skipped:
            why = "because the files exist: add --force to replace them."
            sentences.append(f"{len(self.skipped)} skipped, {why}")
        return " ".join(sentences)

    def table(self, most: int = 20) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows: each file and the mean, or for many files only mean, least and most.

        Args:
            most: largest number of files that have a row each.
        """
        each = [result.row() for result in self.done]
        columns = list(each[0])
        values = [[row[name] for row in each] for name in columns[1:]]
        rows = [list(row.values()) for row in each] if len(each) <= most else []
        if len(each) > 1:
            rows.append(["mean", *(_mean(column) for column in values)])
        if len(each) > most:
            rows += [["least", *map(min, values)], ["most", *map(max, values)]]
        return columns, rows

    def failures(self) -> list[str]:
        """The failed files, each with its reason, after a line with their number."""
        if not self.failed:
            return []
        tried = len(self.done) + len(self.failed)
        return [
            f"{len(self.failed)} of {_count(tried, 'file')} failed:",
            *(
                f"  {each.reason}" if each.source in each.reason else f"  {each.source}: {each.reason}"
                for each in self.failed
            ),
        ]


@dataclass(frozen=True)
class WorkerPool(Generic[Content, Done]):
    """The workers that do the jobs.

    Attributes:
        work: turns an input into a written file.
        threads: number of workers.
        begin: called first by each worker.
    """

    work: Callable[[Job, Content], Done]
    threads: int = 1
    begin: Callable[[], object] = silent


def plan_batch(
    inputs: str | Path | Sequence[str | Path], out: str | Path, kind: FileKind, *, force: bool = False
) -> BatchPlan:
    """Find the inputs and outputs of a command.

    Results go into a folder if there are several inputs, if an input is a folder, or if `out` is a folder or
    is named like one: it ends with a slash, or is new and has no suffix. Subfolders are kept.

    Args:
        inputs: files, folders, patterns such as `photos/*.png`, or `-` for standard input.
        out: a file, a folder, or `-` for standard output.
        kind: the kinds of files.
        force: also replace existing files.

    Raises:
        InputError: an input or the output cannot be used, or two inputs have the same output.
    """
    given: list[Any] = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    wrong = [type(each).__name__ for each in given if not isinstance(each, str | Path)]
    if wrong:
        raise InputError(f"Give the {kind.many} by their names, not as {wrong[0]}: they are read from files.")
    if not given:
        raise InputError(f"Give the {kind.many} to read: files or folders.")
    sources = [source for text in given for source in _found(text, kind)]
    path = Path(out)
    if path == STANDARD and sys.stdout.isatty():
        raise InputError("Standard output is a terminal: redirect it into a file or a pipe.")
    several = len(sources) > 1 or any(name is not None for _, name in sources)
    if not several and not _is_folder(out, path):
        job = Job(sources[0][0], path)
        if path != STANDARD:
            refuse_existing(path, force=force, what=kind.one, folder=False)
            refuse_over_input(path, *([] if job.source == STANDARD else [job.source]))
        return BatchPlan((job,))
    if any(source == STANDARD for source, _ in sources):
        raise InputError(
            "Standard input (-) is one file without a name: give no other input, and name the file to write."
        )
    if path == STANDARD:
        raise InputError(f"Standard output (-) takes one file: give a folder for several {kind.many}.")
    if not os.path.isdir(path) and (os.path.exists(path) or path.suffix.lower() in kind.suffixes):
        raise InputError(
            f"{path} is a file or named like one, and several {kind.many} need a folder: name one."
        )
    refuse_unwritable(path)
    jobs = _named(sources, path, kind)
    skipped = () if force else tuple(job.target for job in jobs if os.path.isfile(job.target))
    left = set(skipped)
    return BatchPlan(tuple(job for job in jobs if job.target not in left), path, skipped)


def _found(text: str | Path, kind: FileKind) -> list[tuple[Path, Path | None]]:
    """The files of one input, each with its path below the input if that is a folder."""
    path = Path(text)
    if path == STANDARD:
        return [(path, None)]
    if glob.has_magic(str(text)) and not os.path.lexists(path):
        matching = sorted(glob.glob(str(text), recursive=True))
        if not matching:
            raise InputError(f"No file matches '{text}': give files, folders or another pattern.")
        return [source for each in matching for source in _found(each, kind)]
    if os.path.isdir(path):
        return [(file, file.relative_to(path)) for file in kind.listed(path)]
    return [(path, None)]


def _is_folder(out: str | Path, path: Path) -> bool:
    """Whether an output is a folder, or is named like one."""
    if path == STANDARD:
        return False
    named = str(out).endswith(("/", os.sep)) or not path.suffix
    return os.path.isdir(path) or (named and not os.path.lexists(path))


def _named(sources: Sequence[tuple[Path, Path | None]], folder: Path, kind: FileKind) -> list[Job]:
    """A job for each source. A source that is given twice is done once."""
    jobs: dict[Path, Job] = {}
    read = {link_target(source): source for source, _ in sources}
    for source, name in sources:
        target = folder / (name or Path(source.name)).with_suffix(kind.suffix)
        other = jobs.setdefault(target, Job(source, target))
        if link_target(other.source) != link_target(source):
            raise InputError(
                f"{other.source} and {source} would both be written to {target}: rename one of them, or use "
                "two folders."
            )
        if (replaced := read.get(link_target(target))) is not None:
            raise InputError(f"{target} would replace {replaced}, which is read: choose another folder.")
    return list(jobs.values())


def run_all(
    plan: BatchPlan,
    read: Callable[[Job], tuple[Content, int]],
    load: Callable[[], AbstractContextManager[WorkerPool[Content, Done]]],
    *,
    stage: str,
    report: StageReport = silent,
) -> Batch[Done]:
    """Do the jobs of a folder, several at a time. Files that fail with an `InputError` are noted.

    This thread reads the files one after another, and other threads work on them. Together these files have
    at most `MOST_TOGETHER` pixels, so that many workers need no more memory than one large picture. After an
    interruption, files that are being worked on are finished first.

    Args:
        plan: the jobs.
        read: reads a job's source. Returns its content and its number of pixels.
        load: called once before the first file. Its context lasts until the last file is done.
        stage: name of the work, for `report`.
        report: called after each file.

    Raises:
        InputError: `load` fails, or the folder cannot be made.
    """
    done: dict[int, Done] = {}
    failed: dict[int, Failure] = {}
    running: dict[Future[Done], tuple[int, int]] = {}
    jobs = plan.jobs
    started = time.monotonic()

    def note(index: int, outcome: Callable[[], Done]) -> None:
        try:
            done[index] = outcome()
        except InputError as error:
            failed[index] = Failure(jobs[index].source_name, str(error))
        finished = len(done) + len(failed)
        speed = finished / max(time.monotonic() - started, 1e-9)
        report(stage, finished, len(jobs), f"{speed:.2f} pictures/s")

    def collect(at_most: int, pixels: int) -> None:
        """Wait until at most this many jobs with at most this many pixels are running."""
        while running and (len(running) > at_most or sum(size for _, size in running.values()) > pixels):
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                note(running.pop(future)[0], future.result)

    with ExitStack() as stack:
        workforce: WorkerPool[Content, Done] | None = None
        if plan.folder is not None:
            stack.callback(_remove_if_empty, _missing_folders(plan.folder))
        for index, job in enumerate(jobs):
            try:
                content, pixels = read(job)
            except InputError as error:
                note(index, partial(_raise, error))
                continue
            if workforce is None:
                workforce = stack.enter_context(load())
                if plan.folder is not None:
                    make_folder(plan.folder)  # or refused here, before anything is worked on
                pool = stack.enter_context(ThreadPoolExecutor(workforce.threads, initializer=workforce.begin))
                started = time.monotonic()
            collect(workforce.threads - 1, MOST_TOGETHER - pixels)
            running[pool.submit(workforce.work, job, content)] = index, pixels
            del content
        collect(0, 0)
    seconds = time.monotonic() - started
    in_order = [outcome for _, outcome in sorted(done.items())], [why for _, why in sorted(failed.items())]
    return Batch(tuple(in_order[0]), plan.skipped, tuple(in_order[1]), seconds)


def _missing_folders(folder: Path) -> list[Path]:
    """A folder and those above it, as far as they do not exist."""
    target = link_target(folder)
    return [each for each in (target, *target.parents) if not each.exists()]


def _remove_if_empty(folders: Sequence[Path]) -> None:
    """Remove folders as long as they are empty, the innermost first."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _raise(error: InputError) -> Any:
    raise error


def standard_input() -> BinaryIO:
    """Standard input, as bytes."""
    return sys.stdin.buffer


def write_standard(data: bytes) -> None:
    """Write bytes to standard output, at once.

    Args:
        data: the bytes.
    """
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _mean(values: Sequence[float]) -> float:
    """The mean. It is rounded for whole numbers."""
    mean = sum(values) / len(values)
    return round(mean) if all(isinstance(value, int) for value in values) else mean


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
