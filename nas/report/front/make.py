"""Draws runs on disk: front.csv, pareto.png, pareto.svg and report.html."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.profiling.quantities import costs_of, store_costs_of
from nas.report.front.costs import COSTS
from nas.report.front.fronts import RunFront
from nas.report.front.page import write_page
from nas.report.front.pictures import MOST_PICTURES, Pictures, along_the_front, decode_pictures
from nas.report.front.plots import save_front
from nas.run import CALIBRATION_PHOTOS, HELD_OUT_PHOTOS, LIMITED, Run
from nas.spaces.budget import REFERENCE_SIZE, check_scope
from nas.spaces.rates import range_text
from nas.support import resources
from nas.support.errors import InputError
from nas.support.files import make_folder, refuse_unwritable
from nas.support.limits import check_count
from nas.support.progress import StageReport, silent
from nas.training.settings import settings_of

if TYPE_CHECKING:
    import pandas as pd

    from nas.cost.counting.table import CostTable
    from nas.cost.exact.quantity import Quantity
    from nas.searching.scoring.evaluator import Score
    from nas.spaces.architecture import Architecture

_TIMES = [cost for cost in COSTS.values() if cost.is_time]


def draw_runs(
    runs: Sequence[Run],
    folder: Path,
    *,
    scope: str = "total",
    pictures: int = MOST_PICTURES,
    report: StageReport = silent,
) -> list[Path]:
    """Draw the fronts of some runs (for example one per lambda) into a folder.

    The front.csv of each run is written again, if the run can be written.

    Args:
        runs: the runs.
        folder: the folder, which is created if necessary.
        scope: scope of the MACs to show: `encoder`, `decoder` or `total`.
        pictures: largest number of architectures, over all runs, that have a decoded picture on the page.
        report: called as the work goes on.

    Returns:
        The paths of the written files.

    Raises:
        InputError: a run has no scores, the scope does not exist, the number of pictures is negative, or the
            folder cannot be written.
    """
    check_scope(scope)
    check_count(pictures, "pictures")
    notes: dict[str, list[str]] = {}
    refuse_unwritable(folder / "report.html")
    scores = [_known_scores(run) for run in runs]  # or refused, before any of them is written
    fronts = [front_of(run, notes, known) for run, known in zip(runs, scores, strict=True)]
    make_folder(folder)
    figures = save_front(fronts, folder, scope)
    decoded = _decoded(runs, fronts, scope, pictures, notes, report)
    facts = _facts(runs) | {k: "; ".join(v) for k, v in notes.items()}
    page = write_page(fronts, folder, scope, facts, decoded)
    return [*(run.front_path for run in runs if run.is_writable), *figures, page]


def _known_scores(run: Run) -> dict[Architecture, Score]:
    """The scores of a run. InputError if there are none."""
    from nas.searching.scoring.scores import known_scores

    objective = settings_of(run).objective
    scores = known_scores(run.scores_path, run.space, run.fingerprint, objective=objective)
    if not scores:
        raise InputError(f"{run.typed} has no scores yet: {run.how_to_run('search')} first.")
    return scores


def front_of(
    run: Run, notes: dict[str, list[str]], scores: dict[Architecture, Score] | None = None
) -> RunFront:
    """Read a run's scores as tables, and write its front.csv again.

    Args:
        run: a searched run.
        notes: facts for the page, by name. Facts about this run are added.
        scores: its scores, if they are read already.

    Raises:
        InputError: the run has no scores yet.
    """
    from nas.searching.scoring.final import with_tested
    from nas.searching.scoring.front import score_table, write_front

    space, settings = run.space, settings_of(run)
    scores = _known_scores(run) if scores is None else scores
    costs = costs_of(run)
    store_costs_of(run, costs)
    table = score_table(scores.items(), costs, settings.objective)
    table = with_tested(table, run)
    if run.is_writable:
        write_front(run, table)
    clocks, machine, note = _clocks(run, costs)
    notes.setdefault("time", []).append(note)
    table = _with_times(table, list(scores), clocks)
    shown = table[[cost.flag for cost in COSTS.values()]].any(axis=1) | table["test_rd_loss"].notna()
    names = {
        **{cost.name: cost.name for cost in COSTS.values() if not cost.is_time},
        **{clock.identity: name for name, clock in clocks.items()},
    }
    answers, limited = _asked(run, names)
    shown |= table["arch"].isin(
        [key for keys_by_target in answers.values() for key in keys_by_target.values()]
    )
    for name, text in limited.items():
        notes.setdefault(f"asked for in {name}", []).append(text)
    uniform, tapered = ({each.key for each in shapes} for shapes in (space.baselines(), space.tapered()))
    return RunFront(
        name=run.path.resolve().name,
        lmbda=settings.lmbda,
        metric=settings.metric,
        front=table[shown].reset_index(drop=True),
        scored=table,
        uniform=table[table["arch"].isin(uniform)],
        tapered=table[table["arch"].isin(tapered)],
        targets={cost: sorted(keys_by_target) for cost, keys_by_target in answers.items()},
        answers=answers,
        machine=machine,
        space=space,
        curves={architecture.key: score.curve for architecture, score in scores.items()},
        folder=run.typed,
    )


def _decoded(
    runs: Sequence[Run],
    fronts: Sequence[RunFront],
    scope: str,
    count: int,
    notes: dict[str, list[str]],
    report: StageReport,
) -> list[Pictures | None]:
    """Decode pictures for each run. A run without photos or weights has none, and a note says so."""
    pictures: list[Pictures | None] = []
    for run, front in zip(runs, fronts, strict=True):
        keys = along_the_front(front, COSTS[scope], count // len(runs))
        try:
            pictures.append(decode_pictures(run, keys, report) if keys else None)
        except InputError as error:
            pictures.append(None)
            notes.setdefault("pictures", []).append(f"none: {error}")
    return pictures


def _clocks(run: Run, costs: CostTable) -> tuple[dict[str, Quantity], str, str]:
    """The time of every action, the machine, and the source of the times. Empty if nothing was measured."""
    if not run.profile_path.is_dir():
        return {}, "", f"not measured: to know it for every architecture, {run.how_to_run('profile')}"
    from nas.profiling.quantities import Quantities
    from nas.support.device import choose

    try:
        predictor = Quantities(run, costs, choose("auto").type).predictor(REFERENCE_SIZE)
    except InputError as error:
        return {}, "", f"not known: {error}"
    facts = predictor.measured.facts
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    machine = f"{facts['machine']} ({facts['device']}, {threads})"
    times = {cost.name: predictor.time(cost.name) for cost in _TIMES}
    return times, machine, f"by look-up in what was measured {predictor.where}: {machine}"


def _with_times(
    table: pd.DataFrame, scored: Sequence[Architecture], clocks: Mapping[str, Quantity]
) -> pd.DataFrame:
    """Add the time of every architecture, and whether it is on the front in time."""
    from nas.metrics.pareto import non_dominated

    architectures = {architecture.key: architecture for architecture in scored}
    for cost in _TIMES:
        table[cost.column], table[cost.flag] = np.nan, False
        if cost.name in clocks:
            values = [clocks[cost.name].value(architectures[key]) for key in table["arch"]]
            table[cost.column], table[cost.flag] = values, non_dominated(values, table["rd_loss"].tolist())
    return table


def _asked(run: Run, names: Mapping[str, str]) -> tuple[dict[str, dict[float, str]], dict[str, str]]:
    """The targets of the last search. Entries that are not numbers are ignored.

    Args:
        run: the run whose targets.yaml is read.
        names: the cost of each name in the file.

    Returns:
        The key of every answer, by cost and target; and the further limits in words, by cost.
    """
    content = resources.read_yaml(run.targets_path) if run.targets_path.is_file() else {}
    answers: dict[str, dict[float, str]] = {}
    limits: dict[str, str] = {}
    for title, keys_by_target in content.items():
        name, _, beside = str(title).partition(LIMITED)
        if name in names and isinstance(keys_by_target, dict):
            found = answers[names[name]] = {}
            for target, key in keys_by_target.items():
                with contextlib.suppress(ValueError, OverflowError):
                    found[resources.finite_number(target)] = str(key)
            if beside:
                limits[names[name]] = f"with {beside}"
    return answers, limits


def _facts(runs: Sequence[Run]) -> dict[str, str]:
    """The sources of all numbers, for the foot of the page."""
    from nas.photos.split import shared_photos

    facts: dict[str, list[str]] = {}

    def note(name: str, value: object) -> None:
        values = facts.setdefault(name, [])
        if str(value) not in values:
            values.append(str(value))

    for run in runs:
        split = run.split()
        space = run.space
        note("space", f"{space.name}: {space.size:,} architectures of family {space.family.name}")
        settings = settings_of(run)
        note("lambda", range_text(space.rates or (settings.lmbda,)))
        note("metric", settings.metric)
        note("trained", _trained(run, len(split["train"])))
        note("searched on (calibration)", _named(split["calibration"][:CALIBRATION_PHOTOS]))
        note("final numbers on (held-out, never searched)", _named(split["held-out"][:HELD_OUT_PHOTOS]))
        for photo in shared_photos(split["held-out"], split["calibration"]):
            note("in both, so no fair test", photo.name)
        note("versions", ", ".join(f"{part} {version}" for part, version in run.noted("versions").items()))
    return {name: "; ".join(values) for name, values in facts.items()}


def _trained(run: Run, photos: int) -> str:
    """How the weights were trained. A run that combines several trainings says so in config.yaml."""
    if "trained" in run.config:
        return str(run.config["trained"])
    settings = settings_of(run)
    return f"{settings.steps} steps, seed {settings.seed}, {photos} photo{'s' * (photos != 1)}"


def _named(photos: Sequence[Path]) -> str:
    names = ", ".join(photo.name for photo in photos[:6])
    return f"{len(photos)} photo{'s' * (len(photos) != 1)} ({names}{', ...' if len(photos) > 6 else ''})"
