"""How long a training will take, told from its steps so far."""

from __future__ import annotations

import time

from nas.training.settings import TrainingSettings

TIMED_STEPS = 5  # steps after the first, which starts slowly, until the time is told
DAY = 24 * 3600  # seconds


class TrainingClock:
    """Counts from when it is made.

    Args:
        settings: of the run.
        first: the step at which this attempt begins.
    """

    def __init__(self, settings: TrainingSettings, first: int) -> None:
        self._settings, self._first = settings, first
        self._began = self._timed = self._now = time.monotonic()
        self._step = self._timed_from = first

    def tick(self, step: int) -> None:
        """So many steps are done."""
        self._now, self._step = time.monotonic(), step
        if step == self._first + 1 < self._settings.steps:
            self._timed, self._timed_from = self._now, step

    @property
    def seconds(self) -> float:
        """Seconds until the last tick."""
        return self._now - self._began

    @property
    def per_pixel(self) -> float:
        """Seconds of a step for each pixel that it reads; the first step counts where it is the only one."""
        since = (
            (self._timed, self._timed_from) if self._step > self._timed_from else (self._began, self._first)
        )
        return (self._now - since[0]) / self._settings.pixels(since[1], self._step)

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.per_pixel * self._settings.pixels(self._step, self._settings.steps)

    @property
    def expected(self) -> float | None:
        """Seconds from the beginning to the end, right after the steps that are timed; else None."""
        timed = self._step == min(self._first + 1 + TIMED_STEPS, self._settings.steps)
        return self.seconds + self.left if timed else None


def expectation(seconds: float, words: str) -> str:
    """What to tell of the time a training will take.

    Args:
        seconds: from the beginning to the end.
        words: the same as people say it.
    """
    told = f"The training will take about {words} on this machine."
    if seconds <= DAY:
        return told
    return (
        f"{told} That is more than a day: fewer --steps, smaller crops or batches (--set crop=..., --set "
        "batch=...) or a smaller space make it shorter. It can be stopped with Ctrl-C and resumed."
    )
