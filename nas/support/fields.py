"""Checks fields of YAML files and settings with pydantic. Errors are one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nas.support.errors import InputError, nearest
from nas.support.limits import is_absurd

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str, ...]

# A union's location also names the alternative that was tried: no word of the user's
_ALTERNATIVES = re.compile(r"(list|dict)\[.*|constrained-.*|int|float|str|_.*")
_KIND_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number that is finite",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "'name: value' lines",
    "model": "'name: value' lines",
}


class Strict(BaseModel):
    """Fields of a YAML file that has no others; its numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, populate_by_name=True)


def validated(model: type[Model], content: Mapping[str, Any], source: str) -> Model:
    """Check and convert the fields of `content`.

    Args:
        model: the pydantic model of the fields.
        content: names and values, as in a YAML file.
        source: beginning of error messages.

    Raises:
        InputError: a field or value is wrong. The message names the first one, and what is allowed.
    """
    for name in _names(content):
        if not isinstance(name, str):
            shown = "nothing" if name is None else name
            raise InputError(f"{source} the name {shown} is not text in YAML: correct it, or quote it.")
    switches = {name for name, field in model.model_fields.items() if field.annotation is bool}
    for path, value in _leaves(content):
        if isinstance(value, bool) and path[0] not in switches:  # pydantic takes it for 1 or 0
            given = str(value).lower()
            raise InputError(
                f"{source} `{'.'.join(path)}` cannot be {given}: YAML reads yes, no, on, off, true and false "
                "as such, so write a number, or quote the word."
            )
    try:
        checked = model.model_validate(dict(content))
    except ValidationError as error:
        raise InputError(f"{source} {_sentence(error, model)}") from error
    unchecked = {name for name, field in model.model_fields.items() if field.annotation is Any}
    for path, value in _leaves(content):
        if is_absurd(value) and path[0] not in unchecked:
            raise InputError(
                f"{source} `{'.'.join(path)}` has a number of too many digits: write a smaller one."
            )
    return checked


def _names(value: Any) -> Iterator[Any]:
    """The names of all mappings in a value."""
    if isinstance(value, Mapping):
        yield from value
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for inner in inside:
        yield from _names(inner)


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is neither a list nor a mapping, with the names on the way to it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that pydantic found wrong: the field, the value, what is allowed."""
    problems = error.errors()
    first: Mapping[str, Any] = min(problems, key=lambda each: each["type"] != "extra_forbidden")
    path = _path(first)
    if first["type"] == "extra_forbidden":
        hint = f": {nearest('.'.join(path), model.model_fields)}" if len(path) == 1 else "."
        return f"there is no field `{'.'.join(path)}`{hint}"
    # Of alternatives, the one that came furthest was meant
    meant = [each for each in problems if _path(each)[: len(path)] == path]
    path = max(map(_path, meant), key=len)
    meant = [each for each in meant if _path(each) == path]
    first = meant[0]
    field = _field(first)
    if first["type"] == "missing":
        return f"the field {field} is missing."
    if not field:
        return str(first["msg"]).removeprefix("Value error, ")
    demand = _demand(meant)
    hint = _hint(first["input"]) if demand.endswith("number") else ""
    return f"{field} {demand} (given: {_shown(first['input'])}).{hint}"


def _field(error: Mapping[str, Any]) -> str:
    """The field's name for people: `widths.g_a`, or an item of a list."""
    names = [part for part in error["loc"] if not isinstance(part, int)]
    items = [f"item {part + 1} of " for part in error["loc"] if isinstance(part, int)]
    name = ".".join(_path({"loc": names}))
    return f"{''.join(reversed(items))}`{name}`" if name else ""


def _path(error: Mapping[str, Any]) -> Path:
    return tuple(str(part) for part in error["loc"] if not _ALTERNATIVES.fullmatch(str(part)))


def _demand(errors: list[Any]) -> str:
    """The allowed values, in the words of all possible alternatives."""
    kinds = [_KIND_NAMES.get(error["type"].partition("_")[0]) for error in errors]
    expected = list(dict.fromkeys(kind for kind in kinds if kind))
    if len(expected) > 1 and "a number" in expected and "a whole number" in expected:
        expected.remove("a whole number")
    if expected:
        return f"should be {', '.join(expected[:-1])}{' or ' if expected[:-1] else ''}{expected[-1]}"
    message = str(errors[0]["msg"])
    for start in ("Value error, ", "Input ", "List ", "Tuple ", "Dictionary "):
        message = message.removeprefix(start)
    return re.sub(r" after validation, not \d+$", "", message)


def _shown(value: Any) -> str:
    """A value as people write it in YAML, shortened."""
    if value is None:
        return "nothing"
    if any(is_absurd(leaf) for _, leaf in _leaves(value)):
        return "a number of too many digits"
    return repr(value)[:60] if isinstance(value, str | int | float | list | dict) else str(value)[:60]


def _hint(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+,[0-9]+", value.strip()):
        return f" Decimals have a point: {value.strip().replace(',', '.')}."
    return ""
