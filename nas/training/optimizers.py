"""What moves the weights: Adam, or one of two optimisers that treat a matrix as a matrix.

SOAP (Vyas et al., ICLR 2025) runs Adam in the eigenbasis of Shampoo's preconditioner; Muon (Jordan et al.,
2024) makes the step of a matrix orthogonal. Both are for kernels that join many channels with many. Whatever
else is learned (biases, depthwise kernels, GDN, factorised priors, gains) moves as Adam would move it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.support.device import multiplies_bfloat16

ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
# How often SOAP renews its eigenbases, in steps, and the largest side of a kernel that gets one: beyond it
# the basis costs more than it gains.
SOAP_EVERY, SOAP_LARGEST = 20, 256


RATE_SHARE = "share"  # of the learning rate with which a group of parameters moves


def build_optimizer(
    net: nn.Module, name: str, learning_rate: float, fan_in: int | None = None
) -> torch.optim.Optimizer:
    """An optimiser of all parameters of a network that are to be trained.

    Args:
        net: parameters that want no gradient, and empty ones, are left out.
        name: `adam`, `soap` or `muon`.
        learning_rate: one for all parameters: Muon's steps are scaled to the size of Adam's.
        fan_in: for `adam`, kernels with more inputs than this move more slowly, in proportion: each step of
            Adam changes every weight alike, and what a unit makes of its inputs changes by the sum over them
            (Yang et al., Tensor Programs V, 2022). None: all move alike.
    """
    named = [(n, p) for n, p in net.named_parameters() if p.requires_grad and p.numel()]
    if name == "adam":
        shares: dict[float, list[nn.Parameter]] = {}
        for n, p in named:
            shares.setdefault(_share(n, p, fan_in), []).append(p)
        groups = [{"params": params, RATE_SHARE: share} for share, params in shares.items()]
        return torch.optim.Adam(groups, lr=learning_rate, fused=True)
    matrices = [p for n, p in named if is_matrix(n, p)]
    others = [p for n, p in named if not is_matrix(n, p)]
    return (_soap if name == "soap" else _muon)(matrices, others, learning_rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group its share of a learning rate.

    Args:
        optimizer: as `build_optimizer` made it.
        learning_rate: the rate of the groups that move at the full one.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(RATE_SHARE, 1.0)


def _share(name: str, parameter: Tensor, fan_in: int | None) -> float:
    """Of the learning rate, by how many inputs a kernel has."""
    if fan_in is None or not is_matrix(name, parameter):
        return 1.0
    return min(1.0, fan_in / parameter[0].numel())


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a kernel, or a matrix, that joins several channels with several.

    Args:
        name: as the network has it; layers call their kernels `weight`, all else is called otherwise.
        parameter: [outputs, inputs, ...]; a depthwise kernel has one input.
    """
    return name.rpartition(".")[2] == "weight" and parameter.ndim >= 2 and min(parameter.shape[:2]) > 1


def _groups(matrices: dict[str, Any], others: dict[str, Any]) -> list[dict[str, Any]]:
    return [group for group in (matrices, others) if group["params"]]


def _soap(matrices: list[nn.Parameter], others: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import SOAP

    # without a side that may have a basis, SOAP is Adam
    groups = _groups({"params": matrices}, {"params": others, "max_precondition_dim": 0, **ADAM})
    return SOAP(
        groups,
        lr=rate,
        weight_decay=0.0,
        precondition_frequency=SOAP_EVERY,
        max_precondition_dim=SOAP_LARGEST,
    )


def _muon(matrices: list[nn.Parameter], others: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import Muon
    from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5

    class ExactMuon(Muon):
        """Muon in single precision where products of bfloat16 would be emulated: they are slow there."""

        @staticmethod
        def _orthogonalize(group: dict[str, Any], updates: list[Tensor]) -> list[Tensor]:
            if multiplies_bfloat16(on_gpu=updates[0].device.type == "cuda"):
                orthogonal: list[Tensor] = Muon._orthogonalize(group, updates)
                return orthogonal
            steps, weights = group["ns_steps"], group["ns_coeffs"]
            return [
                zero_power_via_newton_schulz_5(
                    update.reshape(len(update), -1), num_steps=steps, weights=weights, dtype=torch.float32
                )
                for update in updates
            ]

    return ExactMuon(
        _groups({"params": matrices, "use_muon": True}, {"params": others, "use_muon": False, **ADAM}),
        lr=rate,
        adamw_lr=rate,
        use_adjusted_lr=True,
    )


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """How torch's `AveragedModel` is to follow the weights: exponentially, with a warm-up of its own.

    After n steps the average keeps min(decay, (1 + n) / (10 + n)) of itself, so that it forgets the first
    weights long before 1 / (1 - decay) steps have passed.

    Args:
        decay: what the average keeps of itself in a step, once it has warmed up.
    """

    @torch.no_grad()
    def follow(average: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(list(average), list(weights), 1 - kept)

    return follow


@dataclass
class Plateaus:
    """Counts the times that the loss stopped falling.

    Attributes:
        patience: how many values without a better one make a plateau.
        count: plateaus so far.
        best: the least loss so far.
        waited: checkpoints since then.
    """

    patience: int
    count: int = 0
    best: float = float("inf")
    waited: int = 0

    threshold = 1e-4  # a value is better by at least this share

    def see(self, loss: float) -> None:
        """Note the next mean loss.

        Args:
            loss: the loss, as a mean since the last call.
        """
        if loss < self.best * (1 - self.threshold):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited == self.patience:
            self.count, self.waited = self.count + 1, 0
