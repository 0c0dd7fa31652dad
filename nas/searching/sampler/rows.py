"""A search space in the form that the sampler uses: rows of indexes, one per slot and the layout last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.profiling.quantities import Question
from nas.searching.sampler.acquisition import Acquisition, HypervolumeImprovement, TargetImprovement
from nas.searching.sampler.moves import Rows
from nas.searching.sampler.proposer import Proposer, RowPrior
from nas.searching.sampler.surrogate import LossModel
from nas.searching.scoring.evaluator import Score
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.support.arrays import Floats

LAYOUT = "layout"
APART = 0.1  # least distance of two layouts, as a share of the distance between the best and the worst


def proposer(
    space: SearchSpace,
    question: Question,
    rates: Mapping[str, float],
    *,
    first: Iterable[Architecture] = (),
    also: Iterable[Architecture] = (),
    prior: RowPrior | None = None,
    local: bool = True,
    model: LossModel | None = None,
    least: int = 0,
    seed: int = 0,
) -> Proposer:
    """Make a `Proposer` of architectures that answer a question.

    Args:
        space: the search space.
        question: what the budget limits. The cost is the quantity of its targets.
        rates: measured rates of y under the layouts, in bpp: see `distances`.
        first: architectures to propose first.
        also: baseline architectures that are proposed now and then.
        prior: the sets of width logits that form the prior.
        local, model, seed: see `Proposer`.
        least: least cost of a proposed architecture, in integer units.
    """
    quantity, within = question.quantity, question.feasible
    most = question.targets[-1] if question.targets else question.span[2]
    acquisition: Acquisition = (
        TargetImprovement(question.targets) if question.targets else HypervolumeImprovement(question.span[2])
    )

    def allowed(rows: Rows) -> NDArray[np.bool_]:
        costs = quantity.of_rows(rows)
        return within.allows_rows(rows) & (least <= costs) & (costs <= most)

    def draw(number: int, rng: np.random.Generator) -> Rows:
        return as_rows(space, within.draw(quantity, least, most, number, rng))

    return Proposer(
        distances(space, rates),
        lambda rows: quantity.of_rows(rows).astype(float),
        acquisition,
        unordered=(LAYOUT,),
        allowed=allowed,
        settle=space.settle_rows,
        draw=draw,
        first=[space.indexes(architecture) for architecture in first],
        also=[space.indexes(architecture) for architecture in also],
        prior=prior,
        local=local,
        model=model,
        seed=seed,
    )


def distances(space: SearchSpace, rates: Mapping[str, float]) -> dict[str, Floats]:
    """For each slot the distances between its choices, [choices, choices], from 0 to about 1.

    Widths are as far apart as their logarithms. Layouts are as far apart as their measured rates, or as the
    logarithms of their numbers of stages if not all rates are known.

    Args:
        space: the search space.
        rates: measured rates of layouts by name.
    """
    by_slot = {}
    for slot in space.slots:
        by_slot[slot.name] = _apart(np.log1p(np.asarray(slot.candidates, dtype=float)))
    names = space.layout_names
    if all(name in rates for name in names):
        between = _apart(np.array([rates[name] for name in names]))
    else:
        between = _apart(np.log([space.layouts[name].stages() for name in names]))
    by_slot[LAYOUT] = np.hypot(between, APART * (1 - np.eye(len(names))))
    return by_slot


def _apart(values: Floats) -> Floats:
    span = np.ptp(values)
    apart: Floats = np.abs(values[:, None] - values) / (span if span > 0 else 1.0)
    return apart


def as_rows(space: SearchSpace, architectures: Sequence[Architecture]) -> Rows:
    """Convert architectures to rows, [n, slots + 1].

    Args:
        space: the search space.
        architectures: architectures of that space.
    """
    indexes = [space.indexes(architecture) for architecture in architectures]
    return np.array(indexes, dtype=np.int64).reshape(-1, len(space.shape))


def history(space: SearchSpace, scores: Iterable[tuple[Architecture, Score]]) -> tuple[Rows, Floats]:
    """Convert scores to rows and losses, in the same order.

    Args:
        space: the search space.
        scores: architectures with their scores.

    Returns:
        Rows [n, slots + 1], the layout last, and losses [n].
    """
    pairs = list(scores)
    rows = as_rows(space, [architecture for architecture, _ in pairs])
    return rows, np.array([score.rd_loss for _, score in pairs], dtype=float)
