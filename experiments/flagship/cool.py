"""Let the flagship's rate of learning fall, in a copy of its run; the run itself stays as it is.

    python -m experiments.flagship.cool RUN --out COOLED --steps 2000

The copy goes on from RUN's checkpoint, the optimiser's moments included. Its rate of learning falls as a
cosine over so many further steps. Noise stands for rounding to the end: with the rate of integers in the
second half, the loss on calibration photos rose by 0.3 % where it had been falling. Stopped, the same command
goes on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.flagship.train import tell
from nas.run import Run
from nas.support.files import write_yaml
from nas.training.start import resume_training
from nas.weights.checkpoint import Checkpoint

FINAL_RATE = 0.02  # of the rate of learning, at the end


def begin(source: Path, out: Path, steps: int) -> None:
    """A copy of a run whose settings end it after so many further steps."""
    run = Run.open(source)
    done = int(Checkpoint.read(run.checkpoint_path).record["step"])
    cooling = {
        "steps": done + steps,
        "schedule": "cosine",
        "hold": done / (done + steps),
        "final_rate": FINAL_RATE,
        "integer_phase": 0.0,
    }
    shutil.copytree(source, out)
    write_yaml(out / "config.yaml", {**run.config, "training": {**run.config["training"], **cooling}})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="the flagship's run")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the copy")
    parser.add_argument("--steps", type=int, default=2000, help="how many further steps")
    chosen = parser.parse_args(arguments)
    if not chosen.out.exists():
        begin(chosen.run, chosen.out, chosen.steps)
    resume_training(chosen.out, report=tell)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
