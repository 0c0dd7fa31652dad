"""The two sets of layers that a family's description can be built from.

Plain layers make an exported codec; slimmable layers make the supernet. A slimmable layer holds one full
weight and runs a slice of it, chosen by the `Width` objects it shares with its neighbours. With gates set
on a `Width` (learning widths), the full layer runs and its output is masked instead: the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph import _compressai
from nas.graph import families as spec

LEAKY_SLOPE = 0.01


class Width:
    """How many channels lie between two layers: one of `candidates`, chosen by index, or gated.

    Attributes:
        index: the active candidate.
        gates: None, or weights over the candidates that sum to 1 (a Gumbel sample), shape [candidates];
            the layers then run at full width and are masked by sum_n gates[n] * [channel < candidates[n]].
    """

    def __init__(self, name: str, candidates: Sequence[int]) -> None:
        self.name = name
        self.candidates = tuple(candidates)
        self.index = len(self.candidates) - 1
        self.gates: Tensor | None = None

    @property
    def full(self) -> int:
        return self.candidates[-1]

    @property
    def active(self) -> int:
        """The channels in use: all of them under gates."""
        return self.full if self.gates is not None else self.candidates[self.index]

    def mask(self) -> Tensor | None:
        """What multiplies the channels under gates, shape [full]; None without gates."""
        if self.gates is None:
            return None
        sizes = torch.tensor(self.candidates, device=self.gates.device)
        below = torch.arange(self.full, device=self.gates.device) < sizes[:, None]
        return self.gates @ below.to(self.gates.dtype)


def _masked(x: Tensor, width: Width) -> Tensor:
    mask = width.mask()
    return x if mask is None else x * mask.to(x.dtype)[:, None, None]


class SlimmableConv2d(nn.Conv2d):
    """A convolution that runs `weight[:out, :in]`; masked after the bias under gates."""

    def __init__(self, inputs: Width, outputs: Width, kernel: int, stride: int) -> None:
        super().__init__(inputs.full, outputs.full, kernel, stride, padding=kernel // 2)
        self.inputs, self.outputs = inputs, outputs

    def sliced(self) -> dict[str, Tensor]:
        out = self.outputs.active
        return {
            "weight": self.weight[:out, : self.inputs.active],
            "bias": cast(Tensor, self.bias)[:out],
        }

    def forward(self, x: Tensor) -> Tensor:
        part = self.sliced()
        out = F.conv2d(x, part["weight"], part["bias"], self.stride, self.padding)
        return _masked(out, self.outputs)


class SlimmableConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that runs `weight[:in, :out]`; masked after the bias under gates."""

    def __init__(self, inputs: Width, outputs: Width, kernel: int, stride: int) -> None:
        super().__init__(
            inputs.full,
            outputs.full,
            kernel,
            stride,
            padding=kernel // 2,
            output_padding=stride - 1,
        )
        self.inputs, self.outputs = inputs, outputs

    def sliced(self) -> dict[str, Tensor]:
        out = self.outputs.active
        return {
            "weight": self.weight[: self.inputs.active, :out],
            "bias": cast(Tensor, self.bias)[:out],
        }

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        part = self.sliced()
        out = F.conv_transpose2d(
            x,
            part["weight"],
            part["bias"],
            self.stride,
            cast(tuple[int, ...], self.padding),
            self.output_padding,
        )
        return _masked(out, self.outputs)


