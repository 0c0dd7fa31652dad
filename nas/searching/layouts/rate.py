"""The rate of y under any layout, for fixed latents. Layouts are compared by this rate.

The bits of a channel group at one cell of the tile depend only on what the group can see there, and on what
the other groups of the same stage can see. Each such case is computed once, so tables that differ in a few
cells share the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.graph.context import Cell, ContextModel, HyperOnly, layout_cells
from nas.graph.entropy import ConditionalGaussian, coded_range
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.architecture import Architecture
from nas.spaces.layout import Layout
from nas.support.arrays import Array
from nas.support.errors import InputError

Y_PIXELS = 256  # image pixels per position of y


@dataclass(frozen=True)
class CalibrationLatents:
    """The inputs of the context model for photos of one size, with the coder's range for each photo.

    Attributes:
        psi: hyper features, [B, 2M, h, w].
        y_hat: integers, [B, M, h, w].
        limit: the coder's range, [B].
    """

    psi: Tensor
    y_hat: Tensor
    limit: Tensor

    @classmethod
    def stack(cls, parts: Sequence[CalibrationLatents]) -> list[CalibrationLatents]:
        """Join latents of the same size into batches.

        Args:
            parts: latents of single photos.
        """
        by_size: dict[Any, list[CalibrationLatents]] = {}
        for part in parts:
            by_size.setdefault(part.y_hat.shape[-2:], []).append(part)
        return [
            cls(*(torch.cat([getattr(part, name) for part in same]) for name in ("psi", "y_hat", "limit")))
            for same in by_size.values()
        ]

    def middle(self, side: int | None) -> CalibrationLatents:
        """At most `side` positions across and down, from the middle. None keeps all."""
        if side is None:
            return self
        top, left = (max(0, size - side) // 2 for size in self.y_hat.shape[-2:])
        return self.window(top, left, side)

    def window(self, top: int, left: int, side: int) -> CalibrationLatents:
        """At most `side` positions across and down, from a given corner.

        Args:
            top: first row.
            left: first column.
            side: largest number of rows and of columns.
        """
        psi, y_hat = (part[..., top : top + side, left : left + side] for part in (self.psi, self.y_hat))
        return CalibrationLatents(psi, y_hat, self.limit)


def calibration_latents(
    evaluator: Evaluator, architecture: Architecture, *, side: int | None = None, photos: int | None = None
) -> list[CalibrationLatents]:
    """Compute the latents of an evaluator's photos under one architecture.

    Args:
        evaluator: evaluator of the supernet.
        architecture: the architecture.
        side: largest number of positions across and down, taken from the middle of each photo. None takes
            all.
        photos: largest number of photos.
    """
    latents = []
    for index in range(len(evaluator.photos))[:photos]:
        psi, y_hat = evaluator.latents(index, architecture)
        latents.append(CalibrationLatents(psi, y_hat, coded_range(y_hat)).middle(side))
    return CalibrationLatents.stack(latents)


class LayoutRate:
    """Returns the rate of y under a layout, in bits per image pixel, as a mean over photos.

    Args:
        context: the context model at the widths to use. Its weights must not change.
        latents: latents of the photos.
    """

    def __init__(self, context: ContextModel | HyperOnly, latents: Sequence[CalibrationLatents]) -> None:
        if not isinstance(context, ContextModel):
            raise InputError("This family has no context model: its layout cannot matter.")
        if not latents:
            raise InputError("A layout's rate needs the latents of at least one photo.")
        self.context, self.latents = context, list(latents)
        self.gaussian = ConditionalGaussian().to(latents[0].psi.device)
        self.scored = 0  # number of layouts that were scored
        self._known: dict[Any, Array] = {}

    @classmethod
    def of(
        cls, evaluator: Evaluator, architecture: Architecture, *, side: int | None = 24, photos: int = 4
    ) -> LayoutRate:
        """Use calibration photos under one architecture, which stays active in the evaluator's supernet.

        Args:
            evaluator: evaluator of the supernet.
            architecture: the architecture.
            side: positions of y across and down that are taken from the middle of each photo; None takes all.
            photos: number of calibration photos.
        """
        latents = calibration_latents(evaluator, architecture, side=side, photos=photos)
        evaluator.supernet.activate(architecture)
        return cls(evaluator.supernet.context, latents)

    @property
    def pixels(self) -> int:
        """Number of image pixels of all photos together."""
        return sum(Y_PIXELS * part.y_hat[:, 0].numel() for part in self.latents)

    def __call__(self, layout: Layout) -> float:
        """The rate under a layout in bits per pixel, as a mean over photos."""
        self.scored += 1
        return float(self.per_photo(layout).mean())

    def per_photo(self, layout: Layout) -> Array:
        """Bits per pixel of every photo.

        Args:
            layout: the order of decoding.

        Returns:
            Bits per pixel, [photos].
        """
        if layout.context == "table":
            total = self._bits_by_table(layout)
        else:
            total = np.zeros(sum(len(part.y_hat) for part in self.latents))
            for cell in layout_cells(layout, self.context.window):
                keys = _signatures(layout, cell)
                if any(key not in self._known for key in keys):
                    self._known.update(zip(keys, self._bits(layout, cell), strict=True))
                for key in keys:
                    total += self._known[key]
        sizes = [Y_PIXELS * part.y_hat[0, 0].numel() for part in self.latents for _ in part.y_hat]
        return np.asarray(total / np.array(sizes))

    @torch.no_grad()
    def _bits_by_table(self, layout: Layout) -> Array:
        """Bits of every photo, [photos]."""
        by_part = []
        for part in self.latents:
            scales, means = self.context(part.psi, part.y_hat, layout)
            likelihood = self.gaussian.coded_likelihood(part.y_hat, scales, means, limit=part.limit)
            by_part.append(-likelihood.log2().sum((1, 2, 3), dtype=torch.float64))
        return torch.cat(by_part).cpu().numpy()

    @torch.no_grad()
    def _bits(self, layout: Layout, cell: Cell) -> Array:
        """Bits of every channel group of every photo at the positions of one cell, [groups, photos]."""
        by_part = []
        groups = torch.from_numpy(layout.group_of_channel).to(self.latents[0].y_hat.device)
        for part in self.latents:
            likelihood = self.likelihood(part, layout, cell)
            of_channel = -likelihood.log2().sum((2, 3), dtype=torch.float64)
            of_group = of_channel.new_zeros(len(of_channel), len(layout.groups))
            by_part.append(of_group.index_add_(1, groups, of_channel).t())
        return torch.cat(by_part, 1).cpu().numpy()

    def likelihood(self, part: CalibrationLatents, layout: Layout, cell: Cell) -> Tensor:
        """Probability of each element at the positions of one cell, [B, M, down, across].

        Args:
            part: latents of one photo, or a window of them.
            layout: the layout.
            cell: the cell of its tile.
        """
        _, rows, columns = layout.table.shape
        values = part.y_hat[..., cell.row :: rows, cell.column :: columns]
        (parameters,) = self.context.at_cells(part.psi, part.y_hat, layout, [cell])
        scales, means = parameters[..., : values.shape[-2], : values.shape[-1]].chunk(2, 1)
        return self.gaussian.coded_likelihood(values, scales, means, limit=part.limit)


def _signatures(layout: Layout, cell: Cell) -> list[Any]:
    """What the bits of each channel group at a cell depend on: the known groups, and what each group sees."""
    count = len(layout.groups)
    if cell.visible is None:
        views = [b""] * count
    else:
        views = [cell.visible[group].numpy().tobytes() for group in range(count)]
    where = (layout.groups, layout.table.shape[1:], cell.row, cell.column)
    known_groups = cell.known.tolist()
    return [
        (where, group, tuple((other, views[other]) for other in range(count) if known_groups[group][other]))
        for group in range(count)
    ]
