"""A run as the verbs take it: itself, its folder, or one of those that the package carries."""

from __future__ import annotations

from pathlib import Path

from nas.run import Run
from nas.shipped import in_zoo, zoo_names, zoo_run
from nas.support.errors import InputError
from nas.support.resources import ZOO


def opened(run: Run | str | Path) -> Run:
    """The run that is meant.

    Raises:
        InputError: there is none.
    """
    if isinstance(run, Run):
        return run
    if in_zoo(run):
        return zoo_run(run)
    if str(run) in zoo_names() and not Path(run).exists():
        raise InputError(
            f"There is no run {run} here: `nas search {ZOO}{run}` makes one from the supernet in the package."
        )
    return Run.open(run)


def zoo() -> list[str]:
    """Return the names of the supernets that the package carries.

    Returns:
        Their names as `nas.search` and `nas.info` take them.

    Example:
        >>> nas.zoo()
        ['zoo:joint-ar-small', 'zoo:joint-ar-tiny', 'zoo:patch']
    """
    return [f"{ZOO}{name}" for name in zoo_names()]
