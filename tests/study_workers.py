"""Workers of a shared study that are killed: `python study_workers.py FOLDER URL HOW WORKERS TRIALS SEED`.

Each worker is forked from this process, which has one thread and has opened nothing. HOW is `random`
(SIGKILL at any moment) or `writes` (before, in and after each write to the journal, one after the other). A
killed worker is followed by another until there are TRIALS complete trials.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.searching.study.shared import SharedStudy
from nas.searching.study.storage import CrashSafeJournal

SLOTS: dict[str, BaseDistribution] = {f"slot{k}": IntDistribution(0, 7) for k in range(4)}
NAME, FACTS = "numbers", {"weights": "abc", "search space": "def"}
WRITES = 8  # of a worker that begins a study and scores one architecture, and of the next one


class Numbers(BaseSampler):
    """Draws what nobody holds, by the seed, how much is held, and the last complete trial."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return SLOTS

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.FAIL]
        held = {tuple(t.params.values()) for t in trials}
        last = [tuple(t.params.values()) for t in trials if t.state == TrialState.COMPLETE][-1:]
        rng = random.Random(f"{self._seed} {len(held)} {last}")
        drawn = next(iter(held), None)
        while drawn is None or drawn in held:
            drawn = tuple(rng.randint(0, 7) for _ in SLOTS)
        return dict(zip(SLOTS, drawn, strict=True))

    def sample_independent(self, *_: Any) -> Any:
        raise AssertionError


def open_study(folder: Path, url: str | None, seed: int = 0, facts: dict[str, str] = FACTS) -> SharedStudy:
    return SharedStudy.open(NAME, Numbers(seed), SLOTS, url=url, folder=folder, facts=facts)


def values(params: dict[str, Any]) -> list[float]:
    return [float(sum(params.values())), 1 / (1 + params["slot0"])]


def work(folder: Path, url: str | None, trials: int, seed: int, progress: int) -> None:
    """Score until there are so many trials, with a byte for `progress` after each and at the end."""
    with open_study(folder, url, seed) as study:
        finished = len(study.finished())
        while finished < trials:
            trial = study.ask()
            time.sleep(random.uniform(0, 0.004))
            study.tell(trial, values(trial.params), {"bpp": 0.5})
            os.write(progress, b".")
            finished += len(study.finished())
    os.write(progress, b".")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_write(number: int, how: str) -> None:
    """From now on this process is killed at its write of this number."""
    append, count = CrashSafeJournal.append_logs, itertools.count(1)

    def append_and_die(self: CrashSafeJournal, logs: list[dict[str, Any]]) -> None:
        if next(count) != number:
            return append(self, logs)
        if how == "in":
            self._alone.acquire()
            with open(self._path, "a") as file:
                file.write(json.dumps(logs[0])[: random.randrange(1, 30)])
        elif how == "after":
            append(self, logs)
        die()

    CrashSafeJournal.append_logs = append_and_die  # type: ignore[method-assign]


def forked(task: Callable[[], None]) -> int:
    if pid := os.fork():
        return pid
    try:
        task()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def killed(pid: int) -> bool:
    """Waits for a worker's end."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def at_each_write() -> Iterator[tuple[int, str]]:
    return itertools.cycle(itertools.product(range(1, WRITES + 1), ("before", "in", "after")))


def main(folder: Path, url: str | None, how: str, workers: int, trials: int, seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng, deaths = random.Random(seed), 0
    told, progress = os.pipe()

    def worker() -> None:
        random.seed(os.getpid())
        work(folder, url, trials, seed, progress)

    if how == "writes":
        for number, when in at_each_write():
            if not killed(forked(lambda n=number, w=when: (die_at_write(n, w), worker()))):
                break
            deaths += 1
    else:
        running = [forked(worker) for _ in range(workers)]
        while True:
            os.read(told, 1000)  # else they might be killed faster than they begin
            time.sleep(rng.uniform(0, 0.04))  # so that a fast machine, too, kills many
            place = rng.randrange(workers)
            os.kill(running[place], signal.SIGKILL)
            if not killed(running[place]):
                running.pop(place)
                break
            deaths += 1
            running[place] = forked(worker)
        for pid in running:
            killed(pid)
    print(deaths)


if __name__ == "__main__":
    place, address, *rest = sys.argv[1:]
    main(Path(place), address or None, rest[0], *map(int, rest[1:]))
