"""The interfaces of a codec: the activations between its layers, and its latents.

An interface is an activation as the next layer that mixes channels reads it: after the activation function,
the GDN or the depthwise layer between the two. A residual block has interfaces between its layers and one
after its sum. y, z and psi are interfaces between edges. The context model has none, because mixing its
channels would let an element read what is decoded after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from nas.graph.network import CodecNetwork
from nas.spaces import description as spec
from nas.spaces.description import HYPER_EDGES, ends

Change = Callable[[Tensor], Tensor]
NODE_BEHIND = {"g_a": "y", "h_a": "z", "h_s": "psi"}  # the output node of an edge; g_s gives the picture
# Layers that treat channels separately, or normalise them. They belong to the layer before them
_BELONG = (spec.GDN, spec.ReLU, spec.LeakyReLU, spec.Depthwise)


@dataclass(frozen=True)
class Interface:
    """One activation between two layers of a codec.

    Attributes:
        name: name for people: the width as in search spaces, the block around it, and inside a block the
            layer that makes it. y, z and psi have their own names.
        edge: the edge that makes it.
        width: its width, as in search spaces.
        module: name in the network of the module whose output it is. Empty for y, z and psi.
    """

    name: str
    edge: str
    width: str
    module: str = ""

    @property
    def is_node(self) -> bool:
        """Whether it is y, z or psi."""
        return not self.module


def interfaces(network: CodecNetwork) -> list[Interface]:
    """All interfaces of a network of plain layers, in the order of the graph: from x to y, z, psi and x_hat.

    Args:
        network: network of one architecture.
    """
    listed: list[Interface] = []
    count: Counter[str] = Counter()

    def add(name: str, edge: str, width: str, module: str = "") -> None:
        count[name] += 1
        again = f" ({count[name]})" if count[name] > 1 else ""
        listed.append(Interface(name + again, edge, width, module))

    for edge, described in network.space.family.edges.items():
        if edge in HYPER_EDGES and not network.with_z:
            continue
        layers = list(zip(described.layers, network.get_submodule(edge).children(), strict=True))
        numbered = [(str(number), *pair) for number, pair in enumerate(layers)]
        first = {"g_a": "x", "h_a": "y", "h_s": "z", "g_s": "y"}[edge]
        places = list(
            _chain([_Link(f"{edge}.{n}", "", layer, module) for n, layer, module in numbered], first)
        )
        for name, width, module in places:
            add(name, edge, width, module)
        if edge in NODE_BEHIND:
            add(NODE_BEHIND[edge], edge, NODE_BEHIND[edge])
    return listed


@contextmanager
def changed(network: nn.Module, interface: Interface, change: Change) -> Iterator[None]:
    """Context in which the network runs with another activation at an interface that is not y, z or psi.

    Args:
        network: the network.
        interface: one of its interfaces.
        change: returns the other activation for the network's own one, both [B, C, h, w].
    """
    if interface.is_node:
        yield
        return
    module = network.get_submodule(interface.module)
    hook = module.register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Link:
    """A described layer with its module, the module's name in the network, and its name for people."""

    path: str
    note: str
    layer: spec.Layer
    module: nn.Module


def _chain(links: Sequence[_Link], width: str) -> Iterator[tuple[str, str, str]]:
    """Name, width and module of all interfaces of consecutive layers. `width` is the width of their input."""
    flat = [inner for link in links for inner in _flat(link)]
    for index, link in enumerate(flat):
        yield from _inside(link, width)
        width = _output(link.layer, width)
        following = flat[index + 1].layer if index + 1 < len(flat) else None
        if following is not None and not isinstance(following, _BELONG):
            yield f"{width}{link.note}", width, link.path


def _flat(link: _Link) -> Iterator[_Link]:
    """The residual blocks of a stack, one after the other. Every other layer stays as it is."""
    if not isinstance(link.layer, spec.Repeat):
        yield link
        return
    residuals = link.layer.block
    for number, block in enumerate(link.module.children()):
        path, note = f"{link.path}.{number}", f"{link.note} block {number + 1}"
        if len(residuals) == 1:
            yield _Link(path, note, residuals[0], block)
            continue
        for index, (residual, module) in enumerate(zip(residuals, block.children(), strict=True)):
            half = "" if index == len(residuals) - 1 else f" part {index + 1}"
            yield _Link(f"{path}.{index}", note + half, residual, module)


def _inside(link: _Link, width: str) -> Iterator[tuple[str, str, str]]:
    """The interfaces inside a block."""
    match link.layer:
        case spec.Residual():
            body = [
                _Link(f"{link.path}.{name}", f"{link.note} {name}", leaf, link.module.get_submodule(name))
                for name, leaf in link.layer.body
            ]
            yield from _chain(body, width)
        case spec.Parallel():
            for branch in link.layer.branches:
                running = dict(link.module.named_children()).get(branch.name)
                if running is not None:
                    path = f"{link.path}.{branch.name}"
                    layers = zip(branch.layers, running.children(), strict=True)
                    parts = [
                        _Link(f"{path}.{number}", link.note, layer, module)
                        for number, (layer, module) in enumerate(layers)
                    ]
                    yield from _chain(parts, width)


def _output(layer: spec.Layer, width: str) -> str:
    """The name of the width of a layer's output."""
    match layer:
        case spec.Residual():
            for _, leaf in layer.body:
                width = _output(leaf, width)
            return width
        case spec.Parallel():
            for part in layer.branches[0].layers:
                width = _output(part, width)
            return width
        case spec.Repeat():
            return width
        case _:
            return ends(layer)[-1] if ends(layer) else width
