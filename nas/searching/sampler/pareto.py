"""An Optuna sampler for two objectives, one of which (the cost) is known before a trial runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import TrialPruned
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.searching.sampler.attempts import ATTEMPTS, failed_too_often
from nas.searching.sampler.moves import Row, Rows
from nas.searching.sampler.proposer import ExhaustedError, Proposer
from nas.support.arrays import Floats
from nas.support.errors import InputError

PROPOSED, ENQUEUED = "pareto:proposed", "fixed_params"  # system attributes of trials: our own, and Optuna's


class ParetoSampler(BaseSampler):
    """An Optuna sampler that asks a `Proposer` for every trial.

    A trial has one integer parameter for each slot, the index of a choice, and two values to minimise: cost
    and loss, which may be any numbers. A failed trial is tried again, and its row is set aside after
    `ATTEMPTS` failures. Rows of running trials are taken into account. If nothing new is left,
    `Study.optimize` stops, and a trial created by `Study.ask` raises `ExhaustedError`. The same study gives
    the same next trial in every process.

    Args:
        proposer: decides which row comes next.
        known: returns the scored rows with their losses, in the order of scoring, including rows scored
            outside the study. By default these are the rows of the study.

    Raises:
        InputError: a trial belongs to a study with other objectives, or has parameters with another range.

    Example:
        >>> import numpy as np
        >>> from nas.searching.sampler.acquisition import HypervolumeImprovement
        >>> from nas.searching.sampler.proposer import Proposer
        >>> apart = abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))  # how far the choices are apart
        >>> acquisition = HypervolumeImprovement(most=6.0)
        >>> proposer = Proposer({"a": apart, "b": apart}, lambda rows: rows.sum(1), acquisition)
        >>> sorted(nas.ParetoSampler(proposer).distributions())
        ['a', 'b']
    """

    def __init__(self, proposer: Proposer, *, known: Callable[[], tuple[Rows, Floats]] | None = None) -> None:
        self.proposer = proposer
        self._known = known
        self._alone = threading.Lock()  # threads of one study share the proposer's model

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_alone"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _alone=threading.Lock())

    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters as Optuna distributions: one integer for each slot."""
        slots = zip(self.proposer.names, self.proposer.shape, strict=True)
        return {name: IntDistribution(0, count - 1) for name, count in slots}

    def row(self, trial: optuna.Trial | FrozenTrial) -> Row:
        """The row of a trial: one index for each slot."""
        return tuple(int(trial.params[name]) for name in self.proposer.names)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters, because they are drawn together.

        Args:
            study: the study.
            trial: the new trial.

        Raises:
            InputError: the study does not minimise two objectives.
        """
        if study.directions != [StudyDirection.MINIMIZE] * 2:
            raise InputError(
                "ParetoSampler minimises two objectives, the cost and then the loss: create the study with "
                'directions=["minimize", "minimize"], and return what is to be large with a minus sign.'
            )
        return self.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters of the next trial.

        Args:
            study: the study.
            trial: the new trial.
            search_space: the parameters to draw. A sampler around this one fixes the others.

        Raises:
            TrialPruned: nothing new is left to draw. The study stops.
        """
        with self._alone:
            try:
                row = self._propose(study, trial, search_space)
            except ExhaustedError:
                if _stop(study):
                    raise TrialPruned from None  # ends this trial only
                raise
            _reserve(study, trial, row)
        named = dict(zip(self.proposer.names, row, strict=True))
        return {name: named[name] for name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Refuse a parameter that is not among those drawn together.

        Args:
            study: the study.
            trial: the running trial.
            name: name of the parameter.
            distribution: distribution of the parameter.

        Raises:
            InputError: always. The message says why this parameter cannot be drawn.
        """
        if name in self.proposer.names:
            raise self._out_of_range(name)
        raise InputError(f"'{name}' is not a parameter of the sampler: use {', '.join(self.proposer.names)}.")

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Stop `Study.optimize` if nothing new is left, and warn if a row is set aside.

        Args:
            study: the study.
            trial: the trial that has ended.
            state: its final state.
            values: its cost and loss, if it has any.
        """
        row = self._row_of(trial)
        if self._known is not None or row is None:  # code that uses ask and tell does this itself
            return
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        if state == TrialState.FAIL:
            failed = sum(t.state == state and self._row_of(t) == row for t in trials)
            if failed + 1 == ATTEMPTS:
                logger = optuna.logging.get_logger(__name__)
                logger.warning(f"{trial.params} failed {ATTEMPTS} times and is set aside.")
            return
        space = study.sampler.infer_relative_search_space(study, trial)
        taken = {row, *self._scored(trials), *self._running(trials), *self._aside(trials)}
        if self.proposer.is_exhausted(self.proposer.rows(taken), self._fixed(study, trial, space)):
            _stop(study)

    def _propose(self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> Row:
        enqueued = self._inside(trial.system_attrs.get(ENQUEUED, {}))
        if len(enqueued) == len(self.proposer.names):
            return tuple(enqueued[number] for number in sorted(enqueued))
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        rows, losses = self._known() if self._known is not None else self._finished(trials)
        scored = set(map(tuple, rows.tolist()))
        pending, aside = (
            self.proposer.rows(row for row in dict.fromkeys(group) if row not in scored)
            for group in (self._running(trials), [*self._aside(trials), *self._scored(trials)])
        )
        fixed = {**self._fixed(study, trial, space), **enqueued}
        return self.proposer.propose(rows, losses, pending, aside=aside, fixed=fixed)

    def _fixed(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[int, int]:
        """The parameters that an outer sampler fixes, such as PartialFixedSampler, by place of the slot."""
        missing = {name: d for name, d in self.distributions().items() if name not in space}
        if study.sampler is self or not missing:
            return {}
        values = {n: study.sampler.sample_independent(study, trial, n, d) for n, d in missing.items()}
        fixed = self._inside(values)
        for name in missing:
            if self.proposer.names.index(name) not in fixed:
                raise self._out_of_range(name)
        return fixed

    def _inside(self, params: Mapping[str, Any]) -> dict[int, int]:
        """The parameters that are valid indexes of their slot's choices, by place of the slot."""
        slots = enumerate(zip(self.proposer.names, self.proposer.shape, strict=True))
        values = {number: (params.get(name), count) for number, (name, count) in slots}
        return {p: v for p, (v, count) in values.items() if isinstance(v, int) and 0 <= v < count}

    def _out_of_range(self, name: str) -> InputError:
        count = self.proposer.shape[self.proposer.names.index(name)]
        return InputError(f"'{name}' has {count} choices: ask with suggest_int('{name}', 0, {count - 1}).")

    def _row_of(self, trial: FrozenTrial) -> Row | None:
        """The row of a trial, even if the objective has not asked for every parameter yet."""
        proposed, enqueued = trial.system_attrs.get(PROPOSED), trial.system_attrs.get(ENQUEUED)
        known: dict[str, Any] = {}  # of other kinds where something else wrote into the storage
        if isinstance(proposed, list | tuple):
            known |= dict(zip(self.proposer.names, proposed, strict=False))
        if isinstance(enqueued, dict):
            known |= enqueued
        row = self._inside({**known, **trial.params})
        return tuple(row.values()) if len(row) == len(self.proposer.names) else None

    def _running(self, trials: Sequence[FrozenTrial]) -> list[Row]:
        rows = [self._row_of(trial) for trial in trials if trial.state == TrialState.RUNNING]
        return [row for row in rows if row is not None]

    def _aside(self, trials: Sequence[FrozenTrial]) -> list[Row]:
        """The rows that are not tried again although they have no loss."""
        pruned = [self._row_of(trial) for trial in trials if trial.state == TrialState.PRUNED]
        return [*failed_too_often(trials, self._row_of), *(row for row in pruned if row is not None)]

    def _scored(self, trials: Sequence[FrozenTrial]) -> dict[Row, float]:
        done = [(self._row_of(t), t.values) for t in trials if t.state == TrialState.COMPLETE]
        return {row: values[1] for row, values in done if row is not None}

    def _finished(self, trials: Sequence[FrozenTrial]) -> tuple[Rows, Floats]:
        scored = self._scored(trials)
        return self.proposer.rows(scored), np.array(list(scored.values()), dtype=float)


def _reserve(study: Study, trial: FrozenTrial, row: Row) -> None:
    """Make a row visible to other workers before the objective asks for its parameters."""
    if trial._trial_id >= 0:  # otherwise the trial is in no storage yet
        study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, list(row))


def _stop(study: Study) -> bool:
    """Stop `Study.optimize` if it is running. Returns whether it is."""
    try:
        study.stop()
    except RuntimeError:
        return False
    return True


def quiet_optuna() -> None:
    """Turn off Optuna's log line for every trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
