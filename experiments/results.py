"""Writes result files, tables of pages, and progress. Every JSON result says how it was made."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from nas.support.files import write_atomically
from nas.support.progress import StageReport

ROOT = Path(__file__).parents[1]
JOURNAL = ROOT / "experiments" / "journal.md"  # the tables of all experiments, and their discussion
SUMMARY = ROOT / "docs" / "results.md"  # the main results, for users
SAID = 20  # steps between lines of progress


def options(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options of every experiment."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for all random choices")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    return parser


def facts(seed: int, **more: Any) -> dict[str, Any]:
    """Describe how a result is made: command, seed, versions and machine."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    command = ["-m", module.name] if module else [_relative(sys.argv[0])]
    return {
        "command": " ".join(["python", *command, *(_relative(word) for word in sys.argv[1:])]),
        "seed": seed,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        **more,
    }


def _relative(word: str) -> str:
    """Shorten a path of the command line: relative to the repository, or only the last name elsewhere."""
    path = Path(word)
    if not path.exists() and not path.is_absolute():  # an absolute one may be made later
        return word
    root, whole = ROOT.resolve(), path.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else path.name


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write a result file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def read_result(path: Path) -> dict[str, Any]:
    """Read a result file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def say(text: str) -> None:
    """Print a line without delay, also into a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(name: str) -> StageReport:
    """Make a function that prints the progress of a search or a profile, every 20 steps and at the end."""

    def report(stage: str, done: int, total: int, note: str) -> None:
        if done % SAID == 0 or done == total:
            say(f"{name}  {stage} {done}/{total}  {note}")

    return report


def renewed(text: str, name: str, pieces: list[str]) -> str:
    """Replace the text between `<!-- NAME: written by ... -->` and `<!-- end of NAME -->` in a page."""
    head, begin, rest = re.split(rf"(<!-- {name}: written by [a-z_.]+ -->)", text)
    end = f"<!-- end of {name} -->"
    return "\n\n".join([head + begin, *pieces, end + rest.partition(end)[2]])


def renew(page: Path, name: str, pieces: list[str]) -> None:
    """Write new tables into a page (see `renewed`)."""
    page.write_text(renewed(page.read_text(encoding="utf-8"), name, pieces), encoding="utf-8")
    say(str(page.relative_to(ROOT)))


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Format a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])


def thirds(values: Sequence[float]) -> dict[str, float]:
    """Average values of architectures, ordered from the cheapest, over each third of them."""
    third = len(values) // 3
    parts = {
        "narrow third": values[:third],
        "middle": values[third:-third],
        "wide third": values[-third:],
    }
    return {name: mean(part) for name, part in parts.items()}


def over_seeds(values: list[float], digits: int, sign: str = "") -> str:
    """Format a mean over seeds, with the standard deviation if there are several.

    Args:
        values: one value for each seed.
        digits: number of decimals.
        sign: sign option of the number format, such as `+`.
    """
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}z.{digits}f}{spread}"  # z: no negative zeros
