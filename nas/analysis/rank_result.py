"""The result of a rank check: a row for each architecture, and whether the two orders agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.analysis.kendall import LEVEL, Agreement, agreement
from nas.searching.scoring.evaluator import Score
from nas.support.tables import signed

if TYPE_CHECKING:
    import pandas as pd

RANK_COLUMNS = (
    "arch",
    "total_kmac_px",
    *(f"{side}_{name}" for side in ("supernet", "standalone") for name in ("rd_loss", "bpp", "psnr")),
    "penalty",
    "steps",
    "run",
)


@dataclass(frozen=True)
class RankRow:
    """One architecture with the supernet's weights and with its own, on the same photos.

    Attributes:
        arch: key of the architecture.
        total_kmac_px: its total cost, in kMAC per pixel.
        supernet: its score with the supernet's weights.
        standalone: its score with weights that were trained for it alone.
        steps: number of steps of that training.
        run: folder of that training.
    """

    arch: str
    total_kmac_px: float
    supernet: Score
    standalone: Score
    steps: int
    run: str

    @property
    def penalty(self) -> float:
        """The relative rise of the loss with the supernet's weights, compared with the architecture's own."""
        return self.supernet.rd_loss / self.standalone.rd_loss - 1

    def to_dict(self) -> dict[str, Any]:
        """The values by the names of `RANK_COLUMNS`."""
        sides = {"supernet": self.supernet, "standalone": self.standalone}
        scores = {
            f"{side}_{name}": getattr(score, name)
            for side, score in sides.items()
            for name in ("rd_loss", "bpp", "psnr")
        }
        facts = {"penalty": self.penalty, "steps": self.steps, "run": self.run}
        return {"arch": self.arch, "total_kmac_px": self.total_kmac_px, **scores, **facts}


@dataclass(frozen=True)
class RankResult:
    """The result of a rank check, ordered by total cost.

    Attributes:
        rows: a row for each architecture.
        metric: `mse` or `ms-ssim`.
        settings: settings of the separate trainings.
        notes: sentences for people.
        files: files that were written.
    """

    rows: list[RankRow]
    metric: str
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether all requested architectures have a row."""
        return bool(len(self.rows) == self.settings["count"])

    @cached_property
    def agreement(self) -> Agreement:
        """The rank correlation between the supernet's losses and those after training alone."""
        losses = [(row.supernet.rd_loss, row.standalone.rd_loss) for row in self.rows]
        return agreement([one for one, _ in losses], [other for _, other in losses])

    @property
    def penalty(self) -> dict[str, float]:
        """The mean, the least and the largest penalty."""
        penalties = [row.penalty for row in self.rows]
        return {"mean": float(np.mean(penalties)), "least": min(penalties), "most": max(penalties)}

    def __repr__(self) -> str:
        if not self.finished:
            return f"RankResult({len(self.rows)} of {self.settings['count']} architectures)"
        tau, mean = self.agreement.tau, self.penalty["mean"]
        said = "no tau" if tau is None else f"tau {tau:.3f}"
        return f"RankResult({len(self.rows)} architectures, {said}, penalty {signed(mean, '.1%')})"

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each architecture, as in rank.csv: both scores, the penalty and the total MACs."""
        import pandas as pd

        return pd.DataFrame([row.to_dict() for row in self.rows], columns=list(RANK_COLUMNS))

    def to_json(self) -> dict[str, Any]:
        """The content of rank.json. Values that need all architectures are null until these are finished."""
        agreement = self.agreement if self.finished else Agreement(None, None, None)
        return {
            "finished": self.finished,
            "tau": agreement.tau,
            "interval": list(agreement.interval) if agreement.interval else None,
            "level": LEVEL,
            "p": agreement.p,
            "penalty": self.penalty if self.rows else None,
            "settings": self.settings,
            "notes": self.notes,
            "architectures": [row.to_dict() for row in self.rows],
        }

    def table(self) -> list[dict[str, Any]]:
        """The rows of the printed table."""
        return [
            {
                "kMAC/px": row.total_kmac_px,
                "supernet": row.supernet.rd_loss,
                "alone": row.standalone.rd_loss,
                "penalty": signed(row.penalty, ".1%"),
                "arch": row.arch,
            }
            for row in self.rows
        ]

    def sentences(self) -> list[str]:
        """The result in sentences."""
        agreement, share = self.agreement, self.penalty
        if agreement.tau is None or agreement.interval is None or agreement.p is None:
            first = "Kendall's tau has no value: all scores of one side are equal."
        else:
            low, high = agreement.interval
            first = (
                f"Kendall's tau {agreement.tau:.3f}, 95 % interval {low:.3f} to {high:.3f}, "
                f"p = {agreement.p:.3g} against no correlation ({len(self.rows)} architectures)."
            )
        return [
            first,
            f"Penalty of inherited weights: {signed(share['mean'], '.1%')} of the loss on average, from "
            f"{signed(share['least'], '.1%')} to {signed(share['most'], '.1%')}.",
            *self.notes,
        ]
