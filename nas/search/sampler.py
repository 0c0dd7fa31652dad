"""An Optuna sampler of architectures: learned logits as prior, evolution around the front, no repeats."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.search.front import pareto
from nas.search.logits import WidthLogits
from nas.space import Architecture, SearchSpace

TRIES = 300


class ArchitectureSampler(BaseSampler):
    """Draws architectures as integers, one per slot (an index into its sorted candidates).

    A share of the trials comes from the learned width logits, each rung equally often, with any layout. The
    rest varies members of the front: one or two steps in single slots, or a cross of two neighbours on it.
    No architecture is drawn twice, and none that `allowed` refuses.

    Args:
        space: what is drawn from.
        prior: learned logits, one set per price of a MAC; empty for none.
        seed: of its own generator, whose state `state` and `restore` carry.
        allowed: says whether an architecture fits the budget (its cost is known before it is scored).
        known: says whether an architecture's score is known already.
        prior_share: how much comes from the prior while both sources have something to offer.
    """

    def __init__(
        self,
        space: SearchSpace,
        prior: Sequence[WidthLogits] = (),
        *,
        seed: int = 0,
        allowed: Callable[[Architecture], bool] = lambda architecture: True,
        known: Callable[[Architecture], bool] = lambda architecture: False,
        prior_share: float = 0.3,
    ) -> None:
        self._space, self._allowed, self._known = space, allowed, known
        self._prior = [rung.probabilities() for rung in prior]
        self._prior_share = prior_share
        self._rng = random.Random(seed)

    def distributions(self) -> dict[str, BaseDistribution]:
        """The search space as Optuna sees it: flat, ordinal."""
        names = [*(slot.name for slot in self._space.slots), "layout"]
        return {name: IntDistribution(0, n - 1) for name, n in zip(names, self._space.shape, strict=True)}

    def architecture(self, params: Mapping[str, Any]) -> Architecture:
        """The architecture of a trial's parameters."""
        return self._space.at([int(params[name]) for name in self.distributions()])

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = study.get_trials(deepcopy=False)
        seen = {self.architecture(t.params) for t in trials if len(t.params) == len(search_space)}
        done = [t for t in trials if t.state == TrialState.COMPLETE and len(t.params) == len(search_space)]
        parents = self._parents(done)
        chosen = None
        for attempt in range(TRIES):
            found = self._propose(parents, wild=attempt / TRIES)
            if found not in seen and self._allowed(found) and not self._known(found):
                chosen = found
                break
        if chosen is None:
            raise ExhaustedError
        return dict(zip(search_space, self._space.indexes(chosen), strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        assert isinstance(distribution, IntDistribution)
        return self._rng.randint(distribution.low, distribution.high)

    def reseed_rng(self) -> None:
        self._rng.seed()

    def state(self) -> list[Any]:
        """The generator's state, to be kept beside the study: a study does not hold it."""
        version, internal, gauss = self._rng.getstate()
        return [version, list(internal), gauss]

    def restore(self, state: list[Any]) -> None:
        self._rng.setstate((state[0], tuple(state[1]), state[2]))

    def _parents(self, done: Sequence[FrozenTrial]) -> list[tuple[float, Architecture]]:
        """The front in the order of its cost, with the costs."""
        points = [t for t in done if t.values is not None]
        keep = pareto([t.values[0] for t in points], [t.values[1] for t in points])
        front = sorted((t for t, on in zip(points, keep, strict=True) if on), key=lambda t: t.values[0])
        return [(t.values[0], self.architecture(t.params)) for t in front]

    def _propose(self, parents: list[tuple[float, Architecture]], wild: float) -> Architecture:
        """One candidate; `wild` grows to 1 while candidates are refused, and with it the steps taken."""
        rng = self._rng
        if not parents or rng.random() < 0.2 * wild:
            return self._from_prior() if self._prior and rng.random() < 0.5 else self._space.sample(rng)
        if self._prior and rng.random() < self._prior_share:
            return self._from_prior()
        # evenly over the range of costs, not where the front happens to be dense
        wanted = rng.uniform(parents[0][0], parents[-1][0])
        place = min(range(len(parents)), key=lambda k: abs(parents[k][0] - wanted))
        indexes = list(self._space.indexes(parents[place][1]))
        if len(parents) > 1 and rng.random() < 0.3:
            beside = min(max(0, place + rng.choice((-2, -1, 1, 2))), len(parents) - 1)
            other = self._space.indexes(parents[beside][1])
            indexes = [rng.choice(pair) for pair in zip(indexes, other, strict=True)]
        open_slots = [k for k, count in enumerate(self._space.shape) if count > 1]
        steps = 1 + (rng.random() < 0.4) + int(3 * wild)
        for _ in range(steps if open_slots else 0):
            slot = rng.choice(open_slots)
            count = self._space.shape[slot]
            if slot == len(indexes) - 1:  # layouts have no natural order
                indexes[slot] = rng.randrange(count)
            else:
                indexes[slot] = min(max(0, indexes[slot] + rng.choice((-1, 1))), count - 1)
        return self._space.at(indexes)

    def _from_prior(self) -> Architecture:
        rung = self._rng.choice(self._prior)
        indexes = [
            self._rng.choices(range(len(slot.candidates)), rung[slot.name])[0] for slot in self._space.slots
        ]
        return self._space.at([*indexes, self._rng.randrange(len(self._space.layouts))])


class ExhaustedError(Exception):
    """Nothing new to draw: the allowed architectures are (nearly) all known."""


def quiet_optuna() -> None:
    """Optuna logs every trial unless told not to."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
