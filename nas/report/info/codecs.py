"""Information on an exported codec or a .nic file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.report.family import tables
from nas.report.info.architectures import counted, widths_by_edge, with_graph
from nas.report.info.info import Info
from nas.spaces.codec_facts import EXPORT_AGAIN, check_facts
from nas.spaces.rates import anchor_qualities, meaning_of_scores, middle_quality, range_text
from nas.spaces.space import SearchSpace
from nas.support import resources


def codec_info(description: Path) -> Info:
    """Describe a codec from its codec.yaml and the size of its weights.

    Args:
        description: path of the codec.yaml.

    Raises:
        InputError: the file is damaged.
    """
    content = resources.read_yaml(description)
    check_facts(content, description)
    space = SearchSpace.from_dict(content, name="codec", source=str(description))
    layout = next(iter(space.layouts.values()))
    weights = description.parent / "codec.safetensors"
    with resources.errors_as_damage(description, EXPORT_AGAIN):
        family_fields = _family_fields(content)
    fields = {
        "path": str(description.parent),
        "family": space.family.name,
        "arch": content.get("arch"),
        "widths": widths_by_edge(space.layer_widths(space.widest())),
        "layout": layout.name,
        **{
            name: content.get(name) for name in ("stages", "kmac_px", "params", "lmbda", "metric", "measured")
        },
        **rate_fields(space),
        **family_fields,
        "finetuned": content.get("finetuned"),
        "arithmetic": content.get("arithmetic"),
        "fingerprint": content.get("fingerprint"),
        "entropy_path": content.get("entropy_path"),
        "weights_bytes": weights.stat().st_size if weights.is_file() else None,
    }
    fields["stages"] = fields["stages"] or layout.stages()
    architecture = space.widest()  # the only architecture of the space
    by_edge = content.get("kmac_px_by_edge")  # codecs of earlier versions have none
    if not isinstance(by_edge, dict) or not _are_of_a_codec(by_edge):
        by_edge = counted(space, architecture)
    return with_graph(Info("codec", fields), space, architecture, by_edge)


def _are_of_a_codec(by_edge: Mapping[Any, Any]) -> bool:
    """Whether these are costs of a codec's edges. In a file that was edited they may not be."""
    try:
        edges = {edge for edge, cost in by_edge.items() if resources.finite_number(cost) > 0}
    except (ValueError, OverflowError):
        return False
    return {"g_a", "g_s"} <= edges and len({"h_a", "h_s"} & edges) != 1  # both or none


def rate_fields(space: SearchSpace) -> dict[str, Any]:
    """The range of lambdas, its anchors with their qualities, and what scores mean. Empty for a single rate.

    Args:
        space: the search space.
    """
    if not space.rates:
        return {}
    anchors = {f"q{quality:g}": lmbda for quality, lmbda in anchor_qualities(space.rates).items()}
    return {
        "range_of_lmbda": range_text(space.rates),
        "anchors": anchors,
        "default_quality": middle_quality(space.rates),
        "scores": meaning_of_scores(space.rates),
    }


def _family_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The decoders and layouts of a family. Empty for a codec with one decoder and one layout."""
    return {
        title.partition(" ")[0]: {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}
        for title, columns, rows in tables(content)
    }


def nic_info(path: Path) -> Info:
    """Describe a .nic file from its header.

    Args:
        path: path of the .nic file.
    """
    from nas.codec.nic import PLAIN, RATED, Nic, read_varint
    from nas.spaces.rates import STEPS_OF_QUALITY

    nic, size = Nic.read(path), path.stat().st_size
    limit, rest = read_varint(nic.stream, str(path))
    limits = {"largest_y": limit}
    if len(rest) % 4:  # what is coded has whole words, so another number is before it: there is a z
        limits = {"largest_z": limit, "largest_y": read_varint(rest, str(path))[0]}
    fields = {
        "path": str(path),
        "version": PLAIN if nic.step is None else RATED,
        "width": nic.width,
        "height": nic.height,
        "grey": nic.grey,
        "bytes": size,
        "bpp": 8 * size / (nic.width * nic.height),
        "header_bytes": nic.header_bytes,
        "entropy_path": nic.path_identity,
        "fingerprint": nic.fingerprint,
        **({} if nic.step is None else {"quality": 100 * nic.step / STEPS_OF_QUALITY}),
        **limits,
    }
    return Info("nic", fields)
