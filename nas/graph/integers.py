"""The entropy path in integer arithmetic, with the same result on every machine.

h_s, context prediction and entropy parameters have 16-bit weights and integers as inputs and outputs.
They compute in float32, where sums below 2^24 are exact (`graph.affine`). Everything is a matrix product over
gathered columns, so that no other convolution algorithm can change a sum::

    z_hat --h_s--> psi --+--> entropy parameters --> scales in 1/1024, means in 1/64 --> the coding grid
    y_hat, within +-127, --context prediction--> phi

The weights of every output have a power of two as a scale of their own. `codec.quantize` chooses them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph.affine import EXACT, SLOPE_PARTS, IntegerAffine
from nas.graph.context import ContextModel
from nas.graph.entropy import MEAN_STEPS, Y_LIMIT, Z_LIMIT, levels_of_whole
from nas.graph.network import CodecNetwork
from nas.graph.staged import SLICE, Products
from nas.spaces import description as spec
from nas.support.errors import InputError

# The context reads y clamped to these limits: larger values are rare, and bounded sums need bounded inputs.
CONTEXT_LIMIT = 127
# Limit of the last layer, whose outputs no product reads: scales up to 256 in units of 1/1024.
LAST_LIMIT = 2**18
MOST_WEIGHT = 2**15 - 1


class IntegerLayer(nn.Module):
    """One layer of the integer path, as it is stored.

    Args:
        outputs: number of outputs.
        *inputs: number of inputs, then the sides of the kernel if there is one.

    Attributes:
        weight: 16-bit weights, [outputs, inputs, *kernel], also for a transposed convolution.
        bias: [outputs].
        shift: sums are divided by 2^shift, [outputs].
        slope: negative slope of the activation that follows, in units of 1 / `SLOPE_PARTS`. `SLOPE_PARTS`
            means that there is no activation.
        limit: outputs are clamped to +-limit.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    slope: Tensor
    limit: Tensor

    def __init__(self, outputs: int, *inputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, *inputs, dtype=torch.int16))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.int32))
        self.register_buffer("shift", torch.zeros(outputs, dtype=torch.int8))
        self.register_buffer("slope", torch.tensor(SLOPE_PARTS, dtype=torch.int32))
        self.register_buffer("limit", torch.tensor(1, dtype=torch.int32))

    def affine(self) -> IntegerAffine:
        """The same affine map as float tensors, with exactly the integer weights that inference uses."""
        step = torch.exp2(-self.shift.float())
        return IntegerAffine(self.weight.float(), self.bias.float(), step, int(self.slope), int(self.limit))

    def largest_sums(self, limits: Tensor) -> Tensor:
        """Upper bound on the sums behind each output, partial sums included, [outputs].

        Args:
            limits: largest absolute value of every input channel, [inputs].
        """
        sizes = (
            self.weight.long().abs().flatten(2).sum(-1) if self.weight.ndim > 2 else self.weight.long().abs()
        )
        return (sizes * limits.long()).sum(1) + self.bias.long().abs()


