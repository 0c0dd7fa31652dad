"""A codec on disk: codec.safetensors and codec.yaml, data only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from nas import resources
from nas.codec.codec import Codec
from nas.errors import InputError
from nas.files import write_atomically, write_yaml
from nas.graph.network import CodecNetwork
from nas.space import SearchSpace

FORMAT = "nas-codec 2"
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
        "fingerprint": codec.fingerprint,
        "entropy_path": codec.path_identity,
    }
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in codec.state_dict().items()}
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
        InputError: not a codec's folder, or its files are damaged or do not belong together.
    """
    path = Path(path)
    content = describe(path)
    space = SearchSpace.from_dict(content, name="codec", source=str(path / DESCRIPTION))
    architecture = space.parse(str(content.get("arch")))
    try:
        tensors = load_tensors((path / WEIGHTS).read_bytes())
        network = CodecNetwork(space)
        weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        network.load_state_dict(weights)
        table = tensors["table"]
        channels = space.z_channels if network.with_z else space.y_channels
        if table.ndim != 2 or len(table) != channels or table.is_floating_point() or table.shape[1] % 2 == 0:
            raise InputError(f"The table of frequencies in {path / WEIGHTS} does not fit the codec.")
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{path / WEIGHTS} is missing or damaged ({reason}): export the codec again."
        ) from error
    codec = Codec(network, architecture, table)
    if codec.fingerprint != content.get("fingerprint"):
        raise InputError(
            f"The files in {path} do not belong together or were altered: export the codec again."
        )
    return codec
