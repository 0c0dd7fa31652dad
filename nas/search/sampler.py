"""An Optuna sampler for two objectives of which one, the cost, is known before anything is tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.search.gain import Floats
from nas.search.moves import Rows
from nas.search.proposer import Proposer


class ParetoSampler(BaseSampler):
    """Asks a `Proposer` for every trial.

    Trials have one integer parameter for each of its slots, an index into the slot's choices, and two values
    to minimise: the cost and the loss. Trials that failed are as if they had not been; those that run are
    taken into account. The same study gives the same next trial, in whichever process.

    Args:
        proposer: what decides.
        known: the rows that were scored, with their losses, in the order they were scored in, also those
            scored outside the study; by default the study's own.
    """

    def __init__(self, proposer: Proposer, *, known: Callable[[], tuple[Rows, Floats]] | None = None) -> None:
        self.proposer = proposer
        self._known = known

    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters as Optuna sees them: flat, whole numbers."""
        slots = zip(self.proposer.names, self.proposer.shape, strict=True)
        return {name: IntDistribution(0, count - 1) for name, count in slots}

    def row(self, trial: optuna.Trial | FrozenTrial) -> tuple[int, ...]:
        """The index in each slot that a trial stands for."""
        return tuple(int(trial.params[name]) for name in self.proposer.names)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        others = [
            other
            for other in study.get_trials(deepcopy=False, states=states)
            if other.number != trial.number and set(self.proposer.names) <= set(other.params)
        ]
        rows, losses = self._known() if self._known is not None else self._finished(others)
        scored = set(map(tuple, rows.tolist()))
        held = dict.fromkeys(map(self.row, others))  # that run, or ended without a loss that is finite
        pending = self.proposer.rows(row for row in held if row not in scored)
        return dict(zip(self.proposer.names, self.proposer.propose(rows, losses, pending), strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        raise ValueError(f"'{name}' is none of the sampler's parameters: {', '.join(self.proposer.names)}.")

    def _finished(self, trials: Sequence[FrozenTrial]) -> tuple[Rows, Floats]:
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        found = {self.row(t): t.values[1] for t in complete if math.isfinite(t.values[1])}
        return self.proposer.rows(found), np.array(list(found.values()), dtype=float)


def quiet_optuna() -> None:
    """Optuna logs every trial unless told not to."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
