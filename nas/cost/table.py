"""The cost of every architecture of a space: each layer measured once at each combination of its widths."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.cost.macs import CONTEXT_PARTS, REFERENCE_PIXELS, SCOPES, context_cost, layer_cost, positions
from nas.graph import families as spec
from nas.graph.context import ContextModel
from nas.graph.families import ENTROPY_WIDTHS
from nas.space import Architecture, SearchSpace

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class LayerCost:
    """MACs at 768x512 and parameters of one layer, as a table over the few slots it touches.

    `axes` are places in `space.shape` (the last is the layout); the tables have one dimension for each.
    """

    name: str
    edge: str
    axes: tuple[int, ...]
    macs: IntArray
    params: IntArray


class CostTable:
    """Costs of a whole space, by look-up.

    Sums of entries equal fvcore's count of the extracted encoder or decoder, to the last MAC.
    """

    def __init__(self, space: SearchSpace, layers: Sequence[LayerCost], fixed_params: int) -> None:
        self.space = space
        self.layers = tuple(layers)
        self.fixed_params = fixed_params

    @classmethod
    def measure(cls, space: SearchSpace) -> CostTable:
        """Measure a space with fvcore; identical layers are measured once."""
        layers = [*_transforms(space), *_context(space)]
        # the factorised prior: 3 filters of 3 in 4 hidden layers (Ballé et al., 2018), 58 values a channel
        return cls(space, layers, space.z_channels * PRIOR_PARAMS_PER_CHANNEL)

    def macs(self, architecture: Architecture, scope: str = "total") -> int:
        """MACs of one architecture at 768x512."""
        indexes = self.space.indexes(architecture)
        return sum(
            int(layer.macs[tuple(indexes[axis] for axis in layer.axes)]) for layer in self.in_scope(scope)
        )

    def kmac_px(self, architecture: Architecture, scope: str = "total") -> float:
        """kMAC per image pixel at 768x512."""
        return self.macs(architecture, scope) / REFERENCE_PIXELS / 1000

    def scopes(self, architecture: Architecture) -> dict[str, float]:
        """kMAC per pixel in every scope."""
        return {scope: self.kmac_px(architecture, scope) for scope in SCOPES}

    def by_edge(self, architecture: Architecture) -> dict[str, float]:
        """kMAC per pixel of every edge; their sum is the total."""
        indexes = self.space.indexes(architecture)
        found: dict[str, float] = {}
        for layer in self.layers:
            cost = int(layer.macs[tuple(indexes[axis] for axis in layer.axes)]) / REFERENCE_PIXELS / 1000
            found[layer.edge] = found.get(layer.edge, 0.0) + cost
        return found

    def params(self, architecture: Architecture) -> int:
        """Learned numbers of the exported codec."""
        indexes = self.space.indexes(architecture)
        layers = (layer.params[tuple(indexes[axis] for axis in layer.axes)] for layer in self.layers)
        return self.fixed_params + int(sum(layers))

    def expected(self, probabilities: Sequence[Tensor], scope: str = "total") -> Tensor:
        """The expected kMAC per pixel when every slot is drawn independently; differentiable.

        Args:
            probabilities: one vector over the choices of each slot, the layout last.
            scope: `encoder`, `decoder` or `total`.
        """
        total = probabilities[0].new_zeros(())
        for axes, macs in self._tensors(scope):
            cost = macs.to(probabilities[0])
            for axis in reversed(axes):  # contract the last dimension first
                cost = cost @ probabilities[axis]
            total = total + cost
        return total

    def in_scope(self, scope: str) -> list[LayerCost]:
        """The layers that a scope pays for."""
        return [layer for layer in self.layers if layer.edge in SCOPES[scope]]

    @lru_cache(maxsize=4)  # noqa: B019 - a table lives as long as its search
    def _tensors(self, scope: str) -> list[tuple[tuple[int, ...], Tensor]]:
        layers = self.in_scope(scope)
        return [(layer.axes, torch.from_numpy(layer.macs / REFERENCE_PIXELS / 1000)) for layer in layers]

    @cached_property
    def reference(self) -> dict[str, float]:
        """The widest architecture's kMAC per pixel in every scope: what percentages refer to."""
        return {scope: self._most(scope) / REFERENCE_PIXELS / 1000 for scope in SCOPES}

    def _most(self, scope: str) -> int:
        from nas.cost.reach import Reach

        return Reach(self, scope).most


