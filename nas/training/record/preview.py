"""A preview of the training: one held-out photo, coded at three widths."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from nas.graph.entropy import bits
from nas.graph.network import Supernet
from nas.photos.images import Photo, Pixels, central_square, psnr
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.support.files import write_atomically

SHOWN_SIDE = 512  # side of the shown part of the photo in pixels, from its middle
BAND = 16  # height of the caption in pixels


@torch.no_grad()
def preview(net: Supernet, photo: Photo) -> Pixels:
    """The photo, and its versions from the narrowest, a median and the widest architecture, side by side.

    Args:
        net: the supernet.
        photo: the photo, of which the middle part is shown.
    """
    pixels = central_square(photo.pixels, SHOWN_SIDE)
    shown = [(pixels, photo.name)]
    space, training = net.space, net.training
    x = to_tensor(pixels).to(next(net.parameters()).device)
    named = {"narrowest": space.narrowest(), "median": space.uniform(0.5), "widest": space.widest()}
    net.eval()
    for name, architecture in named.items():
        output = net(pad(x, space.family.alignment), net.activate(architecture), coded=True)
        decoded = to_pixels(output["x_hat"][..., : pixels.shape[0], : pixels.shape[1]])
        rate = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values())
        bpp = rate / (pixels.shape[0] * pixels.shape[1])
        shown.append((decoded, f"{name}: {bpp:.3f} bpp, {psnr(pixels, decoded):.2f} dB"))
    net.train(training)
    return np.concatenate([_labelled(picture, words) for picture, words in shown], 1)


def write_preview(path: Path, pixels: Pixels) -> None:
    """Write the preview as a PNG file, atomically.

    Args:
        path: the file.
        pixels: the picture, [H, W, 3] in 8 bits.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def _labelled(pixels: Pixels, words: str) -> Pixels:
    height, width = pixels.shape[:2]
    canvas = Image.new("RGB", (width, height + BAND), "white")
    canvas.paste(Image.fromarray(pixels), (0, 0))
    ImageDraw.Draw(canvas).text((3, height + 2), words, fill="black")
    return np.asarray(canvas)
