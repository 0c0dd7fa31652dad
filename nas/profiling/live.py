"""Counts the memory of tensors while something runs: exact, and the same on every machine."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operators make, from their making until they are freed.

    Workspaces that operators allocate for themselves are not seen.

    Attributes:
        peak: the most bytes alive at once since the last `restart`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch gives it no types
        self._sizes: dict[int, int] = {}
        self._now = self.peak = 0

    def restart(self) -> int:
        """Begin a new peak at what is alive now; returns the one that ends."""
        ended, self.peak = self.peak, self._now
        return ended

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given: set[int] | None = None
        for value in tree_iter(result):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in self._sizes:
                if given is None:
                    tensors = (
                        operand for operand in tree_iter((args, kwargs)) if isinstance(operand, Tensor)
                    )
                    given = {operand.untyped_storage()._cdata for operand in tensors}
                if value.untyped_storage()._cdata not in given:  # no view of a weight
                    self._add(value.untyped_storage())
        return result

    def _add(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += self._sizes[key]
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)


def held_bytes(thing: Any) -> int:
    """Bytes of all tensors that an object of ours holds: weights, buffers, copies that are no parameters.

    Args:
        thing: a module, a tensor or another object that holds tensors.
    """
    sizes: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            sizes[storage._cdata] = storage.nbytes()
        elif isinstance(value, list | tuple):
            for inner in value:
                visit(inner)
        elif isinstance(value, dict):
            for inner in value.values():
                visit(inner)
        elif isinstance(value, nn.Module) or type(value).__module__.startswith("nas."):
            visit(vars(value) if hasattr(value, "__dict__") else ())

    visit(thing)
    return sum(sizes.values())
