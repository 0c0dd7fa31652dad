"""The search as a whole: reachable costs, layouts and logits, Optuna trials, the front, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nas.photos.split import photos_of
from nas.profiling.possible import Range, scope_ranges
from nas.profiling.quantities import Quantities, Question, costs_of, store_costs_of
from nas.run import CALIBRATION_PHOTOS, LIMITED, Run
from nas.searching.answers import Answers, Choice
from nas.searching.layouts.candidates import read_rates, wants_layouts
from nas.searching.sampler.logits import WidthLogits
from nas.searching.sampler.prior import LogitPrior, modes
from nas.searching.sampler.rows import proposer
from nas.searching.scoring.evaluator import Evaluator
from nas.searching.scoring.front import on_any_front, score_table, write_front
from nas.searching.scoring.scores import Scores
from nas.searching.sources import Sources, prepare_layouts, prepare_logits
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Budget
from nas.spaces.layout import MADE_IN_RUNS
from nas.spaces.rates import meaning_of_scores
from nas.support import resources
from nas.support.device import choose
from nas.support.errors import InputError
from nas.support.files import write_yaml
from nas.support.limits import check_count, check_seed
from nas.support.progress import StageReport, silent
from nas.training.settings import settings_of
from nas.weights.checkpoint import supernet_of

if TYPE_CHECKING:
    import pandas as pd
    from optuna.storages import BaseStorage


@dataclass
class SearchResult:
    """The result of a search.

    Attributes:
        size: number of architectures in the space.
        ranges: reachable costs in kMAC per pixel, by scope.
        scored: table of all scored architectures.
        choices: the answers to the budget's targets.
        notes: sentences about the result.
        set_aside: architectures that could not be scored and are not tried again.
        run: the run that was searched.
        question: the budget, resolved for its space.
    """

    size: int
    ranges: dict[str, Range]
    scored: pd.DataFrame
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    set_aside: list[Architecture] = field(default_factory=list)
    run: Run | None = None
    question: Question | None = None

    @property
    def front(self) -> pd.DataFrame:
        """The scored architectures that no other one beats in cost (in at least one scope) and loss."""
        return on_any_front(self.scored)

    def to_dataframe(self) -> pd.DataFrame:
        """All scored architectures with their costs and the fronts that they are on."""
        return self.scored

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {
            "architectures": self.size,
            "scored": len(self.scored),
            "front": len(self.front),
            "set_aside": [architecture.key for architecture in self.set_aside],
            "ranges_kmac_px": {name: span.to_json() for name, span in self.ranges.items()},
            "choices": [choice.to_json() for choice in self.choices],
        }

    def __repr__(self) -> str:
        choices = ", ".join(
            f"{choice.target:g} {choice.quantity.unit}: {choice.architecture.key}" for choice in self.choices
        )
        answers = f", answers: {choices}" if choices else ""
        return f"SearchResult({len(self.scored)} scored, {len(self.front)} on the front{answers})"


class Searcher:
    """Searches a run. It is opened once and can answer several budgets.

    Args:
        run: a trained run.
        device: where to score.
        quantities: costs of the run's space, if they are already loaded.
    """

    def __init__(self, run: Run, *, device: str = "auto", quantities: Quantities | None = None) -> None:
        self.run, self.settings = run, settings_of(run)
        self._device = choose(device)
        self._open(quantities)

    def __repr__(self) -> str:
        return f"Searcher({str(self.run.path)!r}: {self.space!r})"

    def _open(self, quantities: Quantities | None = None) -> None:
        """Load the space (with the layouts found for it), its costs, and the known scores."""
        run = self.run
        self.space = run.space
        self.costs = quantities.costs if quantities else costs_of(run)
        self.quantities = quantities or Quantities(run, self.costs, self._device.type)
        photos = photos_of(run, "calibration", CALIBRATION_PHOTOS)
        self.evaluator = Evaluator(
            supernet_of(run),
            photos,
            self.settings.objective,
            device=self._device,
        )
        self.scores = Scores(run.scores_path, self.evaluator, run.fingerprint, keep=run.is_writable)

    # Reachable costs

    def question(self, budget: Budget | None) -> Question:
        """Resolve a budget for this space. This needs no photo and no score.

        Raises:
            UnreachableBudgetError: no architecture meets the budget. The message says what is possible.
        """
        return self.quantities.question(budget or Budget("whole range"))

    def ranges(self, budget: Budget | None = None) -> dict[str, Range]:
        """The reachable costs by scope within a budget's limits. This needs no photo and no score."""
        return scope_ranges(self.quantities, self.question(budget))

    def search(
        self,
        budget: Budget | None = None,
        *,
        trials: int | None = 100,
        sources: Sources | None = None,
        storage: str | None = None,
        opened: BaseStorage | None = None,
        seed: int = 0,
        report: StageReport = silent,
    ) -> SearchResult:
        """Score `trials` more architectures, write the front, and answer the budget's targets.

        Args:
            budget: limits on the cost. None covers the whole range.
            trials: number of architectures to score. A few more may be scored near a target that has none. 0
                scores nothing at all, and None scores only those few.
            sources: switches that turn sources of candidates off, for ablations.
            storage: an Optuna storage URL. By default a journal in the run is used.
            opened: that storage, if it is open already. It is closed at the end.
            seed: seed for all random choices.
            report: called with a stage's name, the work done, the total work and a note.

        Raises:
            UnreachableBudgetError: no architecture meets the budget. Raised before anything is scored.
        """
        from nas.searching.study.storage import JOURNAL, close_storage, open_storage

        sources, budget = sources or Sources(), budget or Budget("whole range")
        question = self.question(budget)
        check_seed(seed)
        number = check_count(0 if trials is None else trials, "trials")
        self.run.refuse_read_only()
        journal = self.run.search_path / JOURNAL
        if opened is None and (storage is not None or journal.is_file()):
            opened = open_storage(storage or journal)  # refuse a bad storage early
        try:
            self.store_costs()
            return self._searched(
                budget, question, number, trials != 0, sources, storage, opened, seed, report
            )
        finally:
            if opened is not None:
                close_storage(opened)

    def _searched(
        self,
        budget: Budget,
        question: Question,
        number: int,
        may_score: bool,
        sources: Sources,
        storage: str | None,
        opened: BaseStorage | None,
        seed: int,
        report: StageReport,
    ) -> SearchResult:
        """`search`, of what is not refused any more."""
        from nas.searching.sampler.attempts import ATTEMPTS
        from nas.searching.study.trials import Trials

        # a target of another device cannot use layouts that the device has no times of
        if sources.layouts and wants_layouts(self.run.trained_space) and not budget.is_elsewhere:
            settings = sources.layout_settings
            if prepare_layouts(self.run, self.evaluator, settings, seed=seed, report=report):
                self._open()
            self._complete_profiles(budget, report)
            # resolved again, because the space now has more layouts. An accepted target stays so: with new
            # times in the profile, it may be above them all
            question = self.question(replace(budget, typed=False))
        rungs = self._learn(question, sources, seed, report) if number else []
        proposals = proposer(
            self.space,
            question,
            self._rates,
            first=self._first(rungs),
            also=[*self.space.baselines(), *self.space.tapered()],
            prior=LogitPrior(self.space, rungs) if rungs else None,
            local=sources.moves,
            seed=seed,
        )
        with Trials(self.run, self.scores, question, proposals, storage=storage, opened=opened) as worker:
            if sources.trials:
                worker.run(number, report)
            answers = Answers(self.costs, self.scores, self._rates, score=worker.score)
            choices = [self._answer(answers, question, t, may_score, report) for t in question.asked]
            aside = worker.set_aside()
        result = SearchResult(
            self.space.size,
            self.ranges(),
            self.write_front(),
            [choice for choice in choices if choice],
            set_aside=aside,
            run=self.run,
            question=question,
        )
        self._note_targets(question, result.choices)
        result.notes += [question.idle] if question.idle else []
        answered = zip(question.asked, choices, strict=True)
        unanswered = [question.quantity.format(target) for target, choice in answered if not choice]
        if unanswered:
            told = " and ".join(unanswered)
            result.notes.append(
                f"nothing that was scored costs at most {told}, so search on with --trials 100"
            )
        result.notes.append(self._split_note())
        if self.space.rates:
            result.notes.append(meaning_of_scores(self.space.rates))
        if aside:
            keys = ", ".join(architecture.key for architecture in aside)
            result.notes.append(
                f"{len(aside)} could not be scored in {ATTEMPTS} attempts each and are set aside: {keys}"
            )
        return result

    @staticmethod
    def _answer(
        answers: Answers, question: Question, target: int, may_score: bool, report: StageReport
    ) -> Choice | None:
        """Answer a target. With no trials or without a target, only existing scores are used."""
        choice = answers.best_known(question, target)
        if may_score and (question.targets or choice is None):
            return answers.choose(question, target, report)
        return choice

    def table(self) -> pd.DataFrame:
        """All scored architectures."""
        settings = self.settings
        return score_table(self.scores.items(), self.costs, settings.objective)

    def store_costs(self) -> None:
        """Keep the costs of the space in the run, once a request is not refused any more."""
        store_costs_of(self.run, self.costs)

    def write_front(self) -> pd.DataFrame:
        """Write the run's front.csv again, and return all scored architectures."""
        self.store_costs()
        table = self.table()
        write_front(self.run, table)
        return table

    def choose(self, question: Question, *, report: StageReport = silent) -> Choice:
        """Answer the largest target, or the limits alone. Missing architectures near a target are scored.

        Args:
            question: the resolved budget.
            report: called as the work goes on.
        """
        answers = Answers(self.costs, self.scores, self._rates, score=self.scores.attempt)
        choice = self._answer(answers, question, question.asked[-1], True, report)
        assert choice is not None
        return choice

    # Preparation

    @property
    def _rates(self) -> dict[str, float]:
        """The measured rates of the layouts."""
        return read_rates(self.run.layouts_path)

    def _complete_profiles(self, budget: Budget, report: StageReport) -> None:
        """Measure the layouts that were found after the run was profiled, if the budget needs their times."""
        from nas.profiling.measure import Request, measure

        asked = dict.fromkeys(size for _, unit, size, _ in budget.measures if unit in ("ms", "MB"))
        for size in filter(None, asked):
            try:
                self.quantities.predictor(size)
            except InputError:
                request = Request(size=size, device=self._device)
                measure(
                    self.run,
                    request,
                    report=lambda done, total, note: report("profiling new layouts", done, total, note),
                )

    def _learn(
        self, question: Question, sources: Sources, seed: int, report: StageReport
    ) -> list[WidthLogits]:
        if not sources.logits:
            return []
        settings = sources.logit_settings
        return prepare_logits(
            self.run, self.evaluator, self.costs, question, settings, seed=seed, report=report
        )

    def _first(self, rungs: Sequence[WidthLogits]) -> list[Architecture]:
        """The first architectures to try: the space's starts, the best elsewhere, and modes of the logits."""
        space, path = self.space, self.run.first_path
        greedy = [name for name in space.layout_names if name.startswith(MADE_IN_RUNS)]
        liked = modes(space, rungs, (greedy or space.layout_names)[-1])
        content = resources.read_yaml(path) if path.is_file() else {"arch": []}
        with resources.errors_as_damage(path, "delete it, and the search begins elsewhere"):
            elsewhere = [space.parse(str(key)) for key in content["arch"]]
        return [*space.starts(), *elsewhere, *liked]

    # Output

    def _note_targets(self, question: Question, choices: Sequence[Choice]) -> None:
        """Store the last targets, so that figures can mark them: by scope for MACs, otherwise by quantity."""
        quantity = question.quantity
        name = quantity.name if quantity.unit == "kMAC/px" else quantity.identity
        if question.feasible.bounds:
            name += LIMITED + " and ".join(map(str, question.feasible.bounds))
        asked = {round(choice.target, 6): choice.architecture.key for choice in choices}
        if asked or self.run.targets_path.is_file():
            write_yaml(self.run.targets_path, {name: asked} if asked else {})

    def _split_note(self) -> str:
        photos = len(self.evaluator.photos)
        return f"scores are estimates on {photos} calibration photo{'s' * (photos != 1)}"
