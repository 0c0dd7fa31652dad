"""Runs pictures through a codec again from any interface on. Everything before it is cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.analysis.probes.interfaces import Change, Interface, changed
from nas.codec.refining.annealing import annealed
from nas.graph.affine import exact_arithmetic
from nas.graph.entropy import Y_LIMIT, Z_LIMIT, bits, quantize, widened
from nas.graph.network import CodecNetwork
from nas.metrics.losses import distortion
from nas.metrics.objective import Objective
from nas.photos.images import Pixels
from nas.photos.tensors import pad, to_tensor
from nas.spaces.layout import Layout

# The stages of computation. Here g_s reads y, and nothing that is computed after y
_STAGES = ("g_a", "y", "h_a", "z", "h_s", "psi")


@dataclass(frozen=True)
class Annealing:
    """Rounding with a gradient, by stochastic Gumbel annealing (see `codec.refining.annealing`).

    Attributes:
        temperature: temperature, above 0. Towards 0 the draw becomes rounding.
        generator: generator of the random numbers.
    """

    temperature: float
    generator: torch.Generator

    def __call__(self, values: Tensor, limit: int, centre: Tensor | float = 0.0) -> Tensor:
        """Draw values between the whole steps around each value, at most `limit` steps from the centre.

        Args:
            values: values to round, of any shape.
            limit: largest number of steps on either side of the centre.
            centre: origin of the whole steps.
        """
        return centre + (annealed(values, self.temperature, self.generator, centre) - centre).clamp(
            -limit, limit
        )


class Passage:
    """Pictures in a codec, and their losses if the activation at one interface is changed.

    Args:
        network: the codec in plain layers. Its weights get no gradients.
        layout: the order in which y is decoded.
        pictures: pictures of one size, [H, W, 3] in 8 bits each.
        objective: the loss. In a space with a range of rates, its lambda also sets the rate.

    Attributes:
        losses: the rate-distortion loss of each picture, [B], as a search scores it: with rounded latents and
            clamped pictures.
    """

    def __init__(
        self, network: CodecNetwork, layout: Layout, pictures: Sequence[Pixels], objective: Objective
    ) -> None:
        self.network, self.layout, self.objective = network, layout, objective
        self._lmbda = objective.lmbda if network.space.rates else None
        device = next(network.parameters()).device
        self._x = torch.cat([to_tensor(pixels) for pixels in pictures]).to(device)
        padded = pad(self._x, network.space.family.alignment)
        self._padded = padded.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), exact_arithmetic():
            self._y = self._analysed()
            if network.with_z:
                self._z = network.z_of(self._y, self._lmbda)
                self._psi = network.h_s(network.round_z(self._z))
            y_hat, self._bits = self._rate("g_a", self._y, None)
            self._y_hat = y_hat
            self._error = self._distortion(y_hat, clamped=True)
        self.losses = self._total(self._bits, self._error)

    def activation(self, interface: Interface) -> Tensor:
        """The activation at an interface, [B, C, h, w]."""
        taken: list[Tensor] = []

        def take(values: Tensor) -> Tensor:
            taken.append(values.clone())
            return values

        with torch.no_grad():
            self.losses_with(interface, take)
        return taken[0]

    def losses_with(self, interface: Interface, change: Change, annealing: Annealing | None = None) -> Tensor:
        """The losses, [B], with another activation at an interface and everything that follows from it.

        Args:
            interface: an interface of this network.
            change: returns the other activation for the present one, [B, C, h, w].
            annealing: rounding of latents behind the interface, for losses with gradients. Without it, the
                losses are those of files.
        """
        with changed(self.network, interface, change), exact_arithmetic():
            return self._losses_with(interface, change, annealing)

    def _losses_with(self, at: Interface, change: Change, annealing: Annealing | None) -> Tensor:
        if at.edge == "g_s":
            return self._total(self._bits, self._distortion(self._y_hat, clamped=annealing is None))
        stage = at.name if at.is_node else at.edge
        y = self._analysed() if stage == "g_a" else self._y
        y = change(y) if stage == "y" else y
        y_hat, rate = self._rate(stage, y, annealing, change)
        moved = stage in ("g_a", "y") or (self.network.centred and self.network.with_z)
        error = self._distortion(y_hat, clamped=annealing is None) if moved else self._error
        return self._total(rate, error)

    def _analysed(self) -> Tensor:
        """y at the rate, before rounding."""
        return self.network.scaled_y(widened(self.network.g_a(self._padded)), self._lmbda)

    def _rate(
        self, stage: str, y: Tensor, annealing: Annealing | None, change: Change | None = None
    ) -> tuple[Tensor, Tensor]:
        """y_hat and the bits of each file, computed again from a stage on."""
        net, number = self.network, _STAGES.index(stage)
        if not net.with_z:
            if annealing is None:
                y_hat, likelihood = net.y_alone(y, coded=True)
            else:
                y_hat = annealing(y, Y_LIMIT, net.centre(net.y_prior))
                likelihood = net.y_prior.likelihood(y_hat)
            return y_hat, bits(likelihood)
        z, psi = self._z, self._psi
        if number <= _STAGES.index("h_a"):
            z = net.z_of(y, self._lmbda)
        if stage == "z" and change is not None:
            z = change(z)
        if annealing is not None and number <= _STAGES.index("z"):
            z = annealing(z, Z_LIMIT, net.centre(net.prior))
            z_hat, likelihood_z = z, net.prior.likelihood(z)
        else:
            z_hat, likelihood_z = net.round_z(z), net.likelihood_z(z, coded=True)
        if number <= _STAGES.index("h_s"):
            psi = net.h_s(z_hat)
        if stage == "psi" and change is not None:
            psi = change(psi)
        if annealing is not None and number <= _STAGES.index("y"):
            y_hat, likelihood = self._annealed_y(y, psi, annealing)
        else:
            y_hat, likelihood = net.y_given_psi(y, psi, self.layout, coded=annealing is None)
        return y_hat, bits(likelihood) + bits(likelihood_z)

    def _annealed_y(self, y: Tensor, psi: Tensor, annealing: Annealing) -> tuple[Tensor, Tensor]:
        """y between integers, and its likelihoods."""
        net = self.network
        centre: Tensor | float = 0.0
        if net.centred:
            centre = net.context(psi, quantize(y, Y_LIMIT), self.layout)[1].detach()
        y_hat = annealing(y, Y_LIMIT, centre)
        scales, means = net.context(psi, y_hat, self.layout)
        return y_hat, net.gaussian.likelihood(y_hat, scales, means)

    def _distortion(self, y_hat: Tensor, *, clamped: bool) -> Tensor:
        """The distortion of the pictures for y_hat, [B]."""
        height, width = self._x.shape[-2:]
        x_hat = widened(self.network.g_s(self.network.unscaled_y(y_hat, self._lmbda)))[..., :height, :width]
        return distortion(self._x, x_hat.clamp(0, 1) if clamped else x_hat, self.objective.metric)

    def _total(self, rate: Tensor, error: Tensor) -> Tensor:
        height, width = self._x.shape[-2:]
        total: Tensor = self.objective.loss(rate / (height * width), error)
        return total
