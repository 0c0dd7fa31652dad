"""RUN/search/scores.csv: every score that was ever computed, so that none is computed twice.

Over a range of rates, `curves.csv` in the same folder has the three points behind each score.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path

from nas.metrics.objective import Objective
from nas.searching.scoring.evaluator import Evaluator, Point, Score
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, InputWarning, is_outside
from nas.support.tables import append_rows, read_rows

SCORE_COLUMNS = ("key", "calibration", "weights", "bpp", "psnr", "rd_loss")
CURVES_FILE = "curves.csv"
POINTS = (*SCORE_COLUMNS[:3], "lmbda", *SCORE_COLUMNS[3:])


class Scores:
    """The scores of one supernet on one set of calibration photos, stored on disk as they come.

    Args:
        path: the CSV file. Rows of other weights or photos are ignored.
        evaluator: computes scores that are not known yet.
        weights: fingerprint of the supernet.
        keep: whether to write new scores to the file.
    """

    def __init__(self, path: Path, evaluator: Evaluator, weights: str, *, keep: bool = True) -> None:
        self.path, self.evaluator, self.weights = path, evaluator, weights
        self._keep = keep
        self.computed = 0  # number of scores that this object computed
        self._known: dict[Architecture, Score] = {}
        self._seen = 0  # number of bytes of the file that were read
        self.refresh()

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self._known

    def __len__(self) -> int:
        return len(self._known)

    def items(self) -> Iterator[tuple[Architecture, Score]]:
        """All scored architectures, with their scores."""
        yield from self._known.items()

    def of(self, architecture: Architecture) -> Score:
        """The score of an architecture: looked up, or computed and stored.

        Raises:
            InputError: the score is not finite. It is not stored.
        """
        if architecture not in self._known:
            self.learn(architecture, self.evaluator.score(architecture))
            self.computed += 1
        return self._known[architecture]

    def attempt(self, architecture: Architecture) -> Score | None:
        """The score of an architecture, or None with a warning if it cannot be computed.

        Use this to compare many architectures, so that one failure does not lose the others.
        """
        try:
            return self.of(architecture)
        except Exception as error:
            if is_outside(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(
                f"{architecture.key} cannot be scored and is passed over: {reason}",
                InputWarning,
                stacklevel=2,
            )
            return None

    def learn(self, architecture: Architecture, score: Score) -> None:
        """Add a score, and write it to the file if it is new.

        Args:
            architecture: the architecture.
            score: its score.

        Raises:
            InputError: the score is not finite.
        """
        if not score.is_a_number:
            raise InputError(
                f"The score of {architecture.key} is not finite ({score.bpp:.4g} bpp, rd_loss "
                f"{score.rd_loss:.4g}), and is not kept: its weights are broken. Train the run again."
            )
        if architecture in self._known:
            return
        self._known[architecture] = score
        if self._keep:
            whose = (architecture.key, self.evaluator.calibration, self.weights)
            points = [(p.lmbda, p.bpp, p.psnr, p.rd_loss) for p in score.curve]
            if points:  # written first, because a score without points would never be computed again
                rows = [(*whose, *map(repr, point)) for point in points]
                append_rows(self.path.with_name(CURVES_FILE), POINTS, rows)
            self._append((*whose, *map(repr, (score.bpp, score.psnr, score.rd_loss))))

    def refresh(self) -> None:
        """Read the rows that other processes have written since."""
        size = self._size()
        if size != self._seen:
            which = self.weights, self.evaluator.calibration, self.evaluator.objective
            on_disk = known_scores(self.path, self.evaluator.space, *which)
            self._known = {**self._known, **on_disk}
            self._seen = size

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _append(self, row: tuple[str, ...]) -> None:
        before = self._size()
        added = append_rows(self.path, SCORE_COLUMNS, [row])
        if before == self._seen and self._size() == before + added:  # no other process has written meanwhile
            self._seen += added


def read_curves(path: Path, weights: str, calibration: str) -> dict[str, tuple[Point, ...]]:
    """Read the points of every architecture, by key, for one supernet on one set of photos.

    Points that are not finite are ignored.

    Args:
        path: the file, which need not exist.
        weights: fingerprint of the supernet.
        calibration: fingerprint of the calibration photos.
    """
    rows = read_rows(path, POINTS) if path.exists() else []
    curves: dict[str, dict[float, Point]] = {}
    for row in rows:
        if (row["weights"], row["calibration"]) != (weights, calibration):
            continue
        try:
            point = Point(*(float(row[column]) for column in POINTS[3:]))
        except ValueError:
            continue  # cut short by a crash
        if not all(map(math.isfinite, (point.lmbda, point.bpp, point.psnr, point.rd_loss))):
            continue
        curves.setdefault(row["key"], {})[point.lmbda] = point
    return {key: tuple(points[lmbda] for lmbda in sorted(points)) for key, points in curves.items()}


def read_scores(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a scores.csv. A last row that a crash has cut short is ignored.

    Args:
        path: path of the scores.csv.
    """
    rows = read_rows(path, SCORE_COLUMNS) if path.exists() else []
    return [row for row in rows if all(row.get(column) for column in SCORE_COLUMNS)]


def known_scores(
    path: Path,
    space: SearchSpace,
    weights: str,
    calibration: str | None = None,
    objective: Objective | None = None,
) -> dict[Architecture, Score]:
    """Read the scores of one supernet on one set of photos. By default it is the set that was scored last.

    Rows that are not finite, which earlier versions wrote, are ignored. So are rows whose numbers contradict
    each other, with a warning.

    Args:
        path: path of the scores.csv.
        space: the search space.
        weights: fingerprint of the supernet.
        calibration: fingerprint of the calibration photos.
        objective: the loss. Without it, numbers are not compared.
    """
    rows = [row for row in read_scores(path) if row["weights"] == weights]
    if calibration is None and rows:
        calibration = rows[-1]["calibration"]
    scores: dict[Architecture, Score] = {}
    curves = read_curves(path.with_name(CURVES_FILE), weights, calibration or "") if space.rates else {}
    damaged = 0
    for row in rows:
        if row["calibration"] == calibration:
            try:
                architecture = space.parse(row["key"])
                bpp, psnr, loss = (float(row[column]) for column in ("bpp", "psnr", "rd_loss"))
                score = Score(bpp, psnr, loss, curves.get(row["key"], ()))
            except ValueError:
                continue  # the run no longer has this layout, or the row has no numbers
            if not score.is_a_number:
                continue
            if objective is None or score.is_possible(objective, space.rates):
                scores[architecture] = score
            else:
                damaged += 1
    if damaged:
        warnings.warn(
            f"Passed over {damaged} scores in {path}, whose numbers cannot belong together: the file was "
            "changed or damaged. A search computes them again.",
            InputWarning,
            stacklevel=2,
        )
    return scores
