"""Times a run's space on this machine. Codecs that cover the space are timed in interleaved rounds.

Later measurements, for example of layouts that a search has found since, are converted to the speed of the
first one. Each of their rounds also times a few of the codecs known from before, which shows by how much the
speed has changed.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.codec.quantize import can_be_exact, quantized
from nas.graph.network import Supernet
from nas.photos.images import Pixels
from nas.photos.tensors import to_tensor
from nas.profiling.live import held_bytes
from nas.profiling.measurements import Measurements, how_to_measure_again
from nas.profiling.memory import peak_memory, sample_photo
from nas.profiling.pieces import cover, edge_pieces
from nas.profiling.timing import REPEATS, disturbance, peaks_once, time_once
from nas.run import Run
from nas.spaces.architecture import Architecture
from nas.spaces.description import HYPERPRIOR
from nas.spaces.space import SearchSpace
from nas.support.device import machine_name
from nas.support.errors import InputError
from nas.support.limits import check_count, check_seed
from nas.support.progress import Report, silent
from nas.weights.checkpoint import supernet_of

PROCESSES = 8  # number of checked architectures whose memory is also measured
CALIBRATED = 256  # side in pixels of the photo that integers are calibrated on
REFERENCES = 4  # number of known codecs that a later measurement times again


@dataclass(frozen=True)
class Request:
    """The settings of a measurement.

    Args:
        size: width and height of the picture in pixels.
        repeats: number of rounds after the warm-up.
        device: where to time. Memory is always that of the CPU.
        check: number of random architectures to time, to check predictions.
        seed: seed for choosing these architectures.
        force: measure known figures again.
    """

    size: tuple[int, int] = (768, 512)
    repeats: int = REPEATS
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    check: int = 0
    seed: int = 0
    force: bool = False


def path_of(run: Run, device: str, size: tuple[int, int]) -> Path:
    """The folder of a run's profile on a kind of device.

    Args:
        run: the run.
        device: kind of the device, such as `cpu`.
        size: width and height of the picture, in pixels.
    """
    return run.profile_path / f"{device}-{size[0]}x{size[1]}" / "measured.yaml"


def measure(run: Run, request: Request, *, report: Report = silent) -> Measurements:
    """Measure what is missing in the profile of a run's space. Everything is stored as it comes.

    Args:
        run: a trained run.
        request: the settings.
        report: called with the work done, the total work, and a note.

    Raises:
        InputError: the size does not exist, the run is untrained, or a profile of another machine is in the
            way.
    """
    check_seed(request.seed)
    check_count(request.check, "check")
    check_count(request.repeats, "repeats", least=1)
    run.refuse_read_only()
    pixels = sample_photo(*request.size)
    kept = _open(run, request)
    supernet = supernet_of(run).to(request.device)
    space = supernet.space
    earlier = [each for each in kept.by_architecture(space) if each.key not in kept.checked]
    wanted = cover(space, earlier)
    in_cover = {*wanted, *memory_corners(space)}
    checked = [
        architecture for architecture in random_architectures(space, request) if architecture not in in_cover
    ]
    # a cover of more layouts may contain an architecture that was only checked before
    needed = {architecture.key for architecture in in_cover}
    all_checked = dict.fromkeys([*kept.checked, *(architecture.key for architecture in checked)])
    kept.checked = [key for key in all_checked if key not in needed]
    on_cpu = request.device.type == "cpu"
    processes = [*memory_corners(space), *checked[:PROCESSES]] if on_cpu else []
    wanted = list(dict.fromkeys([*wanted, *processes, *checked]))
    processes = [architecture for architecture in processes if not kept.of(architecture.key).process]
    done, total = 0, len(wanted) * (request.repeats + 1) + len(processes)
    rounds = {architecture: len(kept.of(architecture.key).rounds) for architecture in wanted}
    known = [architecture for architecture, count in rounds.items() if count]
    references = random.Random(request.seed).sample(known, min(REFERENCES, len(known)))
    if news := min(rounds.values()) < request.repeats:
        kept.disturbance = max(kept.disturbance, disturbance())
    try:
        for turn in range(request.repeats + 1):
            order = list(wanted)
            random.Random(turn).shuffle(order)
            pace = 1.0
            if references and turn > min(rounds.values()):
                report(done, total, f"timing, round {turn} of {request.repeats}  codecs known from before")
                pace = _pace(supernet, references, kept, pixels)
            for architecture in order:
                what = f"timing, round {turn} of {request.repeats}" if turn else "warming up"
                report(done, total, f"{what}  {architecture.key[:50]}")
                _measure_once(supernet, architecture, kept, pixels, turn, pace)
                done += 1
        for architecture in processes:
            report(done, total, f"memory of a process  {architecture.key[:50]}")
            kept.of(architecture.key).process = _process(supernet, architecture, request.size)
            kept.keep()
            done += 1
    finally:  # an interrupted measurement continues from here
        if news:
            kept.disturbance = max(kept.disturbance, disturbance())
        kept.keep()
    report(total, total, "")
    return kept


def _pace(
    supernet: Supernet, references: Sequence[Architecture], kept: Measurements, pixels: Pixels
) -> float:
    """The present time of the reference codecs, relative to their first measurement."""
    ratios = []
    for architecture in references:
        timed = time_once(codec_of(supernet, architecture), pixels)
        for action, parts in zip(("encode", "decode"), timed, strict=True):
            ratios.append(sum(parts.values()) / kept.of(architecture.key).median(action))
    return statistics.median(ratios)


def _measure_once(
    supernet: Supernet,
    architecture: Architecture,
    kept: Measurements,
    pixels: Pixels,
    turn: int,
    pace: float,
) -> None:
    """Do the warm-up, with tensors counted, or one round, unless it is known already."""
    timed, pieces = kept.of(architecture.key), edge_pieces(supernet.space)
    if (len(timed.rounds) >= turn) if turn else bool(timed.peaks):
        return
    codec = codec_of(supernet, architecture)
    if turn == 0:
        timed.peaks = {"weights": held_bytes(codec), **_named(peaks_once(codec, pixels, pieces))}
        return
    seconds = _named(time_once(codec, pixels, pieces))
    kept.add(architecture.key, {part: each / pace for part, each in seconds.items()})


def codec_of(supernet: Supernet, architecture: Architecture) -> Codec:
    """The codec of an architecture as it is exported, with integers that fit photos.

    The coder reads what the entropy path expects several times as fast as what surprises it, so the path has
    to expect photos.

    Args:
        supernet: the shared weights.
        architecture: the architecture to extract.
    """
    codec = Codec(supernet.extract(architecture), architecture)
    if not can_be_exact(codec):
        return codec
    y_hat, z_hat = codec.latents(to_tensor(sample_photo(CALIBRATED, CALIBRATED)).to(codec.table.device))
    assert z_hat is not None
    return quantized(codec, [(y_hat, z_hat)])


def _named(parts: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """Join the parts of both actions in one table."""
    both = zip(("encode", "decode"), parts, strict=True)
    return {f"{action} {part}": value for action, parts in both for part, value in parts.items()}


def memory_corners(space: SearchSpace) -> list[Architecture]:
    """Very different architectures, whose processes show what memory they hold besides tensors.

    Args:
        space: the search space.
    """
    few, many = space.layout_names[0], space.layout_names[-1]
    corners = [space.narrowest(), space.widest(), space.under(few, space.widest())]
    corners += [space.uniform(0.5, name) for name in (few, many)]
    switch = space.setter(HYPERPRIOR)
    for edges in (("g_a", "g_s"), ("h_a", "h_s", "entropy_parameters")):
        indexes = [
            space.shape[axis] - 1
            if axis == switch or any(layer.split(".")[0] in edges for layer, _ in slot.layers)
            else 0
            for axis, slot in enumerate(space.slots)
        ]
        corners += [space.at([*indexes, space.layout_names.index(name)]) for name in (few, many)]
    return list(dict.fromkeys(corners))


def random_architectures(space: SearchSpace, request: Request) -> list[Architecture]:
    """Different random architectures, to check predictions.

    Args:
        space: the search space.
        request: the settings, with the number of architectures and the seed.
    """
    rng, architectures = random.Random(request.seed), dict[Architecture, None]()
    wanted = min(request.check, space.size)
    for _ in range(20 * wanted):
        if len(architectures) < wanted:
            architectures.setdefault(space.sample(rng))
    return list(architectures)


def _process(supernet: Supernet, architecture: Architecture, size: tuple[int, int]) -> dict[str, int]:
    """Memory that coding adds to a process, in bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "codec"
        save_codec(codec_of(supernet, architecture), folder, {})
        return {action: peak.added for action, peak in peak_memory(folder, *size).items()}


def _open(run: Run, request: Request) -> Measurements:
    """Open the run's profile to continue it, or make a new one."""
    facts, path = facts_of(run, request), path_of(run, request.device.type, request.size)
    if request.force or not path.is_file():
        return Measurements(path, facts)
    kept = Measurements.read(path)
    different = [name for name, value in facts.items() if kept.facts.get(name) != value]
    if different:
        name = different[0]
        raise InputError(
            f"{path} was measured with {name} = {kept.facts.get(name)}, and now it is {facts[name]}: "
            f"measure again with `{how_to_measure_again(path)}`, or set it back."
        )
    return kept


def facts_of(run: Run, request: Request) -> dict[str, Any]:
    """The conditions of a measurement.

    Args:
        run: the run.
        request: the settings.
    """
    return {
        "weights": run.fingerprint,
        "device": request.device.type,
        "machine": machine_name(request.device),
        "threads": torch.get_num_threads(),
        "width": request.size[0],
        "height": request.size[1],
        "torch": str(torch.__version__),
        "entropy_path": "exact, calibrated on a photo",
    }
