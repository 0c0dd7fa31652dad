"""An edge of a codec as ONNX models: one for each piece that a profile times, and how they are connected.

Consecutive layers are one model. If parallel branches are pieces of their own, the last one also adds up the
outputs of all of them::

    x --piece--> 0 --branch--> 1 ------------+
                 +--branch--> 2 --piece------+--> 3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from torch import nn

from nas.graph.network import CodecNetwork
from nas.profiling.pieces import EdgePiece
from nas.spaces import description as spec
from nas.spaces.description import ends

if TYPE_CHECKING:
    import onnx

INPUT = "x"  # name of an edge's input; outputs of its steps are numbered
_Modules = Sequence[nn.Module]


@dataclass
class EdgeStep:
    """One model of an edge.

    Attributes:
        part: name of the piece.
        inputs: the values that it reads. The first one passes its layers, and the others are added at the
            end.
        output: the value that it gives.
        channels: channels of the first input.
        layers, modules: its layers, as descriptions and as plain modules.
    """

    part: str
    inputs: list[str]
    output: str
    channels: int
    layers: Sequence[spec.Layer]
    modules: _Modules

    def described(self) -> dict[str, object]:
        """The entry of the step for the runner, apart from its file."""
        return {"part": self.part, "inputs": self.inputs, "output": self.output}


def edge_steps(
    network: CodecNetwork, name: str, pieces: Sequence[EdgePiece], h_s: nn.Module
) -> list[EdgeStep]:
    """The models of an edge, in the order in which they run.

    Args:
        network: network of plain layers.
        name: name of the edge.
        pieces: the pieces of this edge, as `edge_pieces` gives them; none for the whole edge in one model.
        h_s: h_s as it runs when coding, for that edge.
    """
    edge = network.space.family.edges[name]
    whole = EdgePiece(name, name, tuple(str(number) for number in range(len(edge.layers))), ())
    widths = {each: width.active for each, width in network.widths.items()}
    program = _Program({piece.layers[0]: piece for piece in pieces or (whole,)}, widths)
    modules = list((h_s if name == "h_s" else network.get_submodule(name)).children())
    start = {"g_a": 3, "h_a": widths["y"], "g_s": widths["y"]}.get(name) or widths["z"]
    program.row(edge.layers, modules, "", _Value(INPUT, start))
    return program.steps


def step_model(step: EdgeStep, name: str, family: spec.Family, *, last: bool) -> onnx.ModelProto:
    """The model of a step, for any size of picture.

    Args:
        step: the step.
        name: name of its edge.
        family: the codec's family.
        last: whether it is the last of its edge.
    """
    from nas.onnx.graphs import Graph
    from nas.onnx.path import clipped_means, run_integer_layers
    from nas.onnx.transforms import run_layers

    graph = Graph()
    x = graph.input("x", [1, step.channels, "rows", "columns"])
    others = [
        graph.input(f"other_{number}", [1, "channels", "rows_out", "columns_out"])
        for number, _ in enumerate(step.inputs[1:])
    ]
    if name == "h_s":
        value = run_integer_layers(graph, x, step.modules)
        if last and not family.context and family.psi_parts == 2:
            value = clipped_means(graph, value)
    else:
        if family.edges[name].magnitude and step.inputs[0] == INPUT:
            x = graph.node("Abs", x)
        value = run_layers(graph, x, step.layers, step.modules)
    if others:
        value = graph.node("Sum", value, *others)
    graph.output("y", value, [1, "channels", "rows_out", "columns_out"])
    return graph.model()


@dataclass(frozen=True)
class _Value:
    """A tensor on the way through an edge."""

    name: str
    channels: int


@dataclass
class _Program:
    """Steps as they are found.

    Attributes:
        pieces: by the place of their first layer.
        widths: channels and depths by name.
    """

    pieces: Mapping[str, EdgePiece]
    widths: Mapping[str, int]
    steps: list[EdgeStep] = field(default_factory=list)

    def row(self, layers: Sequence[spec.Layer], modules: _Modules, prefix: str, x: _Value) -> _Value:
        """Layers in a row: pieces, and branches between them that are pieces of their own."""
        number = 0
        while number < len(layers):
            piece = self.pieces.get(f"{prefix}{number}")
            if piece is None:
                layer = cast(spec.Parallel, layers[number])
                x = self.side_by_side(layer, modules[number], f"{prefix}{number}.", x)
                number += 1
            else:
                stop = number + len(piece.layers)
                x = self.run(piece.name, layers[number:stop], modules[number:stop], x)
                number = stop
        return x

    def run(self, part: str, layers: Sequence[spec.Layer], modules: _Modules, x: _Value) -> _Value:
        """One model; none where there is nothing to run, as with no block of a repetition."""
        if all(
            isinstance(layer, spec.Repeat) and not list(module.children())
            for layer, module in zip(layers, modules, strict=True)
        ):
            return x
        channels = x.channels
        for layer in layers:
            channels = self._after(layer, channels)
        output = _Value(str(len(self.steps)), channels)
        self.steps.append(EdgeStep(part, [x.name], output.name, x.channels, layers, modules))
        return output

    def side_by_side(self, layer: spec.Parallel, module: nn.Module, prefix: str, x: _Value) -> _Value:
        """Every branch that runs; the last model among them adds up what they make."""
        running = dict(module.named_children())
        values = [
            self.row(branch.layers, list(running[branch.name].children()), f"{prefix}{branch.name}.", x)
            for branch in layer.branches
            if branch.name in running
        ]
        last = self.steps[-1]
        (own,) = (value for value in values if value.name == last.output)
        last.inputs += [value.name for value in values if value is not own]
        return own

    def _after(self, layer: spec.Layer, channels: int) -> int:
        match layer:
            case spec.Residual(body=body):
                return self._after_all([part for _, part in body], channels)
            case spec.Repeat():
                return channels  # or it could not be left out
            case spec.Parallel(branches=branches):
                return self._after_all(branches[0].layers, channels)
            case _:
                names = ends(layer)
                return channels if not names else 3 if names[-1] == "x" else self.widths[names[-1]]

    def _after_all(self, layers: Sequence[spec.Layer], channels: int) -> int:
        for layer in layers:
            channels = self._after(layer, channels)
        return channels
