"""The entropy coder: constriction's range coder, one stream for z and y of one image."""

from __future__ import annotations

from importlib import metadata

import constriction
import numpy as np
from numpy.typing import NDArray

from nas.errors import InputError

# Streams of one minor version decode alike: its arithmetic is part of a codec's identity.
CODER = "constriction-" + ".".join(metadata.version("constriction").split(".")[:2])

_queue, _models = constriction.stream.queue, constriction.stream.model
Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


def _gaussian(limit: int) -> object:
    return _models.QuantizedGaussian(-max(1, limit), max(1, limit))


def _categorical(table: NDArray[np.int64], limit: int) -> object:
    """One channel's model of z within +-limit, from its integer frequencies."""
    centre, reach = len(table) // 2, max(1, limit)
    return _models.Categorical(table[centre - reach : centre + reach + 1].astype(np.float64), perfect=False)


class Encoder:
    """Writes symbols in order; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._coder = _queue.RangeEncoder()

    def z(self, values: Ints, tables: NDArray[np.int64], limit: int) -> None:
        """All of z, [channels, positions], under one table of frequencies per channel."""
        for channel, table in zip(values, tables, strict=True):
            symbols = np.ascontiguousarray(channel + max(1, limit), dtype=np.int32)
            self._coder.encode(symbols, _categorical(table, limit))

    def y(self, values: Ints, scales: Floats, means: Floats, limit: int) -> None:
        """Elements of y in coding order, each under its own Gaussian."""
        self._coder.encode(values, _gaussian(limit), means, scales)

    def finish(self) -> bytes:
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Decoder:
    """Reads symbols in the order in which they were written."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise InputError("The coded data is cut short: its length is not a whole number of words.")
        self._coder = _queue.RangeDecoder(np.frombuffer(data, dtype="<u4").astype(np.uint32))

    def z(self, tables: NDArray[np.int64], positions: int, limit: int) -> Ints:
        """All of z, [channels, positions]."""
        rows = [self._coder.decode(_categorical(table, limit), positions) for table in tables]
        return np.stack(rows) - max(1, limit)

    def y(self, scales: Floats, means: Floats, limit: int) -> Ints:
        """The next elements of y."""
        return np.asarray(self._coder.decode(_gaussian(limit), means, scales))
