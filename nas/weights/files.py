"""Weights in files: named tensors of finite numbers as safetensors, with a record beside them. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nas.support.errors import InputError, reason_of
from nas.support.files import write_atomically


class BrokenWeightsError(InputError):
    """Weights of which some are not finite; the message names the tensor."""


def read_weights(path: Path, remedy: str = "restore it") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, and the record that was written with them (empty where there is none).

    Args:
        path: path of the .safetensors file.
        remedy: advice on a damaged file, for messages.

    Returns:
        Tensors by name, in the shapes that were written, and the record.

    Raises:
        BrokenWeightsError: a tensor has a number that is not finite.
        InputError: the file is missing, damaged or something else.
    """
    try:
        data = path.read_bytes()
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        record = json.loads((json.loads(data[8 : 8 + size]).get("__metadata__") or {}).get("record", "{}"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing, so there are no weights to read: {remedy}.") from None
    except (OSError, SafetensorError, ValueError, RecursionError, KeyError) as error:
        raise InputError(
            f"{path} is damaged or not a safetensors file ({reason_of(error)}): {remedy}."
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is damaged, because its record is not a mapping: {remedy}.")
    require_finite(tensors, source=str(path))
    return tensors, record


def write_weights(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any] | None = None) -> None:
    """Write tensors to a file that is replaced as a whole.

    Args:
        path: the file.
        tensors: by name, on any device.
        record: what JSON can hold; None for none.

    Raises:
        BrokenWeightsError: a tensor has a number that is not finite; the file is as it was.
    """
    require_finite(tensors, source=f"what was to be written to {path}")
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(kept, None if record is None else {"record": json.dumps(record)}))


def require_finite(tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse NaN, infinity and numbers beyond single precision.

    Args:
        tensors: by name.
        source: where they are from, for the message.

    Raises:
        BrokenWeightsError: names the first tensor that has such a number.
        InputError: a tensor has no numbers of its own: it is sparse, quantised, or only a shape.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise InputError(
                f"The weights in {source} are not plain numbers: {name} is sparse, quantised or empty. Save "
                "the state_dict() of the model as it was trained."
            )
        values = tensor.detach()
        if values.is_floating_point() or values.is_complex():
            wrong = int((~torch.isfinite(values if values.is_complex() else values.float())).sum())
            if wrong:
                raise BrokenWeightsError(
                    f"The weights in {source} are broken: {wrong} of the {values.numel()} numbers of {name} "
                    "are not finite (a training that diverged leaves such weights). Use weights from before."
                )
