"""Exact scores of architectures on calibration photos, with caches that follow the codec's graph.

Distortion depends on (g_a, g_s) alone, the rate of z on (g_a, h_a) alone, and the rate of y on
(g_a, h_a, h_s, entropy parameters, layout). Over a range of rates, everything except the output of g_a also
depends on the rate. Each part is therefore computed once for each combination of its inputs. The resulting
numbers are kept for good. Intermediate tensors are kept as long as there is room.

If latents are centred, or if their channels are a choice, these rules do not hold, and the whole network
runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from nas.graph.context import ContextModel
from nas.graph.entropy import Y_LIMIT, bits, coded_range, quantize
from nas.graph.network import Supernet
from nas.metrics.losses import distortion
from nas.metrics.objective import Objective
from nas.metrics.quality import mean_psnr
from nas.photos.images import Photo, fingerprint, psnr
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.searching.scoring.tensor_cache import T, TensorCache
from nas.searching.scoring.y_rate import LayoutPlan, bits_alone, context_part, hyper_part, layout_plan, y_bits
from nas.spaces.architecture import Architecture
from nas.spaces.description import ENTROPY_PARAMETERS, ENTROPY_WIDTHS, HYPERPRIOR
from nas.spaces.rates import geometric_mean, scored
from nas.support.arrays import Array
from nas.support.errors import InputError
from nas.support.progress import Report, silent

# What each result depends on, as names of `_Parts.choices`.
Y = ("g_a",)
Y_HAT = (*Y, "lmbda")
Z = (*Y_HAT, "h_a")
PSI = (*Z, "h_s")
X_HAT = (*Y_HAT, "g_s")
Y_RATE_PARTS = (ENTROPY_PARAMETERS, "layout")

NOT_EXACT = 1 / 8  # of calibration photos, at least: those that do not come back exactly


@dataclass(frozen=True)
class Point:
    """The results of an architecture at one rate, as means over photos.

    Attributes:
        lmbda: lambda of the rate.
        bpp: bits per pixel, estimated.
        psnr: PSNR in dB.
        rd_loss: rate-distortion loss.
    """

    lmbda: float
    bpp: float
    psnr: float
    rd_loss: float

    def is_possible(self, metric: str) -> bool:
        """Whether the loss can be that of the rate and the PSNR.

        The loss has the mean of the photos' errors and PSNR is the mean of their logarithms, so the one says
        only how large the other is at least. PSNR is of pictures in 8 bits, which differ by half a level, and
        leaves out photos that come back exactly.

        Args:
            metric: `mse` or `ms-ssim`. Of MS-SSIM nothing is known from PSNR.
        """
        level = max(0.0, 255 * 10 ** (-self.psnr / 20) - 0.51) if metric == "mse" else 0.0
        return not self.rd_loss < (self.bpp + self.lmbda * NOT_EXACT * level**2) * (1 - 1e-6)


@dataclass(frozen=True)
class Score:
    """The score of an architecture: estimated bits, 8-bit PSNR in dB and the loss, as means over photos.

    Over a range of rates, `bpp` and `psnr` are those of the middle anchor, and `rd_loss` is the geometric
    mean of the losses at the lowest, the middle and the highest anchor.

    Attributes:
        curve: the points at these three anchors. Empty for a single rate.
    """

    bpp: float
    psnr: float
    rd_loss: float
    curve: tuple[Point, ...] = ()

    @classmethod
    def of(cls, points: Sequence[Point]) -> Score:
        """The score of an architecture from its points, one for each rate."""
        middle = points[len(points) // 2]
        if len(points) == 1:
            return cls(middle.bpp, middle.psnr, middle.rd_loss)
        losses = [point.rd_loss for point in points]
        finite = all(0 < loss < math.inf for loss in losses)
        return cls(middle.bpp, middle.psnr, geometric_mean(losses) if finite else math.nan, tuple(points))

    def is_of(self, points: Sequence[Point]) -> bool:
        """Whether these points give this score, up to rounding.

        Args:
            points: points of an architecture, one for each rate.
        """
        ours, theirs = (astuple(score)[:3] for score in (self, Score.of(points)))
        return all(map(partial(math.isclose, rel_tol=1e-6), ours, theirs))

    def is_possible(self, objective: Objective, rates: Sequence[float] = ()) -> bool:
        """Whether the numbers can belong together, as far as they follow from each other.

        Args:
            objective: the loss.
            rates: the anchors of a range of rates. A score without all of its points is not judged there.
        """
        if not rates:
            point = Point(objective.lmbda, self.bpp, self.psnr, self.rd_loss)
            return point.is_possible(objective.metric)
        if len(self.curve) < len(scored(rates)):
            return True
        return self.is_of(self.curve) and all(point.is_possible(objective.metric) for point in self.curve)

    @property
    def is_a_number(self) -> bool:
        """Whether rate and loss are finite, and PSNR is not NaN (it is infinite for an exact picture)."""
        return math.isfinite(self.bpp) and math.isfinite(self.rd_loss) and not math.isnan(self.psnr)


@dataclass(frozen=True)
class _Parts:
    """An architecture, split into the choices that intermediate results depend on.

    Attributes:
        architecture: the architecture.
        with_z: whether the hyperprior runs.
        choices: by name, what results depend on: the widths of each edge, the width of the first hidden layer
            of the entropy parameters, the layout, the rate, and the key of the architecture.
    """

    architecture: Architecture
    with_z: bool
    choices: Mapping[str, Any]

    def of(self, names: Sequence[str]) -> tuple[Any, ...]:
        """The choices of these names, or None if the family has no such edge."""
        return tuple(self.choices.get(name) for name in names)


Numbers = tuple[float, ...]
Method = Callable[["Evaluator", int, _Parts], T]


def _for_good(*names: str) -> Callable[[Method[Numbers]], Method[Numbers]]:
    """Cache the numbers of a photo for good, by the choices that they depend on."""

    def wrap(make: Method[Numbers]) -> Method[Numbers]:
        def kept(self: Evaluator, index: int, parts: _Parts) -> Numbers:
            key = (make.__name__, *parts.of(names))
            table = self._numbers.get(key)
            if table is None or np.isnan(table[index, 0]):
                self.supernet.activate(parts.architecture)
                numbers = make(self, index, parts)
                if table is None:
                    table = self._numbers[key] = np.full((len(self.photos), len(numbers)), np.nan)
                table[index] = numbers
            return tuple(table[index].tolist())

        return kept

    return wrap


def _while_room(*names: str) -> Callable[[Method[T]], Method[T]]:
    """Cache the tensors of a photo while there is room, by the choices that they depend on."""

    def wrap(make: Method[T]) -> Method[T]:
        def kept(self: Evaluator, index: int, parts: _Parts) -> T:
            def run() -> T:
                self.supernet.activate(parts.architecture)
                return make(self, index, parts)

            return self._tensors.get((make.__name__, index, *parts.of(names)), run)

        return kept

    return wrap


class Evaluator:
    """Scores architectures of a supernet on some photos.

    Args:
        supernet: the trained supernet. Its active architecture changes. Its weights must not change.
        photos: calibration photos, which are scored whole.
        objective: the objective to score. Over a range of rates, three anchors replace its lambda.
        device: where to compute.
        cache_bytes: size of the tensor cache. It does not affect the scores.
        lmbdas: over a range of rates, other rates to score at.
    """

    def __init__(
        self,
        supernet: Supernet,
        photos: Sequence[Photo],
        objective: Objective,
        *,
        device: torch.device | str = "cpu",
        cache_bytes: int = 1 << 30,
        lmbdas: Sequence[float] | None = None,
    ) -> None:
        self.supernet = supernet.to(device).eval()
        self.space = supernet.space
        self.photos = list(photos)
        if objective.metric == "ms-ssim" and any(min(photo.pixels.shape[:2]) <= 160 for photo in photos):
            raise InputError(
                "MS-SSIM needs photos of more than 160 pixels a side: take out the smaller ones."
            )
        own = scored(self.space.rates) if self.space.rates else (objective.lmbda,)
        self.lmbdas = own if lmbdas is None else tuple(lmbdas)
        self.objective = objective
        self.device = torch.device(device)
        self.calibration = fingerprint(self.photos)
        self._tensors = TensorCache(cache_bytes)
        self._numbers: dict[Any, Array] = {}  # [photos, numbers], NaN where not yet known

    @torch.no_grad()
    def score(self, architecture: Architecture) -> Score:
        """The score of one architecture.

        Args:
            architecture: an architecture of the evaluator's space.

        Returns:
            Its loss, bpp and PSNR, as means over the calibration photos.
        """
        return self._score([self._parts(architecture, lmbda) for lmbda in self.lmbdas])

    @torch.no_grad()
    def score_all(self, architectures: Sequence[Architecture], *, report: Report = silent) -> list[Score]:
        """The scores of many architectures, in an order that computes and stores little.

        One photo follows another, and neighbours in the graph follow each other. The scores equal those of
        `score`.

        Args:
            architectures: the architectures, in any order. The scores have the same order.
            report: called with the work done, the total work and a note.
        """
        every = [[self._parts(a, lmbda) for lmbda in self.lmbdas] for a in architectures]
        order = (*PSI, ENTROPY_PARAMETERS)
        ordered = sorted(
            (parts for each in every for parts in each),
            key=lambda parts: (*parts.of(order), parts.architecture.layout),
        )
        for index, photo in enumerate(self.photos):
            for number, parts in enumerate(ordered, 1):
                self._photo(index, parts)
                report(index * len(ordered) + number, len(self.photos) * len(ordered), photo.name)
        return [self._score(each) for each in every]

    @torch.no_grad()
    def latents(self, index: int, architecture: Architecture) -> tuple[Tensor, Tensor]:
        """psi and y_hat of one photo at the middle rate, which are the inputs of the context model.

        Args:
            index: place of the photo among the calibration photos.
            architecture: the architecture.

        Returns:
            psi [1, P, h, w] and y_hat [1, M, h, w].
        """
        parts = self._parts(architecture, self.lmbdas[len(self.lmbdas) // 2])
        return self._psi(index, parts), self._y_hat(index, parts)

    def _parts(self, architecture: Architecture, lmbda: float) -> _Parts:
        family, widths = self.space.family, self.space.layer_widths(architecture)
        choices: dict[str, Any] = {}
        for layer, width in widths.items():
            edge = family.edge_of(layer)
            choices[edge] = (*choices.get(edge, ()), width)
        choices[ENTROPY_WIDTHS[0]] = widths.get(ENTROPY_WIDTHS[0])
        choices |= {"layout": self.space.layout(architecture), "key": architecture.key, "lmbda": lmbda}
        return _Parts(architecture, bool(widths.get(HYPERPRIOR, family.has_z)), choices)

    def _score(self, each: Sequence[_Parts]) -> Score:
        return Score.of([self._point(parts) for parts in each])

    def _point(self, parts: _Parts) -> Point:
        rows = [self._photo(index, parts) for index in range(len(self.photos))]
        rates, errors, qualities = zip(*rows, strict=True)
        bpp, error = sum(rates) / len(rows), sum(errors) / len(rows)
        lmbda = parts.choices["lmbda"]
        return Point(lmbda, bpp, mean_psnr(qualities), self.objective.at(lmbda).loss(bpp, error))

    def _photo(self, index: int, parts: _Parts) -> Numbers:
        """bpp, distortion and PSNR of one photo."""
        if self.supernet.centred or not self.space.fixed_latents:
            rate, error, quality = self._whole(index, parts)
        else:
            error, quality = self._picture(index, parts)
            if parts.with_z:
                (rate_z,), (rate_y,) = self._z_bits(index, parts), self._y_bits(index, parts)
                rate = rate_z + rate_y
            else:
                (rate,) = self._y_bits_alone(index, parts)
        return rate / self.photos[index].size, error, quality

    # Numbers of a photo: bits, distortion and PSNR

    @_for_good("key", "lmbda")
    def _whole(self, index: int, parts: _Parts) -> Numbers:
        """All three numbers by one pass of the whole network."""
        x = self._x(index)
        padded, lmbda = pad(x, self.space.family.alignment), parts.choices["lmbda"]
        output = self.supernet(padded, parts.choices["layout"], lmbda=lmbda, coded=True)
        rate = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values())
        return rate, *self._quality(index, x, output["x_hat"])

    @_for_good(*X_HAT)
    def _picture(self, index: int, parts: _Parts) -> Numbers:
        y_hat = self.supernet.unscaled_y(self._y_hat(index, parts), parts.choices["lmbda"])
        x_hat = self.supernet.g_s(y_hat)
        return self._quality(index, self._x(index), x_hat)

    @_for_good(*Z)
    def _z_bits(self, index: int, parts: _Parts) -> Numbers:
        z_hat = self.supernet.round_z(self._z(index, parts))
        return (float(bits(self.supernet.prior.coded_likelihood(z_hat))[0]),)

    @_for_good(*Y_HAT)
    def _y_bits_alone(self, index: int, parts: _Parts) -> Numbers:
        return (float(bits(self.supernet.y_prior.coded_likelihood(self._y_hat(index, parts)))[0]),)

    @_for_good(*PSI, *Y_RATE_PARTS)
    def _y_bits(self, index: int, parts: _Parts) -> Numbers:
        context, gaussian = self.supernet.context, self.supernet.gaussian
        y_hat = self._y_hat(index, parts)
        if isinstance(context, ContextModel) and parts.choices["layout"].context == "convolution":
            plan = self._layout_plan(parts)
            hyper, seen = self._hyper_part(index, parts), self._context_part(index, parts)
            alone = self._bits_alone(index, parts) if plan.alone else None
            return (y_bits(gaussian, plan, y_hat, hyper, seen, alone),)
        scales, means = context(self._psi(index, parts), y_hat, parts.choices["layout"])
        coded = gaussian.coded_bits(y_hat, scales, means, float(coded_range(y_hat)))
        return (float(coded.sum(dtype=torch.float64)),)

    def _quality(self, index: int, x: Tensor, x_hat: Tensor) -> Numbers:
        """Distortion of the clamped picture, and its PSNR in 8 bits."""
        x_hat = x_hat[..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
        error = float(distortion(x, x_hat, self.objective.metric)[0])
        return error, psnr(self.photos[index].pixels, to_pixels(x_hat))

    # Tensors of a photo, in the order of the graph

    def _x(self, index: int) -> Tensor:
        return to_tensor(self.photos[index].pixels).to(self.device)

    @_while_room(*Y)
    def _y(self, index: int, parts: _Parts) -> Tensor:
        y: Tensor = self.supernet.g_a(pad(self._x(index), self.space.family.alignment))
        return y

    def _y_hat(self, index: int, parts: _Parts) -> Tensor:
        return quantize(self._scaled_y(index, parts), Y_LIMIT)

    def _scaled_y(self, index: int, parts: _Parts) -> Tensor:
        return self.supernet.scaled_y(self._y(index, parts), parts.choices["lmbda"])

    @_while_room(*Z)
    def _z(self, index: int, parts: _Parts) -> Tensor:
        return self.supernet.z_of(self._scaled_y(index, parts), parts.choices["lmbda"])

    @_while_room(*PSI)
    def _psi(self, index: int, parts: _Parts) -> Tensor:
        psi: Tensor = self.supernet.h_s(self.supernet.round_z(self._z(index, parts)))
        return psi

    @_while_room(*PSI, ENTROPY_WIDTHS[0])
    def _hyper_part(self, index: int, parts: _Parts) -> Tensor:
        return hyper_part(self._context, self._psi(index, parts))

    @_while_room(*Y_HAT, ENTROPY_WIDTHS[0], "layout")
    def _context_part(self, index: int, parts: _Parts) -> tuple[Tensor, ...]:
        y_hat, layout = self._y_hat(index, parts), parts.choices["layout"]
        return context_part(self._context, y_hat, layout, self._layout_plan(parts).phases)

    @_while_room(*PSI, ENTROPY_PARAMETERS)
    def _bits_alone(self, index: int, parts: _Parts) -> Tensor:
        hyper, gaussian = self._hyper_part(index, parts), self.supernet.gaussian
        return bits_alone(self._context, gaussian, self._y_hat(index, parts), hyper)

    def _layout_plan(self, parts: _Parts) -> LayoutPlan:
        """The layout plan, which is the same for every photo."""

        def make() -> LayoutPlan:
            self.supernet.activate(parts.architecture)
            return layout_plan(self._context, parts.choices["layout"])

        return self._tensors.get(("plan", *parts.of(Y_RATE_PARTS)), make)

    @property
    def _context(self) -> ContextModel:
        return cast(ContextModel, self.supernet.context)
