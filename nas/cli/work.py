"""What commands share while they run: progress, interruptions, and results for files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nas.support.errors import InputError
from nas.support.interrupts import asked_to_stop
from nas.support.progress import LOADING, StageReport

if TYPE_CHECKING:
    from nas.photos.batch import Batch
    from nas.verbs.code import Compressed, Decompressed

TRAINED = "Stopped; what was trained is kept. Run the same command again to continue."
STOPPED_MEASURING = "Stopped; what was measured is kept. Run the same command again to continue."
DRAWN = "Stopped; every score is kept. Run the same command again to draw the front."
PATIENCE = 1.0  # seconds without a report after which a terminal shows a sign of life


class ReportedInterruptError(KeyboardInterrupt):
    """The work was interrupted, and the user was told how to continue."""


@contextmanager
def work(stopped: str | Callable[[], str]) -> Iterator[StageReport]:
    """Context for long work: shows progress, and after an interruption says what is kept and how to go on.

    Progress is shown from the first report on, so that early refusals need no slow imports. If imports and
    loading keep a user at a terminal waiting, the progress begins with them.

    Args:
        stopped: message after an interruption, or a function that returns it.

    Returns:
        A context that gives the function to report progress with.
    """
    shown: list[StageReport] = []
    lock = threading.Lock()
    with ExitStack() as stack:

        def report(stage: str, done: int, total: int, note: str) -> None:
            from nas import console

            with lock:
                if not shown:
                    shown.append(stack.enter_context(console.progress()))
            shown[0](stage, done, total, note)

        def still_loading() -> None:
            from nas import console

            with lock:
                if not shown and not ended.is_set():
                    shown.append(stack.enter_context(console.progress()))
                    shown[0](LOADING, 0, 0, "")

        def end() -> None:
            with lock:  # wait until the display is shown, so that it can be removed
                ended.set()
            timer.cancel()

        ended, timer = threading.Event(), threading.Timer(PATIENCE, still_loading)
        timer.daemon = True
        if sys.stderr.isatty():  # not for logs
            timer.start()
        try:
            yield report
        except (KeyboardInterrupt, Exception) as error:
            if not (isinstance(error, KeyboardInterrupt) or asked_to_stop()):
                raise
            from nas import console

            end()
            stack.close()
            console.say(stopped if isinstance(stopped, str) else stopped())
            raise ReportedInterruptError from None
        finally:
            end()


def interrupted_files_message(force: bool) -> str:
    """The message after interrupted writing of many files: how to continue.

    Args:
        force: whether files that exist are replaced.
    """
    again = "the same command again without --force" if force else "the same command again"
    return f"Stopped; the files that were written are kept. Run {again} to continue."


def interrupted_folder_message(out: Path, what: str, command: str) -> str:
    """The message after interrupted making of a folder: whether it exists, and how to continue.

    Args:
        out: the folder.
        what: its kind, such as `codec`.
        command: how the user starts again if the folder exists already.
    """
    if not out.exists():
        return f"Stopped; no {what} was written. Run the same command again to continue."
    return f"Stopped; {out} exists. {command}"


def refuse_both(json: bool, out: str) -> None:
    """Raise InputError if a result in JSON and a file would both go to standard output.

    Args:
        json: whether the result is printed as JSON.
        out: where the file goes.
    """
    if json and out == "-":
        raise InputError("--json and the output - both need standard output: leave one of them out.")


def print_results(result: Compressed | Decompressed | Batch[Any], *, json: bool, quiet: bool) -> None:
    """Print the result for one file or for many. Sets exit status 2 if some failed.

    Args:
        result: the result.
        json: print it as JSON.
        quiet: print nothing for a single file.
    """
    from nas import console
    from nas.photos.batch import Batch

    if json:
        console.emit(result.to_json())
    elif isinstance(result, Batch):
        if result.done:
            console.table("", *result.table())
        if sentence := result.sentence():
            console.say(sentence)
    elif not quiet:
        console.say(result.sentence())
    if isinstance(result, Batch) and result.failed:
        console.say("\n".join(result.failures()))
        raise typer.Exit(2)
