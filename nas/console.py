"""How commands speak: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

errors = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)


class Bar(Protocol):
    """A progress bar in use: how far, of how much, and a few words."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A progress bar on stderr with the time left."""
    columns = (
        TextColumn(f"{title:<18}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=errors, refresh_per_second=4) as progress:
        task = progress.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield advance


def say(message: str) -> None:
    """A message to the person at the terminal."""
    errors.print(message, markup=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; numbers to the right."""
    view = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        numeric = all(isinstance(row[place], int | float) or row[place] == "" for row in rows)
        view.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(_text(value) for value in row))
    Console(highlight=False, width=None if out.is_terminal else 140).print(view)


def emit(content: Mapping[str, Any]) -> None:
    """The result of a command as JSON on stdout."""
    print(json.dumps(content, indent=2, default=str))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 0.01 else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)
