"""Width logits as the sampler's prior over architectures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from nas.searching.sampler.logits import WidthLogits
from nas.searching.sampler.moves import Rows
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.support.arrays import Floats

OPEN = 0.1  # share of the probability that is spread over all candidates, because logits may be wrong


class LogitPrior:
    """A mixture of the distributions that the sets of logits give, equally weighted. Layouts are uniform.

    Args:
        space: the space of the slots.
        rungs: the sets of logits, at least one.
    """

    def __init__(self, space: SearchSpace, rungs: Sequence[WidthLogits]) -> None:
        self._space = space
        self._tables = [  # for each slot, [rungs, candidates]
            np.array([self._opened(rung.probabilities()[slot.name]) for rung in rungs])
            for slot in space.slots
        ]

    def draw(self, number: int, rng: np.random.Generator) -> Rows:
        """Draw rows, [number, slots + 1].

        Args:
            number: number of rows.
            rng: generator of the random numbers.
        """
        rungs = rng.integers(0, len(self._tables[0]), number)
        columns = [
            (rng.random((number, 1)) > table.cumsum(1)[rungs][:, :-1]).sum(1) for table in self._tables
        ]
        return np.stack([*columns, rng.integers(0, self._space.shape[-1], number)], 1)

    def log_density(self, rows: Rows) -> Floats:
        """The logarithm of each row's probability without the factor of its layout, [n].

        Args:
            rows: one index per slot, the layout last, [n, slots + 1].
        """
        by_slot = [np.log(table)[:, rows[:, number]] for number, table in enumerate(self._tables)]
        return np.asarray(logsumexp(np.sum(by_slot, axis=0), axis=0))

    @staticmethod
    def _opened(probabilities: Sequence[float]) -> Floats:
        return (1 - OPEN) * np.asarray(probabilities) + OPEN / len(probabilities)


def modes(space: SearchSpace, rungs: Sequence[WidthLogits], layout: str) -> list[Architecture]:
    """The most probable widths of each set of logits, under one layout.

    Args:
        space: the search space.
        rungs: the sets of logits.
        layout: name of the layout.
    """
    layout_number = space.layout_names.index(layout)
    likeliest = ([int(np.argmax(rung.logits[slot.name])) for slot in space.slots] for rung in rungs)
    return [space.at([*widths, layout_number]) for widths in likeliest]
