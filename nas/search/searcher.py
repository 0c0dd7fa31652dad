"""The search: what is possible, learned logits, greedy layouts, Optuna trials, the front, the targets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from nas import resources
from nas.budget import Budget
from nas.cost.possible import Range, scope_ranges
from nas.cost.quantities import Quantities, Question
from nas.cost.quantity import Quantity
from nas.cost.table import CostTable
from nas.device import choose
from nas.errors import InputError, UnreachableBudgetError
from nas.files import write_atomically, write_yaml
from nas.graph.layout import MADE_IN_RUNS
from nas.run import CALIBRATION_PHOTOS, Run
from nas.search.evaluator import Evaluator
from nas.search.front import hypervolume, on_any_front, score_table, write_front
from nas.search.layout_rate import LayoutRate
from nas.search.layouts import LayoutSettings, find_layouts, has_layouts, wants_layouts, write_layouts
from nas.search.logits import (
    LogitSettings,
    WidthLogits,
    learn_logits,
    read_logits,
    read_structure,
    write_logits,
)
from nas.search.sampler import ArchitectureSampler, ExhaustedError, quiet_optuna
from nas.search.scores import Scores
from nas.search.tested import with_tested
from nas.space import Architecture

if TYPE_CHECKING:
    import pandas as pd

NEAR = 0.98  # an answer lies within 2 % under its target wherever the space has one
FILL_SECONDS, FILL_SCORES = 40.0, 24
Report = Callable[[str, int, int, str], None]


def silent(stage: str, done: int, total: int, note: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Choice:
    """The answer to one target.

    Attributes:
        target: in `unit`.
        quantity: what was limited: a scope's MACs, the time to decode, ...
        architecture: the best within 2 % under the target, wherever the space has one there.
        kmac_px: what it costs, by scope.
        rd_loss: on the calibration photos.
        cheaper: where one further below is better still, that one.
    """

    target: float
    quantity: Quantity
    architecture: Architecture
    kmac_px: dict[str, float]
    rd_loss: float
    cheaper: Choice | None = None

    @property
    def best(self) -> Choice:
        """The least loss at or under the target, wherever it lies: what export takes."""
        return self.cheaper or self

    def to_json(self) -> dict[str, Any]:
        """Plain values; `cheaper` is nested, or null. `cost` is what `of` names, in `unit`."""
        costs = {f"{scope}_kmac_px": value for scope, value in self.kmac_px.items()}
        quantity = self.quantity
        macs = {"target_kmac_px": self.target} if quantity.unit == "kMAC/px" else {}
        return {
            **macs,
            "target": self.target,
            "unit": quantity.unit,
            "of": quantity.title,
            "cost": quantity.value(self.architecture),
            **costs,
            "rd_loss": self.rd_loss,
            "arch": self.architecture.key,
            "cheaper": self.cheaper.to_json() if self.cheaper else None,
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row for a table, or two where a cheaper architecture is better."""
        answers = [("nearest below", self)]
        if self.cheaper:
            answers.append(("cheaper, better", self.cheaper))
        return [
            {
                "target": self.quantity.tell(self.quantity.whole(self.target)),
                "answer": answer,
                **(
                    {}
                    if self.quantity.unit == "kMAC/px"
                    else {self.quantity.name: self.quantity.tell(self.quantity.of(choice.architecture))}
                ),
                **choice.kmac_px,
                "rd_loss": choice.rd_loss,
                "arch": choice.architecture.key,
            }
            for answer, choice in answers
        ]


@dataclass
class SearchResult:
    """What a search found."""

    size: int
    ranges: dict[str, Range]
    scored: pd.DataFrame
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def front(self) -> pd.DataFrame:
        return on_any_front(self.scored)


@dataclass(frozen=True)
class Sources:
    """Which of the three sources of candidates a search uses, and how much of each."""

    logits: bool = True
    layouts: bool = True
    trials: bool = True
    layout_settings: LayoutSettings = field(default_factory=LayoutSettings)
    logit_settings: LogitSettings = field(default_factory=LogitSettings)


