"""The YAML files of the package (search spaces, budgets and recipes), found by name or by path."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from nas.support.errors import InputError, nearest, reason_of
from nas.support.paths import with_paths

ZOO = "zoo:"  # prefix of the names of supernets in the package
RENEWED = "delete it, and the next search renews it"  # what to do about a damaged file of a search
# Values that one file may hold by naming others again (`&a`, `*a`), beside those that are written out
_MOST_REPEATED = 100_000
_MOST_DIGITS = 3000
_PACKAGE = Path(__file__).resolve().parents[1]


def folder(kind: str) -> Path:
    """The folder of shipped files of one kind: inside an installed package, or beside it in a checkout."""
    inside = _PACKAGE / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def shipped(kind: str) -> list[str]:
    """The names of the shipped files of one kind (`search_spaces`, `budgets` or `recipes`), sorted."""
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


@with_paths
def find(kind: str, name: str | Path) -> Path:
    """The YAML file of a name: the user's own path, or otherwise a shipped name.

    Args:
        kind: folder of the shipped files, such as `search_spaces`.
        name: the path, or the shipped name.

    Raises:
        InputError: there is no such file, or no such shipped name.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise InputError(f"There is no file {path}: give the path of a YAML file or a shipped name.")
        return path
    if (path / "codec.yaml").is_file():  # an exported codec's folder is a space of one
        return path / "codec.yaml"
    if str(name).startswith(ZOO) and kind == "search_spaces":
        raise InputError(
            f"{name} is a trained supernet, not a search space: give a space, and --init-from {name} "
            "to begin with its weights."
        )
    if str(name) not in shipped(kind):  # a name may be longer than a file's, or lead elsewhere
        what = kind.removesuffix("s").replace("_", " ")
        raise InputError(f"There is no {what} named '{name}': {nearest(str(name), shipped(kind))}")
    return folder(kind) / f"{name}.yaml"


def read_yaml(path: Path, *, spaced: bool = False) -> dict[str, Any]:
    """Read a YAML file as a mapping.

    Args:
        path: the file.
        spaced: refuse lists such as [1,5], which may be meant as one number.

    Raises:
        InputError: it cannot be read, is not YAML, has a name twice, or holds something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid YAML: it is not text in UTF-8.") from error
    content = parse_yaml(text, str(path), spaced=spaced)
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold 'name: value' lines, and {_held(content)}.")
    return content


def parse_yaml(text: str, source: str, *, spaced: bool = False) -> Any:
    """Parse YAML into plain values.

    Args:
        text: the YAML.
        source: name of the text in messages.
        spaced: see `read_yaml`.

    Raises:
        InputError: not YAML, or a name that stands twice in one mapping.
    """
    try:
        return copy.deepcopy(_parsed(text, source, spaced))
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise InputError(f"{source} is not valid YAML ({where}{error.problem}): correct it.") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise InputError(f"{source} is not valid YAML ({reason_of(error)}): correct it.") from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # what constructors of tags raise
        raise InputError(f"{source} is not valid YAML (a value does not fit its tag): correct it.") from error


@lru_cache(maxsize=64)
def _parsed(text: str, source: str, spaced: bool) -> Any:
    """Parse YAML, with a cache: a run's files are read many times, and reading YAML is slow."""
    loader = _Loader(text, source, spaced)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        loader.count(node, len(text) + _MOST_REPEATED, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


@contextmanager
def errors_as_damage(path: Path, remedy: str) -> Iterator[None]:
    """Context that turns errors from a damaged file into an `InputError`.

    Args:
        path: the file.
        remedy: advice for the message.

    Raises:
        InputError: in place of what taking a content of another form apart raises, and of an InputError that
            does not name the file.
    """
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        reason = str(error).rstrip(".").removesuffix(f": {remedy}")
        raise InputError(f"{path} is damaged ({reason}): {remedy}.") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {remedy}.") from error


def finite_number(value: Any) -> float:
    """Check a number from a file.

    Args:
        value: the content of the file.

    Raises:
        ValueError, OverflowError: it is no number, or not finite: see `errors_as_damage`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _held(content: Any) -> str:
    kinds = {list: "a list", str: "text alone", int: "a number", float: "a number"}
    return "is empty" if content is None else f"holds {kinds.get(type(content), 'something else')}"


class _Loader(yaml.SafeLoader):
    """Loads plain values and refuses ambiguous YAML: equal names, 010 (which means 8), 1:30 (which means 90).

    Args:
        text: the YAML.
        source: name of the text in messages.
        spaced: see `read_yaml`.
    """

    def __init__(self, text: str, source: str, spaced: bool) -> None:
        super().__init__(text)
        self.source, self.spaced = source, spaced

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                raise self._refused(key, f"`{key.value}` is set twice; set it once")
            names.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_sequence(self, node: Any, deep: bool = False) -> list[Any]:
        for one, other in itertools.pairwise(node.value if self.spaced else ()):
            close = other.start_mark.index - one.end_mark.index == 1
            if close and f"{one.value}"[-1:].isdigit() and f"{other.value}"[:1].isdigit():
                meant = (
                    f"for two numbers write {one.value}, {other.value} and for one {one.value}.{other.value}"
                )
                raise self._refused(one, f"{one.value},{other.value} can be read in two ways; {meant}")
        return super().construct_sequence(node, deep)

    def construct_number(self, node: Any) -> Any:
        is_whole = node.tag.endswith(":int")
        if ":" in node.value or (is_whole and re.fullmatch(r"[+-]?0[0-9_]+", node.value)):
            raise self._refused(node, f"{node.value} is not a plain number; leave out ':' and leading zeros")
        number = self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(node)
        if len(node.value) > _MOST_DIGITS:  # Python prints no longer ones, and messages do
            raise self._refused(node, "a number has too many digits; write a smaller one")
        return number

    def count(self, node: Any, most: int, counts: dict[int, int]) -> int:
        """Number of values in a node, counted as often as they are named. Refuses more than `most`."""
        if counts.setdefault(id(node), 0) or isinstance(node, yaml.ScalarNode):
            return counts[id(node)] or 1
        inside = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        counts[id(node)] = most  # should it hold itself
        counts[id(node)] = total = 1 + sum(self.count(each, most, counts) for each in inside)
        if total > most:
            raise self._refused(node, "with what it repeats (*name) it has no end; write out what is meant")
        return total

    def _refused(self, node: Any, reason: str) -> InputError:
        return InputError(f"{self.source}, line {node.start_mark.line + 1}: {reason}.")


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
