"""The export commands that a search prints for its answers."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from nas.profiling.quantities import Question
from nas.searching.answers import Choice
from nas.spaces.budget import REFERENCE_SIZE, THIS_MACHINE

SHORT = 6  # characters of a target that is told as it is


def export_commands(
    run: Path,
    question: Question,
    choices: Sequence[Choice],
    budget: str | None,
    target: str | None,
    scope: str | None,
    limits: Sequence[str] = (),
) -> list[str]:
    """Return the commands that export a search's answers, ready to be typed.

    Args:
        run: folder of the run.
        question: the question that the search answered.
        choices: the answers.
        budget, target, scope, limits: options of the search.
    """
    start = f"nas export {shlex.quote(str(run))}"
    given = {"budget": [budget] if budget else [], "target": [target] if target else []}
    given |= {"scope": [scope] if scope else [], "limit": list(limits)}
    words = "".join(f" --{name} {shlex.quote(value)}" for name, values in given.items() for value in values)
    if budget is None and target is None and not limits:
        least, _, most = question.span
        quantity = question.quantity
        span = f"{quantity.format_number(least, least=True)} to {quantity.format(most)}"
        return [f"{start} --target T{words} --out codec    (T from {span})"]
    if budget is None:
        choices = choices[:1]
    if len(choices) == 1:
        return [f"{start}{words} --out codec"]
    commands: dict[str, str] = {}
    for number, choice in enumerate(choices, 1):
        # `--target` refuses a target that limits nothing; without one, export takes the largest
        counts = choice.target * choice.quantity.per_unit <= question.span[2]
        named = f" --target {shlex.quote(_typed(choice))}" if counts else ""
        commands.setdefault(named, f"{start}{words}{named} --out codec-{number}")
    return list(commands.values())


def _typed(choice: Choice) -> str:
    """A target as one types it on the command line: rounded down if that leaves the answer as it is."""
    quantity, target = choice.quantity, choice.target
    if len(f"{target:.10g}") > SHORT and quantity.per_unit > 1:
        digits = max(0, 3 - math.floor(math.log10(target)))
        shorter = math.floor(target * 10**digits) / 10**digits
        if quantity.of(choice.architecture) <= quantity.to_integer(shorter):
            target = shorter
    unit = "" if quantity.unit == "kMAC/px" else quantity.unit
    match = re.match(r"at ([0-9]+x[0-9]+)(?: on ([A-Za-z0-9-]+))?", quantity.where)
    device = f"@{match[2]}" if match and match[2] and match[2] not in THIS_MACHINE else ""
    where = device + (f" at {match[1]}" if match and match[1] != "{}x{}".format(*REFERENCE_SIZE) else "")
    return f"{target:.10g} {unit}".strip() + where
