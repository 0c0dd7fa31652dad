"""The vocabulary for describing a family of networks. No torch here.

Layers name the widths before and after them. `x`, `y`, `z` and `psi` are nodes of the graph. Every other name
is a *choice* that a search space fills in: the number of channels between two layers, or the number of blocks
in a stack. `graph.layers.build` makes modules from descriptions, and `cost.counting` makes tables of MACs
from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

NODES = ("x", "y", "z", "psi")
Y_REDUCTION, Z_REDUCTION = 16, 64  # image pixels per element of y or z, per side
HYPERPRIOR = "hyperprior"  # the choice of whether there is a z: 1, or 0 for a factorised prior of y
HYPER_EDGES = ("h_a", "h_s")
ENTROPY_PARAMETERS = "entropy_parameters"
ENTROPY_WIDTHS = (f"{ENTROPY_PARAMETERS}.1", f"{ENTROPY_PARAMETERS}.2")


@dataclass(frozen=True)
class Conv:
    """A convolution. `stride` divides the resolution.

    A kernel as wide as the stride reads patches that do not overlap. This equals space-to-depth and a
    pointwise layer. Other kernels also read the surroundings ('same' padding).

    Attributes:
        zero: whether its weights begin at zero, so that its branch changes nothing at first.
        inputs: node or choice of its input channels.
        outputs: node or choice of its output channels.
        kernel: rows and columns of the kernel.
        stride: factor by which the resolution falls.
    """

    inputs: str
    outputs: str
    kernel: int
    stride: int = 1
    zero: bool = False

    @property
    def padding(self) -> int:
        """Zeros on each side of the input."""
        return (self.kernel - self.stride + 1) // 2


@dataclass(frozen=True)
class Deconv:
    """A transposed convolution. `stride` multiplies the resolution.

    Attributes:
        inputs: node or choice of its input channels.
        outputs: node or choice of its output channels.
        kernel: rows and columns of the kernel.
        stride: factor by which the resolution grows.
    """

    inputs: str
    outputs: str
    kernel: int
    stride: int = 2


@dataclass(frozen=True)
class Subpel:
    """A sub-pixel convolution (Shi et al., CVPR 2016). `stride` multiplies the resolution.

    Attributes:
        zero: whether its weights begin at zero.
        inputs: node or choice of its input channels.
        outputs: node or choice of its output channels.
        kernel: rows and columns of the kernel.
        stride: factor by which the resolution grows.
    """

    inputs: str
    outputs: str
    kernel: int = 3
    stride: int = 2
    zero: bool = False


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution: every channel has a kernel of its own, with 'same' padding.

    Attributes:
        width: choice of its channels.
        kernel: rows and columns of the kernel.
    """

    width: str
    kernel: int = 3


@dataclass(frozen=True)
class GDN:
    """Generalised divisive normalisation (Ballé et al., 2016).

    Attributes:
        width: choice of its channels.
        inverse: multiply instead of dividing.
    """

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
    """A residual block: `body(x) + shortcut(x)`, or `body(x) + x` without a shortcut. Layers have names."""

    body: tuple[tuple[str, Leaf], ...]
    shortcut: tuple[str, Leaf] | None = None


@dataclass(frozen=True)
class Repeat:
    """A stack of blocks, whose number is the choice `depth`. 0 leaves them all out.

    A block is one or several residual blocks. It must keep width and resolution, so that it can be left out.
    """

    block: tuple[Residual, ...]
    depth: str

    def __post_init__(self) -> None:
        if any(residual.shortcut for residual in self.block):
            raise ValueError("a block that may be left out has no layers in its shortcut")


@dataclass(frozen=True)
class Branch:
    """One of several parallel branches.

    Attributes:
        name: name of the branch, which prefixes the names of its layers.
        layers: its layers, in order.
        switch: the choice (a width or a depth) whose 0 leaves the branch out. None means that it always runs.
    """

    name: str
    layers: tuple[Layer, ...]
    switch: str | None = None


