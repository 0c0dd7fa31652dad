"""Runs g_a and g_s on a large picture tile by tile: the same numbers with bounded memory.

::

    crop of the input      the core, and everything around it that the edge reads (`overlap`), cut at the
    border
      --edge-->            the same computation as for the whole picture
    core of the output     kept; the rest, which the borders of the crop affect, is dropped

The entropy path is not split: y takes only a hundredth of the memory of activations inside g_a.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from nas.graph.affine import exact_arithmetic
from nas.graph.network import CodecNetwork
from nas.photos.tensors import Padded
from nas.spaces import description as spec
from nas.spaces.description import Y_REDUCTION, Z_REDUCTION
from nas.spaces.layout import Layout
from nas.support.errors import InputError
from nas.support.limits import check_count


@dataclass(frozen=True)
class Tiling:
    """When and how pictures are split into tiles.

    Attributes:
        limit: number of pixels up to which a picture is one tile.
        side: largest side of a tile's core in pixels, if `core_multiple` allows it.

    Raises:
        InputError: the limit is not a whole number of at least 0, or the side not one of at least 1.
    """

    limit: int = 1 << 22
    side: int = 1024

    def __post_init__(self) -> None:
        check_count(self.limit, "The limit of a tiling")
        check_count(self.side, "The side of a tiling", 1)


TILING = Tiling()


@dataclass(frozen=True)
class TileSide:
    """One side of a tile, in elements of y: its core, and the crop around the core that the edge reads.

    Attributes:
        start: first element of the core.
        stop: the element after the core.
        low: first element of the crop.
        high: the element after the crop.
    """

    start: int
    stop: int
    low: int
    high: int


def core_multiple(layout: Layout) -> tuple[int, int]:
    """Rows and columns in pixels that the cores of tiles are multiples of, from z and the layout's tile."""
    rows, columns = (math.lcm(Z_REDUCTION, Y_REDUCTION * count) for count in layout.table.shape[1:])
    return rows, columns


