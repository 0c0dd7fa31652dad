"""From runs on disk to their figure and page: front.csv, pareto.png, pareto.svg, report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas import resources
from nas.errors import InputError
from nas.report.fronts import RunFront
from nas.report.page import write_page
from nas.report.plots import save_front
from nas.run import Run


def draw_runs(runs: Sequence[Run], folder: Path, *, scope: str = "total") -> list[Path]:
    """Draw the fronts of some runs (one per lambda, say) into a folder; each run's front.csv is renewed.

    Returns:
        The files written.

    Raises:
        InputError: a run without scores, or an unknown scope.
    """
    fronts = [_front(run, scope) for run in runs]
    folder.mkdir(parents=True, exist_ok=True)
    figures = save_front(fronts, folder, scope)
    page = write_page(fronts, folder, scope, _facts(runs))
    return [*(run.front_path for run in runs), *figures, page]


def _front(run: Run, scope: str) -> RunFront:
    """A run's scores as tables, its front.csv renewed."""
    from nas.search.front import keep_tested, on_any_front, score_table, write_front
    from nas.search.scores import known_scores

    space, settings = run.space, run.settings
    scores = known_scores(run.scores_path, space, run.fingerprint)
    if not scores:
        raise InputError(f"{run.path} has no scores yet: run `nas search {run.path}` first.")
    table = score_table(scores.items(), run.costs(), lmbda=settings.lmbda, metric=settings.metric)
    front = keep_tested(on_any_front(table), run.front_path)
    write_front(run.front_path, front)
    asked = resources.read_yaml(run.targets_path) if run.targets_path.is_file() else {}
    uniform = {architecture.key for architecture in space.baselines()}
    return RunFront(
        name=run.path.resolve().name,
        lmbda=settings.lmbda,
        metric=settings.metric,
        front=front,
        scored=table,
        baselines=table[table["arch"].isin(uniform)],
        targets=[float(target) for target in asked.get(scope, {})],
        space=space,
    )


def _facts(runs: Sequence[Run]) -> dict[str, str]:
    """Where the numbers come from, for the foot of the page."""
    from nas.training.data import read_split

    found: dict[str, list[str]] = {}

    def note(name: str, value: object) -> None:
        values = found.setdefault(name, [])
        if str(value) not in values:
            values.append(str(value))

    for run in runs:
        split = read_split(run.split_path)
        space = run.space
        note("space", f"{space.name}: {space.size:,} architectures of family {space.family.name}")
        note("lambda", f"{run.settings.lmbda:g}")
        note("metric", run.settings.metric)
        note("trained", f"{run.settings.steps} steps, seed {run.settings.seed}, {len(split['train'])} photos")
        note("searched on (calibration)", _named(split["calibration"]))
        note("final numbers on (held-out, never searched)", _named(split["held-out"]))
        note("versions", ", ".join(f"{part} {version}" for part, version in run.config["versions"].items()))
    return {name: "; ".join(values) for name, values in found.items()}


def _named(photos: Sequence[Path]) -> str:
    names = ", ".join(photo.name for photo in photos[:6])
    return f"{len(photos)} photos ({names}{', ...' if len(photos) > 6 else ''})"
