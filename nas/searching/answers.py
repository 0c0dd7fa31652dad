"""The answer to a target: the best architectures at or under it, close to it and wherever they lie."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas.cost.counting.scopes import CONTEXT_EDGES, SCOPE_EDGES
from nas.cost.counting.table import CostTable
from nas.cost.exact.quantity import Quantity
from nas.profiling.quantities import Question
from nas.searching.sampler.rows import as_rows, distances, history, proposer
from nas.searching.sampler.surrogate import LossModel
from nas.searching.scoring.evaluator import Score
from nas.searching.scoring.scores import Scores
from nas.spaces.architecture import Architecture
from nas.spaces.budget import SCOPES
from nas.support.errors import NasError, UnreachableBudgetError
from nas.support.progress import StageReport

# An answer costs no less than these shares of its target: the first that the space can meet
NEAR = (0.997, 0.995, 0.99, 0.98)
FILL_SECONDS, FILL_SCORES = 40.0, 6
DRAWN = 256  # architectures near a target from which the most promising one is looked for


@dataclass(frozen=True)
class Choice:
    """The answer to one target.

    Attributes:
        target: the target, in the unit of `quantity`.
        quantity: what was limited, such as a scope's MACs or the time to decode.
        architecture: the best architecture just below the target.
        kmac_px: its cost in kMAC per pixel, by scope.
        split: cost in kMAC per pixel of its backbone (g_a, h_a, h_s, g_s), and of its context model with the
            entropy parameters. Together they are the cost in the limited scope, or else in total.
        bpp: bits per pixel on the calibration photos, estimated.
        psnr: PSNR in dB on the calibration photos.
        rd_loss: rate-distortion loss on the calibration photos.
        stages: serial decoding steps at 768x512.
        cheaper: a cheaper architecture that is better still, if there is one.
    """

    target: float
    quantity: Quantity
    architecture: Architecture
    kmac_px: dict[str, float]
    split: dict[str, float]
    bpp: float
    psnr: float
    rd_loss: float
    stages: int
    cheaper: Choice | None = None

    @property
    def best(self) -> Choice:
        """The choice with the least loss at or under the target, which export takes."""
        return self.cheaper or self

    def to_json(self) -> dict[str, Any]:
        """Plain values; `cheaper` is nested, or null. `cost` is what `of` names, in `unit`."""
        costs = {f"{name}_kmac_px": value for name, value in {**self.kmac_px, **self.split}.items()}
        quantity = self.quantity
        macs = {"target_kmac_px": self.target} if quantity.unit == "kMAC/px" else {}
        return {
            **macs,
            "target": self.target,
            "unit": quantity.unit,
            "of": quantity.title,
            "cost": quantity.value(self.architecture),
            **costs,
            "stages": self.stages,
            "bpp": self.bpp,
            "psnr": self.psnr,
            "rd_loss": self.rd_loss,
            "arch": self.architecture.key,
            "cheaper": self.cheaper.to_json() if self.cheaper else None,
        }

    def answers(self) -> dict[str, Choice]:
        """What is told of: one architecture, or two where a cheaper one is better."""
        if self.cheaper is None:
            return {"best": self}
        return {"nearest below": self, "cheaper, better": self.cheaper}

    def lines(self, number: int, what: str) -> list[str]:
        """What stands below the table, the key on a line of its own so that it can be copied.

        Args:
            number: of its row.
            what: which answer it is.
        """
        macs = ", ".join(f"{name} {value:.4g}" for name, value in self.split.items())
        return [f"{number}  {what}: {macs} kMAC/px", f"   {self.architecture.key}"]

    def row(self) -> dict[str, Any]:
        """A line of a table: numbers alone, so that it fits a terminal."""
        quantity = self.quantity
        cost = {quantity.name: quantity.number(quantity.of(self.architecture))}
        return {
            "at most": quantity.number(quantity.whole(self.target)),
            **({} if quantity.unit in ("kMAC/px", "stages") else cost),
            **self.kmac_px,
            "stages": self.stages,
            "bpp": self.bpp,
            "PSNR": self.psnr,
            "loss": self.rd_loss,
        }


class Answers:
    """Answers to targets, from what was scored; what is missing near a target is scored.

    Args:
        costs: of the space.
        scores: known and new.
        rates: of its layouts, see `rows.distances`.
        score: makes the score of an architecture known, and tells whether it could; computes it by default.
    """

    def __init__(
        self,
        costs: CostTable,
        scores: Scores,
        rates: Mapping[str, float],
        *,
        score: Callable[[Architecture], object] | None = None,
    ) -> None:
        self.space, self.costs, self.scores = costs.space, costs, scores
        self._score = score or scores.of
        self._rates = rates
        self._model = LossModel(list(distances(self.space, rates).values()))

    def best_known(self, question: Question, target: int) -> Choice | None:
        """The best architecture at or under a target that was scored; None where none was.

        Args:
            question: what is asked, and within which bounds.
            target: the most that the architecture may cost, in whole numbers of the question's quantity.
        """
        best = self.best(question, target)
        return None if best is None else self._choice(question, target, best)

    def choose(self, question: Question, target: int, report: StageReport) -> Choice:
        """The best scored architectures at or under a target: hardly below it, and wherever they lie.

        Where the best lies further below and the space has architectures hardly below the target, some there
        are scored first, those that promise most. Once a few there are known, no more are: the same question
        has the same answer, whether a search or an export asks it.

        Args:
            question: what the target limits, and what must be met beside it.
            target: in whole numbers of its quantity.
            report: told of what is scored.

        Raises:
            UnreachableBudgetError: nothing costs so little.
        """
        if question.span[0] > target:
            raise UnreachableBudgetError(f"No architecture costs at most {question.quantity.tell(target)}.")
        near, rng = self._near(question, target), np.random.default_rng(target)
        known = sum(1 for _ in self._scored(question, target, least=near))
        began, failed = time.monotonic(), list[Architecture]()
        for tried, candidate in enumerate(self._promising(question, near, target, rng, failed)):
            best = self.best(question, target)
            if best is not None and question.quantity.of(best) >= near:
                break
            if time.monotonic() - began > FILL_SECONDS or known + tried >= FILL_SCORES:
                break
            if not self._score(candidate):
                failed.append(candidate)
            report("near the target", tried + 1, 0, question.quantity.tell(target))
        best = self.best(question, target)
        if best is None:
            drawn = question.within.draw(question.quantity, 0, target, FILL_SCORES, rng)
            best = next((architecture for architecture in drawn if self._score(architecture)), None)
        if best is None:
            raise NasError(f"No architecture of at most {question.quantity.tell(target)} can be scored.")
        close = self.best(question, target, least=near)
        if close is None or close == best:
            return self._choice(question, target, best)
        return replace(self._choice(question, target, close), cheaper=self._choice(question, target, best))

    def best(self, question: Question, most: int, *, least: int = 0) -> Architecture | None:
        """The scored architecture of least loss that costs from `least` to `most`.

        Args:
            question: what is asked, and within which bounds.
            most: the most that the architecture may cost, in whole numbers of the question's quantity.
            least: the least that it may cost, in the same unit.
        """
        fit = [
            (score.rd_loss, architecture.key, architecture)
            for architecture, score in self._scored(question, most, least=least)
        ]
        return min(fit)[2] if fit else None

    def _scored(
        self, question: Question, most: int, *, least: int = 0
    ) -> Iterator[tuple[Architecture, Score]]:
        """What was scored and costs from `least` to `most` within the question's bounds."""
        for architecture, score in self.scores.items():
            if least <= question.quantity.of(architecture) <= most and question.within.allows(architecture):
                yield architecture, score

    def _choice(self, question: Question, target: int, architecture: Architecture) -> Choice:
        quantity, score = question.quantity, self.scores.of(architecture)
        scope = quantity.name if quantity.name in SCOPES else "total"
        edges = {e: cost for e, cost in self.costs.by_edge(architecture).items() if e in SCOPE_EDGES[scope]}
        context = sum(cost for edge, cost in edges.items() if edge in CONTEXT_EDGES)
        return Choice(
            target / quantity.per_unit,
            quantity,
            architecture,
            self.costs.scopes(architecture),
            {"backbone": sum(edges.values()) - context, "context": context},
            score.bpp,
            score.psnr,
            score.rd_loss,
            self.space.layout(architecture).stages(),
        )

    def _near(self, question: Question, target: int) -> int:
        """From what cost on an answer is close to a target: as close as the space has any."""
        for share in NEAR:
            near = math.ceil(share * target)
            if question.within.draw(question.quantity, near, target, 1, np.random.default_rng(0)):
                break
        return near

    def _promising(
        self,
        question: Question,
        near: int,
        target: int,
        rng: np.random.Generator,
        failed: Sequence[Architecture],
    ) -> Iterator[Architecture]:
        """Architectures close to a target that are not scored, the next always the most promising one.

        Those in `failed`, which may grow, are left out.
        """
        asked = replace(question, targets=(target,))
        close = proposer(self.space, asked, self._rates, model=self._model, least=near, seed=target)
        while True:
            start = question.within.draw(question.quantity, near, target, DRAWN, rng)
            row = close.likeliest(
                *history(self.space, self.scores.items()),
                as_rows(self.space, start),
                aside=as_rows(self.space, failed),
            )
            if row is None:
                return
            yield self.space.at(row)
