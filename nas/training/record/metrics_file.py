"""What a training run tells of itself: metrics.csv, and TensorBoard where it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.support.errors import InputError
from nas.support.tables import read_rows, write_rows

METRICS_COLUMNS = ("step", "seconds", "loss", "bpp", "distortion", "psnr", "learning_rate")


class MetricsFile:
    """One row of metrics per checkpoint.

    Args:
        path: metrics.csv.
        more: columns beyond those of every run.
        tensorboard: a folder for TensorBoard's events, or None.
        step: rows after this step are of an interrupted attempt and are dropped.

    Raises:
        InputError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, path: Path, *, more: Sequence[str] = (), tensorboard: Path | None = None, step: int = 0
    ) -> None:
        self._path, self._columns = path, (*METRICS_COLUMNS, *more)
        rows = [row for row in _read(path) if int(row["step"]) <= step] if step else []
        self._rows = [{name: row.get(name, "") for name in self._columns} for row in rows]
        self._events = _events(tensorboard, step) if tensorboard is not None else None
        self._write()

    @property
    def seconds(self) -> float:
        """How long the run took until the last row, over all its attempts."""
        return float(self._rows[-1]["seconds"]) if self._rows else 0.0

    @property
    def rows(self) -> list[dict[str, str]]:
        """What metrics.csv says, row by row."""
        return self._rows

    def add(self, step: int, values: dict[str, float]) -> None:
        """Note a checkpoint; `values` by column. Further columns may have none: they stay empty.

        Args:
            step: number of steps that are done.
            values: values by column.
        """
        row = {"step": str(step)}
        row |= {name: f"{values[name]:.6g}" for name in self._columns[1:] if name in values}
        self._rows.append(row)
        self._write()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()

    def picture(self, step: int, pixels: Any) -> None:
        """Show a preview, [H, W, 3], in TensorBoard.

        Args:
            step: number of steps that are done.
            pixels: the preview, in 8 bits.
        """
        if self._events is not None:
            self._events.add_image("preview", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Nothing more will come."""
        if self._events is not None:
            self._events.close()

    def _write(self) -> None:
        write_rows(self._path, self._columns, self._rows)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    return [row for row in read_rows(path) if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a row says when it was written; a damaged one does not."""
    try:
        return int(row["step"]) >= 0 <= float(row["seconds"])
    except (KeyError, ValueError):
        return False


def _events(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "TensorBoard is not installed: pip install '.[tensorboard]', or leave tensorboard out."
        ) from None
    return SummaryWriter(str(folder), purge_step=step)
