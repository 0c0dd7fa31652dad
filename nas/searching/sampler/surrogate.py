"""The surrogate of the loss: a Gaussian process over a product of finite sets.

A slot has a handful of candidates, so its part of the kernel is a small table. The kernel of two
architectures is the exponential of a sum of table entries, which is one matrix product for thousands of
architectures. Each slot contributes 1 + s k(a, b): an effect of its own, and an interaction with the others
(the ANOVA kernel of Durrande et al., J. Multivariate Analysis 2013). Here k is a Matern 5/2 correlation of
the slot's distances.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.optimize import minimize

from nas.searching.sampler.moves import Rows
from nas.support.arrays import Floats

NUGGET = 1e-6  # noise as a share of the variance; the scores themselves are exact
# Priors of a slot: log s and log length are normally distributed
STRENGTH, LENGTH = (-2.0, 2.0), (0.5, 1.0)
LOG_BOUNDS = ((-8.0, 4.0), (-2.0, 3.0))
ITERATIONS = 30
TINY = 1e-300  # smallest variance
FIRST, MORE, GROWTH = 4, 5, 1.15  # when the parameters are learned again: see `_training_count`


class Surrogate:
    """A Gaussian process over rows of indexes, one index per slot.

    Args:
        distances: for each slot, a symmetric table of Euclidean distances, [candidates, candidates].
    """

    def __init__(self, distances: Sequence[Floats]) -> None:
        self._distances = [np.asarray(table, dtype=float) for table in distances]
        ends = np.cumsum([0, *(len(table) for table in self._distances)])
        self._starts = ends[:-1]
        self._blocks = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self._width = int(ends[-1])
        count = len(self._distances)
        self._believed = self._parameters = np.repeat([STRENGTH[0], LENGTH[0]], count)

    def fit(self, rows: Rows, values: Floats) -> None:
        """Learn each slot's strength and length from observations by maximum a posteriori.

        Args:
            rows: observed rows, [n, slots].
            values: their values, [n].
        """
        hot, count = self._hot(rows), len(self._distances)
        optimum = minimize(
            lambda parameters: self._evidence(parameters, hot, values),
            self._believed,
            jac=True,
            method="L-BFGS-B",
            bounds=[LOG_BOUNDS[0]] * count + [LOG_BOUNDS[1]] * count,
            options={"maxiter": ITERATIONS},
        )
        self._parameters = optimum.x

    def observe(self, rows: Rows, values: Floats) -> None:
        """Set the observations that predictions use. The parameters stay as they are.

        Args:
            rows: all observed rows, [n, slots].
            values: their losses, [n].
        """
        hot = self._hot(rows)
        self._known = self._tables(self._parameters)[0] @ hot.T
        kernel = np.exp(hot @ self._known)
        kernel[np.diag_indices(len(rows))] += NUGGET
        self._factor = cholesky(kernel, lower=True)
        white = solve_triangular(self._factor, np.column_stack([values, np.ones(len(rows))]), lower=True)
        self._mean = float(white[:, 0] @ white[:, 1] / (white[:, 1] @ white[:, 1]))
        rest = white[:, 0] - self._mean * white[:, 1]
        self._variance = float(rest @ rest) / len(rows)
        self._weights = solve_triangular(self._factor, rest, lower=True, trans="T")

    def predict(self, rows: Rows) -> tuple[Floats, Floats]:
        """The means and the standard deviations at rows, each [n]."""
        kernel = np.exp(self._hot(rows) @ self._known)
        mean = self._mean + kernel @ self._weights
        white = solve_triangular(self._factor, kernel.T, lower=True)
        rest = np.maximum(1 - np.einsum("ij,ij->j", white, white), 0)
        return mean, np.sqrt(self._variance * rest + TINY)

    def _hot(self, rows: Rows) -> Floats:
        """One-hot indicators of every slot's candidates, side by side."""
        rows = np.asarray(rows)
        hot = np.zeros((len(rows), self._width))
        hot[np.arange(len(rows))[:, None], rows + self._starts] = 1
        return hot

    def _tables(self, parameters: Floats) -> tuple[Floats, list[Floats], list[Floats]]:
        """log((1 + s k) / (1 + s)) of every slot as one block-diagonal table, with its derivatives."""
        count = len(self._distances)
        tables = np.zeros((self._width, self._width))
        by_strength, by_length = [], []
        for number, (block, distances) in enumerate(zip(self._blocks, self._distances, strict=True)):
            strength, length = np.exp(parameters[number]), np.exp(parameters[count + number])
            far = np.sqrt(5) * distances / length
            fall = np.exp(-far)
            share = strength * (1 + far + far**2 / 3) * fall
            tables[block, block] = np.log1p(share) - np.log1p(strength)
            by_strength.append(share / (1 + share) - strength / (1 + strength))
            by_length.append(strength * far**2 * (1 + far) / 3 * fall / (1 + share))
        return tables, by_strength, by_length

    def _evidence(self, parameters: Floats, hot: Floats, values: Floats) -> tuple[float, Floats]:
        """The negative log posterior of the parameters and its gradient; mean and variance profiled out."""
        tables, *derivatives = self._tables(parameters)
        kernel = np.exp(hot @ tables @ hot.T)
        noisy = kernel.copy()
        noisy[np.diag_indices(len(values))] += NUGGET
        try:
            factor = cholesky(noisy, lower=True)
        except LinAlgError:  # a length so large that all rows look alike
            return 1e10, np.zeros_like(parameters)
        half = solve_triangular(factor, np.eye(len(values)), lower=True)
        inverse = half.T @ half
        ones = inverse.sum(1)
        rest = values - ones @ values / ones.sum()
        weights = inverse @ rest
        variance = max(float(rest @ weights) / len(values), TINY)
        spread = np.repeat([STRENGTH[1], LENGTH[1]], len(self._distances))
        away = (parameters - self._believed) / spread
        loss = len(values) / 2 * np.log(variance) + np.log(factor.diagonal()).sum() + away @ away / 2
        pull = hot.T @ ((inverse - np.outer(weights, weights) / variance) * kernel / 2) @ hot
        slopes = [
            (pull[block, block] * table).sum()
            for of_kind in derivatives
            for block, table in zip(self._blocks, of_kind, strict=True)
        ]
        return float(loss), np.array(slopes) + away / spread


