"""A device that is not the CPU, on machines without one: real numbers, and an error where devices mix.

Its tensors hold the CPU's; for torch they lie on `gpu:0`. An operation on tensors of both kinds is refused,
as CUDA refuses it, but for single numbers and indexes. What an operation makes lies where it was told to, or
where its arguments do: a tensor that code forgets to move shows. Generators are the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "gpu"
MOVES = ("aten::copy_", "aten::_to_copy")


class MixedDevicesError(RuntimeError):
    """An operation on tensors of two devices."""


class There(torch.Tensor):
    """A tensor of the device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.size(), here.stride(), here.storage_offset(), dtype=here.dtype, device=device()
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.here.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"There({self.here})"


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


@cache
def device() -> torch.device:
    """The device; it exists from the first call on."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    module = getattr(torch, NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    module.is_available, module.device_count = lambda: False, lambda: 0  # nobody is to choose it unasked
    return torch.device(f"{NAME}:0")


@contextmanager
def pretend_gpu() -> Iterator[torch.device]:
    """The device, inside the context."""
    place = device()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) then goes through the mode
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # assigning to .data would miss `here`
    try:
        with _Mode():
            yield place
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swapped)
        torch._C._set_only_lift_cpu_tensors(False)


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = function._schema.name
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = any(isinstance(tensor, There) for tensor in tensors)
    if there and name not in MOVES and not name.startswith("aten::index"):
        strangers = [tuple(t.shape) for t in tensors if not isinstance(t, There) and t.ndim]
        if strangers:
            raise MixedDevicesError(f"{name} has tensors of the CPU beside the GPU's, of shapes {strangers}")
    wanted = kwargs.get("device")
    told = {**kwargs, "device": torch.device("cpu")} if wanted is not None else kwargs
    out = function(*tree_map(_here, args), **tree_map(_here, told))
    if torch.Tag.inplace_view in function.tags:  # squeeze_ and the like: the outer tensor has a shape, too
        with no_dispatch():
            function(*args, **kwargs)
    if wanted is not None:
        there = torch.device(wanted).type == NAME
    known = {id(_here(tensor)): tensor for tensor in tensors}

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else There(value) if there else value

    return tree_map(placed, out)
