"""Post-training quantisation of the entropy path: converts a trained network to integers.

Rectifiers scale with their inputs. Every channel between two layers may therefore have a scale of its own,
which is folded into the weights on both sides. The scale maps the largest value on calibration latents, with
some headroom, to the largest integer that is allowed there. The weights of every output then get the
largest power of two at which no sum can leave the range that float32 holds exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from nas.codec.codec import Codec
from nas.graph.affine import EXACT, SLOPE_PARTS, Affine
from nas.graph.context import ContextModel
from nas.graph.entropy import MEAN_STEPS, SCALE_UNIT, Z_LIMIT
from nas.graph.integers import CONTEXT_LIMIT, LAST_LIMIT, MOST_WEIGHT, IntegerLayer, IntegerPath
from nas.graph.layers.build import LEAKY_SLOPE
from nas.graph.network import CodecNetwork
from nas.graph.staged import Products, StagedContext, plan
from nas.spaces import description as spec
from nas.spaces.layout import Layout
from nas.support.errors import InputError

# The largest integer between layers: ten bits and a sign. More bits here leave fewer bits for weights.
LIMIT = 2**10 - 1
# By which factor a value may exceed the values seen in calibration before it is clamped.
HEADROOM = 1.25
# The least peak of a channel for its scale, as a share of the largest channel's peak.
FAINT_SHARE = 1e-3
MOST_SHIFT = 22
TOO_LARGE = (
    "The entropy path cannot be converted to integers: on these photos its values are too large or not "
    "finite, so its weights are broken. Train it again, or use weights from before."
)

HyperLatents = tuple[Tensor, Tensor]  # y_hat [B, M, h, w] and z_hat [B, N, h/4, w/4], integers


def quantized(codec: Codec, latents: Sequence[HyperLatents], layouts: Sequence[Layout] = ()) -> Codec:
    """Convert the entropy path of a codec to integers, on the same device.

    Args:
        codec: a codec with a z and with whole latents. It is not changed.
        latents: latents of calibration photos, from `codec.latents`.
        layouts: all layouts that will use the weights. By default only the codec's own.
    """
    on_cpu = [(y_hat.cpu(), z_hat.cpu()) for y_hat, z_hat in latents]
    network = codec.network
    if codec.table.device.type != "cpu":
        network = copy.deepcopy(network).cpu()
    integers = quantize_path(network, layouts or [codec.layout], on_cpu)
    return Codec(codec.network, codec.architecture, codec.table, integers.to(codec.table.device))


def can_be_exact(codec: Codec) -> bool:
    """Whether the entropy path can be converted to integers: the codec has a z, and whole latents.

    Args:
        codec: codec in float64.
    """
    return codec.network.with_z and not codec.network.centred


@torch.no_grad()
def quantize_path(
    network: CodecNetwork, layouts: Sequence[Layout], latents: Sequence[HyperLatents]
) -> IntegerPath:
    """Convert the entropy path of a network to integers.

    Args:
        network: a trained network of plain layers on the CPU, with a z and whole latents. It is not changed.
        layouts: the orders of decoding. Weights that none of them uses are left out.
        latents: latents of calibration photos.
    """
    path = IntegerPath(network)
    values = [z_hat.float() for _, z_hat in latents]
    inputs = _ChannelScales(torch.ones(values[0].shape[1]), Z_LIMIT)
    layers = list(_h_s_layers(network))
    for layer in layers:
        values = [layer.run(value) for value in values]
        outputs = _ChannelScales.of(_peaks(values))
        if layer is layers[-1] and not path.with_context:
            outputs = _last(len(outputs.scales), network.space.family.psi_parts)
        stored = cast(IntegerLayer, path.h_s[layer.name])
        _fill(stored, layer.weight, layer.bias, inputs, outputs.repeated(layer.each), layer.slope)
        inputs = outputs
    if path.with_context:
        assert isinstance(network.context, ContextModel)
        calibration = [(psi, y_hat.float()) for psi, (y_hat, _) in zip(values, latents, strict=True)]
        _quantize_context(path, network.context, layouts, calibration, inputs)
    path.require_exact()
    return path


def _quantize_context(
    path: IntegerPath,
    context: ContextModel,
    layouts: Sequence[Layout],
    calibration: Sequence[tuple[Tensor, Tensor]],
    psi: _ChannelScales,
) -> None:
    """Convert context prediction and entropy parameters, from psi and y_hat of calibration photos."""
    products = Products.of(context)
    predict = None if products.context_prediction is None else _Watched.of(products.context_prediction)
    first, second, third = map(_Watched.of, products.entropy_parameters)
    running = replace(
        products,
        context_prediction=predict,
        entropy_parameters=(first, second, third),
        y_limit=CONTEXT_LIMIT,
    )
    layouts = [layout.of_network for layout in layouts]
    for layout in layouts:
        staged = StagedContext(running, layout)
        for each_psi, y_hat in calibration:
            staged.one_pass(each_psi, y_hat)
    used, *masks = _used(layouts, products)
    hidden_1, hidden_2 = _ChannelScales.of(first.peaks), _ChannelScales.of(second.peaks)
    features = psi
    if predict is not None:
        y, phi = _ChannelScales(torch.ones(context.channels), CONTEXT_LIMIT), _ChannelScales.of(predict.peaks)
        _fill(path.context_prediction, predict.weight * used, predict.bias, y, phi, SLOPE_PARTS)
        features = psi.joined(phi)
    reads = (features, hidden_1, hidden_2)
    writes = (hidden_1, hidden_2, _last(2 * context.channels, 2))
    slopes = (_slope(LEAKY_SLOPE), _slope(LEAKY_SLOPE), SLOPE_PARTS)
    stored = cast(list[IntegerLayer], list(path.entropy_parameters))
    weights = [affine.weight * mask for affine, mask in zip((first, second, third), masks, strict=True)]
    biases = (first.bias, second.bias, third.bias)
    for layer, *parts in zip(stored, weights, biases, reads, writes, slopes, strict=True):
        _fill(layer, *parts)


@dataclass(frozen=True)
class _ChannelScales:
    """The conversion of real values between two layers: multiply by `scales`, and clamp to `limit`."""

    scales: Tensor
    limit: int | Tensor

    @classmethod
    def of(cls, peaks: Tensor) -> _ChannelScales:
        """The scales for channels with known peaks."""
        least = max(float(peaks.max()) * FAINT_SHARE, 1e-6)
        return cls(LIMIT / (HEADROOM * peaks.clamp_min(least)), LIMIT)

    def repeated(self, each: int) -> _ChannelScales:
        """The scales for the outputs of a sub-pixel convolution, with `each` outputs per channel."""
        return _ChannelScales(self.scales.repeat_interleave(each), self.limit)

    def joined(self, other: _ChannelScales) -> _ChannelScales:
        """Concatenate the channels of two conversions with the same limit."""
        return _ChannelScales(torch.cat([self.scales, other.scales]), self.limit)


def _last(outputs: int, parts: int) -> _ChannelScales:
    """The outputs of the last layer: scales, and means if there are any, in units of the coding grid."""
    units = torch.tensor([1 / SCALE_UNIT, MEAN_STEPS][:parts])
    return _ChannelScales(units.repeat_interleave(outputs // parts), LAST_LIMIT)


def _fill(
    layer: IntegerLayer,
    weight: Tensor,
    bias: Tensor,
    inputs: _ChannelScales,
    outputs: _ChannelScales,
    slope: int,
) -> None:
    """Store a layer. Every output gets the largest power of two at which its sums stay exact.

    Raises:
        InputError: there is none, for example because values are not finite.

    Args:
        layer: the layer to fill.
        weight, bias: real numbers, [outputs, inputs, *kernel] and [outputs].
        inputs, outputs: conversions of its inputs and outputs.
        slope: slope of the activation that follows, in units of 1 / `SLOPE_PARTS`.
    """
    shape = (-1, *[1] * (weight.ndim - 1))
    real = weight.double() / inputs.scales.double().view(1, *shape[:-1]) * outputs.scales.double().view(shape)
    offset = bias.double() * outputs.scales.double()
    sums = real.abs().flatten(1).sum(1) * float(inputs.limit) + offset.abs() + 0.5
    room = torch.minimum(EXACT / sums, MOST_WEIGHT / real.abs().flatten(1).amax(1).clamp_min(1e-30))
    shift = room.log2().floor().clamp_max(MOST_SHIFT)
    if not (shift >= -MOST_SHIFT).all():  # also catches NaN
        raise InputError(TOO_LARGE)
    layer.slope.fill_(slope)
    layer.limit.fill_(int(outputs.limit))
    limits = torch.full((weight.shape[1],), int(inputs.limit))
    for _ in range(2 * MOST_SHIFT):
        factor = torch.exp2(shift)
        layer.weight.copy_((real * factor.view(shape)).round())
        layer.bias.copy_((offset * factor).round() + torch.where(shift > 0, factor / 2, 0.0))
        layer.shift.copy_(shift)
        over = layer.largest_sums(limits) >= EXACT
        if not over.any():
            return
        shift = shift - over.double()
    raise InputError(TOO_LARGE)


@dataclass(frozen=True)
class _HyperLayer:
    """One convolution of h_s, with the activation that follows."""

    name: str
    weight: Tensor  # [outputs, inputs, kernel, kernel]
    bias: Tensor
    each: int  # number of outputs per channel that the next layer reads
    slope: int
    run: nn.Module


def _h_s_layers(network: CodecNetwork) -> Iterator[_HyperLayer]:
    described = network.space.family.edges["h_s"].layers
    children = list(network.h_s.children())
    for number, layer in enumerate(described):
        if not isinstance(layer, spec.Conv | spec.Deconv | spec.Subpel):
            continue
        module = children[number]
        conv = module[0] if isinstance(layer, spec.Subpel) else module  # type: ignore[index]
        weight, bias = cast(Tensor, conv.weight), cast(Tensor, conv.bias)
        slope, run = SLOPE_PARTS, [module]
        match described[number + 1 : number + 2]:
            case (spec.ReLU(),):
                slope, run = 0, [module, children[number + 1]]
            case (spec.LeakyReLU(),):
                slope, run = _slope(LEAKY_SLOPE), [module, children[number + 1]]
        weight = weight.transpose(0, 1) if isinstance(layer, spec.Deconv) else weight
        each = layer.stride**2 if isinstance(layer, spec.Subpel) else 1
        yield _HyperLayer(str(number), weight, bias, each, slope, nn.Sequential(*run))


def _slope(real: float) -> int:
    return round(real * SLOPE_PARTS)


def _peaks(values: Sequence[Tensor]) -> Tensor:
    """The largest absolute value of every channel over several tensors, [B, C, h, w] each."""
    return torch.stack([value.abs().amax((0, 2, 3)) for value in values]).amax(0)


@dataclass(frozen=True)
class _Watched(Affine):
    """An affine map that records the largest absolute value of each of its outputs."""

    peaks: Tensor = field(kw_only=True)
    rows: Tensor = field(kw_only=True)

    @classmethod
    def of(cls, affine: object) -> _Watched:
        assert isinstance(affine, Affine)
        count = len(affine.bias)
        return cls(**vars(affine), peaks=torch.zeros(count), rows=torch.arange(count))

    def select(self, outputs: Tensor, *inputs: Tensor) -> _Watched:
        return _Watched(**vars(super().select(outputs, *inputs)), peaks=self.peaks, rows=self.rows[outputs])

    def __call__(self, columns: Tensor) -> Tensor:
        out = super().__call__(columns)
        largest = out.abs().flatten(0, -2).amax(0)
        self.peaks[self.rows] = torch.maximum(self.peaks[self.rows], largest)
        return out


def _used(layouts: Sequence[Layout], products: Products) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Masks, 0 or 1, of the weights of context prediction and the pointwise layers that any block uses."""
    first, second, third = (torch.zeros_like(layer.weight) for layer in products.entropy_parameters)
    predict = products.context_prediction
    context = torch.zeros(0) if predict is None else torch.zeros_like(predict.weight)
    first[:, : products.psi] = 1
    sizes = products.window, products.hidden, products.phi
    for block in (block for layout in layouts for block in plan(layout, *sizes)):
        for near in block.seen:
            context[(block.features[:, None], *near.columns())] = 1
        first[block.units_1[:, None], products.psi + block.phi] = 1
        second[block.units_2[:, None], block.known_1] = 1
        third[block.outputs[:, None], block.known_2] = 1
    return context, first, second, third
