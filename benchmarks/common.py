"""Functions that the benchmarks share: interleaved timing, peak memory in a fresh process, and tables."""

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
    """How one side compares with another: the median ratio over the repeats, the least, and the most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time all sides one after the other in every repeat. A first repeat warms up and is not counted.

    Args:
        sides: functions to time, by name.
        repeats: number of counted repeats.
        clock: the clock. `time.process_time` counts CPU time, which other programs disturb less.

    Returns:
        Seconds of each side, one number per repeat.
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
    """Divide the seconds of one side by those of another, repeat by repeat."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def some_images(folder: Path, count: int) -> list[Path]:
    """Choose `count` images of a folder, spread evenly over its sorted list."""
    paths = list_images(folder)
    return paths[:: max(1, len(paths) // count)][:count]


def extra_memory(run: Callable[[], object]) -> int:
    """Peak memory of this process while `run` runs, in bytes beyond what it held before (Linux only)."""
    forget_peak()
    before = peak_bytes()
    run()
    return peak_bytes() - before


def in_child(script: str, *arguments: str) -> int:
    """Run a benchmark again in a fresh process to measure one side's memory. Returns the number it prints."""
    command = [sys.executable, script, *arguments, "--threads", str(torch.get_num_threads())]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def arguments(description: str, repeats: int) -> argparse.ArgumentParser:
    """Make a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    parser.add_argument("--repeats", type=int, default=repeats, help="number of repeats")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    return parser


def heading() -> str:
    """Describe the machine and its load, as the line above a table."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores, load {load}"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as aligned columns. The first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def say(text: str) -> None:
    """Print a line without delay, also into a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