def comparable_losses(rows: Rows, losses: Floats) -> tuple[Rows, Floats]:
    """Make losses comparable: infinite ones count as the worst finite one; others are left out.

    Args:
        rows: observed rows, [n, slots].
        losses: losses of the rows, [n].
    """
    finite = np.isfinite(losses)
    if finite.all():
        return rows, losses
    if finite.any():
        losses = np.where(losses == np.inf, losses[finite].max(), losses)
    keep = np.isfinite(losses)
    return rows[keep], losses[keep]


def scaled(losses: Floats) -> Floats:
    """Losses on the scale of the model: logarithms, or shares of the largest if some are not positive.

    Args:
        losses: measured losses, [n].
    """
    if (losses > 0).all():
        return np.asarray(np.log(losses))
    largest = np.abs(losses).max()
    return losses / largest if largest > 0 else losses


class LossModel:
    """Predicts the loss of any row of indexes from the scored rows.

    The same rows in the same order give the same model, however many calls they came in. An interrupted
    search can therefore continue exactly where it stopped.

    Args:
        distances: see `Surrogate`.
    """

    def __init__(self, distances: Sequence[Floats]) -> None:
        self._distances = distances
        self._surrogate = Surrogate(distances)
        self._learned_from = (0, True)

    def update(self, rows: Rows, losses: Floats, pending: Rows | None = None) -> None:
        """Update the model with all scores, in the order of scoring.

        Args:
            rows: all scored rows, [n, slots].
            losses: their losses, [n], finite.
            pending: rows that other workers are scoring, [m, slots]. They count with their predicted losses.
        """
        values, trained_on = scaled(losses), (_training_count(len(rows)), bool((losses > 0).all()))
        if trained_on != self._learned_from:
            self._surrogate.fit(rows[: trained_on[0]], values[: trained_on[0]])
            self._learned_from = trained_on
        self._surrogate.observe(rows, values)
        if pending is not None and len(pending):
            guessed, _ = self._surrogate.predict(pending)
            self._surrogate.observe(np.concatenate([rows, pending]), np.concatenate([values, guessed]))

    def predict(self, rows: Rows) -> tuple[Floats, Floats]:
        """The means and the standard deviations of the losses on the scale of `scaled`, each [n].

        Args:
            rows: one index per slot, [n, slots].
        """
        return self._surrogate.predict(rows)


def _training_count(count: int) -> int:
    """The number of scores that the parameters are learned from. It grows in steps of `GROWTH`."""
    enough = FIRST
    while (after := max(enough + MORE, int(GROWTH * enough))) <= count:
        enough = after
    return enough
