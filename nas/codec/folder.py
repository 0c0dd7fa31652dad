"""A codec on disk: codec.safetensors and codec.yaml, data only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from nas import resources
from nas.codec.check import check_vector, verify
from nas.codec.codec import Codec
from nas.codec.coder import CODER
from nas.errors import InputError
from nas.files import write_atomically, write_yaml
from nas.graph.integers import IntegerPath
from nas.graph.network import CodecNetwork
from nas.space import Architecture, SearchSpace

FORMAT = "nas-codec 3"
WEIGHTS, DESCRIPTION = "codec.safetensors", "codec.yaml"


def save_codec(codec: Codec, path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write a codec's folder.

    Args:
        codec: what to write.
        path: the folder.
        facts: lmbda, metric, kmac_px, kmac_px_by_edge, stages, params, measured, as codec.yaml has them.

    Returns:
        The content of codec.yaml.
    """
    space = codec.network.space
    fields = space.to_dict()
    layout = fields.pop("layouts")[0]
    fields.pop("grouping")
    content = {
        "format": FORMAT,
        "family": fields.pop("family"),
        "arch": codec.architecture.key,
        **fields,
        "layout": layout,
        **facts,
        "arithmetic": "exact" if codec.exact else "float64",
        "coder": CODER,
        "fingerprint": codec.fingerprint,
        "entropy_path": codec.path_identity,
    }
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in codec.state_dict().items()}
    tensors |= check_vector(codec)
    write_atomically(path / WEIGHTS, save_tensors(tensors))
    write_yaml(path / DESCRIPTION, content)
    return content


def describe(path: Path) -> dict[str, Any]:
    """The content of a codec's codec.yaml."""
    description = path / DESCRIPTION
    if not description.is_file():
        raise InputError(f"{path} is not a codec: it has no {DESCRIPTION}. `nas export` makes codecs.")
    content = resources.read_yaml(description)
    if content.get("format") != FORMAT:
        raise InputError(f"{description} is of format '{content.get('format')}', and this reads '{FORMAT}'.")
    return content


def load_codec(path: str | Path) -> Codec:
    """A codec from its folder.

    Raises:
        InputError: not a codec's folder, its files are damaged or do not belong together, or this machine
            does not compute what the exporting one did.
    """
    path = Path(path)
    content = describe(path)
    space = SearchSpace.from_dict(content, name="codec", source=str(path / DESCRIPTION))
    architecture = space.parse(str(content.get("arch")))
    if content.get("coder") != CODER:
        raise InputError(
            f"{path} was exported with the entropy coder {content.get('coder')}, and this is {CODER}: "
            "install that version, or export the codec again."
        )
    try:
        tensors = load_tensors((path / WEIGHTS).read_bytes())
        codec = _assemble(
            CodecNetwork(space), architecture, tensors, exact=content.get("arithmetic") == "exact"
        )
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{path / WEIGHTS} is missing or damaged ({reason}): export the codec again."
        ) from error
    if codec.fingerprint != content.get("fingerprint"):
        raise InputError(
            f"The files in {path} do not belong together or were altered: export the codec again."
        )
    verify(codec, tensors, source=str(path))
    return codec


def _assemble(
    network: CodecNetwork, architecture: Architecture, tensors: Mapping[str, Tensor], *, exact: bool
) -> Codec:
    """A codec from its parts.

    Raises:
        KeyError, RuntimeError: something is missing, or has another shape.
        InputError: something cannot be what an export wrote.
    """

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    network.load_state_dict(part("network."))
    integers = None
    if exact and network.with_z:
        integers = IntegerPath(network)
        integers.load_state_dict(part("integers."))
        integers.require_exact()
    table, space = tensors["table"], network.space
    channels = space.z_channels if network.with_z else space.y_channels
    fits = table.ndim == 2 and len(table) == channels and table.shape[1] % 2 and table.dtype == torch.int32
    if not fits or int(table.min()) < 1:
        raise InputError("The codec's table of frequencies does not fit it: export the codec again.")
    return Codec(network, architecture, table, integers)
