"""How well whole codecs are predicted: their measured seconds and bytes against sums of table entries."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from nas.cost.measure import WHOLE
from nas.cost.predict import Predictor


@dataclass(frozen=True)
class Accuracy:
    """Predictions of one action against measurements.

    Attributes:
        what: `encode, s`, `decode, MB` and so on.
        count: how many architectures were measured.
        rank_correlation: Spearman's, between predicted and measured.
        mean_error, worst_error: of predictions, relative to what was measured.
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
    """What can be said of the architectures that were measured whole; nothing where there are too few."""
    found = []
    measured, space = predictor.measured, predictor.space
    for what in WHOLE:
        action = what.split()[1]
        keys = measured.of_kind(what)
        if len(keys) < 3:
            continue
        quantity = predictor.time(action)
        seconds = [measured.seconds(what, key) for key in keys]
        predicted = [quantity.value(space.parse(key)) / 1000 for key in keys]
        spreads = [
            statistics.fmean(abs(value - median) / median for value in measured.all_seconds(what, key))
            for key, median in zip(keys, seconds, strict=True)
        ]
        found.append(_compare(f"{action}, s", predicted, seconds, statistics.fmean(spreads)))
    unseen = [key for key in measured.memory if key not in predictor.fitted_on]
    for action in ("encode", "decode") if len(unseen) >= 3 else ():
        quantity = predictor.memory(action)
        megabytes = [measured.memory[key][action] / 1e6 for key in unseen]
        found.append(
            _compare(f"{action}, MB", [quantity.value(space.parse(k)) for k in unseen], megabytes, None)
        )
    return found


def _compare(what: str, predicted: list[float], measured: list[float], spread: float | None) -> Accuracy:
    from scipy.stats import spearmanr

    errors = np.abs(np.array(predicted) / np.array(measured) - 1)
    rank = float(spearmanr(predicted, measured).statistic)
    return Accuracy(what, len(measured), rank, float(errors.mean()), float(errors.max()), spread)
