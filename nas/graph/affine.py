"""Matrix products over gathered columns, with what follows them, in two kinds of arithmetic.

`Affine` computes in the precision of its weights. `IntegerAffine` computes with whole numbers that are held
in float32, for the exact entropy path: as long as every sum stays below 2^24, each result is exact, whatever
the order of summation, and so the same on every machine.
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

# Whole numbers up to this are exact in float32, and so are all sums of terms that stay within it together.
EXACT = 2**24
# The negative slope of an activation is so many of these parts.
SLOPE_PARTS = 2**12
# Values below this are cut before a slope is applied, so that their product with it stays exact.
LOWEST = -(2.0**18)


@dataclass(frozen=True)
class Affine:
    """`activation(weight @ columns + bias)`.

    Attributes:
        weight: [outputs, *inputs]; `inputs` are the channels, or channels and places in a window.
        bias: [outputs].
        slope: of the leaky rectifier that follows; None for none.
    """

    weight: Tensor
    bias: Tensor
    slope: float | None = None

    def select(self, outputs: Tensor, *inputs: Tensor) -> Affine:
        """Some of the outputs, computed from some of the inputs (one index for each dimension of them).

        Args:
            outputs: indexes of the outputs, [chosen].
            *inputs: indexes of the inputs, one tensor for each dimension of them.
        """
        return Affine(_part(self.weight, outputs, inputs), self.bias[outputs], self.slope)

    def __call__(self, columns: Tensor) -> Tensor:
        """[..., outputs] from [..., inputs]."""
        out = F.linear(columns, self.weight, self.bias)
        return out if self.slope is None else F.leaky_relu(out, self.slope)


@dataclass(frozen=True)
class IntegerAffine:
    """The same in whole numbers: sums are brought to the scale of the outputs by powers of two.

    Attributes:
        weight, bias: whole numbers in float32, shaped as in `Affine`; half of 1 / step is part of the bias,
            so that rounding down rounds to the nearest.
        step: 2^-shift of every output, [outputs].
        slope: of the leaky rectifier that follows, in `SLOPE_PARTS`: all of them for none, 0 for a rectifier.
        limit: outputs are clamped to +-limit.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor
    slope: int
    limit: int

    def select(self, outputs: Tensor, *inputs: Tensor) -> IntegerAffine:
        """Some of the outputs, computed from some of the inputs.

        Args:
            outputs: indexes of the outputs, [chosen].
            *inputs: indexes of the inputs, one tensor for each dimension of them.
        """
        weight = _part(self.weight, outputs, inputs)
        return IntegerAffine(weight, self.bias[outputs], self.step[outputs], self.slope, self.limit)

    def __call__(self, columns: Tensor) -> Tensor:
        """[..., outputs] from [..., inputs], all of them whole numbers."""
        return self.finish(F.linear(columns, self.weight, self.bias))

    def finish(self, sums: Tensor) -> Tensor:
        """Outputs from their sums, [..., outputs], in place."""
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
_REDUCED = (  # where single precision may be computed in less: what users set, TF32 on a GPU by default
    *(_backends.mkldnn.matmul, _backends.mkldnn.conv),
    *(_backends.cuda.matmul, _backends.cudnn.conv),
)


class _Settings:
    """The settings of the process that computing exactly needs, and what they were before."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._dtype, self._precisions = torch.float32, list[str]()

    def enter(self) -> None:
        """The first that comes in sets them."""
        with self._lock:
            if not self._inside:
                self._dtype = torch.get_default_dtype()
                self._precisions = [backend.fp32_precision for backend in _REDUCED]
                self._set(torch.float32, ["ieee"] * len(_REDUCED))
            self._inside += 1

    def leave(self) -> None:
        """The last that goes out puts them back."""
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
def exactly() -> Iterator[None]:
    """Compute in the precision that tensors have, whatever mixed, reduced or default one is set around this.

    Some of that is set for the whole process: as long as any thread is in here, all others compute so, too.
    """
    _settings.enter()
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        _settings.leave()


def _part(weight: Tensor, outputs: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    return weight[(outputs.reshape(-1, *[1] * inputs[0].ndim), *inputs)]
