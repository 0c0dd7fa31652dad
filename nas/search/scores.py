"""RUN/search/scores.csv: every score ever computed, so that none is computed twice."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from nas.errors import InputError
from nas.files import read_rows
from nas.search.evaluator import Evaluator, Score
from nas.space import Architecture, SearchSpace

COLUMNS = ("key", "calibration", "weights", "bpp", "psnr", "rd_loss")


class Scores:
    """The scores of one supernet on one set of calibration photos, kept on disk as they come.

    Args:
        path: the CSV file; rows of other weights or photos are left alone.
        evaluator: computes what is not known yet.
        weights: fingerprint of the supernet.
    """

    def __init__(self, path: Path, evaluator: Evaluator, weights: str) -> None:
        self.path, self.evaluator, self.weights = path, evaluator, weights
        self.computed = 0  # by this object
        self._known: dict[Architecture, Score] = {}
        self._seen = 0  # bytes of the file whose rows are known
        self.refresh()

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self._known

    def __len__(self) -> int:
        return len(self._known)

    def items(self) -> Iterator[tuple[Architecture, Score]]:
        yield from self._known.items()

    def of(self, architecture: Architecture) -> Score:
        """An architecture's score: looked up, or computed and written down.

        Raises:
            InputError: it is not finite, and is not kept.
        """
        if architecture not in self._known:
            self.computed += 1
            self.learn(architecture, self.evaluator.score(architecture))
        return self._known[architecture]

    def learn(self, architecture: Architecture, score: Score) -> None:
        """Take a score, and write it down where it is new: every score comes in here, or from the file.

        Raises:
            InputError: it is not finite.
        """
        if not score.is_a_number:
            raise InputError(
                f"The score of {architecture.key} is not finite ({score.bpp:.4g} bpp, rd_loss "
                f"{score.rd_loss:.4g}), and is not kept: its weights are broken. Train the run again."
            )
        if architecture not in self._known:
            self._known[architecture] = score
            values = (score.bpp, score.psnr, score.rd_loss)
            self._append((architecture.key, self.evaluator.calibration, self.weights, *map(repr, values)))

    def refresh(self) -> None:
        """Take what other processes have written since."""
        size = self._size()
        if size != self._seen:
            found = known_scores(self.path, self.evaluator.space, self.weights, self.evaluator.calibration)
            self._known = {**self._known, **found}
            self._seen = size

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _append(self, row: tuple[str, ...]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not self.path.exists():
            writer.writerow(COLUMNS)
        elif self.path.read_bytes()[-1:] != b"\n":  # a crash cut the last row short
            buffer.write("\n")
        writer.writerow(row)
        before, added = self._size(), buffer.getvalue().encode()
        with open(self.path, "ab") as file:  # one write per row: rows never mix
            file.write(added)
        if before == self._seen and self._size() == before + len(added):  # nobody else wrote meanwhile
            self._seen += len(added)


def read_scores(path: Path) -> list[dict[str, str]]:
    """The complete rows of a scores.csv; a last row cut short by a crash is passed over."""
    rows = read_rows(path, COLUMNS) if path.exists() else []
    return [row for row in rows if all(row.get(column) for column in COLUMNS)]


def known_scores(
    path: Path, space: SearchSpace, weights: str, calibration: str | None = None
) -> dict[Architecture, Score]:
    """The scores in a file of one supernet on one set of photos; by default the set scored last.

    Rows that are not finite, which earlier versions wrote, are passed over.
    """
    rows = [row for row in read_scores(path) if row["weights"] == weights]
    if calibration is None and rows:
        calibration = rows[-1]["calibration"]
    found: dict[Architecture, Score] = {}
    for row in rows:
        if row["calibration"] == calibration:
            try:
                architecture = space.parse(row["key"])
                score = Score(*(float(row[c]) for c in ("bpp", "psnr", "rd_loss")))
            except ValueError:
                continue  # of a layout that this run no longer has, or no numbers
            if score.is_a_number:
                found[architecture] = score
    return found
