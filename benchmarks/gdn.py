"""Time of g_s and g_a at width 192 on one 768x512 image: CompressAI's layers and those of an exported codec.

The lower bound is the time that the same MACs would take at the rate of a 2048x2048 matrix product.
"""

from __future__ import annotations

import statistics
from typing import cast

import torch
from common import MIB, arguments, extra_memory, heading, in_child, interleaved, ratio, say, table
from torch import Tensor, nn

from nas.cost.counting.macs import count_macs
from nas.graph import _compressai
from nas.graph.layers.gdn import GDN
from nas.graph.network import CodecNetwork
from nas.spaces.space import SearchSpace

SIZE = 512, 768
PRODUCT = 2048


def reference(ours: nn.Sequential) -> nn.Sequential:
    """Build CompressAI's own layers with the same weights."""
    layers: list[nn.Module] = []
    for layer in ours:
        if isinstance(layer, GDN):
            made: nn.Module = _compressai.GDN(len(layer.beta), inverse=layer.inverse)
        elif isinstance(layer, nn.ConvTranspose2d):
            made = nn.ConvTranspose2d(layer.in_channels, layer.out_channels, 5, 2, 2, 1)
        else:
            assert isinstance(layer, nn.Conv2d)
            made = nn.Conv2d(layer.in_channels, layer.out_channels, 5, 2, 2)
        made.load_state_dict(layer.state_dict())
        layers.append(made)
    return nn.Sequential(*layers).eval()


def keeping(ours: nn.Sequential, x: Tensor) -> Tensor:
    """Run the layers with a GDN that writes its output into new memory instead of over its input."""
    norms = [layer for layer in ours if isinstance(layer, GDN)]
    try:
        for layer in norms:
            layer.in_place = False
        return cast(Tensor, ours(x))
    finally:
        for layer in norms:
            layer.in_place = True


def measured(name: str, ours: nn.Sequential, x: Tensor, repeats: int) -> list[str]:
    """Measure one edge, and return its row of the table."""
    theirs, matrix = reference(ours), torch.randn(PRODUCT, PRODUCT)
    macs = count_macs(ours, x)[""]
    assert macs == count_macs(theirs, x)[""]
    apart = ((ours(x) - theirs(x)).abs().max() / theirs(x).abs().max()).item()
    sides = {
        "theirs": lambda: theirs(x),
        "ours": lambda: ours(x),
        "keeping": lambda: keeping(ours, x),
        "product": lambda: matrix @ matrix,
    }
    seconds = interleaved(sides, repeats)
    floor = [value * macs / PRODUCT**3 for value in seconds["product"]]
    medians = [statistics.median(values) for values in (seconds["theirs"], seconds["ours"], floor)]
    return [
        name,
        *(f"{value:.3f}" for value in medians),
        str(ratio(seconds["theirs"], seconds["ours"])),
        str(ratio(seconds["keeping"], seconds["ours"])),
        str(ratio(floor, seconds["ours"])),
        f"{apart:.1e}",
    ]


def network() -> CodecNetwork:
    """Make the widest architecture of joint-ar. GDN's matrices are dense, and values stay near 1."""
    torch.manual_seed(0)
    space = SearchSpace.load("joint-ar")
    net = CodecNetwork(space.only(space.widest())).eval()
    for module in net.modules():
        if isinstance(module, GDN):
            module.gamma.copy_(module.gamma_reparam.init(torch.rand_like(module.gamma) / len(module.gamma)))
    return net


def memory(edge: str, way: str) -> int:
    """Measure the extra bytes of g_s or g_a on a 1024x1024 picture."""
    net = network()
    x = torch.rand(1, 3, 1024, 1024) if edge == "g_a" else torch.rand(1, 192, 64, 64)
    ours = net.get_submodule(edge)
    assert isinstance(ours, nn.Sequential)
    return extra_memory((lambda: ours(x)) if way == "in-place" else (lambda: keeping(ours, x)))


@torch.no_grad()
def main() -> None:
    options = arguments(__doc__ or "", repeats=7).parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        say(str(memory(*options.memory.split(","))))
        return
    net = network()
    say(heading())
    y = torch.randint(-8, 9, (1, 192, SIZE[0] // 16, SIZE[1] // 16)).float()
    columns = ["", "CompressAI s", "here s", "product s", "times as fast", "as with new memory"]
    rows = [[*columns, "of the product's rate", "apart"]]
    rows.append(measured("g_s", net.g_s, y, options.repeats))
    rows.append(measured("g_a", net.g_a, torch.rand(1, 3, *SIZE), options.repeats))
    say(table(rows))
    for edge in ("g_s", "g_a"):
        held = [in_child(__file__, "--memory", f"{edge},{way}") / MIB for way in ("in-place", "new memory")]
        say(f"{edge} on 1024x1024: {held[0]:.0f} MiB, {held[1]:.0f} with GDN into new memory")
    say("asked: g_s at least 1.5 times as fast, within 1e-5")


if __name__ == "__main__":
    main()
