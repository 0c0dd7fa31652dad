"""Information on an architecture's key: its widths, its costs, and its graph."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nas.report.info.info import Info, chained
from nas.report.structure.codec_graph import codec_graph
from nas.report.structure.graph_text import draw_graph
from nas.spaces.architecture import EXAMPLE_KEY, Architecture, split_key
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError


def key_info(key: str) -> Info:
    """Describe an architecture's key. If a shipped space has it, the widths of all layers are included.

    Raises:
        InputError: the text does not have the form of a key.
    """
    spaces = [SearchSpace.load(name) for name in resources.shipped("search_spaces")]
    matches = []
    for space in spaces:
        with contextlib.suppress(InputError):
            matches.append((space, space.parse(key)))
    if matches:
        return _architecture_infos(matches)
    groups, layout = split_key(key, spaces[0].narrowest().key if spaces else EXAMPLE_KEY)
    widths = {edge: list(values) for edge, values in groups.items()}
    return Info(
        "architecture", {"arch": key, "space": "none of the shipped ones", "widths": widths, "layout": layout}
    )


def _architecture_infos(matches: Sequence[tuple[SearchSpace, Architecture]]) -> Info:
    """Describe one key in every space that has it. Spaces in which it is the same network share an entry."""
    networks: dict[str, list[tuple[SearchSpace, Architecture]]] = {}
    for space, architecture in matches:
        alone = space.only(architecture).to_dict()
        del alone["grouping"]
        networks.setdefault(json.dumps(alone), []).append((space, architecture))
    told = [_architecture_info(*same[0], [space.name for space, _ in same]) for same in networks.values()]
    return chained(told)


def _architecture_info(space: SearchSpace, architecture: Architecture, names: Sequence[str]) -> Info:
    """Describe one architecture, with the spaces that have it."""
    fields = {
        "arch": architecture.key,
        "space": ", ".join(names),
        "family": space.family.name,
        "widths": widths_by_edge(space.layer_widths(architecture)),
        "layout": architecture.layout,
        "stages": space.layout(architecture).stages(),
    }
    return with_graph(Info("architecture", fields), space, architecture, counted(space, architecture))


def counted(space: SearchSpace, architecture: Architecture) -> dict[str, float]:
    """kMAC per pixel of every edge, counted now.

    Args:
        space: space of the architecture.
        architecture: the architecture.
    """
    from nas.cost.counting.tabulate import measured_costs

    return measured_costs(space.only(architecture)).by_edge(architecture)


def with_graph(
    info: Info, space: SearchSpace, architecture: Architecture, by_edge: Mapping[str, float]
) -> Info:
    """Add the drawing of an architecture's graph.

    Args:
        info: the information so far.
        space: space of the architecture.
        architecture: the architecture.
        by_edge: kMAC per pixel of every edge.
    """
    graph = codec_graph(space, architecture, by_edge)
    fields = {**info.fields, "kmac_px_by_edge": dict(by_edge)}
    return replace(info, fields=fields, text=tuple(draw_graph(graph)), picture=graph)


def widths_by_edge(widths: dict[str, int]) -> dict[str, list[int]]:
    """The choices of every edge in the order of their numbers. Depths and widths are separate."""
    numbered_widths: dict[str, dict[int, int]] = {}
    for choice, width in widths.items():
        edge, _, number = choice.partition(".")
        numbered_widths.setdefault(edge, {})[int(number or 1)] = width
    return {
        edge: [numbered[number] for number in sorted(numbered)] for edge, numbered in numbered_widths.items()
    }
