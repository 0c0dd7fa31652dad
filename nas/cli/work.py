"""What verbs have in common while they run and when they end: progress, interruptions, results of files."""

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
PATIENCE = 1.0  # seconds without a report after which a terminal shows that something is going on


class ToldInterruptError(KeyboardInterrupt):
    """Work was interrupted, and how to continue was said."""


@contextmanager
def work(stopped: str | Callable[[], str]) -> Iterator[StageReport]:
    """Long work with its progress; when it is interrupted, what was kept and how to continue.

    Progress is shown from the first report on: what is refused before it needs nothing that takes long to
    import. Where imports and weights keep a person at a terminal waiting, the progress begins with that.

    Args:
        stopped: what is said when the work is interrupted, or a function that gives it.

    Returns:
        A context, which gives the function to report progress with.
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
            with lock:  # what has begun to be shown is shown, so that it can be taken away
                ended.set()
            timer.cancel()

        ended, timer = threading.Event(), threading.Timer(PATIENCE, still_loading)
        timer.daemon = True
        if sys.stderr.isatty():  # a log needs no sign of life
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
            raise ToldInterruptError from None
        finally:
            end()


def written(force: bool) -> str:
    """What is said where the writing of many files is interrupted: how to continue.

    Args:
        force: whether files that exist are replaced.
    """
    again = "the same command again without --force" if force else "the same command again"
    return f"Stopped; the files that were written are kept. Run {again} to continue."


def begun(out: Path, what: str, command: str) -> str:
    """What is said where making one folder is interrupted: whether there is one, and how to continue.

    Args:
        out: the folder.
        what: what was being made, such as `codec`.
        command: how the user begins again where the folder is there already.
    """
    if not out.exists():
        return f"Stopped; no {what} was written. Run the same command again to continue."
    return f"Stopped; {out} exists. {command}"


def refuse_both(json: bool, out: str) -> None:
    """InputError where a result in JSON and a file would both go to standard output.

    Args:
        json: whether the result is printed as JSON.
        out: where the file goes.
    """
    if json and out == "-":
        raise InputError("--json and the output - both need standard output: leave one of them out.")


def tell(result: Compressed | Decompressed | Batch[Any], *, json: bool, quiet: bool) -> None:
    """Print what became of one file or of many; exit status 2 where some failed.

    Args:
        result: what became of them.
        json: print it as JSON.
        quiet: print nothing of a single file.
    """
    from nas import console
    from nas.photos.batch import Batch

    if json:
        console.emit(result.to_json())
    elif isinstance(result, Batch):
        if result.done:
            console.table("", *result.table())
        console.say(result.sentence())
    elif not quiet:
        console.say(result.sentence())
    if isinstance(result, Batch) and result.failed:
        console.say("\n".join(result.failures()))
        raise typer.Exit(2)
