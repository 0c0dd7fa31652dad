"""Effort: refines the latents of one picture for that picture's own loss before they are coded.

g_a serves all pictures. For a single picture there are better latents, and their file decodes like any other
at the same cost. Effort 1 rounds y with its bits in mind (`rounding`). From effort 2 on, integers
change where the loss falls (`descent`). The highest efforts also descend from where y and z get to along the
gradient of the loss (`annealing`). Codecs without z, or whose y is rounded about its mean, only anneal.

A large picture is refined tile by tile, while everything around a tile is held fixed. Flat areas of pure
white or black start where `saturated` moves them to, if that is better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nas.codec.bitstream import Latents, picture_of
from nas.codec.codec import Codec
from nas.codec.refining.annealing import annealed_latents
from nas.codec.refining.descent import descended
from nas.codec.refining.rounding import is_rate_aware, round_rate_aware
from nas.codec.refining.saturated import push_out_of_range
from nas.codec.refining.tiles import REFINEMENT_TILING
from nas.codec.tiles import TILING, Tiling
from nas.graph.affine import exact_arithmetic
from nas.metrics.objective import Objective
from nas.metrics.quality import MS_SSIM_SIDE, error_of
from nas.photos.grey import is_grey
from nas.photos.images import Pixels
from nas.support.errors import InputError
from nas.support.limits import MOST_EFFORT, is_whole
from nas.support.progress import Report, silent

# Steps of refinement by effort, from effort 2 on. Each effort takes about 1.6 times as long as the last one.
STEPS_OF_EFFORT = (0, 0, 6, 10, 16, 25, 40, 70, 120, 200, 350)
# The first effort that anneals as well, and the steps of each descent before and after that.
BOTH, DESCENT = 8, 40


def check_effort(effort: int) -> None:
    """Raise InputError if the effort is out of range.

    Args:
        effort: 0 (the latents of g_a) to `MOST_EFFORT`.
    """
    if not is_whole(effort) or not 0 <= effort <= MOST_EFFORT:
        raise InputError(f"Effort is a whole number from 0 to {MOST_EFFORT}, not {effort}.")


def is_too_small(pixels: Pixels, objective: Objective) -> bool:
    """Whether a picture is too small for the distortion to be measured.

    Args:
        pixels: the picture, [H, W, 3] in 8 bits.
        objective: the loss.
    """
    return objective.metric == "ms-ssim" and min(pixels.shape[:2]) <= MS_SSIM_SIDE


@torch.inference_mode(False)
@torch.no_grad()
def refined(
    codec: Codec,
    pixels: Pixels,
    y: Tensor,
    objective: Objective,
    effort: int,
    *,
    tiling: Tiling = TILING,
    refinement_tiling: Tiling = REFINEMENT_TILING,
    seed: int = 0,
    report: Report = silent,
) -> Latents:
    """Refine y_hat and z_hat of one picture at a rate. Returns plain rounding if refinement is not better.

    The decision uses the real file and picture: bytes, and the distortion in 8 bits.

    Args:
        codec: the codec.
        pixels: the picture, [H, W, 3] in 8 bits.
        y: output of g_a for the picture, from `bitstream.analyzed`, [1, M, h, w].
        objective: the loss. For a codec over a range of rates, its lambda also sets the rate.
        effort: 0 to `MOST_EFFORT`.
        tiling: when the picture passes g_s in tiles during decoding.
        refinement_tiling: when and how the picture is refined in tiles.
        seed: seed of the random numbers.
        report: called with the steps done, the total number of steps and a note.

    Raises:
        InputError: the effort is out of range.
    """
    check_effort(effort)
    rate = _rate(codec, objective)
    plain = codec.rounded(y, rate)
    if not effort or is_too_small(pixels, objective):
        return plain

    best = _Best(lambda latents: loss_of_file(codec, latents, pixels, objective, tiling), plain)
    moved = push_out_of_range(codec, pixels, y, rate)
    if moved is not None and best.takes(codec.rounded(moved, rate)):
        y = moved
    with exact_arithmetic():
        y = codec.network.scaled_y(y, rate)
    best.takes(round_rate_aware(codec, y, best.latents))
    first, annealing, second = plan = _plan(codec, effort)
    saturated = moved is not None

    def descend(start: Latents, steps: int, before: int) -> None:
        told = _phase(report, before, steps, sum(plan))
        best.takes(
            descended(codec, pixels, start, objective, steps, refinement_tiling, seed, told, saturated)
        )

    if first:
        descend(best.latents, first, 0)
    if annealing:
        told = _phase(report, first, annealing, sum(plan))
        after, z = annealed_latents(
            codec, pixels, y, objective, annealing, refinement_tiling, seed, told, saturated
        )
        found = _Best(best.loss_of, codec.to_integers(after, z))
        found.takes(round_rate_aware(codec, after, found.latents))
        best.takes(found.latents)
        if second:
            descend(found.latents, second, first + annealing)
    return best.latents


def _plan(codec: Codec, effort: int) -> tuple[int, int, int]:
    """The steps of a descent, of annealing, and of a second descent from where annealing ends."""
    total = STEPS_OF_EFFORT[effort]
    if not is_rate_aware(codec):
        return 0, total, 0
    return (total, 0, 0) if effort < BOTH else (DESCENT, total - 2 * DESCENT, DESCENT)


class _Best:
    """The latents of least loss so far.

    Args:
        loss_of: gives the loss of latents.
        latents: the first latents.
    """

    def __init__(self, loss_of: Callable[[Latents], float], latents: Latents) -> None:
        self.loss_of, self.latents, self._least = loss_of, latents, loss_of(latents)

    def takes(self, latents: Latents) -> bool:
        """Whether other latents are better and were therefore taken."""
        if latents is self.latents or (loss := self.loss_of(latents)) >= self._least:
            return False
        self.latents, self._least = latents, loss
        return True


def _phase(report: Report, before: int, own: int, total: int) -> Report:
    """A report of one phase of several. The numbers of steps in a tile are those before, its own, and all."""

    def told(done: int, steps: int, note: str) -> None:
        tiles = steps // own
        report(before * tiles + done, total * tiles, note)

    return told


def _rate(codec: Codec, objective: Objective) -> float | None:
    """The lambda of the rate, or None for a codec of one rate."""
    return objective.lmbda if codec.rates else None


def loss_of_file(
    codec: Codec,
    latents: Latents,
    pixels: Pixels,
    objective: Objective,
    tiling: Tiling,
    stream: bytes | None = None,
) -> float:
    """The loss of a file and of the picture that it decodes to.

    Args:
        codec: the codec.
        latents: y_hat and z_hat.
        pixels: the picture that was coded, [H, W, 3] in 8 bits.
        objective: the loss. For a codec over a range of rates its lambda is the rate, too.
        tiling: when the picture passes g_s in tiles.
        stream: the coded latents, without the file's header. By default they are coded.
    """
    if stream is None:
        (stream,) = codec.encode(*latents)
    height, width = pixels.shape[:2]
    rate, grey = _rate(codec, objective), is_grey(pixels)
    decoded = picture_of(codec, latents[0], width, height, tiling, rate, grey=grey)
    error = error_of(pixels, decoded, objective.metric)
    return float(objective.loss(8 * len(stream) / (height * width), error))
