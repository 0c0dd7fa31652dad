"""A cache of tensors with a limit on its size in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class TensorCache:
    """Keeps the most recently used tensors, up to a number of bytes. The last one is kept whatever its size.

    Args:
        most_bytes: size of the cache.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the tensors (or tuple of tensors) of a key, and make them if they are not cached.

        Args:
            key: the key.
            make: called without arguments if the key is not cached.
        """
        if key in self._values:
            self._values.move_to_end(key)
            kept: T = self._values[key][0]
            return kept
        value = make()
        size = _bytes(value)
        self._values[key] = (value, size)
        self.bytes += size
        while self.bytes > self.most_bytes and len(self._values) > 1:
            _, (_, freed) = self._values.popitem(last=False)
            self.bytes -= freed
        return value


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, tuple) else 0
