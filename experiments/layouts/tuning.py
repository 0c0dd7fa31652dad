"""Trains only a context model, on the latents of a fixed supernet."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch

from nas.graph.context import ContextModel
from nas.graph.entropy import ConditionalGaussian, bits
from nas.searching.layouts.rate import Y_PIXELS, CalibrationLatents
from nas.spaces.layout import Layout

BATCH, SIDE = 8, 24  # windows per step, and their sides in positions


def tune(
    context: ContextModel,
    latents: Sequence[CalibrationLatents],
    layout: Callable[[random.Random], Layout],
    *,
    steps: int,
    learning_rate: float = 5e-4,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda step, bpp: None,
) -> None:
    """Train a context model to lower the rate of integers in random windows of latents.

    Args:
        context: context model, which is trained in place.
        latents: latents of training photos, one batch each.
        layout: draws the layout of a step.
        steps: steps of Adam. The learning rate falls to a twentieth along a cosine.
        seed: seed of windows and layouts.
        report: called after every step with the rate of y in bpp.
    """
    rng = random.Random(f"tune {seed}")
    gaussian = ConditionalGaussian()
    weights = [parameter.requires_grad_() for parameter in context.parameters()]
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    for step in range(steps):
        fall = (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (0.05 + 0.95 * fall) * min(1, (step + 1) / 50)
        drawn, total, pixels = layout(rng), torch.zeros(()), 0
        for part in CalibrationLatents.stack([_window(rng.choice(latents), rng) for _ in range(BATCH)]):
            scales, means = context(part.psi, part.y_hat, drawn)
            total = total + bits(gaussian.likelihood(part.y_hat, scales, means)).sum()
            pixels += Y_PIXELS * part.y_hat[:, 0].numel()
        optimizer.zero_grad()
        (total / pixels).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        report(step + 1, float(total.detach()) / pixels)
    context.requires_grad_(False)


def _window(part: CalibrationLatents, rng: random.Random) -> CalibrationLatents:
    top, left = (rng.randint(0, max(0, size - SIDE)) for size in part.y_hat.shape[-2:])
    return part.window(top, left, SIDE)
