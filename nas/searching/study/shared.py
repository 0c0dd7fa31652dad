"""One Optuna study that any number of workers share. Each worker may be killed at any time.

Every single write to the storage is atomic: a trial appears together with its parameters and its worker. A
trial *holds* its architecture unless the trial has failed. If several trials have the same architecture, the
one with the lowest number holds it. Four rules follow:

1. A worker that wants an architecture writes a running trial and then looks at the study. If a trial with a
   lower number holds the architecture, the worker marks its own trial as failed. So no two workers hold the
   same one.
2. If the worker of a running trial is gone (see `worker`), the first worker that notices marks the trial as
   failed. The storage accepts only one end of a trial. A worker that was wrongly taken for gone is therefore
   refused.
3. An architecture whose trials have all failed is *owed*. One worker receives it, by rule 1, before anything
   new. This also works if the worker that marked the failure is killed right then.
4. A worker marks a trial before it scores it. An architecture with `ATTEMPTS` marked and failed trials is set
   aside: it counts as held, and no worker receives it. A worker that is stopped removes its mark.

So no architecture is lost and none is scored twice. New architectures are drawn in turn, each with knowledge
of the previous ones. This only saves work, and correctness does not depend on it. A single worker that is
killed and restarted first takes up what it left, so the order of architectures is the same as without
interruption.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from nas.searching.sampler.attempts import BEGUN, WORKER, failed_too_often
from nas.searching.sampler.proposer import ExhaustedError
from nas.searching.study.storage import (
    JOURNAL,
    close_storage,
    damaged_storage_error,
    explain_database_errors,
    explain_record_errors,
    name_of,
    open_storage,
)
from nas.searching.study.worker import WorkerRegistry
from nas.support.errors import InputError, is_outside

FACTS_KEY = "facts"
ASKING_ROUNDS = 300
ParameterValues = tuple[Any, ...]


class SharedStudy:
    """A study with two objectives, cost and loss, which are both minimised. Use `open` to get one.

    Args:
        study: the study in Optuna.
        storage: the storage that holds it.
        distributions: all parameters of a trial, by name.
        where: URL or path of the storage, for error messages.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        distributions: Mapping[str, BaseDistribution],
        where: str | Path,
    ) -> None:
        self._study, self._storage, self._where = study, storage, where
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._distributions = dict(distributions)
        self._keys: dict[int, ParameterValues] = {}
        self._returned: set[int] = set()
        self._registry = WorkerRegistry(storage, self._study_id)

    @classmethod
    def open(
        cls,
        name: str,
        sampler: BaseSampler,
        distributions: Mapping[str, BaseDistribution],
        *,
        url: str | None,
        folder: Path,
        opened: BaseStorage | None = None,
        facts: Mapping[str, str],
        metrics: Sequence[str] = ("cost", "loss"),
        check: Callable[[FrozenTrial], object] = lambda trial: None,
    ) -> SharedStudy:
        """Create the study of this name or join it. Waits until it is known which other workers are alive.

        Args:
            name: name of the study. A storage may hold several studies.
            sampler: draws new architectures, each for a trial that is not in the study yet. It must ignore
                failed trials. An interrupted search continues identically only if the sampler has no state of
                its own.
            distributions: all parameters of a trial.
            url: URL of a database or path of a journal. None means `folder`/study.log.
            folder: folder of the default journal.
            opened: the storage, if it is open already. The study closes it.
            facts: values that must be the same for all workers, by the name that messages use.
            metrics: names of the two objectives.
            check: called with each complete trial of the study. A ValueError or LookupError means that the
                trial does not come from a search.

        Raises:
            InputError: the storage cannot be opened, the study has other facts, or its content is damaged.
                Nothing is written to that study then.
        """
        where: str | Path = folder / JOURNAL if url is None else url
        storage = open_storage(where) if opened is None else opened
        try:
            with explain_record_errors(where):
                study = _joined_or_begun(name, storage, sampler)
                trials = study.get_trials(deepcopy=False)
                begun = FACTS_KEY in study.user_attrs
                if study.directions != [StudyDirection.MINIMIZE] * 2 or (trials and not begun):
                    raise damaged_storage_error(where)
                _agree(study, facts, metrics, where)
                for number, trial in enumerate(trials):
                    if not (isinstance(trial.user_attrs, dict) and isinstance(trial.system_attrs, dict)):
                        raise damaged_storage_error(where)
                    if trial.number != number:  # one is lost, so the next would get a number that is taken
                        raise damaged_storage_error(where)
                    # a worker that was killed leaves a trial with some of its parameters
                    if not trial.distributions.items() <= distributions.items():
                        raise damaged_storage_error(where)
                    if trial.state == TrialState.COMPLETE:
                        if len(trial.distributions) < len(distributions):
                            raise damaged_storage_error(where)
                        check(trial)
                return cls(study, storage, distributions, where)
        except BaseException:
            close_storage(storage)
            raise

    def ask(self) -> Trial:
        """Return a trial for this worker: one that others left behind, or a new one from the sampler.

        Raises:
            ExhaustedError: the sampler has nothing new.
        """
        with explain_database_errors(self._where):
            for _ in range(ASKING_ROUNDS):
                trials = self._without_left()
                held = self._held(trials)
                owed = self._owed(trials, held)
                trial = self._claim(self._draw(len(trials), held) if owed is None else owed)
                if trial is not None:
                    return trial
        raise ExhaustedError

    def take(self, params: Mapping[str, Any]) -> Trial | None:
        """Return a trial with these parameters, or None if another trial has ended with them or holds them.

        Args:
            params: value of every parameter, by name.
        """
        with explain_database_errors(self._where):
            held = self._held(self._without_left())
            return None if self._key(params) in held else self._claim(params)

    @contextlib.contextmanager
    def attempt(self, trial: Trial) -> Iterator[None]:
        """Context in which a trial is scored. An error or the end of the process counts as a failed attempt.

        An interruption from outside, such as Ctrl-C or a full disk, does not count.
        """
        self._mark(trial, begun=True)
        try:
            yield
        except BaseException as error:
            if is_outside(error):
                self._mark(trial, begun=False)
            with explain_database_errors(self._where):
                self._fail(trial.number)
            raise

    def set_aside(self) -> list[dict[str, Any]]:
        """The parameters of architectures that are not tried again after several failures."""
        with explain_database_errors(self._where):
            return [dict(zip(self._distributions, key, strict=True)) for key in self._aside(self._trials())]

    def tell(
        self, trial: Trial, values: Sequence[float], attributes: Mapping[str, Any] | None = None
    ) -> bool:
        """End a trial with its values and attributes. The attributes are stored before the trial is complete.

        Args:
            trial: a trial that this worker holds.
            values: cost and loss.
            attributes: further facts to store with the trial, by name.

        Returns:
            Whether the values count. They do not if this worker was taken for gone and another one has the
            trial.
        """
        with explain_database_errors(self._where), contextlib.suppress(UpdateFinishedTrialError):
            for name, value in (attributes or {}).items():
                trial.set_user_attr(name, value)
            told = self._study.tell(trial, list(values), TrialState.COMPLETE, skip_if_finished=True)
            return told.state == TrialState.COMPLETE
        return False

    def finished(self) -> list[FrozenTrial]:
        """The complete trials of all workers that previous calls have not returned."""
        with explain_record_errors(self._where):
            complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        new = [trial for trial in complete if trial.number not in self._returned]
        self._returned.update(trial.number for trial in new)
        return new

    def damaged(self) -> InputError:
        """The error to raise if a trial does not come from a search."""
        return damaged_storage_error(self._where)

    def close(self) -> None:
        """Leave the study. Other workers take over the trials that this worker has not ended."""
        self._registry.close()
        close_storage(self._storage)

    def __enter__(self) -> SharedStudy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mark(self, trial: Trial, *, begun: bool) -> None:
        with explain_database_errors(self._where), contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr(BEGUN, begun)

    def _claim(self, params: Mapping[str, Any]) -> Trial | None:
        """Write a running trial, or return None if another trial holds the same parameters."""
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self._distributions,
            user_attrs={WORKER: self._registry.me},
        )
        with explain_record_errors(self._where):
            trial = Trial(self._study, self._storage.create_new_trial(self._study_id, template))
        held = self._held(self._trials())
        if self._key(params) not in held:  # what was just written is not there as it was written
            raise damaged_storage_error(self._where)
        if held[self._key(params)] < trial.number:
            self._fail(trial.number)
            return None
        return trial

    def _without_left(self) -> list[FrozenTrial]:
        """The trials, after those of workers that are gone have been marked as failed."""
        trials = self._trials()
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        others = self._registry.others() if running else {}  # read last: includes all workers of the trials
        left = [trial for trial in running if self._is_left(trial, others)]
        for trial in left:
            self._fail(trial.number)
        return self._trials() if left else trials

    def _owed(
        self, trials: Sequence[FrozenTrial], held: Mapping[ParameterValues, int]
    ) -> dict[str, Any] | None:
        """The first owed architecture: all of its trials have failed."""
        for trial in trials:
            if trial.state == TrialState.FAIL and self._is_whole(trial) and self._key_of(trial) not in held:
                return trial.params
        return None

    def _draw(self, number: int, held: Mapping[ParameterValues, int]) -> dict[str, Any]:
        """The sampler's proposal for the trial of this number, which no other trial holds."""
        sampler, study = self._study.sampler, self._study
        for _ in range(ASKING_ROUNDS):
            trial = create_trial(state=TrialState.RUNNING)
            trial.number = number
            sampler.before_trial(study, trial)
            space = sampler.infer_relative_search_space(study, trial)
            drawn = sampler.sample_relative(study, trial, space)
            for name, distribution in self._distributions.items():
                if name not in drawn:
                    drawn[name] = sampler.sample_independent(study, trial, name, distribution)
            if self._key(drawn) not in held:
                return drawn
        raise ExhaustedError

    def _is_left(self, trial: FrozenTrial, others: Mapping[str, bool | None]) -> bool:
        worker = str(trial.user_attrs.get(WORKER))
        return worker != self._registry.me and others.get(worker, False) is False

    def _fail(self, number: int) -> None:
        """Mark a trial as failed, unless it has ended."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _trials(self) -> list[FrozenTrial]:
        with explain_record_errors(self._where):
            return self._study.get_trials(deepcopy=False)

    def _held(self, trials: Sequence[FrozenTrial]) -> dict[ParameterValues, int]:
        """The lowest number of a trial that holds each architecture. 0 stands for one that is set aside."""
        held: dict[ParameterValues, int] = dict.fromkeys(self._aside(trials), 0)
        for trial in trials:
            if trial.state != TrialState.FAIL and self._is_whole(trial):
                held.setdefault(self._key_of(trial), trial.number)
        return held

    def _aside(self, trials: Sequence[FrozenTrial]) -> list[ParameterValues]:
        return failed_too_often(trials, lambda trial: self._key_of(trial) if self._is_whole(trial) else None)

    def _is_whole(self, trial: FrozenTrial) -> bool:
        return len(trial.params) == len(self._distributions)

    def _key_of(self, trial: FrozenTrial) -> ParameterValues:
        if trial.number not in self._keys:
            self._keys[trial.number] = self._key(trial.params)
        return self._keys[trial.number]

    def _key(self, params: Mapping[str, Any]) -> ParameterValues:
        return tuple(params[name] for name in self._distributions)


def _joined_or_begun(name: str, storage: BaseStorage, sampler: BaseSampler) -> optuna.Study:
    """Join the study of this name, or create it. Joining does not write to an existing journal."""
    if name in optuna.get_all_study_names(storage):
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    return optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=sampler,
        directions=["minimize", "minimize"],
        load_if_exists=True,  # another worker may create it right now
    )


def _agree(study: optuna.Study, facts: Mapping[str, str], metrics: Sequence[str], where: str | Path) -> None:
    """Write the facts of a new study, or refuse a study with other facts."""
    if FACTS_KEY not in study.user_attrs:
        study.set_user_attr(FACTS_KEY, dict(facts))
        with warnings.catch_warnings():  # the names are only shown
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(metrics))
    agreed = study.user_attrs[FACTS_KEY]
    if not isinstance(agreed, dict):
        raise damaged_storage_error(where)
    other = [fact for fact in {**agreed, **facts} if agreed.get(fact) != facts.get(fact)]
    if other:
        raise InputError(
            f"{name_of(where)} holds a search with other {' and '.join(other)}: "
            "give a copy of the run that began it, or another --storage."
        )
