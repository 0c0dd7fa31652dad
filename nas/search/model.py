"""What the search believes of losses: a surrogate of their logarithm that is taught as scores come in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.gain import Floats
from nas.search.moves import Rows
from nas.search.surrogate import Surrogate

FIRST, MORE, GROWTH = 4, 5, 1.15  # when the surrogate's parameters are learned again


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
        self._learned_from = 0

    def update(self, rows: Rows, losses: Floats, pending: Rows | None = None) -> None:
        """Take what was scored, in the order it was scored in.

        Args:
            rows: all that was scored, [n, slots].
            losses: theirs, [n], above 0.
            pending: rows being scored elsewhere, [m, slots]: taken at what is guessed of them.
        """
        values, enough = np.log(losses), _lesson(len(rows))
        if enough != self._learned_from:
            self._surrogate.fit(rows[:enough], values[:enough])
            self._learned_from = enough
        self._surrogate.observe(rows, values)
        if pending is not None and len(pending):
            guessed, _ = self._surrogate.predict(pending)
            self._surrogate.observe(np.concatenate([rows, pending]), np.concatenate([values, guessed]))

    def predict(self, rows: Rows) -> tuple[Floats, Floats]:
        """The mean and the standard deviation of the logarithm of the loss, each [n]."""
        return self._surrogate.predict(rows)


def _lesson(count: int) -> int:
    """From how many of so many scores parameters are learned: they stay until there are a share more."""
    enough = FIRST
    while (after := max(enough + MORE, int(GROWTH * enough))) <= count:
        enough = after
    return enough
