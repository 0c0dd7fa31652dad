"""Measuring a run's space on this machine, piece by piece, in rounds: neighbours disturb all alike."""

from __future__ import annotations

import platform
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nas.codec.bitstream import Nic, compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.cost.audit import GivenLatents
from nas.cost.live import held_bytes, peak_of
from nas.cost.measurements import Measurements
from nas.cost.memory import peak_memory, sample_photo
from nas.cost.pieces import (
    Coding,
    EdgePiece,
    architecture_at,
    choices,
    coding,
    edge_pieces,
    label,
)
from nas.cost.timing import REPEATS, REST, Clock, Report, silent, time_once
from nas.errors import InputError
from nas.files import clear
from nas.graph.description import HYPER_EDGES, HYPERPRIOR
from nas.graph.network import Supernet
from nas.images import Pixels, pad, to_tensor
from nas.run import Run
from nas.space import Architecture, SearchSpace

CODING = ("encode context", f"encode {REST}", "decode context", f"decode {REST}")
WHOLE = ("whole encode", "whole decode")


@dataclass(frozen=True)
class Request:
    """What to measure.

    Args:
        size: width and height of the picture in pixels.
        repeats: rounds after the warm-up.
        device: where to time; memory is of the CPU.
        check: how many random architectures to time as whole codecs as well.
        seed: draws those.
        force: measure again what is known.
    """

    size: tuple[int, int] = (768, 512)
    repeats: int = REPEATS
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    check: int = 0
    seed: int = 0
    force: bool = False


def folder_of(run: Run, device: str, size: tuple[int, int]) -> Path:
    """Where a run's profile on a kind of device lies."""
    return run.path / "profile" / f"{device}-{size[0]}x{size[1]}"


