"""Seconds of coding: whole codecs timed in turns, with their parts timed from inside.

Timed is the code that `nas compress` and `nas decompress` run. Neighbours on the same cores disturb it, so
several codecs are timed in turns and medians are given; `disturbance` tells how much.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.nic import Nic
from nas.graph.staged import Parameters, Read, Staged, Work
from nas.photos.images import Pixels
from nas.profiling.live import LiveTensors
from nas.profiling.pieces import EdgePiece
from nas.support.device import cores
from nas.support.progress import Report, silent

REPEATS = 3
REST = "coder"  # the range coder and all else that is no network: rounding, the grid, the file
PRINTED_ORDER = ("g_a", "h_a", "h_s", "context", REST, "g_s")
MOST_DISTURBANCE = 0.15  # beyond it times are not to be trusted
_SECONDS, _SIDE = 0.3, 96  # of each the small piece of work that tells of other work


@dataclass(frozen=True)
class Spread:
    """The median of some repeats, and how far they lay apart, in seconds.

    Attributes:
        median: the median, in seconds.
        least: the shortest repeat, in seconds.
        most: the longest repeat, in seconds.
    """

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The spread of some measurements, in seconds."""
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


class Stopwatch:
    """Time by section; a section inside another is charged to itself alone.

    Args:
        device: device of the work. On a GPU the clock waits until it has finished.
    """

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
        """Begin a section; time counts for it until it is left or another one is entered."""
        self._charge()
        self._open.append(section)

    def leave(self) -> None:
        """End the section that was entered last."""
        self._charge()
        self._open.pop()

    def turn(self, section: str) -> None:
        """Leave the innermost section for another."""
        self._charge()
        self._open[-1] = section

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time within as that of a section.

        Args:
            name: name of the section.
        """
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    @contextmanager
    def watching(self, name: str, module: nn.Module, begins: Mapping[str, nn.Module]) -> Iterator[None]:
        """Charge what a module runs to sections, until the end of the block.

        Args:
            name: name of the first section.
            module: the watched module.
            begins: modules within it at which other sections begin: each lasts until the next one begins.
        """
        hooks = [
            module.register_forward_pre_hook(lambda *_: self.enter(name)),
            module.register_forward_hook(lambda *_: self.leave()),
        ]
        for section, first in begins.items():
            hooks.append(first.register_forward_pre_hook(lambda *_, section=section: self.turn(section)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class PeakStopwatch(Stopwatch):
    """A clock that also notes the most bytes of tensors alive at once in each section.

    Args:
        device: device of the tensors.
        live: the active counter of tensors.

    Attributes:
        peaks: bytes by section.
    """

    def __init__(self, device: torch.device, live: LiveTensors) -> None:
        self.peaks: dict[str, int] = {}
        self._live = live
        super().__init__(device)

    def _charge(self) -> None:
        peak = self._live.restart()
        if self._open:
            section = self._open[-1]
            self.peaks[section] = max(self.peaks.get(section, 0), peak)
        super()._charge()


class _TimedContext:
    """The coding context, with a clock."""

    def __init__(self, context: Staged, clock: Stopwatch) -> None:
        self._context, self._clock = context, clock
        self.window, self.block_channels, self.grid = context.window, context.block_channels, context.grid

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

    def __init__(self, codec: Codec, clock: Stopwatch) -> None:
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
        for index, codec in enumerate(codecs):
            encoded, decoded = time_once(codec, pixels)
            if turn:
                encodes[index].append(encoded)
                decodes[index].append(decoded)
    report(repeats + 1, repeats + 1, "")
    return [Latency(_spreads(e), _spreads(d)) for e, d in zip(encodes, decodes, strict=True)]


def measure_decoding(
    codecs: Sequence[Codec], nic: Nic, *, repeats: int = REPEATS, report: Report = silent
) -> list[Spread]:
    """Time whole decodes of one file with several codecs, in turns, after a warm-up of each.

    Args:
        codecs: codecs of one family, on their devices.
        nic: a file that all of them read.
        repeats, report: as `measure_latency` has them.

    Returns:
        For each codec, the spread of its seconds over the repeats.
    """
    seconds: list[list[float]] = [[] for _ in codecs]
    for turn in range(repeats + 1):
        report(turn, repeats + 1, "timing decoders" if turn else "warming up")
        for index, codec in enumerate(codecs):
            clock = Stopwatch(next(codec.parameters()).device)
            with clock.section("whole"):
                decompress_image(codec, nic, max_pixels=nic.width * nic.height)
            if turn:
                seconds[index].append(clock.seconds["whole"])
    report(repeats + 1, repeats + 1, "")
    return [Spread.of(times) for times in seconds]


def time_once(
    codec: Codec, pixels: Pixels, pieces: Sequence[EdgePiece] = ()
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by part of one encoding and one decoding.

    Args:
        codec: timed where it is.
        pixels: the photo, [H, W, 3] in 8 bits.
        pieces: runs of layers that are parts of their own; whole edges by default.
    """
    device = next(codec.parameters()).device
    encoding, decoding = Stopwatch(device), Stopwatch(device)
    _code(codec, pixels, encoding, decoding, pieces)
    return encoding.seconds, decoding.seconds


