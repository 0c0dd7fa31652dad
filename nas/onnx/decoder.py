"""Decode .nic files with the models beside this file: the reference, in NumPy, onnxruntime and constriction.

    pip install numpy onnxruntime "constriction>=0.5,<0.6" pillow
    python decoder.py FILE.nic OUT.png [--decoder K | --target KMAC]

::

    FILE.nic --prior--> z_hat --h_s--> psi --blocks of the layout, stage by stage--> y_hat --g_s--> picture

Everything that decides which symbol is read is computed in integers, which float32 holds exactly. Every
machine therefore reads the same y_hat. Run it on a CPU, or where float32 is not shortened (no TF32, no
bfloat16).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import constriction
import numpy as np
import onnxruntime
from numpy.typing import NDArray

ONNX_FORMAT, MAGIC = "nas-onnx 1", b"NIC"
PLAIN, RATED = 1, 2  # versions of files: without and with a quality
GREY = 4  # added to the version of a grey picture's file
STEPS_OF_QUALITY = 1000
HERE = Path(__file__).resolve().parent
Y_REDUCTION, Z_REDUCTION = 16, 64  # pixels per element of y and z, per side
MAX_PIXELS = 1 << 27  # of a picture, because a forged size costs an attacker nothing
SLICE = 1 << 13  # number of positions that are computed together; it bounds memory
THREADS = 0  # threads inside a model; 0 means as many as there are cores
STORES = ("phi", "hidden_1", "hidden_2")  # values that blocks leave for later blocks at the same position
# The form of what decoding reads of codec.json: sets of types, ranges of integers, lists of any length
# whose elements have a form (or of two elements, where the form has two), and mappings
TEXT, WHOLE, NUMBER, INDEX, COUNT = {str}, {int}, {int, float}, range(1 << 16), range(1, 1 << 16)
FORM: dict[str, Any] = {
    **{"alignment": COUNT, "y_channels": COUNT, "z_channels": INDEX, "window": COUNT, "y_limit": INDEX},
    **{"z_limit": INDEX, "mean_steps": COUNT, "scales": [NUMBER], "scale_bounds": [NUMBER]},
    **{
        "table": [[NUMBER]],
        "default": INDEX,
        "decoders": [{"file": TEXT, "arch": TEXT}],
        "layouts": [{"name": TEXT, "entropy_path": TEXT}],
    },
}
RATES = {"lambdas": [NUMBER], "before_g_s": [[NUMBER]]}
BLOCK = {"row": INDEX, "column": INDEX, "stage": INDEX, "channels": [INDEX]}
LINKS = {f"{name}{new}": [INDEX] for name in STORES for new in ("", "_new")}  # any of them may be missing
SEEN = {"rows": [INDEX], "columns": [INDEX], "channels": [INDEX]}
ORDER = {"slope": [WHOLE, WHOLE], "tile": [COUNT, COUNT]}
BY_NETWORKS = {**ORDER, "blocks": [{**BLOCK, "file": {str, type(None)}, "seen": [SEEN]}]}
TABLE = {
    **{"file": TEXT, "surprises": [[NUMBER]], "states": [[INDEX]], "shifts": [[WHOLE]]},
    **{"around": [[WHOLE, WHOLE]], "weights": [NUMBER]},
}
BY_TABLE = {**ORDER, "blocks": [{**BLOCK, "known": [[range(2)]]}], "table": TABLE}
models = constriction.stream.model
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Steps = NDArray[np.floating[Any]]  # of means: integers, in the type that computed them
Ints = NDArray[np.int64]
Whole = NDArray[np.integer[Any]]
Values = NDArray[np.number[Any]]  # integers, in an integer or a float type
Read = Callable[[dict[str, Any], Ints, Ints, Steps], Whole]


class InputError(Exception):
    """The input cannot be decoded. The message says why, in one sentence."""


def decode(data: bytes, decoder: int | None = None, folder: Path = HERE) -> Pixels:
    """Decode the picture of a .nic file, [H, W, 3] in 8 bits.

    Args:
        data: the file.
        decoder: place among the decoders of codec.json, or None for the codec's default.
        folder: folder of the ONNX models.
    """
    codec = description(folder)
    decoder_index = codec["default"] if decoder is None else decoder
    if not 0 <= decoder_index < len(codec["decoders"]):
        raise InputError(f"There is no decoder {decoder_index}: choose 0 to {len(codec['decoders']) - 1}.")
    _, _, width, height, step, grey, _ = parse(data)
    y_hat, _ = decode_latents(data, folder)
    with consistently(folder):
        y_hat = y_hat * gains(codec, step)
        x_hat = run(folder, codec["decoders"][decoder_index]["file"], {"y_hat": y_hat}, "x_hat")["x_hat"]
        pixels = np.rint(x_hat[0, :, :height, :width].clip(0, 1) * 255).astype(np.uint8)
        if grey:  # the rounded mean; thirds of whole numbers are never half way between two integers
            pixels[:] = (pixels.sum(0, dtype=np.uint16) + 1) // 3
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))


@contextmanager
def consistently(folder: Path) -> Iterator[None]:
    """Tell in a sentence where parts of codec.json do not fit each other, or the models.

    Args:
        folder: folder of the ONNX models.

    Raises:
        InputError: something in it fails as only such parts do.
    """
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / 'codec.json'} is damaged, because its parts do not fit each other or the models: "
            "export the codec again."
        ) from error


def decode_latents(data: bytes, folder: Path = HERE) -> tuple[Floats, Floats | None]:
    """Decode y_hat [1, M, h, w] and z_hat [1, N, h/4, w/4] (None without a z), integers in float32.

    Args:
        data: the bytes of a .nic file.
        folder: folder of the ONNX models.

    Raises:
        InputError: the picture is too large, or the data is damaged.
    """
    codec, (path, _, width, height, *_, stream) = description(folder), parse(data)
    layout = layout_of(codec, path)
    if width * height > MAX_PIXELS:
        raise InputError(
            f"The file says that its picture has {width}x{height} pixels, which is more than {MAX_PIXELS} in "
            "all."
        )
    sides = [-(-side // codec["alignment"]) * codec["alignment"] for side in (height, width)]
    limit, stream = varint(stream)
    y_limit, stream = varint(stream) if codec["z_channels"] else (limit, stream)
    if limit > codec["z_limit" if codec["z_channels"] else "y_limit"] or y_limit > codec["y_limit"]:
        raise InputError(
            "The coded data has latents beyond their limits, so the file is damaged: get it again."
        )
    if len(stream) % 4:
        raise InputError(
            "The coded data is cut short, because its length is not a multiple of 4 bytes: get the file "
            "again."
        )
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, "<u4").astype(np.uint32))
    shape = [side // (Z_REDUCTION if codec["z_channels"] else Y_REDUCTION) for side in sides]
    try:
        with consistently(folder):
            first = under_tables(coder, codec["table"], limit, shape, len(stream))
            y_hat = gaussian_y(coder, codec, layout, first, y_limit, folder) if codec["z_channels"] else first
    except AssertionError:  # the coder's reaction to data that no encoder writes
        raise InputError(
            "The coded data is damaged, because no encoder writes it like this: get the file again."
        ) from None
    if not coder.maybe_exhausted():
        raise InputError("The coded data continues after its end, so the file is damaged: get it again.")
    return y_hat, first if codec["z_channels"] else None


def gains(codec: dict[str, Any], step: int | None, name: str = "before_g_s") -> Floats:
    """The factors of a latent's channels at a quality, [channels, 1, 1]. Ones for a codec of one rate.

    Over a range of rates, the logarithms of the gains at the anchors are interpolated in the logarithm of
    lambda. A file without a quality is decoded at the middle anchor, or the lower of two middle ones.

    Args:
        codec: description of the codec.
        step: the stored quality, from 0 to `STEPS_OF_QUALITY`, or None.
        name: which factors: those of y_hat before g_s, or what an encoder needs.
    """
    if "rates" not in codec:
        return np.ones((1, 1, 1), np.float32)
    factors: Floats = np.exp(at_rate(codec["rates"], name, step)).astype(np.float32)
    return factors


def at_rate(rates: dict[str, Any], name: str, step: int | None) -> NDArray[np.float64]:
    """The values of all channels at a quality, [channels, 1, 1], interpolated between the anchors.

    Args:
        rates: description of the range of rates.
        name: which values, such as `before_g_s`.
        step: the stored quality, from 0 to `STEPS_OF_QUALITY`, or None.
    """
    anchors, rows = np.log(rates["lambdas"]), np.array(rates[name])
    here = anchors[(len(anchors) - 1) // 2]
    if step is not None:
        here = anchors[0] + step / STEPS_OF_QUALITY * (anchors[-1] - anchors[0])
    return np.array([np.interp(here, anchors, channel) for channel in rows.T])[:, None, None]


def under_tables(coder: Any, tables: list[list[int]], limit: int, shape: list[int], size: int) -> Floats:
    """Read a whole latent, [1, channels, *shape], under one table of frequencies per channel.

    Args:
        coder: range decoder of the stream.
        tables: frequencies of each channel, centred on zero.
        limit: the largest absolute value in the latent.
        shape: rows and columns of the latent.
        size: length of the stream, in bytes.

    Raises:
        InputError: the data is too short for a latent of this shape.
    """
    reach, positions = max(1, limit), shape[0] * shape[1]
    kept = frequencies(tables, reach)
    if -np.log2(kept.max(1) / kept.sum(1)).sum() * positions > 8 * size + 64:
        raise InputError(
            "The coded data is too short for a picture of its size, so the file is damaged: get it again."
        )
    rows = [coder.decode(models.Categorical(row, perfect=False), positions) for row in kept]
    values: Floats = np.stack(rows).reshape(1, len(tables), *shape).astype(np.float32) - reach
    return values


def frequencies(tables: list[list[int]], reach: int) -> NDArray[np.float64]:
    """The frequencies of the integers from -reach to reach, [channels, 2 * reach + 1].

    Beyond a table they are 1.

    Args:
        tables: frequencies of each channel, centred on zero.
        reach: the largest integer, at least 1.
    """
    centre = len(tables[0]) // 2
    kept = np.array(tables, np.float64)[:, max(0, centre - reach) : centre + reach + 1]
    return np.pad(kept, ((0, 0), [max(0, reach - centre)] * 2), constant_values=1)


def gaussian_y(
    coder: Any, codec: dict[str, Any], layout: dict[str, Any], z_hat: Floats, limit: int, folder: Path
) -> Floats:
    """Read y_hat, [1, M, h, w]. Each element has a Gaussian whose scale and mean come from known values.

    Args:
        coder: range decoder of the stream.
        codec: description of the codec.
        layout: description of the layout.
        z_hat: rounded z, [1, N, h/4, w/4].
        limit: the largest absolute value in y_hat.
        folder: folder of the ONNX models.
    """
    psi = run(folder, "h_s.onnx", {"z_hat": z_hat}, "psi")["psi"]
    scales, model = np.array(codec["scales"]), models.QuantizedGaussian(-max(1, limit), max(1, limit))

    def read(_: dict[str, Any], __: Ints, levels: Ints, steps: Steps) -> Whole:
        means = steps.ravel() / np.float64(codec["mean_steps"])
        symbols: Whole = coder.decode(model, means, scales[levels.ravel()])
        return symbols.reshape(steps.shape)

    return by_stages(codec, layout, psi, read, folder)


def by_stages(codec: dict[str, Any], layout: dict[str, Any], psi: Floats, read: Read, folder: Path) -> Floats:
    """Read y_hat, [1, M, h, w], stage by stage.

    Args:
        codec: description of the codec.
        layout: description of the layout.
        psi: hyper features, [1, P, h, w].
        read: reads the values of a block's channels at some positions, [positions, channels]. It is called
            with the block, the positions, and the levels and means (in steps) of the elements.
        folder: folder of the ONNX models.
    """
    height, width = psi.shape[2:]
    context = context_of(codec, layout, psi, folder)
    y = np.zeros((height * width, codec["y_channels"]), np.float32)
    for block, positions in order(layout, height, width):
        levels, steps = context.look_up(block, positions)
        values = read(block, positions, levels, steps)
        context.note(block, positions, values)
        y[positions[:, None], block["channels"]] = values
    return np.ascontiguousarray(y.reshape(height, width, -1).transpose(2, 0, 1)[None])


def context_of(
    codec: dict[str, Any], layout: dict[str, Any], psi: Floats, folder: Path
) -> Blocks | ContextTable:
    """Make the context that gives the scales and means of y from psi and from previously decoded elements.

    Args:
        codec: description of the codec.
        layout: description of the layout.
        psi: hyper features, [1, P, h, w].
        folder: folder of the ONNX models.
    """
    rows = np.ascontiguousarray(psi.reshape(psi.shape[1], -1).T)
    if "table" in layout:
        return ContextTable(codec, layout["table"], rows, psi.shape[3], folder)
    return Blocks(codec, layout, rows, psi.shape[3], folder)


class Blocks:
    """A context that networks read: one network for each block, over the values that the block sees.

    Args:
        codec: description of the codec.
        layout: description of the layout.
        psi: hyper features, [positions, P].
        width: columns of y.
        folder: folder of the networks.
    """

    def __init__(
        self, codec: dict[str, Any], layout: dict[str, Any], psi: Floats, width: int, folder: Path
    ) -> None:
        self.psi, self.width, self.folder = psi, width, folder
        self.channels, self.bounds = codec["y_channels"], codec["scale_bounds"]
        self.reach = codec["window"] // 2
        self.wide = width + 2 * self.reach
        self.y = np.zeros(((len(psi) // width + 2 * self.reach) * self.wide, self.channels), np.float32)
        blocks = layout["blocks"]
        sizes = {name: max(max(b.get(f"{name}_new") or [-1]) for b in blocks) + 1 for name in STORES}
        self.stores = {name: np.zeros((len(psi), size), np.float32) for name, size in sizes.items()}

    def _corners(self, positions: Ints) -> Ints:
        """The places at which the windows around positions begin."""
        corners: Ints = positions // self.width * self.wide + positions % self.width
        return corners

    def look_up(self, block: dict[str, Any], positions: Ints) -> tuple[Ints, Steps]:
        """Levels and means (in steps) of a block's channels at some positions, [positions, channels].

        Args:
            block: description of the block.
            positions: positions of the latent, counted row by row, [positions].
        """
        inputs = {"psi": self.psi[positions]}
        if block["seen"]:
            corners = self._corners(positions)
            near = [columns(self.y, corners, self.wide, each) for each in block["seen"]]
            inputs["y"] = np.concatenate(near, 1)
        used = [name for name in STORES if block.get(name)]
        inputs |= {name: self.stores[name][np.ix_(positions, block[name])] for name in used}
        if block["file"] is None:  # psi itself has the scales, and the means if there are any
            units, means = inputs["psi"][:, : self.channels], inputs["psi"][:, self.channels :]
        else:
            kept = [f"{name}_new" for name in STORES if f"{name}_new" in block]
            outputs = run(self.folder, block["file"], inputs, "scales", "means", *kept)
            units, means = outputs["scales"], outputs["means"]
            for name in kept:
                store = self.stores[name.removesuffix("_new")]
                store[np.ix_(positions, block[name])] = outputs[name]
        levels = np.searchsorted(self.bounds, units.ravel())  # number of smaller bounds
        return levels.reshape(units.shape), means if means.size else np.zeros(units.shape)

    def note(self, block: dict[str, Any], positions: Ints, values: Values) -> None:
        """Store decoded values, [positions, channels], for later blocks.

        Args:
            block: description of the block.
            positions: positions of the latent, counted row by row, [positions].
            values: decoded values.
        """
        middle = self._corners(positions) + self.reach * self.wide + self.reach
        self.y[middle[:, None], block["channels"]] = values


class ContextTable:
    """A context that a table reads: it shifts the levels of scales that a network gives from psi alone.

    Args:
        codec, table: descriptions in codec.json.
        psi: hyper features, [positions, P].
        width: columns of y.
        folder: folder of the network.
    """

    def __init__(
        self, codec: dict[str, Any], table: dict[str, Any], psi: Floats, width: int, folder: Path
    ) -> None:
        parts = [
            run(folder, table["file"], {"psi": psi[start : start + SLICE]}, "scales", "means")
            for start in range(0, len(psi), SLICE)
        ]
        units, self.steps = (np.concatenate([part[name] for part in parts]) for name in ("scales", "means"))
        self.levels = np.searchsorted(codec["scale_bounds"], units.ravel()).reshape(units.shape)
        self.bounds, self.states = np.array(table["surprises"]), np.array(table["states"])
        self.around, self.shifts = table["around"], np.array(table["shifts"])
        self.weights = np.array(table["weights"])[:, None, None]
        self.mean_steps, self.width, self.wide = codec["mean_steps"], width, width + 2
        # the surprise of every element, with a border of elements that are never known
        self.surprises = np.full(((len(psi) // width + 2) * self.wide, units.shape[1]), -1)

    def _middle(self, positions: Ints) -> Ints:
        return ((positions // self.width + 1) * self.wide + positions % self.width + 1)[:, None]

    def look_up(self, block: dict[str, Any], positions: Ints) -> tuple[Ints, Steps]:
        """Levels and means (in steps) of a block's channels at some positions, [positions, channels].

        Args:
            block: description of the block.
            positions: positions of the latent, counted row by row, [positions].
        """
        middle, channels, here = self._middle(positions), block["channels"], positions[:, None]
        near = np.stack(
            [
                np.where(is_known, self.surprises[middle + row * self.wide + column, channels], -1)
                for (row, column), is_known in zip(self.around, block["known"], strict=True)
            ]
        )
        total, weights = (self.weights * part for part in (np.maximum(near, 0), near >= 0))
        shifts = self.shifts[channels, self.states[total.sum(0), weights.sum(0)]]
        levels = (self.levels[here, channels] + shifts).clip(0, self.bounds.shape[1] - 1)
        return levels, self.steps[here, channels]

    def note(self, block: dict[str, Any], positions: Ints, values: Values) -> None:
        """Store the surprises of decoded values, [positions, channels].

        Args:
            block: description of the block.
            positions: positions of the latent, counted row by row, [positions].
            values: decoded values.
        """
        here = positions[:, None], block["channels"]
        away = np.abs(values * self.mean_steps - self.steps[here])
        surprises = (away > self.bounds[:, self.levels[here]]).sum(0)
        self.surprises[self._middle(positions), block["channels"]] = surprises


def columns(y: Floats, corners: Ints, wide: int, near: dict[str, list[int]]) -> Floats:
    """Take some channels of y at some places of the windows that begin at `corners`, place by place.

    Args:
        y: y with a border, [rows * wide, channels].
        corners: places of y where the windows begin, [positions].
        wide: length of a row of y with its border.
        near: rows and columns of places in the window, and the channels.
    """
    places = corners[:, None] + np.array(near["rows"]) * wide + near["columns"]
    return y[places[..., None], near["channels"]].reshape(len(corners), -1)


def order(layout: dict[str, Any], height: int, width: int) -> Iterator[tuple[dict[str, Any], Ints]]:
    """Blocks and their positions in the order of decoding: by stage, then by block, then row by row.

    Args:
        layout: description of the layout.
        height: rows of the latent.
        width: columns of the latent.
    """
    work = []
    for number, block in enumerate(layout["blocks"]):
        i, j = np.mgrid[
            block["row"] : height : layout["tile"][0], block["column"] : width : layout["tile"][1]
        ]
        when = layout["slope"][0] * i + layout["slope"][1] * j + block["stage"]
        work += [(step, number, (i * width + j)[when == step]) for step in np.unique(when)]
    for _, number, positions in sorted(work, key=lambda each: each[:2]):
        for start in range(0, len(positions), SLICE):
            yield layout["blocks"][number], positions[start : start + SLICE]


def parse(data: bytes) -> tuple[str, str, int, int, int | None, bool, bytes]:
    """Read the header of a .nic file.

    Args:
        data: content of the file.

    Returns:
        The entropy path's identity, the codec's fingerprint, width, height, quality, whether the picture is
        grey, and the stream. The quality is in steps, and None in files of codecs of one rate.

    Raises:
        InputError: the file is of another kind or version, or it is damaged.
    """
    if data[:3] != MAGIC:
        raise InputError("This is not a .nic file.")
    version = data[3] & ~GREY if len(data) > 3 else PLAIN
    if version not in (PLAIN, RATED):
        raise InputError(
            f"The file has .nic version {version}, but this decoder reads versions up to {RATED}: use a "
            "newer one."
        )
    if len(data) <= 16 or zlib.crc32(data[:12] + data[16:]).to_bytes(4, "little") != data[12:16]:
        raise InputError("The file is cut short or damaged, because its checksum does not fit: get it again.")
    width, rest = varint(data[16:])
    height, stream = varint(rest)
    if not 0 < min(width, height) <= max(width, height) < 1 << 16:
        raise InputError(
            f"The file says that its picture has {width}x{height} pixels, so it is damaged: get it again."
        )
    step = None
    if version == RATED:
        step, stream = varint(stream)
        if step > STEPS_OF_QUALITY:
            raise InputError("The file has a quality that does not exist, so it is damaged: get it again.")
    return data[4:8].hex(), data[8:12].hex(), width, height, step, bool(data[3] & GREY), stream


def varint(data: bytes) -> tuple[int, bytes]:
    """Read a number that is written in seven bits a byte, the lowest first.

    Args:
        data: bytes that begin with the number.

    Returns:
        The number, and the bytes behind it.

    Raises:
        InputError: the number does not end within five bytes.
    """
    value = 0
    for index, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, data[index + 1 :]
    raise InputError("The file is cut short or damaged, because a number in it does not end: get it again.")


@cache
def description(folder: Path) -> dict[str, Any]:
    """Read codec.json once, and compare it and the models that are there with their digests.

    Args:
        folder: folder of the ONNX models.

    Returns:
        Its content: the codec's layouts, gains, scales and sizes.

    Raises:
        InputError: a file cannot be read or was altered, or another version of this decoder or of
            constriction is needed.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "codec.json").read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{folder} has no codec.json that can be read: export the codec again.") from None
    coder = "constriction-" + ".".join(metadata.version("constriction").split(".")[:2])
    needed = (content.get("format"), content.get("coder"))
    if needed != (ONNX_FORMAT, coder):
        raise InputError(
            f"The codec needs {needed[0]} with {needed[1]}, but this decoder is {ONNX_FORMAT} with {coder}: "
            "use the decoder.py of the codec's folder, and that version of constriction."
        )
    written = content.pop("digest", None)
    if wrong := misfit(content):
        raise InputError(
            f"{folder / 'codec.json'} is damaged, because `{wrong}` is missing or of another kind: export "
            "the codec again."
        )
    if written is not None:  # the first exports have none
        if digest(json.dumps(content).encode()) != written:
            raise InputError(f"{folder / 'codec.json'} was altered or is damaged: export the codec again.")
        for name, expected in content.get("files", {}).items():
            if (folder / name).is_file() and digest((folder / name).read_bytes()) != expected:
                raise InputError(f"The model {folder / name} was altered or is damaged: export it again.")
    return content


