"""MACs, counted by fvcore on the code that runs. One MAC is one multiply-add, what fvcore calls a flop."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from nas.graph import description as spec
from nas.graph.description import after, ends
from nas.graph.layers import PlainLayers, build_leaf
from nas.graph.layout import Layout
from nas.graph.staged import Gathered, plan, whole
from nas.graph.width import Width

# Costs are quoted for an image of this size, in kMAC per pixel.
REFERENCE_SIZE = (512, 768)
REFERENCE_PIXELS = REFERENCE_SIZE[0] * REFERENCE_SIZE[1]

# The edges each scope pays for. `total` counts every edge once, as papers do, so it is not encoder + decoder.
CONTEXT_EDGES = ("context", spec.ENTROPY_PARAMETERS)
ENTROPY_EDGES = ("h_s", *CONTEXT_EDGES)
SCOPES: dict[str, tuple[str, ...]] = {
    "encoder": ("g_a", "h_a", *ENTROPY_EDGES),
    "decoder": (*ENTROPY_EDGES, "g_s"),
    "total": ("g_a", "h_a", *ENTROPY_EDGES, "g_s"),
}


CONTEXT_PARTS = ("context", "entropy_parameters.1", "entropy_parameters.2", "entropy_parameters.3")


def count_macs(module: nn.Module, *inputs: Any) -> Counter[str]:
    """fvcore's count for one call of a module, by submodule; the key '' is the whole."""
    with warnings.catch_warnings(), torch.no_grad():
        # torch deprecates the tracer that fvcore uses, and traced shapes become constants: both intended
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=Warning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        return Counter(analysis.by_module())


def layer_cost(layer: spec.Leaf, sizes: tuple[int, ...]) -> tuple[int, int]:
    """MACs of one described layer per position of its coarser side, and its parameters.

    Args:
        layer: what to count.
        sizes: its input and output channels, or its one width.
    """
    match layer:
        case spec.Conv() | spec.Deconv() | spec.Subpel():
            return _measure(replace(layer, inputs="in", outputs="out"), sizes)
        case spec.GDN():
            return _measure(replace(layer, width="in"), sizes)
        case _:
            return 0, 0


@lru_cache(maxsize=100_000)
def _measure(layer: spec.Leaf, sizes: tuple[int, ...]) -> tuple[int, int]:
    widths = {name: Width(name, (size,)) for name, size in zip(ends(layer), sizes, strict=True)}
    module = build_leaf(layer, PlainLayers(), widths)
    side = layer.stride if isinstance(layer, spec.Conv) else 1
    macs = count_macs(module, torch.zeros(1, sizes[0], side, side))[""]
    return int(macs), sum(parameter.numel() for parameter in module.parameters())


def positions(layer: spec.Leaf, reduction: int, pixels: int = REFERENCE_PIXELS) -> int:
    """How many positions of its coarser side a layer has in an image."""
    return int(pixels // max(reduction, after(layer, reduction)) ** 2)


def context_cost(layout: Layout, window: int, hidden: tuple[int, int]) -> dict[str, int]:
    """MACs of the context model at 768x512 under one layout, by part, as it runs when coding.

    Every block's matrix products, measured for one position, times the block's positions.
    """
    height, width = (side // spec.Y_REDUCTION for side in REFERENCE_SIZE)
    counts = {number: len(places) for number, places in whole(layout, window, height, width)}
    found = dict.fromkeys(CONTEXT_PARTS, 0)
    for number, block in enumerate(plan(layout, window, hidden)):
        for part, (inputs, outputs) in block.products(2 * layout.channels).items():
            found[part] += counts.get(number, 0) * _product_cost(inputs, outputs)
    return found


@lru_cache(maxsize=100_000)
def _product_cost(inputs: int, outputs: int) -> int:
    weight = torch.zeros(outputs, inputs)
    return int(count_macs(Gathered(), torch.zeros(1, inputs), weight, torch.zeros(outputs))[""])