@dataclass(frozen=True)
class Parallel:
    """Parallel branches whose outputs are added. The first one always runs."""

    branches: tuple[Branch, ...]

    def __post_init__(self) -> None:
        if self.branches[0].switch is not None:
            raise ValueError("the first of parallel branches always runs")


Leaf = Conv | Deconv | Subpel | Depthwise | GDN | ReLU | LeakyReLU
Layer = Leaf | Residual | Repeat | Parallel


@dataclass(frozen=True)
class Edge:
    """One edge of the graph: a network from one node to another.

    Attributes:
        layers: its layers, in order.
        reduction: image pixels per side that one input element covers.
        magnitude: whether it reads magnitudes.
    """

    layers: tuple[Layer, ...]
    reduction: int
    magnitude: bool = False


@dataclass(frozen=True)
class Placed:
    """A single layer, with its place in an edge.

    Attributes:
        place: its place: the names of everything around it, and its own name.
        layer: the layer.
        reduction: image pixels per side that one of its input elements covers.
        switches: the choices that must not be 0 for it to run, from the outermost to the innermost.
        depth: the switch that sets how often it runs. None for a layer that runs once.
    """

    place: str
    layer: Leaf
    reduction: int
    switches: tuple[str, ...]
    depth: str | None


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Attributes:
        name: name of the family in search spaces.
        edges: the networks by name: g_a and g_s, and h_a and h_s if there is a hyperprior.
        context: whether there are a context model and entropy parameters between psi and y. Otherwise psi
            itself holds the parameters of y.
        means: whether psi has two values per channel of y (a scale and a mean), or only a scale.
        compressai: name of the CompressAI model that equals it at full width (in raster order, if there is a
            context).
        source: the paper.
    """

    name: str
    edges: dict[str, Edge]
    context: bool = False
    means: bool = True
    compressai: str | None = None
    source: str = ""

    def __repr__(self) -> str:
        return f"Family({self.name!r}: {', '.join(self.edges)})"

    @property
    def has_z(self) -> bool:
        """Whether there is a hyperprior."""
        return "h_a" in self.edges

    @property
    def alignment(self) -> int:
        """Sides of images must be multiples of this number."""
        return Z_REDUCTION if self.has_z else Y_REDUCTION

    @property
    def psi_parts(self) -> int:
        """Number of values of psi per channel of y."""
        return 2 if self.means or self.context else 1

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The choices that a space must fill in, in the order of the graph. HYPERPRIOR may be left out."""
        names: dict[str, None] = {}
        for edge in self.edges.values():
            for placed in placements(edge):
                for name in (*placed.switches, *ends(placed.layer)):
                    names.setdefault(name)
        inner = [name for name in names if name not in NODES]
        return (*inner, *(ENTROPY_WIDTHS if self.context else ()))

    @cached_property
    def depths(self) -> frozenset[str]:
        """The choices that count blocks instead of channels."""
        placed = (placement for edge in self.edges.values() for placement in placements(edge))
        return frozenset(placement.depth for placement in placed if placement.depth)

    @cached_property
    def switches(self) -> frozenset[str]:
        """The choices whose 0 leaves layers out."""
        placed = (placement for edge in self.edges.values() for placement in placements(edge))
        return frozenset(switch for placement in placed for switch in placement.switches)

    @cached_property
    def _edges_of(self) -> dict[str, str]:
        by_choice = dict.fromkeys(ENTROPY_WIDTHS, ENTROPY_PARAMETERS) | {HYPERPRIOR: HYPERPRIOR}
        for name, edge in self.edges.items():
            for placed in placements(edge):
                by_choice |= dict.fromkeys((*ends(placed.layer), *placed.switches), name)
        return by_choice

    def edge_of(self, choice: str) -> str:
        """The edge that a choice belongs to."""
        return self._edges_of[choice]

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """For each choice (also `z` and `layout`), the choices that must not be 0 for it to matter."""
        by_choice: dict[str, tuple[str, ...]] = {}
        for name in self.choices:
            edge = self.edge_of(name)
            hyper = edge in (*HYPER_EDGES, ENTROPY_PARAMETERS)
            by_choice[name] = (HYPERPRIOR,) if hyper else ()
            if edge in self.edges:
                by_choice[name] += _needed(name, self.edges[edge])
        return by_choice | {"z": (HYPERPRIOR,), "layout": (HYPERPRIOR,)}


