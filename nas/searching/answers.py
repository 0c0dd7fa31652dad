"""Answers to targets: the best scored architecture at or under each one, and what a user may prefer to it.

That is the best one close below the target, if the best of all costs less, and one that is hardly worse and
costs far fewer MACs in total. A limit on the decoder says nothing about the encoder, which is often wider
than it need be.
"""

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

# An answer costs at least this share of its target: the largest of these shares that the space can meet
NEAR = (0.997, 0.995, 0.99, 0.98)
FILL_SECONDS, FILL_SCORES = 40.0, 6
# How much more loss is little, and what share of the total MACs is much less
LITTLE, MUCH = 0.005, 0.8
DRAWN = 256  # architectures near a target that are drawn to look for the most promising one


@dataclass(frozen=True)
class Choice:
    """The answer to one target.

    Attributes:
        target: the target, in the unit of `quantity`.
        quantity: the limited quantity, such as a scope's MACs or the time to decode.
        architecture: the architecture with the least loss at or under the target. Export takes this one.
        kmac_px: its cost in kMAC per pixel, by scope.
        split: cost in kMAC per pixel of its backbone (g_a, h_a, h_s, g_s), and of its context model with the
            entropy parameters. Together they are the cost in the limited scope, or else in total.
        bpp: bits per pixel on the calibration photos, estimated.
        psnr: PSNR in dB on the calibration photos.
        rd_loss: rate-distortion loss on the calibration photos.
        stages: serial decoding steps at 768x512.
        nearest: the best architecture close below the target, if that is another one.
        frugal: an architecture that is hardly worse and costs far fewer MACs in total, if there is one.
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
    nearest: Choice | None = None
    frugal: Choice | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values. `cost` is what `of` names, in `unit`; `nearest` and `frugal` are nested."""
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
            "nearest": self.nearest.to_json() if self.nearest else None,
            "frugal": self.frugal.to_json() if self.frugal else None,
        }

    def answers(self) -> dict[str, Choice]:
        """The architectures to print, by label, the best one first."""
        answers = {"best": self}
        if self.nearest:
            answers["nearest below"] = self.nearest
        if self.frugal:
            fewer = 1 - self.frugal.kmac_px["total"] / self.kmac_px["total"]
            more = self.frugal.rd_loss / self.rd_loss - 1
            answers[f"{fewer:.0%} fewer MACs, {more:.2%} more loss"] = self.frugal
        return answers

    def lines(self, number: int, what: str) -> list[str]:
        """Lines to print below the table. The key has a line of its own, so that it can be copied.

        Args:
            number: number of the answer's row in the table.
            what: label of the answer, such as `best`.
        """
        macs = ", ".join(f"{name} {value:.4g}" for name, value in self.split.items())
        return [f"{number}  {what}: {macs} kMAC/px", f"   {self.architecture.key}"]

    def row(self) -> dict[str, Any]:
        """A row of the printed table. It has only numbers, so that it fits a terminal."""
        quantity = self.quantity
        cost = {quantity.name: quantity.format_number(quantity.of(self.architecture))}
        return {
            "at most": quantity.format_number(quantity.to_integer(self.target)),
            **({} if quantity.unit in ("kMAC/px", "stages") else cost),
            **self.kmac_px,
            "stages": self.stages,
            "bpp": self.bpp,
            "PSNR": self.psnr,
            "loss": self.rd_loss,
        }


