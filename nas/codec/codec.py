"""An exported architecture as a codec of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.codec.coder import CODER, Decoder, Encoder
from nas.errors import InputError
from nas.files import digest
from nas.graph.entropy import (
    MEAN_STEPS,
    SCALE_LEVELS,
    SCALE_MAX,
    SCALE_MIN,
    Y_LIMIT,
    Z_LIMIT,
    Z_PRECISION,
    quantize,
    snap,
)
from nas.graph.layout import Layout
from nas.graph.network import ALIGNMENT, CodecNetwork
from nas.graph.staged import Parameters, StagedContext, Work, steps
from nas.space import Architecture


class Codec(nn.Module):
    """A learned image codec with real bitstreams, in CompressAI's protocol.

    `forward` estimates; `compress` and `decompress` are exact inverses on the latents. The part of the
    network that both sides run (h_s, context, entropy parameters) runs in float64 on a grid when coding.

    Args:
        network: plain layers of one architecture.
        architecture: its name in the space it came from.
        z_table: frequencies of z, [N, 2 * 127 + 1]; computed from the network's prior when absent.
    """

    z_table: Tensor

    def __init__(
        self, network: CodecNetwork, architecture: Architecture, z_table: Tensor | None = None
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.architecture = architecture
        self.layout: Layout = network.space.layout(architecture)
        self.register_buffer("z_table", _frequencies(network) if z_table is None else z_table)
        self.update()

    def update(self, force: bool = False) -> bool:
        """Make the coding path from the network's weights; needed again after they change."""
        object.__setattr__(self, "_h_s", copy.deepcopy(self.network.h_s).double())
        context = copy.deepcopy(self.network.context).double()
        object.__setattr__(self, "_staged", StagedContext(context, self.layout))
        if force:
            self.z_table.copy_(_frequencies(self.network))
        self.__dict__.pop("path_identity", None)
        self.__dict__.pop("fingerprint", None)
        return True

    def _apply(self, fn: Any, recurse: bool = True) -> Codec:
        super()._apply(fn, recurse)
        self.update()  # the coding path follows to another device
        return self

    @property
    def coding_h_s(self) -> nn.Module:
        """h_s as it runs when coding, in float64."""
        return self._h_s  # type: ignore[return-value]

    @property
    def coding_context(self) -> StagedContext:
        """The context model as it runs when coding, in float64."""
        return self._staged  # type: ignore[return-value]

    # CompressAI's protocol

    def forward(self, x: Tensor) -> dict[str, Any]:
        """`{"x_hat", "likelihoods": {"y", "z"}}` for images [B, 3, H, W] in [0, 1], sides multiples of 64."""
        output = self.network(x, self.layout, coded=True)
        return {"x_hat": output["x_hat"], "likelihoods": output["likelihoods"]}

    @torch.no_grad()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """Code images.

        Args:
            x: images in [0, 1], [B, 3, H, W], sides multiples of 64.

        Returns:
            strings: one list of B byte strings (z and y share a stream); shape: of z, for `decompress`.
        """
        y_hat, z_hat = self.latents(x)
        return {"strings": [self.encode(y_hat, z_hat)], "shape": tuple(z_hat.shape[-2:])}

    @torch.no_grad()
    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]) -> dict[str, Tensor]:
        """`{"x_hat"}` in [0, 1], [B, 3, 64 * h, 64 * w], from what `compress` returned."""
        y_hat, _ = self.decode(strings[0], (int(shape[0]), int(shape[1])))
        return {"x_hat": self.synthesize(y_hat)}

    # The parts of it

    @torch.no_grad()
    def latents(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y_hat [B, M, H/16, W/16] and z_hat [B, N, H/64, W/64], integers."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[-2] % ALIGNMENT or x.shape[-1] % ALIGNMENT:
            raise InputError(f"compress needs [B, 3, H, W] with sides multiples of 64, not {tuple(x.shape)}.")
        y = self.network.g_a(x)
        z = self.network.h_a(y)
        return quantize(y, Y_LIMIT), quantize(z, Z_LIMIT)

    @torch.no_grad()
    def synthesize(self, y_hat: Tensor) -> Tensor:
        """x_hat in [0, 1] from the integers."""
        return self.network.g_s(y_hat).clamp(0, 1)

    @torch.no_grad()
    def encode(self, y_hat: Tensor, z_hat: Tensor) -> list[bytes]:
        """One byte string per image: the largest |z| and |y|, then z and y in one stream."""
        psi = self.coding_h_s(z_hat.double())
        scales, means = snap(*self.coding_context.one_pass(psi, y_hat.double()))
        order = _coding_order(self.layout, self.coding_context.window, *y_hat.shape[-2:])
        tables = self.z_table.cpu().numpy()
        strings = []
        for y, z, s, m in zip(y_hat, z_hat, scales, means, strict=True):
            symbols, hyper = (v.flatten(1).cpu().numpy().astype(np.int32) for v in (y, z))
            z_limit, y_limit = int(np.abs(hyper).max()), int(np.abs(symbols).max())
            coder = Encoder()
            coder.z(hyper, tables, z_limit)
            ordered = [v.cpu().numpy().reshape(-1)[order] for v in (s, m)]
            coder.y(symbols.reshape(-1)[order], ordered[0], ordered[1], y_limit)
            strings.append(write_varint(z_limit) + write_varint(y_limit) + coder.finish())
        return strings

    @torch.no_grad()
    def decode(self, strings: Sequence[bytes], shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """y_hat and z_hat from byte strings; `shape` is of z."""
        tables = self.z_table.cpu().numpy()
        coders, limits, hyper = [], [], []
        for string in strings:
            z_limit, rest = read_varint(string)
            y_limit, rest = read_varint(rest)
            if z_limit > Z_LIMIT or y_limit > Y_LIMIT:
                raise InputError("The coded data names latents beyond their limits: it is damaged.")
            coder = Decoder(rest)
            hyper.append(coder.z(tables, shape[0] * shape[1], z_limit))
            coders.append(coder)
            limits.append(y_limit)
        z_hat = torch.from_numpy(np.stack(hyper)).to(self.z_table.device).unflatten(-1, shape)

        def read(work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
            scales, means = (torch.cat([p[k].flatten(1) for p in parameters], 1) for k in (0, 1))
            scales, means = snap(scales, means)
            values = [
                coder.y(s, m, limit)
                for coder, limit, s, m in zip(
                    coders, limits, scales.cpu().numpy(), means.cpu().numpy(), strict=True
                )
            ]
            found = torch.from_numpy(np.stack(values)).to(parameters[0][0])
            pieces = found.split([p[0][0].numel() for p in parameters], 1)
            return [piece.reshape(p[0].shape) for piece, p in zip(pieces, parameters, strict=True)]

        y_hat = self.coding_context.by_stages(self.coding_h_s(z_hat.double()), read)
        return y_hat.float(), z_hat.float()

    # Identities

    @cached_property
    def path_identity(self) -> str:
        """What a stream depends on: the entropy path's weights, layout, grid and coder."""
        parts = [self.network.h_s, self.network.context]
        grid = (SCALE_MIN, SCALE_MAX, SCALE_LEVELS, MEAN_STEPS, "float64")
        weights = [value for part in parts for value in part.state_dict().values()]
        layout = repr(sorted(self.layout.to_dict().items()))
        content = [_bytes(value) for value in [*weights, self.z_table]]
        return digest(CODER, repr(grid), layout, str(self.network.space.window), *content, size=4)

    @cached_property
    def fingerprint(self) -> str:
        """A short name of the whole codec."""
        state = self.state_dict()
        return digest(self.path_identity, *(_bytes(state[name]) for name in sorted(state)), size=4)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


@torch.no_grad()
def _frequencies(network: CodecNetwork) -> Tensor:
    """The factorised prior as integers: frequencies of -127 .. 127 for every channel of z, at least 1."""
    prior = copy.deepcopy(network.prior).double()
    values = torch.arange(-Z_LIMIT, Z_LIMIT + 1, dtype=torch.float64, device=next(prior.parameters()).device)
    grid = values.expand(1, prior.channels, 1, -1)
    frequencies = (prior.likelihood(grid)[0, :, 0] * Z_PRECISION).round().clamp_min(1)
    return frequencies.to(torch.int64)


@lru_cache(maxsize=32)
def _coding_order(layout: Layout, window: int, height: int, width: int) -> np.ndarray:
    """Where the elements of y stand in [M, h, w], in the order in which they are coded."""
    blocks, area = layout.blocks(window), height * width
    groups = layout.group_of_channel
    order = []
    for work in steps(layout, window, height, width):
        for number, positions in work:
            channels = np.flatnonzero(np.isin(groups, blocks[number].groups))
            order.append((positions.numpy()[:, None] + channels * area).reshape(-1))
    return np.concatenate(order)


def write_varint(value: int) -> bytes:
    """A non-negative number, seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes) -> tuple[int, bytes]:
    """A number as `write_varint` writes it, and what follows it."""
    value = 0
    for place, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, data[place + 1 :]
    raise InputError("The file is cut short or damaged: a number in it has no end.")
