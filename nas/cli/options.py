"""Options that several commands share, and the examples at the end of their help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from nas.support.limits import MOST_EFFORT, check_seed

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of text.")]
Seed = Annotated[int, typer.Option(help="Seed for all random choices.", callback=check_seed)]
Device = Annotated[str, typer.Option(help="Where to compute: auto (a GPU if there is one), cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]
Effort = Annotated[
    int,
    typer.Option(
        min=0,
        max=MOST_EFFORT,
        help="0 to 10: how long to search for better latents of each picture. Files become smaller for the "
        "same quality, and decode everywhere and as fast as before.",
    ),
]


MoreLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="LIMIT",
        help="A further limit, beside the target or those of the budget, such as 'stages <= 4' or "
        "'encoder <= 9'; repeatable.",
    ),
]


EXAMPLES: dict[Callable[..., None], str] = {}  # by command, for the end of its help
Verb = TypeVar("Verb", bound=Callable[..., None])


def example(*lines: str) -> Callable[[Verb], Verb]:
    """Add an example to the help of a command.

    Args:
        lines: commands.
    """

    def noted(verb: Verb) -> Verb:
        # \b keeps the lines as they are
        EXAMPLES[verb] = "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
        return verb

    return noted
