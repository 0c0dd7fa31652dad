"""A layout as text: its tile, its slope, and what an element of each stage sees. No torch here."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.spaces.layout import AROUND, Block, Layout

TERMINAL_WIDTH = 100  # largest width of drawings
MOST_WINDOWS = 32  # largest number of drawn windows
_HEADING = 26  # width of the lines with the channels of a tile


def draw_layout(layout: Layout, window: int) -> list[str]:
    """A layout as lines of text: its tile by channel group, its slope, and the windows of its stages.

    Args:
        layout: the layout.
        window: width of the context window, in elements of y.
    """
    return [
        "the tile: the stage of each position, by channels of y",
        *draw_tile(layout),
        "",
        slope_text(layout),
        "",
        *(_draw_around(layout) if layout.context == "table" else _draw_windows(layout, window)),
    ]


def draw_tile(layout: Layout, columns: int = TERMINAL_WIDTH) -> list[str]:
    """The stage numbers of one tile, side by side for different channel groups.

    Args:
        layout: the layout.
        columns: the most characters per line.
    """
    wide = len(str(int(layout.table.max())))
    pieces = []
    for tile, groups in kinds_of_tiles(layout):
        rows = [" ".join(f"{stage:>{wide}}" for stage in row) for row in tile]
        pieces.append([*textwrap.wrap(channels_text(layout, groups), _HEADING), *rows])
    return side_by_side(pieces, columns)


def kinds_of_tiles(layout: Layout) -> list[tuple[tuple[tuple[int, ...], ...], list[int]]]:
    """The different tiles, as [rows][columns], with the channel groups that have each of them.

    Args:
        layout: the layout.
    """
    kinds: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for group, tile in enumerate(layout.tile):
        kinds.setdefault(tile, []).append(group)
    return list(kinds.items())


def slope_text(layout: Layout) -> str:
    """A line on the meaning of the slope and the number of stages."""
    down, across = layout.slope
    stages = f"{stages_text(layout)} at 768x512"
    if (down, across) == (0, 0):
        return f"slope 0, 0: the tile repeats over the picture; {stages}"
    return f"slope {down}, {across}: a row lower is {down} later, a column further {across} later; {stages}"


def stages_text(layout: Layout) -> str:
    """The number of stages, with the word.

    Args:
        layout: the layout.
    """
    count = layout.stages()
    return f"{count} stage{'s' * (count != 1)}"


def channels_text(layout: Layout, groups: Sequence[int]) -> str:
    """The channels of some groups as ranges.

    Args:
        layout: the layout.
        groups: places of the channel groups, rising.
    """
    ends = [0, *np.cumsum(layout.groups).tolist()]
    spans: list[list[int]] = []
    for group in groups:
        if spans and spans[-1][1] == ends[group]:
            spans[-1][1] = ends[group + 1]
        else:
            spans.append([ends[group], ends[group + 1]])
    if spans == [[0, layout.channels]]:
        return "all channels"
    named = [f"{start}-{end - 1}" if end - start > 1 else str(start) for start, end in spans]
    return f"channels {', '.join(named)}"


def side_by_side(pieces: Sequence[Sequence[str]], columns: int = TERMINAL_WIDTH) -> list[str]:
    """Blocks of lines side by side, as many in a row as fit.

    Args:
        pieces: blocks, each as its lines.
        columns: the most characters per line.
    """
    lines: list[str] = []
    row: list[Sequence[str]] = []
    for piece in [*pieces, None]:
        width = sum(max(map(len, p)) + 3 for p in ([*row, piece] if piece else row)) - 3
        if row and (piece is None or width > columns):
            wide = [max(map(len, block)) for block in row]
            for k in range(max(map(len, row))):
                cells = [block[k] if k < len(block) else "" for block in row]
                lines.append("   ".join(f"{c:<{w}}" for c, w in zip(cells, wide, strict=True)).rstrip())
            row = []
        if piece is not None:
            row.append(piece)
    return lines


def _draw_around(layout: Layout) -> list[str]:
    """For every stage of a layout with a table, what is known around an element, by channels."""
    lines = ["what a table looks at, of an element's own channel:  # decoded before, . not yet, o itself"]
    kinds: dict[tuple[int, bytes], list[int]] = {}
    for group, row, column in np.ndindex(layout.table.shape):
        seen = layout.around[:, group, row, column]
        groups = kinds.setdefault((int(layout.table[group, row, column]), seen.tobytes()), [])
        if group not in groups:
            groups.append(group)
    for (stage, view), groups in sorted(kinds.items())[:MOST_WINDOWS]:
        window = np.zeros((3, 3), dtype=bool)
        for (down, across), is_known in zip(AROUND, np.frombuffer(view, dtype=bool), strict=True):
            window[1 + down, 1 + across] = is_known
        lines += ["", f"stage {stage} ({channels_text(layout, groups)})"]
        lines += [f"  {line}" for line in _draw_window(window, 3, own=True)]
    return lines


def _draw_windows(layout: Layout, window: int) -> list[str]:
    """For every stage, the window around an element, by channels with the same visibility."""
    lines = [f"what an element sees of its {window}x{window} window:  # decoded before, . not yet, o itself"]
    drawn: set[tuple[Any, ...]] = set()
    for block in layout.blocks(window):
        view = (block.stage, block.visible.tobytes(), block.groups)
        if view in drawn:
            continue
        if len(drawn) == MOST_WINDOWS:
            return [*lines, "", "(and so on for later stages)"]
        drawn.add(view)
        lines += ["", *_draw_view(layout, block, window)]
    return lines


def _draw_view(layout: Layout, block: Block, window: int) -> list[str]:
    what = "any stage" if layout.slope != (0, 0) and layout.table.size == 1 else f"stage {block.stage}"
    kinds: dict[bytes, list[int]] = {}
    for group, visible in enumerate(block.visible):
        kinds.setdefault(visible.tobytes(), []).append(group)
    whole, nothing, pieces = [], [], []
    for groups in kinds.values():
        visible = block.visible[groups[0]]
        if visible.all():
            whole += groups
        elif not visible.any():
            nothing += groups
        else:
            own = bool(set(groups) & set(block.groups))
            pieces.append([channels_text(layout, groups), *_draw_window(visible, window, own)])
    lines = [f"{what} ({channels_text(layout, list(block.groups))})"]
    if whole:
        lines.append(f"  everything of {channels_text(layout, sorted(whole))}")
    if nothing:
        lines.append(f"  nothing of {channels_text(layout, sorted(nothing))}")
    return lines + [f"  {line}".rstrip() for line in side_by_side(pieces, TERMINAL_WIDTH - 2)]


def _draw_window(visible: Any, window: int, own: bool) -> list[str]:
    reach = window // 2
    marks = np.where(visible, "#", ".")
    if own:
        marks[reach, reach] = "o"
    return [" ".join(row) for row in marks.tolist()]
