"""Gains per channel and rate, with which one network codes at every rate of a range.

y is multiplied by a gain before it is rounded, and by another one before g_s, so that low rates have coarse
steps and high rates fine ones (after Cui et al., CVPR 2021). Integers stay integers. The entropy decoder need
not know the rate, because z is made from the scaled y, with gains and shifts of its own, and carries this
information. Gains are learned at a few anchors and interpolated geometrically between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real

import torch
from torch import Tensor, nn

from nas.graph.layers.width import Width
from nas.spaces.rates import middle
from nas.support.errors import InputError


class _AtAnchors(nn.Module):
    """Rows of learned values: one row for each anchor, with one value for each channel.

    Args:
        anchors: lambdas in rising order, at least two.
        width: the channels, whose number is chosen at run time.
    """

    def __init__(self, anchors: Sequence[float], width: Width) -> None:
        super().__init__()
        self.anchors, self.width = tuple(anchors), width

    def _at(self, rows: Tensor, lmbda: float) -> Tensor:
        """The interpolated row of a rate for the active channels, [channels, 1, 1]."""
        return interpolate_gains(self.width.take(rows, 1), self.anchors, lmbda)[:, None, None]

    def sliced(self) -> dict[str, Tensor]:
        """The values of the active channels."""
        return {name: self.width.take(value, 1) for name, value in self.named_parameters()}


class Gains(_AtAnchors):
    """The gains of y before rounding, and those before g_s.

    They start from the step sizes of high-rate theory: sqrt(lambda / lambda of the middle anchor).

    Args:
        anchors: lambdas that have gains of their own, rising.
        width: width of y.
    """

    def __init__(self, anchors: Sequence[float], width: Width) -> None:
        super().__init__(anchors, width)
        logs = torch.tensor([0.5 * math.log(lmbda / middle(anchors)) for lmbda in anchors])
        self.log_gain = nn.Parameter(logs[:, None].repeat(1, width.active))
        self.log_inverse = nn.Parameter(-logs[:, None].repeat(1, width.active))

    def up(self, lmbda: float) -> Tensor:
        """The gains before rounding, [channels, 1, 1].

        Args:
            lmbda: lambda of the rate.
        """
        return self._at(self.log_gain, lmbda).exp()

    def down(self, lmbda: float) -> Tensor:
        """The gains before g_s, [channels, 1, 1].

        Args:
            lmbda: lambda of the rate.
        """
        return self._at(self.log_inverse, lmbda).exp()


class HyperGains(_AtAnchors):
    """The gains and shifts of z before rounding. Only the encoder needs them.

    Args:
        anchors: lambdas that have gains of their own, rising.
        width: width of z.
    """

    def __init__(self, anchors: Sequence[float], width: Width) -> None:
        super().__init__(anchors, width)
        self.log_gain = nn.Parameter(torch.zeros(len(anchors), width.active))
        self.shift = nn.Parameter(torch.zeros(len(anchors), width.active))

    def forward(self, z: Tensor, lmbda: float) -> Tensor:
        """Scale and shift z for a rate, [B, N, h, w].

        Args:
            z: z before it is rounded, [B, N, h, w].
            lmbda: lambda of the rate.
        """
        return z * self._at(self.log_gain, lmbda).exp() + self._at(self.shift, lmbda)


def interpolate_gains(rows: Tensor, anchors: Sequence[float], lmbda: float) -> Tensor:
    """Interpolate between rows, linearly in the logarithm of lambda: [anchors, channels] to [channels].

    Args:
        rows: one row per anchor, [anchors, channels].
        anchors: lambdas of the rows, rising, at least two. Beyond them the nearest one counts.
        lmbda: lambda of the rate.

    Raises:
        InputError: lambda is not a number above 0.
    """
    if not isinstance(lmbda, Real) or isinstance(lmbda, bool) or not 0 < lmbda < math.inf:
        raise InputError(f"lmbda cannot be {lmbda!r}: give a number above 0, such as {middle(anchors):g}.")
    for low, (first, last) in enumerate(pairwise(anchors)):
        if lmbda <= last or low == len(anchors) - 2:
            share = math.log(lmbda / first) / math.log(last / first)
            share = min(1.0, max(0.0, share))  # beyond the range, use its end
            return torch.lerp(rows[low], rows[low + 1], share)
    raise ValueError("gains need at least two anchors")
