"""Slots (searchable choices) and architectures (one choice for every slot). No torch here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nas.support.errors import InputError


@dataclass(frozen=True)
class Slot:
    """One searchable choice, such as a width.

    Attributes:
        name: name of the slot, as in keys.
        candidates: widths or numbers of blocks, rising.
        layers: the choices of the family that the slot sets, each with the factor of its width.
    """

    name: str
    candidates: tuple[int, ...]
    layers: tuple[tuple[str, float], ...]

    def widths(self, choice: int) -> dict[str, int]:
        """The widths (or numbers of blocks) of all layers that this slot sets, for one candidate.

        Args:
            choice: value of the candidate.
        """
        return {layer: round(factor * choice) or min(1, choice) for layer, factor in self.layers}


@dataclass(frozen=True)
class Architecture:
    """One point of a search space: a choice for every slot, and a layout. Immutable and hashable.

    Make one with `SearchSpace.parse`, `widest`, `narrowest`, `uniform` or `sample`.

    Args:
        widths: pairs of a slot's name and the chosen candidate, in the order of the space's slots.
        layout: name of the layout.

    Example:
        >>> space = nas.SearchSpace.load("joint-ar-tiny")
        >>> space.narrowest().key
        'g_a=8-8-8+h_a=8-8+h_s=8-12+g_s=8-8-8+entropy_parameters=32-32+layout=none'
    """

    widths: tuple[tuple[str, int], ...]
    layout: str

    @cached_property
    def key(self) -> str:
        """A short readable name, safe in shells, CSV and file names. `SearchSpace.parse` reads it."""
        edges: dict[str, list[str]] = {}
        for slot, width in self.widths:
            edges.setdefault(slot.split(".")[0], []).append(str(width))
        return "+".join(f"{edge}={'-'.join(w)}" for edge, w in edges.items()) + f"+layout={self.layout}"

    def __str__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f"Architecture({self.key!r})"


def differences(keys: Sequence[str]) -> list[str]:
    """The parts of architectures' keys in which they differ."""
    parts = [key.split("+") for key in keys]
    return ["+".join(part for part in own if not all(part in other for other in parts)) for own in parts]


_PIECE = re.compile(r"[A-Za-z][A-Za-z0-9_]*=[^+=]*")
_LAYOUT = re.compile(r"[A-Za-z0-9._-]+")
_WIDTHS = re.compile(r"[0-9]{1,9}(-[0-9]{1,9})*")
EXAMPLE_KEY = "g_a=32-32+layout=raster"


def split_key(key: str, example: str = EXAMPLE_KEY) -> tuple[dict[str, tuple[int, ...]], str]:
    """The widths by edge and the name of the layout in a key. No space is needed.

    Args:
        key: key of an architecture.
        example: a key for the error message.

    Raises:
        InputError: the string is not an architecture's key.
    """
    pieces = str(key).split("+")
    parts = dict(piece.partition("=")[::2] for piece in pieces)
    layout = parts.pop("layout", None)
    if (
        not all(map(_PIECE.fullmatch, pieces))
        or not parts
        or len(pieces) - len(parts) != (layout is not None)
    ):
        raise InputError(f"'{str(key)[:60]}' is not an architecture's key: keys look like {example}")
    if layout is None:
        raise without_layout(key, example)
    if not _LAYOUT.fullmatch(layout):
        raise InputError(f"'layout={layout}' is not a part of a key: after '=' comes the name of a layout.")
    for edge, widths in parts.items():
        if not _WIDTHS.fullmatch(widths):
            raise InputError(
                f"'{edge}={widths}' is not a part of a key: after '=' come widths joined by '-'."
            )
    return {edge: tuple(map(int, widths.split("-"))) for edge, widths in parts.items()}, layout


def without_layout(key: str, example: str) -> InputError:
    """The error to raise for a key that lacks nothing but its layout.

    Args:
        key: the key.
        example: a whole key, for the error message.
    """
    return InputError(f"The key '{key}' has no layout: add one at its end, such as +{example.split('+')[-1]}")


DEFAULT_STAGES = (16, 12, 10, 8, 6, 4, 3, 2, 1)  # of layouts that are found, if the space has no `grouping`


@dataclass(frozen=True)
class Grouping:
    """Settings of the layout search.

    Args:
        groups: number of channel groups of equal size.
        tile: rows and columns of the tile.
        stages: for each of these numbers of stages, the best layout is kept.
    """

    groups: int = 4
    tile: tuple[int, int] = (2, 2)
    stages: tuple[int, ...] = DEFAULT_STAGES
