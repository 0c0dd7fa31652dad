"""The profile of an exported codec on this machine: parameters, MACs, seconds and memory."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nas.codec.bitstream import compress_image
from nas.codec.codec import Codec
from nas.codec.folder import load_family
from nas.cost.counting.scopes import SCOPE_EDGES
from nas.profiling.audit import traced_edges
from nas.profiling.memory import PeakMemory, peak_memory, sample_photo
from nas.profiling.timing import (
    MOST_DISTURBANCE,
    REPEATS,
    Latency,
    Spread,
    disturbance,
    disturbance_warning,
    measure_decoding,
    measure_latency,
)
from nas.spaces.architecture import differences
from nas.spaces.budget import REFERENCE_SIZE, SCOPES
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION
from nas.support.device import choose
from nas.support.errors import InputError, InputWarning
from nas.support.limits import check_size
from nas.support.paths import as_typed
from nas.support.progress import Report, silent
from nas.support.tables import TableRow

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CodecProfile:
    """The costs of one codec.

    Attributes:
        name: name of its folder.
        arch: the architecture's key.
        params: learned numbers.
        kmac_px_by_edge, kmac_px: as traced on the whole encoder and decoder, kMAC per pixel.
        stages: serial decoding steps at `width` x `height` pixels.
        device: device of the times.
        latency: times of `encode` and `decode`, and of their parts.
        memory: memory of `encode` and `decode`, each in a process of its own on the CPU.
        disturbance: share by which other work slowed the machine down.
        decoders: for a family, seconds to decode one file with each decoder, by a short name.
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
    decoders: dict[str, Spread]
    disturbance: float = 0.0

    columns = ("what", "part", "value", "range")

    def __repr__(self) -> str:
        costs = ", ".join(f"{scope} {value:.3f}" for scope, value in self.kmac_px.items())
        return f"CodecProfile({self.name!r}: {costs} kMAC/px at {self.width}x{self.height} on {self.device})"

    def to_dataframe(self) -> pd.DataFrame:
        """The lines of `rows`: what is measured, of which part, the value as text, and its range."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=list(self.columns))

    def rows(self) -> list[TableRow]:
        """Lines of a table: what is measured, of which part, the value with its unit, and its range."""
        rows: list[TableRow] = [["parameters", "", f"{self.params:,}", ""]]
        rows += [["kMAC/px", edge, f"{value:.3f}", ""] for edge, value in self.kmac_px_by_edge.items()]
        rows += [["kMAC/px", f"= {scope}", f"{value:.3f}", ""] for scope, value in self.kmac_px.items()]
        rows.append(["stages", f"at {self.width}x{self.height}", str(self.stages), ""])
        rows += latency_rows(self.latency)
        rows += [_timed("decode, ms", f"with {name}", spread) for name, spread in self.decoders.items()]
        return rows + memory_rows(self.memory)

    def to_json(self) -> dict[str, Any]:
        """Plain values: seconds, bytes, kMAC per pixel."""
        return asdict(self)


def latency_rows(latency: Latency) -> list[TableRow]:
    """Milliseconds as lines of a table: what, part, median, least to most.

    Args:
        latency: measured seconds.
    """
    rows: list[TableRow] = []
    for action, parts in (("encode", latency.encode), ("decode", latency.decode)):
        rows += [_timed(f"{action}, ms", part, spread) for part, spread in parts.items()]
    return rows


def _timed(what: str, part: str, spread: Spread) -> TableRow:
    least, median, most = (f"{1000 * each:.2f}" for each in (spread.least, spread.median, spread.most))
    return [what, part, median, f"{least} - {most}"]


def memory_rows(memory: dict[str, PeakMemory]) -> list[TableRow]:
    """Memory as lines of a table: what, part, MB (10^6 bytes).

    Args:
        memory: peaks by action, in bytes.
    """
    rows: list[TableRow] = []
    for action, peak in memory.items():
        rows.append([f"{action}, MB", "the codec's, at the peak", f"{peak.added / 1e6:.0f}", ""])
        rows.append([f"{action}, MB", "the whole process's", f"{peak.after / 1e6:.0f}", ""])
    return rows


def profile_codec(
    folder: str | Path,
    *,
    size: tuple[int, int] = REFERENCE_SIZE,
    repeats: int = REPEATS,
    device: str | torch.device = "cpu",
    report: Report = silent,
) -> CodecProfile:
    """Measure an exported codec.

    Args:
        folder: the codec's folder.
        size: width and height in pixels of the photo that is coded, at least 1 each.
        repeats: rounds of timing after the warm-up.
        device: device for the times. Memory is always measured on the CPU.
        report: called with the steps done, of how many, and what is being done.

    Raises:
        InputError: not a codec, or no such size.
    """
    folder, pixels, before = Path(folder), sample_photo(*size), disturbance()
    family = load_family(folder).to(torch.device(device))
    several = len(family.decoders) > 1
    codec, total = family.codec(), (1 + several) * (repeats + 1) + 2
    (latency,) = measure_latency(
        [codec], pixels, repeats=repeats, report=lambda done, _, note: report(done, total, note)
    )
    decoders: dict[str, Spread] = {}
    if several:
        timed = measure_decoding(
            [family.codec(decoder=index) for index in range(len(family.decoders))],
            compress_image(codec, pixels),
            repeats=repeats,
            report=lambda done, _, note: report(repeats + 1 + done, total, note),
        )
        names = differences([member.architecture.key for member in family.decoders])
        decoders = dict(zip(names, timed, strict=True))
    busy = max(before, disturbance())
    report(total - 2, total, "counting MACs")
    by_edge, by_scope = traced_kmac_px(codec)
    report(total - 1, total, "memory")
    memory = peak_memory(folder, *size)
    report(total, total, "")
    facts = (folder.name, codec.architecture.key, count_parameters(codec), by_edge, by_scope)
    where = str(next(codec.parameters()).device)
    return CodecProfile(*facts, _stages(codec, *size), *size, where, latency, memory, decoders, busy)


def measured_seconds(folder: Path, action: str, size: tuple[int, int] | None, device: str) -> float:
    """The median seconds that an exported codec takes to `encode` or `decode`, whole, on this machine.

    Warns where other work slowed the machine down meanwhile.

    Args:
        folder: folder of the codec.
        action: `encode` or `decode`.
        size: width and height of the picture, in pixels. None stands for 768x512.
        device: where to compute: `auto`, `cpu` or `cuda`.
    """
    codec, size = load_family(folder).to(choose(device)).codec(), size or REFERENCE_SIZE
    before = disturbance()
    (latency,) = measure_latency([codec], sample_photo(*size))
    busy = max(before, disturbance())
    if busy > MOST_DISTURBANCE:
        again = f"nas profile {as_typed(folder)} --size {size[0]}x{size[1]}"
        warnings.warn(disturbance_warning(busy, again), InputWarning, stacklevel=2)
    return float(getattr(latency, action)["whole"].median)


def count_parameters(codec: Codec) -> int:
    """Learned numbers of a codec: all its weights, without the factorised prior's unused quantiles."""
    named = codec.network.named_parameters()
    return sum(value.numel() for name, value in named if not name.endswith("quantiles"))


