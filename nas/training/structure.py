"""Learning of the structure: Gumbel samples of every slot, priced by the exact expected cost.

As in BaSIC (ECCV 2024), the loss is `rate-distortion + lambda_C * E[C]`. A hard straight-through
Gumbel-softmax sample (Jang et al., ICLR 2017) gates every slot, and its temperature falls over the run.
lambda_C is fixed, or follows the constraint E[C] = target by dual ascent. The weights are trained at the same
time (in the training loop) or stay frozen (in `searching.sampler.logits`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.cost.counting.table import CostTable
from nas.spaces.space import SearchSpace

# How the price follows the constraint, in units of the loss per target and of the relative excess: how much
# each step adds to the multiplier, and how much the present excess adds on top (an augmented Lagrangian).
# Without the second term, saturated logits make the cost oscillate around the target for ever.
ASCENT, PENALTY = 0.02, 10.0


def gumbel_sample(logits: Tensor, temperature: float, rng: torch.Generator) -> Tensor:
    """A hard one-hot sample with the gradient of the soft sample, drawn with the given generator.

    Args:
        logits: one logit per choice, [choices].
        temperature: temperature of the soft sample, above 0.
        rng: generator of the random numbers.
    """
    uniform = torch.rand(logits.shape, generator=rng).clamp_min(1e-9)
    soft = F.softmax((logits - (-uniform.log()).log()) / temperature, 0)
    hard = F.one_hot(soft.argmax(), len(soft)).to(soft.dtype)
    return hard - soft.detach() + soft


class Structure:
    """Logits over the candidates of every slot, and the price of their expected cost.

    Args:
        space: the space whose slots are learned.
        costs: cost table of the space.
        scope: scope of the priced cost.
        price: lambda_C, loss per kMAC per pixel. With a target, it is the initial price.
        target: E[C] in kMAC per pixel, or None for a fixed price.
        learning_rate: learning rate of the logits' own Adam.
        hot, cold: temperature at the beginning and at the end.
    """

    def __init__(
        self,
        space: SearchSpace,
        costs: CostTable,
        *,
        scope: str = "total",
        price: float = 0.0,
        target: float | None = None,
        learning_rate: float = 0.05,
        hot: float = 2.0,
        cold: float = 0.5,
    ) -> None:
        self.space, self.costs, self.scope = space, costs, scope
        self._unit = 0.0  # loss of the last step, divided by the target
        self.hot, self.cold = hot, cold
        self.logits = [torch.zeros(len(slot.candidates), requires_grad=True) for slot in space.slots]
        self._learning_rate = learning_rate
        self.restart(price, target)
        self._layouts = torch.full((len(space.layouts),), 1 / len(space.layouts))

    def restart(self, price: float, target: float | None) -> None:
        """Continue from the current logits with another price or another target.

        Args:
            price: loss per kMAC per pixel. With a target, it is the initial price.
            target: expected cost to reach in kMAC per pixel, or None for a fixed price.
        """
        self.multiplier, self.target = price, target
        self.optimizer = torch.optim.Adam(self.logits, lr=self._learning_rate)

    def sample(self, progress: float, rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Draw gates for every slot.

        Args:
            progress: share of the run that is done, 0 to 1. The temperature falls with it.
            rng: generator of the sample.
            device: device of the network.

        Returns:
            For each slot by name, a weight for every candidate, [candidates].
        """
        temperature = self.hot * (self.cold / self.hot) ** progress
        drawn = [gumbel_sample(values, temperature, rng) for values in self.logits]
        return {slot.name: gate.to(device) for slot, gate in zip(self.space.slots, drawn, strict=True)}

    @property
    def price(self) -> float:
        """lambda_C, loss per kMAC per pixel."""
        if self.target is None:
            return self.multiplier
        with torch.no_grad():
            excess = float(self.expected_cost()) / self.target - 1
        return max(0.0, self.multiplier + PENALTY * self._unit * excess)

    def expected_cost(self) -> Tensor:
        """E[C] in kMAC per pixel if every layout is equally likely. It is differentiable."""
        shares = [values.softmax(0) for values in self.logits]
        return self.costs.expected([*shares, self._layouts], self.scope)

    def step(self, loss: float) -> float:
        """Update the logits by their gradients, and the price by the constraint. Returns E[C].

        Args:
            loss: loss of this step. It sets the scale of a step of the price.
        """
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            cost = float(self.expected_cost())
        if self.target is not None:
            self._unit = loss / self.target
            self.multiplier = max(0.0, self.multiplier + ASCENT * self._unit * (cost / self.target - 1))
        return cost

    def learned(self) -> dict[str, list[float]]:
        """The logits of every slot, in the order of its candidates."""
        return {slot.name: v.tolist() for slot, v in zip(self.space.slots, self.logits, strict=True)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The logits by slot and the state of the price, for a checkpoint.

        Returns:
            The logits by slot, [candidates] each, and numbers of the price by name.
        """
        names = (slot.name for slot in self.space.slots)
        return dict(zip(names, self.logits, strict=True)), {"multiplier": self.multiplier, "unit": self._unit}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
        """Restore the result of `state`.

        Args:
            tensors: logits by slot.
            numbers: the other values that `state` gave, by name.
        """
        for slot, values in zip(self.space.slots, self.logits, strict=True):
            values.copy_(tensors[slot.name])
        self.multiplier, self._unit = numbers["multiplier"], numbers["unit"]
