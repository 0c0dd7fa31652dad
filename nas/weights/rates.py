"""Weights of one rate from those of a range of rates, and the reverse.

A network of one rate has no gains: they are multiplied into the layers that make y and z, and into those that
read y. It then codes exactly what the network with gains codes at that rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nas.graph.gains import interpolate_gains
from nas.spaces.description import Conv, Deconv, Family, Layer, Parallel, Residual, Subpel, placements
from nas.support.errors import InputError

Tensors = Mapping[str, Tensor]
GAINS = ("gains.", "hyper_gains.")
GAIN, INVERSE = "gains.log_gain", "gains.log_inverse"
HYPER_GAIN, HYPER_SHIFT = "hyper_gains.log_gain", "hyper_gains.shift"


def at_one_rate(
    tensors: Tensors, family: Family, anchors: tuple[float, ...], lmbda: float
) -> dict[str, Tensor]:
    """The weights of one rate, without gains.

    Args:
        tensors: weights of a network over a range of rates, by name.
        family: its family.
        anchors: lambdas of its anchors, rising.
        lmbda: lambda of the rate that is wanted. Beyond the range it is the nearest end.

    Returns:
        Tensors by name, shapes unchanged.

    Raises:
        InputError: g_s adds y to what it computes, so that its gain cannot be multiplied into a layer.
    """
    weights = {
        name: value for name, value in tensors.items() if not name.startswith(("gains.", "hyper_gains."))
    }
    gain, inverse = (interpolate_gains(tensors[name], anchors, lmbda).exp() for name in (GAIN, INVERSE))
    for name in _writers("g_a", family, "y"):
        _scale_outputs(weights, name, gain)
    for name, layer in _readers(family):
        if f"{name}.weight" in weights:  # an architecture of depth 0 has not all of them
            shape = (-1, 1, 1, 1) if isinstance(layer, Deconv) else (1, -1, 1, 1)
            weights[f"{name}.weight"] = weights[f"{name}.weight"] * inverse.view(shape)
    if HYPER_GAIN in tensors:
        gain, shift = (interpolate_gains(tensors[name], anchors, lmbda) for name in (HYPER_GAIN, HYPER_SHIFT))
        for name in _writers("h_a", family, "z"):
            _scale_outputs(weights, name, gain.exp(), shift)
    return weights


def over_range(
    fresh: Tensors, tensors: Tensors, anchors: tuple[float, ...], lmbda: float
) -> dict[str, Tensor]:
    """Weights of one rate as those of a range: at that rate they code as before.

    Args:
        fresh: the initial weights of a network over the range, by name, of which only gains are taken.
        tensors: weights of a network of one rate, by name.
        anchors: lambdas of the range's anchors, rising.
        lmbda: lambda that the weights were trained for.

    Returns:
        Tensors by name, shapes unchanged beside the gains that come along.
    """
    gains = {name: value for name, value in fresh.items() if name.startswith(GAINS)}
    logs = torch.tensor([0.5 * math.log(anchor / lmbda) for anchor in anchors])[:, None]
    gains[GAIN], gains[INVERSE] = logs.expand_as(gains[GAIN]).clone(), -logs.expand_as(gains[INVERSE])
    return {**tensors, **gains}


def _writers(edge: str, family: Family, node: str) -> list[str]:
    """The names of the layers of an edge that make a node."""
    return [
        f"{edge}.{placed.place}"
        for placed in placements(family.edges[edge])
        if isinstance(placed.layer, Conv) and placed.layer.outputs == node
    ]


def _readers(family: Family) -> list[tuple[str, Layer]]:
    """The layers of g_s that read y itself, by name."""
    first = family.edges["g_s"].layers[0]
    return list(_first("g_s.0", first, family.name))


def _first(name: str, layer: Layer, family: str) -> Iterator[tuple[str, Layer]]:
    match layer:
        case Conv() | Deconv():
            yield name, layer
        case Subpel():
            yield f"{name}.0", layer
        case Parallel():
            for branch in layer.branches:
                yield from _first(f"{name}.{branch.name}.0", branch.layers[0], family)
        case Residual() if layer.shortcut:
            for part, own in (layer.body[0], layer.shortcut):
                yield from _first(f"{name}.{part}", own, family)
        case _:
            raise InputError(
                f"These weights are of a range of rates, and g_s of {family} adds y to what it computes, so "
                "they cannot be had at one rate: give a range, such as --lmbda 0.0018..0.18."
            )


def _scale_outputs(weights: dict[str, Tensor], name: str, gain: Tensor, shift: Tensor | float = 0.0) -> None:
    if f"{name}.weight" in weights:  # an architecture of depth 0 has not all of them
        weights[f"{name}.weight"] = weights[f"{name}.weight"] * gain[:, None, None, None]
        weights[f"{name}.bias"] = weights[f"{name}.bias"] * gain + shift
