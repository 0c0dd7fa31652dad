"""A start for training: g_a and g_s as the best linear codec of their shape, h_a with an even view of its y.

From random weights thousands of steps go by before a codec is as good as a block transform. A cascade of
Karhunen-Loeve transforms is one: each stage turns blocks of its input into their principal components, so
that the stages together turn 16x16 pixels into one position of y. Components come in the order of their
variance, which is the order in which a supernet takes channels. All are learned from photos in seconds.

In transforms of strided convolutions every convolution is a stage of 2x2 blocks. Where a linear path stands
beside learned ones, its layers are the stages; what stands beside it begins at zero (`graph.families.patch`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.spaces.description import GDN, Branch, Conv, Deconv, Edge, Parallel, Subpel
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

PHOTOS = 60  # that the components are learned from
MIDDLE = 0.5  # of the range of pixels
BEND = 1e-3  # gamma of the GDNs: hidden values stay below 10 or so, which they hardly bend
ROUNDING_VARIANCE = 1 / 12  # the variance of what rounding adds
SEEN, FAINT = 0.5, 0.05  # how large h_a sees a channel of y; z begins with few bits
MS_SSIM = 1280  # lambdas of MS-SSIM over those of MSE for about the same rate, in CompressAI's tables


@dataclass(frozen=True)
class Stage:
    """A stage of g_a and its mirror in g_s.

    Attributes:
        into, back: where their layers stand.
        size: of a block, across.
        tap: the upper left tap of a block in the kernels.
        subpel: whether the mirror is a pointwise sub-pixel convolution; else it is a transposed one.
    """

    into: str
    back: str
    size: int = 2
    tap: int = 0
    subpel: bool = False

    def weights(self, kernels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Views of both kernels, [outputs, inputs, k, k] of the stage of g_a.

        Args:
            kernels: weights of the network by name.
        """
        into, back = (kernels[f"{name}.weight"] for name in (self.into, self.back))
        if self.subpel:
            back = back[..., 0, 0].unflatten(0, (-1, self.size, self.size)).permute(3, 0, 1, 2)
        return into, back


def best_step(lmbda: float) -> float:
    """The step of quantisation of an orthonormal transform of 16x16 RGB blocks of values in [0, 1].

    Where the slopes of rate and of lambda times the distortion meet at high rates (Sullivan and Wiegand,
    IEEE Signal Processing Magazine, 1998): a coefficient costs -log2(step) bits of 256 pixels, and errs by
    step^2 / 12 of 768 values.

    Args:
        lmbda: weight of the distortion in the loss.
    """
    return math.sqrt(6 * 768 / (math.log(2) * 256 * 255**2 * lmbda))


