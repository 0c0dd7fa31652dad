"""`nas explain`, `nas probe` and `nas rank-check`: analyses of a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.photos.images import BUNDLED, Photo, bundled, list_images
from nas.photos.split import load_photos, photos_of
from nas.run import Run
from nas.spaces.architecture import Architecture
from nas.spaces.rates import lmbda_at, middle, quality_at
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.files import refuse_existing
from nas.support.limits import check_count, check_seed, check_settings
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent
from nas.verbs.runs import opened

if TYPE_CHECKING:
    from nas.analysis.probes.probe import ProbeResult
    from nas.analysis.rank_result import RankResult
    from nas.analysis.sensitivity import SensitivityTable


@with_paths
def explain(
    run: Run | str | Path,
    arch: str,
    *,
    scope: str = "total",
    out: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> SensitivityTable:
    """Make the sensitivity table of an architecture: what one step in each slot costs and gains.

    Args:
        run: a trained run, its folder, or `zoo:NAME`.
        arch: key of the architecture, as in front.csv, or a codec that was exported from the run.
        scope: whose MACs to show: `encoder`, `decoder` or `total`.
        out: also draw the table into this file: .png, .svg or .pdf.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace an existing file.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        A `SensitivityTable`. `groups` has the steps by kind, each with its change in kMAC/px and in loss.

    Raises:
        InputError: it is not a key of the run's space, or the file exists already.
        KeyboardInterrupt: every score is kept. The same call continues.

    Example:
        >>> table = nas.explain("runs/a", nas.load_run("runs/a").front()["arch"][0])
        >>> len(table.groups) > 0
        True
    """
    from nas.analysis.sensitivity import sensitivity_table
    from nas.report.sensitivity import save_sensitivity_table
    from nas.report.structure.graph import check_picture
    from nas.searching.searcher import Searcher

    if out is not None:
        check_picture(Path(out), force=force)
    searcher = Searcher(opened(run), device=device)
    table = sensitivity_table(searcher, _architecture(searcher.space, arch), scope, report)
    if out is not None:
        save_sensitivity_table(table, Path(out))
    return table


@with_paths
def probe(
    run: Run | str | Path,
    arch: str,
    *,
    data: str | Path | None = None,
    photos: int = 8,
    quality: float | None = None,
    tolerance: float = 1.0,
    steps: int = 40,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> ProbeResult:
    """Find where an architecture is redundant and where it lacks capacity, without training.

    For every interface (an activation between two layers, y, z and psi) it finds the fewest principal
    components that keep the loss (redundancy), and how much a better activation of each picture would gain
    (headroom). The authors of PULSE (arXiv 2609.18602) let such probes guide the search for their
    architecture.

    Args:
        run: a trained run, its folder, or `zoo:NAME`.
        arch: key of the architecture, as in front.csv, or a codec that was exported from the run.
        data: folder of photos to probe on, or `bundled`. By default it is the run's calibration photos.
        photos: number of photos, at most.
        quality: 0 (lowest rate) to 100, for a run over a range of rates. By default it is that of the middle
            anchor.
        tolerance: how much the loss may rise when components are left out, in %.
        steps: steps along the gradient for the headroom.
        out: FILE.json for the results. Beside it are FILE.csv and a picture, FILE.png and FILE.svg.
        seed: seed for all random choices.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace existing files.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        A `ProbeResult`. `to_dataframe` has a row for each interface.

    Raises:
        InputError: it is not a key of the run's space, a setting is wrong, or the files exist already.

    Example:
        >>> key = nas.load_run("runs/a").front()["arch"][0]
        >>> found = nas.probe("runs/a", key, photos=1, steps=1).to_dataframe()
        >>> bool((found["components"] <= found["channels"]).all() and (found["headroom"] >= 0).all())
        True
    """
    from nas.analysis.probes.probe import ProbeRequest, probe_network
    from nas.metrics.objective import Objective
    from nas.report.probes import pictures_of, save_probes
    from nas.support.device import choose
    from nas.training.settings import settings_of
    from nas.weights.checkpoint import supernet_of

    request = ProbeRequest(tolerance, steps, check_seed(seed))
    where, opened_run = choose(device), opened(run)
    _ = opened_run.trained_weights  # refuses a run without weights
    architecture, settings = _architecture(opened_run.space, arch), settings_of(opened_run)
    lmbda, quality = _rate(opened_run, settings.lmbda, quality)
    written = [] if out is None else _outputs(Path(out), force)
    pictures = _photos(opened_run, data, check_count(photos, "photos", 1))
    network = supernet_of(opened_run).to(where).extract(architecture)
    objective = Objective(lmbda, settings.metric)
    result = probe_network(
        network, architecture, pictures, objective, request, quality=quality, report=report
    )
    if out is not None:
        result.write(Path(out))
        save_probes(result, pictures_of(Path(out)))
    return replace(result, files=tuple(written))


def _rate(run: Run, lmbda: float, quality: float | None) -> tuple[float, float | None]:
    """The lambda to probe at, and its quality, which is None for a run of one rate."""
    anchors = run.space.rates
    if not anchors:
        if quality is not None:
            raise InputError(f"{run.path} has one rate, so no quality can be chosen: leave --quality out.")
        return lmbda, None
    quality = quality_at(anchors, middle(anchors)) if quality is None else quality
    return lmbda_at(anchors, quality), quality


def _outputs(out: Path, force: bool) -> list[Path]:
    """The files for FILE.json. InputError if they cannot be written."""
    from nas.report.probes import pictures_of

    if out.suffix.lower() != ".json":
        raise InputError(f"{out} must end in .json: choose such a name. The other files are put beside it.")
    files = [out, out.with_suffix(".csv"), *pictures_of(out)]
    for file in files:
        refuse_existing(file, force=force, what="result", folder=False)
    return files


def _photos(run: Run, data: str | Path | None, most: int) -> list[Photo]:
    """The photos to probe on."""
    if data is None:
        return photos_of(run, "calibration", most)
    if str(data) == BUNDLED:
        return list(chain.from_iterable(bundled().values()))[:most]
    return load_photos(list_images(data)[:most])


@with_paths
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
    """Train a few architectures alone, and compare them with the supernet's scores.

    Args:
        run: a trained run or its folder.
        data: the photos that the run was trained on: a folder, or `bundled`.
        count: number of architectures, 3 or more, evenly spread over the range of MACs.
        steps: training steps for each. By default as many as the run had.
        start: `scratch` (as the run began: random weights or the photos' KLT) or `supernet` (the weights that
            they have in the supernet).
        settings: training settings by name, where they differ from the run's.
        seed: seed for choosing the architectures. Training uses the run's seed.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace results that were made with other settings.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        A `RankResult`. `agreement` has Kendall's tau with its interval, and `penalty` is the relative loss
        that sharing weights costs.

    Raises:
        InputError: a setting is wrong, or results with other settings exist. Nothing is written then.
        KeyboardInterrupt: what was trained is kept. The same call continues.

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


def _architecture(space: SearchSpace, arch: str) -> Architecture:
    """The architecture of a run that is given by its key, or by the folder of its codec."""
    from nas.codec.folder import DESCRIPTION, read_description

    folder = Path(arch)
    with suppress(OSError):  # no path may be that long
        if (folder / DESCRIPTION).is_file():
            return space.parse(read_description(folder)["arch"])
    return space.parse(arch)