def peaks_once(
    codec: Codec, pixels: Pixels, pieces: Sequence[EdgePiece] = ()
) -> tuple[dict[str, int], dict[str, int]]:
    """The most bytes of tensors alive at once by part, of one encoding and one decoding.

    Weights do not count, nor what numpy holds. Arguments as `time_once`.

    Args:
        codec: the codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        pieces: parts of edges to tell apart.
    """
    device, live = next(codec.parameters()).device, LiveTensors()
    encoding, decoding = PeakStopwatch(device, live), PeakStopwatch(device, live)
    with live:
        _code(codec, pixels, encoding, decoding, pieces)
    return encoding.peaks, decoding.peaks


def _code(
    codec: Codec, pixels: Pixels, encoding: Stopwatch, decoding: Stopwatch, pieces: Sequence[EdgePiece]
) -> None:
    with _timed(codec, encoding, pieces) as timed, encoding.section(REST):
        data = compress_image(timed, pixels).to_bytes()
    with _timed(codec, decoding, pieces) as timed, decoding.section(REST):
        decompress_image(timed, Nic.parse(data))


@contextmanager
def _timed(codec: Codec, clock: Stopwatch, pieces: Sequence[EdgePiece] = ()) -> Iterator[Codec]:
    network, _ = codec.network, codec.fingerprint  # known from here on: no part of coding
    edges: dict[str, nn.Module] = {"g_a": network.g_a, "g_s": network.g_s}
    if network.with_z:
        edges |= {"h_a": network.h_a, "h_s": codec.coding_h_s}
    with ExitStack() as stack:
        for name, module in edges.items():
            firsts = {piece.name: piece.layers[0] for piece in pieces if piece.edge == name}
            inside = dict(module.named_modules())  # a branch that is left out is not there
            begins = {piece: inside[first] for piece, first in firsts.items() if first in inside}
            stack.enter_context(clock.watching(next(iter(firsts), name), module, begins))
        yield _TimedCodec(codec, clock)


def _spreads(rounds: Sequence[dict[str, float]]) -> dict[str, Spread]:
    whole = Spread.of([sum(seconds.values()) for seconds in rounds])
    order = [part for part in PRINTED_ORDER if part in rounds[0]]
    return {"whole": whole, **{part: Spread.of([seconds[part] for seconds in rounds]) for part in order}}


def disturbance() -> float:
    """Mean time of one small piece of work relative to its fastest time, minus 1. It is 0 on a quiet machine.

    The piece is shorter than the turns in which a busy machine lets processes run, so that its quickest time
    is undisturbed even where the average is not. As many threads as torch uses work at once, and the slowest
    counts: other work on one core of several slows a codec down, but not a single thread.
    """
    threads = min(torch.get_num_threads(), cores())
    together = threading.Barrier(threads)
    with ThreadPoolExecutor(threads) as pool:
        return max(pool.map(_disturbance_of_a_thread, [together] * threads))


def _disturbance_of_a_thread(together: threading.Barrier) -> float:
    rng = np.random.default_rng(0)
    piece = rng.random((_SIDE, _SIDE))
    together.wait()
    seconds, end = [], time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        np.sort(piece, axis=None)
        seconds.append(time.perf_counter() - began)
    warm = np.array(seconds[len(seconds) // 10 :])  # without the warm-up
    return float(warm.mean() / np.quantile(warm, 0.05) - 1)


def disturbance_warning(share: float, again: str, device: str = "this machine") -> str:
    """A sentence on times, and on other work that slowed them down.

    Args:
        share: how much it slowed the machine down, as `disturbance` returns it.
        again: the command that measures again.
        device: the measured device.
    """
    told = f"Other work made {device} {share:.0%} slower while times were measured"
    if share <= MOST_DISTURBANCE:
        return f"{told}."
    return f"{told}. Do not trust times above 15%: stop the other work, then run `{again}`."
