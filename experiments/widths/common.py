"""What the experiment on widths shares: its kinds of structure, which are parts of one space."""

from __future__ import annotations

from pathlib import Path

from nas.spaces.space import SearchSpace

HERE = Path(__file__).parent
WHOLE = "per-layer-depth"
KINDS = {  # by the name of the space, what tables call it; each holds those before it
    "one-width": "one width",
    "per-edge": "a width per edge",
    "per-layer": "a width per layer",
    WHOLE: "a width per layer, depths",
}


def space_of(kind: str) -> SearchSpace:
    """The space of one kind of structure.

    Args:
        kind: one of `KINDS`.
    """
    return SearchSpace.load(HERE / "spaces" / f"{kind}.yaml")
