"""The accuracy of predictions: measured seconds and bytes of whole codecs against sums of table entries."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from nas.profiling.predict import Predictor
from nas.spaces.budget import ACTIONS

FEWEST_RANKED = 3  # of which a rank correlation says something


@dataclass(frozen=True)
class Accuracy:
    """Predictions of one action against measurements.

    Attributes:
        what: `encode, s`, `decode, MB` and so on.
        count: number of measured architectures.
        rank_correlation: Spearman's, between predicted and measured.
        mean_error, worst_error: errors of predictions, relative to the measurements.
        spread: how far single repeats lie from their median, on average and relative to it: the machine's
            own; None for memory, which is measured once.
    """

    what: str
    count: int
    rank_correlation: float
    mean_error: float
    worst_error: float
    spread: float | None

    columns = (
        "prediction of",
        "architectures",
        "rank correlation",
        "mean error",
        "worst",
        "repeats differ by",
    )

    def row(self) -> list[str]:
        """A line of a table."""
        return [
            self.what,
            str(self.count),
            f"{self.rank_correlation:.3f}",
            f"{self.mean_error:.1%}",
            f"{self.worst_error:.1%}",
            "" if self.spread is None else f"{self.spread:.1%}",
        ]


def accuracies(predictor: Predictor) -> list[Accuracy]:
    """The accuracies for architectures that were measured as whole codecs. Empty if there are too few.

    Args:
        predictor: predictor of the run's times, with what was measured.
    """
    compared = []
    checked = set(predictor.measured.checked)
    records = predictor.measured.by_architecture(predictor.space)
    measured = {each: record for each, record in records.items() if each.key in checked}
    for action in ACTIONS:
        timed = {key: record for key, record in measured.items() if record.rounds}
        if len(timed) >= FEWEST_RANKED:
            quantity = predictor.time(action)
            seconds = [record.median(action) for record in timed.values()]
            predicted = [quantity.value(key) / 1000 for key in timed]
            spreads = [
                statistics.fmean(abs(value / median - 1) for value in record.seconds(action))
                for record, median in zip(timed.values(), seconds, strict=True)
            ]
            compared.append(_compare(f"{action}, s", predicted, seconds, statistics.fmean(spreads)))
    for action in ACTIONS:
        weighed = {key: record.process[action] / 1e6 for key, record in measured.items() if record.process}
        if len(weighed) >= FEWEST_RANKED:
            quantity = predictor.memory(action)
            predicted = [quantity.value(key) for key in weighed]
            compared.append(_compare(f"{action}, MB", predicted, list(weighed.values()), None))
    return compared


def _compare(what: str, predicted: list[float], measured: list[float], spread: float | None) -> Accuracy:
    from scipy.stats import spearmanr

    errors = np.abs(np.array(predicted) / np.array(measured) - 1)
    rank = float(spearmanr(predicted, measured).statistic)
    return Accuracy(what, len(measured), rank, float(errors.mean()), float(errors.max()), spread)
