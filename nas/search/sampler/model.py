"""What the search believes of losses: a surrogate of their logarithm that is taught as scores come in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.sampler.gain import Floats
from nas.search.sampler.moves import Rows
from nas.search.sampler.surrogate import Surrogate

FIRST, MORE, GROWTH = 4, 5, 1.15  # when the surrogate's parameters are learned again


def comparable(rows: Rows, losses: Floats) -> tuple[Rows, Floats]:
    """Rows with losses that can be compared: infinity is as bad as the worst; what is no loss is left out."""
    finite = np.isfinite(losses)
    if finite.all():
        return rows, losses
    if finite.any():
        losses = np.where(losses == np.inf, losses[finite].max(), losses)
    keep = np.isfinite(losses)
    return rows[keep], losses[keep]


def scaled(losses: Floats) -> Floats:
    """Losses as they are modelled: their logarithms; where some are not above 0, as shares of the largest."""
    if (losses > 0).all():
        return np.asarray(np.log(losses))
    largest = np.abs(losses).max()
    return losses / largest if largest > 0 else losses


class LossModel:
    """The loss of any row of indexes, from the rows that were scored.

    The same rows in the same order give the same model, however many calls they came in: so a search that
    was interrupted goes on as if it had not been.

    Args:
        distances: see `Surrogate`.
    """

    def __init__(self, distances: Sequence[Floats]) -> None:
        self._distances = distances
        self._surrogate = Surrogate(distances)
        self._learned_from = (0, True)

    def update(self, rows: Rows, losses: Floats, pending: Rows | None = None) -> None:
        """Take what was scored, in the order it was scored in.

        Args:
            rows: all that was scored, [n, slots].
            losses: theirs, [n], finite.
            pending: rows being scored elsewhere, [m, slots]: taken at what is guessed of them.
        """
        values, lesson = scaled(losses), (_lesson(len(rows)), bool((losses > 0).all()))
        if lesson != self._learned_from:
            self._surrogate.fit(rows[: lesson[0]], values[: lesson[0]])
            self._learned_from = lesson
        self._surrogate.observe(rows, values)
        if pending is not None and len(pending):
            guessed, _ = self._surrogate.predict(pending)
            self._surrogate.observe(np.concatenate([rows, pending]), np.concatenate([values, guessed]))

    def predict(self, rows: Rows) -> tuple[Floats, Floats]:
        """The mean and the standard deviation of the loss as `scaled` has it, each [n]."""
        return self._surrogate.predict(rows)


def _lesson(count: int) -> int:
    """From how many of so many scores parameters are learned: they stay until there are a share more."""
    enough = FIRST
    while (after := max(enough + MORE, int(GROWTH * enough))) <= count:
        enough = after
    return enough
