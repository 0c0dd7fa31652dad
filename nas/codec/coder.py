"""The entropy coder: constriction's range coder, with one stream for the latents of one image.

constriction finds a symbol under a Gaussian by evaluating error functions for every symbol anew. On the
coding grid there are few different Gaussians: 64 scales, and means with 64 different fractions. The
probabilities of the numbers around a mean are therefore computed once, and the coder reads from rows of
them::

    beyond | c - h + 1 | ... | c | ... | c + h - 1 | beyond        c is the integer next to the mean

If a number lies beyond its row, or if the scale is large, the coder reads under the Gaussian itself. The rows
hold the coder's own probabilities, exact to the last unit.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from nas.graph.entropy import MEAN_STEPS, SCALES
from nas.support.arrays import Array, Floats
from nas.support.error_function import erf
from nas.support.errors import InputError

# Versions with the same minor number decode the same streams. This arithmetic is part of a codec's identity.
CODER = "constriction-" + ".".join(metadata.version("constriction").split(".")[:2])

# Number of words that rounding may save the coder over all symbols together.
_SLACK = 2

WHOLE = 1 << 24  # probabilities are multiples of 1 / WHOLE
REACHES = (3, 7)  # possible values of h; with 15, a row costs more than it saves
# Number of symbols that are read at a time under rows. All of them are read again if one lies beyond its row.
_PIECE = 4096
# Wide Gaussians with at most this distance are read together with everything between them, to save calls.
_GAP = 64
# Fewer symbols than this are read faster than a table is made.
_FEW = 4096
# Largest share of symbols that may lie beyond their rows.
_RARELY = 1e-4

_queue, _models = constriction.stream.queue, constriction.stream.model
Int32s = NDArray[np.int32]
BinWeights = NDArray[np.float32]
Runs = list[tuple[int, int]]  # starts and ends


def _gaussian(limit: int) -> object:
    return _models.QuantizedGaussian(-max(1, limit), max(1, limit))


def _categorical(table: NDArray[np.integer[Any]], limit: int) -> object:
    """One channel's model within +-limit from its integer frequencies. Beyond the table they are 1."""
    centre, reach = len(table) // 2, max(1, limit)
    if reach > centre:
        table, centre = np.pad(table, reach - centre, constant_values=1), reach
    return _models.Categorical(table[centre - reach : centre + reach + 1].astype(np.float64), perfect=False)


_BINS = _models.Categorical(perfect=False)


@lru_cache(maxsize=8)
def rows_of(reach: int, limit: int) -> BinWeights:
    """Weights of the bins of every Gaussian on the grid: [64 scales * 64 fractions, 2 * reach + 1].

    The bins are for means within half a step of 0. For a mean next to c, the first bin has c more and the
    last bin c less. Every bin has one unit more than its weight says.

    Args:
        reach: numbers at this distance or more from c are beyond the row.
        limit: largest absolute value that is coded, at least `reach`.
    """
    free = float(WHOLE - 1 - 2 * limit)  # every number has one unit of its own
    edges = np.floor(free * _below(reach))
    weights = np.diff(edges, axis=-1, prepend=0, append=0)
    weights[..., 0] = edges[..., 0] + (limit - reach)
    weights[..., -1] = WHOLE - 1 - limit - reach - edges[..., -1]
    return weights.reshape(-1, 2 * reach + 1).astype(np.float32)


