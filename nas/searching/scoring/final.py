"""RUN/search/tested.csv: results of exported codecs on held-out photos, from real files.

The results stay in this file even if a later search beats an architecture and front.csv drops it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.run import Run
from nas.spaces.architecture import Architecture
from nas.support.errors import InputError
from nas.support.tables import read_rows, write_rows

if TYPE_CHECKING:
    import pandas as pd

TEST_COLUMNS = ("test_bpp", "test_psnr", "test_rd_loss")
FINAL_COLUMNS = ("arch", "weights", *TEST_COLUMNS)
KeyAndWeights = tuple[str, str]  # key of an architecture, and fingerprint of its weights


def note_tested(run: Run, architecture: Architecture, measured: Mapping[str, float]) -> None:
    """Store the results of one codec: `bpp`, `psnr` and `rd_loss`.

    Args:
        run: the run.
        architecture: the architecture that was exported.
        measured: results on held-out photos, by name.
    """
    values = tuple(measured[column.removeprefix("test_")] for column in TEST_COLUMNS)
    rows = {**_read(run), (architecture.key, run.fingerprint): values}
    texts = ((*key, *map(repr, row)) for key, row in rows.items())
    write_rows(run.tested_path, FINAL_COLUMNS, (dict(zip(FINAL_COLUMNS, row, strict=True)) for row in texts))


def with_tested(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Add the held-out results of exported architectures to a table. Other rows get NaN.

    Args:
        table: one row per architecture, with the keys in the column `arch`. It gets the new columns.
        run: the run.
    """
    rows = {arch: row for (arch, weights), row in _read(run).items() if weights == run.fingerprint}
    for number, column in enumerate(TEST_COLUMNS):
        values = {arch: row[number] for arch, row in rows.items()}
        table[column] = table["arch"].map(values).astype(float)
    return table


def _read(run: Run) -> dict[KeyAndWeights, tuple[float, ...]]:
    path = run.tested_path
    if not path.is_file():
        return {}
    try:
        return {
            (row["arch"], row["weights"]): tuple(float(row[column]) for column in TEST_COLUMNS)
            for row in read_rows(path)
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: delete it, and export its codecs again.") from error