def overlap(edge: spec.Edge, switches: Mapping[str, int]) -> tuple[int, int]:
    """Elements of y before and after a core that the core's outputs depend on, per side, for g_a or g_s.

    Args:
        edge: an edge from pixels to y or from y to pixels.
        switches: the value of every switch: how often repeated blocks run, and which branches run.
    """
    inputs, outputs = _per_element(edge)
    start, stop = _reads_all(edge.layers, switches, 0, outputs)
    return -(start // inputs), -(-stop // inputs) - 1


def _per_element(edge: spec.Edge) -> tuple[int, int]:
    """Number of inputs and of outputs of an edge for one element of y, per side."""
    last = edge.reduction
    for layer in edge.layers:
        last = spec.reduction_after(layer, last)
    return Y_REDUCTION // edge.reduction, Y_REDUCTION // last


def _reads(layer: spec.Layer, switches: Mapping[str, int], start: int, stop: int) -> tuple[int, int]:
    """The range of inputs that a layer's outputs from `start` to `stop` depend on."""
    match layer:
        case spec.Conv(kernel=kernel, stride=stride):
            return stride * start - layer.padding, stride * (stop - 1) - layer.padding + kernel
        case spec.Deconv(kernel=kernel, stride=stride):
            first = -((kernel - 1 - kernel // 2 - start) // stride)
            return min(first, start // stride), (stop - 1 + kernel // 2) // stride + 1
        case spec.Subpel(kernel=kernel, stride=stride):
            return start // stride - kernel // 2, (stop - 1) // stride - kernel // 2 + kernel
        case spec.Depthwise(kernel=kernel):
            return start - kernel // 2, stop + kernel // 2
        case spec.Residual(body=body, shortcut=shortcut):
            beside = _reads(shortcut[1], switches, start, stop) if shortcut else (start, stop)
            start, stop = _reads_all([part for _, part in body], switches, start, stop)
            return min(start, beside[0]), max(stop, beside[1])
        case spec.Repeat(block=block, depth=depth):
            return _reads_all(block * switches[depth], switches, start, stop)
        case spec.Parallel(branches=branches):
            running = [branch for branch in branches if branch.switch is None or switches[branch.switch]]
            ends = [_reads_all(branch.layers, switches, start, stop) for branch in running]
            return min(first for first, _ in ends), max(last for _, last in ends)
        case _:
            return start, stop


def _reads_all(
    layers: Sequence[spec.Layer], switches: Mapping[str, int], start: int, stop: int
) -> tuple[int, int]:
    """The same range for consecutive layers."""
    for layer in reversed(layers):
        start, stop = _reads(layer, switches, start, stop)
    return start, stop


def tile_sides(length: int, core: int, multiple: int, around: tuple[int, int]) -> list[TileSide]:
    """Divide one side of a picture into spans that are as equal as possible, in elements of y.

    Args:
        length: length of the side.
        core: largest length of a span's core, but at least `multiple`.
        multiple: cores are multiples of this, except the last one.
        around: how far a crop extends before and after its core, see `overlap`.
    """
    if core >= length:
        return [TileSide(0, length, 0, length)]
    count = -(-length // max(core // multiple * multiple, multiple))
    even = -(-length // (count * multiple)) * multiple
    sides = []
    for start in range(0, length, even):
        stop = min(start + even, length)
        sides.append(TileSide(start, stop, max(start - around[0], 0), min(stop + around[1], length)))
    return sides


def tiles(
    network: CodecNetwork,
    name: str,
    layout: Layout,
    source: Tensor | Padded,
    tiling: Tiling = TILING,
    *,
    mixed: bool = False,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Run an edge and yield its output in cores, each with the rows and columns of the output that it covers.

    The edge's module is called once for each tile, and once for a picture up to the limit.

    Args:
        network: network of one architecture.
        name: `g_a` or `g_s`.
        layout: see `core_multiple`.
        source: input of the edge, [B, C, H, W]: pixels in [0, 1] with aligned sides, or rounded y.
        tiling: when and how to split.
        mixed: compute in bfloat16, except in layers that must be precise.

    Raises:
        InputError: `tiling` is no `Tiling`, or a number of the output is not finite.
    """
    if not isinstance(tiling, Tiling):
        raise InputError(f"`tiling` is a Tiling, such as Tiling(side=512), not {type(tiling).__name__}.")
    edge, module = network.space.family.edges[name], network.get_submodule(name)
    inputs, outputs = _per_element(edge)
    lengths = [side // inputs for side in source.shape[-2:]]
    whole = math.prod(lengths) * Y_REDUCTION**2 <= tiling.limit
    switches = network.space.family.switches
    around = overlap(edge, {choice: network.widths[choice].active for choice in switches})
    sides = (
        tile_sides(length, length if whole else tiling.side // Y_REDUCTION, multiple // Y_REDUCTION, around)
        for length, multiple in zip(lengths, core_multiple(layout), strict=True)
    )
    for spans in product(*sides):
        rows, columns = (slice(span.low * inputs, span.high * inputs) for span in spans)
        tile = source[..., rows, columns]
        with exact_arithmetic(), torch.autocast(tile.device.type, torch.bfloat16) if mixed else nullcontext():
            out = module(tile)
        values = out.detach()
        values = values if values.is_contiguous() else values.permute(0, 2, 3, 1)  # channels last: no copy
        if not all(math.isfinite(end) for end in values.aminmax()):
            raise InputError(
                f"{name} gives numbers that are not finite: the weights of this codec are broken, so export "
                "it again."
            )
        core = (slice((s.start - s.low) * outputs, (s.stop - s.low) * outputs) for s in spans)
        rows, columns = (slice(span.start * outputs, span.stop * outputs) for span in spans)
        yield rows, columns, out[(..., *core)]


def run_tiled(
    network: CodecNetwork, name: str, layout: Layout, source: Tensor | Padded, tiling: Tiling = TILING
) -> Tensor:
    """The whole output of an edge, [B, C, H, W], joined from its tiles. See `tiles`.

    Args:
        network: network of one architecture.
        name: `g_a` or `g_s`.
        layout: the layout. The cores of tiles are multiples of its tile.
        source: input of the edge, [B, C, H, W]: pixels in [0, 1] with aligned sides, or y as g_s reads it.
        tiling: when and how to split.
    """
    inputs, outputs = _per_element(network.space.family.edges[name])
    height, width = (side // inputs * outputs for side in source.shape[-2:])
    whole: Tensor | None = None
    for rows, columns, part in tiles(network, name, layout, source, tiling):
        if part.shape[-2:] == (height, width):
            return part.contiguous()
        if whole is None:
            whole = part.new_empty(*part.shape[:2], height, width)
        whole[..., rows, columns] = part
    assert whole is not None  # every picture has at least one tile
    return whole
