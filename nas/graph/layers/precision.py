"""Which layers keep single precision while the others compute in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Widths whose values must keep full precision: latents, the inputs of their rates, and a linear block
# transform, whose first component is large
_PRECISE, _LINEAR = ("y", "z", "psi"), "linear."


def must_be_precise(inputs: str, outputs: str) -> bool:
    """Whether a layer must compute in single precision.

    Args:
        inputs, outputs: names of the widths before and after the layer.
    """
    return outputs in _PRECISE or any(name.startswith(_LINEAR) for name in (inputs, outputs))


@contextmanager
def precise(x: Tensor, *, wanted: bool = True) -> Iterator[None]:
    """Keep mixed precision away from x's device, because it must not reach latents.

    bfloat16 has eight significant bits, so a latent of 300 would move in steps of 2.

    Args:
        x: a tensor of any shape on the device in question.
        wanted: whether to keep half precision out. If False, nothing changes.
    """
    if not wanted or not torch.is_autocast_enabled(x.device.type):
        yield
        return
    with torch.autocast(x.device.type, enabled=False):
        yield
