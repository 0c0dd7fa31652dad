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
from nas.graph.description import Y_REDUCTION, Z_REDUCTION
from nas.graph.entropy import (
    MEAN_STEPS,
    SCALE_LEVELS,
    SCALE_MAX,
    SCALE_MIN,
    Y_LIMIT,
    Z_LIMIT,
    quantize,
    snap,
)
from nas.graph.layout import Layout
from nas.graph.network import CodecNetwork
from nas.graph.priors import FactorizedPrior, Prior
from nas.graph.staged import Parameters, Staged, Work, rounding, staged, steps
from nas.space import Architecture


class Codec(nn.Module):
    """A learned image codec with real bitstreams, in CompressAI's protocol.

    `forward` estimates; `compress` and `decompress` are exact inverses on the latents. The part of the
    network that both sides run (h_s, context, entropy parameters) runs in float64 on a grid when coding.

    Args:
        network: plain layers of one architecture.
        architecture: its name in the space it came from.
        table: frequencies of what is coded under the factorised prior (z, or y where there is no z), one row
            of odd length per channel; computed from the network's prior when absent.
    """

    table: Tensor

    def __init__(
        self, network: CodecNetwork, architecture: Architecture, table: Tensor | None = None
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.architecture = architecture
        self.layout: Layout = next(iter(network.space.layouts.values()))
        self.register_buffer("table", _frequencies(network) if table is None else table)
        self.update()

    def update(self, force: bool = False) -> bool:
        """Make the coding path from the network's weights; needed again after they change."""
        if self.network.with_z:
            object.__setattr__(self, "_h_s", copy.deepcopy(self.network.h_s).double())
            context = copy.deepcopy(self.network.context).double()
            object.__setattr__(self, "_staged", staged(context, self.layout))
        if force:
            self.table = _frequencies(self.network)
        self.__dict__.pop("path_identity", None)
        self.__dict__.pop("fingerprint", None)
        return True

    def _apply(self, fn: Any, recurse: bool = True) -> Codec:
        super()._apply(fn, recurse)
        self.update()  # the coding path follows to another device
        return self

    @property
    def coding_h_s(self) -> nn.Module:
        """h_s as it runs when coding, in float64; there is none without z."""
        return self._h_s  # type: ignore[return-value]

    @property
    def coding_context(self) -> Staged:
        """The entropy parameters of y as they run when coding, in float64; there are none without z."""
        return self._staged  # type: ignore[return-value]

    @property
    def alignment(self) -> int:
        """Image sides are multiples of this."""
        return self.network.space.family.alignment

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """What `decompress` is told of a picture: rows and columns of z, or of y where there is no z."""
        coarsest = Z_REDUCTION if self.network.with_z else Y_REDUCTION
        rows, columns = (-(-side // self.alignment) * self.alignment // coarsest for side in (height, width))
        return rows, columns

    # CompressAI's protocol

    def forward(self, x: Tensor) -> dict[str, Any]:
        """`{"x_hat", "likelihoods": {"y", "z"}}` for images [B, 3, H, W] in [0, 1], aligned sides."""
        output = self.network(x, self.layout, coded=True)
        return {"x_hat": output["x_hat"], "likelihoods": output["likelihoods"]}

    @torch.no_grad()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """Code images.

        Args:
            x: images in [0, 1], [B, 3, H, W], sides multiples of `alignment`.

        Returns:
            strings: one list of B byte strings (z and y share a stream); shape: see `shape`.
        """
        y_hat, z_hat = self.latents(x)
        return {"strings": [self.encode(y_hat, z_hat)], "shape": self.shape(x.shape[-2], x.shape[-1])}

    @torch.no_grad()
    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]) -> dict[str, Tensor]:
        """`{"x_hat"}` in [0, 1], [B, 3, H, W], from what `compress` returned."""
        y_hat, _ = self.decode(strings[0], (int(shape[0]), int(shape[1])))
        return {"x_hat": self.synthesize(y_hat)}

    def to_compressai(self) -> nn.Module:
        """CompressAI's own model with these weights, where it has one: see `graph.interchange`."""
        from nas.graph.interchange import to_compressai

        return to_compressai(self.network)

    # The parts of it

    @torch.no_grad()
    def latents(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """y_hat [B, M, H/16, W/16] and z_hat [B, N, H/64, W/64] or None: rounded, as they are coded."""
        if x.ndim != 4 or x.shape[1] != 3 or any(side % self.alignment for side in x.shape[-2:]):
            raise InputError(
                f"compress needs [B, 3, H, W] with sides multiples of {self.alignment}, not {tuple(x.shape)}."
            )
        net = self.network
        y = net.g_a(x)
        if not net.with_z:
            return quantize(y, Y_LIMIT, net.centre(net.y_prior)), None
        z_hat = net.round_z(net.h_a(y))
        if not net.centred:
            return quantize(y, Y_LIMIT), z_hat
        read = rounding(self.coding_context, y.double())
        return self.coding_context.by_stages(self.coding_h_s(z_hat.double()), read).float(), z_hat

    @torch.no_grad()
    def synthesize(self, y_hat: Tensor) -> Tensor:
        """x_hat in [0, 1] from rounded y."""
        return self.network.g_s(y_hat).clamp(0, 1)

    @torch.no_grad()
    def encode(self, y_hat: Tensor, z_hat: Tensor | None) -> list[bytes]:
        """One byte string per image: the largest steps of z and y, then z and y in one stream."""
        table = self.table.cpu().numpy()
        strings = []
        if z_hat is None:
            for symbols in self._steps(y_hat):
                limit, coder = int(np.abs(symbols).max()), Encoder()
                coder.under_table(symbols, table, limit)
                strings.append(write_varint(limit) + coder.finish())
            return strings
        psi = self.coding_h_s(z_hat.double())
        scales, means = snap(*self.coding_context.one_pass(psi, y_hat.double()))
        y, means = (y_hat.double() - means, 0 * means) if self.network.centred else (y_hat, means)
        order = _coding_order(self.layout, self.coding_context.window, *y_hat.shape[-2:])
        for values, hyper, s, m in zip(y, self._steps(z_hat), scales, means, strict=True):
            symbols = values.round().cpu().numpy().astype(np.int32).reshape(-1)
            z_limit, y_limit = int(np.abs(hyper).max()), int(np.abs(symbols).max())
            coder = Encoder()
            coder.under_table(hyper, table, z_limit)
            ordered = [v.cpu().numpy().reshape(-1)[order] for v in (s, m)]
            coder.gaussian(symbols[order], ordered[0], ordered[1], y_limit)
            strings.append(write_varint(z_limit) + write_varint(y_limit) + coder.finish())
        return strings

    @torch.no_grad()
    def decode(self, strings: Sequence[bytes], shape: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """y_hat and z_hat (None where there is none) from byte strings; `shape` is of the coarser of them."""
        with_z = self.network.with_z
        table = self.table.cpu().numpy()
        coders, limits, first = [], [], []
        for string in strings:
            limit, rest = read_varint(string)
            y_limit, rest = read_varint(rest) if with_z else (limit, rest)
            if limit > (Z_LIMIT if with_z else Y_LIMIT) or y_limit > Y_LIMIT:
                raise InputError("The coded data names latents beyond their limits: it is damaged.")
            coder = Decoder(rest)
            first.append(coder.under_table(table, shape[0] * shape[1], limit))
            coders.append(coder)
            limits.append(y_limit)
        found = torch.from_numpy(np.stack(first)).to(self.table.device).unflatten(-1, shape).float()
        found = found + self.network.centre(self._prior)
        if not with_z:
            return found, None
        centred = self.network.centred

        def read(work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
            scales, means = (torch.cat([p[k].flatten(1) for p in parameters], 1) for k in (0, 1))
            scales, means = snap(scales, means)
            about = torch.zeros_like(means) if centred else means
            values = [
                coder.gaussian(s, m, limit)
                for coder, limit, s, m in zip(
                    coders, limits, scales.cpu().numpy(), about.cpu().numpy(), strict=True
                )
            ]
            read_values = torch.from_numpy(np.stack(values)).to(means)
            if centred:
                read_values = read_values + means
            pieces = read_values.split([p[0][0].numel() for p in parameters], 1)
            return [piece.reshape(p[0].shape) for piece, p in zip(pieces, parameters, strict=True)]

        y_hat = self.coding_context.by_stages(self.coding_h_s(found.double()), read)
        return y_hat.float(), found

    @property
    def _prior(self) -> Prior:
        return self.network.prior if self.network.with_z else self.network.y_prior

    def _steps(self, values: Tensor) -> np.ndarray:
        """Values under the factorised prior as whole steps from their centre, [B, channels, positions]."""
        steps = (values - self.network.centre(self._prior)).round()
        return steps.flatten(2).cpu().numpy().astype(np.int32)

    # Identities

    @cached_property
    def path_identity(self) -> str:
        """What a stream depends on: the entropy path's weights, layout, grid, quantiser and coder."""
        net = self.network
        parts = [net.h_s, net.context] if net.with_z else []
        grid = (SCALE_MIN, SCALE_MAX, SCALE_LEVELS, MEAN_STEPS, "float64", net.space.quantizer)
        weights = [value for part in parts for value in part.state_dict().values()]
        weights += [self._prior.medians()] if net.centred else []
        layout = repr(sorted(self.layout.to_dict().items()))
        content = [_bytes(value) for value in [*weights, self.table]]
        return digest(CODER, repr(grid), layout, str(net.space.window), *content, size=4)

    @cached_property
    def fingerprint(self) -> str:
        """A short name of the whole codec."""
        state = self.state_dict()
        return digest(self.path_identity, *(_bytes(state[name]) for name in sorted(state)), size=4)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _frequencies(network: CodecNetwork) -> Tensor:
    """The factorised prior as integers, see `FactorizedPrior.frequencies`."""
    prior, limit = (network.prior, Z_LIMIT) if network.with_z else (network.y_prior, Y_LIMIT)
    assert isinstance(prior, FactorizedPrior)
    return prior.frequencies(limit, network.centre(prior))


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
