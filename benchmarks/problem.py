"""A search problem that resembles a codec's, with an exactly known front: 12 slots of 5 widths each.

It has 244 million architectures. The MACs are those of the layers of the joint autoregressive codec. The loss
has the properties that make real losses hard: returns diminish with width, the narrowest layer of an edge
holds back the others, encoder and decoder hold back each other, and hyperprior and context can replace each
other. The loss is a sum over two halves of the slots. The exact front can therefore be computed from the
fronts of the halves.
"""

from __future__ import annotations

import numpy as np

from nas.metrics.pareto import front_curve
from nas.searching.sampler.moves import Rows
from nas.support.arrays import Floats

WIDTHS = np.array([48, 72, 96, 144, 192], dtype=float)
NAMES = (
    *("g_a.1", "g_a.2", "g_a.3", "g_s.1", "g_s.2", "g_s.3"),
    *("h_a.1", "h_a.2", "h_s.1", "h_s.2", "entropy_parameters.1", "entropy_parameters.2"),
)
SHAPE = (len(WIDTHS),) * len(NAMES)
HALF = len(NAMES) // 2
LATENT = 192

# Loss that narrow widths cause: for each layer, and for the narrowest layer of each edge
ANALYSIS, SYNTHESIS, BOTTLENECK = (0.018, 0.034, 0.026), (0.028, 0.041, 0.020), 0.035
HYPER, ENTROPY = (0.006, 0.004, 0.009, 0.007), (0.012, 0.008)


def costs(rows: Rows) -> Floats:
    """Cost in kMAC per pixel of rows [n, 12]: [n]."""
    return picture_costs(rows[:, :HALF]) + rate_costs(rows[:, HALF:])


def losses(rows: Rows) -> Floats:
    """Loss of rows [n, 12]: [n]."""
    return picture_losses(rows[:, :HALF]) + rate_losses(rows[:, HALF:])


def front() -> tuple[Floats, Floats]:
    """The exact front: costs in ascending order, and their losses."""
    half = np.stack(np.unravel_index(np.arange(len(WIDTHS) ** HALF), SHAPE[:HALF]), 1)
    picture = front_curve(picture_costs(half), picture_losses(half))
    rate = front_curve(rate_costs(half), rate_losses(half))
    both = [np.add.outer(*pair).ravel() for pair in zip(picture, rate, strict=True)]
    return front_curve(*both)


def picture_costs(rows: Rows) -> Floats:
    a, b, c, d, e, f = WIDTHS[rows].T
    encoder = 3 * a / 4 + a * b / 16 + b * c / 64 + c * LATENT / 256
    decoder = LATENT * d / 256 + d * e / 64 + e * f / 16 + f * 3 / 4
    return np.asarray(25 * (encoder + decoder) / 1000)


def picture_losses(rows: Rows) -> Floats:
    """Distortion of rows. The worse one of encoder and decoder has the larger weight."""
    encoder = _edge(WIDTHS[rows[:, :3]], ANALYSIS)
    decoder = _edge(WIDTHS[rows[:, 3:]], SYNTHESIS)
    return np.asarray(0.6 + np.cbrt((encoder**3 + decoder**3) / 2) + (encoder + decoder) / 2)


def rate_costs(rows: Rows) -> Floats:
    a, b, c, d, e, f = WIDTHS[rows].T
    h_a = 9 * LATENT * a / 256 + 25 * a * b / 1024 + 25 * b * LATENT / 4096
    h_s = 25 * LATENT * c / 1024 + 25 * c * d / 256 + 9 * d * 2 * LATENT / 256
    entropy = (4 * LATENT * 3 * e + 9 * e * f + 3 * f * 2 * LATENT) / 256
    return np.asarray((h_a + h_s + entropy) / 1000)


def rate_losses(rows: Rows) -> Floats:
    """Rate of rows. Wide entropy parameters make up for a part of what a narrow hyperprior misses."""
    hyper = _narrow(WIDTHS[rows[:, :4]]) @ np.array(HYPER)
    entropy = _narrow(WIDTHS[rows[:, 4:]]) @ np.array(ENTROPY)
    return np.asarray(0.4 + hyper + entropy + 8 * hyper * entropy)


def _edge(widths: Floats, amplitudes: tuple[float, ...]) -> Floats:
    narrowest = widths.min(1, keepdims=True)
    return np.asarray(_narrow(widths) @ np.array(amplitudes) + BOTTLENECK * _narrow(narrowest)[:, 0])


def _narrow(widths: Floats) -> Floats:
    """How much narrower than the widest a width is: 0 at the widest."""
    return np.asarray((WIDTHS[-1] / widths) ** 0.75 - 1)
