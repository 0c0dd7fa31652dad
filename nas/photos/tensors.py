"""Photos as tensors, padded to what a network needs, and back."""

from __future__ import annotations

from types import EllipsisType

import torch
from torch import Tensor

from nas.photos.images import Pixels


def to_tensor(pixels: Pixels) -> Tensor:
    """8-bit pixels [H, W, 3] as a batch of one in [0, 1], [1, 3, H, W]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def to_pixels(x: Tensor) -> Pixels:
    """An image [1, 3, H, W] clamped to [0, 1] and rounded to 8 bits, [H, W, 3].

    Args:
        x: the image in single precision.
    """
    levels = x[0].permute(1, 2, 0).clamp(0, 1).mul_(255).round_().to(torch.uint8)
    if not levels.is_contiguous():
        levels = torch.stack(levels.unbind(-1), -1)  # takes half the time of a copy in another order
    return levels.cpu().numpy()


def pad(x: Tensor, multiple: int) -> Tensor:
    """Mirror an image beyond its bottom and right edge until its sides are multiples of a number.

    Args:
        x: images, [..., H, W].
        multiple: the number that both sides become multiples of.
    """
    height, width = x.shape[-2:]
    rows = _mirror(height, -(-height // multiple) * multiple).to(x.device)
    columns = _mirror(width, -(-width // multiple) * multiple).to(x.device)
    return x if len(rows) == height and len(columns) == width else x[..., rows[:, None], columns]


class Padded:
    """A picture in 8 bits, mirrored as by `pad`, that becomes a tensor only where it is read.

    `padded[..., rows, columns]` is what `pad(to_tensor(pixels), multiple)[..., rows, columns]` would be.

    Args:
        pixels: [H, W, 3].
        multiple: number that both sides become multiples of.
        device: device of the tensors.
    """

    def __init__(self, pixels: Pixels, multiple: int, device: torch.device | str = "cpu") -> None:
        self._pixels, self._device = pixels, device
        self._places = [_mirror(side, -(-side // multiple) * multiple).numpy() for side in pixels.shape[:2]]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the padded picture as a batch of one, [1, 3, H, W]."""
        return 1, 3, len(self._places[0]), len(self._places[1])

    def levels(self, rows: slice = slice(None), step: int = 1) -> Pixels:
        """Rows of the padded picture, every `step`-th pixel both ways, [rows, columns, 3] in 8 bits.

        Args:
            rows: which rows.
            step: how far the pixels lie apart.
        """
        levels: Pixels = self._pixels[self._places[0][rows][::step, None], self._places[1][::step]]
        return levels

    def __getitem__(self, window: tuple[EllipsisType, slice, slice]) -> Tensor:
        """A crop in [0, 1]: [1, 3, rows, columns]."""
        _, rows, columns = window
        crop = self._pixels[self._places[0][rows, None], self._places[1][columns]]
        return to_tensor(crop).to(self._device)


def _mirror(size: int, wanted: int) -> Tensor:
    """Indexes 0 .. size-1 .. 0 .. as far as wanted, the edge not repeated; works for a size of 1."""
    period = max(1, 2 * (size - 1))
    index = torch.arange(wanted) % period
    return torch.minimum(index, period - index) if size > 1 else torch.zeros(wanted, dtype=torch.long)
