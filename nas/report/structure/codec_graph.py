"""A codec as a Bayesian network: its nodes, and its arrows with the MACs of each. No torch here.

The text drawing (`graph_text`) and the picture (`graph`) both show this graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.spaces.architecture import Architecture
from nas.spaces.description import ENTROPY_PARAMETERS, Layer, Parallel
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace

# Every edge from its tail to its head. The context model reads previously decoded elements of y. Together
# with psi it gives the parameters of the next elements, so that y -> psi -> y is the loop on y.
EDGE_ENDS = {
    "g_a": ("x", "y"),
    "h_a": ("y", "z"),
    "h_s": ("z", "psi"),
    "context": ("y", "psi"),
    ENTROPY_PARAMETERS: ("psi", "y"),
    "g_s": ("y", "x_hat"),
}
# The side that runs an edge. Both sides run all other edges.
ONE_SIDE = {"g_a": "encoder", "h_a": "encoder", "g_s": "decoder"}


@dataclass(frozen=True)
class Arrow:
    """One arrow: an edge's name ('' if nothing is computed), its ends, and kMAC per image pixel.

    Attributes:
        edge: name of the edge.
        tail: node where it begins.
        head: node where it ends.
        kmac_px: kMAC per image pixel.
    """

    edge: str
    tail: str
    head: str
    kmac_px: float

    @property
    def thickness(self) -> float:
        """Relative thickness of the arrow: 1 for 1 kMAC per pixel. Eight times the MACs are twice as thick.

        With the cube root, edges of 0.02 and of 200 kMAC per pixel are both visible. All codecs share the
        scale, so that pictures can be compared.
        """
        return float(np.cbrt(self.kmac_px))

    @property
    def side(self) -> str:
        """The side that runs it: `encoder`, `decoder` or `both`."""
        return ONE_SIDE.get(self.edge, "both")


@dataclass(frozen=True)
class CodecGraph:
    """The drawn content of one codec.

    Attributes:
        family: name of the codec's family of networks.
        key: the architecture's key.
        channels: channels of x, y and z, if they exist.
        arrows: in the order of `EDGE_ENDS`.
        layout: the order in which y is decoded.
        branches: for edges with parallel branches, a text on which of them run.
    """

    family: str
    key: str
    channels: Mapping[str, int]
    arrows: tuple[Arrow, ...]
    layout: Layout
    branches: Mapping[str, str]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes with at least one arrow, in the order of the graph."""
        touched = {end for arrow in self.arrows for end in (arrow.tail, arrow.head)}
        return tuple(node for node in ("x", "y", "z", "psi", "x_hat") if node in touched)

    @property
    def total(self) -> float:
        """kMAC per image pixel of all arrows, each counted once."""
        return sum(arrow.kmac_px for arrow in self.arrows)


def codec_graph(space: SearchSpace, architecture: Architecture, kmac_px: Mapping[str, float]) -> CodecGraph:
    """Make the graph of one architecture.

    Edges without MACs are left out: a layout without context has no context model, and a codec without a
    hyperprior has no z.

    Args:
        space: a space with this architecture.
        architecture: the architecture.
        kmac_px: kMAC per image pixel at 768x512 of every edge.
    """
    arrows = [
        Arrow(edge, *ends, kmac_px[edge]) for edge, ends in EDGE_ENDS.items() if kmac_px.get(edge, 0) > 0
    ]
    edges = {arrow.edge for arrow in arrows}
    if "h_s" in edges and ENTROPY_PARAMETERS not in edges:
        arrows.append(Arrow("", *EDGE_ENDS[ENTROPY_PARAMETERS], 0.0))  # psi itself has the parameters of y
    one = space.only(architecture)
    channels = {"x": 3, "y": one.y_channels, "z": one.z_channels}
    return CodecGraph(
        family=space.family.name,
        key=architecture.key,
        channels={node: size for node, size in channels.items() if node != "z" or "h_a" in edges},
        arrows=tuple(arrows),
        layout=space.layout(architecture),
        branches={
            name: words
            for name, edge in space.family.edges.items()
            if name in edges and (words := _branches(edge.layers, space.layer_widths(architecture)))
        },
    )


def _branches(layers: Sequence[Layer], widths: Mapping[str, int]) -> str:
    """The branches that run among some layers, in words: `linear beside learned (direct beside deep)`."""
    described = []
    for layer in layers:
        if isinstance(layer, Parallel):
            running = [branch for branch in layer.branches if not branch.switch or widths[branch.switch]]
            inner = [(branch.name, _branches(branch.layers, widths)) for branch in running]
            described.append(" beside ".join(f"{name} ({words})" if words else name for name, words in inner))
    return ", then ".join(described)
