"""What a search found best, as what training goes on with (`strategy=front`)."""

from __future__ import annotations

from nas.run import Run
from nas.spaces.space import Architecture, SearchSpace


def front_of(run: Run, space: SearchSpace) -> list[Architecture]:
    """The fronts of a searched run, of every scope, as architectures of a space; in the order of their MACs.

    Where the space has not the layout of one (the search found it, say), the layout with the nearest number
    of stages takes its place.

    Raises:
        InputError: the run has no front, or one of other widths.
    """
    best = run.front().sort_values("total_kmac_px")
    stages = {name: layout.stages() for name, layout in space.layouts.items()}
    found = []
    for key, wanted in zip(best["arch"], best["stages"], strict=True):
        widths, _, layout = key.rpartition("+layout=")
        if layout not in stages:
            layout = min(stages, key=lambda name: abs(stages[name] - wanted))
        found.append(space.parse(f"{widths}+layout={layout}"))
    return list(dict.fromkeys(found))
