"""Measures the tables of costs: fvcore counts each layer once at each combination of its widths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch

from nas.cost.counting.macs import CONTEXT_PARTS, aligned, context_cost, layer_cost, positions
from nas.cost.counting.sums import IntArray
from nas.cost.counting.table import CostTable, LayerCost
from nas.graph.context import ContextModel
from nas.spaces.budget import REFERENCE_SIZE
from nas.spaces.description import ENTROPY_WIDTHS, HYPER_EDGES, HYPERPRIOR, Leaf, ends, placements
from nas.spaces.layout import ContextKind
from nas.spaces.space import SearchSpace

# A factorised prior (Ballé et al., 2018): 3 filters of 3 in 4 hidden layers, 58 values a channel
PRIOR_PARAMS_PER_CHANNEL = 58
# Gains of a range of rates, for each channel and anchor: before and after rounding y; factor and shift of z.
GAINS_PER_ANCHOR = 2


def measured_costs(space: SearchSpace, size: tuple[int, int] = REFERENCE_SIZE) -> CostTable:
    """Measure the costs of a space with fvcore. Identical layers are measured once.

    Args:
        space: the search space.
        size: width and height of the image in pixels. Any size is allowed. MACs are those of the padded image
            that a codec really codes, and kMAC per pixel divides them by the pixels without padding. A small
            or odd image therefore costs more per pixel. At 768x512 no codec pads.

    Raises:
        InputError: a side is shorter than one pixel.
    """
    pixels = math.prod(aligned(size, space.family.alignment))
    context = _context(space, size) if space.family.context else []
    return CostTable(space, [*_transforms(space, pixels), *context, *_priors(space), *_gains(space)], size)


def _transforms(space: SearchSpace, pixels: int) -> list[LayerCost]:
    """Costs of every convolution and normalisation of every edge, in a padded image with this many pixels."""
    layer_costs = []
    for edge_name, edge in space.family.edges.items():
        for placed in placements(edge):
            names = ends(placed.layer)
            if not names:
                continue
            count = positions(placed.layer, placed.reduction, pixels)
            # how often the layer runs: as often as its block, if the branch around it runs at all
            switches = [*placed.switches, *([HYPERPRIOR] if edge_name in HYPER_EDGES else [])]
            times = [placed.depth] if placed.depth else []

            def measure(
                values: Mapping[str, int],
                layer: Leaf = placed.layer,
                names: tuple[str, ...] = names,
                switches: Sequence[str] = switches,
                times: Sequence[str] = times,
                count: int = count,
            ) -> tuple[int, int]:
                macs, params = layer_cost(layer, tuple(values[name] for name in names))
                on = all(values[choice] > 0 for choice in switches)
                often = math.prod(values[choice] for choice in times) if on else 0
                return macs * count * often, params * often

            axes, (macs, params) = _tabulate(space, (*names, *switches), measure)
            layer_costs.append(LayerCost(f"{edge_name}[{placed.place}]", edge_name, axes, macs, params))
    return layer_costs


def _priors(space: SearchSpace) -> list[LayerCost]:
    """Costs of the factorised priors: they have parameters but no MACs."""

    def of_z(values: Mapping[str, int]) -> tuple[int, int]:
        return 0, PRIOR_PARAMS_PER_CHANNEL * values["z"] * values[HYPERPRIOR]

    def of_y(values: Mapping[str, int]) -> tuple[int, int]:
        return 0, PRIOR_PARAMS_PER_CHANNEL * values["y"] * (1 - values[HYPERPRIOR])

    layer_costs = []
    for node, measure in (("z", of_z), ("y", of_y)):
        axes, (macs, params) = _tabulate(space, (node, HYPERPRIOR), measure)
        layer_costs.append(LayerCost(f"prior of {node}", "prior", axes, macs, params))
    return layer_costs


def _gains(space: SearchSpace) -> list[LayerCost]:
    """Costs of the gains of a range of rates: they have parameters but no MACs that fvcore counts."""
    if not space.rates:
        return []
    each = GAINS_PER_ANCHOR * len(space.rates)

    def of_y(values: Mapping[str, int]) -> tuple[int, int]:
        return 0, each * values["y"]

    def of_z(values: Mapping[str, int]) -> tuple[int, int]:
        return 0, each * values["z"] * values[HYPERPRIOR]

    layer_costs = []
    for node, names, measure in (("y", ("y",), of_y), ("z", ("z", HYPERPRIOR), of_z)):
        axes, (macs, params) = _tabulate(space, names, measure)
        layer_costs.append(LayerCost(f"gains of {node}", "gains", axes, macs, params))
    return layer_costs


def _context(space: SearchSpace, size: tuple[int, int]) -> list[LayerCost]:
    """Costs of context prediction and the three pointwise layers under every layout, for this image size."""
    layout_axis = len(space.slots)

    layouts = [space.layouts[name] for name in space.layout_names]

    @cache
    def measure(hidden: tuple[int, int]) -> tuple[list[dict[str, int]], list[Mapping[str, int]]]:
        params = {
            context: _context_params(space.y_channels, space.window, hidden, space.features, context)
            for context in {layout.context for layout in layouts}
        }
        costs = [context_cost(layout, space.window, hidden, space.features, size) for layout in layouts]
        return costs, [params[layout.context] for layout in layouts]

    layer_costs = []
    for part in CONTEXT_PARTS:

        def of_part(values: Mapping[str, int], part: str = part) -> tuple[list[int], list[int]]:
            costs, params = measure((values[ENTROPY_WIDTHS[0]], values[ENTROPY_WIDTHS[1]]))
            on = values[HYPERPRIOR]
            return [on * macs[part] for macs in costs], [on * sizes[part] for sizes in params]

        axes, (macs, params) = _tabulate(space, (*ENTROPY_WIDTHS, HYPERPRIOR), of_part)
        edge = part.split(".")[0]
        layer_costs.append(LayerCost(part, edge, (*axes, layout_axis), macs, params))
    return layer_costs


@lru_cache(maxsize=10_000)
def _context_params(
    channels: int,
    window: int,
    hidden: tuple[int, int],
    features: tuple[int, int],
    context: ContextKind,
) -> Mapping[str, int]:
    """Numbers of parameters of an exported context model, by part."""
    psi, phi = features
    table = context == "table"
    with torch.device("meta"):  # only the sizes matter
        model = ContextModel(channels, window, hidden, psi, 0 if table else phi, tables=table)
    reading = [model.get_submodule(name) for name in ("context_prediction", "table") if hasattr(model, name)]
    parts = [reading, *([model.entropy_parameters[k]] for k in (0, 2, 4))]
    sizes = [sum(p.numel() for module in part for p in module.parameters()) for part in parts]
    return dict(zip(CONTEXT_PARTS, sizes, strict=True))


def _tabulate(
    space: SearchSpace,
    names: Sequence[str],
    measure: Callable[[Mapping[str, int]], tuple[Any, Any]],
) -> tuple[tuple[int, ...], tuple[IntArray, IntArray]]:
    """Call `measure` for all values of some choices and nodes; return the slots and a table per result."""
    setters = [space.setter(name) for name in names]
    slots = list(dict.fromkeys(setter for setter in setters if setter is not None))
    shape = [space.shape[axis] for axis in slots]
    results = []
    for indexes in itertools.product(*map(range, shape)):
        index_of = dict(zip(slots, indexes, strict=True))
        at = [0 if setter is None else index_of[setter] for setter in setters]
        values = {name: space.candidates(name)[k] for name, k in zip(names, at, strict=True)}
        results.append(measure(values))
    macs, params = (np.array(part, dtype=np.int64) for part in zip(*results, strict=True))
    return tuple(slots), (
        macs.reshape((*shape, *macs.shape[1:])),
        params.reshape((*shape, *params.shape[1:])),
    )
