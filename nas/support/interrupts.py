"""Ctrl-C, and the signals by which schedulers and closed terminals end a program: nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]  # beside Ctrl-C


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """In here the signals of `STOPS` do what Ctrl-C does, but those that are ignored or handled already."""
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number in STOPS if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


class Interrupts:
    """The first Ctrl-C is remembered until the step is whole, a second one stops at once.

    So are the signals of `STOPS`. One that the program ignores or handles in its own way is left alone.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *STOPS):
                before = signal.getsignal(number)
                if before in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[number] = before
                    signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.wanted = True
        self.close()

    def close(self) -> None:
        """Back to how it was."""
        for number, before in self._before.items():
            signal.signal(number, before)
