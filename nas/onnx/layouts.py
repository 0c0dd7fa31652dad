"""A layout in ONNX: the models that tell scales and means under it, and what a decoder has to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nas.codec.codec import Codec
from nas.graph.scale_table import STATE_OF, SURPRISE_BOUNDS, WEIGHTS
from nas.graph.staged import Staged, StagedContext, StagedTable
from nas.spaces.layout import AROUND

if TYPE_CHECKING:
    import onnx

Save = Callable[[str, "onnx.ModelProto"], str]  # a model under a name; returns the name of its file


def describe_layout(codec: Codec, name: str, save: Save) -> dict[str, Any]:
    """What codec.json says of the order of decoding of a codec, its models saved.

    Args:
        codec: in whole numbers, under this layout.
        name: what the models are called by.
        save: keeps a model under a name and returns the name of its file.
    """
    _, rows, columns = codec.layout.table.shape
    described: dict[str, Any] = {"slope": list(codec.layout.slope), "tile": [rows, columns]}
    if not codec.network.with_z:
        return described | {"blocks": []}  # y is under the table
    return described | _table(codec.coding_context, name, save) | {"blocks": _blocks(codec, name, save)}


def _table(context: Staged, name: str, save: Save) -> dict[str, Any]:
    """Where a table reads the context: what it is made of, and the network that it corrects."""
    from nas.onnx.path import block_models

    if not isinstance(context, StagedTable):
        return {}
    ((model, _),) = block_models(context)
    table = {
        "file": save(f"context/{name}.onnx", model),
        "surprises": SURPRISE_BOUNDS.astype(int).tolist(),
        "around": [list(offset) for offset in AROUND],
        "weights": list(WEIGHTS),
        "states": STATE_OF.tolist(),
        "shifts": context.table.tolist(),
    }
    return {"table": table}


def _blocks(codec: Codec, name: str, save: Save) -> list[dict[str, Any]]:
    from nas.onnx.path import block_models

    context = codec.coding_context
    if not isinstance(context, StagedContext):  # psi says it all
        channels = list(range(codec.network.space.y_channels))
        return [{"file": None, "row": 0, "column": 0, "stage": 0, "channels": channels, "seen": []}]
    if isinstance(context, StagedTable):
        cells = codec.layout.blocks(context.window)
        return [
            {
                **{"row": cell.row, "column": cell.column, "stage": cell.stage},
                **{"channels": channels.index.tolist(), "known": (weights > 0).int().tolist()},
            }
            for cell, (channels, weights) in zip(cells, context.members, strict=True)
        ]
    return [
        {"file": save(f"context/{name}.{number}.onnx", model), **block}
        for number, (model, block) in enumerate(block_models(context))
    ]
