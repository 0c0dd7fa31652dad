"""The parts of a learned image codec in PyTorch alone. `codec.standalone` copies them next to its weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import gcd, log
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE_MIN, LIKELIHOOD_MIN = 0.11, 1e-9
Y_LIMIT, Z_LIMIT = 1023, 127


class _Round(torch.autograd.Function):
    """Rounding within a limit. Gradients pass straight through."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, limit: int) -> Tensor:
        return values.round().clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _AtLeast(torch.autograd.Function):
    """max(x, bound). Where x is below the bound, only gradients that raise x pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x >= bound)
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return gradients[0] * (above | (gradients[0] < 0)), None


def rounded(values: Tensor, limit: int, centre: Tensor | float = 0.0) -> Tensor:
    """Round to whole steps from a centre, at most `limit` of them.

    Args:
        values: values to round, of any shape.
        limit: largest number of steps on either side of the centre.
        centre: origin of the steps, a number or a tensor that broadcasts to `values`.
    """
    steps: Tensor = _Round.apply(values - centre, limit)
    return steps + centre


def at_least(x: Tensor, bound: float) -> Tensor:
    """max(x, bound). Where x is below the bound, only gradients that raise x pass.

    Args:
        x: values of any shape.
        bound: least value of the result.
    """
    bounded: Tensor = _AtLeast.apply(x, bound)
    return bounded


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al., 2016); beta and gamma are stored as square roots.

    Args:
        channels: number of channels.
        inverse: multiply by the norm instead of dividing by it (IGDN).
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse, self.pedestal = inverse, 2.0**-36
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(0.1**0.5 * torch.eye(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, [B, C, H, W]."""
        beta = at_least(self.beta, (1e-6 + self.pedestal) ** 0.5) ** 2 - self.pedestal
        gamma = at_least(self.gamma, self.pedestal**0.5) ** 2 - self.pedestal
        norm = F.conv2d(x**2, gamma[:, :, None, None], beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class Residual(nn.Module):
    """A residual block: `body(x) + x`, or `body(x) + shortcut(x)`. Layers are named as their stored weights.

    Args:
        body: layers of the body by name, in order.
        shortcut: layers of the shortcut by name, in order. By default the input itself is added.
    """

    def __init__(
        self, body: Mapping[str, nn.Module], shortcut: Mapping[str, nn.Module] | None = None
    ) -> None:
        super().__init__()
        self._body, self._shortcut = list(body), list(shortcut or {})
        for name, module in {**body, **(shortcut or {})}.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Add the change of x, [B, C, H, W], to x or to the output of the shortcut."""
        out = beside = x
        for name in self._body:
            out = self.get_submodule(name)(out)
        for name in self._shortcut:
            beside = self.get_submodule(name)(beside)
        return out + beside


class SideBySide(nn.ModuleDict):
    """Parallel branches whose outputs are added."""

    def forward(self, x: Tensor) -> Tensor:
        """The sum of all branches' outputs for x, [B, C, H, W]."""
        return torch.stack([branch(x) for branch in self.values()]).sum(0)


class OnMagnitudes(nn.Sequential):
    """Layers that read |x|."""

    def forward(self, x: Tensor) -> Tensor:
        """The output of the layers for |x|, [B, C, H, W]."""
        out: Tensor = super().forward(x.abs())  # type: ignore[no-untyped-call] # torch gives it no types
        return out


class FactorizedPrior(nn.Module):
    """The factorised density of Ballé et al. (2018), appendix 6.1.

    Args:
        channels: number of channels.
        filters: widths of the hidden layers of each channel's density.
    """

    def __init__(self, channels: int, filters: tuple[int, ...] = (3, 3, 3, 3)) -> None:
        super().__init__()
        sizes = (1, *filters, 1)
        pairs = list(pairwise(sizes))
        self.matrices = nn.ParameterList(torch.zeros(channels, after, before) for before, after in pairs)
        self.biases = nn.ParameterList(torch.zeros(channels, after, 1) for _, after in pairs)
        self.factors = nn.ParameterList(torch.zeros(channels, after, 1) for _, after in pairs[:-1])
        self.register_buffer("quantiles", torch.zeros(channels, 1, 3))

    def medians(self) -> Tensor:
        """The centre of every channel, [C, 1, 1]."""
        return self.get_buffer("quantiles")[:, :, 1:2]

    def cumulative(self, values: Tensor) -> Tensor:
        """Logits of the cumulative distribution at values, [C, 1, n]."""
        for index, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            values = F.softplus(matrix) @ values + bias
            if index < len(self.factors):
                values = values + torch.tanh(self.factors[index]) * torch.tanh(values)
        return values

    def forward(self, values: Tensor) -> Tensor:
        """The probability of the unit bin around each value, [B, C, h, w].

        Args:
            values: values of the latent, [B, C, h, w].
        """
        flat = values.transpose(0, 1).flatten(1)[:, None]
        likelihoods = self.cumulative(flat + 0.5).sigmoid() - self.cumulative(flat - 0.5).sigmoid()
        bounded = at_least(likelihoods, LIKELIHOOD_MIN)
        return bounded.view(values.transpose(0, 1).shape).transpose(0, 1)


def gaussian(values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
    """The probability of the unit bin around each value.

    Args:
        values: the values, of any shape.
        scales: standard deviations, in that shape.
        means: means, in that shape.
    """
    away, scales = (values - means).abs(), at_least(scales, SCALE_MIN)
    upper, lower = ((half - away) / scales * -(0.5**0.5) for half in (0.5, -0.5))
    return at_least(0.5 * (torch.erfc(upper) - torch.erfc(lower)), LIKELIHOOD_MIN)


class Context(nn.Module):
    """Context prediction and entropy parameters (Minnen et al., 2018) under one order of decoding.

    Element (i, j) of channel group g is decoded in stage slope . (i, j) + tile[g][i mod R][j mod C]. It sees
    the elements in its window that were decoded in earlier stages.

    Args:
        groups: number of channels of each group of y.
        slope, tile: the order of decoding.
        window: width of the context window.
        hidden: widths of the two hidden layers.
        psi, phi: numbers of hyper features and of features of context prediction. 0 means none.
    """

    def __init__(
        self,
        groups: list[int],
        slope: list[int],
        tile: list[list[list[int]]],
        window: int,
        hidden: tuple[int, int],
        psi: int,
        phi: int,
    ) -> None:
        super().__init__()
        m, self.window, self.phi = sum(groups), window, phi
        if phi:
            self.context_prediction = nn.Conv2d(m, phi, window, padding=window // 2)
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(psi + phi, hidden[0], 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden[0], hidden[1], 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden[1], 2 * m, 1),
        )
        self.tile, self.slope = torch.tensor(tile), slope
        group = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
        step = max(1, round(0.618 * m))
        while gcd(step, m) != 1:
            step += 1

        def spread(units: int) -> torch.Tensor:
            """The groups of units that belong to the channels in turn."""
            return group[step * torch.arange(units) % m]

        features = group.repeat(phi // m) if phi % m == 0 else spread(phi)
        self.owners = [features, *map(spread, hidden), group.repeat(2)]
        self.group = group

    def seen(self, row: int, column: int) -> Tensor:
        """Which groups (first axis) see which from one cell of the tile: [groups, groups, window, window].

        Args:
            row: row of the cell in the tile.
            column: column of the cell in the tile.
        """
        _, rows, columns = self.tile.shape
        away = torch.arange(self.window) - self.window // 2
        there = self.tile[:, (row + away)[:, None] % rows, (column + away) % columns]
        there = there + self.slope[0] * away[:, None] + self.slope[1] * away
        return there[None] < self.tile[:, None, row, column, None, None]

    def forward(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of y, [B, M, h, w], from psi, [B, P, h, w], and y itself.

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: rounded y, [B, M, h, w]. An element reads only elements of earlier stages.
        """
        _, rows, columns = self.tile.shape
        out = psi.new_zeros(len(psi), 2 * y_hat.shape[1], *psi.shape[-2:])
        for row in range(min(rows, psi.shape[-2])):
            for column in range(min(columns, psi.shape[-1])):
                here = psi[..., row::rows, column::columns]
                out[..., row::rows, column::columns] = self._at(row, column, here, y_hat)
        scales, means = out.chunk(2, 1)
        return scales, means

    def _at(self, row: int, column: int, psi: Tensor, y_hat: Tensor) -> Tensor:
        """All entropy parameters at the positions of one cell."""
        (_, rows, columns), reach, device = self.tile.shape, self.window // 2, psi.device
        features, units_1, units_2, outputs = self.owners
        seen, now = self.seen(row, column), self.tile[:, row, column]
        is_visible = (now[None] <= now[:, None]).to(device)  # at the same position
        first, _, second, _, third = self.entropy_parameters
        phi = psi[:, :0]
        if self.phi:
            live = seen.flatten(1).any(1).to(device)[features]
            mask = seen.to(device)[features][:, self.group]
            near, predict = F.pad(y_hat, (reach,) * 4)[..., row:, column:], self.context_prediction
            bias = torch.zeros_like(live) if predict.bias is None else predict.bias * live
            phi = F.conv2d(near, predict.weight * mask, bias, (rows, columns))
            phi = phi[..., : psi.shape[-2], : psi.shape[-1]]

        def layer(conv: Any, x: Tensor, writes: Tensor, reads: Tensor, free: int = 0) -> Tensor:
            """A pointwise layer whose units read the first `free` inputs and units of known groups."""
            allowed = F.pad(is_visible[writes][:, reads], (free, 0), value=True)
            return F.conv2d(x, conv.weight * allowed[..., None, None], conv.bias)

        hidden = layer(first, torch.cat([psi, phi], 1), units_1, features, free=psi.shape[1])
        hidden = layer(second, F.leaky_relu(hidden, 0.01), units_2, units_1)
        return layer(third, F.leaky_relu(hidden, 0.01), outputs, units_2)


class TableContext(nn.Module):
    """Scales and means of y from psi alone, with a table that corrects the scales by decoded elements.

    After finite-state autoregressive coding (Zhang et al., ICLR 2024). The surprise of an element, 0 to 3, is
    its distance from its mean in units of its scale. The state of an element is the mean surprise of the
    elements of its channel around it that were decoded before. Straight neighbours count twice, and small
    numbers of known neighbours have states of their own.

    Args:
        groups, slope, tile: as for `Context`.
        hidden: widths of the two hidden layers.
        psi: number of hyper features.
    """

    around = ((-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))

    def __init__(
        self,
        groups: list[int],
        slope: list[int],
        tile: list[list[list[int]]],
        hidden: tuple[int, int],
        psi: int,
    ) -> None:
        super().__init__()
        m = sum(groups)
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(psi, hidden[0], 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden[0], hidden[1], 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden[1], 2 * m, 1),
        )
        self.table = nn.ParameterDict({"log_factor": torch.zeros(m, 27)})
        self.tile, self.slope = torch.tensor(tile).repeat_interleave(torch.tensor(groups), 0), slope
        places = torch.linspace(log(SCALE_MIN), log(256.0), 127, dtype=torch.float64).exp()
        self.scales = (places[::2] * 2**16).round() / 2**16
        self.ends = (places[1::2] * 2**10).round() / 2**10

    def forward(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of y, [B, M, h, w], from psi, [B, P, h, w], and y itself.

        Args:
            psi: hyper features, [B, P, h, w].
            y_hat: rounded y, [B, M, h, w]. An element reads only elements of earlier stages.
        """
        scales, means = self.entropy_parameters(psi).chunk(2, 1)
        with torch.no_grad():
            states = self.states(self.surprises(scales, means, y_hat)).transpose(0, 1)
        logs = self.table["log_factor"].gather(1, states.flatten(1)).view(states.shape)
        return at_least(scales, SCALE_MIN) * logs.transpose(0, 1).exp(), means

    def surprises(self, scales: Tensor, means: Tensor, y_hat: Tensor) -> Tensor:
        """The surprise of each element: how many bounds its distance exceeds, on the grids of the coder.

        Args:
            scales: scales of y before correction, [B, M, h, w].
            means: means of y, [B, M, h, w].
            y_hat: rounded y, [B, M, h, w].
        """
        scales = self.scales.to(y_hat)[torch.bucketize(scales.contiguous(), self.ends.to(y_hat))]
        away = (y_hat * 64 - (means * 64).round()).abs()
        exceeded = [away > (64 * bound * scales).floor() for bound in (0.4, 1.0, 2.0)]
        return torch.stack(exceeded).sum(0)

    def states(self, surprises: Tensor) -> Tensor:
        """The state of every element, 0 to 26.

        Args:
            surprises: surprise of every element of y, [B, M, h, w], from 0 to 3.

        Returns:
            In the shape of `surprises`. 26 stands for an element without decoded neighbours.
        """
        height, width = surprises.shape[-2:]
        rows, columns = torch.arange(-1, height + 1), torch.arange(-1, width + 1)
        stage = self.tile[:, (rows % self.tile.shape[1])[:, None], columns % self.tile.shape[2]]
        stage = stage + self.slope[0] * rows[:, None] + self.slope[1] * columns
        inside = F.pad(torch.ones(height, width, dtype=torch.bool), (1, 1, 1, 1))
        padded = F.pad(surprises, (1, 1, 1, 1))

        def cut(value: Tensor, row: int, column: int) -> Tensor:
            return value[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]

        total, total_weight = torch.zeros_like(surprises), torch.zeros_like(surprises[0])
        for offset in self.around:
            seen = (cut(stage, *offset) < cut(stage, 0, 0)) & cut(inside, *offset)
            weight = seen.to(surprises) * (2 if 0 in offset else 1)
            total, total_weight = total + weight * cut(padded, *offset), total_weight + weight
        mean = (8 * total + total_weight) // (2 * total_weight).clamp_min(1)  # in quarters, rounded
        return torch.where(total_weight > 0, mean + 13 * (total_weight > 5), 26)


class HyperOnly(nn.Module):
    """The entropy parameters without a context model: psi holds the scales of y, or its scales and means.

    Args:
        parts: 1 if psi holds only scales, 2 if it also holds means.
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, psi: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of y from psi alone, [B, M, h, w] each.

        Args:
            psi: output of h_s, [B, parts * M, h, w].
            y_hat: not used. All contexts have the same arguments.
        """
        if self.parts == 1:
            return psi, torch.zeros_like(psi)
        scales, means = psi.chunk(2, 1)
        return scales, means


class AtRates(nn.Module):
    """Values per channel at some lambdas, interpolated linearly in the logarithm of lambda.

    Args:
        anchors: the lambdas, rising.
        channels: number of channels of the latent.
        names: names of the values.
    """

    def __init__(self, anchors: tuple[float, ...], channels: int, *names: str) -> None:
        super().__init__()
        self.anchors, self.middle = anchors, anchors[(len(anchors) - 1) // 2]
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.zeros(len(anchors), channels)))

    def at(self, name: str, lmbda: float | None = None) -> Tensor:
        """The values of one name at a rate, [channels, 1, 1].

        Args:
            name: one of the names that the module was made with.
            lmbda: lambda of the rate. By default it is the middle anchor. Beyond the range, the nearest end
                counts.
        """
        rows, lmbda = (
            self.get_parameter(name),
            min(max(lmbda or self.middle, self.anchors[0]), self.anchors[-1]),
        )
        below = next(n for n, anchor in enumerate(self.anchors[1:]) if lmbda <= anchor)
        low, high = self.anchors[below : below + 2]
        return torch.lerp(rows[below], rows[below + 1], log(lmbda / low) / log(high / low))[:, None, None]


class Codec(nn.Module):
    """The codec: x --g_a--> y --h_a--> z, z --h_s--> psi --context--> parameters of y, y --g_s--> x_hat.

    Args:
        parts: g_a and g_s; h_a, h_s, context and prior (of z), or y_prior if there is no z; gains (of y) and
            hyper_gains (of z) if the codec codes at a range of rates.
        centred: round latents about their means and medians instead of to integers.
    """

    g_a: nn.Sequential
    h_a: nn.Sequential
    h_s: nn.Sequential
    g_s: nn.Sequential
    context: Context | TableContext | HyperOnly
    prior: FactorizedPrior
    y_prior: FactorizedPrior
    gains: AtRates
    hyper_gains: AtRates

    def __init__(self, parts: Mapping[str, nn.Module], centred: bool) -> None:
        super().__init__()
        self.centred = centred
        for name, module in parts.items():
            self.add_module(name, module)

    def forward(self, x: Tensor, noise: bool = False, lmbda: float | None = None) -> dict[str, Any]:
        """Decode the rounded latents of images and estimate their bits. Differentiable.

        Args:
            x: images in [0, 1], [B, 3, H, W], with sides that are multiples of 64 (of 16 if there is no z).
            noise: estimate the bits of latents with uniform noise instead of rounded ones, as in training.
            lmbda: the rate, for a codec over a range of rates. By default it is the middle anchor.

        Returns:
            x_hat [B, 3, H, W], not clamped, and likelihoods {y, z}. The bits are the sum of their -log2.
        """

        def rated(values: Tensor, rounded_values: Tensor) -> Tensor:
            return values + torch.rand_like(values) - 0.5 if noise else rounded_values

        def shown(y_hat: Tensor) -> Tensor:
            if hasattr(self, "gains"):
                y_hat = y_hat * self.gains.at("log_inverse", lmbda).exp()
            x_hat: Tensor = self.g_s(y_hat)
            return x_hat

        y = self.g_a(x)
        if hasattr(self, "gains"):
            y = y * self.gains.at("log_gain", lmbda).exp()
        if not hasattr(self, "h_a"):
            y_hat = rounded(y, Y_LIMIT, self.y_prior.medians() if self.centred else 0.0)
            return {"x_hat": shown(y_hat), "likelihoods": {"y": self.y_prior(rated(y, y_hat))}}
        z = self.h_a(y)
        if hasattr(self, "hyper_gains"):
            z = z * self.hyper_gains.at("log_gain", lmbda).exp() + self.hyper_gains.at("shift", lmbda)
        z_hat = rounded(z, Z_LIMIT, self.prior.medians() if self.centred else 0.0)
        y_hat = rounded(y, Y_LIMIT)
        scales, means = self.context(self.h_s(z_hat), y_hat)
        coded = rounded(y, Y_LIMIT, means) if self.centred else y_hat
        likelihoods = {"y": gaussian(rated(y, coded), scales, means), "z": self.prior(rated(z, z_hat))}
        alone = isinstance(self.context, HyperOnly)
        return {"x_hat": shown(coded if alone else y_hat), "likelihoods": likelihoods}


def load(path: str | Path | None = None) -> Codec:
    """Load the codec with its weights, from codec.safetensors next to this file or from a path."""
    from safetensors.torch import load_file

    tensors = load_file(path or Path(__file__).with_name("codec.safetensors"))
    codec = build()
    codec.load_state_dict({name: tensors[f"network.{name}"] for name in codec.state_dict()})
    return codec


def build() -> Codec:
    """Build the codec with random weights."""
    raise NotImplementedError