class IntegerPath(nn.Module):
    """All layers of one network's entropy path. The weights are zero at first.

    Args:
        network: a network of plain layers with a z.

    Attributes:
        table: table of the network's context, if it has one: see `ScaleTable.levels`.
    """

    table: Tensor

    def __init__(self, network: CodecNetwork) -> None:
        super().__init__()
        self.edge = network.space.family.edges["h_s"]
        widths = {name: width.active for name, width in network.widths.items()}
        self.h_s = nn.ModuleDict()
        for number, layer in enumerate(self.edge.layers):
            match layer:
                case spec.Conv() | spec.Deconv() | spec.Subpel():
                    each = layer.stride**2 if isinstance(layer, spec.Subpel) else 1
                    kernel = (layer.kernel, layer.kernel)
                    self.h_s[str(number)] = IntegerLayer(
                        widths[layer.outputs] * each, widths[layer.inputs], *kernel
                    )
                case spec.ReLU() | spec.LeakyReLU():
                    pass
                case _:
                    raise NotImplementedError(f"h_s with a {type(layer).__name__} has no integer version yet")
        self.with_context = isinstance(network.context, ContextModel)
        self.psi_parts = network.space.family.psi_parts
        if isinstance(network.context, ContextModel):
            model = network.context
            if model.phi:
                self.context_prediction = IntegerLayer(*model.context_prediction.weight.shape)
            if hasattr(model, "table"):
                self.register_buffer("table", model.table.levels())
            self.entropy_parameters = nn.ModuleList(
                IntegerLayer(*weight.shape) for weight, _ in model.pointwise()
            )

    @property
    def layers(self) -> list[IntegerLayer]:
        """All layers, in the order in which they run."""
        return [module for module in self.modules() if isinstance(module, IntegerLayer)]

    def hyper(self) -> nn.Sequential:
        """h_s in integer arithmetic: z_hat, [B, N, h, w], to psi, [B, channels, 4h, 4w]."""
        return IntegerTransform(self.edge, {name: layer.affine() for name, layer in self.h_s.items()})  # type: ignore[operator]

    def products(self) -> Products:
        """Context prediction and entropy parameters in integer arithmetic."""
        first, second, third = (layer.affine() for layer in self.entropy_parameters)  # type: ignore[operator]
        predict = self.context_prediction.affine() if hasattr(self, "context_prediction") else None
        return Products(predict, (first, second, third), integer_grid, CONTEXT_LIMIT)

    def require_exact(self) -> None:
        """Refuse weights with which a sum might not be exact.

        Raises:
            InputError: the weights were altered, or were not made by this toolkit.
        """
        if max(self.largest_sums()) >= EXACT:
            raise InputError("The codec's integers are too large to be exact: export the codec again.")

    def largest_sums(self) -> list[int]:
        """Upper bounds on the sums, layer by layer."""
        largest, limit = [], torch.tensor(Z_LIMIT)

        def add(layer: nn.Module, limits: Tensor) -> Tensor:
            assert isinstance(layer, IntegerLayer)
            largest.append(int(layer.largest_sums(limits.expand(layer.weight.shape[1])).max()))
            return layer.limit

        for layer in self.h_s.values():
            limit = add(layer, limit)
        if self.with_context:
            if hasattr(self, "context_prediction"):
                phi = add(self.context_prediction, torch.tensor(CONTEXT_LIMIT))
                features, first = len(self.context_prediction.bias), self.entropy_parameters[0]
                assert isinstance(first, IntegerLayer)
                counts = torch.tensor([first.weight.shape[1] - features, features])
                limit = torch.stack([limit, phi]).repeat_interleave(counts)
            for layer in self.entropy_parameters:
                limit = add(layer, limit)
        return largest


