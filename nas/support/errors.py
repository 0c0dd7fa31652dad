"""What the toolkit raises when it is given something it cannot use."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class NasError(Exception):
    """Base class of every error that this package raises on purpose."""


class InputError(NasError, ValueError):
    """Wrong input. The message says in one plain sentence what is wrong and what to do.

    Commands print the message and end with exit status 2. It is also a ValueError.

    Example:
        >>> nas.SearchSpace.load("joint-ar-tinny")
        Traceback (most recent call last):
        nas.support.errors.InputError: ...
    """

    def __str__(self) -> str:
        return on_one_line(super().__str__())


def on_one_line(text: str) -> str:
    """A message that repeats what was given: that may hold line ends, or what a terminal takes for a command.

    A word that is longer than a name of a file can be is cut.

    Args:
        text: the message.
    """
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: repr(match[0])[1:-1], text)
    return re.sub(r"([^\s/]{60})[^\s/]{240,}", r"\1...", shown)


class UnreachableBudgetError(InputError):
    """No architecture of the space satisfies the budget; the message names the reachable range."""


class InputWarning(UserWarning):
    """Something about the input that is worth knowing, in one plain sentence; the work goes on."""


def is_outside(error: BaseException) -> bool:
    """Whether an error tells nothing about what was worked on: it was stopped, or a file was not written."""
    written = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
    return written or not isinstance(error, Exception)


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest known ones, or all of them where none is close.

    Args:
        name: the name that was given.
        names: the names that there are.
    """
    name, names = str(name), list(dict.fromkeys(names))  # a budget and a recipe may share a name
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose one of: {', '.join(names)}." if names else "none is known."
