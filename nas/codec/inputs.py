"""What the parts of a codec are given by hand: what cannot be pixels or latents is refused in a sentence."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nas.graph.entropy import Y_LIMIT, Z_LIMIT
from nas.graph.network import CodecNetwork
from nas.photos.images import Pixels
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION
from nas.support.errors import InputError

_Z_SIDE = Z_REDUCTION // Y_REDUCTION  # elements of y across one of z


def check_pixels(pixels: Pixels) -> None:
    """InputError where pixels are no picture in 8 bits.

    Args:
        pixels: what was given for a picture, [H, W, 3] in 8 bits.
    """
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"A picture is an array of pixels, [H, W, 3] in 8 bits, not {_described(pixels)}.")
    if pixels.dtype != np.uint8:
        raise InputError(
            f"A picture has pixels in 8 bits (numpy.uint8), not {pixels.dtype}: convert it, with values from "
            "0 to 255."
        )


def check_y(network: CodecNetwork, y: Tensor, *, rounded: bool, reader: str = "The entropy path") -> None:
    """InputError where a tensor cannot be y of a network.

    Args:
        network: one architecture.
        y: what was given for y, [B, M, H/16, W/16].
        rounded: it has to be rounded, which means integers where the network does not round about means.
        reader: what messages say that needs it.
    """
    _check(network, "y", y, Y_LIMIT if rounded else None, reader)


def check_z(network: CodecNetwork, z_hat: Tensor | None, y: Tensor | None = None) -> None:
    """InputError where a tensor cannot be rounded z of a network.

    Args:
        network: one architecture.
        z_hat: what was given for rounded z, [B, N, H/64, W/64], or None where there is no z.
        y: y of the same pictures, where it is known.
    """
    if not network.with_z:
        if z_hat is not None:
            raise InputError("This codec has no z: give None for z_hat.")
        return
    _check(network, "z", z_hat, Z_LIMIT, "The entropy path")
    assert z_hat is not None
    if y is None:
        return
    batch, _, *sides = y.shape
    expected = (batch, z_hat.shape[1], *(-(-side // _Z_SIDE) for side in sides))
    if any(side % _Z_SIDE for side in sides):
        raise InputError(
            f"Rows and columns of y are multiples of {_Z_SIDE} in this codec, and not {tuple(sides)}: pad "
            "the picture first."
        )
    if tuple(z_hat.shape) != expected:
        raise InputError(
            f"For y of the shape {tuple(y.shape)}, z_hat has the shape {expected}, not {tuple(z_hat.shape)}."
        )


def _check(network: CodecNetwork, name: str, value: Tensor | None, limit: int | None, reader: str) -> None:
    """InputError where a value cannot be a latent of a network.

    Args:
        network: one architecture.
        name: `y` or `z`.
        value: what was given for it.
        limit: its largest value where it has to be rounded.
        reader: what messages say that needs it.
    """
    channels, what = network.widths[name].active, f"{name}_hat" if limit is not None else name
    if (
        not isinstance(value, Tensor)
        or value.ndim != 4
        or value.shape[1] != channels
        or 0 in value.shape
        or not value.is_floating_point()
    ):
        raise InputError(
            f"{reader} needs {'' if limit is None else 'rounded '}{name}, a tensor of floating-point "
            f"numbers, [B, {channels}, rows, columns], not {_described(value)}."
        )
    if not value.isfinite().all():
        raise InputError(f"{what} contains NaN or infinity: correct it, or take what Codec.latents gives.")
    if limit is None or network.centred:
        return
    if not (value == value.round()).all():
        raise InputError(f"{what} has to be integers: round it, or take what Codec.latents gives.")
    if value.abs().max() > limit:
        raise InputError(f"{what} has to be from -{limit} to {limit}: clamp it.")


def _described(value: object) -> str:
    """The shape and type of an array or tensor, or else the type of a value."""
    if isinstance(value, np.ndarray | Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"one of {kind} in the shape {tuple(value.shape)}"
    return "nothing" if value is None else type(value).__name__
