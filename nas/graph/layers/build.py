"""Builds an edge from its description, in plain or in slimmable layers.

Plain layers make an exported codec, and slimmable layers make the supernet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from nas.graph.layers.blocks import OnMagnitudes, ResidualBlock, Transform
from nas.graph.layers.convolution import ConvTranspose2d
from nas.graph.layers.gdn import GDN, SlimmableGDN
from nas.graph.layers.precision import must_be_precise
from nas.graph.layers.slimmable import (
    SlimmableBranches,
    SlimmableConv2d,
    SlimmableConvTranspose2d,
    SlimmableDepthwise,
    SlimmableRepeat,
    SlimmableSubPixel,
)
from nas.graph.layers.subpixel import Branches, SubPixel
from nas.graph.layers.width import Width
from nas.spaces import description as spec

LEAKY_SLOPE = 0.01
Widths = Mapping[str, Width]


class PlainLayers:
    """Makes plain layers at the active widths, with the same parameters as torch's and CompressAI's layers.

    Every method makes the module of one kind of layer. `layer` is the description of the layer, and `widths`
    has the network's widths by name. `repeat` and `parallel` take finished modules, and the widths that say
    how many blocks run or whether a branch runs.
    """

    def conv(self, layer: spec.Conv, widths: Widths) -> nn.Module:
        """A convolution of the active widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs].active, widths[layer.outputs].active
        return nn.Conv2d(inputs, outputs, layer.kernel, layer.stride, layer.padding)

    def depthwise(self, layer: spec.Depthwise, widths: Widths) -> nn.Module:
        """A depthwise convolution of the active width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        channels = widths[layer.width].active
        return nn.Conv2d(channels, channels, layer.kernel, padding=layer.kernel // 2, groups=channels)

    def deconv(self, layer: spec.Deconv, widths: Widths) -> nn.Module:
        """A deconvolution of the active widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs].active, widths[layer.outputs].active
        return ConvTranspose2d(inputs, outputs, layer.kernel, layer.stride)

    def subpel(self, layer: spec.Subpel, widths: Widths) -> nn.Module:
        """A sub-pixel convolution of the active widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs].active, widths[layer.outputs].active
        conv = nn.Conv2d(inputs, outputs * layer.stride**2, layer.kernel, padding=layer.kernel // 2)
        return SubPixel(conv, layer.stride, precise=must_be_precise(layer.inputs, layer.outputs))

    def gdn(self, layer: spec.GDN, widths: Widths) -> nn.Module:
        """A GDN of the active width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        return GDN(widths[layer.width].active, inverse=layer.inverse)

    def repeat(self, blocks: list[nn.Module], depth: Width) -> nn.Module:
        """A sequence of blocks.

        Args:
            blocks: the blocks of the widest network, in order.
            depth: how many of them the network has.
        """
        return nn.Sequential(*blocks)

    def parallel(self, branches: Mapping[str, nn.Module], switches: Mapping[str, Width]) -> nn.Module:
        """Parallel branches.

        Args:
            branches: the branches by name.
            switches: width of each branch's switch, by the branch's name.
        """
        return Branches(branches)


