"""How long a training will take, before it begins: its MACs against what this machine computes a second."""

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
    """Seconds that a training takes here, within a factor of two or three.

    Args:
        space: what is trained; its architectures cost half of the widest and the narrowest together.
        settings: steps, crops, architectures a step.
        device: `auto`, `cpu` or `cuda`.
    """
    ends = {space.narrowest(), space.widest()}
    kmac_px = sum(measured_costs(space.only(end)).kmac_px(end, "total") for end in ends) / len(ends)
    return seconds_at_cost(kmac_px, settings, device)


def seconds_at_cost(kmac_px: float, settings: TrainingSettings, device: str = "auto") -> float:
    """Seconds that trainings take here, within a factor of two or three.

    Args:
        kmac_px: what they train costs in total, in kMAC per pixel; of several trainings, the sum.
        settings: those of each.
        device: `auto`, `cpu` or `cuda`.
    """
    pixels = settings.batch * settings.crop**2
    macs = _BACKWARD * 1000 * kmac_px * pixels * settings.architectures * settings.steps
    return macs / _macs_a_second(choose(device))


def long_training_warning(space: SearchSpace, settings: TrainingSettings, device: str = "auto") -> str | None:
    """A sentence where a training is expected to take more than a day.

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
    """A sentence where work is expected to take more than a day.

    Args:
        work: the work, in a word.
        seconds: how long it is expected to take.
        what: what it consists of.
        quicker: what takes less time, beside a GPU.
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
    """What convolutions reach here, measured in a moment, once in a process."""
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
