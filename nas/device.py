"""Which device to compute on."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from nas.errors import InputError


def choose(name: str) -> torch.device:
    """The device of `auto` (a GPU where there is one), `cpu` or `cuda`.

    Raises:
        InputError: another name, or no such device here.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"There is no device '{name}': choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here: use --device cpu or leave it out.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def machine_name(device: torch.device) -> str:
    """What the GPU, or else the processor, is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return next(_processor_names(), "") or platform.processor() or platform.machine()


def _processor_names() -> Iterator[str]:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            yield line.partition(":")[2].strip()
