"""Reads the CSV of a device as a profile of that device."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from pathlib import Path

from nas.profiling.measure import path_of
from nas.profiling.measurements import Measurements
from nas.profiling.pieces import edge_pieces
from nas.profiling.predict import PARTS_OF_ACTION
from nas.profiling.timing import REST
from nas.run import Run
from nas.spaces.budget import check_device
from nas.support.errors import InputError
from nas.support.limits import check_size
from nas.support.paths import as_typed

# As the runner writes them, which imports nothing of the package
TIMES, BUSY, ROWS = "nas-device-times 1", "disturbance", ("arch", "checked", "round")
NUMBER_FACTS = ("width", "height", "threads", "repeats", "runner")
WORDS = ("space", "weights", "pieces", "machine", "system", "onnxruntime", "numpy", "python", "coder")
_START = "# format: "
_FACT, _END = re.compile(r"# ([a-z]+): (.*)"), re.compile(r"# end: ([0-9]{1,9}) rows, ([0-9a-f]{16})")


def read_times(run: Run, path: Path, device: str, *, force: bool = False) -> Measurements:
    """A device's times as a profile of a run; nothing is written yet.

    Args:
        run: the run whose pieces were timed.
        path: the CSV.
        device: name of the device.
        force: replace a profile of this device at this size.

    Raises:
        InputError: it is no such CSV, was cut or changed, belongs to another run, or a profile is in the way.
    """
    check_device(device, new=True)
    run.refuse_read_only()
    lines = _sound_lines(path)
    facts, busy = _facts(path, lines)
    if facts["weights"] != run.fingerprint:
        raise InputError(
            f"{path} has times of other weights (of {facts['space']}), not of {run.path}: write the "
            f"pieces of this run with `nas profile {as_typed(run.path)} --pieces DIR`, and time those."
        )
    width, height = check_size(int(facts["width"]), int(facts["height"]))
    kept = path_of(run, device, (width, height))
    if kept.is_file() and not force:
        raise InputError(
            f"{run.path} has a profile of {device} at {width}x{height} already: replace it with --force, or "
            "give another --device-name."
        )
    settings = {name: int(value) if name in NUMBER_FACTS else value for name, value in facts.items()}
    measured = Measurements(kept, {"device": device, **settings}, disturbance=busy)
    rows = [line for line in lines if not line.startswith("#")]
    try:
        _add_rows(measured, run, rows)
    except (InputError, LookupError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}): copy it again from the device.") from error
    whole = {key for key, timed in measured.codecs.items() if len(timed.rounds) == settings["repeats"]}
    if whole != measured.codecs.keys():
        raise InputError(f"{path} lacks rounds of some codecs: copy it again from the device.")
    return measured


def _sound_lines(path: Path) -> list[str]:
    """The lines of a CSV that is whole and unaltered, without the one that says so."""
    how = "give a CSV that `time_pieces.py` printed (see `nas profile RUN --pieces`)"
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(len(_START))  # a device may have no end
            text += file.read() if text == _START else ""
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError:
        raise InputError(f"{path} has no times of a device: {how}.") from None
    *lines, last = text.rstrip("\n").split("\n")  # reading makes line ends of Windows plain ones
    told = _FACT.fullmatch((lines or [last])[0])
    if told is None or told[1] != "format" or not told[2].startswith("nas-device-times"):
        raise InputError(f"{path} has no times of a device: {how}.")
    if told[2] != TIMES:
        raise InputError(
            f"{path} is {told[2]}, and this version reads {TIMES}: write and time the pieces again."
        )
    end = _END.fullmatch(last)
    if end is None:
        raise InputError(
            f"{path} ends before its last row: continue with `python time_pieces.py --out {path.name}` on "
            "the device, and copy the whole file."
        )
    if hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] != end[2]:
        raise InputError(f"{path} was changed after it was printed: copy it again from the device.")
    return lines


def _facts(path: Path, lines: list[str]) -> tuple[dict[str, str], float]:
    """The conditions of the times, and by how much other work slowed the device down at most."""
    facts: dict[str, str] = {}
    busy = [0.0]
    try:
        for line in lines:
            if (told := _FACT.fullmatch(line)) is None:
                continue
            if told[1] == BUSY:
                busy.append(float(told[2]))
            elif told[1] in (*NUMBER_FACTS, *WORDS):
                facts[told[1]] = told[2]
        if missing := [name for name in (*NUMBER_FACTS, *WORDS) if name not in facts]:
            raise ValueError(f"it lacks {missing[0]}")
        if min(int(facts[name]) for name in NUMBER_FACTS) < 1 or not all(
            0 <= share < math.inf for share in busy
        ):
            raise ValueError("a number in its heading is out of range")
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): copy it again from the device.") from error
    return facts, max(busy)


def _add_rows(measured: Measurements, run: Run, lines: list[str]) -> None:
    """Add the seconds of all codecs by part; ValueError or InputError where they are none of this run's."""
    heading, *rows = csv.reader(lines, strict=True)
    if tuple(heading[: len(ROWS)]) != ROWS or len(set(heading)) != len(heading) or not rows:
        raise ValueError("it has other columns")
    parts, space = heading[len(ROWS) :], run.space
    pieces = {piece.name: piece.edge for piece in edge_pieces(space)}
    edges = pieces | {edge: edge for edge in space.family.edges} | {"context": "context", REST: REST}
    for part in parts:
        action, _, name = part.partition(" ")
        if edges.get(name) not in PARTS_OF_ACTION.get(action, ()):
            raise ValueError(f"there is no part {part!r}")
    for number, row in enumerate(rows):
        if len(row) != len(heading) or row[1] not in ("0", "1"):
            raise ValueError(f"row {number + 1} is incomplete")
        key = space.parse(row[0]).key
        seconds = {part: float(value) for part, value in zip(parts, row[len(ROWS) :], strict=True) if value}
        if not seconds or not all(0 <= value < math.inf for value in seconds.values()):
            raise ValueError(f"row {number + 1} has a time that is not a number of seconds")
        measured.of(key).rounds.append(seconds)
        if row[1] == "1" and key not in measured.checked:
            measured.checked.append(key)
