"""What a search prepares before scoring: layouts for the run, and width logits for the budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from filelock import FileLock, Timeout

from nas.cost.counting.table import CostTable
from nas.photos.split import photos_of
from nas.profiling.quantities import Question
from nas.run import Run
from nas.searching.layouts.candidates import LayoutSettings, find_layouts, has_layouts, write_layouts
from nas.searching.layouts.rate import LayoutRate
from nas.searching.sampler.logits import (
    LogitSettings,
    WidthLogits,
    learn_logits,
    read_logits,
    read_structure,
    write_logits,
)
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.budget import SCOPES
from nas.support.files import make_folder
from nas.support.progress import StageReport
from nas.training.settings import settings_of


@dataclass(frozen=True)
class Sources:
    """The sources of architectures that a search uses, for ablations.

    Attributes:
        logits: use width logits as the sampler's prior.
        layouts: use greedy and learned layouts as candidates beside those of the space.
        trials: use Optuna's trials.
        moves: use single steps from the front among the trials.
        layout_settings, logit_settings: how layouts are found and how logits are learned.
    """

    logits: bool = True
    layouts: bool = True
    trials: bool = True
    moves: bool = True
    layout_settings: LayoutSettings = field(default_factory=LayoutSettings)
    logit_settings: LogitSettings = field(default_factory=LogitSettings)


def prepare_layouts(
    run: Run, evaluator: Evaluator, settings: LayoutSettings, *, seed: int, report: StageReport
) -> bool:
    """Find layouts for a run that has none yet for its weights. One worker does this while the others wait.

    Args:
        run: the run.
        evaluator: evaluator of the run's supernet.
        settings: how much is done to find layouts.
        seed: seed of the random numbers.
        report: called as the work goes on.

    Returns:
        Whether new layouts were found, so that the run's space has grown.
    """
    facts = {"weights": run.fingerprint}
    if has_layouts(run.layouts_path, facts):
        return False
    with _alone(run, "layouts", report):
        if has_layouts(run.layouts_path, facts):
            return True
        space = run.trained_space
        architecture = space.widest()
        rate = LayoutRate.of(evaluator, architecture, side=settings.side, photos=settings.photos)
        layouts = find_layouts(
            rate,
            space,
            settings,
            trained=run.learned_layouts(),
            seed=seed,
            report=lambda done, total, note: report("finding layouts", done, total, note),
        )
        facts |= {"calibration": evaluator.calibration, "architecture": architecture.key}
        hand_made = {name: rate(layout) for name, layout in space.layouts.items()}
        write_layouts(run.layouts_path, layouts, hand_made, facts)
    return True


def prepare_logits(
    run: Run,
    evaluator: Evaluator,
    costs: CostTable,
    question: Question,
    settings: LogitSettings,
    *,
    seed: int,
    report: StageReport,
) -> list[WidthLogits]:
    """The width logits for a question: those learned with the weights, or else newly learned and stored.

    If the budget has a few targets in MACs, one set is learned for each (dual ascent). Otherwise one set is
    learned for each price of a ladder. The price is on the MACs of the scope, or on all MACs if something
    else is limited.

    Args:
        run: the run.
        evaluator: evaluator of the run's supernet.
        costs: costs of the space.
        question: the resolved budget.
        settings: how logits are learned.
        seed: seed of the random numbers.
        report: called as the work goes on.
    """
    space, quantity = run.space, question.quantity
    scope = quantity.name if quantity.unit == "kMAC/px" and quantity.name in SCOPES else "total"
    joint = read_structure(run.structure_path, space, scope)
    if joint is not None:
        return [joint]
    if all(count == 1 for count in space.shape[:-1]):
        return []
    few = quantity.name == scope and len(question.targets) <= len(settings.ladder)
    targets = [target / quantity.per_unit for target in question.targets] if few else []
    wanted: list[float | None] = [*targets] or [None]
    path = run.search_path / f"logits-{scope}.yaml"
    facts = {"weights": run.fingerprint, "scope": scope}
    with _alone(run, "logits", report):
        rungs = read_logits(path, space, facts)
        missing = [target for target in wanted if not any(rung.target == target for rung in rungs)]
        if missing:
            rungs += learn_logits(
                evaluator.supernet,
                photos_of(run, "train"),
                costs,
                objective=settings_of(run).objective,
                scope=scope,
                targets=[target for target in missing if target is not None],
                seed=seed,
                settings=settings,
                report=lambda done, total, note: report("learning widths", done, total, note),
            )
            write_logits(path, rungs, facts)
    return [rung for rung in rungs if rung.target in wanted]


@contextmanager
def _alone(run: Run, what: str, report: StageReport) -> Iterator[None]:
    """Let only one process in at a time. If the process is killed, the system releases its lock."""
    make_folder(run.search_path)
    lock = FileLock(run.search_path / f"{what}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for {what}", 0, 0, "another process is at it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
