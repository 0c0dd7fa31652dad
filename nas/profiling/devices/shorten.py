"""Models with few numbers: their times are those of the whole, and many of them fit onto a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

LONGEST, KEPT = 1024, 251  # weights of more numbers are so many of them, repeated


def shortened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model whose long weights are a few of their numbers, repeated when it is loaded.

    Runtimes fold the repetition away, so that they run what they would run with all of the numbers.

    Args:
        model: the model, which is changed.
    """
    from onnx import checker, helper, numpy_helper

    graph, made = model.graph, []
    kept = []
    for constant in graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.size <= LONGEST:
            kept.append(constant)
            continue
        name = constant.name
        parts = {
            "some": np.ascontiguousarray(values.ravel()[:KEPT]),
            "times": np.array([-(-values.size // KEPT)], np.int64),
            "from": np.zeros(1, np.int64),
            "to": np.array([values.size], np.int64),
            "shape": np.array(values.shape, np.int64),
        }
        kept += [numpy_helper.from_array(part, f"{name}_{word}") for word, part in parts.items()]
        made += [
            helper.make_node("Tile", [f"{name}_some", f"{name}_times"], [f"{name}_tiled"]),
            helper.make_node("Slice", [f"{name}_tiled", f"{name}_from", f"{name}_to"], [f"{name}_cut"]),
            helper.make_node("Reshape", [f"{name}_cut", f"{name}_shape"], [name]),
        ]
    nodes = [*made, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    checker.check_model(model, full_check=True)
    return model
