"""Writes the pieces of a profile for another device: ONNX models, latents, and the runner."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.codec.codec import Codec
from nas.graph.entropy import MEAN_STEPS, SCALE_BOUNDS, SCALES, Y_LIMIT, Z_LIMIT
from nas.graph.network import CodecNetwork, Supernet
from nas.onnx.layouts import describe_layout
from nas.onnx.write import require_package
from nas.photos.images import Pixels
from nas.photos.tensors import Padded
from nas.profiling.devices.edges import EdgeStep, edge_steps, step_model
from nas.profiling.devices.one_file import runner_text
from nas.profiling.devices.shorten import shortened
from nas.profiling.measure import Request, codec_of, random_architectures
from nas.profiling.memory import sample_photo
from nas.profiling.pieces import EdgePiece, choices_at, coding, cover, edge_pieces
from nas.run import Run
from nas.spaces.architecture import Architecture
from nas.spaces.description import HYPERPRIOR
from nas.spaces.space import SearchSpace
from nas.support.arrays import Array
from nas.support.errors import InputError
from nas.support.files import clear, refuse_existing, write_atomically
from nas.support.limits import check_count, check_seed
from nas.support.progress import Report, silent
from nas.weights.checkpoint import supernet_of

if TYPE_CHECKING:
    import onnx

PIECES_FORMAT = "nas-pieces 1"
DESCRIPTION, LATENTS, RUNNER = "pieces.json", "latents.npz", "time_pieces.py"


@dataclass(frozen=True)
class Pieces:
    """The result of writing a folder for a device.

    Attributes:
        folder: the folder to copy to the device.
        space: name of the search space.
        size: width and height of the timed picture, in pixels.
        codecs: number of codecs that the device times.
        checked: number of codecs that only check predictions.
        models: number of ONNX models.
        bytes: size of the whole folder.
    """

    folder: Path
    space: str
    size: tuple[int, int]
    codecs: int
    checked: int
    models: int
    bytes: int

    def lines(self) -> list[str]:
        """Sentences on how to use the folder."""
        width, height = self.size
        checks = f", {self.checked} of them to check predictions" if self.checked else ""
        return [
            f"{self.folder}: {self.models} models of {self.space}, {self.bytes / 1e6:.1f} MB, "
            f"for {self.codecs} codecs at {width}x{height}{checks}",
            f"Copy the folder to the device, run `python {RUNNER} --out times.csv` in it there, and read "
            "times.csv back: nas profile RUN --from times.csv --device-name NAME",
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {**asdict(self), "folder": str(self.folder), "size": list(self.size)}


def write_pieces(run: Run, out: Path, request: Request, *, report: Report = silent) -> Pieces:
    """Write models for a device. Their times give the times of all architectures of a run's space.

    Long weights are shortened: their first numbers are kept and repeated. Times do not depend on the values
    of weights, and the folder stays small enough to copy.

    Args:
        run: a trained run.
        out: the folder.
        request: size of the picture, how many random architectures check predictions, and their seed.
        report: called with the codecs done, of how many, and what is being written.

    Raises:
        InputError: the run is untrained, its pieces cannot be ONNX models, or another folder is in the way.
    """
    check_seed(request.seed)
    check_count(request.check, "check")
    refuse_existing(out, force=request.force, what="folder of pieces")
    require_package()
    pixels = sample_photo(*request.size)
    supernet = supernet_of(run)
    _require_integers(supernet.space)
    if request.force:
        clear(out)
    # --force may replace a folder of this format, half-written or whole
    write_atomically(out / DESCRIPTION, json.dumps({"format": PIECES_FORMAT}) + "\n")
    wanted = cover(supernet.space)
    in_cover = set(wanted)
    checked = [
        architecture
        for architecture in random_architectures(supernet.space, request)
        if architecture not in in_cover
    ]
    writer = _Writer(supernet, out)
    codecs = []
    for number, architecture in enumerate([*wanted, *checked]):
        report(number, len(wanted) + len(checked), f"writing pieces  {architecture.key[:50]}")
        codecs.append(writer.codec(architecture, checked=number >= len(wanted)))
    write_atomically(out / LATENTS, _latents(supernet, pixels))
    write_atomically(out / RUNNER, runner_text())
    space, kept = supernet.space, (LATENTS, RUNNER)
    content = {
        "format": PIECES_FORMAT,
        "space": space.name,
        "weights": run.fingerprint,
        "width": request.size[0],
        "height": request.size[1],
        "alignment": space.family.alignment,
        "y_channels": space.y_channels,
        "z_channels": space.z_channels if space.family.has_z else 0,
        "window": space.window,
        "y_limit": Y_LIMIT,
        "z_limit": Z_LIMIT,
        "mean_steps": MEAN_STEPS,
        "scales": SCALES.tolist(),
        "scale_bounds": SCALE_BOUNDS.astype(int).tolist(),
        "layouts": writer.layouts,
        "codecs": codecs,
        "files": writer.files | {name: file_digest((out / name).read_bytes()) for name in kept},
    }
    write_atomically(out / DESCRIPTION, json.dumps(content) + "\n")  # last: then the folder is whole
    report(len(codecs), len(codecs), "")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    counts = len(codecs), len(checked), len(writer.files)
    return Pieces(out, space.name, request.size, *counts, size)


def file_digest(data: bytes) -> str:
    """The digest of a file in pieces.json. The runner computes the same.

    Args:
        data: content of the file.
    """
    return hashlib.sha256(data).hexdigest()[:16]


def _require_integers(space: SearchSpace) -> None:
    if space.family.has_z and space.quantizer != "integer":
        raise InputError(
            f"h_s and the context of {space.name} cannot be written as ONNX models, because its quantiser is "
            "centred and only an entropy path in integers can: train a space with `quantizer: integer`."
        )


@dataclass
class _Writer:
    """Models in the form that codecs need, each written once.

    Attributes:
        files: digest by name of a file.
        layouts: layouts with the models of their blocks, one for each choice of the widths that they read.
    """

    supernet: Supernet
    out: Path
    files: dict[str, str] = field(default_factory=dict)
    layouts: list[dict[str, Any]] = field(default_factory=list)
    _steps: dict[tuple[Any, ...], str] = field(default_factory=dict)  # files by what is in them
    _contexts: dict[tuple[int, ...], int] = field(default_factory=dict)  # places in `layouts`
    _same: dict[str, str] = field(default_factory=dict)  # files by their digest

    def codec(self, architecture: Architecture, *, checked: bool) -> dict[str, Any]:
        """The entry of a codec for the runner: in pieces, or whole if it checks predictions."""
        network = self.supernet.extract(architecture)
        exact = _Lazily(self.supernet, architecture, network)
        pieces = () if checked else edge_pieces(self.supernet.space)
        edges = {
            edge: self.edge(edge, [piece for piece in pieces if piece.edge == edge], architecture, exact)
            for edge in network.space.family.edges
            if hasattr(network, edge)
        }
        return {
            "arch": architecture.key,
            "checked": checked,
            "edges": edges,
            "layout": self.layout(architecture, exact),
        }

    def edge(
        self, name: str, pieces: Sequence[EdgePiece], architecture: Architecture, exact: _Lazily
    ) -> list[dict[str, Any]]:
        """The steps of an edge and their files."""
        space, network = self.supernet.space, exact.network
        axes = {piece.name: piece.axes for piece in pieces}
        h_s = exact.codec.coding_h_s if name == "h_s" and not self._knows_h_s(pieces, architecture) else None
        steps = edge_steps(network, name, pieces, h_s or network.get_submodule(name))
        described = []
        for number, step in enumerate(steps):
            own = choices_at(space, axes[step.part], architecture) if pieces else architecture.key
            key = (step.part, own, len(step.inputs))
            if key not in self._steps:
                self._steps[key] = self.model(name, step, last=number == len(steps) - 1)
            described.append({**step.described(), "file": self._steps[key]})
        return described

    def _knows_h_s(self, pieces: Sequence[EdgePiece], architecture: Architecture) -> bool:
        """Whether all of h_s was written for another architecture: converting it to integers takes long."""
        space = self.supernet.space
        keys = [(piece.name, choices_at(space, piece.axes, architecture), 1) for piece in pieces]
        return bool(keys) and all(key in self._steps for key in keys)

    def model(self, edge: str, step: EdgeStep, *, last: bool) -> str:
        """Write the model of a step. Returns the name of its file."""
        model = step_model(step, edge, self.supernet.space.family, last=last)
        return self.save(f"{edge}/{len(self._steps)}.onnx", model)

    def layout(self, architecture: Architecture, exact: _Lazily) -> int:
        """The place of the codec's layout in `layouts`."""
        space = self.supernet.space
        key = choices_at(space, coding(space).axes, architecture)
        if key not in self._contexts:
            self._contexts[key] = len(self.layouts)
            self.layouts.append(describe_layout(exact.codec, str(len(self.layouts)), self.save))
        return self._contexts[key]

    def save(self, name: str, model: onnx.ModelProto) -> str:
        """Write a model with shortened weights, unless another file has the same content."""
        data = shortened(model).SerializeToString(deterministic=True)
        first = self._same.setdefault(file_digest(data), name)
        if first == name:
            write_atomically(self.out / name, data)
            self.files[name] = file_digest(data)
        return first


