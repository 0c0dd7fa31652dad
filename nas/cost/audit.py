"""The exact calls of encoder and decoder as modules: what a whole codec's MACs are counted on.

The cost tables add up layers measured one by one. Here nothing is added up: fvcore (or torch itself) follows
everything that `Codec.compress` and `Codec.decompress` run between the pixels and the coder::

    EncoderPath   x --g_a--> y --h_a--> z --round, h_s--> psi --context, one pass--> scales, means
    DecoderPath   z_hat --h_s--> psi --context, stage by stage--> y_hat --g_s--> x_hat

Both hold the codec's own modules under the names of the edges; measuring changes none of them.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

import torch
from torch import Tensor, nn

from nas.codec.codec import Codec
from nas.cost.macs import count_macs
from nas.errors import InputError
from nas.graph.description import Y_REDUCTION, Z_REDUCTION
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, quantize
from nas.graph.staged import Parameters, Staged, Work

# Where each edge is found in the two modules below.
_EDGES = {
    "g_a": "g_a",
    "h_a": "h_a",
    "h_s": "h_s",
    "context": "context.context_prediction",
    "entropy_parameters": "context.entropy_parameters",
    "g_s": "g_s",
}


class EncoderPath(nn.Module):
    """What compressing runs, the coder apart.

    Args:
        codec: whose modules to call.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.g_a = codec.network.g_a
        self.with_z = codec.network.with_z
        if self.with_z:
            self.h_a, self.h_s, self.context = codec.network.h_a, codec.coding_h_s, codec.coding_context

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scales and means of y, each [B, M, H/16, W/16] in float64, for images [B, 3, H, W].

        y itself where there is no z: the coder needs no more than its table.
        """
        y = self.g_a(x)
        if not self.with_z:
            return (y,)
        z = self.h_a(y)
        y_hat, z_hat = quantize(y, Y_LIMIT), quantize(z, Z_LIMIT)
        return self.context.one_pass(self.h_s(z_hat.double()), y_hat.double())


class DecoderPath(nn.Module):
    """What decompressing runs, the coder apart: the integers are given instead of read.

    Args:
        codec: whose modules to call.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.g_s, self.with_z = codec.network.g_s, codec.network.with_z
        if self.with_z:
            self.h_s, self.context = codec.coding_h_s, codec.coding_context

    def forward(self, y_hat: Tensor, z_hat: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The picture and what the coder would have been told, so that nothing here is dead code to a tracer.

        Args:
            y_hat, z_hat: integers, [B, M, H/16, W/16] and [B, N, H/64, W/64]; z_hat is not read where there
                is no z.

        Returns:
            x_hat [B, 3, H, W], clamped; scales and means of every block, each [B, positions, channels].
        """
        if not self.with_z:
            return cast(Tensor, self.g_s(y_hat)).clamp(0, 1), []
        read = GivenLatents(self.context, y_hat.double())
        found = self.context.by_stages(self.h_s(z_hat.double()), read)
        return cast(Tensor, self.g_s(found.float())).clamp(0, 1), read.asked


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
        self.asked += [value for pair in parameters for value in pair]
        channels = self._context.block_channels
        return [self._values[:, places[:, None], channels(number)] for number, places in work]


def traced_macs(codec: Codec, height: int, width: int) -> dict[str, int]:
    """MACs of the whole encoder and the whole decoder, as fvcore counts them.

    Args:
        codec: what to count.
        height, width: of the image in pixels, multiples of 64.

    Returns:
        `encoder` and `decoder`, in MACs for one image.

    Raises:
        InputError: sides that are no multiples of 64.
    """
    return {scope: sum(edges.values()) for scope, edges in traced_edges(codec, height, width).items()}


def traced_edges(codec: Codec, height: int, width: int) -> dict[str, dict[str, int]]:
    """The same counts by edge, for `encoder` and `decoder`; what belongs to no edge is named `other`."""
    x, y_hat, z_hat = _inputs(codec, height, width)
    return {
        "encoder": _by_edge(count_macs(EncoderPath(codec), x)),
        "decoder": _by_edge(count_macs(DecoderPath(codec), y_hat, z_hat)),
    }


@torch.no_grad()
def counted_by_torch(codec: Codec, height: int, width: int) -> dict[str, int]:
    """A second opinion on `traced_macs`: torch's own counter, which counts two operations a MAC.

    Raises:
        InputError: sides that are no multiples of 64.
    """
    from torch.utils.flop_counter import FlopCounterMode

    x, y_hat, z_hat = _inputs(codec, height, width)
    found = {}
    for scope, path, inputs in (
        ("encoder", EncoderPath(codec), (x,)),
        ("decoder", DecoderPath(codec), (y_hat, z_hat)),
    ):
        with FlopCounterMode(display=False) as counter:
            path(*inputs)
        found[scope] = counter.get_total_flops() // 2
    return found


def _inputs(codec: Codec, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, y_hat and z_hat of one image; their values do not matter to a count."""
    space, like = codec.network.space, next(codec.network.parameters())
    if min(height, width) < Z_REDUCTION or height % Z_REDUCTION or width % Z_REDUCTION:
        raise InputError(f"MACs are counted on multiples of 64 pixels, not {width}x{height}: round the size.")
    y_hat = like.new_zeros(1, space.y_channels, height // Y_REDUCTION, width // Y_REDUCTION)
    z_hat = like.new_zeros(1, space.z_channels, height // Z_REDUCTION, width // Z_REDUCTION)
    return like.new_zeros(1, 3, height, width), y_hat, z_hat


def _by_edge(counts: Counter[str]) -> dict[str, int]:
    found = {edge: int(counts[path]) for edge, path in _EDGES.items() if path in counts}
    other = int(counts[""]) - sum(found.values())
    return found | ({"other": other} if other else {})
