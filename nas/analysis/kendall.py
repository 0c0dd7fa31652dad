"""Kendall's tau for a handful of pairs, with an interval and a p-value that are valid for so few."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LEVEL = 0.95
_MOST_ORDERS = 8  # up to this many pairs, every order is tried; of more pairs, some orders are drawn
_DRAWN_ORDERS = 9999


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of two lists, its 95 % interval, and its p-value. None if all values of a list tie."""

    tau: float | None
    interval: tuple[float, float] | None
    p: float | None


def agreement(one: Sequence[float], other: Sequence[float]) -> Agreement:
    """Kendall's tau-b of two lists of scores (scipy), with an interval and a p-value for few pairs.

    Args:
        one: scores.
        other: other scores of the same things, in the same order.
    """
    from scipy.stats import kendalltau

    tau = float(kendalltau(one, other).statistic)
    if math.isnan(tau):
        return Agreement(None, None, None)
    return Agreement(tau, tau_interval(tau, len(one)), tau_p_value(one, other))


def tau_interval(tau: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """An exact interval for Kendall's tau of a few pairs, as Clopper and Pearson's is for a share.

    The number of discordant pairs D is taken to follow Mallows' model, in which an order has a probability
    proportional to exp(-theta D) (Mallows, Non-null ranking models, Biometrika 44, 1957); then D is a sum of
    independent variables (Fligner and Verducci, Distance based ranking models, JRSS B 48, 1986). The limits
    are the expected taus at the two thetas where D is as small as seen, or as large, with probability
    (1 - level) / 2 (after Clopper and Pearson, Biometrika 26, 1934). With ties, D is what tau-b amounts to,
    rounded so that the interval gets wider.

    A bootstrap over architectures is no use for so few: where six agree perfectly, every resample does, and
    its interval is [1, 1]. In 400 simulations of normal pairs with tau = 0.91 its 95 % intervals held the
    true value in 12 % (3 architectures), 46 % (6) and 96 % (12), these in 100, 99 and 98 %. What is weak here
    is the model: it knows no distances, as if any two neighbours could as easily change places.

    Args:
        tau: the measured tau.
        count: number of pairs.
        level: least probability that the interval contains the true value.
    """
    from scipy.optimize import brentq

    pairs = count * (count - 1) // 2
    discordant, half = pairs * (1 - tau) / 2, (1 - level) / 2
    fewest, most = math.floor(discordant + 1e-9), math.ceil(discordant - 1e-9)

    def limit(at_theta: Callable[[float], float]) -> float:
        theta = brentq(lambda value: at_theta(value) - half, -60, 60)
        return 1 - 2 * float(_discordances(count, theta) @ np.arange(pairs + 1)) / pairs

    low = -1.0 if most == pairs else limit(lambda theta: float(_discordances(count, theta)[: most + 1].sum()))
    high = 1.0 if fewest == 0 else limit(lambda theta: float(_discordances(count, theta)[fewest:].sum()))
    return max(-1.0, min(low, tau)), min(1.0, max(high, tau))


def _discordances(count: int, theta: float) -> Values:
    """P(D = 0), P(D = 1), ... of Mallows' model: a sum of independent truncated geometric variables."""
    counts: Values = np.ones(1)
    for size in range(2, count + 1):
        powers = -theta * np.arange(size)
        weights = np.exp(powers - powers.max())
        counts = np.convolve(counts, weights / weights.sum())
    return counts


def tau_p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value against no correlation: exact without ties, and for up to eight pairs in any case.

    With ties in more pairs, it comes from 9999 random orders with a fixed seed (Phipson and Smyth,
    Permutation p-values should never be zero, 2010).

    Args:
        one: scores.
        other: other scores of the same things, in the same order.
    """
    from scipy.stats import kendalltau

    count = len(one)
    if len(set(one)) == len(set(other)) == count:
        return float(kendalltau(one, other, method="exact").pvalue)
    outer = (np.subtract.outer(values, values) for values in (np.array(one), np.array(other)))
    x, y = (np.sign(differences).astype(np.int8) for differences in outer)
    if count <= _MOST_ORDERS:
        orders = np.array(list(itertools.permutations(range(count))))
    else:
        rng = np.random.default_rng(0)
        orders = np.array([np.arange(count), *(rng.permutation(count) for _ in range(_DRAWN_ORDERS))])
    sums = (x[orders[:, :, None], orders[:, None, :]] * y).sum(axis=(1, 2))
    return float((abs(sums) >= abs((x * y).sum())).mean())
