"""`nas explain` and `nas rank-check`: questions to a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.run import Run
from nas.support.limits import check_settings
from nas.support.progress import StageReport, silent
from nas.verbs.runs import opened

if TYPE_CHECKING:
    from nas.analysis.prices import PriceList
    from nas.analysis.rank import RankResult


def explain(
    run: Run | str | Path,
    arch: str,
    *,
    scope: str = "total",
    out: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> PriceList:
    """What one step in each slot of an architecture costs and gains.

    Args:
        run: a trained run, its folder, or `zoo:NAME`.
        arch: the architecture's key, as in front.csv.
        scope: whose MACs count: `encoder`, `decoder` or `total`.
        out: draw the table into this file, too: .png, .svg or .pdf.
        device: `auto`, `cpu` or `cuda`.
        force: replace the file.
        report: called with a stage's name, how much of it is done, of how much, and a note.

    Raises:
        InputError: not a key of the run's space, or a file that would be replaced.
        KeyboardInterrupt: every score is kept; the same call continues.

    Example:
        >>> prices = nas.explain("runs/a", nas.load_run("runs/a").front()["arch"][0])
        >>> len(prices.groups) > 0
        True
    """
    from nas.analysis.prices import price_list
    from nas.report.prices import save_prices
    from nas.report.structure.graph import check_picture
    from nas.searching.searcher import Searcher

    if out is not None:
        check_picture(Path(out), force=force)
    searcher = Searcher(opened(run), device=device)
    prices = price_list(searcher, searcher.space.parse(arch), scope, report)
    if out is not None:
        save_prices(prices, Path(out))
    return prices


def rank_check(
    run: Run | str | Path,
    data: str | Path,
    *,
    count: int = 6,
    steps: int | None = None,
    start: str = "scratch",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> RankResult:
    """Train a few architectures alone, and compare them with what the supernet says of them.

    Args:
        run: a trained run or its folder.
        data: the photos that the run was trained on: a folder, or `bundled`.
        count: number of architectures, evenly spread over the range of MACs.
        steps: training steps for each; by default as many as the run had.
        start: `scratch` (random weights) or `supernet` (the weights that they have in it).
        settings: training settings by name, where they differ from the run's.
        seed: for choosing the architectures; training has the run's.
        device: `auto`, `cpu` or `cuda`.
        force: replace results that were made with other settings.
        report: called with a stage's name, how much of it is done, of how much, and a note.

    Raises:
        InputError: before anything is written, where the request cannot be met.
        KeyboardInterrupt: what was trained is kept; the same call continues.

    Example:
        >>> result = nas.rank_check("runs/a", "photos/", count=8)  # doctest: +SKIP
    """
    from nas.analysis.rank import RankRequest
    from nas.analysis.rank import rank_check as check
    from nas.report.rank import save_rank
    from nas.searching.searcher import Searcher

    request = RankRequest(str(data), count, steps, start, check_settings(settings), seed, force)
    result = check(Searcher(opened(run), device=device), request, report=report)
    pictures = save_rank(result, result.files[0].parent)
    return replace(result, files=[*result.files, *pictures])
