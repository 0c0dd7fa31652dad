"""What is said before long work: how long a training takes, and whether the machine is quiet."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from nas.profiling import timing
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training import expected
from nas.training.settings import TrainingSettings


def test_a_training_of_days_says_so_and_one_of_minutes_does_not(tiny_space: SearchSpace) -> None:
    short = TrainingSettings(steps=20, batch=1, crop=64)
    assert expected.long_training_warning(tiny_space, short, "cpu") is None
    long = expected.long_training_warning(tiny_space, TrainingSettings(steps=10**8, batch=16), "cpu")
    assert long is not None
    assert "days" in long
    assert "--set recipe=laptop" in long


def test_one_day_is_no_days(tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "expected_seconds", lambda *_: 1.1 * expected.DAY)
    assert "about 1 day on" in str(expected.long_training_warning(tiny_space, TrainingSettings()))


@pytest.mark.parametrize("name", ["workers", "architectures"])
def test_numbers_that_would_stop_the_machine_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` should be less than or equal to 1000"):
        TrainingSettings.make({name: 100_000})


def test_twice_the_steps_take_twice_as_long(tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "_macs_a_second", lambda device: 1e9)
    one, two = (
        expected.expected_seconds(tiny_space, TrainingSettings(steps=steps), "cpu") for steps in (100, 200)
    )
    assert two == pytest.approx(2 * one)
    mean = (0.7035 + 6.4688) / 2
    assert one == pytest.approx(3 * 1000 * mean * 8 * 256**2 * 4 * 100 / 1e9, rel=1e-3)


def busy_process() -> subprocess.Popen[bytes]:
    """A process that computes until it is ended, and imports nothing."""
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"])


def test_other_work_on_every_core_is_noticed() -> None:
    others = [busy_process() for _ in range(3 * (os.cpu_count() or 1))]
    try:
        time.sleep(0.5)
        assert timing.disturbance() > timing.MOST_DISTURBANCE
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_work_on_one_core_of_several_is_noticed() -> None:
    """A codec on all cores waits for the slowest; a single thread would move to a free one."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    threads = torch.get_num_threads()
    other = busy_process()
    try:
        if len(allowed) > 1:
            os.sched_setaffinity(other.pid, allowed[:1])
            torch.set_num_threads(len(allowed))
        time.sleep(0.5)
        assert timing.disturbance() > timing.MOST_DISTURBANCE
    finally:
        torch.set_num_threads(threads)
        other.kill()
        other.wait()


def test_what_is_said_of_other_work_names_a_command_that_measures_again() -> None:
    again = "nas profile codecs/a --size 768x512"
    assert f"run `{again}`" in timing.disturbance_warning(0.2, again)
    assert again not in timing.disturbance_warning(0.1, again)
