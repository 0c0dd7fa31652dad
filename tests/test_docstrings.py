"""Docstrings of public names: every function tells its arguments and errors, and every example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.shipped import copied, zoo_run

# What a caller need not be told again: it is the object itself, or means the same everywhere
UNSAID = {"self", "cls"}
LIGHT = ("Architecture", "Budget", "InputError", "NasError", "SearchSpace")  # their examples need no torch
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def public() -> Iterator[tuple[str, Any]]:
    """Every public name, and every public method of public classes, with the object."""
    for name in nas.__all__:
        value = getattr(nas, name)
        yield name, value
        if inspect.isclass(value):
            for own, member in vars(value).items():
                if not own.startswith("_") and callable(getattr(value, own)):
                    yield f"{name}.{own}", getattr(member, "__func__", member)


@pytest.mark.parametrize(
    ("name", "value"), list(public()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_docstring_tells_every_argument(name: str, value: Any) -> None:
    text = inspect.getdoc(value)
    assert text
    if issubclass(value, Exception) if inspect.isclass(value) else False:
        return
    arguments = [each for each in inspect.signature(value).parameters if each not in UNSAID]
    section = text.partition("Args:")[2]
    if len(arguments) > 1 or section:
        for argument in arguments:
            assert f"{argument}:" in section, argument


@pytest.mark.parametrize("name", [name for name in nas.__all__ if inspect.isfunction(getattr(nas, name))])
def test_a_docstring_tells_what_a_function_returns_and_refuses(name: str) -> None:
    """`zoo` refuses nothing; what `load_...` gives stands in its first sentence."""
    text = str(inspect.getdoc(getattr(nas, name)))
    assert name.startswith("load_") or "Returns:" in text
    assert name == "zoo" or "Raises:" in text


def examples(name: str) -> doctest.DocTest:
    value = getattr(nas, name)
    finder = doctest.DocTestFinder(recurse=True)
    module = importlib.import_module(value.__module__)
    found = [test for test in finder.find(value, name, module=module, globs={"nas": nas}) if test.examples]
    whole = found[0] if found else None
    assert whole is not None, f"{name} has no example"
    for other in found[1:]:
        whole.examples += other.examples
    return whole


def run(test: doctest.DocTest) -> None:
    said: list[str] = []
    done = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert done.failed == 0, "".join(said)


@pytest.mark.parametrize("name", [name for name in LIGHT if name != "NasError"])
def test_examples_that_need_no_weights(name: str) -> None:
    run(examples(name))


@pytest.mark.slow
def test_examples_on_a_run_and_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copied(zoo_run("zoo:joint-ar-tiny"), tmp_path / "runs" / "a")
    nas.load_run("runs/a").export("codecs/a", target="40%")
    for name in nas.__all__:
        if name not in LIGHT:
            run(examples(name))