def misfit(content: dict[str, Any]) -> str | None:
    """The name of a value that decoding needs and codec.json lacks, or has of another kind; None if all fit.

    Args:
        content: content of codec.json.
    """
    wrong = _misfit(content, FORM)
    for layout in [] if wrong else content["layouts"]:
        wrong = wrong or _misfit(layout, BY_TABLE if "table" in layout else BY_NETWORKS, "layouts")
        for block in [] if wrong else layout["blocks"]:
            links = {name: LINKS[name] for name in LINKS if name in block}
            wrong = wrong or _misfit(block, links, "layouts.blocks")
    if not wrong and "rates" in content:
        wrong = _misfit(content["rates"], RATES, "rates")
    if not wrong and min(content["scales"], default=1) <= 0:
        wrong = "scales"
    if not wrong and content["default"] >= len(content["decoders"]):
        wrong = "default"
    files = content.get("files", {})
    are_digests = isinstance(files, dict) and not _misfit([*files.values()], [TEXT])
    return wrong or (None if are_digests else "files")


def _misfit(value: Any, form: Any, name: str = "") -> str | None:
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return name
        for key, inner in form.items():
            path = f"{name}.{key}".lstrip(".")
            if key not in value or (wrong := _misfit(value[key], inner, path)):
                return path if key not in value else wrong
        return None
    values = value if isinstance(form, list) else [value]
    if not isinstance(values, list) or (isinstance(form, list) and len(form) == 2 != len(values)):
        return name
    inner = form[0] if isinstance(form, list) else form
    if isinstance(inner, dict | list):
        return next(filter(None, (_misfit(each, inner, name) for each in values)), None)
    types = {int} if isinstance(inner, range) else inner  # thousands of numbers are compared at once
    if not {*map(type, values)} <= types:
        return name
    is_outside = isinstance(inner, range) and values and not (min(values) in inner and max(values) in inner)
    return name if is_outside else None


