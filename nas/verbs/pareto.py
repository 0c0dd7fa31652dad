"""`nas pareto`: draws the front of one run or of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.run import Run
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent
from nas.verbs.runs import opened


@with_paths
def pareto(
    runs: Run | str | Path | Sequence[Run | str | Path],
    *,
    scope: str = "total",
    out: str | Path | None = None,
    pictures: int = 12,
    report: StageReport = silent,
) -> list[Path]:
    """Draw the Pareto front: front.csv, pareto.png, pareto.svg and report.html.

    Args:
        runs: a searched run or several, such as one per lambda.
        scope: whose MACs to show: `encoder`, `decoder` or `total`.
        out: folder for the drawings. By default it is that of the first run.
        pictures: how many architectures show a decoded photo in report.html. 0 shows none.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        The paths of the files.

    Raises:
        InputError: a run has no scores, the scope does not exist, the number of pictures is negative, or the
            folder cannot be written.

    Example:
        >>> files = nas.pareto("runs/a", out="figures")
        >>> sorted(file.name for file in files if file.suffix == ".png")
        ['pareto.png']
    """
    from nas.report.front.make import draw_runs

    given = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    different = {run.path.resolve(): run for run in map(opened, given)}
    first = next(iter(different.values()))
    if out is None:
        first.refuse_read_only()
    folder = Path(out) if out is not None else first.path
    return draw_runs(list(different.values()), folder, scope=scope, pictures=pictures, report=report)
