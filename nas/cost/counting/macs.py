"""MACs, counted by fvcore on the code that runs. One MAC is one multiply-add, which fvcore calls a flop.

Only matrix products and convolutions have MACs: see `PRODUCTS`, and `audit.NO_MACS` for all other operators
that run. A convolution also multiplies the zeros beyond a picture's border, and these multiplications are
counted. A layer therefore costs the same at every position.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from nas.graph.layers.build import PlainLayers, build_leaf
from nas.graph.layers.width import Width
from nas.graph.staged import plan, whole
from nas.spaces import description as spec
from nas.spaces.budget import REFERENCE_SIZE
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION, after, ends
from nas.spaces.layout import Layout
from nas.support.errors import InputError

CONTEXT_PARTS = ("context", "entropy_parameters.1", "entropy_parameters.2", "entropy_parameters.3")

# The operators that have MACs, as fvcore names them. fvcore also counts a few other operators (normalisation,
# resizing, pooling) by their additions and divisions: a network that runs one of these fails the audit.
PRODUCTS = frozenset({"conv", "linear", "matmul", "mm", "addmm", "bmm", "einsum"})


@dataclass(frozen=True)
class MacCounts:
    """fvcore's count for one call of a module.

    Attributes:
        by_module: MACs by submodule. The key '' is the whole module.
        by_operator: MACs of the whole module by operator.
        uncounted: calls of each operator that has no counter.
    """

    by_module: Counter[str]
    by_operator: Counter[str]
    uncounted: Counter[str]


def trace_macs(module: nn.Module, *inputs: Any) -> MacCounts:
    """Count the MACs of one call of a module, and list the operators that were not counted.

    Args:
        module: the module.
        *inputs: arguments of the call.
    """
    with warnings.catch_warnings(), torch.no_grad():
        # torch deprecates the tracer that fvcore uses, and traced shapes become constants; both are intended
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=Warning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis._ignored_ops = set()  # otherwise fvcore hides some sixty operators
        return MacCounts(
            Counter(analysis.by_module()),
            Counter(analysis.by_operator()),
            Counter(analysis.unsupported_ops()),
        )


def count_macs(module: nn.Module, *inputs: Any) -> Counter[str]:
    """MACs of one call of a module, by submodule. The key '' is the whole module.

    Args:
        module: the module.
        *inputs: arguments of the call.
    """
    return trace_macs(module, *inputs).by_module


def layer_cost(layer: spec.Leaf, sizes: tuple[int, ...]) -> tuple[int, int]:
    """MACs of one described layer per position of its coarser side, and the number of its parameters.

    Args:
        layer: description of the layer.
        sizes: its input and output channels, or its one width.
    """
    match layer:
        case _ if 0 in sizes:  # the layer belongs to a branch that is left out
            return 0, 0
        case spec.Conv() | spec.Deconv() | spec.Subpel():
            return _measure(replace(layer, inputs="in", outputs="out"), sizes)
        case spec.GDN() | spec.Depthwise():
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


def aligned(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The width and height that a codec pads an image to: the next multiples of `Family.alignment`.

    Args:
        size: width and height of the image, in pixels.
        multiple: number that both sides become a multiple of.

    Raises:
        InputError: a side is shorter than one pixel.
    """
    width, height = size
    if min(height, width) < 1:
        raise InputError(f"An image needs a width and a height of at least 1 pixel, not {width}x{height}.")
    return -(-width // multiple) * multiple, -(-height // multiple) * multiple


def positions(layer: spec.Leaf, reduction: int, pixels: int) -> int:
    """Number of positions of a layer's coarser side in an image with this many pixels, padding included.

    Args:
        layer: a single layer.
        reduction: how many times smaller than the picture the layer's input is, per side.
        pixels: number of pixels of the padded image.
    """
    return int(pixels // max(reduction, after(layer, reduction)) ** 2)


def context_cost(
    layout: Layout,
    window: int,
    hidden: tuple[int, int],
    features: tuple[int, int],
    size: tuple[int, int] = REFERENCE_SIZE,
) -> dict[str, int]:
    """MACs of the context model under one layout, by part, as it runs in coding. A table has none.

    The matrix products of each block are measured for one position and multiplied by the number of the
    block's positions in the latent. At the border of the latent a tile may be incomplete.

    Args:
        layout: the order of decoding.
        window: width of the context window.
        hidden: widths of the two hidden pointwise layers.
        features: numbers of features of psi and of phi.
        size: width and height of the image in pixels. The image is padded as the codec pads it.

    Raises:
        InputError: a side is shorter than one pixel.
    """
    counted = _context_cost(layout.of_network, window, hidden, features, size)
    return dict(zip(CONTEXT_PARTS, counted, strict=True))


@lru_cache(maxsize=10_000)
def _context_cost(
    layout: Layout,
    window: int,
    hidden: tuple[int, int],
    features: tuple[int, int],
    size: tuple[int, int],
) -> tuple[int, ...]:
    width, height = (side // Y_REDUCTION for side in aligned(size, Z_REDUCTION))
    counts = {number: len(places) for number, places in whole(layout, window, height, width)}
    parts = dict.fromkeys(CONTEXT_PARTS, 0)
    psi, phi = features
    for number, block in enumerate(plan(layout, window, hidden, phi)):
        if number not in counts:  # the latent is so small that it lacks this cell of the tile
            continue
        for part, (inputs, outputs) in block.products(psi).items():
            parts[part] += counts[number] * _product_cost(inputs, outputs)
    return tuple(parts.values())


@lru_cache(maxsize=100_000)
def _product_cost(inputs: int, outputs: int) -> int:
    if not inputs * outputs:  # the group has no hidden units
        return 0
    return int(count_macs(nn.Linear(inputs, outputs), torch.zeros(1, inputs))[""])