PRIOR_PARAMS_PER_CHANNEL = 58


def _transforms(space: SearchSpace) -> list[LayerCost]:
    """Every convolution and normalisation of every edge."""
    channels = {"x": 3, "y": space.y_channels, "z": space.z_channels, "psi": 2 * space.y_channels}
    found = []
    for edge_name, edge in space.family.edges.items():
        reduction = edge.reduction
        for number, layer in enumerate(edge.layers):
            count, reduction = positions(layer, reduction)
            if isinstance(layer, spec.LeakyReLU):
                continue
            ends = (layer.width,) if isinstance(layer, spec.GDN) else (layer.inputs, layer.outputs)

            def measure(
                widths: Mapping[str, int],
                layer: spec.Layer = layer,
                ends: tuple[str, ...] = ends,
                count: int = count,
            ) -> tuple[int, int]:
                sizes = [channels.get(end) or widths[end] for end in ends]
                macs, params = layer_cost(layer, sizes[0], sizes[-1])
                return macs * count, params

            searched = tuple(end for end in ends if end not in channels)
            axes, tables = _tabulate(space, searched, measure)
            found.append(LayerCost(f"{edge_name}[{number}]", edge_name, axes, tables[0], tables[1]))
    return found


def _context(space: SearchSpace) -> list[LayerCost]:
    """Context prediction and the three pointwise layers, under every layout."""
    layout_axis = len(space.slots)

    @cache
    def measure(hidden: tuple[int, int]) -> tuple[list[dict[str, int]], dict[str, int]]:
        context = ContextModel(space.y_channels, space.window, hidden)
        modules = [context.context_prediction, *(context.entropy_parameters[k] for k in (0, 2, 4))]
        sizes = [sum(p.numel() for p in module.parameters()) for module in modules]
        costs = [context_cost(space.layouts[name], space.window, hidden) for name in space.layout_names]
        return costs, dict(zip(CONTEXT_PARTS, sizes, strict=True))

    found = []
    for part in CONTEXT_PARTS:

        def of_part(widths: Mapping[str, int], part: str = part) -> tuple[list[int], list[int]]:
            costs, params = measure((widths[ENTROPY_WIDTHS[0]], widths[ENTROPY_WIDTHS[1]]))
            return [macs[part] for macs in costs], [params[part]] * len(costs)

        axes, (macs, params) = _tabulate(space, ENTROPY_WIDTHS, of_part)
        edge = part.split(".")[0]
        found.append(LayerCost(part, edge, (*axes, layout_axis), macs, params))
    return found


def _tabulate(
    space: SearchSpace,
    layers: Sequence[str],
    measure: Callable[[Mapping[str, int]], tuple[Any, Any]],
) -> tuple[tuple[int, ...], tuple[IntArray, IntArray]]:
    """`measure` at every combination of the slots that set some layers: axes and one table per result."""
    slots = list(dict.fromkeys(space.slots.index(space.slot_of(layer)) for layer in layers))
    results = []
    for choices in itertools.product(*(space.slots[axis].candidates for axis in slots)):
        widths: dict[str, int] = {}
        for axis, choice in zip(slots, choices, strict=True):
            widths |= space.slots[axis].widths(choice)
        results.append(measure(widths))
    shape = [len(space.slots[axis].candidates) for axis in slots]
    macs, params = (np.array(part, dtype=np.int64) for part in zip(*results, strict=True))
    return tuple(slots), (
        macs.reshape(*shape, *macs.shape[1:]),
        params.reshape(*shape, *params.shape[1:]),
    )
