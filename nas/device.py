"""Which device to compute on."""

from __future__ import annotations

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
