"""Time the pieces of codecs on this device, in NumPy and onnxruntime alone, and print a CSV.

    pip install numpy onnxruntime
    python time_pieces.py --out times.csv

The models beside this file are of a search space: `nas profile RUN --pieces` wrote them. Some codecs that
have all of them between them encode and decode one picture each, in several rounds, and every part is timed.
The CSV goes back to where the run is:

    nas profile RUN --from times.csv --device-name NAME

Networks run as in the reference decoder of an exported codec (see `nas export --onnx`). The range coder is
timed where the package constriction (0.5) is installed; else the times are of everything but the coder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nas.onnx.decoder import (  # noqa: F401 - the written file has their text, and what they use
    SLICE,
    STORES,
    THREADS,
    Blocks,
    ContextTable,
    Floats,
    InputError,
    Ints,
    Pixels,
    Read,
    Steps,
    Values,
    Whole,
    by_stages,
    columns,
    context_of,
    order,
    run,
    session,
)

PIECES, TIMES, VERSION = "nas-pieces 1", "nas-device-times 1", 1
HERE = Path(__file__).resolve().parent
Stream = NDArray[np.uint32]
REST = "coder"  # the range coder if there is one, rounding, and pixels in 8 bits
ROWS = ("arch", "checked", "round")  # the first columns; the others are parts, in seconds
BUSY = "# disturbance: "
END_LINE = "# end: "
QUIET_SECONDS, QUIET_SIDE = 0.3, 96  # of the small piece of work that detects other work


class Clock:
    """Counts seconds by part. Time of a part inside another one is charged to the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = time.perf_counter()

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._open:
            part = self._open[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge the time of a block to a part.

        Args:
            name: name of the part.
        """
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()


class TimedCodecs:
    """Everything that is timed: the codecs of pieces.json, on one picture and real latents of its size.

    Args:
        folder: folder of pieces.json.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.pieces = folder, description(folder)
        with np.load(folder / "latents.npz") as kept:
            self.latents: dict[str, Whole] = {name: kept[name] for name in kept.files}
        height, width = self.pieces["height"], self.pieces["width"]
        self.pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        try:
            import constriction
        except ImportError:  # without the coder, everything else is timed
            self.coder = None
        else:
            self.coder = constriction
            self.gaussian = constriction.stream.model.QuantizedGaussian
            self.categorical = constriction.stream.model.Categorical

    def time_codec(self, codec: dict[str, Any]) -> dict[str, float]:
        """Seconds of one encoding and one decoding by part, after a warm-up.

        Args:
            codec: a codec of pieces.json.
        """
        for _ in range(2):
            encoding, decoding = Clock(), Clock()
            with encoding.part(REST):
                stream = self.encode(codec, encoding)
            with decoding.part(REST):
                self.decode(codec, stream, decoding)
        session.cache_clear()  # a device has no room for the models of all codecs
        both = (("encode", encoding), ("decode", decoding))
        return {
            f"{action} {part}": seconds for action, clock in both for part, seconds in clock.seconds.items()
        }

    def through(self, codec: dict[str, Any], edge: str, x: Floats, clock: Clock) -> Floats:
        """Run an edge piece by piece.

        Args:
            codec: a codec of pieces.json.
            edge: name of the edge.
            x: input of the edge, [1, C, H, W] in float32.
            clock: counts the seconds.

        Returns:
            Output of the edge, float32, in its own channels and size.
        """
        values = {"x": x}
        for step in codec["edges"][edge]:
            model = session(self.folder / step["file"])
            names = [each.name for each in model.get_inputs()]
            with clock.part(step["part"]):
                given = dict(zip(names, (values[name] for name in step["inputs"]), strict=True))
                (values[step["output"]],) = model.run(None, given)
        output: Floats = values[codec["edges"][edge][-1]["output"]]
        return output

    def encode(self, codec: dict[str, Any], clock: Clock) -> Stream | None:
        """Encode the picture. Returns the coded latents if there is a coder.

        Every network reads realistic inputs, because the shortened weights before it give meaningless
        outputs.

        Args:
            codec: a codec of pieces.json.
            clock: counts the seconds.
        """
        x = self.pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
        sides = [-side % self.pieces["alignment"] for side in x.shape[2:]]
        x = np.pad(x, [(0, 0), (0, 0), *((0, more) for more in sides)], mode="symmetric")
        y = self.through(codec, "g_a", x, clock)
        np.rint(y).clip(-self.pieces["y_limit"], self.pieces["y_limit"])
        if "h_a" not in codec["edges"]:
            return self.coded(self.latents["y"], self.latents["y_table"]) if self.coder else None
        y_hat, z_hat = (self.latents[name][None].astype(np.float32) for name in ("y", "z"))
        z = self.through(codec, "h_a", y_hat, clock)
        np.rint(z).clip(-self.pieces["z_limit"], self.pieces["z_limit"])
        psi = self.through(codec, "h_s", z_hat, clock)
        layout = self.pieces["layouts"][codec["layout"]]
        with clock.part("context"):
            self.one_pass(layout, psi, y_hat)
        return self.coded(self.latents["z"], self.latents["z_table"], layout) if self.coder else None

    def decode(self, codec: dict[str, Any], stream: Stream | None, clock: Clock) -> Pixels:
        """Decode the picture, [H, W, 3] in 8 bits.

        Args:
            codec: a codec of pieces.json.
            stream: output of `encode`.
            clock: counts the seconds.
        """
        coder = None if stream is None or self.coder is None else self.coder.stream.queue.RangeDecoder(stream)
        with_z = "h_s" in codec["edges"]
        first = self.read_under_tables(coder, "z" if with_z else "y")
        y_hat = self.read_y(codec, first, coder, clock) if with_z else first
        x_hat = self.through(codec, "g_s", y_hat, clock)
        height, width = self.pixels.shape[:2]
        pixels = np.rint(x_hat[0, :, :height, :width].clip(0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def one_pass(self, layout: dict[str, Any], psi: Floats, y_hat: Floats) -> None:
        """Levels and steps of all elements from the whole y: every block once, over all its positions.

        Args:
            layout: a layout of pieces.json.
            psi: output of h_s, [1, P, h, w].
            y_hat: rounded y, [1, M, h, w].
        """
        rows = np.ascontiguousarray(y_hat[0].reshape(y_hat.shape[1], -1).T)
        levels, steps = np.zeros(rows.shape, np.uint8), np.zeros(rows.shape)
        context = context_of(self.pieces, layout, psi, self.folder)
        for block, positions in everywhere(layout, *psi.shape[2:]):
            context.note(block, positions, rows[positions[:, None], block["channels"]])
        for block, positions in everywhere(layout, *psi.shape[2:]):
            elements = positions[:, None], block["channels"]
            levels[elements], steps[elements] = context.look_up(block, positions)

    def read_y(self, codec: dict[str, Any], z_hat: Floats, coder: Any, clock: Clock) -> Floats:
        """Decode y_hat, [1, M, h, w]: context and coder run stage by stage.

        Args:
            codec: a codec of pieces.json.
            z_hat: rounded z, [1, N, h/4, w/4].
            coder: the range decoder, or None without one.
            clock: counts the seconds.
        """
        psi = self.through(codec, "h_s", z_hat, clock)
        y, levels, steps = (by_position(self.latents[name]) for name in ("y", "levels", "steps"))
        scales, mean_steps = np.array(self.pieces["scales"]), np.float64(self.pieces["mean_steps"])
        model = self.model_of_y() if coder is not None else None

        def read(block: dict[str, Any], positions: Ints, _: Ints, __: Steps) -> Whole:
            elements = positions[:, None], block["channels"]
            with clock.part(REST):
                elements_of_y: Whole = y[elements]
                if coder is None:
                    return elements_of_y
                means = steps[elements].ravel() / mean_steps
                symbols: Whole = coder.decode(model, means, scales[levels[elements].ravel()])
                return symbols.reshape(len(positions), -1)

        with clock.part("context"):
            layout = self.pieces["layouts"][codec["layout"]]
            return by_stages(self.pieces, layout, psi, read, self.folder)

    # The coder: real latents under the tables, scales and means of a real codec

    def coded(self, first: Whole, table: Whole, layout: dict[str, Any] | None = None) -> Stream:
        """Code z, and y in the order of a layout. Without a z, only y is coded.

        Args:
            first: the latent under tables, [channels, h, w]: z, or y without a z.
            table: its frequencies, [channels, values].
            layout: a layout of pieces.json, or None without a z.
        """
        assert self.coder is not None
        coder = self.coder.stream.queue.RangeEncoder()
        reach = max(1, int(np.abs(first).max()))
        for values, model in zip(first, self.under(table, reach), strict=True):
            coder.encode(np.ascontiguousarray(values.ravel() + reach, dtype=np.int32), model)
        if layout is not None:
            y, levels, steps = (by_position(self.latents[name]) for name in ("y", "levels", "steps"))
            scales, mean_steps = np.array(self.pieces["scales"]), np.float64(self.pieces["mean_steps"])
            model = self.model_of_y()
            for block, positions in order(layout, *self.latents["y"].shape[1:]):
                elements = positions[:, None], block["channels"]
                means = steps[elements].ravel() / mean_steps
                coder.encode(
                    y[elements].ravel().astype(np.int32), model, means, scales[levels[elements].ravel()]
                )
        words: Stream = coder.get_compressed()
        return words

    def read_under_tables(self, coder: Any, name: str) -> Floats:
        """Decode a whole latent, [1, channels, h, w] in float32.

        Args:
            coder: the range decoder, or None without one.
            name: `z` or `y`.
        """
        values = self.latents[name]
        if coder is not None:
            reach = max(1, int(np.abs(values).max()))
            models = self.under(self.latents[f"{name}_table"], reach)
            rows = [coder.decode(model, values[0].size) for model in models]
            values = np.stack(rows).reshape(values.shape) - reach
        return values[None].astype(np.float32)

    def model_of_y(self) -> Any:
        """Gaussians over the range of y."""
        limit = max(1, int(np.abs(self.latents["y"]).max()))
        return self.gaussian(-limit, limit)

    def under(self, tables: Whole, reach: int) -> list[Any]:
        """Make one model for each channel from its frequencies around zero.

        Args:
            tables: frequencies, [channels, values], of values around zero.
            reach: largest value on either side of zero.
        """
        centre = tables.shape[1] // 2
        kept = tables[:, max(0, centre - reach) : centre + reach + 1].astype(np.float64)
        kept = np.pad(kept, ((0, 0), [max(0, reach - centre)] * 2), constant_values=1)
        return [self.categorical(row, perfect=False) for row in kept]


def by_position(values: Whole) -> Whole:
    """Reorder [channels, h, w] to [positions, channels].

    Args:
        values: a latent, [channels, h, w].
    """
    return np.ascontiguousarray(values.reshape(len(values), -1).T)


def everywhere(layout: dict[str, Any], height: int, width: int) -> Iterator[tuple[dict[str, Any], Ints]]:
    """Every block over all its positions, as an encoder runs it.

    Args:
        layout: a layout of pieces.json.
        height: rows of y.
        width: columns of y.
    """
    for block in layout["blocks"]:
        i, j = np.mgrid[
            block["row"] : height : layout["tile"][0], block["column"] : width : layout["tile"][1]
        ]
        positions = (i * width + j).ravel()
        for start in range(0, len(positions), SLICE):
            yield block, positions[start : start + SLICE]


def description(folder: Path) -> dict[str, Any]:
    """Read pieces.json, and check that all of its files are present and unaltered.

    Args:
        folder: folder of the pieces.

    Raises:
        InputError: a file is missing or was altered.
    """
    again = "write the pieces again with `nas profile RUN --pieces`, and copy the whole folder"
    try:
        pieces: dict[str, Any] = json.loads((folder / "pieces.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{folder} has no pieces.json that can be read: {again}.") from None
    if pieces.get("format") != PIECES:
        raise InputError(
            f"The pieces have the format {pieces.get('format')}, but this runner reads {PIECES}: {again}."
        )
    if "codecs" not in pieces:
        raise InputError(f"The pieces were not written to their end: {again}.")
    for name, digest in pieces["files"].items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest()[:16] != digest:
            raise InputError(f"{file} is missing or damaged: {again}.")
    return pieces


def facts_of(device: TimedCodecs, threads: int, repeats: int) -> dict[str, str]:
    """The conditions of the times, for the head of the CSV.

    Args:
        device: everything that is timed.
        threads: number of threads of the runtime.
        repeats: number of rounds.
    """
    pieces = device.pieces
    digest = hashlib.sha256((device.folder / "pieces.json").read_bytes()).hexdigest()[:16]
    coder = "none" if device.coder is None else f"constriction {metadata.version('constriction')}"
    return {
        "format": TIMES,
        "runner": str(VERSION),
        "space": pieces["space"],
        "weights": pieces["weights"],
        "pieces": digest,
        "width": str(pieces["width"]),
        "height": str(pieces["height"]),
        "machine": machine(),
        "system": platform.platform(),
        "threads": str(threads),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "coder": coder,
        "repeats": str(repeats),
    }


def machine() -> str:
    """The name of the processor, if the system gives it."""
    path = Path("/proc/cpuinfo")
    told = path.read_text(errors="replace").splitlines() if path.is_file() else []
    for word in ("model name", "Hardware", "Model"):
        for line in told:
            if line.startswith(word) and ":" in line:
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Number of processor cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def disturbance() -> float:
    """Mean time of a small piece of work relative to its fastest time, minus 1. It is 0 on a quiet device."""
    piece = np.random.default_rng(0).random((QUIET_SIDE, QUIET_SIDE))
    seconds, end = [], time.perf_counter() + QUIET_SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        np.sort(piece, axis=None)
        seconds.append(time.perf_counter() - began)
    warm = np.array(seconds[len(seconds) // 10 :])  # without the warm-up
    return float(warm.mean() / np.quantile(warm, 0.05) - 1)


def parts_of(pieces: dict[str, Any]) -> list[str]:
    """The columns of all parts that any codec has.

    Args:
        pieces: content of pieces.json.
    """
    edges = {"encode": ("g_a", "h_a", "h_s"), "decode": ("h_s", "g_s")}
    titles: dict[str, None] = {}
    for action, names in edges.items():
        for edge in names:
            for codec in pieces["codecs"]:
                titles |= dict.fromkeys(f"{action} {step['part']}" for step in codec["edges"].get(edge, ()))
        titles |= dict.fromkeys((f"{action} context", f"{action} {REST}"))
    return list(titles)


def kept_lines(path: Path, head: list[str]) -> list[str]:
    """Read the rows of a file that this command continues. Empty if there is no file.

    The first measurement of other work is kept if rows follow it. Otherwise it is dropped.

    Args:
        path: path of the CSV.
        head: the lines that the file must begin with.

    Raises:
        InputError: the times of the file were taken under other conditions.
    """
    if not path.is_file() or not path.stat().st_size:
        return []
    lines = path.read_text("utf-8").split("\n")[:-1]  # the last one may have been cut
    if lines[: len(head)] != head:
        raise InputError(f"{path} holds times of other pieces or settings: give another --out, or remove it.")
    whole = head[-1].count(",")
    kept = [line for line in lines[len(head) :] if line.startswith(BUSY) or line.count(",") == whole]
    while kept and kept[-1].startswith(BUSY):
        kept.pop()
    return [
        one for one, after in zip(kept, [*kept[1:], ""], strict=True) if not (one + after).count(BUSY) > 1
    ]


def is_whole(path: Path) -> bool:
    """Whether a file has all of its times.

    Args:
        path: path of the CSV.
    """
    text = path.read_text("utf-8") if path.is_file() else ""
    return text.endswith("\n") and text.splitlines()[-1].startswith(END_LINE)


def measure(device: TimedCodecs, lines: list[str], parts: list[str], repeats: int, out: TextIO) -> None:
    """Time everything that is missing, and write the CSV as the times come.

    Args:
        device: everything that is timed.
        lines: lines of the CSV so far, which are written already.
        parts: columns of seconds.
        repeats: number of rounds.
        out: path of the CSV.
    """
    rows = [line.split(",") for line in lines if line.count(",") == len(ROWS) + len(parts) - 1]
    timed = {(row[0], row[2]) for row in rows[1:]}  # architecture and round, after the heading
    began, done, codecs = time.perf_counter(), 0, device.pieces["codecs"]
    missing = len(codecs) * repeats - len(timed)

    def say(line: str) -> None:
        lines.append(line)
        out.write(f"{line}\n")
        out.flush()

    if missing:
        say(f"{BUSY}{disturbance():.4f}")
    for turn in range(1, repeats + 1):
        ordered = list(codecs)
        random.Random(turn).shuffle(ordered)  # so that other work affects all codecs equally
        for codec in ordered:
            if (codec["arch"], str(turn)) in timed:
                continue
            seconds = device.time_codec(codec)
            row = [codec["arch"], str(int(codec["checked"])), str(turn)]
            row += [f"{seconds[part]:.7f}" if part in seconds else "" for part in parts]
            say(",".join(row))
            done += 1
            left = (time.perf_counter() - began) / done * (missing - done) / 60
            sys.stderr.write(f"\rround {turn} of {repeats}, {done} of {missing}, {left:.0f} min left  ")
    say(f"{BUSY}{disturbance():.4f}")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    say(f"{END_LINE}{len(codecs) * repeats} rows, {digest}")
    sys.stderr.write("\n")


def main() -> None:
    """The command line: wrong input is told in one sentence, and the exit status is then 2."""
    global THREADS
    parser = argparse.ArgumentParser(
        description="Time the pieces of codecs on this device, and print a CSV for `nas profile RUN --from`."
    )
    parser.add_argument("--out", type=Path, help="write into this file; if it was interrupted, it continues")
    parser.add_argument("--repeats", type=int, default=3, help="number of timed rounds (3)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads in a model (all cores)")
    given = parser.parse_args()
    try:
        if min(given.repeats, given.threads) < 1:
            raise InputError("--repeats and --threads must be at least 1.")
        THREADS = given.threads
        device = TimedCodecs(HERE)
        facts = facts_of(device, given.threads, given.repeats)
        parts = parts_of(device.pieces)
        lines = [*(f"# {name}: {value}" for name, value in facts.items()), ",".join([*ROWS, *parts])]
        lines += kept_lines(given.out, lines) if given.out else []
        if given.out and is_whole(given.out):
            sys.stderr.write(f"{given.out} is whole: there is nothing left to time.\n")
            return
        text = "\n".join(lines) + "\n"
        if given.out is None:
            sys.stdout.write(text)
            measure(device, lines, parts, given.repeats, sys.stdout)
        else:
            part = given.out.with_name(f"{given.out.name}.part")
            part.write_text(text, "utf-8", newline="\n")
            os.replace(part, given.out)
            with open(given.out, "a", encoding="utf-8", newline="\n") as out:
                measure(device, lines, parts, given.repeats, out)
    except KeyboardInterrupt:
        more = " Run the same command again: it continues." if given.out else ""
        sys.stderr.write(f"\nStopped.{more}\n")
        sys.exit(130)
    except (InputError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
