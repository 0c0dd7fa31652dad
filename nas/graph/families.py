"""The codec families: each is a list of edges, and each edge a list of layers (no torch here).

Layers name the widths between which they run. `x`, `y`, `z` and `psi` are nodes of the graph with fixed
channels (psi are the hyper features, two per channel of y); every other name is a width that a search
space fills in. `graph.layers` turns these descriptions into modules, `cost.macs` into tables of MACs.

To add a family, write one function that returns a `Family`, and add it to `FAMILIES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

NODES = ("x", "y", "z", "psi")
ENTROPY_WIDTHS = ("entropy_parameters.1", "entropy_parameters.2")


@dataclass(frozen=True)
class Conv:
    """A convolution with 'same' padding; `stride` divides the resolution."""

    inputs: str
    outputs: str
    kernel: int
    stride: int = 1


@dataclass(frozen=True)
class Deconv:
    """A transposed convolution; `stride` multiplies the resolution."""

    inputs: str
    outputs: str
    kernel: int
    stride: int = 2


@dataclass(frozen=True)
class GDN:
    """Generalised divisive normalisation over one width (Ballé et al., 2016)."""

    width: str
    inverse: bool = False


@dataclass(frozen=True)
class LeakyReLU:
    """The activation of the hyper transforms, slope 0.01."""


Layer = Conv | Deconv | GDN | LeakyReLU


@dataclass(frozen=True)
class Edge:
    """One arrow of the graph: its layers, and how many image pixels per side one input element covers."""

    layers: tuple[Layer, ...]
    reduction: int


@dataclass(frozen=True)
class Family:
    """One codec family: its transforms by name. All here have a hyperprior and a context model."""

    name: str
    edges: dict[str, Edge]

    @cached_property
    def widths(self) -> tuple[str, ...]:
        """The names of the widths that a search space must fill in, in the order of the graph."""
        found: dict[str, None] = {}
        for edge in self.edges.values():
            for layer in edge.layers:
                if isinstance(layer, Conv | Deconv):
                    found.setdefault(layer.outputs)
        return (*(name for name in found if name not in NODES), *ENTROPY_WIDTHS)

    def edge_of(self, width: str) -> str:
        """The edge that a width belongs to."""
        return width.rsplit(".", 1)[0]


def joint_ar() -> Family:
    """Joint autoregressive and hierarchical priors (Minnen et al., NeurIPS 2018).

    BaSIC's backbone: CompressAI's JointAutoregressiveHierarchicalPriors at full width.
    """
    return Family(
        "joint-ar",
        {
            "g_a": Edge(
                (
                    Conv("x", "g_a.1", 5, 2),
                    GDN("g_a.1"),
                    Conv("g_a.1", "g_a.2", 5, 2),
                    GDN("g_a.2"),
                    Conv("g_a.2", "g_a.3", 5, 2),
                    GDN("g_a.3"),
                    Conv("g_a.3", "y", 5, 2),
                ),
                reduction=1,
            ),
            "h_a": Edge(
                (
                    Conv("y", "h_a.1", 3),
                    LeakyReLU(),
                    Conv("h_a.1", "h_a.2", 5, 2),
                    LeakyReLU(),
                    Conv("h_a.2", "z", 5, 2),
                ),
                reduction=16,
            ),
            "h_s": Edge(
                (
                    Deconv("z", "h_s.1", 5),
                    LeakyReLU(),
                    Deconv("h_s.1", "h_s.2", 5),
                    LeakyReLU(),
                    Conv("h_s.2", "psi", 3),
                ),
                reduction=64,
            ),
            "g_s": Edge(
                (
                    Deconv("y", "g_s.1", 5),
                    GDN("g_s.1", inverse=True),
                    Deconv("g_s.1", "g_s.2", 5),
                    GDN("g_s.2", inverse=True),
                    Deconv("g_s.2", "g_s.3", 5),
                    GDN("g_s.3", inverse=True),
                    Deconv("g_s.3", "x", 5),
                ),
                reduction=16,
            ),
        },
    )


FAMILIES = {family.name: family for family in (joint_ar(),)}
