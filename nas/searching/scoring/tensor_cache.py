"""A store of tensors that holds only so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class TensorCache:
    """The most recently used tensors, up to a number of bytes; the last one whatever its size.

    Args:
        most_bytes: how much to hold.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key; made where it is not there: tensors, or tuples of them.

        Args:
            key: the key.
            make: called without arguments where nothing is kept under the key.
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
