"""Checkpoints: everything that a run needs to continue exactly, in one file that is replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nas.graph.network import Supernet, is_constant
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.files import digest
from nas.weights.files import read_weights, require_finite, write_weights

_DIGEST = "digest"  # in the record of a file


class OtherWeightsError(InputError):
    """The weights belong to another search space. The message names a tensor that differs."""


@dataclass
class Checkpoint:
    """A file's content: named tensors and a JSON-able record."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write the file; InputError where a tensor is not finite, and what was there stays.

        Args:
            path: path of the file.
        """
        write_weights(path, self.tensors, {**self.record, _DIGEST: self._digest()})

    @classmethod
    def read(cls, path: Path, remedy: str = "restore it") -> Checkpoint:
        """A checkpoint from a file; InputError where it is missing, damaged, something else or not finite.

        Args:
            path: path of the file.
            remedy: advice on a damaged file, for messages.
        """
        tensors, record = read_weights(path, remedy)
        written = record.pop(_DIGEST, None)  # files of earlier versions have none
        read = cls(tensors, record)
        if written is not None and written != read._digest():
            raise InputError(f"{path} is damaged (it does not hold what was written): {remedy}.")
        return read

    def _digest(self) -> str:
        """A fingerprint of the whole content."""
        parts: list[bytes | str] = [json.dumps(self.record)]
        for name, tensor in sorted(self.tensors.items()):
            values = tensor.detach().cpu().contiguous()
            parts += [f"{name} {values.dtype} {list(values.shape)}"]
            parts += [values.reshape(-1).view(torch.uint8).numpy().tobytes()]
        return digest(*parts)


def optimizer_state(optimizer: torch.optim.Optimizer, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state: what is tensors by name, and the rest as JSON has it.

    SOAP, for one, keeps lists of matrices, in which a side without a basis is empty, and counts its steps by
    group. A matrix that lies in memory column by column comes back so: products with it round otherwise.

    Args:
        optimizer: the optimiser.
        name: prefix of the names of the tensors.

    Returns:
        Tensors, named `name.parameter.part` and, in a list, `.place`; and a record of `groups` (the count of
        steps of each, or None), `values` (what is no tensor, by the same names) and `strides` (of the tensors
        that do not lie row by row).
    """
    content, tensors = optimizer.state_dict(), {}
    values: dict[str, Any] = {}
    for index, parts in content["state"].items():
        for part, value in parts.items():
            path = f"{name}.{index}.{part}"
            listed = isinstance(value, list)
            if listed:
                values[path] = {"length": len(value)}
            for number, item in enumerate(value if listed else [value]):
                where = f"{path}.{number}" if listed else path
                if isinstance(item, Tensor):
                    tensors[where] = item
                else:
                    values[where] = item
    strides = {path: list(t.stride()) for path, t in tensors.items() if not t.is_contiguous()}
    groups = [group.get("step") for group in content["param_groups"]]
    return tensors, {"groups": groups, "values": values, "strides": strides}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    name: str,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Put back what `optimizer_state` took; the record may be missing where all of it is tensors.

    Args:
        optimizer: the optimiser; it is changed.
        tensors: tensors by name. Those of other names are passed over.
        name: prefix of the names of its tensors.
        record: the record that `optimizer_state` gave.
    """
    record = record or {"groups": [], "values": {}, "strides": {}}
    items: dict[str, Any] = {path: tensors[path] for path in tensors if path.startswith(f"{name}.")}
    for path, stride in record["strides"].items():
        shape = items[path].shape
        items[path] = torch.empty_strided(shape, stride, dtype=items[path].dtype).copy_(items[path])
    items |= record["values"]
    state: dict[int, dict[str, Any]] = {}
    for path, value in items.items():
        index, part, *inner = path.removeprefix(f"{name}.").split(".")
        if inner:
            continue
        if isinstance(value, dict):
            value = [items[f"{path}.{number}"] for number in range(value["length"])]
        state.setdefault(int(index), {})[part] = value
    groups = optimizer.state_dict()["param_groups"]
    for group, step in zip(groups, record["groups"], strict=False):
        if step is not None:
            group["step"] = step
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def without_prefix(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of one part of a checkpoint, without its name.

    Args:
        tensors: tensors of the checkpoint by name, of any shape.
        name: name of the part.
    """
    return {k.removeprefix(f"{name}."): value for k, value in tensors.items() if k.startswith(f"{name}.")}


class Trained(Protocol):
    """Anything with a supernet's trained weights, such as a run."""

    @property
    def space(self) -> SearchSpace:
        """The search space of the supernet."""

    @property
    def trained_weights(self) -> Path:
        """The file of the trained weights."""


def supernet_of(trained: Trained) -> Supernet:
    """The trained supernet, ready to run any architecture of the space.

    Args:
        trained: the holder of the weights, such as a run.
    """
    net = Supernet(trained.space)
    path = trained.trained_weights
    load_weights(net, Checkpoint.read(path).tensors, source=str(path))
    return net.eval()


def load_weights(module: nn.Module, tensors: dict[str, Tensor], *, source: str) -> None:
    """Load a module's state, or say in one sentence why it does not fit.

    Constants stay the module's own: in half precision a bound of 1e-9 is none.

    Args:
        module: the module; it is changed.
        tensors: its state by name.
        source: origin of the tensors, for error messages.

    Raises:
        InputError: the tensors do not fit the module.
    """
    check_fit(module, tensors, source=source)
    current = module.state_dict()
    learned = {k: value.to(current[k].dtype) for k, value in tensors.items() if not is_constant(k)}
    module.load_state_dict({**current, **learned})


def to_half_precision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision, to be kept; `load_weights` reads them back.

    Args:
        tensors: weights by name, of any shape.
    """
    return {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}


def check_fit(module: nn.Module, tensors: dict[str, Tensor], *, source: str) -> None:
    """InputError where tensors are not a module's state, or not finite.

    Args:
        module: the module.
        tensors: its state by name.
        source: origin of the tensors, for error messages.

    Raises:
        OtherWeightsError: the tensors have other names or shapes than the module's state.
        InputError: they are not finite.
    """
    require_finite(tensors, source=source)
    expected = module.state_dict()
    if set(expected) != set(tensors) or any(expected[k].shape != v.shape for k, v in tensors.items()):
        wrong = sorted(set(expected) ^ set(tensors)) or [
            name for name, value in tensors.items() if expected[name].shape != value.shape
        ]
        raise OtherWeightsError(
            f"The weights in {source} belong to another search space (they differ in {wrong[0]}): use the "
            "space that they were trained in."
        )