class SlimmableLayers:
    """Makes layers that hold the widest weights and run slices. See `PlainLayers` for the methods."""

    def conv(self, layer: spec.Conv, widths: Widths) -> nn.Module:
        """A convolution of any widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs], widths[layer.outputs]
        return SlimmableConv2d(inputs, outputs, layer.kernel, layer.stride, layer.padding)

    def depthwise(self, layer: spec.Depthwise, widths: Widths) -> nn.Module:
        """A depthwise convolution of any width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        return SlimmableDepthwise(widths[layer.width], layer.kernel)

    def deconv(self, layer: spec.Deconv, widths: Widths) -> nn.Module:
        """A deconvolution of any widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs], widths[layer.outputs]
        return SlimmableConvTranspose2d(inputs, outputs, layer.kernel, layer.stride)

    def subpel(self, layer: spec.Subpel, widths: Widths) -> nn.Module:
        """A sub-pixel convolution of any widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs], widths[layer.outputs]
        return SlimmableSubPixel(inputs, outputs, layer.kernel, layer.stride)

    def gdn(self, layer: spec.GDN, widths: Widths) -> nn.Module:
        """A GDN of any width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        return SlimmableGDN(widths[layer.width], layer.inverse)

    def repeat(self, blocks: list[nn.Module], depth: Width) -> nn.Module:
        """A stack of blocks, of which the first ones run.

        Args:
            blocks: all blocks, in order.
            depth: how many of them run, chosen at run time.
        """
        return SlimmableRepeat(blocks, depth)

    def parallel(self, branches: Mapping[str, nn.Module], switches: Mapping[str, Width]) -> nn.Module:
        """Parallel branches, of which those that are switched on run.

        Args:
            branches: the branches by name.
            switches: width of each branch's switch, by the branch's name.
        """
        return SlimmableBranches(branches, switches)


Layers = PlainLayers | SlimmableLayers


def build_leaf(layer: spec.Leaf, layers: Layers, widths: Widths) -> nn.Module:
    """Build the module of one single layer.

    Args:
        layer: description of the layer.
        layers: makes the modules, plain or slimmable.
        widths: widths of the network by name.
    """
    match layer:
        case spec.Conv():
            return _begun(layers.conv(layer, widths), layer)
        case spec.Deconv():
            return layers.deconv(layer, widths)
        case spec.Subpel():
            return _begun(layers.subpel(layer, widths), layer)
        case spec.Depthwise():
            return layers.depthwise(layer, widths)
        case spec.GDN():
            return layers.gdn(layer, widths)
        case spec.ReLU():
            return nn.ReLU()
        case spec.LeakyReLU():
            return nn.LeakyReLU(LEAKY_SLOPE)


def _begun(conv: nn.Module, layer: spec.Conv | spec.Subpel) -> nn.Module:
    """A convolution, sub-pixel or not, with its initial weights."""
    if layer.zero:
        for parameter in conv.parameters():
            nn.init.zeros_(parameter)
    return conv


def build_layer(layer: spec.Layer, layers: Layers, widths: Widths) -> nn.Module:
    """Build the module of one described layer or block.

    Args:
        layer: description of the layer or block.
        layers: makes the modules, plain or slimmable.
        widths: widths of the network by name.
    """
    match layer:
        case spec.Residual():
            names, parts = zip(*layer.body, strict=True)
            body = dict(zip(names, _chain(parts, layers, widths), strict=True))
            if layer.shortcut is None:
                return ResidualBlock(body, None)
            name, part = layer.shortcut
            return ResidualBlock(body, (name, build_leaf(part, layers, widths)))
        case spec.Repeat():
            depth = widths[layer.depth]
            blocks = [_build_block(layer.block, layers, widths) for _ in range(depth.active)]
            return layers.repeat(blocks, depth)
        case spec.Parallel():
            switches = {branch.name: widths[branch.switch] for branch in layer.branches if branch.switch}
            running = [b for b in layer.branches if b.name not in switches or switches[b.name].active]
            branches = {b.name: nn.Sequential(*_chain(b.layers, layers, widths)) for b in running}
            return layers.parallel(branches, switches)
        case _:
            return build_leaf(layer, layers, widths)


def _build_block(residuals: Sequence[spec.Residual], layers: Layers, widths: Widths) -> nn.Module:
    modules = [build_layer(residual, layers, widths) for residual in residuals]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _chain(parts: Sequence[spec.Layer], layers: Layers, widths: Widths) -> list[nn.Module]:
    """The modules of consecutive layers. A GDN may overwrite the output of the convolution before it."""
    modules = [build_layer(part, layers, widths) for part in parts]
    for before, module in zip(parts, modules[1:], strict=False):
        if isinstance(module, GDN):
            module.in_place = isinstance(before, spec.Conv | spec.Deconv | spec.Subpel)
    return modules


def build_edge(edge: spec.Edge, layers: Layers, widths: Widths) -> nn.Sequential:
    """Build the transform of one edge.

    Args:
        edge: description of the edge.
        layers: makes the modules, plain or slimmable.
        widths: widths of the network by name.
    """
    kind = OnMagnitudes if edge.magnitude else Transform
    return kind(*_chain(edge.layers, layers, widths))
