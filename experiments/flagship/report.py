"""Shows the progress of the flagship's training in a table and a curve, from its run's metrics.csv.

    python -m experiments.flagship.report RUN [--phase 2]

A run that began with committed weights is a phase of its own. Its steps and gigapixels continue those of the
phase before, whose rows stay.

`results/progress.csv` holds steps, gigapixels (of crops, over all architectures of a step) and the losses of
the narrowest, a median and the widest architecture on calibration photos at three rates;
`results/progress.png` draws their geometric mean over the rates.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nas.run import Run
from nas.training.settings import settings_of

RESULTS = Path(__file__).parent / "results"
SIZES, RATES = ("narrowest", "median", "widest"), ("low", "middle", "high")


def progress(run: Run) -> pd.DataFrame:
    """Read the rows of metrics.csv that have losses on calibration photos. Gigapixels and means are added."""
    rows = pd.read_csv(run.metrics_path)
    rows = rows[rows["loss_widest_middle"].notna()].copy()
    settings = settings_of(run)
    rows["gigapixels"] = [settings.architectures * settings.pixels(0, step) / 1e9 for step in rows["step"]]
    for size in SIZES:
        rows[size] = np.exp(np.log(rows[[f"loss_{size}_{rate}" for rate in RATES]]).mean(axis=1))
    losses = [f"loss_{size}_{rate}" for size in SIZES for rate in RATES]
    return rows[["step", "gigapixels", *SIZES, *losses]].round(5)


def after(rows: pd.DataFrame, path: Path, phase: int) -> pd.DataFrame:
    """Append the rows of a phase to those of the earlier phases.

    Args:
        rows: rows of the phase alone.
        path: file of the table so far.
        phase: number of the phase, from 1.
    """
    rows = rows.assign(phase=phase)
    if phase == 1:
        return rows
    known = pd.read_csv(path)
    known = known[known["phase"] < phase]
    rows[["step", "gigapixels"]] += known[["step", "gigapixels"]].iloc[-1]
    return pd.concat([known, rows]).astype({"step": int}).round(5)


def draw(table: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for size in SIZES:
        axes.plot(table["gigapixels"], table[size], marker="o", markersize=2.5, label=size)
    axes.set(xlabel="gigapixels", ylabel="loss (geometric mean over three rates)", yscale="log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--phase", type=int, default=1, help="number of this run among those of the training")
    given = parser.parse_args(arguments)
    RESULTS.mkdir(exist_ok=True)
    table = after(progress(Run.open(given.run)), RESULTS / "progress.csv", given.phase)
    table.to_csv(RESULTS / "progress.csv", index=False)
    draw(table, RESULTS / "progress.png")
    print(table[["step", "gigapixels", *SIZES]].tail(5).to_string(index=False))


if __name__ == "__main__":
    main()