class Searcher:
    """One search over a run: opened once, asked several times.

    Args:
        run: a trained run.
        device: where to score.
        quantities: the costs of the run's space, where they were looked at already.
    """

    def __init__(self, run: Run, *, device: str = "auto", quantities: Quantities | None = None) -> None:
        self.run, self.settings = run, run.settings
        self._device = choose(device)
        self._open(quantities)

    def _open(self, quantities: Quantities | None = None) -> None:
        """The space as it stands (layouts may have been found for it), its costs, and what is known."""
        run = self.run
        self.space = run.space
        self.quantities = quantities or Quantities(run, run.costs(), self._device.type)
        self.costs: CostTable = self.quantities.costs
        photos = run.photos("calibration")[:CALIBRATION_PHOTOS]
        self.evaluator = Evaluator(
            run.supernet(),
            photos,
            lmbda=self.settings.lmbda,
            metric=self.settings.metric,
            device=self._device,
        )
        self.scores = Scores(run.scores_path, self.evaluator, run.fingerprint)

    # What is possible

    def question(self, budget: Budget | None) -> Question:
        """What a budget asks of this space: needs no photo and no score.

        Raises:
            UnreachableBudgetError: the space cannot meet it; says what it could.
        """
        return self.quantities.question(budget or Budget("whole range"))

    def ranges(self, budget: Budget | None = None) -> dict[str, Range]:
        """The reachable costs by scope, within a budget's limits; needs no photo and no score."""
        return scope_ranges(self.quantities, self.question(budget))

    def search(
        self,
        budget: Budget | None = None,
        *,
        trials: int = 100,
        sources: Sources | None = None,
        storage: str | None = None,
        seed: int = 0,
        report: Report = silent,
    ) -> SearchResult:
        """Score `trials` architectures more, write the front, and answer the budget's targets.

        Args:
            budget: limits on the cost; None covers the whole range.
            trials: how many architectures to score.
            sources: for ablations, switch sources of candidates off.
            storage: an Optuna storage URL; a journal in the run by default.
            seed: of everything that is drawn.
            report: called with a stage's name, how much of it is done, of how much, and a note.

        Raises:
            UnreachableBudgetError: before anything is scored.
        """
        sources, budget = sources or Sources(), budget or Budget("whole range")
        self.question(budget)
        if sources.layouts and wants_layouts(self.run.trained_space):
            self._find_layouts(sources, seed, report)
            self._complete_profiles(budget, report)
        question = self.question(budget)
        goal = len(self.scores) + trials
        prior = self._learn(budget.scope, sources, seed, report) if sources.logits and trials else []
        if sources.trials:
            left = goal - len(self.scores)
            self._try(question, budget.scope, prior, left, storage, seed, report)
        result = self.result()
        for target in question.targets:
            result.choices.append(self.choose(question, target, report=report))
        result.scored = self.write_front()
        self._note_targets(budget, result.choices)
        result.notes.append(self._split_note())
        return result

    def result(self) -> SearchResult:
        """What is known so far."""
        return SearchResult(self.space.size, self.ranges(), self.table())

    def table(self) -> pd.DataFrame:
        """All scored architectures."""
        settings = self.settings
        return score_table(self.scores.items(), self.costs, lmbda=settings.lmbda, metric=settings.metric)

    def write_front(self) -> pd.DataFrame:
        """Renew the run's front.csv; returns all scored architectures."""
        table = self.table()
        write_front(self.run.front_path, with_tested(on_any_front(table), self.run))
        return table

    # Answers

    def choose(self, question: Question, target: int, *, report: Report = silent) -> Choice:
        """The best scored architectures at or under a target: within 2 % of it, and wherever it lies.

        Where the best lies further below and the space has architectures within 2 % under the target, some
        there are scored first: those that widen the best one.

        Args:
            question: what the target limits, and what must be met beside it.
            target: in whole numbers of its quantity.
            report: see `search`.
        """
        quantity, near = question.quantity, int(np.ceil(NEAR * target))
        if question.span[0] > target:
            raise UnreachableBudgetError(f"No architecture costs at most {quantity.tell(target)}.")
        began, rng = time.monotonic(), np.random.default_rng(0)
        for tried, candidate in enumerate(self._near(question, near, target, rng)):
            best = self._best(question, target)
            if best is not None and quantity.of(best) >= near:
                break
            if time.monotonic() - began > FILL_SECONDS or tried == FILL_SCORES:
                break
            self.scores.of(candidate)
            report("near the target", tried + 1, 0, quantity.tell(target))
        best = self._best(question, target)
        if best is None:
            best = question.within.draw(quantity, 0, target, 1, rng)[0]
        close = self._best(question, target, least=near)
        if close is None or close == best:
            return self._choice(question, target, best)
        return replace(self._choice(question, target, close), cheaper=self._choice(question, target, best))

    def _choice(self, question: Question, target: int, architecture: Architecture) -> Choice:
        quantity = question.quantity
        scopes, score = self.costs.scopes(architecture), self.scores.of(architecture)
        return Choice(target / quantity.per_unit, quantity, architecture, scopes, score.rd_loss)

    def _best(self, question: Question, most: int, *, least: int = 0) -> Architecture | None:
        """The scored architecture of least loss that costs from `least` to `most`."""
        fit = [
            (score.rd_loss, architecture.key, architecture)
            for architecture, score in self.scores.items()
            if least <= question.quantity.of(architecture) <= most and question.within.allows(architecture)
        ]
        return min(fit)[2] if fit else None

    def _near(
        self, question: Question, near: int, most: int, rng: np.random.Generator
    ) -> Iterator[Architecture]:
        """Unscored architectures within 2 % under a target, the likelier ones first; maybe none."""
        quantity, within = question.quantity, question.within
        if not within.draw(quantity, near, most, 1, rng):
            return
        for _ in range(100):
            best = self._best(question, most)
            wider = []
            if best is not None:
                wider = within.draw(quantity, near, most, 64, rng, at_least=best)
            candidates = wider or within.draw(quantity, near, most, 64, rng)
            fresh = [architecture for architecture in candidates if architecture not in self.scores]
            if not fresh and wider:
                fresh = [a for a in within.draw(quantity, near, most, 64, rng) if a not in self.scores]
            if not fresh:
                return
            if best is not None:
                fresh.sort(key=lambda a: (a.layout != best.layout, self._distance(a, best)))
            yield from fresh[:4]

    def _distance(self, one: Architecture, other: Architecture) -> int:
        """Steps between the widths of two architectures."""
        places = zip(self.space.indexes(one)[:-1], self.space.indexes(other)[:-1], strict=True)
        return sum(abs(a - b) for a, b in places)

    # The three sources

    def _find_layouts(self, sources: Sources, seed: int, report: Report) -> None:
        run, space = self.run, self.run.trained_space
        facts = {"weights": run.fingerprint, "calibration": self.evaluator.calibration}
        if has_layouts(run.layouts_path, facts):
            return
        architecture, settings = space.widest(), sources.layout_settings
        rate = LayoutRate.of(self.evaluator, architecture, side=settings.side, photos=settings.photos)
        found = find_layouts(
            rate,
            space,
            settings,
            trained=run.learned_layouts(),
            seed=seed,
            report=lambda done, total, note: report("finding layouts", done, total, note),
        )
        facts["architecture"] = architecture.key
        named = {name: rate(layout) for name, layout in space.layouts.items()}
        write_layouts(run.layouts_path, found, {**facts, "hand_made_bpp": named})
        self._open()

    def _complete_profiles(self, budget: Budget, report: Report) -> None:
        """Measure the layouts that were found since the run was profiled, where the budget needs it."""
        from nas.cost.measure import Request, measure

        asked = {(unit, size) for _, unit, size in budget.measures if unit in ("ms", "MB")}
        for size in dict.fromkeys(size for _, size in asked if size is not None):
            try:
                self.quantities.predictor(size)
            except InputError:
                request = Request(size=size, device=self._device)
                measure(
                    self.run,
                    request,
                    report=lambda done, total, note: report("profiling new layouts", done, total, note),
                )

    def _learn(self, scope: str, sources: Sources, seed: int, report: Report) -> list[WidthLogits]:
        joint = read_structure(self.run.structure_path, self.space, scope)
        if joint is not None:  # learned with the weights
            return [joint]
        path = self.run.search_path / f"logits-{scope}.yaml"
        facts = {"weights": self.run.fingerprint, "scope": scope}
        known = read_logits(path, self.space, facts)
        if known is not None:
            return known
        narrow, wide = self.space.narrowest(), self.space.widest()
        saved = self.scores.of(narrow).rd_loss - self.scores.of(wide).rd_loss
        spent = self.costs.kmac_px(wide, scope) - self.costs.kmac_px(narrow, scope)
        if all(count == 1 for count in self.space.shape[:-1]) or spent <= 0:
            return []
        rungs = learn_logits(
            self.evaluator.supernet,
            self.run.photos("train"),
            self.costs,
            lmbda=self.settings.lmbda,
            metric=self.settings.metric,
            scope=scope,
            price=max(saved, 1e-3) / spent,
            seed=seed,
            settings=sources.logit_settings,
            report=lambda done, total, note: report("learning widths", done, total, note),
        )
        write_logits(path, rungs, facts)
        return rungs

    def _try(
        self,
        question: Question,
        scope: str,
        prior: Sequence[WidthLogits],
        trials: int,
        storage: str | None,
        seed: int,
        report: Report,
    ) -> None:
        """Optuna's trials: seeds first (uniform widths, the prior's modes), then what the sampler draws."""
        quiet_optuna()
        quantity, within = question.quantity, question.within
        most = max(question.targets, default=None)

        def allowed(architecture: Architecture) -> bool:
            return within.allows(architecture) and (most is None or quantity.of(architecture) <= most)

        sampler = ArchitectureSampler(
            self.space, prior, seed=seed, allowed=allowed, known=lambda a: a in self.scores
        )
        kind = scope if quantity.unit == "kMAC/px" else quantity.identity
        name = f"{kind}-{self.run.fingerprint}-{self.evaluator.calibration}"
        study = _open_study(name, storage, self.run.search_path, sampler)
        state_path = self.run.search_path / f"sampler-{kind}.json"
        if state_path.is_file() and study.get_trials(deepcopy=False):
            sampler.restore(json.loads(state_path.read_text()))
        self._share_known(study, sampler, quantity)
        seeds = [a for a in self._seeds(prior) if allowed(a) and a not in self.scores]
        for architecture in seeds[: max(1, trials // 3)]:
            indexes = self.space.indexes(architecture)
            study.enqueue_trial(dict(zip(sampler.distributions(), indexes, strict=True)), skip_if_exists=True)
        reference = self._reference(question)
        for done in range(trials):
            try:
                if len(self.scores) >= self.space.size:
                    raise ExhaustedError
                trial = study.ask(sampler.distributions())
            except ExhaustedError:
                report("Optuna trials", trials, trials, "every allowed architecture is known")
                break
            architecture = sampler.architecture(trial.params)
            cost = quantity.value(architecture)
            if most is not None:
                trial.set_constraint("cost", quantity.of(architecture) / most - 1)
            score = self.scores.of(architecture)
            study.tell(trial, [cost, score.rd_loss])
            write_atomically(state_path, json.dumps(sampler.state()))
            note = f"hypervolume {self._hypervolume(quantity, reference):.3f}"
            if question.targets:
                best = self._best(question, question.targets[0])
                note += f"  least loss {self.scores.of(best).rd_loss:.3f}" if best else ""
            report("Optuna trials", done + 1, trials, note)

    def _share_known(self, study: optuna.Study, sampler: ArchitectureSampler, quantity: Quantity) -> None:
        """Tell the study what was scored outside it (for another budget, near a target)."""
        told = {
            sampler.architecture(t.params)
            for t in study.get_trials(deepcopy=False)
            if t.state == optuna.trial.TrialState.COMPLETE
        }
        for architecture, score in list(self.scores.items()):
            if architecture not in told:
                indexes = self.space.indexes(architecture)
                study.add_trial(
                    optuna.create_trial(
                        params=dict(zip(sampler.distributions(), indexes, strict=True)),
                        distributions=sampler.distributions(),
                        values=[quantity.value(architecture), score.rd_loss],
                    )
                )

    def _seeds(self, prior: Sequence[WidthLogits]) -> list[Architecture]:
        """Where trials begin: the ends, what the prior likes best at each price, uniform widths."""
        names = self.space.layout_names
        modes = []
        for rung in prior:
            indexes = [int(np.argmax(rung.logits[slot.name])) for slot in self.space.slots]
            greedy = [name for name in names if name.startswith(MADE_IN_RUNS)] or list(names)
            modes += [self.space.at([*indexes, names.index(name)]) for name in (greedy[-1], names[0])]
        ends = [self.space.narrowest(), self.space.widest()]
        return list(dict.fromkeys([*ends, *modes, *self.space.baselines()]))

    def _reference(self, question: Question) -> tuple[float, float]:
        worst = max(score.rd_loss for _, score in self.scores.items()) if len(self.scores) else 1.0
        return question.span[2] / question.quantity.per_unit, worst

    def _hypervolume(self, quantity: Quantity, reference: tuple[float, float]) -> float:
        """The dominated share of the box between the least cost, the worst loss and no loss at all."""
        points = list(self.scores.items())
        costs = [quantity.value(architecture) for architecture, _ in points]
        losses = [score.rd_loss for _, score in points]
        return hypervolume(costs, losses, reference) / (reference[0] * reference[1])

    # Writing

    def _note_targets(self, budget: Budget, choices: Sequence[Choice]) -> None:
        """Keep what MACs were asked for, so that figures can mark it."""
        if budget.measure[1] != "kMAC/px":
            return
        path = self.run.targets_path
        known = resources.read_yaml(path) if path.is_file() else {}
        asked = known.setdefault(budget.scope, {})
        asked |= {round(choice.target, 6): choice.best.architecture.key for choice in choices}
        if asked:
            write_yaml(path, known)

    def _split_note(self) -> str:
        photos = len(self.evaluator.photos)
        return f"scores are estimates on {photos} calibration photo{'s' * (photos != 1)}"


def _open_study(name: str, url: str | None, folder: Path, sampler: ArchitectureSampler) -> optuna.Study:
    """The search's study: in a journal in the run, or where a storage URL says."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = folder / "study.log"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.create_study(
            study_name=name,
            storage=url or JournalStorage(JournalFileBackend(str(journal))),
            sampler=sampler,
            directions=["minimize", "minimize"],
            load_if_exists=True,
        )
    except Exception as error:  # each kind of storage has errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"--storage {url}" if url else f"{journal} (delete it; the scores are kept elsewhere)"
        raise InputError(f"Cannot open the study in {what}: {reason}.") from error
