"""The optimisers of the weights: Adam, and two that treat a kernel as a matrix.

SOAP (Vyas et al., ICLR 2025) runs Adam in the eigenbasis of Shampoo's preconditioner. Muon (Jordan et al.,
2024) orthogonalises the step of a matrix. Both are for kernels that join many channels with many. All other
parameters (biases, depthwise kernels, GDN, factorised priors, gains) move as under Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.support.device import multiplies_bfloat16

ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
# Steps between updates of the eigenbases in SOAP, and the longest side of a kernel that gets a basis: for
# longer sides a basis costs more than it gains.
SOAP_EVERY, SOAP_LARGEST = 20, 256


RATE_SHARE = "share"  # key of a group's share of the learning rate


def build_optimizer(
    net: nn.Module, name: str, learning_rate: float, fan_in: int | None = None
) -> torch.optim.Optimizer:
    """Make an optimiser of all parameters of a network that are trained.

    Args:
        net: the network. Empty parameters and parameters without gradient are left out.
        name: `adam`, `soap` or `muon`.
        learning_rate: learning rate of all parameters. Muon's steps are scaled to the size of Adam's.
        fan_in: for `adam`: kernels with more inputs than this have a learning rate that is lower in
            proportion. A step of Adam changes every weight by the same amount, so the output of a unit
            changes with the number of its inputs (Yang et al., Tensor Programs V, 2022). None gives all the
            same rate.
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
    """Set the learning rate of every group, according to its share.

    Args:
        optimizer: an optimiser from `build_optimizer`.
        learning_rate: learning rate of the groups with the full share.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(RATE_SHARE, 1.0)


def _share(name: str, parameter: Tensor, fan_in: int | None) -> float:
    """The share of the learning rate by the number of a kernel's inputs."""
    if fan_in is None or not is_matrix(name, parameter):
        return 1.0
    return min(1.0, fan_in / parameter[0].numel())


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a kernel or matrix that joins several channels with several.

    Args:
        name: name in the network. Layers call their kernels `weight`, and other parameters have other names.
        parameter: [outputs, inputs, ...]. A depthwise kernel has one input.
    """
    return name.rpartition(".")[2] == "weight" and parameter.ndim >= 2 and min(parameter.shape[:2]) > 1


def _groups(matrices: dict[str, Any], others: dict[str, Any]) -> list[dict[str, Any]]:
    return [group for group in (matrices, others) if group["params"]]


def _soap(matrices: list[nn.Parameter], others: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import SOAP

    # without bases, SOAP equals Adam
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
        """Muon in single precision on processors that only emulate bfloat16 products, which is slow."""

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
    """The update rule of torch's `AveragedModel`: an exponential moving average with a warm-up.

    After n steps, the average keeps min(decay, (1 + n) / (10 + n)) of itself. It therefore forgets the first
    weights long before 1 / (1 - decay) steps have passed.

    Args:
        decay: share of itself that the average keeps in a step after the warm-up.
    """

    @torch.no_grad()
    def follow(average: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(list(average), list(weights), 1 - kept)

    return follow


@dataclass
class Plateaus:
    """Counts how often the loss has stopped falling.

    Attributes:
        patience: number of values without a better one that make a plateau.
        count: number of plateaus so far.
        best: the least loss so far.
        waited: number of values since the best one.
    """

    patience: int
    count: int = 0
    best: float = float("inf")
    waited: int = 0

    threshold = 1e-4  # a value is better by at least this share

    def see(self, loss: float) -> None:
        """Add the next mean loss.

        Args:
            loss: mean loss since the last call.
        """
        if loss < self.best * (1 - self.threshold):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited == self.patience:
            self.count, self.waited = self.count + 1, 0
