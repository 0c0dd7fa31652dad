"""Moves architectures between search spaces of the same family."""

from __future__ import annotations

from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace


def same_network(source: SearchSpace, architecture: Architecture, space: SearchSpace) -> Architecture:
    """Find the architecture of another space that is the same network.

    Args:
        source: space of the architecture.
        architecture: the architecture.
        space: the other space. Its slots may set layers that `source` does not have; those stay narrow.

    Raises:
        SystemExit: a layer has a width that the other space lacks.
    """
    widths = source.layer_widths(architecture)
    places = []
    for slot in space.slots:
        fitting = (
            place
            for place, candidate in enumerate(slot.candidates)
            if all(widths.get(layer, width) == width for layer, width in slot.widths(candidate).items())
        )
        place = next(fitting, None)
        if place is None:
            raise SystemExit(f"{space.name} cannot have {slot.name} as {architecture.key} has it.")
        places.append(place)
    return space.at([*places, space.layout_names.index(architecture.layout)])
