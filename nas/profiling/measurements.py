"""The file of measurements beside a run: one row for each time that a codec was timed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nas.profiling.timing import disturbance_warning
from nas.spaces.architecture import Architecture
from nas.spaces.budget import THIS_MACHINE
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.files import write_atomically
from nas.support.paths import as_typed
from nas.support.resources import errors_as_damage

PROFILE_FORMAT = "nas-profile 2"
KEPT_EVERY = 10.0  # seconds
PartValues = dict[str, float]  # seconds by part: `encode g_a`, `decode context`, ...


def how_to_measure_again(path: Path) -> str:
    """The command that measures a profile again.

    Args:
        path: the profile, `RUN/profile/DEVICE-WIDTHxHEIGHT/measured.yaml`.
    """
    device, _, size = path.parent.name.rpartition("-")
    if device not in THIS_MACHINE:
        return f"nas profile {as_typed(path.parents[2])} --from FILE.csv --device-name {device} --force"
    return f"nas profile {as_typed(path.parents[2])} --size {size} --device {device} --force"


@dataclass
class Timed:
    """The measurements of one architecture's codec.

    Attributes:
        rounds: seconds by part, for every round after the warm-up.
        peaks: largest memory of tensors by part, in bytes, and `weights`: the memory of the codec itself.
        process: memory in bytes that `encode` and `decode` added to a process of their own, if it was
            measured.
    """

    rounds: list[PartValues] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)
    process: dict[str, int] = field(default_factory=dict)

    def is_sound(self) -> bool:
        """Whether all values are finite numbers by name."""
        tables: list[Mapping[str, float]] = [*self.rounds, self.peaks, self.process]
        return all(
            isinstance(value, int | float) and math.isfinite(value)
            for each in tables
            for value in each.values()
        )

    def seconds(self, action: str) -> list[float]:
        """Seconds of a whole encoding or decoding, by round.

        Args:
            action: `encode` or `decode`.
        """
        return [sum(s for part, s in parts.items() if part.startswith(action)) for parts in self.rounds]

    def median(self, action: str) -> float:
        """Seconds of a whole encoding or decoding.

        Args:
            action: `encode` or `decode`.
        """
        return statistics.median(self.seconds(action))


@dataclass
class Measurements:
    """A profile, `RUN/profile/DEVICE-WIDTHxHEIGHT/measured.yaml`.

    Attributes:
        path: the file.
        facts: conditions of the figures: weights, device, size, threads, versions.
        codecs: measurements by key of the architecture.
        checked: keys of architectures that only check predictions.
        disturbance: largest share by which other work slowed the machine down.
    """

    path: Path
    facts: dict[str, Any]
    codecs: dict[str, Timed] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    disturbance: float = 0.0
    _kept: float = 0.0

    @property
    def is_elsewhere(self) -> bool:
        """Whether the figures come from another device than this machine."""
        return self.facts["device"] not in THIS_MACHINE

    def warning(self) -> str:
        """The warning about other work that slowed the device down."""
        if self.is_elsewhere:
            return disturbance_warning(
                self.disturbance, "python time_pieces.py --out FILE.csv", self.facts["device"]
            )
        return disturbance_warning(self.disturbance, how_to_measure_again(self.path))

    @classmethod
    def read(cls, path: Path) -> Measurements:
        """Read a profile from its file.

        Args:
            path: path of the file.

        Raises:
            InputError: the file is not a profile, or is damaged.
        """
        again = f"measure again with `{how_to_measure_again(path)}`."
        try:
            # the C parser if there is one, because a profile has thousands of rows
            content = yaml.load(
                path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            )
            if content.get("format") != PROFILE_FORMAT:
                raise InputError(f"{path} has the format of another version: {again}")
            codecs = {key: Timed(**fields) for key, fields in content["codecs"].items()}
            facts, checked = dict(content["facts"]), list(content["checked"])
            whole, words = ("width", "height", "threads"), ("device", "machine")
            disturbance = float(content.get("disturbance", 0))  # earlier versions did not store it
            sound = all(isinstance(facts[name], int) for name in whole)
            sound &= all(isinstance(word, str) for word in (*(facts[name] for name in words), *checked))
            if not (
                sound and all(each.is_sound() for each in codecs.values()) and math.isfinite(disturbance)
            ):
                raise ValueError
            return cls(path, facts, codecs, checked, disturbance)
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"Cannot read {path} ({error.strerror or error}): {again}") from error
        except (
            *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
            yaml.YAMLError,
        ) as error:
            raise InputError(f"{path} is damaged: {again}") from error

    def of(self, key: str) -> Timed:
        """The record of one architecture, which may be extended.

        Args:
            key: key of the architecture.
        """
        return self.codecs.setdefault(key, Timed())

    def by_architecture(self, space: SearchSpace) -> dict[Architecture, Timed]:
        """The records by architecture.

        Args:
            space: the space of the run that was measured.

        Raises:
            InputError: a key is none of the space.
        """
        with errors_as_damage(self.path, "measure again with `nas profile`, and --force"):
            return {space.parse(key): timed for key, timed in self.codecs.items()}

    def add(self, key: str, parts: Mapping[str, float]) -> None:
        """Add one round of one architecture.

        Args:
            key: key of the architecture.
            parts: seconds by part.
        """
        self.of(key).rounds.append({part: round(seconds, 7) for part, seconds in parts.items()})
        if time.monotonic() - self._kept > KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        """Write the file."""
        self._kept = time.monotonic()
        content = {
            "format": PROFILE_FORMAT,
            "facts": self.facts,
            "checked": self.checked,
            "disturbance": round(self.disturbance, 4),
            "codecs": {key: vars(timed) for key, timed in self.codecs.items()},
        }
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(content, Dumper=dumper, sort_keys=False, width=110, default_flow_style=None)
        write_atomically(self.path, text)