def digest(data: bytes) -> str:
    """A short hexadecimal fingerprint of a file or a text, as codec.json has it.

    Args:
        data: its bytes.
    """
    return hashlib.blake2b(len(data).to_bytes(8, "little") + data, digest_size=8).hexdigest()


def layout_of(codec: dict[str, Any], path: str) -> dict[str, Any]:
    """The layout whose entropy path made a file.

    Args:
        codec: description of the codec.
        path: identity of the entropy path, as the file names it.

    Raises:
        InputError: the codec has no such entropy path.
    """
    layout: dict[str, Any]
    for layout in codec["layouts"]:
        if layout["entropy_path"] == path:
            return layout
    raise InputError(f"Another codec made the file (entropy path {path}): use the folder of that codec.")


@cache
def session(path: Path) -> onnxruntime.InferenceSession:
    """Load a model once.

    Args:
        path: the ONNX file.

    Raises:
        InputError: the file is missing or damaged.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = THREADS
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own kinds
        raise InputError(f"The model {path} is missing or damaged: {error}") from None


def run(folder: Path, file: str, inputs: dict[str, Floats], *outputs: str) -> dict[str, Floats]:
    """The outputs of one of the folder's models by name.

    Args:
        folder: folder of the ONNX models.
        file: name of the model's file.
        inputs: the model's inputs by name.
        *outputs: names of the outputs to compute; all of them by default.

    Raises:
        InputError: the file is missing or damaged, or is a model of something else.
    """
    model = session(folder / file)
    names = outputs or [each.name for each in model.get_outputs()]
    try:
        return dict(zip(names, model.run(names, inputs), strict=True))
    except Exception as error:  # the runtime's own kinds
        reason = " ".join(str(error).split())
        raise InputError(f"The model {folder / file} cannot be run here: {reason}") from None


def within(codec: dict[str, Any], layout: dict[str, Any], target: float) -> int:
    """The most expensive decoder that decodes a file of a layout within a cost in kMAC per pixel.

    Args:
        codec: description of the codec.
        layout: description of the file's layout.
        target: largest cost of decoding, in kMAC per pixel.

    Raises:
        InputError: the costs of the decoders are not known, or all are higher.
    """
    decoder_costs = costs(codec, layout)
    fit = [index for index, cost in enumerate(decoder_costs) if cost <= target]
    if not fit:
        raise InputError(
            f"No decoder costs at most {target:g} kMAC per pixel: the least is {decoder_costs[0]:.4g}."
        )
    return fit[-1]


def costs(codec: dict[str, Any], layout: dict[str, Any]) -> list[float]:
    """The cost of decoding a file of a layout with each decoder, in kMAC per pixel.

    Args:
        codec: description of the codec.
        layout: description of the file's layout.

    Raises:
        InputError: the costs of the decoders are not known.
    """
    try:
        first, mine = (each.get("kmac_px", {}).get("decoder", 0) for each in (codec["layouts"][0], layout))
        return [each["kmac_px"]["decoder"] + mine - first for each in codec["decoders"]]
    except (AttributeError, KeyError, TypeError):
        raise InputError("The codec does not say what its decoders cost: choose one by --decoder.") from None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Decode a .nic file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path, help="the picture, such as OUT.png")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--decoder", type=int, help="a place in codec.json: 0 is the cheapest")
    choice.add_argument("--target", type=float, help="the best decoder of at most so many kMAC per pixel")
    given = parser.parse_args()
    try:
        data, decoder_index = given.file.read_bytes(), given.decoder
        if given.target is not None:
            codec = description(HERE)
            decoder_index = within(codec, layout_of(codec, parse(data)[0]), given.target)
        pixels = decode(data, decoder_index)
        from PIL import Image

        grey = parse(data)[5]
        Image.fromarray(pixels[..., 0] if grey else pixels).save(given.out)
    except (InputError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
