"""The functions with which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

# Called with how much is done, of how much (0 where that is not known), and a note
Report = Callable[[int, int, str], None]
# The same of work in several stages: called with the stage first
StageReport = Callable[[str, int, int, str], None]
LOADING = "loading"  # the stage before the first: imports, weights


def silent(*_: object) -> None:
    """Report nothing. Fits both kinds of reports."""


def duration(seconds: float) -> str:
    """Format a time for people: 45 s, 12 min, 3.5 h, 4.2 days.

    Args:
        seconds: the time, at least 0.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
