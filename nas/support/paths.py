"""Arguments that name files or folders: what cannot be a path is refused where it comes in."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from nas.support.errors import InputError
from nas.support.files import MOST_NAME_BYTES

P = ParamSpec("P")
R = TypeVar("R")


def with_paths(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments that a function takes as paths, before it begins.

    Those are the parameters whose annotation names `Path`. Objects that it names beside it, such as a `Run`,
    are left to the function, and so is what an iterator gives.

    Args:
        function: the function.

    Returns:
        The function, which now raises InputError for arguments that are no paths, or that no system can have.
    """
    signature = inspect.signature(function)
    taken = {
        name: str(parameter.annotation).replace("Sequence[", "Sequence | ").replace("]", "").split(" | ")
        for name, parameter in signature.parameters.items()
        if "Path" in str(parameter.annotation)
    }

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in taken:
                _check(name, value, taken[name])
        return function(*args, **kwargs)

    return checked


def _check(name: str, value: Any, kinds: list[str]) -> None:
    """InputError where an argument is of none of the kinds that its annotation names."""
    numbers = (float, int) if "float" in kinds else ()
    is_kind = {each.__name__ for each in type(value).__mro__} & {*kinds} - {"Sequence"}
    if isinstance(value, str | os.PathLike):
        check_path(name, value)
    elif "Sequence" in kinds and isinstance(value, Sequence) and not isinstance(value, bytes):
        if not value:
            raise InputError(f"`{name}` names nothing: give at least one.")
        for each in value:
            _check(name, each, [kind for kind in kinds if kind not in ("Sequence", "None")])
    elif _is_taken_as_it_is(value, kinds):
        return
    elif not (is_kind or (value is None and "None" in kinds) or isinstance(value, numbers)):
        raise InputError(f"`{name}` cannot be {value!r}: give a path, as text or a Path.")


def _is_taken_as_it_is(value: Any, kinds: list[str]) -> bool:
    """Whether it is an iterator or a mapping where the annotation allows one."""
    if isinstance(value, Mapping) and any(kind.startswith("Mapping[") for kind in kinds):
        return True
    return "Sequence" in kinds and isinstance(value, Iterable) and not isinstance(value, bytes | Mapping)


def check_path(name: str, path: str | os.PathLike[str]) -> None:
    """InputError where no file or folder can be called so, whether there is one or not.

    Args:
        name: what messages call it.
        path: the path.
    """
    text = os.fspath(path)
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
