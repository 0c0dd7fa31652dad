"""What was measured on a machine, kept beside a run: one row for every time that something was timed."""

from __future__ import annotations

import csv
import io
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas import resources
from nas.errors import InputError
from nas.files import write_atomically, write_yaml

FORMAT = "nas-profile 1"
COLUMNS = ("what", "choice", "round", "seconds", "bytes")
KEPT_EVERY = 5.0  # seconds
Key = tuple[str, str]


@dataclass
class Measurements:
    """A profile's folder, `RUN/profile/DEVICE-WIDTHxHEIGHT/`: its facts, its rows, the memory of processes.

    Round 0 of everything is the warm-up; it is kept, and left out of medians.

    Attributes:
        folder: `facts.yaml` and `measured.csv`.
        facts: what the figures hold for: weights, device, size, threads, versions.
        memory: by an architecture's key, the bytes that encoding and decoding added to a process.
    """

    folder: Path
    facts: dict[str, Any]
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    _seconds: dict[Key, list[float]] = field(default_factory=dict)
    _bytes: dict[Key, int] = field(default_factory=dict)
    _kept: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Measurements:
        """What a folder holds.

        Raises:
            InputError: it holds no profile, or a damaged one.
        """
        content = resources.read_yaml(folder / "facts.yaml")
        if content.get("format") != FORMAT:
            raise InputError(f"{folder} holds a profile of another format: measure again with --force.")
        found = cls(folder, content["facts"], content.get("memory") or {})
        path = folder / "measured.csv"
        try:
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
            for row in sorted(rows, key=lambda row: int(row["round"])):
                key = row["what"], row["choice"]
                if row["seconds"]:
                    found._seconds.setdefault(key, []).append(float(row["seconds"]))
                if row["bytes"]:
                    found._bytes[key] = int(row["bytes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}): measure again with --force.") from error
        return found

    def rounds(self, what: str, choice: str) -> int:
        """How often something was timed, the warm-up included."""
        return len(self._seconds.get((what, choice), ()))

    def add(self, what: str, choice: str, seconds: float, size: int | None = None) -> None:
        """One more time of something, and the bytes of tensors it took, where they were counted."""
        self._seconds.setdefault((what, choice), []).append(seconds)
        if size is not None:
            self._bytes[what, choice] = size
        if time.monotonic() - self._kept > KEPT_EVERY:
            self.keep()

    def seconds(self, what: str, choice: str) -> float:
        """The median of the times after the warm-up; KeyError where there is none."""
        return statistics.median(self.all_seconds(what, choice))

    def all_seconds(self, what: str, choice: str) -> list[float]:
        """The times after the warm-up; KeyError where there is none."""
        found = self._seconds[what, choice][1:]
        if not found:
            raise KeyError((what, choice))
        return found

    def bytes_of(self, what: str, choice: str) -> int:
        """The most bytes of tensors at once; KeyError where they were not counted."""
        return self._bytes[what, choice]

    def of_kind(self, what: str) -> list[str]:
        """The choices something was timed at."""
        return [choice for name, choice in self._seconds if name == what]

    def keep(self) -> None:
        """Write all of it."""
        self._kept = time.monotonic()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (what, choice), times in self._seconds.items():
            size = self._bytes.get((what, choice), "")
            for number, seconds in enumerate(times):
                writer.writerow([what, choice, number, f"{seconds:.7f}", "" if number else size])
        write_atomically(self.folder / "measured.csv", text.getvalue())
        write_yaml(self.folder / "facts.yaml", {"format": FORMAT, "facts": self.facts, "memory": self.memory})
