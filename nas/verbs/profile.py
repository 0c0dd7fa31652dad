"""`nas profile`: measures the costs of a codec or of all architectures of a run, here or on a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.run import Run
from nas.shipped import in_zoo
from nas.support.errors import InputError
from nas.support.limits import check_count
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent
from nas.verbs.runs import opened

if TYPE_CHECKING:
    from nas.profiling.devices.write import Pieces
    from nas.profiling.profile import CodecProfile
    from nas.profiling.run_profile import RunProfile

SIZE, REPEATS = "768x512", 3  # defaults


@with_paths
def profile(
    path: Run | str | Path,
    *,
    size: str = "768x512",
    repeats: int = 3,
    check: int = 0,
    pieces: str | Path | None = None,
    csv: str | Path | None = None,
    device_name: str | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> CodecProfile | RunProfile | Pieces:
    """Measure parameters, MACs by edge and scope, latency and peak memory on this machine.

    Another device, such as a phone, is profiled in two steps. `pieces` writes a folder with ONNX models to
    time there, and a runner that needs only NumPy and onnxruntime. `csv` reads the output of the runner and
    stores it as the profile of `device_name`. Then `30ms@phone` is a target like `30ms`.

    Args:
        path: a run, or the folder of a run or a codec.
        size: width x height of the picture to time, in pixels.
        repeats: number of timed repeats, after a warm-up.
        check: for a run: also time this many random architectures as whole codecs, to check predictions.
        pieces: for a run: write a folder for another device to time. Nothing is timed here.
        csv: for a run: read the times of another device.
        device_name: name of the other device, in letters, digits and '-'.
        seed: seed for choosing the architectures of `check`.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: for a run: measure everything again, or replace pieces or the profile of a device.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        A `CodecProfile` for a codec (seconds, bytes, kMAC per pixel), a `RunProfile` for a run (milliseconds,
        MB, kMAC per pixel), or a `Pieces` if `pieces` is given.

    Raises:
        InputError: the path is neither a run nor a codec, the size does not exist, a profile of another
            machine is in the way, the pieces cannot be written, or the CSV is damaged or belongs to another
            run.
        KeyboardInterrupt: the measurements of a run are kept. The same call continues.

    Example:
        >>> profile = nas.profile("runs/a", check=30)  # doctest: +SKIP
        >>> nas.profile("runs/a", pieces="for-phone", check=10)  # doctest: +SKIP
        >>> nas.profile("runs/a", csv="times.csv", device_name="phone")  # doctest: +SKIP
    """
    from nas.profiling.profile import parse_size, profile_codec
    from nas.support.device import choose

    is_codec = not isinstance(path, Run) and not in_zoo(path) and (Path(path) / "codec.yaml").is_file()
    check_count(repeats, "repeats", 1)
    check_count(check, "check")
    _refuse_mixtures(size, repeats, check, pieces, csv, device_name, is_codec=is_codec)
    pixels, where = parse_size(size), choose(device)

    def measured(done: int, total: int, note: str) -> None:
        report("profiling" if pieces is None else "pieces", done, total, note)

    if is_codec:
        assert not isinstance(path, Run)
        check_count(repeats, "repeats", 1)
        return profile_codec(Path(path), size=pixels, repeats=repeats, device=where, report=measured)
    if not isinstance(path, Run) and not in_zoo(path) and not (Path(path) / "config.yaml").is_file():
        raise InputError(
            f"{path} is neither a run nor a codec: give a folder that `nas train` or `nas export` made."
        )
    from nas.profiling.measure import Request
    from nas.profiling.run_profile import profile_device, profile_run
    from nas.report.profile import save_profile

    run, request = opened(path), Request(pixels, repeats, where, check, seed, force)
    if pieces is not None:
        from nas.profiling.devices.write import write_pieces

        return write_pieces(run, Path(pieces), request, report=measured)
    if csv is not None and device_name is not None:
        result = profile_device(run, Path(csv), device_name, force=force)
    else:
        result = profile_run(run, request, report=measured)
    return replace(result, files=tuple(save_profile(result, Path(result.measured["folder"]))))


def _refuse_mixtures(
    size: str,
    repeats: int,
    check: int,
    pieces: str | Path | None,
    csv: str | Path | None,
    device_name: str | None,
    *,
    is_codec: bool,
) -> None:
    """Raise InputError for options that exclude each other, or that would change nothing."""
    if is_codec and check:
        raise InputError("--check is for the profile of a run, and this is a codec: leave it out.")
    if is_codec and (pieces is not None or csv is not None):
        raise InputError("--pieces and --from need a run, and this is a codec: give the folder of a run.")
    if pieces is not None and csv is not None:
        raise InputError("--pieces comes before the device measures and --from after it: give one of them.")
    if (csv is None) != (device_name is None):
        raise InputError(
            "--from and --device-name go together: the CSV that the device wrote, and the device's name in "
            "targets such as 30ms@phone."
        )
    if csv is not None and (size, repeats, check) != (SIZE, REPEATS, 0):
        raise InputError(
            "The CSV has its own size, rounds and checks: leave --size, --repeats and --check out."
        )
    if pieces is not None and repeats != REPEATS:
        raise InputError("The device chooses the number of rounds: give --repeats to time_pieces.py there.")
