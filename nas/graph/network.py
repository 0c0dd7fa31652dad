"""The codec as a network: one class, whatever set of layers it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import InputError
from nas.graph import entropy
from nas.graph.context import ContextModel, SlimmableContextModel
from nas.graph.families import ENTROPY_WIDTHS, NODES
from nas.graph.layers import PlainLayers, SlimmableLayers, Width, build_edge
from nas.graph.layout import Layout
from nas.space import Architecture, SearchSpace

ALIGNMENT = 64  # image sides are multiples of this: 16 for y, 4 more for z


class CodecNetwork(nn.Module):
    """A learned codec over the graph x -> y -> z, at one width per layer.

    ::

        x --g_a--> y --round--> y_hat --g_s--> x_hat
                   |              |
                  h_a         context + entropy parameters --> bits of y
                   v              |
                   z --round--> z_hat --h_s--> psi

    Args:
        space: a space of one architecture for plain layers; any space for slimmable ones.
        slimmable: hold the weights of the whole space (see `Supernet`) instead of plain layers.
    """

    def __init__(self, space: SearchSpace, *, slimmable: bool = False) -> None:
        super().__init__()
        self.space = space
        self.widths = _widths(space)
        layers = SlimmableLayers() if slimmable else PlainLayers()
        edges = {name: build_edge(edge, layers, self.widths) for name, edge in space.family.edges.items()}
        self.g_a, self.h_a = edges["g_a"], edges["h_a"]
        self.h_s, self.g_s = edges["h_s"], edges["g_s"]
        hidden = (self.widths[ENTROPY_WIDTHS[0]], self.widths[ENTROPY_WIDTHS[1]])
        self.context: ContextModel
        if slimmable:
            self.context = SlimmableContextModel(space.y_channels, space.window, hidden)
        else:
            sizes = (hidden[0].active, hidden[1].active)
            self.context = ContextModel(space.y_channels, space.window, sizes)
        self.prior = entropy.FactorizedPrior(space.z_channels)
        self.gaussian = entropy.ConditionalGaussian()

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        noise: Callable[[Tensor], Tensor] | None = None,
        *,
        coded: bool = False,
    ) -> dict[str, Any]:
        """Code a batch without a bitstream.

        Args:
            x: images in [0, 1], [B, 3, H, W], sides multiples of 64.
            layout: the order in which y is decoded.
            noise: what to add to y and z for the rate (uniform, in training); None rates the integers.
            coded: rate the integers as the coder does, within each image's own range of values.

        Returns:
            x_hat [B, 3, H, W], not clamped; likelihoods {y: [B, M, H/16, W/16], z: [B, N, H/64, W/64]};
            y and z before rounding.
        """
        if x.shape[-2] % ALIGNMENT or x.shape[-1] % ALIGNMENT:
            raise InputError(
                f"Image sides must be multiples of {ALIGNMENT}, not {tuple(x.shape[-2:])}: pad first."
            )
        y = self.g_a(x)
        z = self.h_a(y)
        y_hat = entropy.quantize(y, entropy.Y_LIMIT)
        z_hat = entropy.quantize(z, entropy.Z_LIMIT)
        scales, means = self.context(self.h_s(z_hat), y_hat, layout)
        if coded:
            likelihood_y = self.gaussian.coded_likelihood(y_hat, scales, means)
            likelihood_z = self.prior.coded_likelihood(z_hat)
        else:
            rated_y, rated_z = (y_hat, z_hat) if noise is None else (y + noise(y), z + noise(z))
            likelihood_y = self.gaussian.likelihood(rated_y, scales, means)
            likelihood_z = self.prior.likelihood(rated_z)
        return {
            "x_hat": self.g_s(y_hat),
            "likelihoods": {"y": likelihood_y, "z": likelihood_z},
            "y": y,
            "z": z,
        }


class Supernet(CodecNetwork):
    """The shared weights of a whole search space: runs any architecture, extracts one."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, slimmable=True)

    def activate(self, architecture: Architecture) -> Layout:
        """Choose the widths that run from now on; returns the architecture's layout."""
        indexes = self.space.indexes(architecture)
        for slot, index in zip(self.space.slots, indexes[:-1], strict=True):
            for layer, _ in slot.layers:
                self.widths[layer].index = index
                self.widths[layer].gates = None
        return self.space.layout(architecture)

    def gate(self, gates: Mapping[str, Tensor]) -> None:
        """Run at full width, masked by weights over the candidates of each slot (see `Width`)."""
        for slot in self.space.slots:
            for layer, _ in slot.layers:
                self.widths[layer].gates = gates[slot.name]

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> CodecNetwork:
        """The plain network of one architecture: its own weights, none of the supernet's code."""
        self.activate(architecture)
        plain = CodecNetwork(self.space.only(architecture))
        state = {f"prior.{name}": value for name, value in self.prior.state_dict().items()}
        for path, module in self.named_modules():
            if hasattr(module, "sliced"):
                state |= {f"{path}.{name}": value.clone() for name, value in module.sliced().items()}
        missing, unexpected = plain.load_state_dict(state, strict=False)
        constant = ("pedestal", "bound", "gaussian.", "target")
        forgotten = [name for name in missing if not any(word in name for word in constant)]
        if forgotten or unexpected:
            raise RuntimeError(f"extraction lost {forgotten} and invented {unexpected}")
        return plain.to(next(self.parameters()).device).train(self.training)


def _widths(space: SearchSpace) -> dict[str, Width]:
    channels = {"x": 3, "y": space.y_channels, "z": space.z_channels, "psi": 2 * space.y_channels}
    fixed = {node: Width(node, (channels[node],)) for node in NODES}
    return fixed | {layer: Width(layer, space.candidates(layer)) for layer in space.family.widths}
