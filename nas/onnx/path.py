"""The entropy path in integer arithmetic as ONNX models: h_s, and one model for each block of a layout.

The models form the same sums as `graph.integers` and `graph.staged`, over the same gathered columns. They use
only matrix products and 1x1 convolutions, so that no algorithm for larger kernels can round in between.
Weights are stored in 16 bits and widened when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from torch import nn

from nas.graph.affine import LOWEST, SLOPE_PARTS, AnyAffine, IntegerAffine
from nas.graph.entropy import MEAN_STEPS, Y_LIMIT
from nas.graph.integers import IntegerConv, IntegerDeconv
from nas.graph.staged import BlockWeights, StagedContext
from nas.onnx.graphs import Graph
from nas.support.arrays import Array

STORES = ("phi", "hidden_1", "hidden_2")  # values stored at every position, see `graph.staged.State`
_MOST_MEAN = Y_LIMIT * MEAN_STEPS
_TO_THE_END = np.iinfo(np.int64).max


def hyper_model(h_s: nn.Module, channels: tuple[int, int], *, with_means: bool) -> onnx.ModelProto:
    """h_s in integer arithmetic: z_hat [1, N, h, w] to psi [1, P, 4h, 4w].

    Args:
        h_s: h_s from `IntegerPath.hyper`.
        channels: channels of z and of psi.
        with_means: whether psi itself holds scales and means. The means are then clamped to their limits.
    """
    graph = Graph()
    value = run_integer_layers(graph, graph.input("z_hat", [1, channels[0], "h", "w"]), h_s.children())
    value = clipped_means(graph, value) if with_means else value
    graph.output("psi", value, [1, channels[1], "rows", "columns"])
    return graph.model()


def clipped_means(graph: Graph, psi: str) -> str:
    """Clamp the means in a psi that itself holds scales and means.

    Args:
        graph: the graph.
        psi: name of the value, [1, 2M, h, w].
    """
    scales, means = graph.nodes("Split", 2, psi, axis=1, num_outputs=2)
    return graph.joined([scales, graph.clipped(means, -_MOST_MEAN, _MOST_MEAN)])


def run_integer_layers(graph: Graph, value: str, layers: Iterable[nn.Module]) -> str:
    """Add consecutive layers of h_s in integer arithmetic.

    Args:
        graph: the graph.
        value: name of the first layer's input, [1, C, h, w].
        layers: layers from `IntegerPath.hyper`. Activations are part of the convolutions before them.
    """
    for layer in layers:
        if isinstance(layer, IntegerConv):
            value = _windows(graph, value, layer.reach, layer.places, layer.affine)
            if layer.upsampling > 1:
                value = graph.node("DepthToSpace", value, blocksize=layer.upsampling, mode="CRD")
        elif isinstance(layer, IntegerDeconv):
            phases = [_windows(graph, value, layer.reach, *phase[2:]) for phase in layer.phases]
            value = graph.node("DepthToSpace", graph.joined(phases), blocksize=layer.stride, mode="DCR")
    return value


def block_models(context: StagedContext) -> Iterator[tuple[onnx.ModelProto, dict[str, Any]]]:
    """Yield a model for each block of a layout, with the block's entry in codec.json.

    A model computes the scales and means, [n, channels], of the block's channels at n of its positions.

    Args:
        context: context model of the codec, by stages.
    """
    cells = context.layout.blocks(context.window)
    for cell, block in zip(cells, context.blocks, strict=True):
        later = [
            other
            for there, other in zip(cells, context.blocks, strict=True)
            if (there.row, there.column) == (cell.row, cell.column) and there.stage > cell.stage
        ]
        model, stores = _block_model(block, later, context)
        yield (
            model,
            {
                "row": cell.row,
                "column": cell.column,
                "stage": cell.stage,
                "channels": block.channels.index.tolist(),
                "seen": [
                    {"rows": rows, "columns": columns, "channels": channels.index.tolist()}
                    for (rows, columns), channels in ((places.tolist(), some) for places, some in block.seen)
                ],
                **stores,
            },
        )


def _block_model(
    block: BlockWeights, later: Sequence[BlockWeights], context: StagedContext
) -> tuple[onnx.ModelProto, dict[str, list[int]]]:
    """The model, and the places of every store that it reads and writes."""
    graph, stores, kept = Graph(), {}, {}
    psi = graph.input("psi", ["n", context.psi])
    own: str | None = None  # what this block adds to a store
    if block.context is not None:
        y = graph.input("y", ["n", block.context.weight.shape[1]])
        y = graph.clipped(y, -context.y_limit, context.y_limit)
        own = _product(graph, y, block.context, block.context.weight.numpy())
    for number, (name, affine) in enumerate(zip(STORES, block.layers, strict=True)):
        reads, weight = block.reads[number].index.numpy(), affine.weight.numpy()
        new = block.writes[number].index.numpy() if own is not None else reads[:0]
        before = np.setdiff1d(reads, new)
        stores[name] = before.tolist()
        hyper = weight.shape[1] - len(reads)
        inputs = [(psi, weight[:, :hyper])] if hyper else []
        if len(before):
            value = graph.input(name, ["n", len(before)])
            inputs.append((value, weight[:, hyper + np.searchsorted(reads, before)]))
        if own is not None:
            inputs.append((own, weight[:, hyper + np.searchsorted(reads, new)]))
            if any(np.isin(new, other.reads[number].index.numpy()).any() for other in later):
                stores[f"{name}_new"] = new.tolist()
                kept[f"{name}_new"] = own
        if not inputs:  # so few hidden units that none is known yet: psi gives the number of positions
            inputs = [(psi, np.zeros((len(weight), context.psi)))]
        values, weights = zip(*inputs, strict=True)
        own = (
            _product(graph, graph.joined(values), affine, np.concatenate(weights, 1)) if len(weight) else None
        )
    assert own is not None  # every block has channels
    scales, means = graph.nodes("Split", 2, own, axis=1, num_outputs=2)
    channels = len(block.channels.index)
    graph.output("scales", scales, ["n", channels])
    graph.output("means", graph.clipped(means, -_MOST_MEAN, _MOST_MEAN), ["n", channels])
    for name, value in kept.items():
        graph.output(name, value, ["n", len(stores[name])])
    return graph.model(), stores


def _finished(graph: Graph, sums: str, affine: IntegerAffine, step: Any) -> str:
    """Compute outputs from their sums: see `IntegerAffine.finish`."""
    whole = graph.node("Floor", graph.node("Mul", sums, graph.constant(step)))
    if affine.slope in (0, SLOPE_PARTS):
        return graph.clipped(whole, 0 if affine.slope == 0 else -affine.limit, affine.limit)
    whole = graph.clipped(whole, LOWEST, affine.limit)
    lower = graph.node("Mul", whole, graph.constant(affine.slope / SLOPE_PARTS))
    lower = graph.node("Floor", graph.node("Add", lower, graph.constant(0.5)))
    return graph.clipped(graph.node("Max", whole, lower), -affine.limit, None)


def _product(graph: Graph, columns: str, affine: AnyAffine, weight: Array) -> str:
    """Add a layer of [n, inputs] with weights [outputs, inputs] in the order of these columns."""
    assert isinstance(affine, IntegerAffine)
    sums = graph.node("MatMul", columns, graph.widened(weight.T))
    return _finished(graph, graph.node("Add", sums, graph.constant(affine.bias)), affine, affine.step)


def _windows(
    graph: Graph, x: str, reach: int, places: Sequence[tuple[int, int]], affine: IntegerAffine
) -> str:
    """Add a layer over some places of the window, `reach` to every side, at all positions of [1, C, h, w]."""
    taps = [x]
    if reach:
        padded = graph.node("Pad", x, graph.constant([0, 0, reach, reach] * 2, np.int64))
        taps = [_tap(graph, padded, reach, offset) for offset in places]
    weight = graph.widened(affine.weight.numpy()[..., None, None])
    sums = graph.node("Conv", graph.joined(taps), weight, graph.constant(affine.bias))
    return _finished(graph, sums, affine, affine.step[:, None, None])


def _tap(graph: Graph, padded: str, reach: int, offset: tuple[int, int]) -> str:
    ends = [start - 2 * reach if start < 2 * reach else _TO_THE_END for start in offset]
    return graph.node("Slice", padded, *(graph.constant(part, np.int64) for part in (offset, ends, (2, 3))))
