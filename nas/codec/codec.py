"""The exported codec: one architecture with real bitstreams."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.codec.coder import CODER, Decoder, Encoder, Int32s
from nas.codec.inputs import check_y, check_z
from nas.codec.nic import read_varint, write_varint
from nas.codec.tiles import TILING, Tiling, run_tiled
from nas.graph.affine import exact_arithmetic
from nas.graph.context import HyperOnly
from nas.graph.entropy import (
    MEAN_STEPS,
    SCALE_BOUNDS,
    SCALES,
    Y_LIMIT,
    Z_LIMIT,
    from_grid,
    quantize,
)
from nas.graph.integers import IntegerPath, integer_grid
from nas.graph.layers.subpixel import SubPixel
from nas.graph.network import CodecNetwork
from nas.graph.priors import FactorizedPrior, Prior
from nas.graph.staged import (
    Parameters,
    Staged,
    StagedContext,
    StagedHyper,
    StagedTable,
    Work,
    rounding,
    staged,
    steps,
)
from nas.photos.tensors import Padded
from nas.spaces.architecture import Architecture
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION
from nas.spaces.layout import Layout
from nas.support.arrays import Array
from nas.support.device import takes_bfloat16
from nas.support.errors import InputError
from nas.support.files import digest
from nas.support.limits import check_count

PIXEL_OVERSHOOT = 0.25  # how far the values of images may lie outside [0, 1]


class Codec(nn.Module):
    """A learned image codec with real bitstreams, in CompressAI's protocol.

    `forward` estimates the rate. `compress` and `decompress` are exact inverses on the latents. Encoder and
    decoder must both compute the entropy path (h_s, context, entropy parameters). If the codec has it in
    integer arithmetic, the result is the same on every machine. Otherwise it runs in float64 on a grid.

    Args:
        network: plain layers of one architecture.
        architecture: the architecture, in the space that it comes from.
        table: frequencies of the latents under the factorised prior (z, or y if there is no z), with one row
            of odd length per channel. By default they are computed from the network's prior.
        integers: the entropy path in integer arithmetic (see `codec.quantize`), or None for float64.
    """

    table: Tensor

    def __init__(
        self,
        network: CodecNetwork,
        architecture: Architecture,
        table: Tensor | None = None,
        integers: IntegerPath | None = None,
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.architecture = architecture
        self.layout: Layout = next(iter(network.space.layouts.values()))
        self.register_buffer("table", _frequencies(network) if table is None else table)
        self.integers = integers
        self.update()

    @torch.inference_mode(False)
    @exact_arithmetic()
    def update(self, force: bool = False) -> bool:
        """Build the coding path from the weights. Call this again after the weights change.

        Args:
            force: also compute the prior's tables of frequencies again.

        Returns:
            True, as CompressAI's models return it.
        """
        if self.integers is not None:
            object.__setattr__(self, "_h_s", self.integers.hyper())
            object.__setattr__(self, "_staged", _staged_integers(self.integers, self.layout))
        elif self.network.with_z:
            object.__setattr__(self, "_h_s", copy.deepcopy(self.network.h_s).double())
            context = copy.deepcopy(self.network.context).double()
            object.__setattr__(self, "_staged", staged(context, self.layout))
        if force:
            self.table = _frequencies(self.network)
        self.__dict__.pop("path_identity", None)
        self.__dict__.pop("fingerprint", None)
        return True

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Codec:
        if fn(torch.empty(0, dtype=torch.float32)).dtype != torch.float32:
            raise InputError(
                "A codec keeps its weights in single precision, so that it codes alike everywhere: do not "
                "call half(), double() or the like. Pictures may have any floating-point type."
            )
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch gives it no types
        self.update()  # the coding path moves to the other device, too
        return self

    @property
    def exact(self) -> bool:
        """Whether streams decode on every machine: the entropy path computes in integer arithmetic."""
        return self.integers is not None or not self.network.with_z

    def mixed(self, precision: str) -> bool:
        """Whether g_s computes in mixed precision: learned layers in bfloat16, its linear path in single.

        The picture then differs by one level in a few per cent of its values. The entropy path is never
        affected.

        Args:
            precision: `32` (no), `bf16` (yes), or `auto`: if the device has instructions for it and g_s has a
                linear path.

        Raises:
            InputError: it is none of these, or bfloat16 is asked of a g_s without a linear path.
        """
        if not takes_bfloat16(precision, self.table.is_cuda):
            return False
        if any(isinstance(layer, SubPixel) and layer.precise for layer in self.network.g_s.modules()):
            return True
        if precision == "auto":
            return False
        raise InputError(
            "Decoding in bfloat16 needs a codec of the family patch, whose linear path stays in single "
            "precision: leave the precision out."
        )

    @property
    def coding_dtype(self) -> torch.dtype:
        """The type in which the entropy path computes. Integers are held in float32."""
        return torch.float64 if self.integers is None else torch.float32

    @property
    def coding_h_s(self) -> nn.Module:
        """h_s in the form that runs in coding. Only for codecs with a z."""
        return self._h_s  # type: ignore[return-value]

    @property
    def coding_context(self) -> Staged:
        """The entropy parameters of y in the form that run in coding. Only for codecs with a z."""
        return self._staged  # type: ignore[return-value]

    @property
    def alignment(self) -> int:
        """Sides of images must be multiples of this number."""
        return self.network.space.family.alignment

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """The shape that `decompress` needs for a picture: rows and columns of z, or of y if there is no z.

        Args:
            height: height of the picture, in pixels.
            width: width of the picture, in pixels.

        Raises:
            InputError: height or width is not a whole number above 0.
        """
        height, width = check_count(height, "height", 1), check_count(width, "width", 1)
        coarsest = Z_REDUCTION if self.network.with_z else Y_REDUCTION
        rows, columns = (-(-side // self.alignment) * self.alignment // coarsest for side in (height, width))
        return rows, columns

    @property
    def rates(self) -> tuple[float, ...]:
        """The lambdas of the anchors of a codec over a range of rates. Empty for a codec of one rate."""
        return self.network.space.rates

    # CompressAI's protocol. Over a range of rates, `lmbda` sets the rate. By default it is the middle anchor.

    def forward(self, x: Tensor, lmbda: float | None = None) -> dict[str, Any]:
        """Code images without a stream, and estimate the rate.

        If x or the weights require gradients, gradients pass straight through rounding. Loaded weights
        require them only after `requires_grad_()`. Weights that you have trained code only after
        `nas.renew_codec`.

        Args:
            x: images in [0, 1], [B, 3, H, W], with sides that are multiples of `alignment`.
            lmbda: the rate, for a codec over a range of rates. By default it is the middle anchor.

        Returns:
            A dict with `x_hat`, [B, 3, H, W] in [0, 1], and `likelihoods`: the probabilities with which
            `compress` codes the elements of `y` and of `z`.

        Raises:
            InputError: x is not such a batch.
        """
        y_hat, z_hat = self.latents(x, lmbda=lmbda)
        with torch.no_grad():
            x_hat = run_tiled(self.network, "g_s", self.layout, self.network.unscaled_y(y_hat, lmbda))
        likelihoods = self.likelihoods(y_hat, z_hat)
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.network.parameters())):
            with exact_arithmetic():
                soft = self.network(x.float(), self.layout, lmbda=lmbda, coded=True)
            x_hat = _with_gradient(x_hat, soft["x_hat"])
            likelihoods = {k: _with_gradient(v, soft["likelihoods"][k]) for k, v in likelihoods.items()}
        return {"x_hat": x_hat, "likelihoods": likelihoods}

    @torch.no_grad()
    def compress(self, x: Tensor, lmbda: float | None = None) -> dict[str, Any]:
        """Code images into byte strings.

        Args:
            x: images in [0, 1], [B, 3, H, W], with sides that are multiples of `alignment`.
            lmbda: the rate, for a codec over a range of rates. Give `decompress` the same.

        Returns:
            A dict with `strings`, one list of B byte strings (z and y share a stream), and `shape`, the rows
            and columns that `decompress` needs.

        Raises:
            InputError: x is not such a batch.
        """
        y_hat, z_hat = self.latents(x, lmbda=lmbda)
        return {"strings": [self.encode(y_hat, z_hat)], "shape": self.shape(x.shape[-2], x.shape[-1])}

    @torch.no_grad()
    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Sequence[int], lmbda: float | None = None
    ) -> dict[str, Tensor]:
        """Decode images from byte strings.

        Args:
            strings: as `compress` returned them.
            shape: as `compress` returned it.
            lmbda: the rate that `compress` was given.

        Returns:
            A dict with `x_hat`, [B, 3, H, W] in [0, 1].

        Raises:
            InputError: the strings or the shape cannot come from `compress`.
        """
        try:
            (streams,), (rows, columns) = strings, map(operator.index, shape)
            fits = bool(streams) and all(isinstance(s, bytes) for s in streams) and min(rows, columns) > 0
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise InputError(
                "decompress needs `strings` and `shape` as compress returned them: one list of byte strings, "
                f"and rows and columns (not {shape})."
            )
        y_hat, _ = self.decode(streams, (rows, columns))
        return {"x_hat": self.synthesize(y_hat, lmbda=lmbda)}

    def to_compressai(self) -> nn.Module:
        """Return CompressAI's own model with these weights.

        Raises:
            InputError: CompressAI has no such model, or the codec has narrower layers or another decoding
                order.
        """
        from nas.weights.interchange import to_compressai

        return to_compressai(self.network)

    # The steps of coding

    @torch.no_grad()
    @exact_arithmetic()
    def latents(
        self, x: Tensor | Padded, tiling: Tiling = TILING, lmbda: float | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the rounded latents of images.

        Args:
            x: images in [0, 1], [B, 3, H, W], with sides that are multiples of `alignment`. Any
                floating-point type is allowed. The computation uses single precision.
            tiling: when to split large pictures into tiles.
            lmbda: the rate, for a codec over a range of rates.

        Returns:
            y_hat, [B, M, H/16, W/16], and z_hat, [B, N, H/64, W/64], or None if there is no z.

        Raises:
            InputError: x is not such a batch, or the weights are not finite.
        """
        return self.rounded(self.analyze(x, tiling), lmbda)

    @torch.no_grad()
    @exact_arithmetic()
    def analyze(self, x: Tensor | Padded, tiling: Tiling = TILING) -> Tensor:
        """The output of g_a for images, [B, M, H/16, W/16]. It does not depend on the rate. See `latents`.

        Args:
            x: images in [0, 1], [B, 3, H, W], with sides that are multiples of `alignment`.
            tiling: when to split large pictures into tiles.

        Raises:
            InputError: x is not such a batch.
        """
        if not isinstance(x, Tensor | Padded):
            raise InputError(
                f"Codecs need a tensor, [B, 3, H, W] in [0, 1], not {type(x).__name__}: from pixels "
                "[H, W, 3] in 8 bits, torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 makes one."
            )
        if (
            len(x.shape) != 4
            or x.shape[1] != 3
            or any(s % self.alignment for s in x.shape[-2:])
            or 0 in x.shape
        ):
            raise InputError(
                f"Codecs need [B, 3, H, W], at least one picture, with sides multiples of {self.alignment}, "
                f"not {tuple(x.shape)}."
            )
        x = _in_range(x) if isinstance(x, Tensor) else x
        return run_tiled(self.network, "g_a", self.layout, x, tiling)

    @torch.no_grad()
    @exact_arithmetic()
    def rounded(self, y: Tensor, lmbda: float | None = None) -> tuple[Tensor, Tensor | None]:
        """Round an output of g_a at a rate to y_hat and z_hat. See `latents`.

        Args:
            y: output of `analyze`, [B, M, H/16, W/16].
            lmbda: lambda of the rate, for a codec over a range of rates. By default it is the middle anchor.

        Raises:
            InputError: y is not such a tensor, or z is not finite.
        """
        net = self.network
        check_y(net, y, rounded=False)
        y = net.scaled_y(y, lmbda)
        z = net.z_of(y, lmbda) if net.with_z else None
        if z is not None and not z.isfinite().all():
            raise InputError(
                "h_a gives numbers that are not finite: the weights of this codec are broken, so export it "
                "again."
            )
        return self.to_integers(y, z)

    @torch.no_grad()
    @exact_arithmetic()
    def to_integers(self, y: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Round latents that are already scaled for a rate to y_hat and z_hat.

        Args:
            y: y at the rate, [B, M, H/16, W/16].
            z: z at the rate, [B, N, H/64, W/64], or None if there is no z.
        """
        net = self.network
        if z is None:
            return quantize(y, Y_LIMIT, net.centre(net.y_prior)), None
        z_hat = net.round_z(z)
        if not net.centred:
            return quantize(y, Y_LIMIT), z_hat
        read = rounding(self.coding_context, y.to(self.coding_dtype))
        return self.coding_context.by_stages(self.psi(z_hat), read).float(), z_hat

    @torch.no_grad()
    @exact_arithmetic()
    def psi(self, z_hat: Tensor) -> Tensor:
        """Hyper features, [B, channels, H/16, W/16], computed as in coding.

        Args:
            z_hat: rounded z, [B, N, H/64, W/64].

        Raises:
            InputError: z_hat is not such a tensor, or there is no z.
        """
        self._check_with_z()
        check_z(self.network, z_hat)
        psi: Tensor = self.coding_h_s(z_hat.to(self.coding_dtype))
        return psi

    @torch.no_grad()
    @exact_arithmetic()
    def parameters_of_y(self, y_hat: Tensor, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Levels and steps of every element on the coding grid, each [B, M, H/16, W/16]: see `to_grid`.

        Args:
            y_hat: rounded y, [B, M, H/16, W/16].
            z_hat: rounded z, [B, N, H/64, W/64].

        Raises:
            InputError: they are not such tensors, or there is no z.
        """
        self._check_with_z()
        check_y(self.network, y_hat, rounded=True)
        check_z(self.network, z_hat, y_hat)
        context = self.coding_context
        return context.grid(*context.one_pass(self.psi(z_hat), y_hat.to(self.coding_dtype)))

    @torch.no_grad()
    @exact_arithmetic()
    def likelihoods(self, y_hat: Tensor, z_hat: Tensor | None) -> dict[str, Tensor]:
        """The probabilities with which the elements are coded, `{"y", "z"}`, each in the shape of the latent.

        Args:
            y_hat: rounded y, [B, M, H/16, W/16].
            z_hat: rounded z, [B, N, H/64, W/64], or None if there is no z.

        Raises:
            InputError: the tensors do not have these shapes.
        """
        net = self.network
        check_y(net, y_hat, rounded=True)
        check_z(net, z_hat, y_hat)
        if z_hat is None:
            return {"y": net.y_prior.coded_likelihood(y_hat, net.centre(net.y_prior))}
        scales, means = (part.float() for part in from_grid(*self.parameters_of_y(y_hat, z_hat)))
        centre = means if net.centred else 0.0
        return {
            "y": net.gaussian.coded_likelihood(y_hat, scales, means, centre),
            "z": net.prior.coded_likelihood(z_hat, net.centre(net.prior)),
        }

    @torch.no_grad()
    def synthesize(self, y_hat: Tensor, tiling: Tiling = TILING, lmbda: float | None = None) -> Tensor:
        """Decode rounded y at a rate to x_hat in [0, 1].

        Args:
            y_hat: rounded y, [B, M, H/16, W/16].
            tiling: when to split large pictures into tiles.
            lmbda: lambda of the rate, for a codec over a range of rates. By default it is the middle anchor.

        Raises:
            InputError: y_hat is not such a batch.
        """
        check_y(self.network, y_hat, rounded=True, reader="g_s")
        y_hat = self.network.unscaled_y(y_hat, lmbda)
        return run_tiled(self.network, "g_s", self.layout, y_hat, tiling).clamp(0, 1)

    @torch.no_grad()
    @exact_arithmetic()
    def encode(self, y_hat: Tensor, z_hat: Tensor | None) -> list[bytes]:
        """Code latents as one byte string per image: the largest steps of z and y, then z and y.

        Args:
            y_hat: rounded y, [B, M, H/16, W/16].
            z_hat: rounded z, [B, N, H/64, W/64], or None if there is no z.

        Raises:
            InputError: the tensors do not have these shapes.
        """
        check_y(self.network, y_hat, rounded=True)
        check_z(self.network, z_hat, y_hat)
        table = self.table.cpu().numpy()
        strings = []
        if z_hat is None:
            for symbols in self._steps(y_hat):
                limit, coder = int(np.abs(symbols).max()), Encoder()
                coder.under_table(symbols, table, limit)
                strings.append(write_varint(limit) + coder.finish())
            return strings
        levels, mean_steps = self.parameters_of_y(y_hat, z_hat)
        values = y_hat
        if self.network.centred:
            values, mean_steps = y_hat.double() - mean_steps.double() / MEAN_STEPS, 0 * mean_steps
        arrays = [_rows(part, kind) for part, kind in ((values, "i4"), (levels, "u1"), (mean_steps, "i4"))]
        for symbols, level, mean, hyper in zip(*arrays, self._steps(z_hat), strict=True):
            z_limit, y_limit = int(np.abs(hyper).max()), int(np.abs(symbols).max())
            coder = Encoder()
            coder.under_table(hyper, table, z_limit)
            for places in self._order(*y_hat.shape[-2:]):
                coder.gaussian(symbols[places], SCALES[level[places]], mean[places] / MEAN_STEPS, y_limit)
            strings.append(write_varint(z_limit) + write_varint(y_limit) + coder.finish())
        return strings

    def _check_with_z(self) -> None:
        if not self.network.with_z:
            raise InputError("This codec has no z, so y has a prior of its own and no parameters.")

    def _order(self, height: int, width: int) -> Iterator[tuple[Array, Array]]:
        """Yield positions, [n, 1], and channels, [channels], in coding order, a slice at a time."""
        for work in steps(self.layout, self.coding_context.window, height, width):
            for number, positions in work:
                yield positions.numpy()[:, None], self.coding_context.block_channels(number).cpu().numpy()

    @torch.no_grad()
    @exact_arithmetic()
    def decode(self, strings: Sequence[bytes], shape: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """Decode byte strings to y_hat and z_hat (None if there is no z).

        Args:
            strings: one byte string per image, from `encode`.
            shape: rows and columns of z, or of y if there is no z. See `Codec.shape`.

        Raises:
            InputError: the data is damaged.
        """
        with_z = self.network.with_z
        table = self.table.cpu().numpy()
        coders, limits, first = [], [], []
        for string in strings:
            limit, rest = read_varint(string)
            y_limit, rest = read_varint(rest) if with_z else (limit, rest)
            if limit > (Z_LIMIT if with_z else Y_LIMIT) or y_limit > Y_LIMIT:
                raise InputError(
                    "The coded data has latents beyond their limits, so the file is damaged: get it again."
                )
            coder = Decoder(rest)
            first.append(coder.under_table(table, shape[0] * shape[1], limit))
            coders.append(coder)
            limits.append(y_limit)
        first_latent = torch.from_numpy(np.stack(first)).to(self.table.device).unflatten(-1, shape).float()
        first_latent = first_latent + self.network.centre(self._prior)
        y_hat, z_hat = first_latent, None
        if with_z:
            y_hat, z_hat = self._decode_y(first_latent, coders, limits), first_latent
        for coder in coders:
            coder.finish()
        return y_hat, z_hat

    def _decode_y(self, z_hat: Tensor, coders: Sequence[Decoder], limits: Sequence[int]) -> Tensor:
        context, centred = self.coding_context, self.network.centred

        def read(work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
            shapes = [scales.shape for scales, _ in parameters]
            grid = context.grid(*(_joined([p[k] for p in parameters]) for k in (0, 1)))
            levels, mean_steps = (part.cpu().numpy().astype(np.int32, copy=False) for part in grid)
            about = np.zeros_like(mean_steps) if centred else mean_steps
            values = [
                c.on_grid(s, m, limit) for c, limit, s, m in zip(coders, limits, levels, about, strict=True)
            ]
            shift = mean_steps / MEAN_STEPS if centred else 0
            values_of_y = torch.from_numpy(np.stack(values) + shift)
            pieces = values_of_y.split([shape[1] * shape[2] for shape in shapes], 1)
            return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]

        return context.by_stages(self.psi(z_hat), read).float()

    @property
    def _prior(self) -> Prior:
        return self.network.prior if self.network.with_z else self.network.y_prior

    def _steps(self, values: Tensor) -> Int32s:
        """Values under the factorised prior as whole steps from their centres, [B, channels, positions]."""
        steps = (values - self.network.centre(self._prior)).round()
        return steps.flatten(2).cpu().numpy().astype(np.int32)

    # Identities

    @cached_property
    def path_identity(self) -> str:
        """Identity of everything that a stream depends on: weights, layout, grid, quantiser and coder."""
        return self.identity_under(self.layout)

    def identity_under(self, layout: Layout) -> str:
        """The path identity with the same weights and another order of decoding.

        Args:
            layout: the other order of decoding.
        """
        net = self.network
        arithmetic = "float64"
        parts: list[nn.Module] = [net.h_s, net.context] if net.with_z else []
        if self.integers is not None:
            # these words are hashed into every file: do not change them
            arithmetic, parts = "whole numbers", [self.integers]
        grid = (SCALES.tobytes(), SCALE_BOUNDS.tobytes(), MEAN_STEPS, arithmetic, net.space.quantizer)
        weights = [value for part in parts for value in part.state_dict().values()]
        weights += [self._prior.medians()] if net.centred else []
        order = repr(sorted(layout.to_dict().items()))
        content = [_bytes(value) for value in [*weights, self.table]]
        return digest(CODER, repr(grid), order, str(net.space.window), *content, size=4)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the whole codec."""
        state = self.state_dict()
        return digest(self.path_identity, *(_bytes(state[name]) for name in sorted(state)), size=4)


def _with_gradient(value: Tensor, soft: Tensor) -> Tensor:
    """A value with the gradient of another value."""
    return value + (soft - soft.detach())


def _in_range(x: Tensor) -> Tensor:
    """Convert images to single precision. Raises InputError if their values cannot be in [0, 1].

    Values slightly outside, as resampling produces them, are allowed.
    """
    if not x.is_floating_point():
        raise InputError(f"Codecs need images in [0, 1], not {x.dtype}: convert them with x / 255.")
    if x.layout != torch.strided or x.is_meta:
        raise InputError(
            "Codecs need dense tensors with data: this one is sparse, or a meta tensor without data."
        )
    low, high = (float(end) for end in x.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            "The images contain NaN or infinity, but codecs need numbers in [0, 1]: correct them."
        )
    if low < -PIXEL_OVERSHOOT or high > 1 + PIXEL_OVERSHOOT:
        raise InputError(
            f"Codecs need images in [0, 1], but the numbers of these range from {low:.4g} to {high:.4g}: "
            "rescale them."
        )
    return x.float()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _frequencies(network: CodecNetwork) -> Tensor:
    """The factorised prior as integer frequencies. See `FactorizedPrior.frequencies`."""
    prior, limit = (network.prior, Z_LIMIT) if network.with_z else (network.y_prior, Y_LIMIT)
    assert isinstance(prior, FactorizedPrior)
    return prior.frequencies(limit, network.centre(prior))


def _staged_integers(path: IntegerPath, layout: Layout) -> Staged:
    if layout.context == "table":
        return StagedTable(path.products(), path.table, layout)
    if path.with_context:
        return StagedContext(path.products(), layout)
    return StagedHyper(HyperOnly(path.psi_parts), layout, integer_grid)


def _rows(values: Tensor, kind: str) -> Array:
    """Reorder integers from [B, M, h, w] to [B, positions, M]."""
    return values.flatten(2).transpose(1, 2).round().cpu().numpy().astype(kind)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors [B, positions, channels] to [B, n]."""
    return parts[0].flatten(1) if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], 1)
