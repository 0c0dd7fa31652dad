"""Checks arguments of public functions: values that are not paths, switches or single values are refused."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from nas.support.errors import InputError
from nas.support.files import MOST_NAME_BYTES, MOST_PATH_BYTES
from nas.support.limits import is_absurd

P = ParamSpec("P")
R = TypeVar("R")
PLAIN = {"str", "int", "float", "bool", "None"}


def with_paths(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a function before it begins.

    Where the annotation names `Path`, an argument has to be a path. Objects that it names beside it, such as
    a `Run`, are left to the function. Where it names a sequence, an iterator is read to its end, and all that
    it gives is checked. Where it names `bool` alone, an argument has to be True or False: the text "no" would
    count as yes. Where it names only plain kinds, an argument has to be a single value, and no array. Where
    these are `float` without `str`, it has to be a number.

    Args:
        function: the function.

    Returns:
        The function, which now raises InputError for other arguments, and for paths that no system can have.
    """
    signature = inspect.signature(function)
    taken = {
        name: str(parameter.annotation).replace("Sequence[", "Sequence | ").replace("]", "").split(" | ")
        for name, parameter in signature.parameters.items()
        if "Path" in str(parameter.annotation)
    }

    plain = {
        name: kinds
        for name, parameter in signature.parameters.items()
        if (kinds := set(str(parameter.annotation).split(" | "))) <= PLAIN
    }

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:  # named as Python names it
            raise TypeError(f"{function.__name__}() {error}") from None
        for name, value in list(bound.arguments.items()):
            if is_absurd(value):
                raise InputError(f"`{name}` cannot be so large a number: give a smaller one.")
            if name in taken:
                bound.arguments[name] = value = _listed(name, value, taken[name])
                _check(name, value, taken[name])
                bound.arguments[name] = _as_path(value)
            elif name in plain:
                _check_plain(name, value, plain[name])
        return function(*bound.args, **bound.kwargs)

    return checked


def _check(name: str, value: Any, kinds: list[str]) -> None:
    """Raise InputError if an argument has none of the types of its annotation."""
    numbers = (float, int) if "float" in kinds else ()
    is_kind = {each.__name__ for each in type(value).__mro__} & {*kinds} - {"Sequence"}
    if isinstance(value, str | os.PathLike):
        check_path(name, value)
    elif "Sequence" in kinds and isinstance(value, Sequence) and not isinstance(value, bytes):
        if not value:
            raise InputError(f"`{name}` names nothing: give at least one.")
        for each in value:
            _check(name, each, [kind for kind in kinds if kind not in ("Sequence", "None")])
    elif isinstance(value, Mapping) and any(kind.startswith("Mapping[") for kind in kinds):
        return
    elif not (is_kind or (value is None and "None" in kinds) or isinstance(value, numbers)):
        raise InputError(f"`{name}` cannot be {value!r}: give a path, as text or a Path.")


def _as_path(value: Any) -> Any:
    """A `Path` of any other object that stands for a path, also in a list: `str` of it would not be one."""
    if isinstance(value, list | tuple):
        return [_as_path(each) for each in value]
    return Path(value) if isinstance(value, os.PathLike) else value


def _check_plain(name: str, value: Any, kinds: set[str]) -> None:
    """InputError where an argument is an array, or no switch or number although its annotation names one."""
    if getattr(value, "shape", ()) != ():
        raise InputError(f"`{name}` cannot be an array or a table: give a single value.")
    # NumPy's bool is no subclass of Python's
    is_switch = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
    if kinds == {"bool"} and not is_switch:
        raise InputError(f"`{name}` cannot be {value!r}: give True or False.")
    # Functions themselves say how large a whole number may be
    is_missing = value is None and "None" in kinds
    is_number = isinstance(value, Real) and not is_switch
    if "float" in kinds and "str" not in kinds and not (is_missing or is_number):
        raise InputError(f"`{name}` cannot be {value!r}: give a number.")


def _listed(name: str, value: Any, kinds: list[str]) -> Any:
    """A list of what an iterator or an array gives, where the annotation allows several."""
    of_one = isinstance(value, str | bytes | os.PathLike | Sequence | Mapping)
    if "Sequence" not in kinds or of_one or not isinstance(value, Iterable):
        return value
    try:
        return list(value)
    except TypeError as error:  # an array of no dimension
        raise InputError(f"`{name}` cannot be {value!r}: give a path, as text or a Path.") from error


def texts_of(name: str, given: Iterable[str] | None) -> list[str]:
    """Several texts as a list: one where a text is given, none where None is.

    Args:
        name: name of the argument in messages.
        given: the texts.

    Raises:
        InputError: they are not several, or one of them is not a text.
    """
    several = (
        isinstance(given, Iterable) and not isinstance(given, str) and getattr(given, "shape", None) != ()
    )
    texts = list(given) if several and given is not None else [given]
    if given is not None and not all(isinstance(text, str) for text in texts):
        raise InputError(f"`{name}` cannot be {given!r}: give texts.")
    return [] if given is None else [str(text) for text in texts]


def as_typed(path: str | os.PathLike[str]) -> str:
    """A path in the form for a shell: in quotes if it has spaces or other special characters.

    Args:
        path: the path.
    """
    return shlex.quote(os.fspath(path))


def check_path(name: str, path: str | os.PathLike[str]) -> None:
    """Raise InputError if no file or folder can have this name, whether it exists or not.

    Args:
        name: name of the argument in messages.
        path: the path.
    """
    text = os.fspath(path)
    if text == "":  # pathlib would take it for the current folder
        raise InputError(f"`{name}` is empty: give a path. A variable of the shell may be unset.")
    try:
        encoded = os.fsencode(text)
    except ValueError:
        encoded = b"\0"
    if isinstance(text, bytes) or b"\0" in encoded:
        raise InputError(f"`{name}` cannot be {text!r}: no file can be called so.")
    longest = max(map(len, encoded.split(os.sep.encode())))
    if longest > MOST_NAME_BYTES:
        raise InputError(
            f"`{name}` has a name of {longest} bytes, {text[:30]}...: at most {MOST_NAME_BYTES} work."
        )
    if len(encoded) > MOST_PATH_BYTES:
        raise InputError(
            f"`{name}` is a path of {len(encoded)} bytes, {text[:30]}...: at most {MOST_PATH_BYTES} work."
        )
