"""A codec on disk: codec.safetensors and codec.yaml, which are pure data. model.py is never run here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas.codec.check import check_vector, verify
from nas.codec.codec import Codec
from nas.codec.coder import CODER
from nas.codec.family import CodecFamily, Member
from nas.codec.standalone import write_model
from nas.graph.affine import exact_arithmetic
from nas.graph.integers import IntegerPath
from nas.graph.network import CodecNetwork, plain_edge
from nas.metrics.objective import Objective
from nas.spaces.architecture import Architecture
from nas.spaces.codec_facts import EXPORT_AGAIN, check_facts
from nas.spaces.layout import FIELDS, Layout, read_layouts
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError
from nas.support.files import digest, make_folder, write_yaml
from nas.weights.files import read_weights, write_weights

CODEC_FORMAT = "nas-codec 4"
WEIGHTS, DESCRIPTION = "codec.safetensors", "codec.yaml"
KEPT_FACTS = ("lmbda", "metric", "kmac_px", "kmac_px_by_edge", "stages", "params")  # for any weights
DECODERS = "decoders."  # prefix of the weights of further decoders, by place


def save_codec(codec: Codec, path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the folder of a single codec: see `save_family`.

    Args:
        codec: the codec.
        path: the folder.
        facts: facts for codec.yaml beyond the network: see `save_family`.
    """
    return save_family(CodecFamily(codec), path, facts)


def save_family(family: CodecFamily, path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the folder of a codec family.

    Args:
        family: the family.
        path: the folder.
        facts: facts about the base codec for codec.yaml: lmbda, metric, kmac_px, kmac_px_by_edge, stages,
            params, measured.

    Returns:
        The content of codec.yaml. It has `layouts` and `decoders` if there are several.
    """
    codec = family.base
    fields = codec.network.space.to_dict()
    layout = fields.pop("layouts")[0]
    fields.pop("grouping")
    content = {
        "format": CODEC_FORMAT,
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
    if len(family.layouts) > 1:
        content["layouts"] = [_layout_entry(family, name) for name in family.layouts]
    tensors = dict(codec.state_dict())
    if len(family.decoders) > 1:
        content["decoders"] = [_decoder_entry(member) for member in family.decoders]
        for index, member in enumerate(family.decoders):
            if index != family.default:
                prefix = f"{DECODERS}{index}."
                tensors |= {prefix + name: value for name, value in member.g_s.state_dict().items()}
    make_folder(path)
    tensors |= check_vector(family)
    write_weights(path / WEIGHTS, tensors)
    write_yaml(path / DESCRIPTION, content)
    write_model(codec, path)
    return content


def _layout_entry(family: CodecFamily, name: str) -> dict[str, Any]:
    layout = family.layouts[name]
    facts = {"entropy_path": family.base.identity_under(layout), **family.layout_facts[name]}
    return {"name": name, **layout.to_dict(), **facts}


def _decoder_entry(member: Member) -> dict[str, Any]:
    widths = member.space.to_dict()["widths"]
    return {"arch": member.architecture.key, "widths": widths, **member.facts, "weights": _name(member)}


def _name(member: Member) -> str:
    """A short name for a decoder's weights."""
    state = member.g_s.state_dict()
    return digest(*(state[name].detach().cpu().contiguous().numpy().tobytes() for name in sorted(state)))


def read_description(path: Path) -> dict[str, Any]:
    """Read the codec.yaml of a codec.

    Args:
        path: folder of the codec.

    Raises:
        InputError: the folder is not a codec, its format is unknown, or its codec.yaml is damaged.
    """
    description = path / DESCRIPTION
    if not description.is_file() and str(path).startswith(resources.ZOO):
        raise InputError(
            f"{path} is a supernet, not a codec: make one with `nas export {path} --target 60% --out CODEC`."
        )
    if path.is_file():
        raise InputError(f"{path} is a file, not a codec: give the folder that `nas export` made.")
    if not description.is_file():
        raise InputError(f"{path} is not a codec: it has no {DESCRIPTION}. `nas export` makes codecs.")
    content = resources.read_yaml(description)
    if content.get("format") != CODEC_FORMAT:
        raise InputError(
            f"{description} has the format '{content.get('format')}', but this version reads "
            f"'{CODEC_FORMAT}': export the codec again."
        )
    check_facts(content, description)
    return content


def load_codec(path: str | Path) -> Codec:
    """Load the codec in a folder. Of a family, it is the one with the first layout and the best decoder.

    Args:
        path: folder of the codec.

    Raises:
        InputError: see `load_family`.
    """
    return load_family(path).codec()


@torch.inference_mode(False)
@exact_arithmetic()
def load_family(path: str | Path) -> CodecFamily:
    """Load everything in a codec's folder.

    Args:
        path: folder of the codec.

    Raises:
        InputError: the folder is not a codec, or its files are damaged or do not belong together.
            `CodecFamily.codec` raises it if this machine computes other numbers than the exporting one.
    """
    path = Path(path)
    content = read_description(path)
    with resources.errors_as_damage(path, EXPORT_AGAIN):
        return _family_of(content, path)


def _family_of(content: dict[str, Any], path: Path) -> CodecFamily:
    """What is in a folder, whose codec.yaml holds this."""
    space = SearchSpace.from_dict(content, name="codec", source=str(path / DESCRIPTION))
    architecture = space.parse(str(content.get("arch")))
    if content.get("coder") != CODER:
        raise InputError(
            f"{path} was exported with the entropy coder {content.get('coder')}, but {CODER} is installed: "
            "install that version, or export the codec again."
        )
    try:
        tensors, _ = read_weights(path / WEIGHTS)
        codec = _assemble(
            CodecNetwork(space), architecture, tensors, exact=content.get("arithmetic") == "exact"
        )
        layouts, layout_facts = _read_layouts(content, codec, source=path / DESCRIPTION)
        decoders = [
            _read_decoder(content, entry, codec, _part(tensors, f"{DECODERS}{index}."), path / DESCRIPTION)
            for index, entry in enumerate(content.get("decoders", []))
        ]
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path} is damaged, or a file is missing ({reason}): export it again.") from error
    check = partial(verify, stored=tensors, source=str(path))
    family = CodecFamily(codec, layouts, decoders, layout_facts, check, _objective(content))
    if not _belongs_together(family, content):
        raise InputError(
            f"The files in {path} do not belong together or were altered: export the codec again."
        )
    return family


