"""Time of a training step in bfloat16, compared with single precision, on this CPU.

It times the toolkit's own step with `precision=bf16` and with `precision=32`: three architectures, forward,
backward and Adam. Only CPUs with bfloat16 instructions (AVX512-BF16 or AMX, see `lscpu`) can be faster.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import arguments, heading, interleaved, ratio, say, table

from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.training.devices import make_fabric
from nas.training.loop import Training
from nas.training.settings import TrainingSettings


def step_in(precision: str, space: SearchSpace, crop: int, batch: int, folder: Path) -> Callable[[], Any]:
    """Make a function that trains a run by one step in this precision."""
    values = {"precision": precision, "strategy": "level", "architectures": 3, "crop": crop, "batch": batch}
    run = Run.create(folder / f"{precision}-{crop}", space, TrainingSettings.make(values).model_dump())
    training = Training(run, make_fabric("cpu", precision))
    x, numbers = torch.rand(batch, 3, crop, crop), itertools.count()
    return lambda: training.step(next(numbers), x)


def main() -> None:
    parser = arguments(__doc__ or "", repeats=15)
    parser.add_argument("--space", default="joint-ar-small", help="search space")
    parser.add_argument("--batch", type=int, default=2, help="crops per step")
    parser.add_argument(
        "--crops", type=int, nargs="*", default=[128, 192, 256], help="sides of crops in pixels"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    space, rows = SearchSpace.load(options.space), [["crop", "32, s", "bf16, s", "32 over bf16"]]
    say(heading() + f", {options.space}, batches of {options.batch}")
    with tempfile.TemporaryDirectory() as place:
        for crop in options.crops:
            sides = {p: step_in(p, space, crop, options.batch, Path(place)) for p in ("32", "bf16")}
            seconds = interleaved(sides, options.repeats)
            medians = (f"{statistics.median(seconds[name]):.3f}" for name in sides)
            rows.append([str(crop), *medians, str(ratio(seconds["32"], seconds["bf16"]))])
    say(table(rows))


if __name__ == "__main__":
    main()