def integer_grid(scales: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Convert outputs of the last layer to the coding grid, as `to_grid` does for real numbers.

    Args:
        scales: scales in units of `SCALE_UNIT`.
        means: means in steps of 1 / MEAN_STEPS, in the shape of `scales`.
    """
    return levels_of_whole(scales), means.clamp(-Y_LIMIT * MEAN_STEPS, Y_LIMIT * MEAN_STEPS)


class IntegerTransform(nn.Sequential):
    """An edge in integer arithmetic. Its layers have the places of the edge's, and include the activations.

    Args:
        edge: description of the edge.
        affines: integer weights of the convolutions, by the place of their layer in the edge (`0`, `2`, ...).
    """

    def __init__(self, edge: spec.Edge, affines: dict[str, IntegerAffine]) -> None:
        modules: list[nn.Module] = []
        for number, layer in enumerate(edge.layers):
            match layer:
                case spec.Conv(stride=1):
                    modules.append(IntegerConv(affines[str(number)]))
                case spec.Deconv():
                    modules.append(IntegerDeconv(affines[str(number)], layer.stride))
                case spec.Subpel():
                    modules.append(IntegerConv(affines[str(number)], layer.stride))
                case _:
                    modules.append(nn.Identity())
        super().__init__(*modules)

    def forward(self, x: Tensor) -> Tensor:
        """Run the edge on integers, [B, C, H, W]. From the first layer on, channels are last in memory.

        Args:
            x: integers in float32, [B, C, H, W].
        """
        x = x.permute(0, 2, 3, 1)
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call] # torch gives it no types
        return out.permute(0, 3, 1, 2)


class IntegerConv(nn.Module):
    """A convolution of stride 1, [B, H, W, C] to [B, H, W, outputs], or with `upsampling` a sub-pixel one.

    Args:
        affine: integer weights, [outputs, inputs, kernel, kernel], with bias, scale and activation.
        upsampling: how many times larger the output is than the input, per side.
    """

    def __init__(self, affine: IntegerAffine, upsampling: int = 1) -> None:
        super().__init__()
        kernel = affine.weight.shape[-1]
        self.reach, self.upsampling = kernel // 2, upsampling
        self.places = [(row, column) for row in range(kernel) for column in range(kernel)]
        self.affine = _at(affine, self.places)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve integers x, [B, H, W, C], to [B, u * H, u * W, outputs / u^2] with upsampling u."""
        out = _windows(x, self.reach, self.places, self.affine)
        if self.upsampling == 1:
            return out
        parts: Tensor = out.unflatten(-1, (-1, self.upsampling, self.upsampling))
        return parts.permute(0, 1, 4, 2, 5, 3).flatten(1, 2).flatten(2, 3)


class IntegerDeconv(nn.Module):
    """A transposed convolution, [B, H, W, C] to [B, stride * H, stride * W, outputs].

    The outputs at each phase of the stride read the input through a part of the kernel.

    Args:
        affine: integer weights, [outputs, inputs, kernel, kernel], with bias, scale and activation.
        stride: how many times larger the output is than the input, per side.
    """

    def __init__(self, affine: IntegerAffine, stride: int) -> None:
        super().__init__()
        kernel = affine.weight.shape[-1]
        edge, self.stride = kernel // 2, stride
        # output stride * q + phase reads input q + (phase + edge - tap) / stride, if that is a whole number
        taps = [
            [tap for tap in range(kernel) if (phase + edge - tap) % stride == 0] for phase in range(stride)
        ]
        offsets = [[(phase + edge - tap) // stride for tap in taps[phase]] for phase in range(stride)]
        self.reach = max(abs(offset) for part in offsets for offset in part)
        self.phases = []
        for row in range(stride):
            for column in range(stride):
                kept = [(i, j) for i in taps[row] for j in taps[column]]
                places = [(i + self.reach, j + self.reach) for i in offsets[row] for j in offsets[column]]
                self.phases.append((row, column, places, _at(affine, kept)))

    def forward(self, x: Tensor) -> Tensor:
        """Deconvolve integers x, [B, H, W, C], to [B, stride * H, stride * W, outputs]."""
        batch, height, width, _ = x.shape
        out = x.new_empty(batch, height, self.stride, width, self.stride, len(self.phases[0][3].bias))
        for row, column, places, affine in self.phases:
            out[:, :, row, :, column] = _windows(x, self.reach, places, affine)
        return out.flatten(1, 2).flatten(2, 3)


def _at(affine: IntegerAffine, places: Sequence[tuple[int, int]]) -> IntegerAffine:
    """A layer that reads the columns of some places of its window: place by place, all channels of each."""
    outputs, inputs = affine.weight.shape[:2]
    rows, columns = torch.tensor(places).T.repeat_interleave(inputs, 1)
    return affine.select(torch.arange(outputs), torch.arange(inputs).repeat(len(places)), rows, columns)


def _windows(x: Tensor, reach: int, places: Sequence[tuple[int, int]], affine: IntegerAffine) -> Tensor:
    """A layer's outputs at all positions of [B, H, W, C], computed some rows at a time."""
    batch, height, width, _ = x.shape
    padded = F.pad(x, (0, 0, reach, reach, reach, reach))
    out = x.new_empty(batch, height, width, len(affine.bias))
    tall = max(1, SLICE // (batch * width))
    for top in range(0, height, tall):
        bottom = min(height, top + tall)
        columns = [padded[:, top + i : bottom + i, j : j + width] for i, j in places]
        out[:, top:bottom] = affine(torch.cat(columns, -1))
    return out
