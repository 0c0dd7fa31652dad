"""What to score next: the row of indexes, one per slot, that should improve the front most."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.metrics.pareto import front_indexes
from nas.searching.sampler.acquisition import Acquisition
from nas.searching.sampler.moves import Row, Rows, crosses, exchanges, neighbours
from nas.searching.sampler.surrogate import LossModel, comparable_losses, scaled
from nas.support.arrays import Floats
from nas.support.errors import NasError
from nas.support.limits import check_seed

SMALL = 20_000  # spaces with at most this many rows are examined completely
DESIGN = 4  # rows to score before the model is used, in addition to one per slot
LOCAL, ALSO = 5, 10  # one row in LOCAL is a step from the front, one in ALSO is a baseline
PARENTS, CLIMBS, TOP = 64, 3, 8  # front members to vary; rounds of climbing; rows per round
CROSSED, EXCHANGED, DRAWN = 200, 300, 100  # candidates of each kind
DRAWING_ROUNDS = 20  # rounds of drawing before the sampler gives up
BELIEF = 2.0  # number of scores at which the prior has weight 1; its weight then falls as 1 / scores


Fresh = Callable[[Sequence[Rows]], Rows]  # keeps the rows that may be proposed, without duplicates


class ExhaustedError(NasError):
    """Nothing new is left to propose: (nearly) all allowed rows are known."""

    def __init__(self) -> None:
        super().__init__("Nothing new is left to try: everything that is allowed was proposed.")


class RowPrior(Protocol):
    """A prior over rows: where good ones are expected before anything is scored."""

    def draw(self, number: int, rng: np.random.Generator) -> Rows:
        """Draw rows, [number, slots].

        Args:
            number: number of rows.
            rng: generator of the random numbers.
        """
        ...

    def log_density(self, rows: Rows) -> Floats:
        """The logarithm of each row's probability up to a constant, [n].

        Args:
            rows: one index per slot, [n, slots].
        """
        ...


class Proposer:
    """Proposes rows that should extend the front of cost and loss, where the cost is known.

    A Gaussian process (`LossModel`) predicts the loss. The proposed row is the one with the largest expected
    improvement (`Acquisition`), found by climbing from the front. Every fifth proposal is a step from the
    front, judged by its most probable loss. A prior weighs the improvements, and its weight falls with the
    number of scores (pi-BO, Hvarfner et al., ICLR 2022). No row is proposed twice. A proposal depends only
    on the seed and on the previous scores, so there is no state to store.

    Args:
        slots: for each slot by name, the distances between its choices, [choices, choices].
        cost: returns the cost of rows, [n, slots] to [n].
        acquisition: the acquisition function.
        unordered: names of the slots whose choices have no order.
        allowed: returns which rows may be tried, booleans [n]. By default all may.
        settle: sets slots that have no effect in a row to 0. By default rows stay unchanged.
        draw: draws random rows, which need not be allowed. By default they are uniform.
        first: rows to propose first, if they are allowed.
        also: baseline rows for comparison: one proposal in ten.
        prior: prior over rows.
        local: whether steps from the front are among the proposals.
        model: model of the losses. By default a new one is made.
        seed: seed for all random choices.
    """

    def __init__(
        self,
        slots: Mapping[str, Floats],
        cost: Callable[[Rows], Floats],
        acquisition: Acquisition,
        *,
        unordered: Sequence[str] = (),
        allowed: Callable[[Rows], NDArray[np.bool_]] | None = None,
        settle: Callable[[Rows], Rows] | None = None,
        draw: Callable[[int, np.random.Generator], Rows] | None = None,
        first: Iterable[Sequence[int]] = (),
        also: Iterable[Sequence[int]] = (),
        prior: RowPrior | None = None,
        local: bool = True,
        model: LossModel | None = None,
        seed: int = 0,
    ) -> None:
        self.names = tuple(slots)
        self.shape = tuple(len(table) for table in slots.values())
        self.model = model or LossModel(list(slots.values()))
        self._unordered = tuple(self.names.index(name) for name in unordered)
        self._cost, self._acquisition, self._prior = cost, acquisition, prior
        self._local, self._seed = local, check_seed(seed)
        self._allowed = allowed or (lambda rows: np.ones(len(rows), dtype=bool))
        self._settle = settle or (lambda rows: rows)
        self._draw = draw or (lambda number, rng: rng.integers(0, self.shape, (number, len(self.shape))))
        self._first, self._also = self._wanted(first), self._wanted(also)

    def rows(self, rows: Iterable[Sequence[int]]) -> Rows:
        """Convert rows to one array, [n, slots], also if there are none.

        Args:
            rows: one index per slot, for each row.
        """
        return np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, len(self.shape))

    def _wanted(self, rows: Iterable[Sequence[int]]) -> list[Row]:
        candidates = self.rows(rows)
        return list(map(tuple, candidates[self._allowed(candidates)].tolist()))

    def propose(
        self,
        rows: Rows,
        losses: Floats,
        pending: Rows | None = None,
        *,
        aside: Rows | None = None,
        fixed: Mapping[int, int] | None = None,
    ) -> Row:
        """Choose the row to score next.

        Args:
            rows: the scored rows, in the order of scoring, [n, slots].
            losses: their losses, [n]. Infinite ones count as the worst of the others.
            pending: rows that other workers are scoring, [m, slots].
            aside: other rows that must not be proposed, [k, slots].
            fixed: choices that the proposal must have, by place of the slot.

        Raises:
            ExhaustedError: no allowed row is left.
        """
        nothing = self.rows([])
        pending, aside = (nothing if more is None else more for more in (pending, aside))
        taken, fixed = self._taken(np.concatenate([rows, pending, aside])), fixed or {}
        fresh = functools.partial(self._fresh, taken=taken, fixed=fixed)
        for row in [*self._first, *(self._also if len(taken) % ALSO == 0 else [])]:
            if row not in taken and all(row[number] == choice for number, choice in fixed.items()):
                return row
        rows, losses = comparable_losses(rows, losses)
        rng = np.random.default_rng([self._seed, len(taken)])
        if len(rows) < min(len(self.shape) + DESIGN, max(2, math.prod(self.shape) // 4)):
            return self._blindly(fresh, rng)
        self.model.update(rows, losses, pending)
        scored = (self._cost(rows), scaled(losses))
        front = rows[front_indexes(*scored)]
        if self._local and len(taken) % LOCAL == 1:
            near = fresh([*self._beside(front), exchanges(front, self.shape, EXCHANGED, rng)])
            improvements = self._improvements(near, scored, sure=True)
            if improvements.max(initial=0) > 0:
                return _row(near[np.argmax(improvements)])
        if self._small:
            candidates = fresh(self._everything())
        else:
            parents = front[np.linspace(0, len(front) - 1, min(PARENTS, len(front))).astype(int)]
            varied = exchanges(front, self.shape, EXCHANGED, rng), crosses(front, CROSSED, rng)
            start = [*self._beside(parents), *varied, *self._random(DRAWN, rng)]
            candidates = self._climb(start, lambda rows: self._improvements(rows, scored), fresh, rng)
        if not len(candidates):
            return self._blindly(fresh, rng)
        return _row(candidates[np.argmax(self._improvements(candidates, scored))])

    def is_exhausted(self, taken: Rows, fixed: Mapping[int, int] | None = None) -> bool:
        """Whether nothing is left to propose. Large spaces are not examined and never count as exhausted.

        Args:
            taken: rows that were proposed before, [n, slots].
            fixed: as in `propose`.
        """
        if not self._small:
            return False
        return not len(self._fresh(self._everything(), taken=self._taken(taken), fixed=fixed or {}))

    def likeliest(self, rows: Rows, losses: Floats, start: Rows, *, aside: Rows | None = None) -> Row | None:
        """The unscored row with the least predicted loss among those found, or None if there is none.

        Args:
            rows, losses, aside: as in `propose`.
            start: rows to start from, [m, slots].
        """
        taken = self._taken(rows if aside is None else np.concatenate([rows, aside]))
        fresh = functools.partial(self._fresh, taken=taken, fixed={})
        rng = np.random.default_rng([self._seed, len(rows)])
        rows, losses = comparable_losses(rows, losses)
        if len(rows) < DESIGN:
            candidates = fresh([start])
            return _row(rng.choice(candidates)) if len(candidates) else None
        self.model.update(rows, losses)
        candidates = self._climb([start], lambda rows: -self.model.predict(rows)[0], fresh, rng)
        return _row(candidates[np.argmin(self.model.predict(candidates)[0])]) if len(candidates) else None

    def _climb(
        self,
        start: Sequence[Rows],
        worth: Callable[[Rows], Floats],
        fresh: Fresh,
        rng: np.random.Generator,
    ) -> Rows:
        """Extend candidates by neighbours of the best ones, for some rounds."""
        candidates = fresh(start)
        for _ in range(CLIMBS if len(candidates) else 0):
            best = candidates[np.argsort(-worth(candidates), kind="stable")[:TOP]]
            around = [*self._beside(best), exchanges(best, self.shape, DRAWN, rng)]
            candidates = fresh([candidates, *around])
        return candidates

    def _improvements(self, rows: Rows, scored: tuple[Floats, Floats], *, sure: bool = False) -> Floats:
        """The expected improvement of each row. With `sure`, the most probable loss is taken as certain."""
        if not len(rows):
            return np.zeros(0)
        mean, deviation = self.model.predict(rows)
        improvements = self._acquisition.improvement(
            scored, self._cost(rows), mean, np.full_like(mean, 1e-12) if sure else deviation
        )
        if self._prior is None:
            return improvements
        belief = self._prior.log_density(rows)
        believed: Floats = improvements * np.exp((belief - belief.max()) * BELIEF / len(scored[0]))
        return believed

    # Candidates

    def _beside(self, rows: Rows) -> list[Rows]:
        return [neighbours(rows, self.shape, self._unordered)]

    def _random(self, number: int, rng: np.random.Generator) -> list[Rows]:
        """Random rows, and as many drawn from the prior."""
        believed = [] if self._prior is None else [self._prior.draw(number, rng)]
        return [self._draw(number, rng), *believed]

    def _blindly(self, fresh: Fresh, rng: np.random.Generator) -> Row:
        """A new row without the help of the model: random, or drawn from the prior."""
        for _ in range(DRAWING_ROUNDS):
            drawn = self._random(DRAWN, rng)
            candidates = fresh([drawn[rng.integers(len(drawn))]])
            if len(candidates):
                return _row(rng.choice(candidates))
        candidates = fresh(self._everything()) if self._small else self.rows([])
        if not len(candidates):
            raise ExhaustedError
        return _row(rng.choice(candidates))

    @property
    def _small(self) -> bool:
        return math.prod(self.shape) <= SMALL

    def _everything(self) -> list[Rows]:
        count = math.prod(self.shape)
        return [np.stack(np.unravel_index(np.arange(count), self.shape), 1)]

    def _taken(self, rows: Rows) -> set[Row]:
        return set(map(tuple, self._settle(rows).tolist()))

    def _fresh(self, parts: Sequence[Rows], *, taken: set[Row], fixed: Mapping[int, int]) -> Rows:
        """The allowed rows that are not taken, with the fixed choices, each once."""
        rows = np.concatenate(parts)
        for number, choice in fixed.items():
            rows[:, number] = choice
        rows = np.unique(self._settle(rows), axis=0)
        new = [number for number, row in enumerate(map(tuple, rows.tolist())) if row not in taken]
        rows = rows[new]
        return rows[self._allowed(rows)]


def _row(row: Rows) -> Row:
    return tuple(map(int, row))
