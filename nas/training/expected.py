"""The expected time of a training before it begins: its MACs divided by this machine's MACs per second."""

from __future__ import annotations

import time
from functools import cache

import torch
import torch.nn.functional as F

from nas.cost.counting.tabulate import measured_costs
from nas.spaces.space import SearchSpace
from nas.support.device import choose
from nas.training.record.clock import DAY
from nas.training.settings import TrainingSettings

_BACKWARD = 3  # a step costs three forward passes
_CHANNELS, _SIDE, _KERNEL, _SECONDS = 64, 64, 5, 0.2


def expected_seconds(space: SearchSpace, settings: TrainingSettings, device: str = "auto") -> float:
    """Expected seconds of a training on this machine, within a factor of two or three.

    Args:
        space: the space to train. Its architectures cost the mean of the widest and the narrowest one.
        settings: settings of the training: steps, crops, architectures per step.
        device: `auto`, `cpu` or `cuda`.
    """
    ends = {space.narrowest(), space.widest()}
    kmac_px = sum(measured_costs(space.only(end)).kmac_px(end, "total") for end in ends) / len(ends)
    return seconds_at_cost(kmac_px, settings, device)


def seconds_at_cost(kmac_px: float, settings: TrainingSettings, device: str = "auto") -> float:
    """Expected seconds of trainings on this machine, within a factor of two or three.

    Args:
        kmac_px: total cost of the trained architecture in kMAC per pixel, or the sum over several trainings.
        settings: settings of each training.
        device: `auto`, `cpu` or `cuda`.
    """
    pixels = settings.batch * settings.crop**2
    macs = _BACKWARD * 1000 * kmac_px * pixels * settings.architectures * settings.steps
    return macs / _macs_a_second(choose(device))


def long_training_warning(space: SearchSpace, settings: TrainingSettings, device: str = "auto") -> str | None:
    """Return a warning if a training is expected to take more than a day, otherwise None.

    Args:
        space: the search space.
        settings: settings of the training.
        device: where to compute: `auto`, `cpu` or `cuda`.
    """
    step = f"{settings.batch} crops, {settings.architectures} architectures"
    quicker = "fewer --steps; a -tiny space with --set recipe=laptop; or --init-from a trained run"
    seconds = expected_seconds(space, settings, device)
    return warning_of("training", seconds, f"{settings.steps:,} steps of {step}", quicker)


def warning_of(work: str, seconds: float, what: str, quicker: str) -> str | None:
    """Return a warning if work is expected to take more than a day, otherwise None.

    Args:
        work: the work, in one word.
        seconds: its expected time.
        what: description of what it consists of.
        quicker: what takes less time, apart from a GPU.
    """
    if seconds <= DAY:
        return None
    days = f"{seconds / DAY:,.0f}"
    return (
        f"This {work} is expected to take about {days} day{'s' * (days != '1')} on this machine ({what}). "
        f"What is quicker: a GPU; {quicker}."
    )


@cache
@torch.no_grad()
def _macs_a_second(device: torch.device) -> float:
    """The MACs per second of convolutions on this machine, measured briefly, once per process."""
    x = torch.zeros(1, _CHANNELS, _SIDE, _SIDE, device=device)
    kernel = torch.zeros(_CHANNELS, _CHANNELS, _KERNEL, _KERNEL, device=device)
    F.conv2d(x, kernel)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        size = F.conv2d(x, kernel).shape[-1]
        if device.type == "cuda":
            torch.cuda.synchronize()
        done += 1
    return done * (size * _CHANNELS * _KERNEL) ** 2 / (time.perf_counter() - began)
