"""Generalised divisive normalisation (GDN), computed in pieces that stay in the cache.

::

    n = beta + gamma @ x^2        at every position, over the channels
    out = x / sqrt(n)             or x * sqrt(n), its inverse

Over a whole image, each step reads and writes a tensor far larger than any cache, so that GDN takes several
times as long as its MACs would suggest. Here, a few hundred positions at a time go through all steps, forward
and also backward. Backward starts from x alone, so training keeps nothing but x. The numbers are CompressAI's
up to rounding, and the MACs per position are exactly the entries of gamma.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nas.graph import _compressai
from nas.graph.layers.width import Width

# Number of values in a piece for each thread: with its squares and sums, it fits into a core's L2 cache.
PIECE_OF_INPUT = 1 << 16
# Number of values in an image from which pieces are faster. Smaller images fit into a cache as they are.
LARGE_INPUT = 1 << 18


def normalize(x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool, *, in_place: bool = False) -> Tensor:
    """GDN of x, in x's memory format.

    Args:
        x: [B, C, H, W].
        beta, gamma: effective parameters, [C] and [C, C] (output channel first), not negative.
        inverse: multiply by the square root instead of dividing by it.
        in_place: the caller does not need x any more. If no gradient is wanted, the result may overwrite it.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (x, beta, gamma))
    if not _in_pieces(x, beta, wanted):
        norm = F.conv2d(x**2, gamma[:, :, None, None], beta)
        return x * (torch.sqrt(norm) if inverse else torch.rsqrt(norm))
    if wanted:
        return cast(Tensor, _Normalize.apply(x, beta, gamma, inverse))
    return _forward(x, beta, gamma, inverse, in_place)


def _in_pieces(x: Tensor, beta: Tensor, wanted: bool) -> bool:
    """Whether pieces help and are possible: on a CPU, in one precision, and not for a compiler or tracer."""
    if x.device.type != "cpu" or x.dtype != beta.dtype or torch.is_autocast_enabled("cpu"):
        return False
    if x[0].numel() < LARGE_INPUT:
        return False
    return not (torch.compiler.is_compiling() or (wanted and torch.jit.is_tracing()))


def _pieces(last: bool, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching pieces of tensors [B, C, H, W]: [positions, C] if channels are last, else [C, positions]."""
    size = max(1, PIECE_OF_INPUT * torch.get_num_threads() // tensors[0].shape[1])
    if last:
        rows = [t.permute(0, 2, 3, 1).flatten(0, 2) for t in tensors]
        yield from zip(*(r.split(size) for r in rows), strict=True)
    else:
        for images in zip(*(t.flatten(2) for t in tensors), strict=True):
            yield from zip(*(image.split(size, 1) for image in images), strict=True)


def _dense(x: Tensor) -> tuple[Tensor, bool]:
    """x in one of the two memory formats, and whether channels are last in it."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return (x, True) if last else (x.contiguous(), False)


def _norm(squares: Tensor, beta: Tensor, gamma: Tensor, last: bool) -> Tensor:
    return torch.addmm(beta, squares, gamma.t()) if last else torch.addmm(beta[:, None], gamma, squares)


def _forward(x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool, in_place: bool) -> Tensor:
    x, last = _dense(x)
    out = x if in_place else torch.empty_like(x)
    for values, result in _pieces(last, x, out):
        norm = _norm(values.square(), beta, gamma, last)
        torch.mul(values, norm.sqrt_() if inverse else norm.rsqrt_(), out=result)
    return out


class _Normalize(torch.autograd.Function):
    """Keeps x, and computes everything else again in backward, piece by piece."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
        ctx.save_for_backward(x, beta, gamma)
        ctx.inverse = inverse
        return _forward(x, beta, gamma, inverse, in_place=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, beta, gamma = ctx.saved_tensors
        x, last = _dense(x)
        gradient = gradient.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        of_x, of_beta, of_gamma = torch.empty_like(x), torch.zeros_like(beta), torch.zeros_like(gamma)
        for values, upper, result in _pieces(last, x, gradient, of_x):
            squares = values.square()
            norm = _norm(squares, beta, gamma, last)
            factor = norm.sqrt_() if ctx.inverse else norm.rsqrt_()
            twice = upper * values  # becomes twice the gradient of the norm
            twice = twice.div_(factor) if ctx.inverse else twice.mul_(factor.pow(3)).neg_()
            torch.mul(upper, factor, out=result)
            if last:
                result.addcmul_(values, twice @ gamma)
                of_gamma.addmm_(twice.t(), squares, alpha=0.5)
                of_beta.add_(twice.sum(0), alpha=0.5)
            else:
                result.addcmul_(values, gamma.t() @ twice)
                of_gamma.addmm_(twice, squares.t(), alpha=0.5)
                of_beta.add_(twice.sum(1), alpha=0.5)
        return of_x, of_beta, of_gamma, None


class GDN(_compressai.GDN):
    """CompressAI's GDN, with the same parameters, state dict and results.

    Attributes:
        in_place: whether its input may be overwritten, see `normalize`.
    """

    in_place = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, [B, C, H, W]."""
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)
        return normalize(x, beta, gamma, self.inverse, in_place=self.in_place)


class SlimmableGDN(GDN):
    """GDN with `gamma[:c, :c]` and `beta[:c]`, adjusted by four learned scalars per width.

    The scalars are a scale and a shift of beta and of gamma, as in SlimCAE (Yang et al., CVPR 2021). Those of
    the widest width are fixed at scale 1 and shift 0. Export folds them into beta and gamma.

    Args:
        width: the channels, whose number is chosen at run time.
        inverse: multiply by the norm instead of dividing by it (IGDN).
    """

    beta_minimum = 1e-6

    def __init__(self, width: Width, inverse: bool) -> None:
        super().__init__(width.full, inverse=inverse)
        self.width = width
        # rows: all widths but the widest; columns: beta's scale and shift, gamma's scale and shift
        identity = torch.tensor([1.0, 0.0, 1.0, 0.0])
        self.adjust = torch.nn.Parameter(identity.repeat(len(width.candidates) - 1, 1))
        self.register_buffer("identity", identity[None], persistent=False)

    def _scalars(self) -> Tensor:
        table = torch.cat([self.adjust, cast(Tensor, self.identity)])
        if self.width.gates is not None:
            return self.width.gates.to(table.dtype) @ table
        return table[self.width.index]

    def parameters_in_use(self) -> tuple[Tensor, Tensor]:
        """Effective beta [c] and gamma [c, c] at the active width."""
        c = self.width.active
        scale_b, shift_b, scale_g, shift_g = self._scalars().unbind()
        beta = self.beta_reparam(self.beta[:c]) * scale_b + shift_b
        gamma = self.gamma_reparam(self.gamma[:c, :c]) * scale_g + shift_g
        return beta.clamp_min(self.beta_minimum), gamma.clamp_min(0)

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain GDN at the active width.

        Returns:
            Tensors by name: beta [active] and gamma [active, active].
        """
        beta, gamma = self.parameters_in_use()
        return {
            "beta": self.beta_reparam.init(beta),
            "gamma": self.gamma_reparam.init(gamma),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, [B, c, H, W], at the active width; without gradients, bit-exact with the export."""
        if torch.is_grad_enabled():
            return normalize(x, *self.parameters_in_use(), self.inverse)
        stored = self.sliced()
        beta, gamma = self.beta_reparam(stored["beta"]), self.gamma_reparam(stored["gamma"])
        return normalize(x, beta, gamma, self.inverse, in_place=self.in_place)
