"""Results of an unfinished evaluation: one line each in a file beside those that it will write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from nas.comparison.evaluate import PhotoResult
from nas.comparison.formats import FormatResult
from nas.support.errors import InputError
from nas.support.files import digest

Result = TypeVar("Result", PhotoResult, FormatResult)


class PartialResults:
    """Results by what they are of, on disk as soon as they are known.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            for line in path.read_bytes().splitlines():
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = dict(entry["result"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # the line that was being written when the power went

    def once(self, kind: type[Result], measure: Callable[[], Result], *identity: object) -> Result:
        """An earlier result, or a new one.

        Args:
            kind: kind of the result.
            measure: makes a new one.
            identity: all that the result depends on.

        Raises:
            InputError: the new result cannot be kept.
        """
        key = digest(kind.__name__, *map(str, identity), size=12)
        if (known := _result(kind, self._known.get(key))) is not None:
            return known
        result = measure()
        if self.path is not None:
            line = json.dumps({"key": key, "result": asdict(result)})
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(f"\n{line}")  # first, so that half a line stays alone
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise InputError(f"Cannot write {self.path}: {error.strerror}.") from error
        return result

    def clear(self) -> None:
        """Remove the file: what it kept stands elsewhere now."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _result(kind: type[Result], values: Mapping[str, Any] | None) -> Result | None:
    """An earlier result; None where there is none, or only a damaged one."""
    types = get_type_hints(kind)
    if values is None or values.keys() != types.keys():
        return None
    for name, value in values.items():
        allowed = (int, float) if types[name] is float else types[name]
        if isinstance(value, bool) or not isinstance(value, allowed):
            return None
    return kind(**values)
