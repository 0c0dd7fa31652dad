"""For any family: a small space that can be enumerated, and a seeded supernet. Nothing here names a layer."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.codec.codec import Codec
from nas.codec.quantize import quantized
from nas.cost.counting.table import CostTable
from nas.cost.counting.tabulate import measured_costs
from nas.graph.network import Supernet
from nas.graph.priors import FactorizedPrior
from nas.photos.tensors import pad, to_tensor
from nas.shipped import zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.description import ENTROPY_PARAMETERS, HYPERPRIOR, Family, ends, placements
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import Checkpoint, load_weights

TRAINED_SPACE, TRAINED_LAMBDA = "joint-ar-tiny", 0.0035
TRAINED = zoo_run(TRAINED_SPACE).weights_path  # what tests take where weights have to be trained ones
QUANTIZERS = ("integer", "centred")
Y, Z = 6, 4
LAYOUTS: list[Any] = [
    "none",
    "raster",
    {"name": "uneven", "groups": [1, 3, 2], "slope": [0, 0], "tile": [[[0, 1]], [[2, 0]], [[1, 2]]]},
]


def content_of(family: Family, **changes: Any) -> dict[str, Any]:
    """A small space of a family, as its YAML file has it.

    Edges with one slot, a layer with its own, a tie with odd halves, depths from 0 and the hyperprior as
    switches, an uneven layout where there is a context model.
    """
    edges: dict[str, list[str]] = {}
    for choice in family.choices:
        edges.setdefault(choice.rsplit(".", 1)[0], []).append(choice)
    widths: dict[str, Any] = {}
    hyper: dict[str, float] = {}
    for edge, members in edges.items():
        if set(members) <= family.switches:
            widths[edge] = [0, 1, 2] if set(members) <= family.depths else [0, 3]
        elif family.switches - family.depths and edge in (
            "linear",
            "g_a_inner",
            "g_s_inner",
        ):  # few enough to count
            tie = widths.setdefault("others", {"candidates": [3, 4], "layers": {}})
            tie["layers"] |= dict.fromkeys(members, 1)
        elif edge in ("h_a", "h_s"):
            hyper |= dict(zip(members, itertools.cycle((1, 0.5, 1.5)), strict=False))
        elif edge == "g_s":
            widths[members[0]] = [2, 4]
            widths["decoder"] = {"candidates": [3, 4], "layers": dict.fromkeys(members[1:], 1)}
        else:
            widths[edge] = {"g_a": [2, 3, 5], ENTROPY_PARAMETERS: [5, 9]}.get(edge, [2, 3])
    content: dict[str, Any] = {"family": family.name, "latents": {"y": Y}, "window": 3, "widths": widths}
    if family.has_z:
        content["latents"]["z"] = Z
        widths |= {"hyper": {"candidates": [3, 7], "layers": hyper}, HYPERPRIOR: [0, 1]}
    if family.context:
        content |= {"layouts": LAYOUTS, "grouping": {"groups": 2, "tile": [1, 2], "stages": [2]}}
        if family.switches - family.depths:  # one family with features of its own numbers
            content["features"] = {"psi": 7, "phi": 4}
    return content | changes


def _everything(family: Family, *without: str) -> dict[str, float]:
    """One tie over all of a family's channels and its latents."""
    nodes = ("y", "z") if family.has_z else ("y",)
    return {layer: 1 for layer in (*family.choices, *nodes) if layer not in without}


def _slimming() -> dict[str, dict[str, Any]]:
    """Spaces in which y and z are choices themselves."""
    mean, scale, alone = (
        FAMILIES[name] for name in ("mean-scale-hyperprior", "scale-hyperprior", "factorized")
    )
    tied = {"candidates": [3, 5, 6], "layers": _everything(mean)}
    apart = {"candidates": [2, 5], "layers": _everything(scale, "y", "z", "g_s.1")}
    half = {"candidates": [4, 8], "layers": _everything(alone, "g_s.1") | {"y": 0.5}}
    return {
        "slim-mean-scale": {"family": mean.name, "widths": {"width": tied, HYPERPRIOR: [0, 1]}},
        "slim-scale": {
            "family": scale.name,
            "widths": {"width": apart, "y": [3, 6], "z": [2, 3, 4], "g_s.1": [2, 4], HYPERPRIOR: [0, 1]},
        },
        "slim-factorized": {"family": alone.name, "widths": {"width": half, "g_s.1": [2, 4]}},
    }


def _with_tables(phi: int, *layouts: str) -> dict[str, Any]:
    """A space of layouts that read their context by a table, beside others."""
    tables = ["checkerboard-table", LAYOUTS[-1] | {"name": "uneven-table", "context": "table"}]
    return content_of(FAMILIES["joint-ar"], layouts=[*layouts, *tables], features={"phi": phi})


def _contents() -> dict[str, dict[str, Any]]:
    plain = {name: content_of(family) for name, family in FAMILIES.items()} | _slimming()
    plain["tables"] = _with_tables(5, "none", "raster")
    return {
        f"{name}-{quantizer}": content | {"quantizer": quantizer}
        for name, content in plain.items()
        for quantizer in QUANTIZERS
    }


CONTENTS = _contents()
SPACES = {name: SearchSpace.from_dict(content, name=name) for name, content in CONTENTS.items()}
INTEGER = {name: space for name, space in SPACES.items() if space.quantizer == "integer"}
NAMES, INTEGER_NAMES = list(SPACES), list(INTEGER)
ONE_QUANTIZER = [*NAMES[::4], *NAMES[3::4]]  # each family with one quantiser, alternately