class Answers:
    """Chooses the answers to targets, and scores more architectures where too few are near a target.

    Args:
        costs: cost table of the space.
        scores: the known scores, to which new ones are added.
        rates: rate of y under each layout: see `rows.distances`.
        score: computes and stores the score of an architecture, and returns whether that worked. By default
            the score is computed in this process.
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
        """The best scored architecture at or under a target, or None if there is none.

        Args:
            question: the limits and the quantity of the target.
            target: the most that the architecture may cost, in integer units of the question's quantity.
        """
        best = self.best(question, target)
        return None if best is None else self._choice(question, target, best)

    def choose(self, question: Question, target: int, report: StageReport) -> Choice:
        """Choose the best scored architecture at or under a target, and what a user may prefer to it.

        If the best one lies further below the target, although the space has architectures close to it, the
        most promising of those are scored first. Once a few of them have scores, no more are scored. The same
        question therefore has the same answer, whether a search or an export asks it.

        Args:
            question: the limits and the quantity of the target.
            target: the target, in integer units of the question's quantity.
            report: called for each architecture that is scored.

        Raises:
            UnreachableBudgetError: no architecture meets the limits at this target.
        """
        if question.span[0] > target:
            raise UnreachableBudgetError(f"No architecture costs at most {question.quantity.format(target)}.")
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
            report("scoring near the target", tried + 1, 0, f"at most {question.quantity.format(target)}")
        best = self.best(question, target)
        if best is None:
            drawn = question.feasible.draw(question.quantity, 0, target, FILL_SCORES, rng)
            best = next((architecture for architecture in drawn if self._score(architecture)), None)
        if best is None:
            raise NasError(f"No architecture of at most {question.quantity.format(target)} can be scored.")
        close, frugal = self.best(question, target, least=near), self._frugal(question, target, best)
        return replace(
            self._choice(question, target, best),
            nearest=None if close in (None, best) else self._choice(question, target, close),
            frugal=None if frugal is None else self._choice(question, target, frugal),
        )

    def best(self, question: Question, most: int, *, least: int = 0) -> Architecture | None:
        """The scored architecture with the least loss that costs from `least` to `most`, or None.

        Args:
            question: the limits and the quantity of the target.
            most: the most that the architecture may cost, in integer units of the question's quantity.
            least: the least that it may cost, in the same unit.
        """
        fit = [
            (score.rd_loss, architecture.key, architecture)
            for architecture, score in self._scored(question, most, least=least)
        ]
        return min(fit)[2] if fit else None

    def _frugal(self, question: Question, target: int, best: Architecture) -> Architecture | None:
        """The scored one of least total MACs that is hardly worse than the best, if that saves much.

        None where the target limits the total itself.
        """
        if question.quantity.name == "total":
            return None
        most = (1 + LITTLE) * self.scores.of(best).rd_loss
        total, _, found = min(
            (self.costs.kmac_px(architecture, "total"), architecture.key, architecture)
            for architecture, score in self._scored(question, target)
            if score.rd_loss <= most
        )
        return found if total <= MUCH * self.costs.kmac_px(best, "total") else None

    def _scored(
        self, question: Question, most: int, *, least: int = 0
    ) -> Iterator[tuple[Architecture, Score]]:
        """The scored architectures within the question's limits that cost from `least` to `most`."""
        for architecture, score in self.scores.items():
            if least <= question.quantity.of(architecture) <= most and question.feasible.allows(architecture):
                yield architecture, score

    def _choice(self, question: Question, target: int, architecture: Architecture) -> Choice:
        quantity, score = question.quantity, self.scores.of(architecture)
        scope = quantity.name if quantity.name in SCOPES else "total"
        edges = {e: cost for e, cost in self.costs.by_edge(architecture).items() if e in SCOPE_EDGES[scope]}
        context = sum(cost for edge, cost in edges.items() if edge in CONTEXT_EDGES)
        return Choice(
            quantity.to_number(target),
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
        """The least cost that counts as close to a target: as close as the space allows (see `NEAR`)."""
        for share in NEAR:
            near = math.ceil(share * target)
            if question.feasible.draw(question.quantity, near, target, 1, np.random.default_rng(0)):
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
        """Yield unscored architectures close to a target, always the most promising one next.

        Those in `failed` are left out. The caller may extend that list between two steps.
        """
        asked = replace(question, targets=(target,))
        close = proposer(self.space, asked, self._rates, model=self._model, least=near, seed=target)
        while True:
            start = question.feasible.draw(question.quantity, near, target, DRAWN, rng)
            row = close.likeliest(
                *history(self.space, self.scores.items()),
                as_rows(self.space, start),
                aside=as_rows(self.space, failed),
            )
            if row is None:
                return
            yield self.space.at(row)