def _needed(choice: str, edge: Edge) -> tuple[str, ...]:
    """The other switches that all layers which depend on a choice of an edge lie behind."""
    behind = []
    for placed in placements(edge):
        if choice in placed.switches:
            behind.append(placed.switches[: placed.switches.index(choice)])
        elif choice in ends(placed.layer):
            behind.append(placed.switches)
    return tuple(switch for switch in behind[0] if all(switch in others for others in behind))


def ends(layer: Leaf) -> tuple[str, ...]:
    """The widths of a layer: input and output, or its one width."""
    match layer:
        case Conv() | Deconv() | Subpel():
            return (layer.inputs, layer.outputs)
        case GDN() | Depthwise():
            return (layer.width,)
        case _:
            return ()


def after(layer: Leaf, reduction: int) -> int:
    """The reduction after a layer.

    Args:
        layer: a single layer.
        reduction: how many times smaller than the picture the layer's input is, per side.
    """
    match layer:
        case Conv():
            return reduction * layer.stride
        case Deconv() | Subpel():
            return reduction // layer.stride
        case _:
            return reduction


def placements(edge: Edge) -> Iterator[Placed]:
    """Yield every single layer of an edge with its place."""
    numbered = ((str(number), layer) for number, layer in enumerate(edge.layers))
    yield from _place_all(numbered, edge.reduction, (), None)


def _place_all(
    layers: Iterable[tuple[str, Layer]], reduction: int, switches: tuple[str, ...], depth: str | None
) -> Iterator[Placed]:
    """Yield the single layers of some consecutive named layers."""
    for name, layer in layers:
        yield from _place(name, layer, reduction, switches, depth)
        reduction = reduction_after(layer, reduction)


def _place(
    name: str, layer: Layer, reduction: int, switches: tuple[str, ...], depth: str | None
) -> Iterator[Placed]:
    match layer:
        case Residual():
            yield from _place_all(_under(name, layer.body), reduction, switches, depth)
            if layer.shortcut:
                yield from _place_all(_under(name, [layer.shortcut]), reduction, switches, depth)
        case Repeat():
            behind = tuple(dict.fromkeys((*switches, layer.depth)))
            yield from _place_all(_blocks(name, layer), reduction, behind, layer.depth)
        case Parallel():
            for branch in layer.branches:
                parts = [(f"{branch.name}.{number}", part) for number, part in enumerate(branch.layers)]
                more = (branch.switch,) if branch.switch else ()
                behind = tuple(dict.fromkeys((*switches, *more)))
                yield from _place_all(_under(name, parts), reduction, behind, depth)
        case _:
            yield Placed(name, layer, reduction, switches, depth)


def _under(name: str, parts: Iterable[tuple[str, Layer]]) -> Iterator[tuple[str, Layer]]:
    return ((f"{name}.{part}", layer) for part, layer in parts)


def _blocks(name: str, layer: Repeat) -> list[tuple[str, Layer]]:
    """The residual blocks of one block of a stack, by name. A single one has the name of the stack."""
    if len(layer.block) == 1:
        return [(name, layer.block[0])]
    return [(f"{name}.{number}", residual) for number, residual in enumerate(layer.block)]


def reduction_after(layer: Layer, reduction: int) -> int:
    """The reduction after a layer or a block.

    Args:
        layer: a layer or a block.
        reduction: how many times smaller than the picture its input is, per side.
    """
    match layer:
        case Residual():
            return _after_all([part for _, part in layer.body], reduction)
        case Repeat():
            return reduction
        case Parallel():
            return _after_all(layer.branches[0].layers, reduction)
        case _:
            return after(layer, reduction)


def _after_all(layers: Iterable[Layer], reduction: int) -> int:
    for layer in layers:
        reduction = reduction_after(layer, reduction)
    return reduction
