"""A codec as a Bayesian network: its nodes, and its arrows with what each computes (no torch here).

The text drawing (`graph_text`) and the picture (`graph`) both show what is listed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.spaces.architecture import Architecture
from nas.spaces.description import ENTROPY_PARAMETERS, Layer, Parallel
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace

# Every edge from its tail to its head. The context model reads y itself, those elements that were decoded
# earlier; it and psi make the parameters of the next ones, so that y -> psi -> y is the loop on y.
EDGE_ENDS = {
    "g_a": ("x", "y"),
    "h_a": ("y", "z"),
    "h_s": ("z", "psi"),
    "context": ("y", "psi"),
    ENTROPY_PARAMETERS: ("psi", "y"),
    "g_s": ("y", "x_hat"),
}
# Which side runs an edge; what is not here, both run.
ONE_SIDE = {"g_a": "encoder", "h_a": "encoder", "g_s": "decoder"}


@dataclass(frozen=True)
class Arrow:
    """One arrow: the edge's name ('' where nothing is computed), where it goes, kMAC per image pixel.

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
        """How thick it is drawn: that of 1 kMAC per pixel is 1, and eight times the MACs are twice as thick.

        The cube root leaves both edges of 0.02 and of 200 kMAC per pixel to be seen, on one scale for all
        codecs, so that two pictures can be compared.
        """
        return float(np.cbrt(self.kmac_px))

    @property
    def side(self) -> str:
        """Who runs it: `encoder`, `decoder` or `both`."""
        return ONE_SIDE.get(self.edge, "both")


@dataclass(frozen=True)
class CodecGraph:
    """What there is to draw of one codec.

    Attributes:
        family: the codec family's name.
        key: the architecture's key.
        channels: channels of x, y and z, those that there are.
        arrows: in the order of `EDGE_ENDS`.
        layout: the order in which y is decoded.
        branches: what runs beside each other, in words, of the edges that have parallel branches.
    """

    family: str
    key: str
    channels: Mapping[str, int]
    arrows: tuple[Arrow, ...]
    layout: Layout
    branches: Mapping[str, str]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that an arrow touches, in the order of the graph."""
        touched = {end for arrow in self.arrows for end in (arrow.tail, arrow.head)}
        return tuple(node for node in ("x", "y", "z", "psi", "x_hat") if node in touched)

    @property
    def total(self) -> float:
        """kMAC per image pixel of all arrows, each once."""
        return sum(arrow.kmac_px for arrow in self.arrows)


def codec_graph(space: SearchSpace, architecture: Architecture, kmac_px: Mapping[str, float]) -> CodecGraph:
    """The graph of one architecture.

    Edges without MACs are not there: a layout without context has no context model to run, and a codec
    without a hyperprior no z.

    Args:
        space: a space that has it.
        architecture: which one.
        kmac_px: kMAC per image pixel at 768x512 of every edge.
    """
    arrows = [
        Arrow(edge, *ends, kmac_px[edge]) for edge, ends in EDGE_ENDS.items() if kmac_px.get(edge, 0) > 0
    ]
    edges = {arrow.edge for arrow in arrows}
    if "h_s" in edges and ENTROPY_PARAMETERS not in edges:
        arrows.append(Arrow("", *EDGE_ENDS[ENTROPY_PARAMETERS], 0.0))  # psi itself holds the parameters of y
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
    """The branches among some layers that run: `linear beside learned (direct beside deep)`."""
    described = []
    for layer in layers:
        if isinstance(layer, Parallel):
            running = [branch for branch in layer.branches if not branch.switch or widths[branch.switch]]
            inner = [(branch.name, _branches(branch.layers, widths)) for branch in running]
            described.append(" beside ".join(f"{name} ({words})" if words else name for name, words in inner))
    return ", then ".join(described)