@dataclass
class _Lazily:
    """One architecture's codec. It is converted to integers only if necessary."""

    supernet: Supernet
    architecture: Architecture
    network: CodecNetwork
    _codec: Codec | None = None

    @property
    def codec(self) -> Codec:
        if self._codec is None:
            try:
                self._codec = codec_of(self.supernet, self.architecture)
            except NotImplementedError as error:
                raise InputError(f"h_s cannot be written as an ONNX model: {error}.") from error
        return self._codec


def _latents(supernet: Supernet, pixels: Pixels) -> bytes:
    """Real latents and what they are coded under: the coder's work, and what networks read, as in use.

    Of the middle architecture and a photo: y, and z, levels and steps where there is a z, each [channels, h,
    w]; the frequencies of z, and of y for codecs without a z.
    """
    space, latents = supernet.space, dict[str, Array]()
    middle = list(space.indexes(space.uniform(0.5)))
    switch = space.setter(HYPERPRIOR)
    for index in range(space.shape[switch]) if switch is not None else (None,):
        if index is not None:
            middle[switch] = index  # type: ignore[index]
        codec = codec_of(supernet, space.at(middle))
        y_hat, z_hat = codec.latents(Padded(pixels, codec.alignment))
        latents["y"] = y_hat[0].numpy().astype(np.int16)
        table = codec.table.numpy().astype(np.int64)
        if z_hat is None:
            latents["y_table"] = table
            continue
        levels, steps = codec.parameters_of_y(y_hat, z_hat)
        latents["z"], latents["z_table"] = z_hat[0].numpy().astype(np.int16), table
        latents["levels"] = levels[0].numpy().astype(np.uint8)
        latents["steps"] = steps[0].numpy().astype(np.int32)
    stream = io.BytesIO()
    np.savez_compressed(stream, **latents)
    return stream.getvalue()
