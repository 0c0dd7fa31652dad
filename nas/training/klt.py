"""Starting weights from Karhunen-Loeve transforms (KLT): g_a and g_s as the best linear codec of their shape.

Random weights need thousands of steps until the codec is as good as a block transform. A cascade of KLTs is a
block
transform: each stage turns blocks of its input into their principal components, so that all stages together
    turn
16x16 pixels into one position of y. Components are ordered by variance, which is the order in which a
supernet uses channels. Everything is learned from photos in seconds.

If the transforms consist of strided convolutions, every convolution is a stage with 2x2 blocks. If a linear
path runs beside learned layers, the layers of this path are the stages, and the other layers begin at zero
(`spaces.families.patch`). h_a is fitted so that it sees all channels of y alike.
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

PHOTOS = 60  # number of photos that the components are learned from
MIDDLE = 0.5  # middle of the range of pixels
BEND = 1e-3  # gamma of the GDNs, so small that they hardly change hidden values below about 10
ROUNDING_VARIANCE = 1 / 12  # variance of the noise that rounding adds
SEEN, FAINT = 0.5, 0.05  # scales of the inputs of h_a; z begins with few bits
MS_SSIM = 1280  # lambdas of MS-SSIM over those of MSE for about the same rate, in CompressAI's tables


@dataclass(frozen=True)
class TransformStage:
    """A stage of g_a and its mirror in g_s.

    Attributes:
        into: place of the stage's layer in g_a.
        back: place of the mirror's layer in g_s.
        size: side of the blocks.
        tap: place of a block's upper left element in the kernels.
        subpel: whether the mirror is a pointwise sub-pixel convolution. Otherwise it is a transposed one.
    """

    into: str
    back: str
    size: int = 2
    tap: int = 0
    subpel: bool = False

    def weights(self, kernels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Views of both kernels in the shape of the g_a stage, [outputs, inputs, k, k].

        Args:
            kernels: weights of the network by name.
        """
        into, back = (kernels[f"{name}.weight"] for name in (self.into, self.back))
        if self.subpel:
            back = back[..., 0, 0].unflatten(0, (-1, self.size, self.size)).permute(3, 0, 1, 2)
        return into, back


def best_step(lmbda: float) -> float:
    """The quantisation step of an orthonormal transform of 16x16 RGB blocks with values in [0, 1].

    It is the step at which the slopes of rate and of lambda times the distortion are equal at high rates
    (Sullivan and Wiegand, IEEE Signal Processing Magazine, 1998). A coefficient costs -log2(step) bits for
    256 pixels, and its error is step^2 / 12 for 768 values.

    Args:
        lmbda: weight of the distortion in the loss.
    """
    return math.sqrt(6 * 768 / (math.log(2) * 256 * 255**2 * lmbda))


def with_klt(space: SearchSpace, photos: Sequence[Photo], objective: Objective) -> dict[str, Tensor]:
    """Make weights of a space: g_a and g_s as cascades of KLTs, h_a fitted to their y, the rest random.

    If a layer has more channels than its input has components, the other channels begin at random. No channel
    in use reads them at first, so they do no harm until they are useful.

    Args:
        space: a space whose g_a and g_s halve and double the sides by single convolutions with GDNs between
            them, or whose g_a and g_s have a linear path.
        photos: photos that the components are learned from. The first 60 are used.
        objective: objective for which y is scaled.

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
    if space.family.context:  # the scales of y begin at their average values
        weights["context.entropy_parameters.4.bias"][: len(y)] = (y.var(1) + ROUNDING_VARIANCE).sqrt()
    first = stages[0]
    weights[f"{first.into}.bias"] -= MIDDLE * weights[f"{first.into}.weight"].sum((1, 2, 3))
    weights[f"{first.back}.bias"] += MIDDLE
    for name, tensor in weights.items():
        if name.endswith(".gamma"):
            tensor *= math.sqrt(BEND / 0.1)  # gamma begins at 0.1 and is stored as its square root
    return weights


def _fit_h_a(weights: dict[str, Tensor], edge: Edge, y: Tensor) -> None:
    """Make h_a see all channels of y with equal size, and magnitudes if it does not read magnitudes already.

    Scales follow from magnitudes. Pairs of units with opposite signs that look at one channel each give its
    magnitude from the start, for as many channels as there are pairs. Everything else is seen faintly.
    Otherwise the first channel of y, tens of times as large as most, would hide the rest.

    Args:
        weights: all weights. Those of h_a are changed.
        edge: description of h_a.
        y: y before rounding, [channels, n]. Weights of further channels of h_a stay as they are.
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


def stages_of(space: SearchSpace) -> list[TransformStage]:
    """The stages of g_a, beginning at the picture, with their mirrors in g_s.

    Args:
        space: the search space.

    Raises:
        InputError: g_a or g_s has more than convolutions of stride 2 with GDNs between them, and no linear
            path.
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
    return [
        TransformStage(f"g_a.{one}", f"g_s.{other}", tap=kernel // 2) for (one, kernel), (other, _) in pairs
    ]


def _linear_path(space: SearchSpace) -> list[TransformStage]:
    """The stages of a linear path beside learned layers. Empty if the family has no such path."""
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
        TransformStage(into, f"{back}.0", layer.stride, subpel=True)
        for (into, layer), (back, _) in zip(down, reversed(up), strict=True)
        if isinstance(layer, Conv)
    ]


def _chain(edge: Edge, kind: type[Conv] | type[Deconv]) -> list[tuple[int, int]]:
    """Place and kernel of each convolution of an edge. Empty if the edge is of another kind."""
    convolutions = []
    for index, layer in enumerate(edge.layers):
        if isinstance(layer, kind) and layer.stride == 2 and layer.kernel >= 3:
            convolutions.append((index, layer.kernel))
        elif not isinstance(layer, GDN):
            return []
    return convolutions


def _whole(x: Tensor, size: int) -> Tensor:
    """Cut the last rows and columns of [C, H, W] that do not fill a block."""
    return x[:, : x.shape[1] // size * size, : x.shape[2] // size * size]


def _components(blocks: Sequence[Tensor]) -> Tensor:
    """The principal components of the columns of [channels, H, W] as rows, ordered by variance."""
    flat = torch.cat([block.flatten(1) for block in blocks], 1).double()
    vectors: Tensor = torch.linalg.eigh(flat @ flat.T / flat.shape[1]).eigenvectors
    return vectors.flip(1).T.float()
