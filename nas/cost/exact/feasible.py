"""The architectures that meet several bounds at once: their least and largest costs, and random draws.

An architecture is one choice in each independent group of slots, and every bound limits a sum over the
groups. This is a multiple-choice knapsack, which HiGHS in scipy solves to a millionth.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.cost.counting.sums import IntArray, Part, independent, spread_over
from nas.cost.exact.quantity import Bound, Quantity, meets, stages
from nas.cost.exact.reach import ReachableCosts
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.support.arrays import Floats
from nas.support.errors import InputError, UnreachableBudgetError

SLACK = 1e-6  # by how much the solver may exceed a bound, relatively
RETRIES = 12  # further attempts, without solutions that exceed a bound
FEW = 1e5  # below it, half of an integer is more than the solver's tolerance
INFEASIBLE = 2  # scipy's status
MOST_CHOICES = 200_000  # of all groups together, in one programme; beyond it a space is refused
SOLVED = 6  # architectures to find by solving if random draws find none
MEDIAN_SAMPLE = 200  # size of the sample behind medians within bounds


class FeasibleSet:
    """The architectures of a space that meet some bounds.

    Args:
        space: the space.
        bounds: limits on any quantities.
    """

    def __init__(self, space: SearchSpace, bounds: Sequence[Bound] = ()) -> None:
        self.space, self.bounds = space, tuple(bounds)
        self._reaches: dict[Quantity, ReachableCosts] = {}
        axis = len(space.slots)
        on_layout = [
            b for b in bounds if all(p.axes == (axis,) for phase in b.quantity.phases for p in phase)
        ]
        self._others = tuple(bound for bound in bounds if bound not in on_layout)
        zeros = [0] * axis
        self.layouts = tuple(
            name
            for k, name in enumerate(space.layout_names)
            if all(bound.quantity.at([*zeros, k]) <= bound.most for bound in on_layout)
        )

    def allows(self, architecture: Architecture) -> bool:
        """Whether an architecture meets every bound."""
        return architecture.layout in self.layouts and meets(architecture, self._others)

    def allows_rows(self, rows: IntArray) -> NDArray[np.bool_]:
        """Whether each row of indexes, [n, slots + 1], meets every bound, booleans [n]."""
        allowed = np.array([name in self.layouts for name in self.space.layout_names])
        met = [bound.quantity.of_rows(rows) <= bound.most for bound in self._others]
        in_all: NDArray[np.bool_] = np.logical_and.reduce([allowed[rows[:, -1]], *met])
        return in_all

    def least(self, quantity: Quantity) -> int | None:
        """The least value of a quantity within the bounds, or None if no architecture meets them."""
        return self._extreme(quantity, 1)

    def most(self, quantity: Quantity) -> int | None:
        """The largest value of a quantity within the bounds, or None if no architecture meets them."""
        return self._extreme(quantity, -1)

    def ends(self, quantity: Quantity) -> tuple[int, int]:
        """The least and the largest value of a quantity within the bounds.

        Raises:
            UnreachableBudgetError: no architecture meets the bounds. The message says what is possible.
        """
        least = self.least(quantity)
        if least is None:
            raise UnreachableBudgetError(self.explain())
        most = self.most(quantity)
        assert most is not None
        return least, most

    def median(self, quantity: Quantity) -> int:
        """Median of a quantity within the bounds: exact where it can be counted, else of a sample."""
        if not self._others and len(quantity.phases) == 1:
            return self._reach(quantity).quantile(0.5)
        return int(np.median([quantity.of(architecture) for architecture in self._sample]))

    def span(self, quantity: Quantity) -> tuple[int, int, int]:
        """The least, the median and the largest value of a quantity. See `ends`."""
        least, most = self.ends(quantity)
        return least, self.median(quantity), most

    @cached_property
    def _sample(self) -> list[Architecture]:
        """The sample behind medians that cannot be counted exactly. All quantities share it."""
        depth = stages(self.space)  # any quantity would do, because its whole range is allowed
        drawn = self.draw(depth, 0, ReachableCosts(depth).most, MEDIAN_SAMPLE, np.random.default_rng(0))
        return drawn or list(self._optima(depth, 1))

    def draw(
        self,
        quantity: Quantity,
        low: int,
        high: int,
        number: int,
        rng: np.random.Generator,
    ) -> list[Architecture]:
        """Draw up to `number` different architectures within the bounds whose quantity lies in [low, high].

        The draw is uniform if a fair share of the space meets the bounds. Otherwise a solver finds a few
        architectures. The list is empty if there are none.

        Args:
            quantity: the quantity to limit.
            low: the least cost, in integer units of the quantity.
            high: the highest cost, in integer units of the quantity.
            number: the most architectures to draw.
            rng: generator of the random numbers.
        """
        if not self.layouts:
            return []
        single = len(quantity.phases) == 1
        # a peak is drawn by one of its phases; the others are checked afterwards
        reach = self._reach(quantity)
        tries = number if single and not self._others else 16 * number
        fit = (
            architecture
            for architecture in reach.draw(low if single else 0, high, tries, rng)
            if low <= quantity.of(architecture) <= high and meets(architecture, self._others)
        )
        drawn = list(itertools.islice(fit, number))
        if drawn or (single and not self._others):
            return drawn
        solved = self._solved(quantity, low, high, min(number, SOLVED), rng)
        return list(dict.fromkeys(solved))

    def _reach(self, quantity: Quantity) -> ReachableCosts:
        """The reach of a quantity's first phase. It is computed once."""
        if quantity not in self._reaches:
            self._reaches[quantity] = ReachableCosts(_phases(quantity)[0], self.layouts)
        return self._reaches[quantity]

    def explain(self) -> str:
        """Explain why no architecture meets the bounds: what each could be, alone or beside the others."""
        for bound in self.bounds:
            alone = FeasibleSet(self.space).least(bound.quantity)
            if alone is not None and alone > bound.most:
                return (
                    f"No architecture has {bound}: the least that {self.space.name} reaches is "
                    f"{bound.quantity.format(alone, least=True)}."
                )
        looser = []
        for bound in self.bounds:
            beside = FeasibleSet(self.space, [other for other in self.bounds if other != bound])
            least = beside.least(bound.quantity)
            if least is not None:
                told = bound.quantity.format_named(least, least=True)
                looser.append(f"{bound.quantity.name} would be {told} at least")
        asked = " and ".join(map(str, self.bounds))
        could = ", or ".join(looser) if looser else "loosen several of them"
        return f"No architecture meets {asked} at once. Keeping the others, {could}."

    # The integer programme

    def _extreme(self, quantity: Quantity, sign: int) -> int | None:
        if not self.layouts:
            return None
        phases = _phases(quantity)
        if sign < 0 and len(phases) > 1:  # the largest peak is the largest value of any phase
            extremes = [self._extreme(phase, sign) for phase in phases]
            return None if None in extremes else max(value for value in extremes if value is not None)
        ends = [self._reach(phase).end(sign) for phase in phases]
        limit = max(phase.of(end) for phase, end in zip(phases, ends, strict=True))
        if any(quantity.of(end) == limit and meets(end, self._others) for end in ends):
            return limit  # no bound prevents this
        if sign < 0 and [bound.quantity for bound in self._others] == [quantity]:
            # a sum as close to its own limit as possible is a subset sum, which the solver is slow at
            return self._reach(quantity).most_up_to(self._others[0].most)
        own = [bound.most for bound in self._others if bound.quantity == quantity]
        end, best = (min(limit, *own) if sign < 0 and own else limit), None
        for value in (quantity.of(solved) for solved in self._optima(quantity, sign)):
            best = value if best is None or sign * value < sign * best else best
            if best == end:
                break  # no other regime goes beyond
        return best

    def _optima(self, quantity: Quantity, sign: int) -> Iterator[Architecture]:
        """The best architecture of every regime that has one."""
        for regime in self._regimes():
            best = _MixedIntegerProgram(self.space, regime, [*self._others], [quantity]).best(quantity, sign)
            if best is not None:
                yield best

    def _solved(
        self,
        quantity: Quantity,
        low: int,
        high: int,
        number: int,
        rng: np.random.Generator,
    ) -> Iterator[Architecture]:
        """Solve for architectures at the ends of what is possible, in random directions."""
        bounds = [*self._others, Bound(quantity, high)]
        # an architecture at or above `low` has a phase at or above it
        ways = [
            (_MixedIntegerProgram(self.space, regime, bounds, [quantity]), phase)
            for regime in self._regimes()
            for phase in _phases(quantity)
        ]
        for _ in range(number):
            while ways:
                way = ways[int(rng.integers(len(ways)))]
                end = way[0].random(way[1], low, rng)
                if end is not None:
                    yield end
                    break
                ways.remove(way)  # no architecture lies there in any direction

    def _regimes(self) -> Iterator[list[IntArray]]:
        kept = [k for k, name in enumerate(self.space.layout_names) if name in self.layouts]
        for regime in self.space.regimes:
            allowed = [*regime[:-1], [k for k in regime[-1] if k in kept]]
            if all(allowed):
                yield [np.array(choices) for choices in allowed]


