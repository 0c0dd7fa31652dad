"""What to score next: the row of indexes, one per slot, that is expected to add most to the front."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.metrics.pareto import on_staircase
from nas.searching.sampler.gain import Aim
from nas.searching.sampler.moves import Row, Rows, crosses, exchanges, neighbours
from nas.searching.sampler.surrogate import LossModel, comparable_losses, scaled
from nas.support.arrays import Floats
from nas.support.errors import NasError
from nas.support.limits import check_seed

SMALL = 20_000  # spaces of no more rows are looked through, row by row
DESIGN = 4  # rows to score, beyond one for each slot, before the model is asked
LOCAL, ALSO = 5, 10  # of so many rows one is a step from the front, one is there to compare with
PARENTS, CLIMBS, TOP = 64, 3, 8  # members of the front that are varied; rounds of climbing, from how many
CROSSED, EXCHANGED, DRAWN = 200, 300, 100  # candidates of each kind
DRAWING_ROUNDS = 20  # rounds of drawing in which nothing new is met
BELIEF = 2.0  # after how many scores a prior counts no more than once


Fresh = Callable[[Sequence[Rows]], Rows]  # what may be proposed of some rows, each once


class ExhaustedError(NasError):
    """Nothing new to try: what is allowed is (nearly) all known."""

    def __init__(self) -> None:
        super().__init__("Nothing new is left to try: everything that is allowed was proposed.")


class RowPrior(Protocol):
    """Where good rows are believed to lie before anything was scored."""

    def draw(self, number: int, rng: np.random.Generator) -> Rows:
        """Rows, [number, slots].

        Args:
            number: number of rows.
            rng: generator of the random numbers.
        """
        ...

    def log_density(self, rows: Rows) -> Floats:
        """How likely each row is, but for a constant, [n].

        Args:
            rows: one index per slot, [n, slots].
        """
        ...


class Proposer:
    """Looks for the rows that no other beats in cost and loss, the cost being known.

    The loss is guessed by a Gaussian process (`LossModel`); what is proposed is the row whose gain (`Aim`) is
    expected to be largest, found by climbing from the front, and every fifth time a step from the front at
    its most probable loss. A prior weighs the gains, less the more is known (pi-BO, Hvarfner et al., ICLR
    2022). Nothing is proposed twice. A proposal depends on the seed and on what was scored before, and on
    nothing else: there is no state to keep.

    Args:
        slots: for each slot's name the distances of its choices from each other, [choices, choices].
        cost: what rows [n, slots] cost, [n].
        aim: what counts as better.
        unordered: the slots whose choices have no order.
        allowed: which rows may be tried, [n] of booleans; all by default.
        settle: rows with slots that have no effect put to 0; as they are by default.
        draw: random rows, which need not be allowed; uniform by default.
        first: rows that come first, those that are allowed.
        also: rows that are wanted besides, to compare with: one proposal in ten.
        prior: where good rows are believed to lie.
        local: whether steps from the front are among the proposals.
        model: of losses; one of its own by default.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        slots: Mapping[str, Floats],
        cost: Callable[[Rows], Floats],
        aim: Aim,
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
        self._cost, self._aim, self._prior, self._local, self._seed = (
            cost,
            aim,
            prior,
            local,
            check_seed(seed),
        )
        self._allowed = allowed or (lambda rows: np.ones(len(rows), dtype=bool))
        self._settle = settle or (lambda rows: rows)
        self._draw = draw or (lambda number, rng: rng.integers(0, self.shape, (number, len(self.shape))))
        self._first, self._also = self._wanted(first), self._wanted(also)

    def rows(self, rows: Iterable[Sequence[int]]) -> Rows:
        """Rows as one array, [n, slots], also where there are none.

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
        """What to score next.

        Args:
            rows: what was scored, in that order, [n, slots].
            losses: theirs, [n]. Infinite ones count as the worst of the others.
            pending: what is being scored elsewhere, [m, slots].
            aside: what is not to be proposed either, [k, slots].
            fixed: the choices that a proposal must have, by the places of their slots.

        Raises:
            ExhaustedError: nothing is left that may be tried.
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
        front = rows[on_staircase(*scored)]
        if self._local and len(taken) % LOCAL == 1:
            near = fresh([*self._beside(front), exchanges(front, self.shape, EXCHANGED, rng)])
            gains = self._gains(near, scored, sure=True)
            if gains.max(initial=0) > 0:
                return _row(near[np.argmax(gains)])
        if self._small:
            candidates = fresh(self._everything())
        else:
            parents = front[np.linspace(0, len(front) - 1, min(PARENTS, len(front))).astype(int)]
            varied = exchanges(front, self.shape, EXCHANGED, rng), crosses(front, CROSSED, rng)
            start = [*self._beside(parents), *varied, *self._random(DRAWN, rng)]
            candidates = self._climb(start, lambda rows: self._gains(rows, scored), fresh, rng)
        if not len(candidates):
            return self._blindly(fresh, rng)
        return _row(candidates[np.argmax(self._gains(candidates, scored))])

    def is_exhausted(self, taken: Rows, fixed: Mapping[int, int] | None = None) -> bool:
        """Whether nothing is left to propose, as far as that can be looked through.

        Args:
            taken: what was proposed, [n, slots].
            fixed: as `propose` has.
        """
        if not self._small:
            return False
        return not len(self._fresh(self._everything(), taken=self._taken(taken), fixed=fixed or {}))

    def likeliest(self, rows: Rows, losses: Floats, start: Rows, *, aside: Rows | None = None) -> Row | None:
        """Of what was not scored, the row of least loss as far as it can be guessed; None where all was.

        Args:
            rows, losses, aside: as `propose` has.
            start: where to look from, [m, slots].
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
        """Candidates, and around those of most worth ever more."""
        candidates = fresh(start)
        for _ in range(CLIMBS if len(candidates) else 0):
            best = candidates[np.argsort(-worth(candidates), kind="stable")[:TOP]]
            around = [*self._beside(best), exchanges(best, self.shape, DRAWN, rng)]
            candidates = fresh([candidates, *around])
        return candidates

    def _gains(self, rows: Rows, scored: tuple[Floats, Floats], *, sure: bool = False) -> Floats:
        """What each row is expected to add; where `sure`, if its loss is the most probable one."""
        if not len(rows):
            return np.zeros(0)
        mean, deviation = self.model.predict(rows)
        gains = self._aim.gain(
            scored, self._cost(rows), mean, np.full_like(mean, 1e-12) if sure else deviation
        )
        if self._prior is None:
            return gains
        belief = self._prior.log_density(rows)
        believed: Floats = gains * np.exp((belief - belief.max()) * BELIEF / len(scored[0]))
        return believed

    # Where candidates come from

    def _beside(self, rows: Rows) -> list[Rows]:
        return [neighbours(rows, self.shape, self._unordered)]

    def _random(self, number: int, rng: np.random.Generator) -> list[Rows]:
        """Rows from anywhere, and as many from the prior."""
        believed = [] if self._prior is None else [self._prior.draw(number, rng)]
        return [self._draw(number, rng), *believed]

    def _blindly(self, fresh: Fresh, rng: np.random.Generator) -> Row:
        """A new row from anywhere."""
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
        """Each allowed row once, with the choices that are fixed, those that are taken left out."""
        rows = np.concatenate(parts)
        for number, choice in fixed.items():
            rows[:, number] = choice
        rows = np.unique(self._settle(rows), axis=0)
        new = [number for number, row in enumerate(map(tuple, rows.tolist())) if row not in taken]
        rows = rows[new]
        return rows[self._allowed(rows)]


def _row(row: Rows) -> Row:
    return tuple(map(int, row))