def _objective(content: dict[str, Any]) -> Objective | None:
    """The objective that the codec was trained for, or None if codec.yaml does not name it."""
    lmbda, metric = content.get("lmbda"), content.get("metric")
    readable = isinstance(lmbda, int | float) and metric in ("mse", "ms-ssim")
    return Objective(float(cast(float, lmbda)), str(metric)) if readable else None


def _belongs_together(family: CodecFamily, content: dict[str, Any]) -> bool:
    """Whether codec.yaml describes the weights in the folder."""
    same = [family.base.fingerprint == content.get("fingerprint")]
    if "decoders" in content:
        named = [entry.get("weights") for entry in content["decoders"]]
        same.append(named == [_name(member) for member in family.decoders])
        same.append(any(member.g_s is family.base.network.g_s for member in family.decoders))
    if "layouts" in content:
        named = [entry.get("entropy_path") for entry in content["layouts"]]
        same.append(named == [family.base.identity_under(layout) for layout in family.layouts.values()])
        same.append(family.base.architecture.layout == next(iter(family.layouts)))
    return all(same)


def _read_layouts(
    content: dict[str, Any], codec: Codec, *, source: Path
) -> tuple[dict[str, Layout], dict[str, dict[str, Any]]]:
    """The layouts and their facts, by name."""
    if "layouts" not in content:
        entry: dict[str, Any] = {name: content[name] for name in ("stages", "kmac_px") if name in content}
        return {codec.layout.name: codec.layout}, {codec.layout.name: entry}
    layouts = {layout.name: layout for layout in read_layouts(source, content["layouts"])}
    other = ("name", *FIELDS, "entropy_path")
    facts = [{k: v for k, v in entry.items() if k not in other} for entry in content["layouts"]]
    return layouts, dict(zip(layouts, facts, strict=True))


def _read_decoder(
    content: dict[str, Any], entry: dict[str, Any], codec: Codec, state: Mapping[str, Tensor], source: Path
) -> Member:
    """Read one decoder. The base codec's decoder has no weights of its own."""
    fields = {**content, "widths": entry["widths"]}
    space = SearchSpace.from_dict(fields, name="codec", source=f"{source}, its decoders")
    facts = {key: value for key, value in entry.items() if key not in ("arch", "widths", "weights")}
    if entry["arch"] == codec.architecture.key:
        return Member(space, codec.network.g_s, facts)
    g_s = plain_edge(space, "g_s")
    _fill(g_s, state, "a decoder")
    return Member(space, g_s.eval().requires_grad_(False), facts)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _fill(module: nn.Module, state: Mapping[str, Tensor], part: str) -> None:
    """Load a part's state. InputError if it lacks a tensor, or has another one or one of another shape."""
    expected = module.state_dict()
    wrong = sorted(set(expected) ^ set(state))
    wrong += [name for name in expected if name in state and expected[name].shape != state[name].shape]
    if wrong:
        raise InputError(f"{wrong[0]} of {part} is missing, of another shape, or does not belong there")
    module.load_state_dict(state)


def _assemble(
    network: CodecNetwork, architecture: Architecture, tensors: Mapping[str, Tensor], *, exact: bool
) -> Codec:
    """Assemble a codec from its parts.

    Raises:
        KeyError, RuntimeError: something is missing, or of another type.
        InputError: something has another shape, or cannot be what an export wrote.
    """
    _fill(network, _part(tensors, "network."), "the network")
    integers = None
    if exact and network.with_z:
        integers = IntegerPath(network)
        _fill(integers, _part(tensors, "integers."), "the entropy path")
        integers.require_exact()
    table, space = tensors["table"], network.space
    channels = space.z_channels if network.with_z else space.y_channels
    fits = table.ndim == 2 and len(table) == channels and table.shape[1] % 2 and table.dtype == torch.int32
    if not fits or int(table.min()) < 1:
        raise InputError("The codec's table of frequencies does not fit it: export the codec again.")
    return Codec(network, architecture, table, integers)