def others_slow(names: Iterable[str], fast: Collection[str]) -> list[Any]:
    """Parameters of a test: `fast` among the fast tests, all other names among the slow ones."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


RATED_FROM = ("factorized-integer", "mean-scale-hyperprior-centred", "joint-ar-integer", "patch-integer")
TABLES = SearchSpace.from_dict(_with_tables(0), name="tables-alone")
RATED = {
    f"{name}-rates": replace(space, rates=(0.002, 0.01, 0.05))
    for name, space in [*((name, SPACES[name]) for name in RATED_FROM), ("tables-alone", TABLES)]
}


@cache
def net_of(name: str) -> Supernet:
    """The supernet of one of the spaces; tests must leave its weights as they are."""
    space = (SPACES | RATED)[name]
    net = seeded_supernet(space, seed=len(name))
    with torch.no_grad():  # few layers or many, latents lie within their limits
        layout = net.activate(space.widest())
        for weight in last_weights(net, "g_a"):
            weight.mul_(min(1, 60 / net(image(0), layout)["y"].abs().max()))
        if hasattr(net, "h_a"):
            z = net(image(0), layout)["z"]
            for weight in last_weights(net, "h_a"):
                weight.mul_(60 / z.abs().max())
    return net


@cache
def table_of(name: str) -> CostTable:
    return measured_costs(SPACES[name])


def seeded_supernet(space: SearchSpace, *, seed: int = 0, spread: float = 500.0) -> Supernet:
    """A supernet with seeded weights, perturbed so that no latent is all zero and no scalar is trivial.

    `spread` multiplies the last weights of g_a; at 500 the latents reach 5 (narrowest) to 30 from zero.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Supernet(space).eval()
        with torch.no_grad():
            for value in net.parameters():
                if value.ndim == 4 and not value.any():  # layers that begin with zeros have something to say
                    value.add_(torch.randn_like(value) / value[0].numel() ** 0.5)
            for edge, factor in (("g_a", spread), ("h_a", 100), ("h_s", 5), ("context", 5)):
                if hasattr(net, edge):
                    for weight in last_weights(net, edge):
                        weight.mul_(factor)
            for name, value in net.named_parameters():
                kind = name.rsplit(".", 1)[-1]
                if kind in ("gamma", "adjust"):
                    value.add_(0.1 * torch.rand_like(value))
                elif kind == "beta":
                    value.mul_(1 + torch.rand_like(value))
            if hasattr(net, "context") and hasattr(net.context, "table"):
                net.context.table.log_factor.normal_()
            for name, gains in net.named_children():
                for value in gains.parameters() if name in ("gains", "hyper_gains") else ():
                    value.add_(0.2 * torch.randn_like(value))
            for prior in (module for module in net.modules() if isinstance(module, FactorizedPrior)):
                for name, value in prior.named_parameters():
                    if "bias" in name:
                        value.add_(0.2 * torch.rand_like(value))
            if net.centred:
                for prior in net.priors:
                    prior.update_medians()
    return net


def last_weights(net: Supernet, edge: str) -> list[Tensor]:
    """The weights of the convolutions that end an edge, and of the context prediction."""
    module = net.get_submodule(edge)
    found = {name: value for name, value in module.named_parameters() if name.endswith("weight")}
    if edge not in net.space.family.edges:
        return [v for name, v in found.items() if name == list(found)[-1] or "context_prediction" in name]
    placed = list(placements(net.space.family.edges[edge]))
    node = ends(next(each.layer for each in reversed(placed) if ends(each.layer)))[-1]
    last = [each.place for each in placed if ends(each.layer)[1:] == (node,) and each.depth is None]
    return [v for name, v in found.items() if name.removesuffix(".weight").removesuffix(".0") in last]


def image(seed: int, height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
    """Smooth noise in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(batch, 3, height // 8, width // 8, generator=rng)
    return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def one_hot(space: SearchSpace, architecture: Architecture) -> dict[str, Tensor]:
    """The gates that stand for one architecture."""
    places = space.indexes(architecture)
    return {
        slot.name: F.one_hot(torch.tensor(place), len(slot.candidates)).float()
        for slot, place in zip(space.slots, places[:-1], strict=True)
    }


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of its state."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same_state(module: nn.Module, before: dict[str, Tensor]) -> None:
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to 1e-5 of the largest value."""
    for name, value in expected.items():
        scale = float(value.detach().abs().max())
        torch.testing.assert_close(
            found[name], value, rtol=1e-5, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def trained_codec(photo: np.ndarray) -> Codec:
    """The narrowest codec of zoo:joint-ar-tiny in checkerboard order, exact by a corner of a photo."""

    space = SearchSpace.load("joint-ar-tiny")
    net = Supernet(space)
    load_weights(net, Checkpoint.read(TRAINED).tensors, source="zoo:joint-ar-tiny")
    architecture = space.uniform(0.0, "checkerboard")
    codec = Codec(net.extract(architecture), architecture)
    return exact_codec(codec, pad(to_tensor(photo[:128, :128]), 64))


def exact_codec(codec: Codec, *pictures: Tensor) -> Codec:
    """The same codec with its entropy path in integer arithmetic, calibrated on some pictures."""
    latents = [(y_hat, z_hat) for y_hat, z_hat in map(codec.latents, pictures) if z_hat is not None]
    return quantized(codec, latents)
