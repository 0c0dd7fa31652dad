"""How much other work disturbs this machine: what times that are taken now are worth."""

from __future__ import annotations

import time

import numpy as np

MOST = 0.15  # beyond it times are not to be trusted
_SECONDS, _SIDE = 0.3, 96


def disturbance() -> float:
    """How much longer one small piece of work takes on average than at its quickest; 0 on a quiet machine.

    The piece is shorter than the turns in which a busy machine lets processes run, so that its quickest time
    is undisturbed even where the average is not.
    """
    rng = np.random.default_rng(0)
    piece = rng.random((_SIDE, _SIDE))
    seconds, end = [], time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        np.sort(piece, axis=None)
        seconds.append(time.perf_counter() - began)
    found = np.array(seconds[len(seconds) // 10 :])  # without the warm-up
    return float(found.mean() / np.quantile(found, 0.05) - 1)


def warning(share: float) -> str:
    """What a profile says of it."""
    told = f"Other work made this machine {share:.0%} slower while it was measured"
    if share <= MOST:
        return f"{told}."
    return (
        f"{told}: times above 15 % are not to be trusted. Stop the other work and measure again with --force."
    )
