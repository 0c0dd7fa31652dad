"""How long work tells how far it is: functions that it is given, and calls."""

from __future__ import annotations

from collections.abc import Callable

# Called with how much is done, of how much (0 where that is not known), and a note
Report = Callable[[int, int, str], None]
# The same of work in several stages: called with the stage first
StageReport = Callable[[str, int, int, str], None]
LOADING = "loading"  # the stage before the first: imports, weights


def silent(*_: object) -> None:
    """Reports nothing, of either kind."""


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min, 3.5 h, 4.2 days.

    Args:
        seconds: the time, at least 0.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
