"""Cost tables kept beside a run: measuring one takes seconds, reading it none that anybody notices."""

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

MEASURED_BY = ("nas-codec", "fvcore", "torch")  # another version of one may count otherwise
COUNTED = 2  # goes up when something else is counted: since 2, gains among the parameters


def kept_costs(space: SearchSpace, path: Path, *, keep: bool = True) -> CostTable:
    """The costs of a space at 768x512, from a file where it holds them, else measured and written there.

    Args:
        space: the search space.
        path: the file.
        keep: whether what is measured may be written there: not into a run that belongs to the package.
    """
    facts = _facts(space)
    kept_table = _read(space, path, facts)
    if kept_table is not None:
        return kept_table
    from nas.cost.counting.tabulate import measured_costs

    table = measured_costs(space)
    if keep:
        with contextlib.suppress(InputError):  # a folder that cannot be written serves as well, more slowly
            write_atomically(path, _packed(table, facts))
    return table


def _facts(space: SearchSpace) -> str:
    layouts = {name: space.layouts[name].to_dict() for name in space.layout_names}
    return digest(json.dumps([space.to_dict(), layouts, _versions(), COUNTED], sort_keys=True, default=str))


@cache
def _versions() -> dict[str, str]:
    """The versions of what measures; to look them up takes longer than to read a table."""
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
    except Exception:  # what damage raises is of many kinds (EOFError of an empty file): it is measured again
        return None
    return CostTable(space, layers)
