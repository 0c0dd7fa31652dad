"""The errors and warnings of the toolkit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

MOST_WORD = 300  # characters in a row without a space; the longest keys of architectures have fewer
MOST_MESSAGE = 1000  # characters of a message: a hint with all names of a kind takes 850
_WORD = re.compile(rf"\S{{{MOST_WORD + 1},}}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def in_one_line(message: str) -> str:
    """A message as a terminal may show it, whatever text of somebody else it quotes.

    What was given may have thousands of characters, line ends, or what a terminal takes for a command.

    Args:
        message: the message.

    Returns:
        The message without control characters and marks that reverse text; long words, and then the whole,
        lack their middle.
    """
    message = _CONTROLS.sub(lambda match: repr(match[0])[1:-1], message)
    message = _WORD.sub(lambda match: _without_middle(match[0], 160), message)
    return message if len(message) <= MOST_MESSAGE else _without_middle(message, MOST_MESSAGE)


def _without_middle(text: str, most: int) -> str:
    """The beginning and the end of a text, so many characters in all."""
    dots = " ... " if " " in text else "..."
    begin = 3 * most // 5
    return text[:begin] + dots + text[len(text) - (most - begin - len(dots)) :]


class NasError(Exception):
    """Base class of all errors that this package raises on purpose."""


class InputError(NasError, ValueError):
    """Wrong input. The message says in one plain sentence what is wrong and what to do.

    Commands print the message and end with exit status 2. It is also a ValueError.

    Example:
        >>> nas.SearchSpace.load("joint-ar-tinny")
        Traceback (most recent call last):
        nas.support.errors.InputError: ...
    """

    def __str__(self) -> str:
        return in_one_line(super().__str__())


class SeveralInputsError(InputError):
    """Several inputs are wrong. The message names all of them, however many there are.

    Args:
        what: what is wrong with all of them.
        messages: a message for each of them.
    """

    def __init__(self, what: str, messages: Sequence[str]) -> None:
        super().__init__(what, messages)
        self._what, self._messages = what, messages

    def __str__(self) -> str:
        each = (in_one_line(message).rstrip(".") for message in self._messages)
        return f"{in_one_line(self._what)}: {'; '.join(each)}."


class UnreachableBudgetError(InputError):
    """No architecture of the space meets the budget. The message gives the reachable range."""


class InputWarning(UserWarning):
    """Something about the input that is worth knowing, in one sentence. The work continues."""

    def __str__(self) -> str:
        return in_one_line(super().__str__())


def is_outside(error: BaseException) -> bool:
    """Whether an error comes from outside: an interruption, or a file that cannot be written."""
    written = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
    return written or not isinstance(error, Exception)


def reason_of(error: BaseException) -> str:
    """Why a file cannot be read, in words for a message: those of Python where they are plain.

    Args:
        error: what reading raised.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    said = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
    return "a number has too many digits" if "integer string conversion" in said else said


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest known names, or all names if none is close.

    Args:
        name: the given name.
        names: the known names.
    """
    name, names = str(name), [*filter(None, dict.fromkeys(names))]  # a budget and a recipe may share a name
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose one of: {', '.join(names)}." if names else "none is known."
