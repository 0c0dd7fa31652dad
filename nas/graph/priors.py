"""Factorised priors of z, or of y if there is no z."""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph._compressai import EntropyBottleneck
from nas.graph.entropy import CODER_UNIT, coded_range
from nas.graph.layers.width import Width

# Frequencies are integers, at least 1, that add up to about this number for every channel.
PRECISION = 1 << 22


class FactorizedPrior(EntropyBottleneck):
    """CompressAI's entropy bottleneck, used for the likelihood of given values. It does not round them.

    Its quantiles are not trained. Integer latents have no medians, and those of centred latents are found by
    bisection (`update_medians`). Each photo is coded within its own range.

    Args:
        channels: number of channels of the latent.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.quantiles.requires_grad_(False)

    def quantize(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        """Return values that are rounded or noisy already as they are. Symbols are made as in CompressAI.

        Args:
            inputs: the values.
            mode: `noise`, `dequantize` or `symbols`.
            means: the centres of the channels, in a shape that broadcasts to `inputs`.
        """
        return super().quantize(inputs, mode, means) if mode == "symbols" else inputs

    def medians(self) -> Tensor:
        """The centre of every channel, [C, 1, 1]."""
        return self.quantiles[:, :, 1:2].detach()

    def update_medians(self) -> None:
        """Update the quantiles, with the medians among them, from the weights."""
        # `update` would also fill the tables of CompressAI's coder, which are in the state dict
        self._update_quantiles()  # type: ignore[no-untyped-call] # CompressAI gives it no types

    def sliced(self) -> dict[str, Tensor]:
        """The whole state. It is not sliced, because the number of this prior's channels is not a choice.

        Returns:
            Tensors by name, in the shapes of the plain prior.
        """
        return self.state_dict()

    def likelihood(self, values: Tensor) -> Tensor:
        """The probability of the unit bin around each value, [B, C, h, w] like `values`."""
        with torch.autocast(values.device.type, enabled=False):  # differences of nearly equal numbers
            return super().forward(values)[1]

    def coded_likelihood(self, values: Tensor, centre: Tensor | float = 0.0) -> Tensor:
        """The probability with which rounded values are really coded, within each image's own range.

        Args:
            values: rounded values, [B, C, h, w].
            centre: origin of the whole steps, a number or one per channel, [C, 1, 1].
        """
        reach = coded_range(values - centre) + 0.5
        around = torch.as_tensor(centre, device=values.device).expand(self.channels, 1, 1)
        limits = torch.stack([-reach, reach], -1).flatten()
        # CompressAI has no public access to the cumulative
        ends = self._logits_cumulative(limits + around, stop_gradient=False).sigmoid()
        pairs: Tensor = ends.unflatten(-1, (-1, 2))
        low, high = pairs.unbind(-1)
        inside = (high - low)[:, 0].transpose(0, 1)[..., None, None].clamp_min(1 / PRECISION)
        return ((self.likelihood(values) / inside).clamp_min(1 / PRECISION) + CODER_UNIT).clamp_max(1)

    @torch.no_grad()
    def frequencies(self, limit: int, centre: Tensor | float = 0.0) -> Tensor:
        """The prior as integer frequencies, at least 1, for the steps -reach .. reach: [C, 2 * reach + 1].

        Beyond the reach, which is at most `limit`, every frequency is 1.

        Args:
            limit: largest step in either direction.
            centre: origin of the whole steps, a number or one per channel, [C, 1, 1].
        """
        prior = copy.deepcopy(self).double()
        values = torch.arange(-limit, limit + 1, dtype=torch.float64, device=self.quantiles.device)
        grid = values + torch.as_tensor(centre, device=values.device, dtype=torch.float64)
        likelihood = prior.likelihood(grid.expand(self.channels, 1, -1)[None])[0, :, 0]
        table = (likelihood * PRECISION).round().clamp_min(1).to(torch.int32)
        steps = (table > 1).any(0).nonzero().flatten() - limit
        reach = max(1, int(steps.abs().max())) if len(steps) else 1
        return table[:, limit - reach : limit + reach + 1].contiguous()


class SlimmablePrior(nn.ModuleList):
    """One prior for each candidate width of a latent whose number of channels is a choice (as in SlimCAE).

    Args:
        width: width of the latent.
    """

    def __init__(self, width: Width) -> None:
        super().__init__(FactorizedPrior(channels) for channels in width.candidates)
        self.width = width

    @property
    def active(self) -> FactorizedPrior:
        """The prior of the active width."""
        return cast(FactorizedPrior, self[self.width.index])

    def medians(self) -> Tensor:
        """The medians of the active prior's channels, as `FactorizedPrior.medians` gives them.

        Returns:
            [C, 1, 1].
        """
        if self.width.gates is None:
            return self.active.medians()
        return self._gated([prior.medians()[None] for prior in self._priors()])[0]

    def update_medians(self) -> None:
        """Update the medians of every width: see `FactorizedPrior.update_medians`."""
        for prior in self._priors():
            prior.update_medians()

    def likelihood(self, values: Tensor) -> Tensor:
        """The likelihood under the active prior. Under gates, all widths' priors count by their gates.

        Masked channels have likelihood 1, because they carry no rate.

        Args:
            values: values of the latent, [B, C, h, w].

        Returns:
            In the shape of `values`.
        """
        if self.width.gates is None:
            return self.active.likelihood(values)
        logs = [prior.likelihood(values[:, : prior.channels]).log() for prior in self._priors()]
        return self._gated(logs).exp()

    def coded_likelihood(self, values: Tensor, centre: Tensor | float = 0.0) -> Tensor:
        """The likelihood of coded values under the active width's prior.

        Args:
            values: rounded values of the latent, [B, C, h, w].
            centre: origin of the rounding: 0, or the medians, [C, 1, 1].

        Returns:
            In the shape of `values`.
        """
        return self.active.coded_likelihood(values, centre)

    def sliced(self) -> dict[str, Tensor]:
        """The state of the active width's prior.

        Returns:
            Tensors by name, in the shapes of the plain prior.
        """
        return self.active.state_dict()

    def _priors(self) -> list[FactorizedPrior]:
        return [cast(FactorizedPrior, prior) for prior in self]

    def _gated(self, parts: list[Tensor]) -> Tensor:
        """The sum of parts weighted by the gates of their widths, [B, channels, h, w], padded with zeros."""
        gates = cast(Tensor, self.width.gates)
        total = parts[-1].new_zeros(parts[-1].shape)
        for gate, part in zip(gates.to(total.dtype), parts, strict=True):
            missing = self.width.full - part.shape[1]
            total = total + gate * F.pad(part, (0, 0) * (part.ndim - 2) + (0, missing))
        return total


Prior = FactorizedPrior | SlimmablePrior


def build_prior(width: Width, slimmable: bool) -> Prior:
    """Make the prior of a latent. A supernet whose latent is a choice gets one prior for each width.

    Args:
        width: width of the latent.
        slimmable: whether it is for a supernet.
    """
    if slimmable and len(width.candidates) > 1:
        return SlimmablePrior(width)
    return FactorizedPrior(width.active)
