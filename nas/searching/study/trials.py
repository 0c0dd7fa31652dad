"""Scores architectures as the trials of a study, next to any number of other workers."""

from __future__ import annotations

import time
from dataclasses import astuple
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from nas.metrics.pareto import hypervolume
from nas.profiling.quantities import Question
from nas.run import Run
from nas.searching.sampler.attempts import ATTEMPTS
from nas.searching.sampler.moves import Rows
from nas.searching.sampler.pareto import ParetoSampler, quiet_optuna
from nas.searching.sampler.proposer import ExhaustedError, Proposer
from nas.searching.sampler.rows import history
from nas.searching.scoring.evaluator import Point, Score
from nas.searching.scoring.scores import Scores
from nas.searching.study.shared import SharedStudy
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.support.arrays import Floats
from nas.support.errors import is_outside
from nas.support.files import digest
from nas.support.progress import StageReport, duration, silent

SCORING_PAUSE = 0.1  # seconds between checks of what another worker is scoring
IN_A_ROW = 3 * ATTEMPTS  # so many failures in a row mean that the architectures are not the cause


class Trials:
    """A worker of a study.

    When a trial ends, all workers know its score, and this run's scores.csv has it.

    Args:
        run: run whose architectures are scored.
        scores: scores of the run.
        question: the resolved budget. Its quantity is the first objective.
        proposer: proposes architectures.
        storage, opened: the storage's URL, and the storage itself if it is open already: see
            `SharedStudy.open`.
    """

    def __init__(
        self,
        run: Run,
        scores: Scores,
        question: Question,
        proposer: Proposer,
        *,
        storage: str | None,
        opened: BaseStorage | None = None,
    ) -> None:
        quiet_optuna()
        self._space, self._scores, self._question = run.space, scores, question
        self._refused: set[Architecture] = set()
        self._sampler = ParetoSampler(proposer, known=self._known)
        self._failures = 0  # number of failures since the last score
        quantity, layouts = question.quantity, _layouts(run.space)
        name = f"{quantity.identity}-{run.fingerprint}-{scores.evaluator.calibration}"
        self._study = SharedStudy.open(
            name if storage else f"{name}-{layouts}",  # a run's own journal may hold several
            self._sampler,
            self._sampler.distributions(),
            url=storage,
            folder=run.search_path,
            opened=opened,
            facts={"layouts (copy search/layouts.yaml too)": layouts},
            metrics=(f"{quantity.title} ({quantity.unit})", "rd_loss"),
            check=self._scored,
        )

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *error: object) -> None:
        self._study.close()

    def run(self, number: int, report: StageReport) -> None:
        """Score this many more architectures, or all allowed ones if there are fewer.

        If an architecture cannot be scored, it is tried again, and set aside after `ATTEMPTS` failures.

        Args:
            number: number of architectures for this worker to score.
            report: called after each one with the front's hypervolume, the least losses at the targets, and
                the pace.
        """
        self._absorb()
        began, before = time.monotonic(), self._scores.computed
        while (done := self._scores.computed - before) < number:
            try:
                trial = self._study.ask()
            except ExhaustedError:
                report("scoring", number, number, "every allowed architecture is known")
                return
            self._attempt(trial, self._architecture(trial), report)
            done = self._scores.computed - before
            pace = (time.monotonic() - began) / max(1, done)
            note = f"{self.standing()}  {1 / pace:.2g}/s  {duration(pace * (number - done))} left"
            report("scoring", done, number, note)

    def score(self, architecture: Architecture) -> bool:
        """Score one architecture here, or wait for another worker that is scoring it.

        Returns:
            Whether its score is known now. It is not if the architecture is set aside.
        """
        indexes = self._space.indexes(architecture)
        params = dict(zip(self._sampler.proposer.names, indexes, strict=True))
        while architecture not in self._scores and architecture not in self._refused:
            trial = self._study.take(params)
            if trial is not None:
                self._attempt(trial, architecture, silent)
                continue
            self._absorb()
            if architecture in self.set_aside():
                return False
            if architecture not in self._scores:
                time.sleep(SCORING_PAUSE)
        self._scores.of(architecture)  # scored again if the study's value is not finite
        return True

    def set_aside(self) -> list[Architecture]:
        """The architectures that are not tried again, because `ATTEMPTS` attempts to score them failed."""
        names = self._sampler.proposer.names
        rows = (tuple(int(params[name]) for name in names) for params in self._study.set_aside())
        architectures = [self._space.at(row) for row in rows]
        return [architecture for architecture in architectures if architecture not in self._scores]

    def standing(self) -> str:
        """A short text on the state of the search."""
        quantity, within = self._question.quantity, self._question.feasible
        points = [(quantity.of(a), s.rd_loss) for a, s in self._scores.items() if within.allows(a)]
        if not points:
            return ""
        costs, losses = zip(*points, strict=True)
        most, worst = self._question.span[2], max(losses)
        share = hypervolume(costs, losses, (most, worst)) / (most * worst)
        best = [
            min((loss for cost, loss in points if cost <= target), default=None)
            for target in self._question.targets
        ]
        told = " ".join("-" if loss is None else f"{loss:.4g}" for loss in best)
        return f"hypervolume {share:.4f}" + (f"  least loss {told}" if told else "")

    def _attempt(self, trial: optuna.Trial, architecture: Architecture, report: StageReport) -> None:
        """Score a trial. An error ends the trial, and `IN_A_ROW` errors without a score end the search."""
        try:
            with self._study.attempt(trial):
                self._scores.refresh()  # a worker may have been killed between writing a score and telling it
                score = self._scores.of(architecture)
        except Exception as error:
            self._failures += 1
            if is_outside(error) or self._failures >= IN_A_ROW:
                raise
            report("scoring", self._scores.computed, 0, f"failed ({error}): {architecture.key}")
            return
        self._failures = 0
        quantity, targets = self._question.quantity, self._question.targets
        if targets:
            trial.set_constraint("cost", quantity.of(architecture) / targets[-1] - 1)
        facts: dict[str, Any] = {"arch": architecture.key, "bpp": score.bpp, "psnr": score.psnr}
        if score.curve:
            facts["curve"] = [astuple(point) for point in score.curve]
        self._study.tell(trial, [quantity.value(architecture), score.rd_loss], facts)

    def _known(self) -> tuple[Rows, Floats]:
        self._absorb()
        return history(self._space, self._scores.items())

    def _absorb(self) -> None:
        """Add the scores of other workers."""
        self._scores.refresh()
        for trial in self._study.finished():
            try:
                architecture, score = self._scored(trial)
            except (ArithmeticError, KeyError, TypeError, ValueError, IndexError):
                raise self._study.damaged() from None
            if score.is_a_number:
                self._scores.learn(architecture, score)
            else:  # told by an earlier version: a trial cannot be taken back
                self._refused.add(architecture)

    def _scored(self, trial: FrozenTrial) -> tuple[Architecture, Score]:
        """The architecture and the score of a complete trial.

        Raises:
            ArithmeticError, KeyError, TypeError, ValueError, IndexError: no search wrote the trial.
        """
        facts, architecture = trial.user_attrs, self._architecture(trial)
        if facts["arch"] != architecture.key:
            raise ValueError("its parameters and its key are of two architectures")
        curve = tuple(Point(*point) for point in facts.get("curve", ()))
        score = Score(float(facts["bpp"]), float(facts["psnr"]), float(trial.values[1]), curve)
        possible = score.is_possible(self._scores.evaluator.objective, self._space.rates)
        if min(score.bpp, score.rd_loss) < 0 or (score.is_a_number and not possible):
            raise ValueError("there are no such rates and losses")
        return architecture, score

    def _architecture(self, trial: optuna.Trial | FrozenTrial) -> Architecture:
        return self._space.at(self._sampler.row(trial))


def _layouts(space: SearchSpace) -> str:
    """A digest of the layouts and their order."""
    return digest(repr([(name, space.layouts[name].to_dict()) for name in space.layout_names]), size=4)
