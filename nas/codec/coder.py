"""The entropy coder: constriction's range coder, one stream for the latents of one image."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from nas.support.arrays import Floats
from nas.support.errors import InputError

# Streams of one minor version decode alike: its arithmetic is part of a codec's identity.
CODER = "constriction-" + ".".join(metadata.version("constriction").split(".")[:2])

# Words that the coder may save on all symbols together by rounding.
_SLACK = 2

_queue, _models = constriction.stream.queue, constriction.stream.model
Int32s = NDArray[np.int32]


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

    def under_table(self, values: Int32s, tables: NDArray[np.integer[Any]], limit: int) -> None:
        """A whole latent, [channels, positions], under one table of frequencies per channel.

        Args:
            values: whole steps from the centre, [channels, positions].
            tables: frequencies of the steps around 0, [channels, 2 * reach + 1].
            limit: the largest absolute value among `values`.
        """
        for channel, table in zip(values, tables, strict=True):
            symbols = np.ascontiguousarray(channel + max(1, limit), dtype=np.int32)
            self._coder.encode(symbols, _categorical(table, limit))

    def gaussian(self, values: Int32s, scales: Floats, means: Floats, limit: int) -> None:
        """Elements in coding order, each under its own Gaussian; arrays of one shape.

        Args:
            values: whole numbers to code, of any shape.
            scales: standard deviations of the Gaussians, in the shape of `values`.
            means: means of the Gaussians, in the shape of `values`.
            limit: the largest absolute value among all values that are coded with it.
        """
        self._coder.encode(values.ravel(), _gaussian(limit), means.ravel(), scales.ravel())

    def finish(self) -> bytes:
        """The stream of all that was coded, as whole 32-bit words in little-endian order."""
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Decoder:
    """Reads symbols in the order in which they were written.

    Args:
        data: what `finish` of the encoder gave, in bytes.

    Raises:
        InputError: from any call, what is read cannot have been written.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise InputError(
                "The coded data is cut short, because its length is not a multiple of 4 bytes: get the file "
                "again."
            )
        self._words = len(data) // 4
        self._coder = _queue.RangeDecoder(np.frombuffer(data, dtype="<u4").astype(np.uint32))

    def under_table(self, tables: NDArray[np.integer[Any]], positions: int, limit: int) -> Int32s:
        """A whole latent, [channels, positions].

        Args:
            tables: frequencies of the steps around 0, [channels, 2 * reach + 1].
            positions: number of positions in the latent.
            limit: the largest absolute value, as the encoder was given it.

        Raises:
            InputError: the data is too short for so many positions.
        """
        if _least_bits(tables, limit) * positions > 32 * (self._words + _SLACK):
            raise InputError(
                "The coded data is too short for a picture of its size, so the file is damaged: get it again."
            )
        rows = [self._read(_categorical(table, limit), positions) for table in tables]
        return np.stack(rows) - max(1, limit)

    def gaussian(self, scales: Floats, means: Floats, limit: int) -> Int32s:
        """The next elements under their Gaussians.

        Args:
            scales: standard deviations of the Gaussians.
            means: means of the Gaussians, in the shape of `scales`.
            limit: the largest absolute value, as the encoder was given it.
        """
        return self._read(_gaussian(limit), means, scales)

    def finish(self) -> None:
        """Say that all has been read.

        Raises:
            InputError: data is left, so the file is damaged.
        """
        if not self._coder.maybe_exhausted():
            raise InputError("The coded data continues after its end, so the file is damaged: get it again.")

    def _read(self, model: object, *arguments: Any) -> Int32s:
        try:
            return np.asarray(self._coder.decode(model, *arguments))
        except AssertionError:  # how the coder refuses what no encoder writes
            raise InputError(
                "The coded data is damaged, because no encoder writes it like this: get the file again."
            ) from None


def _least_bits(tables: NDArray[np.integer[Any]], limit: int) -> float:
    """The fewest bits that one position of a latent can take: all channels at their likeliest values."""
    centre, reach = tables.shape[1] // 2, min(max(1, limit), tables.shape[1] // 2)
    inside = tables[:, centre - reach : centre + reach + 1].astype(np.float64)
    return float(-np.log2(inside.max(1) / inside.sum(1)).sum())