def _phases(quantity: Quantity) -> list[Quantity]:
    """Each sum of a quantity as a quantity of its own."""
    if len(quantity.phases) == 1:
        return [quantity]
    return [replace(quantity, phases=(phase,)) for phase in quantity.phases]


def _undercut_by_none(values: Floats) -> IntArray:
    """Indexes of the rows, [n, k], that no other row is at most in every column; one of equal rows."""
    different, first = np.unique(values, axis=0, return_index=True)
    kept, indexes = np.empty_like(different), list[int]()
    for value, index in zip(different, first, strict=True):  # in order, so that none undercuts an earlier one
        if not (kept[: len(indexes)] <= value).all(1).any():
            kept[len(indexes)] = value
            indexes.append(int(index))
    return np.array(indexes)


class _MixedIntegerProgram:
    """One regime as a mixed-integer programme: one choice in every group, and one row for each bound."""

    def __init__(
        self,
        space: SearchSpace,
        allowed: list[IntArray],
        bounds: Sequence[Bound],
        more: Sequence[Quantity],
    ) -> None:
        self._space, self._allowed, self._bounds = space, allowed, bounds
        free = [axis for axis, choices in enumerate(allowed) if len(choices) > 1]
        phases = [phase for q in (*(b.quantity for b in bounds), *more) for phase in q.phases]
        self._groups = independent(phases, free)
        self._shapes = [tuple(len(allowed[axis]) for axis in axes) for axes in self._groups]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        ends = np.cumsum([0, *self._sizes])
        self._spans = [slice(start, end) for start, end in itertools.pairwise(ends)]
        if sum(self._sizes) > MOST_CHOICES:
            raise InputError(
                f"{space.name} has too many combinations for several limits at once: tie some of its slots."
            )
        # for each phase of each bound: a row of the matrix, its limit, and the bound on that phase alone
        self._rows, self._most, self._alone = [], [], []
        for bound in bounds:
            for phase in _phases(bound.quantity):
                row, constant = self._row(phase.phases[0])
                row, most = self._scaled(row, bound.most - constant)
                self._rows.append(row)
                self._most.append(most)
                self._alone.append(Bound(phase, bound.most))

    def _row(self, phase: Sequence[Part]) -> tuple[Floats, int]:
        sums, constant = spread_over(phase, self._groups, self._allowed)
        flat = [table.ravel().astype(float) for table in sums]
        return np.concatenate([*flat, np.zeros(0)]), constant

    def _scaled(self, row: Floats, most: float) -> tuple[Floats, float]:
        """The same limit with numbers near 1: every group starts at 0, and values above the limit are cut.

        All are integers, so half of one above the limit changes nothing but keeps the solver's tolerance
        from deciding where numbers are small.
        """
        row = row.copy()
        for span in self._spans:
            least = row[span].min()
            row[span] -= least
            most -= least
        scale = max(1.0, most)
        return np.minimum(row / scale, 2.0), (most + (0.5 if scale < FEW else 0.0)) / scale

    def best(self, quantity: Quantity, sign: int) -> Architecture | None:
        """The architecture with the least quantity (sign 1), or the largest (-1, for a single phase)."""
        rows = [self._row(phase) for phase in quantity.phases]
        scale = max(1.0, *(float(np.abs(row).max(initial=0)) for row, _ in rows))
        if len(rows) == 1:
            return self._solve(sign * rows[0][0] / scale, [], [])
        # the peak of several sums is one more variable that is at least as large as each of them
        peaks = [np.append(row / scale, -1.0) for row, _ in rows]
        cost = np.append(np.zeros(sum(self._sizes)), 1.0)
        return self._solve(cost, peaks, [-constant / scale for _, constant in rows], peak=True)

    def random(self, quantity: Quantity, low: int, rng: np.random.Generator) -> Architecture | None:
        """An architecture within the bounds at or above `low` (for a single phase), in a random direction."""
        direction = np.concatenate([rng.random(size) for size in self._sizes] or [np.zeros(0)])
        row, constant = self._row(quantity.phases[0])
        row, most = self._scaled(-row, constant - low)
        return self._solve(direction, [row], [most], floor=(quantity, low))

    def _solve(
        self,
        cost: Floats,
        rows: Sequence[Floats],
        most: Sequence[float],
        *,
        peak: bool = False,
        floor: tuple[Quantity, int] | None = None,
    ) -> Architecture | None:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_matrix

        def fits(architecture: Architecture) -> bool:  # exact, in integers
            enough = floor is None or floor[0].of(architecture) >= floor[1]
            return enough and meets(architecture, self._bounds)

        count = sum(self._sizes)
        wide = count + peak
        if count == 0:
            only = self._architecture(np.zeros(0))
            return only if fits(only) else None
        useful = self._useful([cost[:count], *self._rows, *(row[:count] for row in rows)])
        choose = np.zeros((len(self._sizes), wide))
        for group, span in enumerate(self._spans):
            choose[group, span] = 1
        padded = [np.append(row, 0.0) if peak else row for row in self._rows]
        constraints, limits = [choose, *padded, *rows], np.array([*self._most, *most])
        ones = np.ones(len(self._sizes))
        integral = np.append(np.ones(count), [0] * peak)
        upper = np.append(useful.astype(float), [np.inf] * peak)
        exceeded = np.zeros(len(limits), bool)
        for tightened in (*[0.0] * RETRIES, SLACK, 10 * SLACK):
            matrix = csr_matrix(np.vstack(constraints))
            low = np.concatenate([ones, np.full(len(limits), -np.inf)])
            high = np.concatenate([ones, limits - tightened * exceeded])
            solution = milp(
                cost,
                integrality=integral,
                bounds=Bounds(np.zeros(wide), upper),
                constraints=LinearConstraint(matrix, low, high),
                options={"mip_rel_gap": 0.0, "presolve": False},
            )
            if solution.x is None and solution.status == INFEASIBLE:
                return None
            if solution.x is None:  # the solver gave up; the next limits may suit it better
                continue
            architecture = self._architecture(solution.x[:count])
            if fits(architecture):
                return architecture
            # the solution exceeds a bound by less than SLACK; what others allow to the full is not tightened
            for row, bound in enumerate(self._alone):
                exceeded[row] |= not meets(architecture, [bound])
            if floor is not None:
                exceeded[len(self._rows)] |= floor[0].of(architecture) < floor[1]
            constraints.append((solution.x > 0.5) & (np.arange(wide) < count))
            limits, exceeded = np.append(limits, len(self._sizes) - 0.5), np.append(exceeded, False)
        return None

    def _useful(self, sums: Sequence[Floats]) -> NDArray[np.bool_]:
        """Which choices a solution may need: those that no other one of their group undercuts in all sums.

        The cost is minimised and every row is limited from above, so an undercut choice can be replaced
        without loss. Few choices remain, which saves the solver minutes in spaces with large groups.

        Args:
            sums: the cost and all rows, each by choice.
        """
        useful = np.zeros(sum(self._sizes), bool)
        for span in self._spans:
            useful[span.start + _undercut_by_none(np.stack([row[span] for row in sums], 1))] = True
        return useful

    def _architecture(self, chosen: Floats) -> Architecture:
        indexes = [int(choices[0]) for choices in self._allowed]
        for axes, shape, span in zip(self._groups, self._shapes, self._spans, strict=True):
            flat = int(np.argmax(chosen[span]))
            for axis, choice in zip(axes, np.unravel_index(flat, shape), strict=True):
                indexes[axis] = int(self._allowed[axis][choice])
        return self._space.at(indexes)
