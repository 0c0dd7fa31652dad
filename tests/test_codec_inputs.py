"""What the low-level functions of codecs cannot use is refused in one sentence, before torch stumbles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from test_effort import codec_of

from nas.codec.bitstream import (
    analyzed,
    compress_image,
    decompress_image,
    latents_of,
    picture_of,
    write_latents,
)
from nas.codec.codec import Codec
from nas.codec.nic import Nic
from nas.codec.tiles import Tiling
from nas.support.errors import InputError

PIXELS = np.zeros((64, 128, 3), np.uint8)
NOT_TENSORS: tuple[Any, ...] = (None, "y", 3, [[1.0]], np.zeros((1, 2, 4, 8)))


def refused(door: Callable[..., Any], *given: Any, **named: Any) -> None:
    with pytest.raises(InputError) as caught:
        door(*given, **named)
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) < 300
    assert "\n" not in message


def changed(tensor: torch.Tensor, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[0, 0, 0, 0] = value
    return tensor


@pytest.fixture(
    scope="module", params=["joint-ar-integer", "factorized-integer-rates", "patch-integer-rates"]
)
def codec(request: pytest.FixtureRequest) -> Codec:
    return codec_of(request.param)


def wrong(latent: torch.Tensor) -> list[Any]:
    """What is no rounded latent of the same codec."""
    return [
        *NOT_TENSORS,
        latent[0],
        latent[:, :-1],
        torch.cat([latent, latent], 1),
        latent[:, :, :0],
        latent.bool(),
        latent.to(torch.complex64),
        *(changed(latent, value) for value in (float("nan"), float("inf"), 0.5, 1e6)),
    ]


def test_latents_that_cannot_be_are_refused(codec: Codec) -> None:
    y_hat, z_hat = codec.latents(torch.zeros(1, 3, 64, 128))
    step = 500 if codec.rates else None

    def written(y: Any, z: Any) -> Nic:
        return write_latents(codec, (y, z), 128, 64, step)

    both = [codec.encode, codec.likelihoods, written]
    both += [codec.parameters_of_y] if codec.network.with_z else []
    for y in wrong(y_hat):
        for door in both:
            refused(door, y, z_hat)
        refused(codec.synthesize, y)
        refused(picture_of, codec, y, 128, 64)
    for y in (*NOT_TENSORS, y_hat[:, :-1], changed(y_hat, float("nan"))):
        refused(codec.rounded, y)
    if z_hat is None:
        for door in both:
            refused(door, y_hat, y_hat)
        refused(codec.parameters_of_y, y_hat, None)
        refused(codec.psi, y_hat)
        return
    shapes = z_hat[..., :1], z_hat.repeat(2, 1, 1, 1), torch.cat([z_hat, z_hat], 2)
    for z in (*wrong(z_hat), *shapes):
        for door in both:
            refused(door, y_hat, z)
    for z in wrong(z_hat):
        refused(codec.psi, z)
    for door in both:
        refused(door, y_hat[..., :3], z_hat)


def test_a_tiling_that_cannot_be_is_refused(codec: Codec) -> None:
    y_hat, z_hat = codec.latents(torch.zeros(1, 3, 64, 128))
    nic = write_latents(codec, (y_hat, z_hat), 128, 64, 500 if codec.rates else None)
    doors = [
        partial(codec.latents, torch.zeros(1, 3, 64, 128)),
        partial(codec.analyze, torch.zeros(1, 3, 64, 128)),
        partial(codec.synthesize, y_hat),
        partial(compress_image, codec, PIXELS),
        partial(latents_of, codec, PIXELS),
        partial(decompress_image, codec, nic),
        partial(picture_of, codec, y_hat, 128, 64),
    ]
    for door in doors:
        for tiling in (None, 64, "64", (1 << 22, 1024), {"side": 64}, Tiling):
            refused(door, tiling=tiling)


@pytest.mark.parametrize("value", [-1, 0.5, 64.0, "64", None, True, float("nan"), [64]])
def test_sides_and_limits_of_tilings_are_whole_numbers(value: Any) -> None:
    refused(Tiling, limit=value)
    refused(Tiling, side=value)
    refused(Tiling, side=0)


def test_pixels_that_cannot_be_are_refused(codec: Codec) -> None:
    given = [None, "photo.png", 3, PIXELS[0], PIXELS[..., :2], PIXELS[None], PIXELS.tolist()]
    given += [PIXELS.astype(kind) for kind in (float, int, bool, complex)]
    for pixels in given:
        for door in (compress_image, latents_of, analyzed):
            refused(door, codec, pixels)


def test_a_file_needs_the_size_and_the_quality_of_its_latents(codec: Codec) -> None:
    latents = codec.latents(torch.zeros(1, 3, 64, 128))
    step = 500 if codec.rates else None
    for width, height in ((0, 64), (128, -1), (128.0, 64), ("128", 64), (None, 64), (256, 64), (64, 128)):
        refused(write_latents, codec, latents, width, height, step)
        refused(picture_of, codec, latents[0], width, height)
    for other in (None, -1, 1001, 5.0, "5", True) if codec.rates else (0, 5, "5"):
        refused(write_latents, codec, latents, 128, 64, other)
    for other_latents in (None, latents[0], (latents[0],), (*latents, None), "yz"):
        refused(write_latents, codec, other_latents, 128, 64, step)
    two = codec.latents(torch.zeros(2, 3, 64, 128))
    refused(write_latents, codec, two, 128, 64, step)
