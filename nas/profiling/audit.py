"""The exact calls of encoder and decoder as modules, on which the MACs of a whole codec are counted.

The cost tables add up layers measured one by one. Here nothing is added up: fvcore (or torch itself) follows
everything that `Codec.compress` and `Codec.decompress` run between the pixels and the coder::

    EncoderPath   x --g_a--> y --h_a--> z --round, h_s--> psi --context, one pass--> scales, means
    DecoderPath   z_hat --h_s--> psi --context, stage by stage--> y_hat --g_s--> x_hat

Both hold the codec's own modules under the names of the edges; measuring changes none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas.codec.codec import Codec
from nas.cost.counting.macs import PRODUCTS, aligned, trace_macs
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, quantize
from nas.graph.staged import Parameters, Staged, Work
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION

# Where each edge is found in the two modules below.
_EDGES = {
    "g_a": "g_a",
    "h_a": "h_a",
    "h_s": "h_s",
    "context": "context.context_prediction",
    "entropy_parameters": "context.entropy_parameters",
    "g_s": "g_s",
}

_NUMBERS = "whole numbers: sizes, positions and stages"
_MOVES = "makes, copies or selects values; computes none"
_SHAPE = "another shape for the same values"
_EACH = "one value at a time: no multiply-add, by the field's convention"

# Every operator that encoders and decoders run without MACs, by torch.jit's name, and why it has none; what
# handles lists, tuples and constants (`prim::`) apart. A codec that runs another one fails the audit.
NO_MACS: dict[str, str] = {
    **dict.fromkeys(("aten::Int", "aten::size", "aten::arange"), _NUMBERS),
    **dict.fromkeys(("aten::floor_divide", "aten::remainder"), _NUMBERS),
    **dict.fromkeys(("aten::new_empty", "aten::new_ones", "aten::new_zeros", "aten::zeros_like"), _MOVES),
    **dict.fromkeys(("aten::index", "aten::index_put_", "aten::select", "aten::slice"), _MOVES),
    **dict.fromkeys(("aten::index_select", "aten::lift_fresh", "aten::pad"), _MOVES),
    **dict.fromkeys(("aten::cat", "aten::contiguous", "aten::copy_", "aten::to"), _MOVES),
    **dict.fromkeys(("aten::chunk", "aten::split", "aten::unbind"), _SHAPE),
    **dict.fromkeys(("aten::expand", "aten::flatten", "aten::unflatten", "aten::unsqueeze"), _SHAPE),
    **dict.fromkeys(("aten::permute", "aten::reshape", "aten::t", "aten::transpose", "aten::view"), _SHAPE),
    **dict.fromkeys(("aten::relu", "aten::leaky_relu"), f"activation, {_EACH}"),
    **dict.fromkeys(("aten::pow", "aten::square"), f"GDN's squares, {_EACH}; its sums are counted"),
    **dict.fromkeys(("aten::sqrt", "aten::sqrt_", "aten::rsqrt", "aten::rsqrt_"), f"GDN's root, {_EACH}"),
    "prim::PythonOp.LowerBoundFunction": "GDN's parameters kept above their least value, once, not per pixel",
    "aten::mul": f"GDN's gain, the grid, positions: {_EACH}",
    "aten::add": f"residuals, a bias after scattered sums, positions: {_EACH}",
    "aten::sub": f"GDN's parameters and the grid: {_EACH}",
    "aten::abs": f"magnitudes that the scale hyperprior reads, {_EACH}",
    "aten::clamp": f"limits of pixels and scales, {_EACH}",
    **dict.fromkeys(("aten::clamp_", "aten::clamp_min_"), f"limits of whole numbers, {_EACH}"),
    **dict.fromkeys(
        ("aten::bucketize", "aten::div", "aten::round"), f"the grid of scales and means, {_EACH}"
    ),
    **dict.fromkeys(
        ("aten::floor_", "aten::maximum", "aten::mul_"),
        f"whole numbers brought to another scale, and their activation: {_EACH}",
    ),
    **dict.fromkeys(
        ("aten::gt", "aten::stack", "aten::sum"),
        f"surprises and states, where a table reads the context: {_EACH}",
    ),
    "prim::PythonOp._StraightThrough": f"rounding of y and z, {_EACH}",
    "aten::col2im": "adds a transposed convolution's products to their places: sums whose multiply-adds the"
    " product before it (bmm) has counted",
    "aten::add_": "the same, where such pieces of a picture overlap; and half a unit before whole numbers are"
    " rounded",
}


class EncoderPath(nn.Module):
    """The encoder without the entropy coder, as a module.

    With the centred quantiser `Codec.compress` follows h_s and the context twice, stage by stage to round y
    and in one pass to code it; here and in the scope `encoder` they count once.

    Args:
        codec: the codec whose modules are called.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.g_a = codec.network.g_a
        self.with_z = codec.network.with_z
        if self.with_z:
            self.h_a, self.h_s, self.context = codec.network.h_a, codec.coding_h_s, codec.coding_context
        self._dtype = codec.coding_dtype

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scales and means of y on the coding grid, each [B, M, H/16, W/16], for [B, 3, H, W].

        Rounded y itself where there is no z: the coder needs no more than its table.

        Args:
            x: pictures, [B, 3, H, W], in [0, 1].
        """
        y = self.g_a(x)
        if not self.with_z:
            return (quantize(y, Y_LIMIT),)
        z = self.h_a(y)
        y_hat, z_hat = quantize(y, Y_LIMIT), quantize(z, Z_LIMIT)
        psi = self.h_s(z_hat.to(self._dtype))
        return self.context.grid(*self.context.one_pass(psi, y_hat.to(self._dtype)))


class DecoderPath(nn.Module):
    """The decoder without the entropy coder, as a module: integers are given instead of read.

    Args:
        codec: the codec whose modules are called.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.g_s, self.with_z = codec.network.g_s, codec.network.with_z
        if self.with_z:
            self.h_s, self.context = codec.coding_h_s, codec.coding_context
        self._dtype = codec.coding_dtype

    def forward(self, y_hat: Tensor, z_hat: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The picture and what the coder would have been told, so that nothing here is dead code to a tracer.

        Args:
            y_hat, z_hat: integers, [B, M, H/16, W/16] and [B, N, H/64, W/64]; z_hat is not read where there
                is no z.

        Returns:
            x_hat [B, 3, H, W], clamped; scales and means of every block on the coding grid, each [B,
            positions, channels].
        """
        if not self.with_z:
            return cast(Tensor, self.g_s(y_hat)).clamp(0, 1), []
        read = GivenLatents(self.context, y_hat.to(self._dtype))
        decoded = self.context.by_stages(self.h_s(z_hat.to(self._dtype)), read)
        return cast(Tensor, self.g_s(decoded.float())).clamp(0, 1), read.asked


class GivenLatents:
    """A `read` for `StagedContext.by_stages` that takes known integers instead of asking a coder.

    Args:
        context: the coding context.
        y_hat: the integers, [B, M, h, w].

    Attributes:
        asked: the scales and means it was called with, each [B, positions, channels].
    """

    def __init__(self, context: Staged, y_hat: Tensor) -> None:
        self._context, self._values = context, y_hat.flatten(2).transpose(1, 2)
        self.asked: list[Tensor] = []

    def __call__(self, work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
        """The integers of each block, [B, positions, channels]."""
        self.asked += [value for pair in parameters for value in self._context.grid(*pair)]
        channels = self._context.block_channels
        return [self._values[:, places[:, None], channels(number)] for number, places in work]


@dataclass(frozen=True)
class Traced:
    """One side of a codec, followed by fvcore for one image.

    Attributes:
        edges: MACs by edge; what belongs to none is named `other`.
        operators: MACs by operator.
        uncounted: number of calls of each operator that fvcore does not count.
    """

    edges: dict[str, int]
    operators: dict[str, int]
    uncounted: dict[str, int]

    @property
    def unlisted(self) -> list[str]:
        """Operators that were not counted and are not in `NO_MACS`, or were counted and are no product."""
        return sorted((self.uncounted.keys() - NO_MACS.keys()) | (self.operators.keys() - PRODUCTS))


def trace(codec: Codec, height: int, width: int) -> dict[str, Traced]:
    """The whole encoder and the whole decoder as fvcore sees them.

    Args:
        codec: the codec.
        height, width: size of the image in pixels. It is padded as the codec pads it.

    Returns:
        `encoder` and `decoder`, for one image.

    Raises:
        InputError: a side below one pixel.
    """
    traces = {}
    for scope, path, inputs in _paths(codec, height, width):
        counted = trace_macs(path, *inputs)
        edges = {edge: int(counted.by_module[name]) for edge, name in _edges_in(path).items()}
        operators = {name: int(macs) for name, macs in counted.by_operator.items()}
        traces[scope] = Traced(
            _with_other(edges, int(counted.by_module[""])), operators, dict(counted.uncounted)
        )
    return traces


def traced_edges(codec: Codec, height: int, width: int) -> dict[str, dict[str, int]]:
    """MACs by edge of the whole encoder and the whole decoder, as fvcore counts them: see `trace`.

    Args:
        codec: the codec.
        height: height of the picture, in pixels.
        width: width of the picture, in pixels.
    """
    return {scope: side.edges for scope, side in trace(codec, height, width).items()}


@torch.no_grad()
def counted_by_torch(codec: Codec, height: int, width: int) -> dict[str, dict[str, int]]:
    """A second opinion on `traced_edges`: torch's own counter, which counts two operations a MAC.

    Args:
        codec: the codec.
        height: height of the picture, in pixels.
        width: width of the picture, in pixels.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counts = {}
    for scope, path, inputs in _paths(codec, height, width):
        hooks, edges = [], dict.fromkeys(_edges_in(path), 0)
        with FlopCounterMode(display=False) as counter:

            def note(sign: int, edge: str, *_: Any, counter: Any = counter, edges: Any = edges) -> None:
                edges[edge] += sign * counter.get_total_flops() // 2

            for edge, name in _edges_in(path).items():
                module = path.get_submodule(name)
                for called in module if isinstance(module, nn.ModuleList) else [module]:
                    hooks.append(called.register_forward_pre_hook(partial(note, -1, edge)))
                    hooks.append(called.register_forward_hook(partial(note, 1, edge)))
            path(*inputs)
        for hook in hooks:
            hook.remove()
        counts[scope] = _with_other(edges, counter.get_total_flops() // 2)
    return counts


def _paths(codec: Codec, height: int, width: int) -> Iterator[tuple[str, nn.Module, tuple[Tensor, ...]]]:
    """Both sides of a codec, and inputs for one image; their values do not matter to a count."""
    space, like = codec.network.space, next(codec.network.parameters())
    width, height = aligned((width, height), codec.alignment)
    y_hat = like.new_zeros(1, space.y_channels, height // Y_REDUCTION, width // Y_REDUCTION)
    # not read where there is no z
    z_hat = like.new_zeros(1, space.z_channels, height // Z_REDUCTION, width // Z_REDUCTION)
    yield "encoder", EncoderPath(codec), (like.new_zeros(1, 3, height, width),)
    yield "decoder", DecoderPath(codec), (y_hat, z_hat)


def _edges_in(path: nn.Module) -> dict[str, str]:
    """The edges that a side runs, and where each is found in it."""
    names = dict(path.named_modules())
    return {edge: name for edge, name in _EDGES.items() if name in names}


def _with_other(edges: dict[str, int], total: int) -> dict[str, int]:
    other = total - sum(edges.values())
    return edges | ({"other": other} if other else {})
