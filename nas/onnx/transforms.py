"""The transforms, g_a, h_a and g_s, as ONNX models in float32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import onnx
from torch import Tensor, nn

from nas.graph.layers.build import LEAKY_SLOPE
from nas.graph.layers.gdn import GDN
from nas.onnx.graphs import Graph
from nas.spaces import description as spec


def transform_model(
    edge: spec.Edge, module: nn.Module, *, inputs: tuple[str, int], outputs: tuple[str, int]
) -> onnx.ModelProto:
    """Make the model of one edge, for any size of picture.

    Args:
        edge: description of the edge.
        module: its plain layers on the CPU.
        inputs, outputs: names of its input and output, and their channels.
    """
    graph = Graph()
    value = graph.input(inputs[0], [1, inputs[1], "rows", "columns"])
    if edge.magnitude:
        value = graph.node("Abs", value)
    value = run_layers(graph, value, edge.layers, module.children())
    graph.output(outputs[0], value, [1, outputs[1], "rows_out", "columns_out"])
    return graph.model()


def run_layers(graph: Graph, x: str, layers: Sequence[spec.Layer], modules: Iterable[nn.Module]) -> str:
    """Add consecutive layers.

    Args:
        graph: the graph.
        x: name of the first layer's input.
        layers: descriptions of the layers.
        modules: the same layers as plain modules.
    """
    for layer, part in zip(layers, modules, strict=True):
        x = _layer(graph, x, layer, part)
    return x


def _layer(graph: Graph, x: str, layer: spec.Layer, module: nn.Module) -> str:
    match layer:
        case spec.Conv(stride=stride):
            return _convolution(graph, "Conv", x, module, layer.padding, strides=[stride] * 2)
        case spec.Deconv(stride=stride):
            more = [stride - 1] * 2
            return _convolution(graph, "ConvTranspose", x, module, strides=[stride] * 2, output_padding=more)
        case spec.Subpel(stride=stride):
            convolved = _convolution(graph, "Conv", x, module.get_submodule("0"))
            return graph.node("DepthToSpace", convolved, blocksize=stride, mode="CRD")
        case spec.GDN():
            return _gdn(graph, x, cast(GDN, module))
        case spec.ReLU():
            return graph.node("Relu", x)
        case spec.LeakyReLU():
            return graph.node("LeakyRelu", x, alpha=LEAKY_SLOPE)
        case spec.Residual(body=body, shortcut=shortcut):
            change = x
            for name, part in body:
                change = _layer(graph, change, part, module.get_submodule(name))
            if shortcut:
                x = _layer(graph, x, shortcut[1], module.get_submodule(shortcut[0]))
            return graph.node("Add", change, x)
        case spec.Depthwise():
            return _convolution(graph, "Conv", x, module, group=module.groups)
        case spec.Repeat(block=block):
            for each in module.children():
                x = (
                    _layer(graph, x, block[0], each)
                    if len(block) == 1
                    else run_layers(graph, x, block, each.children())
                )
            return x
        case spec.Parallel(branches=branches):
            parts = dict(module.named_children())
            sums = [
                run_layers(graph, x, b.layers, parts[b.name].children()) for b in branches if b.name in parts
            ]
            return graph.node("Sum", *sums)


def _convolution(
    graph: Graph, operator: str, x: str, module: nn.Module, padding: int | None = None, **more: Any
) -> str:
    """A convolution with `padding` on every side, by default 'same'."""
    weight, bias = (cast(Tensor, part).detach() for part in (module.weight, module.bias))
    pads = [weight.shape[-1] // 2 if padding is None else padding] * 4
    return graph.node(operator, x, graph.weight(weight), graph.constant(bias), pads=pads, **more)


def _gdn(graph: Graph, x: str, module: GDN) -> str:
    beta = module.beta_reparam(module.beta.detach())
    gamma = module.gamma_reparam(module.gamma.detach())
    squares = graph.node("Mul", x, x)
    norm = graph.node("Conv", squares, graph.constant(gamma[..., None, None]), graph.constant(beta))
    return graph.node("Mul" if module.inverse else "Div", x, graph.node("Sqrt", norm))
