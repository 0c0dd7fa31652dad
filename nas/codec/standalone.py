"""Writes CODEC/model.py: an exported codec as one file of plain PyTorch, for other people's training code.

The file consists of the text of `nas.codec.plain`, with the codec's own layers written out at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from nas.codec.codec import Codec
from nas.graph.layers.build import LEAKY_SLOPE
from nas.graph.network import CodecNetwork
from nas.spaces import description as spec
from nas.spaces.description import ENTROPY_WIDTHS, Y_REDUCTION
from nas.support.files import write_atomically

MODEL = "model.py"
_BUILD = "def build() -> Codec:"
Lines = list[str]

_TITLE = '''"""A learned image codec in plain PyTorch, written by nas-codec beside its weights.

{key}
{cost}
    from model import load

    codec = load()
    out = codec(x)  # x: [B, 3, H, W] in [0, 1]
    bits = sum(-part.log2().sum() for part in out["likelihoods"].values())

Needs torch, and safetensors to read the weights. It is differentiable throughout: train it with your own code
(`codec(x, noise=True)`), and `nas.renew_codec` makes a codec with bitstreams of what comes out.
"""
'''


def write_model(codec: Codec, folder: Path) -> Path:
    """Write a codec's model.py next to its weights. Returns its path.

    Args:
        codec: the codec.
        folder: folder of the codec.
    """
    path = folder / MODEL
    write_atomically(path, model_text(codec))
    return path


def model_text(codec: Codec) -> str:
    """The content of model.py.

    Args:
        codec: the codec that model.py describes.
    """
    text = resources.files("nas.codec").joinpath("plain.py").read_text(encoding="utf-8")
    parts = text[text.index("\nfrom __future__") : text.index(_BUILD)]
    return (
        _TITLE.format(key=codec.architecture.key, cost=_cost(codec)) + parts + "\n".join(_build(codec)) + "\n"
    )


def _cost(codec: Codec) -> str:
    """A sentence on the cost of the context in model.py, if it is computed differently than in the codec."""
    network = codec.network
    if not network.space.family.context or codec.layout.context == "table":
        return ""
    m, window = codec.layout.channels, network.space.window
    first, second = (network.widths[name].active for name in ENTROPY_WIDTHS)
    macs = 2 * m * m * window**2 + 4 * m * first + first * second + 2 * m * second
    return (
        "\nHere context and entropy parameters are dense layers under masks and cost "
        f"{macs / Y_REDUCTION**2 / 1000:.3f} kMAC per\npixel in any order of decoding. The exported codec "
        "computes the same from what is visible alone, for less.\n"
    )


def _build(codec: Codec) -> Iterator[str]:
    yield _BUILD
    yield '    """The codec with fresh weights."""'
    yield "    parts: dict[str, nn.Module] = {"
    for name, lines in _parts(codec).items():
        yield from _indented([f'"{name}": {lines[0]}', *lines[1:]], 8)
    yield "    }"
    yield f"    return Codec(parts, centred={codec.network.centred})"


def _parts(codec: Codec) -> dict[str, Lines]:
    """The parts of a codec as source text, by name."""
    network = codec.network
    space, family = network.space, network.space.family
    used = {name for name, _ in network.named_children()}
    parts = {name: _edge(edge, network) for name, edge in family.edges.items() if name in used}
    if "context" in used:
        parts["context"] = [f"HyperOnly({family.psi_parts})"]
        if family.context:
            hidden = tuple(network.widths[name].active for name in ENTROPY_WIDTHS)
            order = codec.layout.to_dict()
            words = [f"{name}={order[name]}" for name in ("groups", "slope", "tile")]
            psi, phi = space.features
            if codec.layout.context == "table":
                kind, sizes = "TableContext", [f"{hidden=}", f"{psi=}"]
            else:
                kind, sizes = "Context", [f"window={space.window}", f"{hidden=}", f"{psi=}", f"{phi=}"]
            parts["context"] = _call(kind, [[word] for word in (*words, *sizes)])
    for name, node in (("prior", "z"), ("y_prior", "y")):
        if name in used:
            parts[name] = [f"FactorizedPrior({network.widths[node].active})"]
    for name, node in (("gains", "y"), ("hyper_gains", "z")):
        if name in used:
            values = [f'"{each}"' for each, _ in network.get_submodule(name).named_parameters()]
            channels = str(network.widths[node].active)
            parts[name] = _call("AtRates", [[str(space.rates)], [", ".join([channels, *values])]])
    return parts


def _edge(edge: spec.Edge, network: CodecNetwork) -> Lines:
    return _call("OnMagnitudes" if edge.magnitude else "nn.Sequential", _written(edge.layers, network))


def _written(layers: Sequence[spec.Layer], network: CodecNetwork) -> list[Lines]:
    return [_layer(layer, network) for layer in layers]


def _layer(layer: spec.Layer, network: CodecNetwork) -> Lines:
    def width(name: str) -> int:
        return network.widths[name].active

    match layer:
        case spec.Conv(kernel=kernel, stride=stride):
            ends = f"{width(layer.inputs)}, {width(layer.outputs)}"
            return [f"nn.Conv2d({ends}, {kernel}, stride={stride}, padding={layer.padding})"]
        case spec.Depthwise(kernel=kernel):
            channels = width(layer.width)
            sizes = f"{channels}, {channels}, {kernel}, padding={kernel // 2}, groups={channels}"
            return [f"nn.Conv2d({sizes})"]
        case spec.Deconv(kernel=kernel, stride=stride):
            ends = f"{width(layer.inputs)}, {width(layer.outputs)}, {kernel}, stride={stride}"
            return [f"nn.ConvTranspose2d({ends}, padding={kernel // 2}, output_padding={stride - 1})"]
        case spec.Subpel(kernel=kernel, stride=stride):
            ends = f"{width(layer.inputs)}, {width(layer.outputs)} * {stride**2}"
            conv = [f"nn.Conv2d({ends}, {kernel}, padding={kernel // 2})"]
            return _call("nn.Sequential", [conv, [f"nn.PixelShuffle({stride})"]])
        case spec.GDN():
            return [f"GDN({width(layer.width)}{', inverse=True' if layer.inverse else ''})"]
        case spec.ReLU():
            return ["nn.ReLU()"]
        case spec.LeakyReLU():
            return [f"nn.LeakyReLU({LEAKY_SLOPE})"]
        case spec.Residual(body=body, shortcut=shortcut):
            arguments = [_named(body, network)] + ([_named([shortcut], network)] if shortcut else [])
            return _call("Residual", arguments)
        case spec.Repeat(block=block, depth=depth):
            whole = [_written(block, network)] * width(depth)
            blocks = [each[0] if len(block) == 1 else _call("nn.Sequential", each) for each in whole]
            return _call("nn.Sequential", blocks)
        case spec.Parallel(branches=branches):
            running = [b for b in branches if b.switch is None or width(b.switch)]
            parts = [(b.name, _call("nn.Sequential", _written(b.layers, network))) for b in running]
            return _call("SideBySide", [_mapping(parts)])


def _named(parts: Sequence[tuple[str, spec.Leaf]], network: CodecNetwork) -> Lines:
    """Source text of a mapping from names to layers."""
    return _mapping([(name, _layer(part, network)) for name, part in parts])


def _mapping(parts: Sequence[tuple[str, Lines]]) -> Lines:
    lines = ["{"]
    for name, (first, *others) in parts:
        lines += _indented([f'"{name}": {first}', *others], 4)
    return [*lines, "}"]


def _call(name: str, arguments: Sequence[Lines]) -> Lines:
    """Source text of a call, with one argument per line."""
    if not arguments:
        return [f"{name}()"]
    return [f"{name}(", *(line for lines in arguments for line in _indented(lines, 4)), ")"]


def _indented(lines: Lines, by: int) -> Lines:
    """Indent the lines of one element of a list, and add the comma after it."""
    return [" " * by + line for line in [*lines[:-1], f"{lines[-1]},"]]
