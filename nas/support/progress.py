"""How long work tells how far it is: functions that it is given, and calls."""

from __future__ import annotations

from collections.abc import Callable

# Called with how much is done, of how much (0 where that is not known), and a note
Report = Callable[[int, int, str], None]
# The same of work in several stages: called with the stage first
StageReport = Callable[[str, int, int, str], None]


def silent(*_: object) -> None:
    """Reports nothing, of either kind."""
