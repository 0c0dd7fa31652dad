"""Opens runs for the commands: a `Run`, its folder, or a supernet of the package."""

from __future__ import annotations

from pathlib import Path

from nas.run import Run
from nas.shipped import in_zoo, zoo_names, zoo_run
from nas.support.errors import InputError
from nas.support.resources import ZOO


def opened(run: Run | str | Path) -> Run:
    """Open the given run.

    Raises:
        InputError: it does not exist.
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
        The names, in the form that `nas.search` and `nas.info` accept.

    Example:
        >>> nas.zoo()
        ['zoo:joint-ar-small', 'zoo:joint-ar-tiny', 'zoo:patch']
    """
    return [f"{ZOO}{name}" for name in zoo_names()]
