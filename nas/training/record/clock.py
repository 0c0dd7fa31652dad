"""The time that a training takes, estimated from its steps so far."""

from __future__ import annotations

import time

from nas.training.settings import TrainingSettings

TIMED_STEPS = 5  # steps after the slow first one until the time is estimated
DAY = 24 * 3600  # seconds


class TrainingClock:
    """Measures the time of a training from the moment it is made.

    Args:
        settings: settings of the run.
        first: the step at which this attempt begins.
    """

    def __init__(self, settings: TrainingSettings, first: int) -> None:
        self._settings, self._first = settings, first
        self._began = self._timed = self._now = time.monotonic()
        self._step = self._timed_from = first

    def tick(self, step: int) -> None:
        """Note that this many steps are done."""
        self._now, self._step = time.monotonic(), step
        if step == self._first + 1 < self._settings.steps:
            self._timed, self._timed_from = self._now, step

    @property
    def seconds(self) -> float:
        """Seconds up to the last tick."""
        return self._now - self._began

    @property
    def per_pixel(self) -> float:
        """Seconds of a step per pixel that it reads. The first step counts only if there is no other one."""
        since = (
            (self._timed, self._timed_from) if self._step > self._timed_from else (self._began, self._first)
        )
        return (self._now - since[0]) / self._settings.pixels(since[1], self._step)

    @property
    def left(self) -> float:
        """Seconds until the end of the training."""
        return self.per_pixel * self._settings.pixels(self._step, self._settings.steps)

    @property
    def expected(self) -> float | None:
        """Seconds of the whole training, right after the timed steps, otherwise None."""
        timed = self._step == min(self._first + 1 + TIMED_STEPS, self._settings.steps)
        return self.seconds + self.left if timed else None


def expectation(seconds: float, words: str) -> str:
    """A sentence about the time that a training will take.

    Args:
        seconds: time of the whole training.
        words: the same time in words.
    """
    told = f"The training will take about {words} on this machine."
    if seconds <= DAY:
        return told
    return (
        f"{told} That is more than a day: fewer --steps, smaller crops or batches (--set crop=..., --set "
        "batch=...) or a smaller space make it shorter. It can be stopped with Ctrl-C and resumed."
    )
