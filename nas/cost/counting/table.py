"""The cost of every architecture of a space, by look-up. No torch here: `tabulate` measures the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from nas.cost.counting.scopes import SCOPE_EDGES
from nas.cost.counting.sums import IntArray, Part, Sum
from nas.spaces.architecture import Architecture
from nas.spaces.budget import REFERENCE_SIZE, SCOPES
from nas.spaces.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LayerCost:
    """MACs and parameters of one layer for one image, as tables over the few slots that the layer depends on.

    The tables have one dimension for each of `axes`, which are places in `space.shape` (the layout is last).
    If a choice leaves the layer out or repeats it, that choice is one of the axes.

    Attributes:
        axes: places of the slots that the layer depends on.
        name: name of the layer.
        edge: edge that the layer belongs to.
        macs: MACs for one image, [choices of each axis].
        params: number of parameters, [choices of each axis].
    """

    name: str
    edge: str
    axes: tuple[int, ...]
    macs: IntArray
    params: IntArray


class CostTable:
    """Costs of all architectures of a space by look-up, for images of one size.

    The sum of table entries equals fvcore's count of the extracted encoder or decoder, to the last MAC.

    Args:
        space: the search space.
        layers: one table for each layer.
        size: width and height of the image, in pixels.

    Attributes:
        space: the search space.
        layers: one table for each layer.
        size: width and height of the image, in pixels.
    """

    def __init__(
        self, space: SearchSpace, layers: Sequence[LayerCost], size: tuple[int, int] = REFERENCE_SIZE
    ) -> None:
        self.space = space
        self.layers = tuple(layers)
        self.size = size

    @property
    def pixels(self) -> int:
        """Number of pixels of the image, without padding."""
        return math.prod(self.size)

    def macs(self, architecture: Architecture, scope: str = "total") -> int:
        """MACs of one architecture for one image.

        Args:
            architecture: an architecture of the space.
            scope: `encoder`, `decoder` or `total`.
        """
        return self._sum(scope).at(self.space.indexes(architecture))

    @lru_cache(maxsize=4)  # noqa: B019 - a table lives as long as its search
    def _sum(self, scope: str) -> Sum:
        terms = [Part(layer.axes, layer.macs) for layer in self.in_scope(scope)]
        return Sum.of(terms, self.space.shape)

    def macs_by_edge(self, architecture: Architecture) -> dict[str, int]:
        """MACs of every edge for one image. Their sum is the total.

        Args:
            architecture: an architecture of the table's space.
        """
        indexes = self.space.indexes(architecture)
        macs: dict[str, int] = {}
        for layer in self.in_scope("total"):
            cost = int(layer.macs[tuple(indexes[axis] for axis in layer.axes)])
            macs[layer.edge] = macs.get(layer.edge, 0) + cost
        return macs

    def kmac_px(self, architecture: Architecture, scope: str = "total") -> float:
        """kMAC per image pixel of one architecture.

        Args:
            architecture: an architecture of the space.
            scope: `encoder`, `decoder` or `total`.
        """
        return self.macs(architecture, scope) / self.pixels / 1000

    def scopes(self, architecture: Architecture) -> dict[str, float]:
        """kMAC per pixel of one architecture in every scope.

        Args:
            architecture: an architecture of the table's space.
        """
        return {scope: self.kmac_px(architecture, scope) for scope in SCOPES}

    def by_edge(self, architecture: Architecture) -> dict[str, float]:
        """kMAC per pixel of every edge. Their sum is the total.

        Args:
            architecture: an architecture of the table's space.
        """
        return {edge: macs / self.pixels / 1000 for edge, macs in self.macs_by_edge(architecture).items()}

    def params(self, architecture: Architecture) -> int:
        """Number of parameters of the exported codec.

        Args:
            architecture: an architecture of the table's space.
        """
        return self._params.at(self.space.indexes(architecture))

    @cached_property
    def _params(self) -> Sum:
        return Sum.of([Part(layer.axes, layer.params) for layer in self.layers], self.space.shape)

    def expected(self, probabilities: Sequence[Tensor], scope: str = "total") -> Tensor:
        """The expected kMAC per pixel if every slot is drawn independently. It is differentiable.

        Args:
            probabilities: one vector [choices] for each slot, the layout last.
            scope: `encoder`, `decoder` or `total`.

        Returns:
            A scalar tensor.
        """
        total = probabilities[0].new_zeros(())
        for layer in self.in_scope(scope):
            cost = probabilities[0].new_tensor(layer.macs / self.pixels / 1000)
            for axis in reversed(layer.axes):  # contract the last dimension first
                cost = cost @ probabilities[axis]
            total = total + cost
        return total

    def in_scope(self, scope: str) -> list[LayerCost]:
        """The layers that a scope counts.

        Args:
            scope: `encoder`, `decoder` or `total`.
        """
        return [layer for layer in self.layers if layer.edge in SCOPE_EDGES[scope]]
