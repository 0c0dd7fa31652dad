"""The entropy coder: constriction's range coder, one stream for the latents of one image."""

from __future__ import annotations

from importlib import metadata
from typing import Any

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


def _categorical(table: NDArray[np.integer[Any]], limit: int) -> object:
    """One channel's model within +-limit, from its integer frequencies; beyond the table they are 1."""
    centre, reach = len(table) // 2, max(1, limit)
    if reach > centre:
        table, centre = np.pad(table, reach - centre, constant_values=1), reach
    return _models.Categorical(table[centre - reach : centre + reach + 1].astype(np.float64), perfect=False)


class Encoder:
    """Writes symbols in order; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._coder = _queue.RangeEncoder()

    def under_table(self, values: Ints, tables: NDArray[np.integer[Any]], limit: int) -> None:
        """A whole latent, [channels, positions], under one table of frequencies per channel."""
        for channel, table in zip(values, tables, strict=True):
            symbols = np.ascontiguousarray(channel + max(1, limit), dtype=np.int32)
            self._coder.encode(symbols, _categorical(table, limit))

    def gaussian(self, values: Ints, scales: Floats, means: Floats, limit: int) -> None:
        """Elements in coding order, each under its own Gaussian."""
        self._coder.encode(values, _gaussian(limit), means, scales)

    def finish(self) -> bytes:
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Decoder:
    """Reads symbols in the order in which they were written."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise InputError("The coded data is cut short: its length is not a whole number of words.")
        self._coder = _queue.RangeDecoder(np.frombuffer(data, dtype="<u4").astype(np.uint32))

    def under_table(self, tables: NDArray[np.integer[Any]], positions: int, limit: int) -> Ints:
        """A whole latent, [channels, positions]."""
        rows = [self._coder.decode(_categorical(table, limit), positions) for table in tables]
        return np.stack(rows) - max(1, limit)

    def gaussian(self, scales: Floats, means: Floats, limit: int) -> Ints:
        """The next elements under their Gaussians."""
        return np.asarray(self._coder.decode(_gaussian(limit), means, scales))
