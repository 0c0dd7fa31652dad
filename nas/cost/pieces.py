"""What of a space is measured on a machine, so that sums over it tell the time of every architecture.

An edge is measured whole at every combination of its widths; one with too many of them is cut into runs of
layers. What follows the edges' numbers (context, entropy parameters, coder) is measured in real codecs, under
every layout, at the ends of the entropy parameters' widths: between them their MACs are linear in each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.graph.description import ENTROPY_WIDTHS, HYPER_EDGES, HYPERPRIOR, ends, place
from nas.graph.network import Supernet
from nas.space import Architecture, SearchSpace

MOST_COMBINATIONS = 256  # of one piece: joint-ar's g_a has 216
Choice = tuple[int, ...]  # an index for each of some axes
Array = NDArray[np.float64]


@dataclass(frozen=True)
class EdgePiece:
    """A run of layers of one edge.

    Attributes:
        name: the edge's, with the run where it is not all of it.
        edge: whose layers.
        start, stop: which of them.
        axes: the slots that they depend on, places in `space.shape`.
        whole: whether it is all of the edge.
    """

    name: str
    edge: str
    start: int
    stop: int
    axes: tuple[int, ...]
    whole: bool

    def run(
        self, supernet: Supernet, architecture: Architecture, height: int, width: int
    ) -> Callable[[], Tensor]:
        """A call that runs these layers alone, as a codec of the architecture does.

        Args:
            supernet: whose weights.
            architecture: at which widths.
            height, width: of the picture, aligned.
        """
        module: nn.Sequential = supernet.extract_edge(self.edge, architecture)
        placed = next(
            found
            for found in place(supernet.space.family.edges[self.edge])
            if int(found.place.split(".")[0]) == self.start
        )
        channels = supernet.widths[ends(placed.layer)[0]].active
        device = next(supernet.parameters()).device
        x = torch.rand(1, channels, height // placed.reduction, width // placed.reduction, device=device)
        if self.edge == "h_s":  # in double precision when coding
            module, x = module.double(), x.double()
        if not self.whole:
            if device.type == "cpu" and x.dtype == torch.float32:  # as between the layers of a Transform
                x = x.contiguous(memory_format=torch.channels_last)
            module = nn.Sequential(*list(module)[self.start : self.stop])
        return lambda: module(x)


@dataclass(frozen=True)
class Coding:
    """Context, entropy parameters, coder and all else that is no edge.

    Attributes:
        axes: the slots it depends on, and the layout last.
        knots: at which indexes of each axis it is measured; interpolated between.
    """

    axes: tuple[int, ...]
    knots: tuple[tuple[int, ...], ...]


def edge_pieces(space: SearchSpace, most: int = MOST_COMBINATIONS) -> tuple[EdgePiece, ...]:
    """Every edge, cut where its combinations are more than `most`."""
    found = []
    for name, edge in space.family.edges.items():
        if name in HYPER_EDGES and not any(space.candidates(HYPERPRIOR)):
            continue
        own = [_axes_of_layer(space, name, number) for number in range(len(edge.layers))]
        start = 0
        held: list[int] = []
        cuts: list[tuple[int, int, list[int]]] = []
        for number, axes in enumerate(own):
            joined = list(dict.fromkeys([*held, *axes]))
            if math.prod(space.shape[axis] for axis in joined) > most and number > start:
                cuts.append((start, number, held))
                start, joined = number, list(axes)
            held = joined
        cuts.append((start, len(own), held))
        for first, last, axes_here in cuts:
            whole = len(cuts) == 1
            title = name if whole else f"{name}[{first}:{last}]"
            found.append(EdgePiece(title, name, first, last, tuple(axes_here), whole))
    return tuple(found)


def _axes_of_layer(space: SearchSpace, edge: str, number: int) -> tuple[int, ...]:
    names: list[str] = [HYPERPRIOR] if edge in HYPER_EDGES else []
    for placed in place(space.family.edges[edge]):
        if int(placed.place.split(".")[0]) == number:
            names += [name for name in (placed.depth, *ends(placed.layer)) if name]
    setters = (space.setter(name) for name in names)
    return tuple(dict.fromkeys(axis for axis in setters if axis is not None))


def coding(space: SearchSpace) -> Coding:
    """What codecs are measured for."""
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


def architecture_at(space: SearchSpace, axes: Sequence[int], choice: Choice) -> Architecture:
    """The narrowest architecture with these choices, its hyperprior on."""
    indexes = [0] * len(space.shape)
    switch = space.setter(HYPERPRIOR)
    if switch is not None:
        indexes[switch] = space.shape[switch] - 1
    for axis, index in zip(axes, choice, strict=True):
        indexes[axis] = index
    return space.at(indexes)


def settled(space: SearchSpace, axes: Sequence[int], choice: Choice) -> Choice:
    """A choice with what has no effect put back to 0."""
    indexes = space.indexes(architecture_at(space, axes, choice))
    return tuple(indexes[axis] for axis in axes)


def choices(space: SearchSpace, axes: Sequence[int], allowed: Sequence[Sequence[int]]) -> Iterator[Choice]:
    """Every combination that differs from the others."""
    found = (settled(space, axes, choice) for choice in itertools.product(*allowed))
    yield from dict.fromkeys(found)


def label(space: SearchSpace, axes: Sequence[int], choice: Choice) -> str:
    """A choice in a table: widths, and the layout's name, joined by '-'."""
    words = [
        space.layout_names[index] if axis == len(space.slots) else str(space.slots[axis].candidates[index])
        for axis, index in zip(axes, choice, strict=True)
    ]
    return "-".join(words)


def interpolated(space: SearchSpace, part: Coding, at_knots: Array) -> Array:
    """A table over all choices of the axes, from one over the knots: linear in the slots' candidates.

    Args:
        space: whose axes.
        part: where it was measured.
        at_knots: one value for each combination of knots.
    """
    table = at_knots
    for dim, (axis, knots) in enumerate(zip(part.axes[:-1], part.knots[:-1], strict=True)):
        candidates = np.array(space.slots[axis].candidates, dtype=float)
        known = candidates[list(knots)]
        rows = np.moveaxis(table, dim, 0)
        mixed = np.empty((len(candidates), *rows.shape[1:]))
        for index, value in enumerate(candidates):
            weights = [np.interp(value, known, unit) for unit in np.eye(len(known))]
            mixed[index] = np.tensordot(weights, rows, axes=1)
        table = np.moveaxis(mixed, 0, dim)
    return table
