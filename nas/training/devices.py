"""On what a run trains: one process or several, on CPU or GPU, in which precision, and whether it fits."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor

from nas.graph.network import Supernet
from nas.spaces.space import SearchSpace
from nas.support.device import choose, free_memory, multiplies_bfloat16
from nas.support.errors import InputError
from nas.training.loop import is_trained
from nas.training.settings import TrainingSettings

PLENTY = 8000  # bytes per pixel of a batch, more than the largest shipped space keeps: no need to look
PROBES = 64, 128  # sides in pixels of the crops that are looked at


def make_fabric(device: str, precision: str = "auto") -> Fabric:
    """Lightning Fabric on the chosen device; under torchrun, this process's part of all of them.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: `32`, `bf16` (mixed), or `auto`: bfloat16 on a GPU or a CPU that multiplies it.
    """
    on_gpu = choose(device).type == "cuda"
    if precision == "auto":
        precision = "bf16" if multiplies_bfloat16(on_gpu) else "32"
    chosen: Any = {"32": "32-true", "bf16": "bf16-mixed"}[precision]
    accelerator = "cuda" if on_gpu else "cpu"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces what was asked for
    world, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if world == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=chosen)
    strategy = DDPStrategy(
        find_unused_parameters=True,  # each architecture leaves some weights out
        process_group_backend="nccl" if on_gpu else "gloo",
    )
    fabric = Fabric(
        accelerator=accelerator, devices=here, num_nodes=world // here, precision=chosen, strategy=strategy
    )
    fabric.launch()
    return fabric


def refuse_what_does_not_fit(
    space: SearchSpace, settings: TrainingSettings, device: torch.device, world: int = 1
) -> None:
    """InputError where what a step keeps for its gradients alone is more than the memory that is free.

    What is kept grows with the pixels of a batch: it is measured on small crops in the widest architecture.

    Args:
        space: what is trained.
        settings: of the training.
        device: where.
        world: processes that share a batch.
    """
    crop = max(crop for crop, _ in settings.phases)
    pixels = crop**2 * -(-settings.batch // world)
    free = free_memory(device)
    if free is None or pixels * PLENTY < free:
        return
    needed = bytes_per_pixel(space, settings) * pixels
    if device.type == "cuda" and settings.precision != "32":
        needed /= 2  # half of it at least, in bfloat16
    if needed > free:
        raise InputError(
            f"A step on batches of {settings.batch} crops of {crop} pixels keeps at least "
            f"{_gigabytes(needed)} GB for its gradients, and {_gigabytes(free)} GB are free: make them "
            "smaller (--set crop=256, --set batch=8)."
        )


def bytes_per_pixel(space: SearchSpace, settings: TrainingSettings) -> float:
    """What the widest architecture keeps for its gradients, in bytes per pixel of a batch.

    Args:
        space: the search space.
        settings: settings of the training, which say what of the network is trained.
    """
    net = Supernet(space)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(is_trained(name, settings))
    net.activate(space.widest())
    small, large = (_kept(net, side, picture=settings.only != "entropy") for side in PROBES)
    return (large - small) / (PROBES[1] ** 2 - PROBES[0] ** 2)  # the difference is free of weights


def _kept(net: Supernet, side: int, *, picture: bool) -> int:
    """What is kept of one crop of a size, and of the weights, in bytes."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.zeros(1, 3, side, side)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = net(x, net.space.layout(net.space.widest()), picture=picture)
    del output  # until here what was kept is alive, so that no two of them lie in one place
    return sum(sizes.values())


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f}"
