"""The devices of a training: processes, CPU or GPU, the precision, and whether the memory suffices."""

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
from nas.support.device import choose, free_memory, takes_bfloat16
from nas.support.errors import InputError
from nas.training.loop import is_trained
from nas.training.settings import TrainingSettings

PLENTY = 8000  # free bytes per pixel of a batch from which nothing is measured; no shipped space keeps more
PROBES = 64, 128  # sides in pixels of the crops that are measured


def make_fabric(device: str, precision: str = "auto") -> Fabric:
    """Make a Lightning Fabric on the chosen device. Under torchrun it is this process's part.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: `32`, `bf16` (mixed), or `auto`: bfloat16 if the GPU or CPU has instructions for it.
    """
    on_gpu = choose(device).type == "cuda"
    chosen: Any = "bf16-mixed" if takes_bfloat16(precision, on_gpu) else "32-true"
    accelerator = "cuda" if on_gpu else "cpu"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it repeats what was asked for
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
    """Raise InputError if the activations that a step keeps for backward need more memory than is free.

    They grow with the pixels of a batch. They are measured on small crops with the widest architecture.

    Args:
        space: the space to train.
        settings: settings of the training.
        device: device of the training.
        world: number of processes that share a batch.
    """
    crop = max(crop for crop, _ in settings.phases)
    pixels = crop**2 * -(-settings.batch // world)
    free = free_memory(device)
    if free is None or pixels * PLENTY < free:
        return
    needed = bytes_per_pixel(space, settings) * pixels
    if device.type == "cuda" and settings.precision != "32":
        needed /= 2  # in bfloat16 at least half of it
    if needed > free:
        raise InputError(
            f"A step on batches of {settings.batch} crops of {crop} pixels keeps at least "
            f"{_gigabytes(needed)} GB for its gradients, and {_gigabytes(free)} GB are free: make them "
            "smaller (--set crop=256, --set batch=8)."
        )


def bytes_per_pixel(space: SearchSpace, settings: TrainingSettings) -> float:
    """Memory that the widest architecture keeps for backward, in bytes per pixel of a batch.

    Args:
        space: the search space.
        settings: settings of the training, which say which part of the network is trained.
    """
    net = Supernet(space)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(is_trained(name, settings))
    net.activate(space.widest())
    small, large = (_kept(net, side, picture=settings.only != "entropy") for side in PROBES)
    return (large - small) / (PROBES[1] ** 2 - PROBES[0] ** 2)  # weights cancel in the difference


def _kept(net: Supernet, side: int, *, picture: bool) -> int:
    """Memory kept for backward for one crop of a size, weights included, in bytes."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.zeros(1, 3, side, side)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = net(x, net.space.layout(net.space.widest()), picture=picture)
    del output  # everything kept is alive until here, so that no two tensors share an address
    return sum(sizes.values())


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f}"
