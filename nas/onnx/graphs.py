"""Builds ONNX graphs node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas.support.arrays import Array

OPSET, IR = 18, 8  # versions that runtimes since 2023 read


class Graph:
    """An ONNX model under construction. Values are referred to by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: list[onnx.TensorProto] = []

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """Add an input in float32. A side with a name may have any length.

        Args:
            name: name of the input.
            shape: its sides, each one a number or a name.
        """
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        """Add an output for a value.

        Args:
            name: name of the output.
            value: name of the value.
            shape: its sides, each one a number or a name.
        """
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        """Add a constant, and return the name of its value.

        Args:
            values: the numbers, of any shape.
            kind: their type in NumPy.
        """
        name = f"constant_{len(self._constants)}"
        array = np.array(values, dtype=kind, order="C")
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def widened(self, values: Array) -> str:
        """Add 16-bit integers as a constant that is converted to float32.

        Args:
            values: weights, of any shape.

        Returns:
            Name of the float32 tensor in the graph, in the shape of `values`.
        """
        return self.node("Cast", self.constant(values, np.int16), to=TensorProto.FLOAT)

    def weight(self, values: Any) -> str:
        """Add a weight in float32. It is stored in half precision where that holds every number exactly.

        The package's own supernets are stored in half precision, so their models take half the bytes.
        Runtimes convert such a constant when they load it.

        Args:
            values: the numbers, of any shape.

        Returns:
            Name of the float32 tensor in the graph, in the shape of `values`.
        """
        array = np.array(values, dtype=np.float32)
        with np.errstate(over="ignore"):  # infinite in half precision, and so not exact
            half = array.astype(np.float16)
        if not np.array_equal(half, array):
            return self.constant(array)
        return self.node("Cast", self.constant(half, np.float16), to=TensorProto.FLOAT)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output, and return the name of the output.

        Args:
            operator: name of the ONNX operator.
            *inputs: names of the values that it reads.
            **attributes: attributes of the operator.
        """
        return self.nodes(operator, 1, *inputs, **attributes)[0]

    def nodes(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add an operator with several outputs, and return their names.

        Args:
            operator: name of the ONNX operator.
            count: number of outputs.
            *inputs: names of the values that it reads.
            **attributes: attributes of the operator.
        """
        names = [f"value_{len(self._nodes)}_{number}" for number in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def model(self) -> onnx.ModelProto:
        """The finished model, checked."""
        graph = helper.make_graph(self._nodes, "nas", self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="nas-codec")
        onnx.checker.check_model(model, full_check=True)
        return model

    def joined(self, values: Sequence[str]) -> str:
        """Concatenate values along their channels, dimension 1.

        Args:
            values: names of tensors [n, channels, ...] in the graph.
        """
        return values[0] if len(values) == 1 else self.node("Concat", *values, axis=1)

    def clipped(self, value: str, low: float | None, high: float | None) -> str:
        """Clip a value to a range, and return the name of the result.

        Args:
            value: name of the value.
            low: the lower end, or None for no limit.
            high: the upper end, or None for no limit.
        """
        bounds = ["" if bound is None else self.constant(bound) for bound in (low, high)]
        return self.node("Clip", value, *bounds)
