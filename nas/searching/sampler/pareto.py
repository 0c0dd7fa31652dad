"""An Optuna sampler for two objectives of which one, the cost, is known before anything is tried."""

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

PROPOSED, ENQUEUED = "pareto:proposed", "fixed_params"  # system attributes of trials: ours, and Optuna's


class ParetoSampler(BaseSampler):
    """Asks a `Proposer` for every trial.

    Trials have one integer parameter for each of its slots, an index into the slot's choices, and two values
    to minimise: the cost and the loss, which may be any number. A trial that failed is tried again, and its
    row is set aside after `ATTEMPTS` failures; rows of running trials are taken into account. Where nothing
    new is left, `Study.optimize` stops, and a trial that was asked for raises `ExhaustedError`. The same
    study gives the same next trial, in whichever process.

    Args:
        proposer: what decides.
        known: the rows that were scored, with their losses, in the order they were scored in, also those
            scored outside the study; by default the study's own.

    Raises:
        InputError: by any trial of a study with other objectives, or with parameters of another range.

    Example:
        >>> import numpy as np
        >>> from nas.searching.sampler.gain import WholeRange
        >>> from nas.searching.sampler.proposer import Proposer
        >>> apart = abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))  # how far the choices are apart
        >>> proposer = Proposer({"a": apart, "b": apart}, lambda rows: rows.sum(1), WholeRange(most=6.0))
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
        """The parameters as Optuna sees them: flat, whole numbers."""
        slots = zip(self.proposer.names, self.proposer.shape, strict=True)
        return {name: IntDistribution(0, count - 1) for name, count in slots}

    def row(self, trial: optuna.Trial | FrozenTrial) -> Row:
        """The index in each slot that a trial stands for."""
        return tuple(int(trial.params[name]) for name in self.proposer.names)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters, which are drawn together.

        Args:
            study: the study.
            trial: the trial that begins.

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
        """The parameters of the next trial.

        Args:
            study: the study.
            trial: the trial that begins.
            search_space: the parameters to draw; others are fixed by a sampler around this one.

        Raises:
            TrialPruned: nothing new is left to draw, and the study stops.
        """
        with self._alone:
            try:
                row = self._propose(study, trial, search_space)
            except ExhaustedError:
                if _stop(study):
                    raise TrialPruned from None  # which ends this trial, and not the others
                raise
            _reserve(study, trial, row)
        named = dict(zip(self.proposer.names, row, strict=True))
        return {name: named[name] for name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Refuse a parameter that is not drawn together with the others.

        Args:
            study: the study.
            trial: the trial that runs.
            name: name of the parameter.
            distribution: what it may be.

        Raises:
            InputError: always; it says why this parameter cannot be drawn.
        """
        if name in self.proposer.names:
            raise self._out_of_range(name)
        raise InputError(f"'{name}' is not a parameter of the sampler: use {', '.join(self.proposer.names)}.")

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Stop `Study.optimize` where nothing new is left; say that a row is set aside.

        Args:
            study: the study.
            trial: the trial that has ended.
            state: how it ended.
            values: its cost and its loss, where it has them.
        """
        row = self._row_of(trial)
        if self._known is not None or row is None:  # a study that asks and tells sees to it itself
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
        """By place, the parameters that a sampler around this one, such as PartialFixedSampler, decides."""
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
        """By place, the parameters that are indexes into their slot's choices."""
        slots = enumerate(zip(self.proposer.names, self.proposer.shape, strict=True))
        values = {number: (params.get(name), count) for number, (name, count) in slots}
        return {p: v for p, (v, count) in values.items() if isinstance(v, int) and 0 <= v < count}

    def _out_of_range(self, name: str) -> InputError:
        count = self.proposer.shape[self.proposer.names.index(name)]
        return InputError(f"'{name}' has {count} choices: ask with suggest_int('{name}', 0, {count - 1}).")

    def _row_of(self, trial: FrozenTrial) -> Row | None:
        """What a trial stands for, also before the objective has asked for every parameter."""
        proposed = zip(self.proposer.names, trial.system_attrs.get(PROPOSED, ()), strict=False)
        row = self._inside({**dict(proposed), **trial.system_attrs.get(ENQUEUED, {}), **trial.params})
        return tuple(row.values()) if len(row) == len(self.proposer.names) else None

    def _running(self, trials: Sequence[FrozenTrial]) -> list[Row]:
        rows = [self._row_of(trial) for trial in trials if trial.state == TrialState.RUNNING]
        return [row for row in rows if row is not None]

    def _aside(self, trials: Sequence[FrozenTrial]) -> list[Row]:
        """The rows that are not to be tried again, though they have no loss."""
        pruned = [self._row_of(trial) for trial in trials if trial.state == TrialState.PRUNED]
        return [*failed_too_often(trials, self._row_of), *(row for row in pruned if row is not None)]

    def _scored(self, trials: Sequence[FrozenTrial]) -> dict[Row, float]:
        done = [(self._row_of(t), t.values) for t in trials if t.state == TrialState.COMPLETE]
        return {row: values[1] for row, values in done if row is not None}

    def _finished(self, trials: Sequence[FrozenTrial]) -> tuple[Rows, Floats]:
        scored = self._scored(trials)
        return self.proposer.rows(scored), np.array(list(scored.values()), dtype=float)


def _reserve(study: Study, trial: FrozenTrial, row: Row) -> None:
    """Let those who propose next see a row that the objective has yet to ask for."""
    if trial._trial_id >= 0:  # else it is in no storage yet
        study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, list(row))


def _stop(study: Study) -> bool:
    """End `Study.optimize`, if this is in it."""
    try:
        study.stop()
    except RuntimeError:
        return False
    return True


def quiet_optuna() -> None:
    """Optuna logs every trial unless told not to."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
