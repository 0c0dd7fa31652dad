"""On what a run trains: one process or several, on CPU or GPU, and in which precision."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from nas.device import choose


def make_fabric(device: str, precision: str = "auto") -> Fabric:
    """Lightning Fabric on the chosen device; under torchrun, this process's part of all of them.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: `32`, `bf16` (mixed), or `auto`: bfloat16 on a GPU that has it.
    """
    on_gpu = choose(device).type == "cuda"
    if precision == "auto":
        precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "32"
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
