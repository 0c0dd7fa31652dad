"""Width logits: how promising each width of each slot is, at a price per MAC or for a target.

A hard straight-through Gumbel-softmax sample gates every slot (Jang et al., ICLR 2017). The loss is
`rate-distortion + lambda_C * C`, where C is the exact expected cost of the current distribution, as in BaSIC
(ECCV 2024). The weights stay frozen. One set of logits is learned for each lambda_C of a ladder of prices, or
for each target, where dual ascent finds the lambda_C at which E[C] = target.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.cost.counting.table import CostTable
from nas.graph.network import Supernet
from nas.metrics.losses import batch_losses
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.files import write_yaml
from nas.support.progress import Report, silent
from nas.training.data import CropSource, batches
from nas.training.structure import Structure

LEAST_SAVED = 1e-3  # share of the loss; a supernet that is hardly trained may save nothing


@dataclass(frozen=True)
class WidthLogits:
    """The logits of every slot, learned at one price.

    Attributes:
        lambda_c: the price of one kMAC per pixel, in units of the loss.
        expected_cost: kMAC per pixel under the learned distribution.
        logits: one list per slot, in the order of its candidates.
        target: the target in kMAC per pixel that the price was found for, or None if the price was given.
    """

    lambda_c: float
    expected_cost: float
    logits: dict[str, list[float]]
    target: float | None = None

    def fits(self, space: SearchSpace) -> bool:
        """Whether these logits match the slots and candidates of a space."""
        counts = {slot.name: len(slot.candidates) for slot in space.slots}
        return {name: len(values) for name, values in self.logits.items()} == counts

    def probabilities(self) -> dict[str, list[float]]:
        """The probabilities of the candidates, by slot."""
        return {slot: torch.tensor(values).softmax(0).tolist() for slot, values in self.logits.items()}


@dataclass(frozen=True)
class LogitSettings:
    """Settings of the learning of width logits.

    Attributes:
        ladder: prices that are used without targets, as multiples of the loss that one kMAC/px saves between
            the narrowest and the widest architecture.
        steps: number of steps for each set of logits.
        crop: side of the crops, in pixels.
        batch: number of crops in a step.
        learning_rate: learning rate of the logits.
        hot: temperature of the first step.
        cold: temperature of the last step.
    """

    ladder: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    steps: int = 60
    crop: int = 64
    batch: int = 8
    learning_rate: float = 0.15
    hot: float = 2.0
    cold: float = 0.5


def learn_logits(
    supernet: Supernet,
    photos: Sequence[Photo],
    costs: CostTable,
    *,
    objective: Objective,
    scope: str,
    targets: Sequence[float] = (),
    seed: int,
    settings: LogitSettings | None = None,
    report: Report = silent,
) -> list[WidthLogits]:
    """Learn one set of logits for each target, the largest first, or for each price of the ladder.

    Each set starts from the previous one. The result is empty if all architectures cost the same in this
    scope.

    Args:
        supernet: the trained supernet. Its weights are not changed.
        photos: training photos.
        costs: cost table of the space.
        objective: the objective that the supernet was trained for.
        scope: the scope whose cost is priced.
        targets: targets in kMAC per pixel. Without any, the ladder is used.
        seed: seed of crops, layouts and samples.
        settings: settings of the learning.
        report: called as the work goes on.
    """
    settings = settings or LogitSettings()
    space, device = supernet.space, next(supernet.parameters()).device
    spent = costs.kmac_px(space.widest(), scope) - costs.kmac_px(space.narrowest(), scope)
    if spent <= 0:
        return []
    crop = settings.crop if objective.metric == "mse" else max(settings.crop, 192)
    rungs = sorted(targets, reverse=True) or settings.ladder
    learned, total = [], len(rungs) * settings.steps
    crops = batches(CropSource(photos, crop=crop, seed=seed), batch=settings.batch, first=0, last=total + 1)
    draws, samples = random.Random(seed), torch.Generator().manual_seed(seed)
    structure = Structure(
        space,
        costs,
        scope=scope,
        learning_rate=settings.learning_rate,
        hot=settings.hot,
        cold=settings.cold,
    )
    frozen = [(p, p.requires_grad) for p in supernet.parameters()]
    for parameter, _ in frozen:
        parameter.requires_grad_(False)
    try:
        price = _saved(supernet, next(crops).to(device), objective) / spent
        for number, rung in enumerate(rungs):
            target = rung if targets else None
            structure.restart(price if targets else rung * price, target)
            cost = 0.0
            for step in range(settings.steps):
                supernet.gate(structure.sample(step / max(1, settings.steps - 1), samples, device))
                x = next(crops).to(device)
                layout = space.layouts[draws.choice(space.layout_names)]
                loss = batch_losses(x, supernet(x, layout), objective).total.cpu()
                (loss + structure.price * structure.expected_cost()).backward()
                cost = structure.step(float(loss.detach()))
                note = f"lambda_C {structure.price:.3g}  E[C] {cost:.2f} kMAC/px"
                report(number * settings.steps + step + 1, total, note)
            learned.append(WidthLogits(structure.price, cost, structure.learned(), target))
    finally:
        for parameter, wanted in frozen:
            parameter.requires_grad_(wanted)
        supernet.activate(space.widest())
    return learned


@torch.no_grad()
def _saved(supernet: Supernet, x: Tensor, objective: Objective) -> float:
    """The difference between the losses of the narrowest and the widest architecture on a batch."""
    losses = []
    for architecture in (supernet.space.narrowest(), supernet.space.widest()):
        layout = supernet.activate(architecture)
        losses.append(float(batch_losses(x, supernet(x, layout), objective).total))
    return max(losses[0] - losses[1], LEAST_SAVED)


def write_logits(path: Path, rungs: Sequence[WidthLogits], facts: dict[str, Any]) -> None:
    """Write sets of logits as YAML, with the facts that they were learned for.

    Args:
        path: the file.
        rungs: the sets of logits, one per price or target.
        facts: the weights and settings that they were learned for.
    """
    write_yaml(path, {**facts, "rungs": [vars(rung) for rung in rungs]})


def read_logits(path: Path, space: SearchSpace, facts: dict[str, Any]) -> list[WidthLogits]:
    """Read the sets of logits in a file. The result is empty if they are for other facts or other slots.

    Args:
        path: the file.
        space: the search space.
        facts: the weights and settings that the logits must have been learned for.
    """
    content = resources.read_yaml(path) if path.is_file() else {}
    if any(content.get(name) != value for name, value in facts.items()):
        return []
    with resources.errors_as_damage(path, resources.RENEWED):
        rungs = [_of_finite_numbers(rung) for rung in content["rungs"]]
        return rungs if all(rung.fits(space) for rung in rungs) else []


def read_structure(path: Path, space: SearchSpace, scope: str) -> WidthLogits | None:
    """Read the logits that were learned together with the weights, or None if scope or slots differ.

    Args:
        path: the file.
        space: the search space.
        scope: the scope: `encoder`, `decoder` or `total`.
    """
    if not path.is_file():
        return None
    content = resources.read_yaml(path)
    if content.pop("scope", None) != scope:
        return None
    with resources.errors_as_damage(path, "restore it, or delete it and the search learns widths of its own"):
        logits = _of_finite_numbers(content)
        return logits if logits.fits(space) else None


def _of_finite_numbers(fields: Mapping[str, Any]) -> WidthLogits:
    """Logits from the fields of a file. For errors of a damaged file, see `errors_as_damage`."""
    number, most = resources.finite_number, torch.finfo(torch.float32).max
    by_slot = {slot: [number(value) for value in values] for slot, values in fields["logits"].items()}
    if any(abs(value) > most for values in by_slot.values() for value in values):
        raise OverflowError("a logit is beyond single precision")
    rest: dict[str, Any] = {
        name: None if name == "target" and value is None else number(value)
        for name, value in fields.items()
        if name != "logits"
    }
    return WidthLogits(**rest, logits=by_slot)
