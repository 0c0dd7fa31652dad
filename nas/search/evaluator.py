"""Scores of architectures on calibration photos: of integers, exact, cached by the graph.

Distortion depends on (g_a, g_s) alone, the hyper rate on (g_a, h_a) alone, and the rate of y on
(g_a, h_a, h_s, entropy parameters, layout). So each part is computed once per choice of what it depends on.
Where that does not hold (centred latents, latents whose channels are a choice) the whole network runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas.errors import InputError
from nas.graph.entropy import Y_LIMIT, bits, quantize
from nas.graph.network import Supernet
from nas.images import Photo, fingerprint, pad, psnr, to_pixels, to_tensor
from nas.space import Architecture
from nas.training.losses import distortion, rd_loss


@dataclass(frozen=True)
class Score:
    """Means over photos of each photo's value: estimated bits, 8-bit PSNR in dB, and the loss."""

    bpp: float
    psnr: float
    rd_loss: float


class _Cache:
    """The most recently used results, up to a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value = make()
        size = _size(value)
        self._kept[key] = (value, size)
        self.bytes += size
        while self.bytes > self.most_bytes and len(self._kept) > 1:
            _, (_, freed) = self._kept.popitem(last=False)
            self.bytes -= freed
        return value


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, tuple | list):
        return sum(_size(part) for part in value)
    return 64


class Evaluator:
    """Scores architectures of a supernet on some photos.

    Args:
        supernet: trained; its active architecture is changed.
        photos: calibration photos, scored whole.
        lmbda: weight of the distortion.
        metric: `mse` or `ms-ssim`.
        device: where to compute.
        cache_bytes: how much to keep of what was computed.
    """

    def __init__(
        self,
        supernet: Supernet,
        photos: Sequence[Photo],
        *,
        lmbda: float,
        metric: str = "mse",
        device: torch.device | str = "cpu",
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.supernet = supernet.to(device).eval()
        self.space = supernet.space
        self.photos = list(photos)
        if metric == "ms-ssim" and any(min(photo.pixels.shape[:2]) <= 160 for photo in photos):
            raise InputError(
                "MS-SSIM needs photos of more than 160 pixels a side: take out the smaller ones."
            )
        self.lmbda, self.metric = lmbda, metric
        self.device = torch.device(device)
        self.calibration = fingerprint(self.photos)
        self._cache = _Cache(cache_bytes)

    @torch.no_grad()
    def score(self, architecture: Architecture) -> Score:
        """The score of one architecture."""
        self.supernet.activate(architecture)
        rows = [self._photo(index, architecture) for index in range(len(self.photos))]
        bpp, error, quality = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        return Score(bpp, quality, rd_loss(bpp, error, self.lmbda, self.metric))

    @torch.no_grad()
    def latents(self, index: int, architecture: Architecture) -> tuple[Tensor, Tensor]:
        """psi and y_hat of one photo: what the context model is given."""
        self.supernet.activate(architecture)
        edges = self._edges(architecture)
        return self._psi(index, edges), quantize(self._y(index, edges), Y_LIMIT)

    def _edges(self, architecture: Architecture) -> dict[str, tuple[int, ...]]:
        """The widths of each edge: what the cached results depend on."""
        edges: dict[str, tuple[int, ...]] = {}
        for layer, width in self.space.layer_widths(architecture).items():
            edge = self.space.family.edge_of(layer)
            edges[edge] = (*edges.get(edge, ()), width)
        return edges

    def _photo(self, index: int, architecture: Architecture) -> tuple[float, float, float]:
        """bpp, distortion and PSNR of one photo."""
        if self.supernet.centred or not self.space.fixed_latents:
            return self._whole(index, architecture)
        edges = self._edges(architecture)
        error, quality = self._cached("x_hat", index, edges, ("g_a", "g_s"), self._distortion)
        if self.supernet.with_z:
            hyper = self._cached("z bits", index, edges, ("g_a", "h_a"), self._z_bits)
            psi, y_hat = self._psi(index, edges), quantize(self._y(index, edges), Y_LIMIT)
            scales, means = self.supernet.context(psi, y_hat, self.space.layout(architecture))
            rate = hyper + float(bits(self.supernet.gaussian.coded_likelihood(y_hat, scales, means))[0])
        else:
            rate = self._cached("y bits", index, edges, ("g_a",), self._y_bits)
        return rate / self.photos[index].size, error, quality

    def _whole(self, index: int, architecture: Architecture) -> tuple[float, float, float]:
        """The same, without taking anything apart."""
        x = self._x(index)
        layout = self.space.layout(architecture)
        output = self.supernet(pad(x, self.space.family.alignment), layout, coded=True)
        rate = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values())
        return rate / self.photos[index].size, *self._quality(index, x, output["x_hat"])

    def _cached(
        self,
        what: str,
        index: int,
        edges: dict[str, tuple[int, ...]],
        of: tuple[str, ...],
        make: Callable[[int, dict[str, tuple[int, ...]]], Any],
    ) -> Any:
        key = (what, index, *(edges[edge] for edge in of))
        return self._cache.get(key, lambda: make(index, edges))

    def _x(self, index: int) -> Tensor:
        return to_tensor(self.photos[index].pixels).to(self.device)

    def _y(self, index: int, edges: dict[str, tuple[int, ...]]) -> Tensor:
        def make(index: int, edges: dict[str, tuple[int, ...]]) -> Tensor:
            return self.supernet.g_a(pad(self._x(index), self.space.family.alignment))

        y: Tensor = self._cached("y", index, edges, ("g_a",), make)
        return y

    def _z_hat(self, index: int, edges: dict[str, tuple[int, ...]]) -> Tensor:
        def make(index: int, edges: dict[str, tuple[int, ...]]) -> Tensor:
            return self.supernet.round_z(self.supernet.h_a(self._y(index, edges)))

        z_hat: Tensor = self._cached("z", index, edges, ("g_a", "h_a"), make)
        return z_hat

    def _psi(self, index: int, edges: dict[str, tuple[int, ...]]) -> Tensor:
        def make(index: int, edges: dict[str, tuple[int, ...]]) -> Tensor:
            return self.supernet.h_s(self._z_hat(index, edges))

        psi: Tensor = self._cached("psi", index, edges, ("g_a", "h_a", "h_s"), make)
        return psi

    def _z_bits(self, index: int, edges: dict[str, tuple[int, ...]]) -> float:
        return float(bits(self.supernet.prior.coded_likelihood(self._z_hat(index, edges)))[0])

    def _y_bits(self, index: int, edges: dict[str, tuple[int, ...]]) -> float:
        y_hat = quantize(self._y(index, edges), Y_LIMIT)
        return float(bits(self.supernet.y_prior.coded_likelihood(y_hat))[0])

    def _distortion(self, index: int, edges: dict[str, tuple[int, ...]]) -> tuple[float, float]:
        y_hat = quantize(self._y(index, edges), Y_LIMIT)
        return self._quality(index, self._x(index), self.supernet.g_s(y_hat))

    def _quality(self, index: int, x: Tensor, x_hat: Tensor) -> tuple[float, float]:
        """Distortion of the clamped picture, and its PSNR in 8 bits."""
        x_hat = x_hat[..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
        error = float(distortion(x, x_hat, self.metric)[0])
        return error, psnr(self.photos[index].pixels, to_pixels(x_hat))
