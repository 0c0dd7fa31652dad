"""The kinds of structure in the experiment on widths. All are parts of one space."""

from __future__ import annotations

from pathlib import Path

from nas.spaces.space import SearchSpace

HERE = Path(__file__).parent
WHOLE = "per-layer-depth"
KINDS = {  # titles in tables by name of the space; each space contains the one before it
    "one-width": "one width",
    "per-edge": "a width per edge",
    "per-layer": "a width per layer",
    WHOLE: "a width per layer, depths",
}


def space_of(kind: str) -> SearchSpace:
    """Load the space of one kind of structure.

    Args:
        kind: one of `KINDS`.
    """
    return SearchSpace.load(HERE / "spaces" / f"{kind}.yaml")
