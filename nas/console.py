"""Output of the commands: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from nas.support.progress import LOADING, StageReport, duration, silent

PATIENCE = 5.0  # seconds of a stage after which a log says how long the rest will take
errors = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)


def is_main_process() -> bool:
    """Whether this process prints for all processes that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def progress() -> Iterator[StageReport]:
    """Progress on stderr: a bar with the remaining time for each stage, or a few lines without a terminal."""
    if not is_main_process():
        yield silent
        return
    if not errors.is_terminal:
        yield _LineProgress()
        return
    columns = (
        _Moving(),
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]:>12}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=errors, refresh_per_second=4) as bars:
        tasks: dict[str, TaskID] = {}

        def loaded() -> None:
            if LOADING in tasks:
                bars.remove_task(tasks.pop(LOADING))

        def report(stage: str, done: int, total: int, note: str) -> None:
            if stage not in tasks:
                loaded()
                tasks[stage] = bars.add_task(stage, total=None, note="", count="", now=False)
            count = f"{done}/{total}" if total else str(done or "")
            bars.update(tasks[stage], completed=done, total=total or None, note=note, count=count)
            for name, task in tasks.items():
                bars.update(task, now=name == stage)

        try:
            yield report
        finally:
            loaded()
            bars.live.transient = not tasks  # an empty display leaves no empty line


class _Moving(SpinnerColumn):
    """A spinner beside the present stage, also at its end, because the next one may take long to begin."""

    def render(self, task: Task) -> RenderableType:
        return self.spinner.render(task.get_time()) if task.fields["now"] else " "


class _LineProgress:
    """Progress for logs: a line at the start of a stage, at every tenth, and at least twice a minute."""

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None
        self._when = 0.0
        self._began: dict[str, tuple[float, int]] = {}  # when each stage began, and with how much of it done

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        tenth = 10 * done // total if total else 0
        now = time.monotonic()
        began, before = self._began.setdefault(stage, (now, done))
        if (stage, tenth) != self._last or now - self._when > 30:
            parts = [f"{stage}: {done}{f'/{total}' if total else ''}", note]
            if before < done < total and now - began > PATIENCE:
                parts.append(f"{duration((now - began) / (done - before) * (total - done))} left")
            print("  ".join(filter(None, parts)), file=sys.stderr, flush=True)
            self._last, self._when = (stage, tenth), now


def say(message: str) -> None:
    """Print a message for the user on stderr.

    Args:
        message: the sentence, without markup.
    """
    if is_main_process():
        errors.print(message, markup=False)


def show(lines: Sequence[str]) -> None:
    """Print lines unchanged on stdout. Characters that its encoding lacks become question marks.

    Args:
        lines: the lines.
    """
    for line in lines:
        out.print(line.encode(out.encoding, "replace").decode(out.encoding), markup=False)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    aside: bool = False,
    narrow: bool = False,
) -> None:
    """Print a table on stdout, or on stderr if it is not the result. Numbers are aligned to the right.

    A narrow table has no lines between its columns. All of its values are numbers.

    Args:
        title: title of the table.
        columns: headings of the columns.
        rows: the rows, one value per column.
        aside: write to stderr.
        narrow: leave out the lines between columns.
    """
    view = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD if narrow else HEAVY_HEAD
    )
    for index, column in enumerate(columns):
        numeric = narrow or all(isinstance(row[index], int | float) or row[index] == "" for row in rows)
        view.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(_text(value) for value in row))
    stream = errors if aside else out
    Console(stderr=aside, highlight=False, width=None if stream.is_terminal else 140).print(view)


def emit(content: Mapping[str, Any]) -> None:
    """Print the result of a command as JSON on stdout.

    Args:
        content: names and plain values.
    """
    if is_main_process():
        print(json.dumps(content, indent=2, default=str))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:z.4g}" if abs(value) < 0.01 else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)