class SlimmableGDN(_compressai.GDN):
    """GDN that runs `gamma[:c, :c]`, `beta[:c]`, adjusted by four learned scalars per width.

    The scalars (scale and shift of beta and of gamma) are SlimCAE's (Yang et al., CVPR 2021); the widest
    width's are fixed at scale 1 and shift 0. Export folds them into beta and gamma.
    """

    beta_minimum = 1e-6

    def __init__(self, width: Width, inverse: bool) -> None:
        super().__init__(width.full, inverse=inverse)
        self.width = width
        # rows: all widths but the widest; columns: beta's scale and shift, gamma's scale and shift
        identity = torch.tensor([1.0, 0.0, 1.0, 0.0])
        self.adjust = nn.Parameter(identity.repeat(len(width.candidates) - 1, 1))
        self.register_buffer("identity", identity[None], persistent=False)

    def _scalars(self) -> Tensor:
        table = torch.cat([self.adjust, cast(Tensor, self.identity)])
        if self.width.gates is not None:
            return self.width.gates.to(table.dtype) @ table
        return table[self.width.index]

    def parameters_in_use(self) -> tuple[Tensor, Tensor]:
        """Effective beta [c] and gamma [c, c] at the active width."""
        c = self.width.active
        scale_b, shift_b, scale_g, shift_g = self._scalars().unbind()
        beta = self.beta_reparam(self.beta[:c]) * scale_b + shift_b
        gamma = self.gamma_reparam(self.gamma[:c, :c]) * scale_g + shift_g
        return beta.clamp_min(self.beta_minimum), gamma.clamp_min(0)

    def sliced(self) -> dict[str, Tensor]:
        beta, gamma = self.parameters_in_use()
        return {
            "beta": self.beta_reparam.init(beta),
            "gamma": self.gamma_reparam.init(gamma),
        }

    def forward(self, x: Tensor) -> Tensor:
        beta, gamma = self.parameters_in_use()
        norm = F.conv2d(x**2, gamma[:, :, None, None], beta)
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))


class PlainLayers:
    """torch's and CompressAI's own layers, at the widths' active values."""

    def conv(self, layer: spec.Conv, widths: Mapping[str, Width]) -> nn.Module:
        inputs, outputs = widths[layer.inputs].active, widths[layer.outputs].active
        return nn.Conv2d(inputs, outputs, layer.kernel, layer.stride, padding=layer.kernel // 2)

    def deconv(self, layer: spec.Deconv, widths: Mapping[str, Width]) -> nn.Module:
        return nn.ConvTranspose2d(
            widths[layer.inputs].active,
            widths[layer.outputs].active,
            layer.kernel,
            layer.stride,
            padding=layer.kernel // 2,
            output_padding=layer.stride - 1,
        )

    def gdn(self, layer: spec.GDN, widths: Mapping[str, Width]) -> nn.Module:
        return _compressai.GDN(widths[layer.width].active, inverse=layer.inverse)


class SlimmableLayers:
    """Layers that hold the widest weights and run any narrower slice."""

    def conv(self, layer: spec.Conv, widths: Mapping[str, Width]) -> nn.Module:
        return SlimmableConv2d(widths[layer.inputs], widths[layer.outputs], layer.kernel, layer.stride)

    def deconv(self, layer: spec.Deconv, widths: Mapping[str, Width]) -> nn.Module:
        inputs, outputs = widths[layer.inputs], widths[layer.outputs]
        return SlimmableConvTranspose2d(inputs, outputs, layer.kernel, layer.stride)

    def gdn(self, layer: spec.GDN, widths: Mapping[str, Width]) -> nn.Module:
        return SlimmableGDN(widths[layer.width], layer.inverse)


def build_layer(
    layer: spec.Layer, layers: PlainLayers | SlimmableLayers, widths: Mapping[str, Width]
) -> nn.Module:
    """The module of one described layer."""
    match layer:
        case spec.Conv():
            return layers.conv(layer, widths)
        case spec.Deconv():
            return layers.deconv(layer, widths)
        case spec.GDN():
            return layers.gdn(layer, widths)
        case spec.LeakyReLU():
            return nn.LeakyReLU(LEAKY_SLOPE)


def build_edge(
    edge: spec.Edge, layers: PlainLayers | SlimmableLayers, widths: Mapping[str, Width]
) -> nn.Sequential:
    """The transform of one edge."""
    return nn.Sequential(*(build_layer(layer, layers, widths) for layer in edge.layers))
