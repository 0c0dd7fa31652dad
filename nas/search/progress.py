"""How a search tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# Called with the stage, how much of it is done, of how much (0 where that is not known), and a note
Report = Callable[[str, int, int, str], None]


def silent(stage: str, done: int, total: int, note: str) -> None:
    """Reports nothing."""
