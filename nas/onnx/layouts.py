"""A layout in ONNX: the models that give scales and means, and the description that a decoder needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nas.codec.codec import Codec
from nas.graph.scale_table import STATE_OF, SURPRISE_BOUNDS, WEIGHTS
from nas.graph.staged import Staged, StagedContext, StagedTable
from nas.spaces.layout import AROUND

if TYPE_CHECKING:
    import onnx

Save = Callable[[str, "onnx.ModelProto"], str]  # saves a model under a name; returns the name of its file


def describe_layout(codec: Codec, name: str, save: Save) -> dict[str, Any]:
    """Save the models of a codec's layout, and return its entry in codec.json.

    Args:
        codec: a codec in integer arithmetic, under this layout.
        name: prefix of the models' names.
        save: saves a model under a name. Returns the name of its file.
    """
    _, rows, columns = codec.layout.table.shape
    described: dict[str, Any] = {"slope": list(codec.layout.slope), "tile": [rows, columns]}
    if not codec.network.with_z:
        return described | {"blocks": []}  # y is coded under the table of frequencies
    return described | _table(codec.coding_context, name, save) | {"blocks": _blocks(codec, name, save)}


def _table(context: Staged, name: str, save: Save) -> dict[str, Any]:
    """The entry of a layout whose context is a table: the table, and the network that it corrects."""
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
    if not isinstance(context, StagedContext):  # psi alone gives the parameters
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
