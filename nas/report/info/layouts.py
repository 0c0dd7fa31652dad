"""Information on a layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.report.info.info import Info, chained
from nas.report.structure.layout_text import draw_layout
from nas.spaces.layout import Layout, read_layouts
from nas.support.errors import InputError

WINDOW = 5  # window of layouts that are given by name, as in joint-ar


def layout_info(layout: Layout, window: int = WINDOW) -> Info:
    """Describe a layout: its tile by channel group, and a text drawing of what an element of each stage sees.

    Args:
        layout: the layout.
        window: width of the context window, in elements of y.
    """
    fields = {
        "layout": layout.name,
        "channels": layout.channels,
        "groups": list(layout.groups),
        "slope": list(layout.slope),
        "tile": layout.table.tolist(),
        "stages_768x512": layout.stages(),
        "context": layout.context,
        "visible_share": visible_share(layout, window),
    }
    return Info("layout", fields, tuple(draw_layout(layout, window)), picture=layout)


def layout_table_info(path: Path, entries: Any) -> Info:
    """Describe all layouts of a run's search/layouts.yaml, beginning with the first.

    Args:
        path: path of the layouts.yaml.
        entries: content of the file.

    Raises:
        InputError: the content is not a table of layouts.
    """
    infos = [layout_info(layout) for layout in read_layouts(path, entries)]
    if not infos:
        raise InputError(f"{path} lists no layout: run the search again, which makes it.")
    return chained(infos)


def visible_share(layout: Layout, window: int) -> float:
    """The share of a dense convolution of the context model that a layout computes.

    Args:
        layout: the layout.
        window: width of the context window, in elements of y.
    """
    if layout.context == "table":
        return 0.0
    sizes = np.array(layout.groups)
    _, rows, columns = layout.table.shape
    seen = sum(
        int(block.visible.sum((1, 2)) @ sizes) * int(sizes[list(block.groups)].sum())
        for block in layout.blocks(window)
    )
    return float(seen / (rows * columns * window**2 * layout.channels**2))
