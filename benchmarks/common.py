"""What the comparisons share: interleaved timing, peak memory in a process of its own, tables."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nas.photos.images import list_images
from nas.profiling.memory import forget_peak, peak_bytes

MIB = 2**20


@dataclass(frozen=True)
class Ratio:
    """How one side compares with another: the median over the repeats, and the least and the most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each side, one after the other in every repeat, after one that is not counted.

    Args:
        clock: `time.process_time` counts CPU time, which other programs disturb less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, run in sides.items():
            began = clock()
            run()
            if repeat:
                seconds[name].append(clock() - began)
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """One side over the other, repeat by repeat."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def some_images(folder: Path, count: int) -> list[Path]:
    """So many images of a folder, spread evenly over it."""
    paths = list_images(folder)
    return paths[:: max(1, len(paths) // count)][:count]


def extra_memory(run: Callable[[], object]) -> int:
    """The most bytes this process held while `run` ran, beyond what it held before (Linux)."""
    forget_peak()
    before = peak_bytes()
    run()
    return peak_bytes() - before


def in_child(script: str, *arguments: str) -> int:
    """What a benchmark prints when it is called again for one side's memory, in a fresh process."""
    command = [sys.executable, script, *arguments, "--threads", str(torch.get_num_threads())]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def arguments(description: str, repeats: int) -> argparse.ArgumentParser:
    """The options that all comparisons have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    return parser


def heading() -> str:
    """The machine's state, for every table."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores, load {load}"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of them the heading, as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
