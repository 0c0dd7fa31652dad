"""Handles Ctrl-C and the signals of schedulers and closed terminals, so that nothing is lost."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]  # beside Ctrl-C


PAUSE = 0.01  # seconds until a lost interruption is raised again
_ASKED = threading.Event()  # to stop, since `as_ctrl_c` began


def _stop(number: int, frame: Any) -> None:
    _ASKED.set()
    raise KeyboardInterrupt


def asked_to_stop() -> bool:
    """Whether a signal has asked this process to stop, inside the latest `as_ctrl_c`.

    What is raised after that comes from the interruption: some libraries catch it and raise an error of their
    own instead, such as pydantic while it builds a model.
    """
    return _ASKED.is_set()


@contextmanager
def _reraise_ignored() -> Iterator[None]:
    """A context that raises KeyboardInterrupt again where Python could only print and forget it.

    That happens in finalisers and in callbacks of weak references, of which an import runs many.
    """
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        try:
            if issubclass(lost.exc_type, KeyboardInterrupt):
                _thread.start_new_thread(again, ())  # threading would wait here until the thread runs
            else:
                before(lost)
        except KeyboardInterrupt:  # came in here, where it would be lost as well
            _thread.start_new_thread(again, ())

    def again() -> None:
        time.sleep(PAUSE)
        handled = [number for number in (signal.SIGINT, *STOPS) if signal.getsignal(number) is _stop]
        if handled and sys.unraisablehook is hook:
            if hasattr(signal, "pthread_kill"):  # also ends a wait of the main thread
                signal.pthread_kill(threading.main_thread().ident or 0, handled[0])
            else:
                _thread.interrupt_main(handled[0])

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """A context in which the signals of `STOPS` do what Ctrl-C does. Ignored and handled ones stay so.

    Raises:
        KeyboardInterrupt: a signal came, also where a library made another error of it.
    """
    main = threading.current_thread() is threading.main_thread()
    usual = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(STOPS, signal.SIG_DFL)}
    before = {number: each for number, each in usual.items() if main and signal.getsignal(number) is each}
    _ASKED.clear()
    for number in before:
        signal.signal(number, _stop)
    try:
        with _reraise_ignored():
            yield
    except Exception:
        if asked_to_stop():
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupts:
    """Delays the first Ctrl-C until the present step is complete. A second one stops at once.

    So are the signals of `STOPS`. One that the program ignores or handles in its own way is left alone.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *STOPS):
                before = signal.getsignal(number)
                if before in (signal.default_int_handler, signal.SIG_DFL, _stop):
                    self._before[number] = before
                    signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.wanted = True
        self.close()

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)
