"""The codec as a network: one class for every family, built from plain or from slimmable layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nas.graph.context import ContextModel, HyperOnly, SlimmableContextModel
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, ConditionalGaussian, quantize, snap, widened
from nas.graph.gains import Gains, HyperGains
from nas.graph.layers.build import PlainLayers, SlimmableLayers, build_edge
from nas.graph.layers.width import Width
from nas.graph.priors import Prior, build_prior
from nas.graph.staged import rounding, staged
from nas.spaces.architecture import Architecture
from nas.spaces.description import ENTROPY_WIDTHS, HYPER_EDGES, HYPERPRIOR
from nas.spaces.layout import Layout
from nas.spaces.rates import middle
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

Noise = Callable[[Tensor], Tensor]


class CodecNetwork(nn.Module):
    """A learned codec over the graph x -> y -> z, at one width per layer.

    ::

        x --g_a--> y --round--> y_hat --g_s--> x_hat
                   |              |
                  h_a         context + entropy parameters --> bits of y
                   v              |
                   z --round--> z_hat --h_s--> psi

    Without a context model, psi itself holds the entropy parameters. Without z, y has a factorised prior.
    `h_a`, `h_s`, `context` and `prior` (of z) exist if the space has a z. `y_prior` exists if y may have no
    hyperprior. `gains` of y and `hyper_gains` of z exist if the space has a range of rates (see
    `graph.gains`).

    Args:
        space: a space with one architecture for plain layers, or any space for slimmable ones.
        slimmable: hold the weights of the whole space (see `Supernet`) instead of plain layers.
    """

    g_a: nn.Sequential
    h_a: nn.Sequential
    h_s: nn.Sequential
    g_s: nn.Sequential
    context: ContextModel | HyperOnly
    prior: Prior
    y_prior: Prior
    gains: Gains
    hyper_gains: HyperGains

    def __init__(self, space: SearchSpace, *, slimmable: bool = False) -> None:
        super().__init__()
        self.space = space
        self.widths = _widths(space)
        layers = SlimmableLayers() if slimmable else PlainLayers()
        possible = self.widths[HYPERPRIOR].candidates
        for name, edge in space.family.edges.items():
            if name not in HYPER_EDGES or any(possible):
                self.add_module(name, build_edge(edge, layers, self.widths))
        if any(possible):
            self.context = self._context(slimmable)
            self.prior = build_prior(self.widths["z"], slimmable)
        if not all(possible):
            self.y_prior = build_prior(self.widths["y"], slimmable)
        if space.rates:
            self.gains = Gains(space.rates, self.widths["y"])
            if any(possible):
                self.hyper_gains = HyperGains(space.rates, self.widths["z"])
        self.gaussian = ConditionalGaussian()

    def _context(self, slimmable: bool) -> ContextModel | HyperOnly:
        space = self.space
        if not space.family.context:
            return HyperOnly(space.family.psi_parts)
        hidden = (self.widths[ENTROPY_WIDTHS[0]], self.widths[ENTROPY_WIDTHS[1]])
        sizes, tables = (space.y_channels, space.window), space.with_tables
        if slimmable:
            return SlimmableContextModel(*sizes, hidden, *space.features, tables=tables)
        widths = (hidden[0].active, hidden[1].active)
        return ContextModel(*sizes, widths, *space.features, tables=tables)

    def with_g_s(self, g_s: nn.Module, space: SearchSpace) -> CodecNetwork:
        """The network with another g_s. All other layers are shared, not copied.

        Args:
            g_s: the other g_s.
            space: space of the one architecture that results.
        """
        network = copy.copy(self)
        network._modules = {**self._modules, "g_s": g_s}
        network.space, network.widths = space, _widths(space)
        return network

    @property
    def with_z(self) -> bool:
        """Whether the hyperprior runs."""
        return self.widths[HYPERPRIOR].active > 0

    @property
    def centred(self) -> bool:
        """Whether latents are rounded about their means and medians, instead of to integers."""
        return self.space.quantizer == "centred"

    @property
    def priors(self) -> list[Prior]:
        """The factorised priors of the network."""
        return [getattr(self, name) for name in ("prior", "y_prior") if hasattr(self, name)]

    def centre(self, prior: Prior) -> Tensor | float:
        """The centre of the rounding of values under a factorised prior.

        Args:
            prior: the prior of z, or of y where there is no z.

        Returns:
            The medians, [C, 1, 1], or 0 if latents are rounded to integers.
        """
        return prior.medians() if self.centred else 0.0

    def lmbda(self, lmbda: float | None) -> float:
        """The lambda to code at. By default it is the middle of the range. It has no effect without a range.

        Args:
            lmbda: the requested lambda, or None.
        """
        if lmbda is not None or not self.space.rates:
            return lmbda or 0.0
        return middle(self.space.rates)

    def scaled_y(self, y: Tensor, lmbda: float | None = None) -> Tensor:
        """Scale the output of g_a for a rate, before rounding.

        Args:
            y: output of g_a, [B, M, h, w].
            lmbda: lambda of the rate, for a space with a range of rates. By default it is the middle anchor.
        """
        return y * self.gains.up(self.lmbda(lmbda)) if self.space.rates else y

    def unscaled_y(self, y_hat: Tensor, lmbda: float | None = None) -> Tensor:
        """Scale rounded y back, into the form that g_s reads.

        Args:
            y_hat: rounded y, [B, M, h, w].
            lmbda: lambda of the rate, for a space with a range of rates. By default it is the middle anchor.
        """
        return y_hat * self.gains.down(self.lmbda(lmbda)) if self.space.rates else y_hat

    def z_of(self, y: Tensor, lmbda: float | None = None) -> Tensor:
        """Compute z before rounding from y at a rate.

        Args:
            y: y before it is rounded, as `scaled_y` gives it, [B, M, h, w].
            lmbda: lambda of the rate, for a space with a range of rates. By default it is the middle anchor.
        """
        z = widened(self.h_a(y))
        return self.hyper_gains(z, self.lmbda(lmbda)) if self.space.rates else z

    def round_z(self, z: Tensor) -> Tensor:
        """Round z to z_hat.

        Args:
            z: z before rounding, [B, N, H/64, W/64].

        Returns:
            In the shape of `z`.
        """
        return quantize(z, Z_LIMIT, self.centre(self.prior))

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        noise: Noise | None = None,
        *,
        lmbda: float | None = None,
        coded: bool = False,
        picture: bool = True,
        y: Tensor | None = None,
    ) -> dict[str, Any]:
        """Code a batch without a bitstream.

        Args:
            x: images in [0, 1], [B, 3, H, W], sides multiples of `space.family.alignment`.
            layout: the order in which y is decoded.
            noise: noise to add to y and z for the rate (uniform, in training). None rates rounded values.
            lmbda: the rate, if the space has a range of rates. By default it is the middle anchor.
            coded: rate rounded values as the coder does, within each image's own range of values.
            picture: False leaves g_s out, if only the rate is wanted.
            y: output of g_a for x, [B, M, H/16, W/16], if it is known.

        Returns:
            x_hat [B, 3, H, W], not clamped, unless `picture` is False; likelihoods {y: [B, M, H/16, W/16],
            z: [B, N, H/64, W/64]}, z only if there is one; y and z before rounding, and psi.

        Raises:
            InputError: a side of the picture is not a multiple of the family's alignment.
        """
        alignment = self.space.family.alignment
        if x.shape[-2] % alignment or x.shape[-1] % alignment:
            raise InputError(
                f"Image sides must be multiples of {alignment}, not {tuple(x.shape[-2:])}: pad first."
            )
        y = self.scaled_y(widened(self.g_a(x)) if y is None else y, lmbda)
        share = self.widths[HYPERPRIOR].mask()  # weight of the hyperprior, under gates
        if share is None or len(self.widths[HYPERPRIOR].candidates) == 1:
            way = self._given_z if self.with_z else self._alone
            y_hat, likelihoods, more = way(y, layout, noise, coded, lmbda)
        else:
            ways = (way(y, layout, noise, coded, lmbda) for way in (self._given_z, self._alone))
            y_hat, likelihoods, more = _mixed(share[0].to(y.dtype), *ways)
        likelihoods["y"] = self.widths["y"].rated(likelihoods["y"])
        shown = {"x_hat": widened(self.g_s(self.unscaled_y(y_hat, lmbda)))} if picture else {}
        return {**shown, "likelihoods": likelihoods, "y": y, **more}

    def _given_z(
        self, y: Tensor, layout: Layout, noise: Noise | None, coded: bool, lmbda: float | None
    ) -> Way:
        """Code y under a Gaussian whose parameters come from z and from previously decoded elements."""
        z = self.z_of(y, lmbda)
        psi = self.h_s(self.round_z(z))
        y_hat, likelihood_y = self.y_given_psi(y, psi, layout, noise, coded=coded)
        return y_hat, {"y": likelihood_y, "z": self.likelihood_z(z, noise, coded=coded)}, {"z": z, "psi": psi}

    def _alone(self, y: Tensor, layout: Layout, noise: Noise | None, coded: bool, lmbda: float | None) -> Way:
        """Code y under a factorised prior."""
        y_hat, likelihood = self.y_alone(y, noise, coded=coded)
        return y_hat, {"y": likelihood}, {}

    def y_given_psi(
        self, y: Tensor, psi: Tensor, layout: Layout, noise: Noise | None = None, *, coded: bool = False
    ) -> tuple[Tensor, Tensor]:
        """y_hat and the likelihoods of y, both [B, M, h, w], with a hyperprior.

        Args:
            y: y at a rate, before rounding, [B, M, h, w].
            psi: output of h_s for z_hat, [B, P, h, w].
            layout: the order in which y is decoded.
            noise, coded: as in `forward`.
        """
        y_hat = quantize(y, Y_LIMIT)
        if coded and self.centred and self.space.family.context:
            y_hat = self._code_centred(y, psi, layout)
        scales, means = (widened(part) for part in self.context(psi, y_hat, layout))
        if coded and self.centred:
            scales, means = snap(scales, means)  # the coder rounds about the means on its grid
        centre = means if self.centred else 0.0
        rounded = quantize(y, Y_LIMIT, centre)
        if not self.space.family.context:
            y_hat = rounded  # with a context, CompressAI's class decodes round(y) and rates the centred one
        if coded:
            return y_hat, self.gaussian.coded_likelihood(y_hat, scales, means, centre)
        return y_hat, self.gaussian.likelihood(rounded if noise is None else y + noise(y), scales, means)

    def likelihood_z(self, z: Tensor, noise: Noise | None = None, *, coded: bool = False) -> Tensor:
        """The likelihoods of z, [B, N, h, w].

        Args:
            z: z at a rate, before rounding, [B, N, h, w].
            noise, coded: as in `forward`.
        """
        if coded:
            return self.prior.coded_likelihood(self.round_z(z), self.centre(self.prior))
        return self.prior.likelihood(self.round_z(z) if noise is None else z + noise(z))

    def y_alone(self, y: Tensor, noise: Noise | None = None, *, coded: bool = False) -> tuple[Tensor, Tensor]:
        """y_hat and the likelihoods of y, both [B, M, h, w], without a hyperprior.

        Args:
            y: y at a rate, before rounding, [B, M, h, w].
            noise, coded: as in `forward`.
        """
        centre = self.centre(self.y_prior)
        y_hat = quantize(y, Y_LIMIT, centre)
        if coded:
            return y_hat, self.y_prior.coded_likelihood(y_hat, centre)
        return y_hat, self.y_prior.likelihood(y_hat if noise is None else y + noise(y))

    def _code_centred(self, y: Tensor, psi: Tensor, layout: Layout) -> Tensor:
        """y_hat stage by stage: each stage is rounded about means that earlier stages give."""
        context = staged(self.context, layout)
        return context.by_stages(psi, rounding(context, y))


def _widths(space: SearchSpace) -> dict[str, Width]:
    names = ("x", "y", "z", "psi", HYPERPRIOR, *space.family.choices)
    parts = {"psi": 1 if space.psi_channels else space.family.psi_parts}
    return {name: Width(name, space.candidates(name), parts.get(name, 1)) for name in names}


def plain_edge(space: SearchSpace, name: str) -> nn.Sequential:
    """One edge of a space with one architecture, in plain layers with random weights.

    Args:
        space: a space with one architecture.
        name: name of the edge, such as `g_a`.
    """
    return build_edge(space.family.edges[name], PlainLayers(), _widths(space))


Way = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]


def _mixed(on: Tensor, given: Way, alone: Way) -> Way:
    """Two ways to code y, weighted by their gates. Rates add up, so likelihoods multiply."""
    y_hat = on * given[0] + (1 - on) * alone[0]
    likelihood = given[1]["y"] ** on * alone[1]["y"] ** (1 - on)
    return y_hat, {"y": likelihood, "z": given[1]["z"] ** on}, given[2]


def is_constant(name: str) -> bool:
    """Whether an entry of a state dict is a constant that is the same in every network, and not learned."""
    return any(word in name for word in ("pedestal", "bound", "gaussian.", "target"))


class Supernet(CodecNetwork):
    """The shared weights of a whole search space. It runs any architecture and can extract one."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, slimmable=True)

    def _set_by(self, slot: str) -> list[Width]:
        """The widths that a slot sets. The width of psi follows y."""
        layers = dict(next(each for each in self.space.slots if each.name == slot).layers)
        return [self.widths[name] for name in (*layers, *(["psi"] if "y" in layers else []))]

    def activate(self, architecture: Architecture) -> Layout:
        """Choose the widths that run from now on. Returns the architecture's layout."""
        indexes = self.space.indexes(architecture)
        for slot, index in zip(self.space.slots, indexes[:-1], strict=True):
            for width in self._set_by(slot.name):
                width.index, width.gates = index, None
        layout = self.space.layout(architecture)
        context = getattr(self, "context", None)
        if isinstance(context, SlimmableContextModel):
            context.kind = layout.context
        return layout

    def gate(self, gates: Mapping[str, Tensor]) -> None:
        """Run at full width, masked by weights over the candidates of each slot (see `Width`).

        Args:
            gates: for each slot by name, a weight for every candidate, [candidates].
        """
        for slot in self.space.slots:
            for width in self._set_by(slot.name):
                width.gates = gates[slot.name]

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> CodecNetwork:
        """Extract the plain network of one architecture: its own weights, and no code of the supernet."""
        self.activate(architecture)
        plain = CodecNetwork(self.space.only(architecture))
        missing, unexpected = plain.load_state_dict(dict(_sliced(self, plain)), strict=False)
        forgotten = [name for name in missing if not is_constant(name)]
        if forgotten or unexpected:
            raise RuntimeError(f"extraction lost {forgotten} and invented {unexpected}")
        return plain.to(next(self.parameters()).device).train(self.training)


def _sliced(ours: nn.Module, plain: nn.Module, path: str = "") -> list[tuple[str, Tensor]]:
    """The state of a plain module, sliced from the slimmable module in the same place."""
    sliced: Callable[[], dict[str, Tensor]] | None = getattr(ours, "sliced", None)
    if sliced is not None:
        return [(path + name, value.clone()) for name, value in sliced().items()]
    if not list(plain.children()):
        state = ours.state_dict()
        return [(path + name, state[name].clone()) for name in plain.state_dict()]
    tensors: list[tuple[str, Tensor]] = []
    for name, child in plain.named_children():
        tensors += _sliced(ours.get_submodule(name), child, f"{path}{name}.")
    return tensors
