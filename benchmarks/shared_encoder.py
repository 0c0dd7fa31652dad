"""A training step of several decoders that share an encoder: g_a runs once, or once for each decoder.

All ways are steps of `nas train` on the same crops, for the same architectures of the flagship, which have
one encoder. In the last way, the C library gives freed memory back to the system whenever it chooses.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from common import arguments, heading, interleaved, ratio, say, table

from experiments.flagship.train import MEMBERS, PHASE, RECIPE
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.support.device import freed_memory_kept
from nas.support.files import write_yaml
from nas.training.devices import make_fabric
from nas.training.loop import Training
from nas.training.settings import TrainingSettings, read_recipe
from nas.training.shared_encoder import SharedEncoder

STEPS = 6  # steps of one way before the next one has its turn


def training(folder: Path, decoders: int) -> Training:
    """Make the flagship's training, only for architectures that have the same encoder."""
    space = SearchSpace.load("patch-small")
    keys = [
        key
        for key in dict.fromkeys(MEMBERS)
        if space.encoder(space.parse(key)) == space.encoder(space.parse(MEMBERS[-1]))
    ]
    # the settings of the measurements in README.md
    muon = {"optimizer": "muon", "frozen": ["g_a.0.linear", "g_s.0.linear"]}
    own = {**muon, "lmbda": 0.013, "members": keys, "architectures": decoders, "elsewhere": 0.0, "moved": 0.0}
    settings = TrainingSettings.make({**read_recipe(RECIPE), **PHASE, "one_encoder": True, **own})
    run = Run.create(folder, space, settings.model_dump())
    write_yaml(run.config_path, {**run.config, "front": keys})
    return Training(Run(folder), make_fabric("cpu", "auto"))


def main() -> None:
    parser = arguments(__doc__ or "", repeats=9)
    parser.add_argument("--decoders", type=int, default=2, help="decoders per step")
    parser.add_argument("--batch", type=int, default=4, help="crops per step")
    parser.add_argument("--crop", type=int, default=256, help="side of a crop in pixels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x = torch.rand(options.batch, 3, options.crop, options.crop)
    say(heading() + f", {options.decoders} decoders, {options.batch} crops of {options.crop}")
    with tempfile.TemporaryDirectory() as place:
        trained = training(Path(place) / "run", options.decoders)
        together = trained._shared_encoder

        def steps(shared: Callable[..., SharedEncoder], numbers: Iterator[int], *, kept: bool = True) -> None:
            trained._shared_encoder = shared  # type: ignore[method-assign]
            with freed_memory_kept() if kept else nullcontext():
                for _ in range(STEPS):
                    trained.step(next(numbers), x)

        counters = [itertools.count() for _ in range(3)]
        sides: dict[str, Callable[[], None]] = {
            "g_a once": lambda: steps(together, counters[0]),
            "g_a for each": lambda: steps(lambda x, _: SharedEncoder(trained.net, x, []), counters[1]),
            "g_a once, memory given back": lambda: steps(together, counters[2], kept=False),
        }
        seconds = interleaved(sides, options.repeats, time.process_time)
    rows = [["", "CPU s a step", "its time over that of g_a once"]]
    for name in sides:
        over = str(ratio(seconds[name], seconds["g_a once"]))
        rows.append([name, f"{statistics.median(seconds[name]) / STEPS:.3f}", over])
    say(table(rows))


if __name__ == "__main__":
    main()
