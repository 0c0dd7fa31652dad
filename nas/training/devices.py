"""On what a run trains: one process or several, on CPU or GPU, and in which precision."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from nas.support.device import choose


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


def multiplies_bfloat16(on_gpu: bool) -> bool:
    """Whether the GPU, or the CPU, has instructions that multiply bfloat16: emulated, it is slow."""
    if on_gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public name for these (2.15); a version without them means no
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, test, bool)()) for test in tests)
