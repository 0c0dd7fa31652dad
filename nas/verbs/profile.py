"""`nas profile`: what a codec, or every architecture of a run, costs on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.run import Run
from nas.shipped import in_zoo
from nas.support.errors import InputError
from nas.support.progress import StageReport, silent
from nas.verbs.runs import opened

if TYPE_CHECKING:
    from nas.profiling.profile import CodecProfile
    from nas.profiling.run_profile import RunProfile


def profile(
    path: Run | str | Path,
    *,
    size: str = "768x512",
    repeats: int = 3,
    check: int = 0,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> CodecProfile | RunProfile:
    """Measure parameters, MACs by edge and scope, latency and peak memory on this machine.

    Args:
        path: a run, or the folder of a run or a codec.
        size: width x height of the picture to time.
        repeats: number of timed repeats, after a warm-up.
        check: of a run, also time this many random architectures as whole codecs, to check predictions.
        seed: for choosing the architectures of `check`.
        device: `auto`, `cpu` or `cuda`.
        force: of a run, measure everything again.
        report: called with a stage's name, how much of it is done, of how much, and a note.

    Raises:
        InputError: neither a run nor a codec, no such size, or a profile of another machine in the way.
        KeyboardInterrupt: what was measured of a run is kept; the same call continues.

    Example:
        >>> profile = nas.profile("runs/a", check=30)  # doctest: +SKIP
    """
    from nas.profiling.profile import parse_size, profile_codec
    from nas.support.device import choose

    pixels, where = parse_size(size), choose(device)

    def measured(done: int, total: int, note: str) -> None:
        report("profiling", done, total, note)

    if not isinstance(path, Run) and not in_zoo(path):
        if (Path(path) / "codec.yaml").is_file():
            return profile_codec(Path(path), size=pixels, repeats=repeats, device=where, report=measured)
        if not (Path(path) / "config.yaml").is_file():
            raise InputError(
                f"{path} is neither a run nor a codec: give a folder that `nas train` or `nas export` made."
            )
    from nas.profiling.measure import Request
    from nas.profiling.run_profile import profile_run
    from nas.report.profile import save_profile

    result = profile_run(opened(path), Request(pixels, repeats, where, check, seed, force), report=measured)
    return replace(result, files=tuple(save_profile(result, Path(result.measured["folder"]))))
