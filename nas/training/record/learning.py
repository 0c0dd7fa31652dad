"""Losses on calibration photos during training and RUN/learning.png, within a small share of the time."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.graph.network import Supernet
from nas.support.files import write_atomically
from nas.training.record.watch import CalibrationMonitor

TIME_SHARE = 0.02  # largest share of the training's time
DRAWING = 1.0  # seconds that the first picture takes, import of the drawing library included

TRAINING = "loss"
CURVE_COLOURS = ("#c2571a", "#7a7a7a", "#1f5fa8")


class Learning:
    """Measures losses on calibration photos as often as the time allows.

    Args:
        watch: measures the losses.
        path: path of the picture.
    """

    def __init__(self, watch: CalibrationMonitor, path: Path) -> None:
        self.watch, self._path = watch, path
        self._spent, self._cost, self._began = 0.0, 0.0, 0.0

    def look(self, net: Supernet, elapsed: float, pixel: float, *, last: bool) -> dict[str, float]:
        """Return the losses, or nothing if they would take too much of the time.

        Args:
            net: the supernet. Its active architecture changes.
            elapsed: seconds of training so far.
            pixel: seconds that the training takes for a pixel of one architecture.
            last: whether this is the last look. Otherwise time is left for a later one.
        """
        self._began, cost = time.monotonic(), self._cost or DRAWING + pixel * self.watch.pixels
        if not self.watch.pixels or self._spent + cost * (1 if last else 2) > TIME_SHARE * elapsed:
            return {}
        return self.watch.losses(net)

    def draw(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Draw the picture from the rows of metrics.csv, and note how long the look took."""
        write_learning(self._path, rows, self.watch.columns)
        self._cost = time.monotonic() - self._began
        self._spent += self._cost


def write_learning(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Draw the training loss and the losses on calibration photos over the steps.

    Args:
        path: the PNG file, which is written atomically.
        rows: rows of metrics.csv, as text.
        columns: columns of the losses on calibration photos. Rows may leave them empty.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = [int(row["step"]) for row in rows]
    axes.plot(
        steps, [float(row[TRAINING]) for row in rows], color="#c8c8c8", label="training, random architectures"
    )
    for number, name in enumerate(columns):
        points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        colour = CURVE_COLOURS[number % len(CURVE_COLOURS)]
        label = f"calibration, {name.removeprefix('loss_')}"
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=label)
    axes.set(xlabel="step", ylabel="rate-distortion loss", yscale="log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
