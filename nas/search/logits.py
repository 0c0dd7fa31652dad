"""Width logits: which width each slot wants at each price of a MAC.

A hard straight-through Gumbel-softmax sample gates every slot (Jang et al., ICLR 2017); the loss is
`rate-distortion + lambda_C * C` with C the exact expected cost of the current distribution, as in BaSIC
(ECCV 2024). The weights stay frozen. One set of logits is learned for each lambda_C of a ladder.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from nas import resources
from nas.cost.table import CostTable
from nas.files import write_yaml
from nas.graph.network import Supernet
from nas.images import Photo
from nas.space import SearchSpace
from nas.training.data import CropSource, batches
from nas.training.losses import batch_losses
from nas.training.structure import Structure

# lambda_C of the ladder, in multiples of the loss that one kMAC/px saves between narrowest and widest
LADDER = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class WidthLogits:
    """Logits of every slot at one price.

    Attributes:
        lambda_c: the price of one kMAC per pixel, in units of the loss.
        expected_cost: kMAC per pixel under the learned distribution.
        logits: one list per slot, in the order of its candidates.
    """

    lambda_c: float
    expected_cost: float
    logits: dict[str, list[float]]

    def probabilities(self) -> dict[str, list[float]]:
        return {slot: torch.tensor(values).softmax(0).tolist() for slot, values in self.logits.items()}


@dataclass(frozen=True)
class LogitSettings:
    """How width logits are learned: steps for each rung, crops a step, annealing of the temperature."""

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
    lmbda: float,
    metric: str,
    scope: str,
    price: float,
    seed: int,
    settings: LogitSettings | None = None,
    report: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> list[WidthLogits]:
    """Learn one set of logits per rung, from cheap MACs to dear ones; each starts from the one before.

    Args:
        supernet: trained; its weights are not changed.
        photos: training photos.
        costs: of its space.
        lmbda: weight of the distortion.
        metric: `mse` or `ms-ssim`.
        scope: the cost that is priced.
        price: lambda_C that the ladder is a multiple of, loss per kMAC/px.
        seed: of crops, layouts and samples.
    """
    settings = settings or LogitSettings()
    space, device = supernet.space, next(supernet.parameters()).device
    crop = settings.crop if metric == "mse" else max(settings.crop, 192)
    found, total = [], len(LADDER) * settings.steps
    crops = batches(CropSource(photos, crop=crop, seed=seed), batch=settings.batch, first=0, last=total)
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
        for rung, multiple in enumerate(LADDER):
            structure.restart(multiple * price)
            cost = 0.0
            for step in range(settings.steps):
                supernet.gate(structure.sample(step / max(1, settings.steps - 1), samples, device))
                x = next(crops).to(device)
                layout = space.layouts[draws.choice(space.layout_names)]
                loss = batch_losses(x, supernet(x, layout), lmbda, metric).total.cpu()
                (loss + structure.price * structure.expected_cost()).backward()
                cost = structure.step(float(loss.detach()))
                note = f"lambda_C {structure.price:.3g}  E[C] {cost:.2f} kMAC/px"
                report(rung * settings.steps + step + 1, total, note)
            found.append(WidthLogits(structure.price, cost, structure.learned()))
    finally:
        for parameter, wanted in frozen:
            parameter.requires_grad_(wanted)
        supernet.activate(space.widest())
    return found


def write_logits(path: Path, rungs: Sequence[WidthLogits], facts: dict[str, Any]) -> None:
    """The ladder as YAML, with what it was learned for."""
    write_yaml(path, {**facts, "rungs": [vars(rung) for rung in rungs]})


def read_logits(path: Path, space: SearchSpace, facts: dict[str, Any]) -> list[WidthLogits] | None:
    """The ladder in a file, or None where there is none for these facts and slots."""
    if not path.is_file():
        return None
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if any(content.get(name) != value for name, value in facts.items()):
        return None
    rungs = [WidthLogits(**rung) for rung in content["rungs"]]
    fits = all(set(rung.logits) == {slot.name for slot in space.slots} for rung in rungs)
    return rungs if fits else None


def read_structure(path: Path, space: SearchSpace, scope: str) -> WidthLogits | None:
    """What was learned together with the weights, where it was priced in this scope and has these slots."""
    if not path.is_file():
        return None
    content = resources.read_yaml(path)
    if content.pop("scope", None) != scope or set(content["logits"]) != {slot.name for slot in space.slots}:
        return None
    return WidthLogits(**content)
