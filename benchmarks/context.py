"""Time of context prediction at 192 channels, forward and backward, for a batch of eight 16x16 latents.

The toolkit's implementation is compared with one that unfolds the latent and masks it once for each channel
group. Both compute the same function. The convolution without a mask is the lower bound of both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from common import MIB, arguments, extra_memory, heading, in_child, interleaved, ratio, say, table
from torch import Tensor

from nas.graph.context import ContextModel, layout_cells
from nas.spaces.layout import Layout, tiled_layout

CHANNELS, WINDOW, BATCH, SIDE, GROUPS = 192, 5, 8, 16, 4
ASKED = {2: (0.25, 0.2), 4: (0.5, 0.5)}  # largest allowed ratios of time and memory, by side of the tile
Function = Callable[[ContextModel, Tensor, Layout], Tensor]


def layout_of(side: int) -> Layout:
    """Make a layout in which every cell of the tile is a stage of its own, in every group."""
    stages = np.arange(GROUPS * side * side).reshape(GROUPS, side, side)
    return tiled_layout(CHANNELS, stages, f"{GROUPS}x{side}x{side}")


def unfolded(model: ContextModel, y: Tensor, layout: Layout) -> Tensor:
    """Compute phi, [B, 2M, h, w], from masked columns of the unfolded latent."""
    convolution, reach = model.context_prediction, WINDOW // 2
    assert convolution.bias is not None
    height, width = y.shape[-2:]
    _, rows, columns = layout.table.shape
    down, across = np.arange(-reach, height + reach), np.arange(-reach, width + reach)
    around = layout.table[:, (down % rows)[:, None], (across % columns)[None]]
    near = F.unfold(torch.from_numpy(around).float()[:, None], WINDOW)  # [G, offsets, positions]
    stage = torch.from_numpy(layout.stage_map(height, width)).float().flatten(1)
    groups = torch.from_numpy(layout.group_of_channel)
    values, weight = F.unfold(y, WINDOW, padding=reach), convolution.weight.flatten(1)
    parts, places = [], []
    for group in range(len(layout.groups)):
        mask = near < stage[group]
        live = mask.flatten(0, 1).any(0)
        mine = (groups.repeat(2) == group).nonzero()[:, 0]
        masked = values * mask[groups].flatten(0, 1)
        parts.append(weight[mine] @ masked + convolution.bias[mine, None] * live)
        places.append(mine)
    return torch.cat(parts, 1)[:, torch.cat(places).argsort()].unflatten(2, (height, width))


def staged(model: ContextModel, y: Tensor, layout: Layout) -> Tensor:
    """Compute phi with `ContextModel.predict`, and put the cells back in their places."""
    _, rows, columns = layout.table.shape
    found = model.predict(y, layout, layout_cells(layout, WINDOW))
    like = next(phi for phi in found if phi is not None)
    cells = torch.stack([torch.zeros_like(like) if phi is None else phi for phi in found], -1)
    cells = cells.unflatten(-1, (rows, columns))  # [B, 2M, down, across, R, C]
    return cells.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)


def plain(model: ContextModel, y: Tensor, layout: Layout) -> Tensor:
    """Compute the convolution without a mask."""
    found: Tensor = model.context_prediction(y)
    return found


SIDES: dict[str, Function] = {"unfold": unfolded, "here": staged, "plain": plain}


def step(function: Function, model: ContextModel, y: Tensor, layout: Layout) -> list[Tensor]:
    """Compute phi and the gradients of its sum of squares."""
    model.zero_grad(set_to_none=True)
    y = y.detach().requires_grad_()
    phi = function(model, y, layout)
    phi.square().sum().backward()
    weight = model.context_prediction.weight.grad
    assert y.grad is not None
    assert weight is not None
    return [phi.detach(), y.grad, weight]


def main() -> None:
    options = arguments(__doc__ or "", repeats=7).parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = ContextModel(CHANNELS, WINDOW, (8, 8))
    y = torch.randint(-5, 6, (BATCH, CHANNELS, SIDE, SIDE)).float()
    if options.memory:
        name, side = options.memory.split(":")
        step(plain, model, y[:1, :, :8, :8], layout_of(1))  # loads the libraries that all sides use
        say(str(extra_memory(lambda: step(SIDES[name], model, y, layout_of(int(side))))))
        return
    say(heading())
    for side, (time_asked, memory_asked) in ASKED.items():
        layout = layout_of(side)
        want, found = (step(SIDES[name], model, y, layout) for name in ("unfold", "here"))
        apart = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(want, found, strict=True))
        runs = {name: (partial(step, function, model, y, layout)) for name, function in SIDES.items()}
        seconds = interleaved(runs, options.repeats)
        memory = {
            name: [in_child(__file__, "--memory", f"{name}:{side}") / MIB for _ in range(3)] for name in SIDES
        }
        rows = [["", "seconds", "of unfold's", "extra MiB", "of unfold's"]]
        rows += (
            [
                name,
                f"{statistics.median(seconds[name]):.3f}",
                str(ratio(seconds[name], seconds["unfold"])),
                f"{statistics.median(memory[name]):.0f}",
                str(ratio(memory[name], memory["unfold"])),
            ]
            for name in SIDES
        )
        say(f"\n{GROUPS} groups, {side}x{side} tile; apart {apart:.1e}\n{table(rows)}")
        say(f"asked: at most {time_asked} of the time and {memory_asked} of the memory")


if __name__ == "__main__":
    main()
