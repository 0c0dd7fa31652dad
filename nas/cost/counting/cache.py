"""Cost tables on disk: measuring a space takes seconds, and reading its table takes no noticeable time."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
from functools import cache
from pathlib import Path

import numpy as np

from nas.cost.counting.table import CostTable, LayerCost
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.files import digest, write_atomically

MEASURED_BY = ("nas-codec", "fvcore", "torch")  # another version of one of these may count differently
COUNTED = 2  # version of what is counted; since 2, parameters include gains


def load_or_measure_costs(space: SearchSpace, path: Path, *, keep: bool = True) -> CostTable:
    """The costs of a space at 768x512: read from a file if it has them, otherwise measured and stored.

    Args:
        space: the search space.
        path: the file.
        keep: whether to write measured costs to the file.
    """
    facts = _facts(space)
    kept_table = _read(space, path, facts)
    if kept_table is not None:
        return kept_table
    from nas.cost.counting.tabulate import measured_costs

    table = measured_costs(space)
    if keep:
        _write(table, path, facts)
    return table


def store_costs(table: CostTable, path: Path) -> None:
    """Store the costs of a space at 768x512, unless the file has them.

    Args:
        table: the costs.
        path: the file.
    """
    facts = _facts(table.space)
    if _read(table.space, path, facts) is None:
        _write(table, path, facts)


def _write(table: CostTable, path: Path, facts: str) -> None:
    with contextlib.suppress(InputError):  # an unwritable folder only costs time: measured again
        write_atomically(path, _packed(table, facts))


def _facts(space: SearchSpace) -> str:
    layouts = {name: space.layouts[name].to_dict() for name in space.layout_names}
    return digest(json.dumps([space.to_dict(), layouts, _versions(), COUNTED], sort_keys=True, default=str))


@cache
def _versions() -> dict[str, str]:
    """The versions of the packages that measure. Looking them up takes longer than reading a table."""
    return {part: importlib.metadata.version(part) for part in MEASURED_BY}


def _packed(table: CostTable, facts: str) -> bytes:
    names = [[layer.name, layer.edge] for layer in table.layers]
    arrays = {"facts": np.array(facts), "names": np.array(names)}
    for index, layer in enumerate(table.layers):
        arrays |= {f"{index}.axes": np.array(layer.axes, dtype=np.int64)}
        arrays |= {f"{index}.macs": layer.macs, f"{index}.params": layer.params}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _read(space: SearchSpace, path: Path, facts: str) -> CostTable | None:
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            if str(held["facts"]) != facts:
                return None
            layers = [
                LayerCost(
                    str(name),
                    str(edge),
                    tuple(int(axis) for axis in held[f"{index}.axes"]),
                    held[f"{index}.macs"],
                    held[f"{index}.params"],
                )
                for index, (name, edge) in enumerate(held["names"])
            ]
    except Exception:  # damaged files raise errors of many kinds; the space is measured again
        return None
    return CostTable(space, layers)
