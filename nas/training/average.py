"""The moving average of the weights that a run may keep instead of the last ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """How torch's `AveragedModel` is to follow the weights: exponentially, with a warm-up of its own.

    After n steps the average keeps min(decay, (1 + n) / (10 + n)) of itself, so that it forgets the first
    weights long before 1 / (1 - decay) steps have passed.

    Args:
        decay: what the average keeps of itself in a step, once it has warmed up.
    """

    @torch.no_grad()
    def follow(average: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(list(average), list(weights), 1 - kept)

    return follow
