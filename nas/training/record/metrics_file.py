"""The metrics of a training: metrics.csv, and TensorBoard events on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.support.errors import InputError
from nas.support.tables import read_rows, write_rows

METRICS_COLUMNS = ("step", "seconds", "loss", "bpp", "distortion", "psnr", "learning_rate")


class MetricsFile:
    """Writes one row of metrics per checkpoint.

    Args:
        path: path of metrics.csv.
        more: columns in addition to those of every run.
        tensorboard: a folder for TensorBoard's events, or None.
        step: rows after this step come from an interrupted attempt and are dropped.

    Raises:
        InputError: TensorBoard is wanted but not installed.
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
        """Seconds of training until the last row, over all attempts."""
        return float(self._rows[-1]["seconds"]) if self._rows else 0.0

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv."""
        return self._rows

    def add(self, step: int, values: dict[str, float]) -> None:
        """Write the row of a checkpoint. The additional columns may have no value and stay empty.

        Args:
            step: number of completed steps.
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
            step: number of completed steps.
            pixels: the preview, in 8 bits.
        """
        if self._events is not None:
            self._events.add_image("preview", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Close the file and the TensorBoard writer."""
        if self._events is not None:
            self._events.close()

    def _write(self) -> None:
        write_rows(self._path, self._columns, self._rows)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    return [row for row in read_rows(path) if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a row has a valid time. A damaged row has none."""
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
