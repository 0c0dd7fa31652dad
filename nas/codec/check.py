"""The check vector: a few latents and their stream, which are coded again whenever a codec is loaded.

Everything that would make two machines code differently (another arithmetic, another version of the coder,
altered weights) shows here, before a file is written or misread.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.graph.entropy import MEAN_STEPS, Y_LIMIT
from nas.graph.staged import Parameters, Work
from nas.support.errors import InputError

CHECK_SHAPE = (2, 2)  # rows and columns of the coarser latent, for 128x128 pixels
CHECK_PREFIX = "check."


@torch.no_grad()
def check_vector(family: CodecFamily) -> dict[str, Tensor]:
    """Make latents near the expected values, some far beyond, and their streams in every layout.

    Args:
        family: an exported family of codecs.

    Returns:
        By name: `y` [1, M, h, w] and `z` [1, N, h/4, w/4], if the codec has them, and the stream in each
        layout as bytes, [length].
    """
    y_hat, z_hat = _latents(family.base, torch.Generator().manual_seed(0))
    tensors = {f"{CHECK_PREFIX}y": y_hat.cpu()} | ({} if z_hat is None else {f"{CHECK_PREFIX}z": z_hat.cpu()})
    for name in family.layouts:
        (stream,) = family.codec(name).encode(y_hat, z_hat)
        tensors[_stream(name)] = torch.from_numpy(np.frombuffer(stream, np.uint8).copy())
    return {name: value.contiguous() for name, value in tensors.items()}


def _stream(layout: str) -> str:
    return f"{CHECK_PREFIX}stream.{layout}"


def _latents(codec: Codec, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
    space, device = codec.network.space, codec.table.device
    if codec.network.centred:  # the latents are not integers, so those of a picture are used
        sides = (codec.alignment * CHECK_SHAPE[0], codec.alignment * CHECK_SHAPE[1])
        return codec.latents(torch.rand(1, 3, *sides, generator=rng).to(device))
    channels = space.z_channels if codec.network.with_z else space.y_channels
    first = torch.randint(-4, 5, (1, channels, *CHECK_SHAPE), generator=rng).float().to(device)
    return (_drawn(codec, first, rng), first) if codec.network.with_z else (first, None)


def _drawn(codec: Codec, z_hat: Tensor, rng: torch.Generator) -> Tensor:
    context = codec.coding_context

    def read(work: tuple[Work, ...], parameters: list[Parameters]) -> list[Tensor]:
        drawn = []
        for scales, means in parameters:
            centre = context.grid(scales, means)[1].cpu() / MEAN_STEPS
            away = torch.randint(-1, 2, centre.shape, generator=rng)
            away += 300 * (torch.rand(centre.shape, generator=rng) < 0.002)
            drawn.append((centre.round() + away).clamp(-Y_LIMIT, Y_LIMIT).to(scales))
        return drawn

    return context.by_stages(codec.psi(z_hat), read).float()


@torch.no_grad()
def verify(codec: Codec, stored: Mapping[str, Tensor], *, source: str) -> None:
    """Code the check vector again and compare.

    Args:
        codec: the loaded codec.
        stored: the check vector from the export.
        source: folder of the codec, for messages.

    Raises:
        InputError: the result differs from the stored one, or nothing is stored.
    """
    try:
        y_hat = stored[f"{CHECK_PREFIX}y"]
        stream = stored[_stream(codec.architecture.layout)].numpy().tobytes()
    except KeyError:
        raise InputError(
            f"{source} lacks the check that this machine computes as the codec needs: export the codec again."
        ) from None
    device, z_hat = codec.table.device, stored.get(f"{CHECK_PREFIX}z")
    y_hat, z_hat = y_hat.to(device), None if z_hat is None else z_hat.to(device)
    try:
        same = codec.encode(y_hat, z_hat)[0] == stream
        if same:
            rows, columns = (y_hat if z_hat is None else z_hat).shape[-2:]
            y, z = codec.decode([stream], (rows, columns))
            same = torch.equal(y, y_hat) and (z is None or z_hat is None or torch.equal(z, z_hat))
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise InputError(f"The check in {source} does not fit the codec: export the codec again.") from error
    if not same:
        raise InputError(
            f"This machine computes other numbers than the machine that exported {source}, so files would "
            "not decode: export the codec again, with `--arithmetic exact` if it can."
        )
