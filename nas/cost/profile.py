"""What a codec costs on this machine: parameters, MACs, seconds and memory; and what a whole run spans.

Seconds are of the code that `nas compress` and `nas decompress` run, with its parts timed from inside.
Neighbours on the same cores disturb them, so several codecs are timed in turns and medians are given.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.codec.bitstream import Nic, compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import DESCRIPTION, load_codec, save_codec
from nas.cost.audit import traced_edges
from nas.cost.macs import REFERENCE_SIZE, SCOPES
from nas.cost.memory import PeakMemory, peak_memory, sample_photo
from nas.cost.reach import Reach
from nas.cost.table import CostTable
from nas.errors import InputError
from nas.graph.description import Y_REDUCTION, Z_REDUCTION
from nas.graph.staged import Parameters, Read, Staged, Work
from nas.images import Pixels
from nas.run import Run
from nas.space import Architecture

SIZE = (REFERENCE_SIZE[1], REFERENCE_SIZE[0])  # width, height
REPEATS = 3
REST = "coder"  # the range coder and all else that is no network: rounding, the grid, the file
Report = Callable[[int, int, str], None]
Row = list[Any]


def silent(done: int, total: int, note: str) -> None:
    """Reports nothing."""


# Seconds


@dataclass(frozen=True)
class Spread:
    """The median of some repeats, and how far they lay apart, in seconds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        return cls(statistics.median(seconds), min(seconds), max(seconds))

    def __str__(self) -> str:
        return f"{self.median:.3f} s ({self.least:.3f} to {self.most:.3f})"


@dataclass(frozen=True)
class Latency:
    """Seconds to code one photo: `whole`, and its parts, which add up to it in every repeat.

    Parts of `encode`: g_a, h_a, h_s, context (with the entropy parameters), coder (and all that is no
    network). Parts of `decode`: h_s, context, coder, g_s.
    """

    encode: dict[str, Spread]
    decode: dict[str, Spread]


