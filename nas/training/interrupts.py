"""Ctrl-C between steps."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """The first Ctrl-C is remembered until the step is whole, a second one stops at once."""

    def __init__(self) -> None:
        self.wanted = False
        self._before = signal.getsignal(signal.SIGINT)
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and self._before is signal.default_int_handler
        )
        if self._ours:
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.wanted = True
        self.close()

    def close(self) -> None:
        """Back to how it was."""
        if self._ours:
            signal.signal(signal.SIGINT, self._before)
