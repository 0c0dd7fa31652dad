"""Affine maps over gathered columns, with the activation that follows, in two kinds of arithmetic.

`Affine` computes in the precision of its weights. `IntegerAffine` computes with integers that are held
in float32, for the exact entropy path. As long as every sum stays below 2^24, each result is exact whatever
the order of summation, and therefore the same on every machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

# Integers up to this are exact in float32, and so are sums if all partial sums stay within it.
EXACT = 2**24
# The negative slope of an activation is a multiple of 1 / this number.
SLOPE_PARTS = 2**12
# Values below this are clamped before a slope is applied, so that their product with it stays exact.
LOWEST = -(2.0**18)


@dataclass(frozen=True)
class Affine:
    """The affine map `activation(weight @ columns + bias)`.

    Attributes:
        weight: [outputs, *inputs]. The inputs are channels, or channels and places in a window.
        bias: [outputs].
        slope: negative slope of the leaky rectifier that follows, or None if there is none.
    """

    weight: Tensor
    bias: Tensor
    slope: float | None = None

    def select(self, outputs: Tensor, *inputs: Tensor) -> Affine:
        """The map for some of the outputs and some of the inputs.

        Args:
            outputs: indexes of the outputs, [chosen].
            *inputs: indexes of the inputs, one tensor for each dimension of them.
        """
        return Affine(_part(self.weight, outputs, inputs), self.bias[outputs], self.slope)

    def __call__(self, columns: Tensor) -> Tensor:
        """Map columns, [..., inputs], to [..., outputs]."""
        out = F.linear(columns, self.weight, self.bias)
        return out if self.slope is None else F.leaky_relu(out, self.slope)


@dataclass(frozen=True)
class IntegerAffine:
    """An affine map in integer arithmetic. Powers of two bring the sums to the scale of the outputs.

    Attributes:
        weight, bias: integers in float32, shaped as in `Affine`. The bias includes half of 1 / step, so
            that rounding down rounds to the nearest number.
        step: 2^-shift of every output, [outputs].
        slope: negative slope of the leaky rectifier that follows, in units of 1 / `SLOPE_PARTS`.
            `SLOPE_PARTS` means that there is no rectifier, and 0 means an ordinary one.
        limit: outputs are clamped to +-limit.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor
    slope: int
    limit: int

    def select(self, outputs: Tensor, *inputs: Tensor) -> IntegerAffine:
        """The map for some of the outputs and some of the inputs.

        Args:
            outputs: indexes of the outputs, [chosen].
            *inputs: indexes of the inputs, one tensor for each dimension of them.
        """
        weight = _part(self.weight, outputs, inputs)
        return IntegerAffine(weight, self.bias[outputs], self.step[outputs], self.slope, self.limit)

    def __call__(self, columns: Tensor) -> Tensor:
        """Map integers, [..., inputs], to integers, [..., outputs]."""
        return self.finish(F.linear(columns, self.weight, self.bias))

    def finish(self, sums: Tensor) -> Tensor:
        """Turn sums, [..., outputs], into outputs, in place."""
        steps = sums.mul_(self.step).floor_()
        if self.slope == SLOPE_PARTS:
            return steps.clamp_(-self.limit, self.limit)
        if self.slope == 0:
            return steps.clamp_(0, self.limit)
        steps.clamp_(LOWEST, float(self.limit))
        lower = (steps * (self.slope / SLOPE_PARTS)).add_(0.5).floor_()
        return torch.maximum(steps, lower, out=steps).clamp_min_(-self.limit)


AnyAffine = Affine | IntegerAffine


_backends = cast(Any, torch.backends)
_REDUCED = (  # settings that allow reduced precision, such as TF32 on a GPU
    *(_backends.mkldnn.matmul, _backends.mkldnn.conv),
    *(_backends.cuda.matmul, _backends.cudnn.conv),
)


class _Settings:
    """The process-wide settings that exact computing needs, and their previous values."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._dtype, self._precisions = torch.float32, list[str]()

    def enter(self) -> None:
        """Apply the settings when the first user enters."""
        with self._lock:
            if not self._inside:
                self._dtype = torch.get_default_dtype()
                self._precisions = [backend.fp32_precision for backend in _REDUCED]
                self._set(torch.float32, ["ieee"] * len(_REDUCED))
            self._inside += 1

    def leave(self) -> None:
        """Restore the previous settings when the last user leaves."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._set(self._dtype, self._precisions)

    def _set(self, dtype: torch.dtype, precisions: list[str]) -> None:
        torch.set_default_dtype(dtype)
        for backend, precision in zip(_REDUCED, precisions, strict=True):
            backend.fp32_precision = precision


_settings = _Settings()


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Compute in the precision of the tensors, whatever mixed, reduced or default precision is set outside.

    Some of these settings are process-wide. While any thread is in this context, all other threads use them
    too.
    """
    _settings.enter()
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        _settings.leave()


def _part(weight: Tensor, outputs: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    return weight[(outputs.reshape(-1, *[1] * inputs[0].ndim), *inputs)]