def checked(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Different random architectures: what predictions are compared on."""
    rng, found = random.Random(seed), dict[Architecture, None]()
    for _ in range(20 * count):
        if len(found) < min(count, space.size):
            found.setdefault(space.sample(rng))
    return list(found)


def measure(run: Run, request: Request, *, report: Report = silent) -> Measurements:
    """Measure what is not yet known of a run's space; everything is kept as it comes.

    Args:
        run: a trained run.
        request: what to measure.
        report: called with what is done, of how much, and what is being done.

    Raises:
        InputError: no such size, an untrained run, or a profile of another machine in the way.
    """
    pixels = sample_photo(*request.size)
    kept = _open(run, request)
    supernet = run.supernet().to(request.device)
    bench = _Bench(supernet, pixels, kept, request.device)
    wanted = _wanted(supernet.space, request)
    done, total = 0, len(wanted) * (request.repeats + 1)
    for turn in range(request.repeats + 1):
        order = list(wanted)
        random.Random(turn).shuffle(order)
        for job in order:
            done += 1
            if kept.rounds(job.first, job.choice) <= turn:
                report(done, total, f"{'timing' if turn else 'warming up'} {job.what} {job.choice[:40]}")
                bench.time(job, count_bytes=turn == 0)
    if request.device.type == "cpu":
        for key in memory_sample(supernet.space, request):
            if key not in kept.memory:
                report(total, total, f"memory of processes: {key[:40]}")
                kept.memory[key] = _processes(supernet, key, request.size)
                kept.keep()
    kept.keep()
    report(total, total, "")
    return kept


def memory_sample(space: SearchSpace, request: Request) -> list[str]:
    """Keys of the architectures whose processes are measured: unlike ones to fit on, some to check on."""
    few, many = space.layout_names[0], space.layout_names[-1]
    corners = [space.narrowest(), space.widest(), space.under(few, space.widest())]
    switch = space.setter(HYPERPRIOR)
    for edges in (("g_a", "g_s"), ("h_a", "h_s", "entropy_parameters")):
        indexes = [
            space.shape[axis] - 1
            if axis == switch or any(layer.split(".")[0] in edges for layer, _ in slot.layers)
            else 0
            for axis, slot in enumerate(space.slots)
        ]
        corners += [space.at([*indexes, space.layout_names.index(name)]) for name in (few, many)]
    drawn = checked(space, request.check, request.seed)[:8]
    return list(dict.fromkeys(found.key for found in (*corners, *drawn)))


@dataclass(frozen=True)
class _Job:
    """One thing to time: an edge's piece, the coding at a choice, or a whole codec."""

    what: str
    choice: str
    architecture: Architecture
    piece: EdgePiece | None = None

    @property
    def first(self) -> str:
        """The first of the rows that it makes."""
        return {"coding": CODING[0], "whole": WHOLE[0]}.get(self.what, self.what)


def _wanted(space: SearchSpace, request: Request) -> list[_Job]:
    jobs = []
    switch = space.setter(HYPERPRIOR)
    for piece in edge_pieces(space):
        for choice in choices(space, piece.axes, [range(space.shape[axis]) for axis in piece.axes]):
            architecture = architecture_at(space, piece.axes, choice)
            off = switch in piece.axes and choice[piece.axes.index(switch)] == 0
            if not (off and piece.edge in HYPER_EDGES):
                jobs.append(_Job(piece.name, label(space, piece.axes, choice), architecture, piece))
    part: Coding = coding(space)
    for choice in choices(space, part.axes, part.knots):
        architecture = architecture_at(space, part.axes, choice)
        jobs.append(_Job("coding", label(space, part.axes, choice), architecture))
    jobs += [_Job("whole", found.key, found) for found in checked(space, request.check, request.seed)]
    return jobs


class _Bench:
    """Times one thing once."""

    def __init__(self, supernet: Supernet, pixels: Pixels, kept: Measurements, device: torch.device) -> None:
        self._supernet, self._pixels, self._kept, self._device = supernet, pixels, kept, device
        self._x = pad(to_tensor(pixels), supernet.space.family.alignment).to(device)

    def time(self, job: _Job, *, count_bytes: bool) -> None:
        if job.piece is not None:
            self._edge(job, job.piece, count_bytes)
            return
        codec = Codec(self._supernet.extract(job.architecture), job.architecture)
        if job.what == "coding":
            self._coding(job, codec, count_bytes)
        else:
            for what, seconds in zip(WHOLE, time_whole(codec, self._pixels), strict=True):
                self._kept.add(what, job.choice, seconds)

    @torch.no_grad()
    def _edge(self, job: _Job, piece: EdgePiece, count_bytes: bool) -> None:
        run = piece.run(self._supernet, job.architecture, *self._x.shape[-2:])
        size = peak_of(run) if count_bytes else None
        clock = Clock(self._device)
        with clock.section("edge"):
            run()
        self._kept.add(job.what, job.choice, clock.seconds["edge"], size)

    def _coding(self, job: _Job, codec: Codec, count_bytes: bool) -> None:
        encoded, decoded = time_once(codec, self._pixels)
        sizes = self._coding_bytes(codec) if count_bytes else {}
        for what in CODING:
            action, part = what.split()
            seconds = (encoded if action == "encode" else decoded).get(part, 0.0)
            self._kept.add(what, job.choice, seconds, sizes.get(what))

    @torch.no_grad()
    def _coding_bytes(self, codec: Codec) -> dict[str, int]:
        """Bytes of the context model's tensors, and what the codec holds that is no edge (as the coder's)."""
        net = codec.network
        edges = [net.g_a, net.g_s, *([net.h_a, net.h_s, codec.coding_h_s] if net.with_z else [])]
        held = held_bytes(codec) - sum(map(held_bytes, edges))
        if not net.with_z:
            return dict.fromkeys(CODING, 0) | {f"encode {REST}": held}
        y_hat, z_hat = codec.latents(self._x)
        assert z_hat is not None
        psi, y_hat = codec.coding_h_s(z_hat.double()), y_hat.double()
        context = codec.coding_context
        return {
            "encode context": peak_of(lambda: context.one_pass(psi, y_hat)),
            "decode context": peak_of(lambda: context.by_stages(psi, GivenLatents(context, y_hat))),
            f"encode {REST}": held,
        }


def time_whole(codec: Codec, pixels: Pixels) -> tuple[float, float]:
    """Seconds of one encoding and one decoding, with nothing inside them timed."""
    device = next(codec.parameters()).device
    _ = codec.fingerprint, codec.path_identity  # known from here on: no part of coding
    encoding, decoding = Clock(device), Clock(device)
    with encoding.section("whole"):
        data = compress_image(codec, pixels).to_bytes()
    with decoding.section("whole"):
        decompress_image(codec, Nic.parse(data))
    return encoding.seconds["whole"], decoding.seconds["whole"]


def _processes(supernet: Supernet, key: str, size: tuple[int, int]) -> dict[str, int]:
    """What coding adds to a process, bytes."""
    architecture = supernet.space.parse(key)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "codec"
        save_codec(Codec(supernet.extract(architecture), architecture), folder, {})
        return {action: peak.added for action, peak in peak_memory(folder, *size).items()}


def _open(run: Run, request: Request) -> Measurements:
    """The run's profile to go on with, or a new one."""
    facts = facts_of(run, request)
    folder = folder_of(run, request.device.type, request.size)
    if request.force and folder.exists():
        clear(folder)
    if not (folder / "facts.yaml").is_file():
        return Measurements(folder, facts)
    found = Measurements.read(folder)
    different = [name for name, value in facts.items() if found.facts.get(name) != value]
    if different:
        name = different[0]
        raise InputError(
            f"{folder} was measured with {name} = {found.facts.get(name)}, and now it is {facts[name]}: "
            "measure again with --force."
        )
    return found


def facts_of(run: Run, request: Request) -> dict[str, Any]:
    """What figures hold for."""
    return {
        "weights": run.fingerprint,
        "device": request.device.type,
        "machine": _machine(request.device),
        "threads": torch.get_num_threads(),
        "width": request.size[0],
        "height": request.size[1],
        "torch": torch.__version__,
    }


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return next(_processor_names(), "") or platform.processor() or platform.machine()


def _processor_names() -> Iterator[str]:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            yield line.partition(":")[2].strip()
