"""Which architectures are set aside because scoring them failed several times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from optuna.trial import FrozenTrial, TrialState

ATTEMPTS = 3  # number of failures after which an architecture is set aside
WORKER, BEGUN = "worker", "begun"  # user attributes of a shared study's trials

AnyKey = TypeVar("AnyKey", bound=Hashable)


def is_attempt(trial: FrozenTrial) -> bool:
    """Whether a failed trial counts as a failure of its architecture.

    A shared study also fails trials that were never begun, because two workers wanted the same architecture
    or because a worker was stopped.
    """
    return WORKER not in trial.user_attrs or trial.user_attrs.get(BEGUN) is True


def failed_too_often(
    trials: Iterable[FrozenTrial], key: Callable[[FrozenTrial], AnyKey | None]
) -> list[AnyKey]:
    """The keys of the trials whose architectures are set aside. Trials without a key are ignored.

    Args:
        trials: trials of a study.
        key: returns the key of a trial's architecture, or None if it has none.
    """
    failed: Counter[AnyKey] = Counter()
    done: set[AnyKey] = set()
    for trial in trials:
        if trial.state not in (TrialState.FAIL, TrialState.COMPLETE):
            continue
        identity = key(trial)
        if identity is None:
            continue
        if trial.state == TrialState.COMPLETE:
            done.add(identity)
        elif is_attempt(trial):
            failed[identity] += 1
    return [identity for identity, count in failed.items() if count >= ATTEMPTS and identity not in done]
