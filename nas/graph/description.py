"""The words in which a codec family is described (no torch here).

Layers name the widths between which they run. `x`, `y`, `z` and `psi` are nodes of the graph; every other
name is a *choice* that a search space fills in: the channels between two layers, or how many blocks follow
one another. `graph.layers` turns descriptions into modules, `cost.macs` into tables of MACs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

NODES = ("x", "y", "z", "psi")
Y_REDUCTION, Z_REDUCTION = 16, 64  # image pixels that one element of y or z covers, across
HYPERPRIOR = "hyperprior"  # the choice that says whether there is a z: 1, or 0 for a factorised prior of y
HYPER_EDGES = ("h_a", "h_s")
ENTROPY_PARAMETERS = "entropy_parameters"
ENTROPY_WIDTHS = (f"{ENTROPY_PARAMETERS}.1", f"{ENTROPY_PARAMETERS}.2")


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
class Subpel:
    """A sub-pixel convolution (Shi et al., CVPR 2016); `stride` multiplies the resolution."""

    inputs: str
    outputs: str
    kernel: int = 3
    stride: int = 2


@dataclass(frozen=True)
class GDN:
    """Generalised divisive normalisation over one width (Ballé et al., 2016)."""

    width: str
    inverse: bool = False


@dataclass(frozen=True)
class ReLU:
    """A rectifier."""


@dataclass(frozen=True)
class LeakyReLU:
    """A leaky rectifier of slope 0.01."""


@dataclass(frozen=True)
class Residual:
    """`body(x) + shortcut(x)`, each layer with a name; without a shortcut, `body(x) + x`."""

    body: tuple[tuple[str, Leaf], ...]
    shortcut: tuple[str, Leaf] | None = None


@dataclass(frozen=True)
class Repeat:
    """As many blocks, one after the other, as the choice `depth` says: 0 skips them all.

    The block must keep its width and its resolution, so that it can be left out.
    """

    block: Residual
    depth: str

    def __post_init__(self) -> None:
        if self.block.shortcut:
            raise ValueError("a block that may be left out has no layers in its shortcut")


Leaf = Conv | Deconv | Subpel | GDN | ReLU | LeakyReLU
Layer = Leaf | Residual | Repeat


@dataclass(frozen=True)
class Edge:
    """One arrow of the graph.

    Attributes:
        layers: what it runs, in order.
        reduction: how many image pixels per side one input element covers.
        magnitude: whether it reads magnitudes.
    """

    layers: tuple[Layer, ...]
    reduction: int
    magnitude: bool = False


@dataclass(frozen=True)
class Placed:
    """A single layer where it stands: its place, the reduction before it, the depth it is repeated by."""

    place: str
    layer: Leaf
    reduction: int
    depth: str | None


@dataclass(frozen=True)
class Family:
    """One codec family.

    Attributes:
        name: what search spaces call it.
        edges: the transforms by name: g_a and g_s, and h_a and h_s where there is a hyperprior.
        context: whether a context model and entropy parameters stand between psi and y; else psi itself
            holds the parameters of y.
        means: whether psi holds two values per channel of y (a scale and a mean), or a scale alone.
        compressai: what CompressAI calls the model that it is at full width (in raster order, where there
            is a context).
        source: the paper.
    """

    name: str
    edges: dict[str, Edge]
    context: bool = False
    means: bool = True
    compressai: str | None = None
    source: str = ""

    @property
    def has_z(self) -> bool:
        return "h_a" in self.edges

    @property
    def alignment(self) -> int:
        """Image sides are multiples of this."""
        return Z_REDUCTION if self.has_z else Y_REDUCTION

    @property
    def psi_parts(self) -> int:
        """Values of psi per channel of y."""
        return 2 if self.means or self.context else 1

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """What a search space must fill in, in the order of the graph; HYPERPRIOR may be left out."""
        found: dict[str, None] = {}
        for edge in self.edges.values():
            for placed in place(edge):
                names = [placed.depth] if placed.depth else []
                for name in (*names, *ends(placed.layer)):
                    found.setdefault(name)
        inner = [name for name in found if name not in NODES]
        return (*inner, *(ENTROPY_WIDTHS if self.context else ()))

    @cached_property
    def depths(self) -> frozenset[str]:
        """The choices that count blocks instead of channels."""
        placed = (found for edge in self.edges.values() for found in place(edge))
        return frozenset(found.depth for found in placed if found.depth)

    @cached_property
    def _edges_of(self) -> dict[str, str]:
        found = dict.fromkeys(ENTROPY_WIDTHS, ENTROPY_PARAMETERS) | {HYPERPRIOR: HYPERPRIOR}
        for name, edge in self.edges.items():
            for placed in place(edge):
                found |= {end: name for end in (*ends(placed.layer), placed.depth) if end}
        return found

    def edge_of(self, choice: str) -> str:
        """The edge that a choice belongs to."""
        return self._edges_of[choice]

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """The choices that must not be 0 for a choice to matter; `z` and `layout` are among the keys."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.choices:
            edge = self.edge_of(name)
            hyper = edge in (*HYPER_EDGES, ENTROPY_PARAMETERS)
            found[name] = (HYPERPRIOR,) if hyper else ()
            if edge in self.edges:
                uses = {p.depth for p in place(self.edges[edge]) if name in ends(p.layer)}
                if uses and None not in uses and len(uses) == 1:
                    found[name] += tuple(str(depth) for depth in uses)
        return found | {"z": (HYPERPRIOR,), "layout": (HYPERPRIOR,)}


def ends(layer: Leaf) -> tuple[str, ...]:
    """The widths a layer runs between: input and output, or its one width."""
    match layer:
        case Conv() | Deconv() | Subpel():
            return (layer.inputs, layer.outputs)
        case GDN():
            return (layer.width,)
        case _:
            return ()


def after(layer: Leaf, reduction: int) -> int:
    """The reduction after a layer."""
    match layer:
        case Conv():
            return reduction * layer.stride
        case Deconv() | Subpel():
            return reduction // layer.stride
        case _:
            return reduction


def place(edge: Edge) -> Iterator[Placed]:
    """Every single layer of an edge, with where it stands."""
    reduction = edge.reduction
    for number, layer in enumerate(edge.layers):
        depth, block = (layer.depth, layer.block) if isinstance(layer, Repeat) else (None, layer)
        if not isinstance(block, Residual):
            yield Placed(str(number), block, reduction, None)
            reduction = after(block, reduction)
            continue
        inside = reduction
        for name, part in block.body:
            yield Placed(f"{number}.{name}", part, inside, depth)
            inside = after(part, inside)
        if block.shortcut:
            name, part = block.shortcut
            yield Placed(f"{number}.{name}", part, reduction, depth)
        reduction = inside