def traced_kmac_px(codec: Codec) -> tuple[dict[str, float], dict[str, float]]:
    """kMAC per pixel by edge and by scope, from a trace of the whole encoder and decoder.

    On the smallest image that the layout's tile divides: 64x64 for most.

    Args:
        codec: the codec to trace.
    """
    _, rows, columns = codec.layout.table.shape
    height, width = (math.lcm(Z_REDUCTION, Y_REDUCTION * cells) for cells in (rows, columns))
    traced = traced_edges(codec, height, width)
    edges = {**traced["encoder"], **traced["decoder"]}
    order = [*SCOPE_EDGES["total"], *(edge for edge in edges if edge not in SCOPE_EDGES["total"])]
    by_edge = {edge: edges[edge] / (height * width) / 1000 for edge in order if edge in edges}
    by_scope = {scope: sum(by_edge.get(edge, 0.0) for edge in SCOPE_EDGES[scope]) for scope in SCOPES}
    return by_edge, by_scope


def _stages(codec: Codec, width: int, height: int) -> int:
    """Serial decoding steps for an image of this size."""
    aligned = (-(-side // codec.alignment) * codec.alignment for side in (height, width))
    rows, columns = (side // Y_REDUCTION for side in aligned)
    return codec.layout.stages(rows, columns)


def parse_size(text: str) -> tuple[int, int]:
    """A size as people write it, 768x512: width and height in pixels.

    Args:
        text: the text.

    Raises:
        InputError: it is not a size, or no picture has it.
    """
    width, cross, height = str(text).lower().partition("x")
    sides = [side.strip() for side in (width, height)]
    if not cross or not all(side.isascii() and side.isdigit() and len(side) < 10 for side in sides):
        raise InputError(f"'{text}' is not a size: write WIDTHxHEIGHT in pixels, such as 768x512.")
    return check_size(int(width), int(height))
