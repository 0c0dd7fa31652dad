"""The pieces of a space that are measured on a machine. Sums over them give the time of every architecture.

An edge is measured at every combination of its widths. If there are too many of them, the edge is cut into
runs of layers, and parallel branches are cut apart. Everything else (context, entropy parameters, coder) is
measured under every layout, at the ends of the entropy parameters' widths. Between the ends, their MACs are
linear in each width. All pieces are measured inside whole codecs: a few hundred architectures that together
have every combination (see `cover`).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas.spaces.architecture import Architecture
from nas.spaces.description import ENTROPY_WIDTHS, HYPER_EDGES, HYPERPRIOR, Layer, Parallel, ends, placements
from nas.spaces.space import SearchSpace
from nas.support.arrays import Floats

MOST_COMBINATIONS = 256  # of one piece; joint-ar's g_a has 216
PieceChoice = tuple[int, ...]  # an index for each of some axes


@dataclass(frozen=True)
class EdgePiece:
    """A run of consecutive layers of one edge, or of a branch in it.

    Attributes:
        name: name of the edge, with the run if it is a part of the edge.
        edge: name of the edge.
        layers: places of the layers (see `spaces.description.Placed`), in order.
        axes: the slots that the layers depend on, as places in `space.shape`.
    """

    name: str
    edge: str
    layers: tuple[str, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Coding:
    """The part of coding that is not an edge: context, entropy parameters, coder and everything else.

    Attributes:
        axes: the slots that it depends on, the layout last.
        knots: for each axis, the indexes at which it is measured. Values between them are interpolated.
    """

    axes: tuple[int, ...]
    knots: tuple[tuple[int, ...], ...]


def edge_pieces(space: SearchSpace, most: int = MOST_COMBINATIONS) -> tuple[EdgePiece, ...]:
    """Divide all edges into pieces with at most `most` combinations.

    Args:
        space: the search space.
        most: largest number of combinations of choices of a piece, if it can be cut.
    """
    pieces: list[EdgePiece] = []
    for name, edge in space.family.edges.items():
        if name in HYPER_EDGES and not any(space.candidates(HYPERPRIOR)):
            continue
        runs = list(_runs(space, name, edge.layers, "", most))
        for row, start, stop, axes in runs:
            layers = tuple(f"{row}{number}" for number in range(start, stop))
            title = name if len(runs) == 1 else f"{name}[{row}{start}:{stop}]"
            pieces.append(EdgePiece(title, name, layers, axes))
    return tuple(pieces)


_Run = tuple[str, int, int, tuple[int, ...]]  # where its row of layers is, which of them, their axes


def _runs(space: SearchSpace, edge: str, layers: Sequence[Layer], row: str, most: int) -> Iterator[_Run]:
    """Cut consecutive layers into runs. A too large layer with branches is cut branch by branch."""

    def few(axes: Sequence[int]) -> bool:
        return math.prod(space.shape[axis] for axis in axes) <= most

    start, held = 0, tuple[int, ...]()
    for number, layer in enumerate(layers):
        own = _axes_of_layer(space, edge, f"{row}{number}")
        joined = tuple(dict.fromkeys([*held, *own]))
        if not few(joined) and number > start:
            yield row, start, number, held
            start, joined = number, own
        if isinstance(layer, Parallel) and not few(own):
            for branch in layer.branches:
                yield from _runs(space, edge, branch.layers, f"{row}{number}.{branch.name}.", most)
            start, joined = number + 1, ()
        held = joined
    if start < len(layers):
        yield row, start, len(layers), held


def _axes_of_layer(space: SearchSpace, edge: str, where: str) -> tuple[int, ...]:
    names: list[str] = [HYPERPRIOR] if edge in HYPER_EDGES else []
    for placed in placements(space.family.edges[edge]):
        if f"{placed.place}.".startswith(f"{where}."):
            names += [*placed.switches, *ends(placed.layer)]
    setters = (space.setter(name) for name in names)
    return tuple(dict.fromkeys(axis for axis in setters if axis is not None))


def coding(space: SearchSpace) -> Coding:
    """The part of coding that is not an edge, with the widths at which it is measured.

    Args:
        space: the search space.
    """
    entropy = ENTROPY_WIDTHS if space.family.context else ()
    setters = [space.setter(name) for name in (*entropy, "y", "z", HYPERPRIOR)]
    slots = list(dict.fromkeys(axis for axis in setters if axis is not None))
    # one slot for several widths makes MACs quadratic in it: a point in the middle
    tied = len(slots) == 1
    knots = []
    for axis in slots:
        last = space.shape[axis] - 1
        knots.append(tuple(dict.fromkeys((0, last // 2, last) if tied else (0, last))))
    return Coding((*slots, len(space.slots)), (*knots, tuple(range(space.shape[-1]))))


def architecture_at(space: SearchSpace, axes: Sequence[int], choice: PieceChoice) -> Architecture:
    """The narrowest architecture with these choices, with its hyperprior switched on.

    Args:
        space: the search space.
        axes: places of the slots that are chosen.
        choice: index of the choice of each of them.
    """
    indexes = [0] * len(space.shape)
    switch = space.setter(HYPERPRIOR)
    if switch is not None:
        indexes[switch] = space.shape[switch] - 1
    for axis, index in zip(axes, choice, strict=True):
        indexes[axis] = index
    return space.at(indexes)


def without_idle_choices(space: SearchSpace, axes: Sequence[int], choice: PieceChoice) -> PieceChoice:
    """Set choices without effect to 0.

    Args:
        space: the search space.
        axes: places of the slots that are chosen.
        choice: index of the choice of each of them.
    """
    indexes = space.indexes(architecture_at(space, axes, choice))
    return tuple(indexes[axis] for axis in axes)


def choices(
    space: SearchSpace, axes: Sequence[int], allowed: Sequence[Sequence[int]]
) -> Iterator[PieceChoice]:
    """Yield every combination of choices that gives a different network.

    Args:
        space: the search space.
        axes: places of the slots that are chosen.
        allowed: the indexes that each of them may take.

    Yields:
        For each of the axes, in their order, the index of a candidate.
    """
    settled_choices = (without_idle_choices(space, axes, choice) for choice in itertools.product(*allowed))
    yield from dict.fromkeys(settled_choices)


def choices_at(space: SearchSpace, axes: Sequence[int], architecture: Architecture) -> PieceChoice:
    """The choices of an architecture on some axes.

    Args:
        space: the search space.
        axes: places of the slots in question.
        architecture: an architecture of the space.
    """
    indexes = space.indexes(architecture)
    return tuple(indexes[axis] for axis in axes)


def cover(space: SearchSpace, measured: Sequence[Architecture] = (), seed: int = 0) -> list[Architecture]:
    """Choose architectures that together have every choice of every piece, and of the coding at its knots.

    Their number is about that of the largest piece's choices. Choices are paired at random.

    Args:
        space: the space to cover.
        measured: architectures that are measured already. More are added to those that help.
        seed: seed of the pairs.
    """
    part, rng = coding(space), random.Random(seed)
    ways = {piece.axes: [range(space.shape[axis]) for axis in piece.axes] for piece in edge_pieces(space)}
    offered = {axes: list(choices(space, axes, allowed)) for axes, allowed in ways.items()}
    coded = list(choices(space, part.axes, part.knots))
    offered[part.axes] = coded
    needed = {axes: rng.sample(offers, len(offers)) for axes, offers in offered.items()}
    switch, architectures = space.setter(HYPERPRIOR), list[Architecture]()

    def helps(architecture: Architecture) -> bool:
        """Remove an architecture's choices from those still needed. Returns whether there were any."""
        before = sum(map(len, needed.values()))
        for axes, missing in needed.items():
            mine = choices_at(space, axes, architecture)
            needed[axes] = [choice for choice in missing if choice != mine]
        return sum(map(len, needed.values())) < before

    architectures += [architecture for architecture in measured if helps(architecture)]
    while any(needed.values()):
        fixed: dict[int, int] = {}
        for axes in sorted(needed, key=lambda axes: -len(needed[axes])):
            rest = needed[axes] or (coded if axes == part.axes else [])
            chosen = next((choice for choice in rest if _agrees(axes, choice, fixed)), None)
            if chosen is None and axes == part.axes:
                chosen = next((choice for choice in coded if _agrees(axes, choice, fixed)), None)
            fixed |= dict(zip(axes, chosen, strict=True)) if chosen is not None else {}
        indexes = [fixed.get(axis, rng.randrange(count)) for axis, count in enumerate(space.shape)]
        if switch is not None and switch not in fixed:
            indexes[switch] = space.shape[switch] - 1
        architecture = space.at(indexes)
        if not helps(architecture):
            raise RuntimeError(f"{space.name}: no architecture has the choices that are left")
        architectures.append(architecture)
    return architectures


def _agrees(axes: Sequence[int], choice: PieceChoice, fixed: dict[int, int]) -> bool:
    return all(fixed.get(axis, index) == index for axis, index in zip(axes, choice, strict=True))


def interpolated(space: SearchSpace, part: Coding, at_knots: Floats) -> Floats:
    """A table over all choices of the axes, interpolated linearly in the slots' candidates from the knots.

    Args:
        space: the search space.
        part: the part of coding, which gives axes and knots.
        at_knots: one value for each combination of knots.
    """
    table = at_knots
    for dim, (axis, knots) in enumerate(zip(part.axes[:-1], part.knots[:-1], strict=True)):
        candidates = np.array(space.slots[axis].candidates, dtype=float)
        sizes = candidates[list(knots)]
        rows = np.moveaxis(table, dim, 0)
        mixed = np.empty((len(candidates), *rows.shape[1:]))
        for index, value in enumerate(candidates):
            weights = [np.interp(value, sizes, unit) for unit in np.eye(len(sizes))]
            mixed[index] = np.tensordot(weights, rows, axes=1)
        table = np.moveaxis(mixed, 0, dim)
    return table