def split(steps: Array) -> tuple[Array, Array]:
    """Split means in steps into the integers next to them, and the places of their fractions among 64.

    Args:
        steps: means in steps of 1 / MEAN_STEPS.
    """
    centres = (steps + MEAN_STEPS // 2) // MEAN_STEPS
    return centres, steps - MEAN_STEPS * centres + MEAN_STEPS // 2


@lru_cache(maxsize=len(REACHES))
def share_beyond(reach: int) -> Floats:
    """Approximate share of numbers beyond a reach, by scale. It affects only speed, not the result.

    Args:
        reach: how far from its mean a number may lie, in whole steps.

    Returns:
        A share for each scale of `SCALES`.
    """
    share: Floats = 1 - erf((reach - 0.5) / (SCALES * np.sqrt(2)))
    return share


@lru_cache(maxsize=len(REACHES))
def _below(reach: int) -> Floats:
    """The probability of everything below each edge between two bins, [scales, fractions, 2 * reach]."""
    half = MEAN_STEPS // 2
    numbers, fractions = np.arange(1 - reach, reach + 1), np.arange(MEAN_STEPS) - half
    distances = MEAN_STEPS * numbers - half - fractions[:, None]  # whole steps, so few values differ
    most = int(np.abs(distances).max())
    away = np.arange(most + 1) / MEAN_STEPS
    upper = erf(away / (SCALES[:, None] * np.sqrt(2)))
    all_of_them: Floats = (1 + np.concatenate([-upper[:, :0:-1], upper], 1)) / 2
    return all_of_them[:, distances + most]


class Encoder:
    """Writes symbols in order. `finish` returns the bytes."""

    def __init__(self) -> None:
        self._coder = _queue.RangeEncoder()

    def under_table(self, values: Int32s, tables: NDArray[np.integer[Any]], limit: int) -> None:
        """Write a whole latent, [channels, positions], under one table of frequencies per channel.

        Args:
            values: whole steps from the centre, [channels, positions].
            tables: frequencies of the steps around 0, [channels, 2 * reach + 1].
            limit: largest absolute value among `values`.
        """
        for channel, table in zip(values, tables, strict=True):
            symbols = np.ascontiguousarray(channel + max(1, limit), dtype=np.int32)
            self._coder.encode(symbols, _categorical(table, limit))

    def gaussian(self, values: Int32s, scales: Floats, means: Floats, limit: int) -> None:
        """Write elements in coding order, each under its own Gaussian. All arrays have one shape.

        Args:
            values: integers to code, of any shape.
            scales: standard deviations of the Gaussians, in the shape of `values`.
            means: means of the Gaussians, in the shape of `values`.
            limit: largest absolute value among all values that are coded with this limit.
        """
        self._coder.encode(values.ravel(), _gaussian(limit), means.ravel(), scales.ravel())

    def finish(self) -> bytes:
        """Return the stream of everything that was coded, as whole 32-bit words in little-endian order."""
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Decoder:
    """Reads symbols in the order in which they were written.

    Args:
        data: the bytes that `Encoder.finish` returned.

    Raises:
        InputError: raised by any call if no encoder can have written the data.
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
        """Read a whole latent, [channels, positions].

        Args:
            tables: frequencies of the steps around 0, [channels, 2 * reach + 1].
            positions: number of positions in the latent.
            limit: the limit that the encoder was given.

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
        """Read the next elements under their Gaussians.

        Args:
            scales: standard deviations of the Gaussians.
            means: means of the Gaussians, in the shape of `scales`.
            limit: the limit that the encoder was given.
        """
        return self._read(_gaussian(limit), means, scales)

    def on_grid(self, levels: Array, steps: Array, limit: int) -> Int32s:
        """Read the next elements under Gaussians on the coding grid. Several times as fast as `gaussian`.

        Args:
            levels: places of the scales in `SCALES`, [n].
            steps: means in steps of 1 / MEAN_STEPS, integers, [n].
            limit: the limit that the encoder was given.
        """
        limit, piece = max(1, limit), max(_PIECE, self._words // 8)  # a piece costs a copy of all words
        scales, means = SCALES.take(levels), steps / MEAN_STEPS
        reach = max((reach for reach in REACHES if reach <= limit), default=0)
        if not reach or len(levels) < _FEW:
            return self.gaussian(scales, means, limit)
        (centres, fractions), rows = split(steps), rows_of(reach, limit)
        places = levels * np.intp(MEAN_STEPS) + fractions
        apart = (share_beyond(reach) > _RARELY).take(levels) | (np.abs(centres) > limit - reach)
        runs, model = _runs(apart, piece), _gaussian(limit)
        symbols = np.empty(len(levels), np.int32)
        for start, wide in zip(range(0, len(levels), piece), runs, strict=True):
            here = slice(start, start + piece)
            weights = rows.take(places[here], axis=0)
            weights[:, 0] += centres[here]
            weights[:, -1] -= centres[here]
            before = self._coder.clone()
            values = self._under_rows(weights, centres[here], wide, model, means[here], scales[here])
            if values is None:
                self._coder = before
                values = self.gaussian(scales[here], means[here], limit)
            symbols[here] = values
        return symbols

    def _under_rows(
        self, weights: BinWeights, centres: Array, wide: Runs, model: object, means: Floats, scales: Floats
    ) -> Int32s | None:
        """Read a piece under rows, and wide Gaussians separately. None if a symbol lies beyond its row.

        Such a symbol is taken for another one, so the data after it may look invalid.
        """
        last, place, read = weights.shape[1] - 1, 0, self._coder.decode
        bins, others = np.full(len(weights), last // 2, np.int32), []
        try:
            for start, stop in wide:
                if start > place:
                    bins[place:start] = read(_BINS, weights[place:start])
                others.append(read(model, means[start:stop], scales[start:stop]))
                place = stop
            if place < len(weights):
                bins[place:] = read(_BINS, weights[place:])
        except AssertionError:
            return None
        if not 0 < bins.min() <= bins.max() < last:
            return None
        values: Int32s = bins + (centres - last // 2)
        for (start, stop), of_run in zip(wide, others, strict=True):
            values[start:stop] = of_run
        return values

    def finish(self) -> None:
        """Check that everything has been read.

        Raises:
            InputError: data is left, so the file is damaged.
        """
        if not self._coder.maybe_exhausted():
            raise InputError("The coded data continues after its end, so the file is damaged: get it again.")

    def _read(self, model: object, *arguments: Any) -> Int32s:
        try:
            return np.asarray(self._coder.decode(model, *arguments))
        except AssertionError:  # the coder's reaction to data that no encoder writes
            raise InputError(
                "The coded data is damaged, because no encoder writes it like this: get the file again."
            ) from None


def _runs(marked: Array, piece: int) -> list[Runs]:
    """The runs of marked elements in each piece. Runs with small gaps between them are joined."""
    places = np.flatnonzero(marked)
    numbers, places = np.divmod(places, piece)
    by_piece: list[Runs] = [[] for _ in range(0, len(marked), piece)]
    cuts = np.flatnonzero((np.diff(places) > _GAP) | (np.diff(numbers) > 0)).tolist()
    for first, last in zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(places) - 1], strict=True):
        if last >= first:
            by_piece[numbers[first]].append((int(places[first]), int(places[last]) + 1))
    return by_piece


def _least_bits(tables: NDArray[np.integer[Any]], limit: int) -> float:
    """The fewest bits that one position of a latent can take, with all channels at their likeliest values."""
    centre, reach = tables.shape[1] // 2, min(max(1, limit), tables.shape[1] // 2)
    inside = tables[:, centre - reach : centre + reach + 1].astype(np.float64)
    return float(-np.log2(inside.max(1) / inside.sum(1)).sum())