def with_klt(space: SearchSpace, photos: Sequence[Photo], objective: Objective) -> dict[str, Tensor]:
    """The weights of a space: g_a and g_s a cascade of KLTs, h_a fitted to their y, all else at random.

    Where a layer has more channels than its input has components, the others begin at random, and no channel
    in use sees them yet: they disturb nothing until they are of use.

    Args:
        space: whose g_a and g_s halve and double the sides by single convolutions with GDNs between, or have
            a linear path beside all else.
        photos: that the components are learned from; the first 60.
        objective: for which y is scaled.

    Returns:
        Tensors by name, in the shapes of the space's supernet.

    Raises:
        InputError: g_a or g_s is of another kind, or the photos are too small to learn from.
    """
    lmbda = objective.lmbda if objective.metric == "mse" else objective.lmbda / MS_SSIM
    stages, gain = stages_of(space), 1 / best_step(lmbda)
    side = math.prod(stage.size for stage in stages)
    photos = [photo for photo in photos[:PHOTOS] if min(photo.pixels.shape[:2]) >= side]
    if sum((photo.pixels.shape[0] // side) * (photo.pixels.shape[1] // side) for photo in photos) < 2:
        raise InputError(
            f"A KLT is learned from blocks of {side}x{side} pixels, and the training photos hold fewer than "
            "two: give larger photos, or leave --init-from out."
        )
    weights = {name: tensor.clone() for name, tensor in Supernet(space).state_dict().items()}
    pixels = (torch.from_numpy(photo.pixels.copy()).permute(2, 0, 1) / 255 for photo in photos)
    features, inputs = [x - MIDDLE for x in pixels], 3
    for number, stage in enumerate(stages, 1):
        blocks = [F.pixel_unshuffle(_whole(x, stage.size), stage.size) for x in features]
        into, back = stage.weights(weights)
        basis = _components(blocks)[: min(len(into), len(back))]  # [used, inputs * size^2]
        features, used = [torch.einsum("ki,ihw->khw", basis, block) for block in blocks], len(basis)
        scale = gain if number == len(stages) else 1.0
        taps = slice(stage.tap, stage.tap + stage.size)
        for weight, times in ((into, scale), (back, 1 / scale)):  # both [outputs, inputs, k, k] of the stage
            weight[:used, :inputs] = 0
            weight[:used, :inputs, taps, taps] = times * basis.unflatten(1, (inputs, stage.size, stage.size))
        into[:used, inputs:] = 0
        back[used:, :inputs] = 0
        for name in (stage.into, stage.back):
            weights[f"{name}.bias"].zero_()
        inputs = used
    y = gain * torch.cat([part.flatten(1) for part in features], 1)
    if "h_a" in space.family.edges:
        _fit_h_a(weights, space.family.edges["h_a"], y)
    if space.family.context:  # the scales of y begin as they are on average
        weights["context.entropy_parameters.4.bias"][: len(y)] = (y.var(1) + ROUNDING_VARIANCE).sqrt()
    first = stages[0]
    weights[f"{first.into}.bias"] -= MIDDLE * weights[f"{first.into}.weight"].sum((1, 2, 3))
    weights[f"{first.back}.bias"] += MIDDLE
    for name, tensor in weights.items():
        if name.endswith(".gamma"):
            tensor *= math.sqrt(BEND / 0.1)  # it begins with 0.1, and is kept as its root
    return weights


def _fit_h_a(weights: dict[str, Tensor], edge: Edge, y: Tensor) -> None:
    """Have h_a see the channels of y alike large, and magnitudes where it does not read them.

    Scales follow from magnitudes. Units in pairs of opposite sign that look at one channel each have them
    from the start, for as many channels as there are pairs. Anything else is seen faintly; the first channel
    of y, tens of times as large as most, would drown it.

    Args:
        weights: all weights; those of h_a are changed.
        edge: h_a.
        y: [channels, n], before rounding; h_a sees what lies beyond those channels as it did.
    """
    first, second = [f"h_a.{index}" for index, layer in enumerate(edge.layers) if isinstance(layer, Conv)][:2]
    weight, bias, after = (weights[name] for name in (f"{first}.weight", f"{first}.bias", f"{second}.weight"))
    unit = 1 / (y.var(1) + ROUNDING_VARIANCE).sqrt()  # [channels]
    seen = weight[:, : len(unit)]
    if edge.magnitude:
        seen *= SEEN * unit[:, None, None]
        return
    seen *= FAINT * unit[:, None, None]
    paired = len(weight) // 2 * 2
    looked_at = torch.arange(min(paired // 2, len(unit)))
    middle = weight.shape[-1] // 2
    seen[2 * looked_at, looked_at, middle, middle] += SEEN * unit[looked_at]
    bias -= seen.sum((2, 3)) @ y.mean(1)
    for values in (weight, bias):
        values[1::2] = -values[:paired:2]
    after[:, 1::2] = after[:, :paired:2]


def stages_of(space: SearchSpace) -> list[Stage]:
    """The stages of g_a, from the picture on, with their mirrors in g_s.

    Args:
        space: the search space.

    Raises:
        InputError: there is more in g_a or g_s than convolutions of stride 2 with GDNs between, and no linear
            path beside it.
    """
    if linear := _linear_path(space):
        return linear
    down, up = (_chain(space.family.edges[name], kind) for name, kind in (("g_a", Conv), ("g_s", Deconv)))
    if not down or len(down) != len(up):
        raise InputError(
            f"The transforms of {space.family.name} are not single convolutions with GDNs between, so they "
            "cannot begin as a KLT: leave --init-from out."
        )
    pairs = zip(down, reversed(up), strict=True)
    return [Stage(f"g_a.{one}", f"g_s.{other}", tap=kernel // 2) for (one, kernel), (other, _) in pairs]


def _linear_path(space: SearchSpace) -> list[Stage]:
    """The stages of a linear path beside learned ones; none where the family has no such path."""
    paths = []
    for name, kind in (("g_a", Conv), ("g_s", Subpel)):
        match space.family.edges[name].layers:
            case (Parallel(branches=(Branch(layers=layers) as first, *_)),):
                if not all(isinstance(layer, kind) for layer in layers):
                    return []
                places = [f"{name}.0.{first.name}.{number}" for number in range(len(layers))]
                paths.append(list(zip(places, layers, strict=True)))
            case _:
                return []
    down, up = paths
    return [
        Stage(into, f"{back}.0", layer.stride, subpel=True)
        for (into, layer), (back, _) in zip(down, reversed(up), strict=True)
        if isinstance(layer, Conv)
    ]


def _chain(edge: Edge, kind: type[Conv] | type[Deconv]) -> list[tuple[int, int]]:
    """Place and kernel of each convolution of an edge; none where it is of another kind."""
    convolutions = []
    for index, layer in enumerate(edge.layers):
        if isinstance(layer, kind) and layer.stride == 2 and layer.kernel >= 3:
            convolutions.append((index, layer.kernel))
        elif not isinstance(layer, GDN):
            return []
    return convolutions


def _whole(x: Tensor, size: int) -> Tensor:
    """[C, H, W] without the last rows and columns that make no whole block."""
    return x[:, : x.shape[1] // size * size, : x.shape[2] // size * size]


def _components(blocks: Sequence[Tensor]) -> Tensor:
    """The principal components of the columns of [channels, H, W], as rows in the order of their variance."""
    flat = torch.cat([block.flatten(1) for block in blocks], 1).double()
    vectors: Tensor = torch.linalg.eigh(flat @ flat.T / flat.shape[1]).eigenvectors
    return vectors.flip(1).T.float()