class _Clock:
    """Time by section; a section inside another is charged to itself alone."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._cuda = device.type == "cuda"
        self._since = self._now()

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _charge(self) -> None:
        now = self._now()
        if self._open:
            section = self._open[-1]
            self.seconds[section] = self.seconds.get(section, 0.0) + now - self._since
        self._since = now

    def enter(self, section: str) -> None:
        self._charge()
        self._open.append(section)

    def leave(self) -> None:
        self._charge()
        self._open.pop()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    @contextmanager
    def watching(self, name: str, module: nn.Module) -> Iterator[None]:
        """Charge a module's calls to a section, until the end of the block."""
        hooks = [
            module.register_forward_pre_hook(lambda *_: self.enter(name)),
            module.register_forward_hook(lambda *_: self.leave()),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class _TimedContext:
    """The coding context, with a clock."""

    def __init__(self, context: Staged, clock: _Clock) -> None:
        self._context, self._clock = context, clock
        self.window, self.block_channels = context.window, context.block_channels

    def one_pass(self, psi: Tensor, y_hat: Tensor) -> Parameters:
        with self._clock.section("context"):
            return self._context.one_pass(psi, y_hat)

    def by_stages(self, psi: Tensor, read: Read) -> Tensor:
        def timed(work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
            with self._clock.section(REST):
                return read(work, parameters)

        with self._clock.section("context"):
            return self._context.by_stages(psi, timed)


class _TimedCodec(Codec):
    """A view of a codec that shares all it holds and lends its context a clock."""

    def __init__(self, codec: Codec, clock: _Clock) -> None:
        self.__dict__.update(codec.__dict__)
        if codec.network.with_z:
            self.__dict__["_timed"] = _TimedContext(codec.coding_context, clock)

    @property
    def coding_context(self) -> Any:
        return self.__dict__["_timed"]


def measure_latency(
    codecs: Sequence[Codec], pixels: Pixels, *, repeats: int = REPEATS, report: Report = silent
) -> list[Latency]:
    """Time codecs in turns on one photo, after a warm-up of each.

    Args:
        codecs: timed where they are (CPU or GPU).
        pixels: the photo, [H, W, 3] in 8 bits.
        repeats: rounds, each of which encodes and decodes once with every codec.
        report: called with the rounds done, of how many, and what is being done.
    """
    encodes: list[list[dict[str, float]]] = [[] for _ in codecs]
    decodes: list[list[dict[str, float]]] = [[] for _ in codecs]
    for turn in range(repeats + 1):
        report(turn, repeats + 1, "timing" if turn else "warming up")
        for place, codec in enumerate(codecs):
            encoded, decoded = _time_once(codec, pixels)
            if turn:
                encodes[place].append(encoded)
                decodes[place].append(decoded)
    report(repeats + 1, repeats + 1, "")
    return [Latency(_spreads(e), _spreads(d)) for e, d in zip(encodes, decodes, strict=True)]


def _time_once(codec: Codec, pixels: Pixels) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by part of one encoding and one decoding."""
    device = next(codec.parameters()).device
    encoding, decoding = _Clock(device), _Clock(device)
    with _timed(codec, encoding) as timed, encoding.section(REST):
        data = compress_image(timed, pixels).to_bytes()
    with _timed(codec, decoding) as timed, decoding.section(REST):
        decompress_image(timed, Nic.parse(data))
    return encoding.seconds, decoding.seconds


@contextmanager
def _timed(codec: Codec, clock: _Clock) -> Iterator[Codec]:
    network, _ = codec.network, codec.fingerprint  # known from here on: no part of coding
    edges: dict[str, nn.Module] = {"g_a": network.g_a, "g_s": network.g_s}
    if network.with_z:
        edges |= {"h_a": network.h_a, "h_s": codec.coding_h_s}
    with ExitStack() as stack:
        for name, module in edges.items():
            stack.enter_context(clock.watching(name, module))
        yield _TimedCodec(codec, clock)


def _spreads(rounds: Sequence[dict[str, float]]) -> dict[str, Spread]:
    whole = Spread.of([sum(seconds.values()) for seconds in rounds])
    order = [part for part in ("g_a", "h_a", "h_s", "context", REST, "g_s") if part in rounds[0]]
    return {"whole": whole, **{part: Spread.of([seconds[part] for seconds in rounds]) for part in order}}


# One codec


@dataclass(frozen=True)
class CodecProfile:
    """What one codec costs.

    Attributes:
        name: of its folder.
        params: learned numbers.
        kmac_px_by_edge, kmac_px: as traced on the whole encoder and decoder, kMAC per pixel.
        stages: serial decoding steps at `width` x `height` pixels.
        device: where it was timed.
        memory: of `encode` and `decode`, each in a process of its own on the CPU.
    """

    name: str
    arch: str
    params: int
    kmac_px_by_edge: dict[str, float]
    kmac_px: dict[str, float]
    stages: int
    width: int
    height: int
    device: str
    latency: Latency
    memory: dict[str, PeakMemory]

    columns = ("what", "part", "value", "range")

    def rows(self) -> list[Row]:
        """Lines of a table: what is measured, of which part, the value with its unit, and its range."""
        rows: list[Row] = [["parameters", "", f"{self.params:,}", ""]]
        rows += [["kMAC/px", edge, f"{value:.3f}", ""] for edge, value in self.kmac_px_by_edge.items()]
        rows += [["kMAC/px", f"= {scope}", f"{value:.3f}", ""] for scope, value in self.kmac_px.items()]
        rows.append(["stages", f"at {self.width}x{self.height}", str(self.stages), ""])
        return rows + latency_rows(self.latency) + memory_rows(self.memory)

    def to_json(self) -> dict[str, Any]:
        """Plain values: seconds, bytes, kMAC per pixel."""
        return asdict(self)


def latency_rows(latency: Latency) -> list[Row]:
    """Seconds as lines of a table: what, part, median, least to most."""
    rows: list[Row] = []
    for action, parts in (("encode", latency.encode), ("decode", latency.decode)):
        for part, spread in parts.items():
            span = f"{spread.least:.3f} - {spread.most:.3f}"
            rows.append([f"{action}, s", part, f"{spread.median:.3f}", span])
    return rows


def memory_rows(memory: dict[str, PeakMemory]) -> list[Row]:
    """Memory as lines of a table: what, part, MiB."""
    rows: list[Row] = []
    for action, peak in memory.items():
        rows.append([f"{action}, MiB", "process at its peak", f"{peak.after / 2**20:.0f}", ""])
        rows.append([f"{action}, MiB", "beyond loading it", f"{peak.beyond_loading / 2**20:.0f}", ""])
    return rows


def profile_codec(
    folder: str | Path,
    *,
    size: tuple[int, int] = SIZE,
    repeats: int = REPEATS,
    device: str | torch.device = "cpu",
    report: Report = silent,
) -> CodecProfile:
    """Measure an exported codec.

    Args:
        folder: the codec's folder.
        size: width and height in pixels of the photo that is coded, at least 1 each.
        repeats: rounds of timing after the warm-up.
        device: where to time it; memory is always measured on the CPU.
        report: called with the steps done, of how many, and what is being done.

    Raises:
        InputError: not a codec, or no such size.
    """
    return _profile_folders([Path(folder)], size, repeats, device, report)[0]


def _profile_folders(
    folders: Sequence[Path], size: tuple[int, int], repeats: int, device: str | torch.device, report: Report
) -> list[CodecProfile]:
    """Measure codecs, timed in turns."""
    pixels = sample_photo(*size)
    codecs = [load_codec(folder).to(device) for folder in folders]
    total = repeats + 1 + 2 * len(folders)
    latencies = measure_latency(
        codecs, pixels, repeats=repeats, report=lambda done, _, note: report(done, total, note)
    )
    profiles = []
    for place, (folder, codec, latency) in enumerate(zip(folders, codecs, latencies, strict=True)):
        done = repeats + 1 + 2 * place
        report(done, total, f"counting MACs of {folder.name}")
        by_edge, by_scope = traced_kmac_px(codec)
        report(done + 1, total, f"memory of {folder.name}")
        memory = peak_memory(folder, *size)
        facts = (folder.name, codec.architecture.key, parameters(codec), by_edge, by_scope)
        where = str(next(codec.parameters()).device)
        profiles.append(CodecProfile(*facts, _stages(codec, *size), *size, where, latency, memory))
    report(total, total, "")
    return profiles


def parameters(codec: Codec) -> int:
    """Learned numbers of a codec: all its weights, without the factorised prior's unused quantiles."""
    named = codec.network.named_parameters()
    return sum(value.numel() for name, value in named if not name.endswith("quantiles"))


def traced_kmac_px(codec: Codec) -> tuple[dict[str, float], dict[str, float]]:
    """kMAC per pixel by edge and by scope, from a trace of the whole encoder and decoder.

    On the smallest image that the layout's tile divides: 64x64 for most.
    """
    _, rows, columns = codec.layout.table.shape
    height, width = (math.lcm(Z_REDUCTION, Y_REDUCTION * cells) for cells in (rows, columns))
    traced = traced_edges(codec, height, width)
    edges = {**traced["encoder"], **traced["decoder"]}
    order = [*(edge for edge in SCOPES["total"]), *(edge for edge in edges if edge not in SCOPES["total"])]
    by_edge = {edge: edges[edge] / (height * width) / 1000 for edge in order if edge in edges}
    by_scope = {scope: sum(by_edge.get(edge, 0.0) for edge in SCOPES[scope]) for scope in SCOPES}
    return by_edge, by_scope


def _stages(codec: Codec, width: int, height: int) -> int:
    """Serial decoding steps for an image of this size."""
    aligned = (-(-side // codec.alignment) * codec.alignment for side in (height, width))
    rows, columns = (side // Y_REDUCTION for side in aligned)
    return codec.layout.stages(rows, columns)


# A whole run


@dataclass(frozen=True)
class Shape:
    """One architecture of a space and what it costs, from the table."""

    name: str
    arch: str
    params: int
    stages: int
    kmac_px_by_edge: dict[str, float]
    kmac_px: dict[str, float]

    @classmethod
    def of(cls, name: str, architecture: Architecture, costs: CostTable) -> Shape:
        return cls(
            name,
            architecture.key,
            costs.params(architecture),
            costs.space.layout(architecture).stages(),
            costs.by_edge(architecture),
            costs.scopes(architecture),
        )


@dataclass(frozen=True)
class RunProfile:
    """What a run's search space spans.

    Attributes:
        size: how many architectures there are.
        ranges: least, median and most kMAC per pixel by scope, over all of them.
        shapes: the narrowest, the middle one and the widest of equal relative widths.
        ends: the narrowest and the widest as exported codecs.
    """

    space: str
    size: int
    ranges: dict[str, dict[str, float]]
    shapes: tuple[Shape, ...]
    ends: tuple[CodecProfile, ...]

    @property
    def columns(self) -> list[str]:
        """What `rows` hold: one column for each shape."""
        return ["what", "part", *(shape.name for shape in self.shapes)]

    def rows(self) -> list[Row]:
        """Lines of a table. The ranges over all architectures stand in `range_rows`."""
        first = self.shapes[0]
        rows: list[Row] = [
            ["parameters", "", *(f"{shape.params:,}" for shape in self.shapes)],
            ["stages", "at 768x512", *(str(shape.stages) for shape in self.shapes)],
        ]
        rows += [
            ["kMAC/px", edge, *(f"{shape.kmac_px_by_edge[edge]:.3f}" for shape in self.shapes)]
            for edge in first.kmac_px_by_edge
        ]
        rows += [
            ["kMAC/px", f"= {scope}", *(f"{shape.kmac_px[scope]:.3f}" for shape in self.shapes)]
            for scope in first.kmac_px
        ]
        return rows + self._measured_rows()

    def _measured_rows(self) -> list[Row]:
        """Seconds and memory, where a shape was measured."""
        measured = {
            end.name: {
                (row[0], row[1]): row[2] for row in latency_rows(end.latency) + memory_rows(end.memory)
            }
            for end in self.ends
        }
        keys = dict.fromkeys(key for values in measured.values() for key in values)
        return [
            [what, part, *(measured.get(s.name, {}).get((what, part), "") for s in self.shapes)]
            for what, part in keys
        ]

    range_columns = ("scope", "least", "median", "most")

    def range_rows(self) -> list[Row]:
        """kMAC per pixel over all architectures, a line for each scope."""
        return [[scope, *(f"{value:.3f}" for value in span.values())] for scope, span in self.ranges.items()]

    def to_json(self) -> dict[str, Any]:
        """Plain values: seconds, bytes, kMAC per pixel."""
        return asdict(self)


def profile_run(
    path: str | Path,
    *,
    size: tuple[int, int] = SIZE,
    repeats: int = REPEATS,
    device: str | torch.device = "cpu",
    report: Report = silent,
) -> RunProfile:
    """Measure what a run's space spans, and its narrowest and widest architecture as codecs.

    Args:
        path: a trained run.
        size: width and height in pixels of the photo that is coded.
        repeats: rounds of timing after the warm-up.
        device: where to time; memory is always measured on the CPU.
        report: called with the steps done, of how many, and what is being done.

    Raises:
        InputError: not a run, or not trained yet, or no such size.
    """
    sample_photo(*size)  # a wrong size is said at once
    run = Run.open(path)
    supernet, space, costs = run.supernet(), run.space, run.costs()
    named = {"narrowest": space.narrowest(), "median": space.uniform(0.5), "widest": space.widest()}
    if space.size == 1:
        named = {"widest": space.widest()}
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in named if name != "median"]
        for folder in folders:
            save_codec(Codec(supernet.extract(named[folder.name]), named[folder.name]), folder, {})
        profiles = _profile_folders(folders, size, repeats, device, report)
    shapes = tuple(Shape.of(name, architecture, costs) for name, architecture in named.items())
    return RunProfile(space.name, space.size, ranges(costs), shapes, tuple(profiles))


def ranges(costs: CostTable) -> dict[str, dict[str, float]]:
    """Least, median and most kMAC per pixel by scope, over all architectures."""
    found = {}
    for scope in SCOPES:
        least, median, most = Reach(costs, scope).span()
        found[scope] = {"least": least, "median": median, "most": most}
    return found


def profile_path(
    path: str | Path,
    *,
    size: tuple[int, int] = SIZE,
    repeats: int = REPEATS,
    device: str | torch.device = "cpu",
    report: Report = silent,
) -> CodecProfile | RunProfile:
    """What `nas profile` reports, of a run or a codec; see `profile_run` and `profile_codec`.

    Raises:
        InputError: the path is neither.
    """
    place = Path(path)
    options: dict[str, Any] = {"size": size, "repeats": repeats, "device": device, "report": report}
    if (place / DESCRIPTION).is_file():
        return profile_codec(place, **options)
    if (place / "config.yaml").is_file():
        return profile_run(place, **options)
    raise InputError(
        f"{path} is neither a run nor a codec: give a folder that `nas train` or `nas export` made."
    )


def parse_size(text: str) -> tuple[int, int]:
    """A size as people write it, 768x512: width and height in pixels."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"'{text}' is no size: write WIDTHxHEIGHT in pixels, such as 768x512.")
    return int(width), int(height)
