"""Makes a supernet of the zoo from a trained run: weights in half precision, and a search on bundled photos.

    python -m experiments.zoo.make RUN --name joint-ar-tiny --trials 300

It writes nas/supernets/NAME: the run's config.yaml with the bundled photos as its data, supernet.safetensors,
what the search found (layouts, logits, scores, the front) and the costs of the space.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

import nas
from nas.photos.images import BUNDLED
from nas.photos.split import split_of, write_split
from nas.run import Run
from nas.shipped import EXPLAINED, SUPERNETS
from nas.support.files import write_atomically, write_yaml
from nas.weights.checkpoint import Checkpoint, to_half_precision

KEPT = ("layouts.yaml", "logits-total.yaml", "scores.csv", "curves.csv", "costs.npz")


def make(run: Run, folder: Path, trials: int, seed: int, notes: Mapping[str, str]) -> None:
    """Write one folder of the zoo. An existing README.md stays as it is.

    Args:
        run: a trained run.
        folder: folder in the zoo.
        trials: trials of the search.
        seed: seed of the search.
        notes: additional fields of config.yaml, which `nas info` shows: `name`, `trained`, `reaches`.
    """
    with tempfile.TemporaryDirectory() as place:
        own = Run(Path(place) / "run")
        own.path.mkdir()
        config = {key: value for key, value in run.config.items() if key not in ("init_from", "front")}
        write_yaml(own.config_path, {**config, "data": BUNDLED, **notes})
        write_split(own.split_path, _split(run))
        if front := run.config.get("front"):  # the architectures that were trained most
            own.begin_with(front)
        found = Checkpoint.read(run.weights_path)
        Checkpoint(to_half_precision(found.tensors), found.record).write(own.weights_path)

        def report(stage: str, done: int, total: int, note: str) -> None:
            if done in (0, total) or done % 50 == 0:
                sys.stdout.write(f"{stage}: {done}/{total}  {note}\n")
                sys.stdout.flush()

        nas.load_run(own.path, device="cpu").search(trials=trials, seed=seed, report=report)
        for path in folder.glob("*"):
            if path.name != EXPLAINED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        of_run = (own.config_path, own.weights_path, own.split_path, own.front_path)
        for path in (*of_run, *(own.search_path / name for name in KEPT)):
            if path.is_file():
                write_atomically(folder / path.relative_to(own.path), path.read_bytes())


def _split(run: Run) -> dict[str, list[Path]]:
    """Split the bundled photos into those that score architectures and those that are kept apart.

    If the weights were trained on none of the bundled photos, all but one score architectures, because a
    single photo orders them badly.
    """
    split = split_of(BUNDLED)
    if run.data != BUNDLED:
        split["calibration"] = [*split["train"], *split["calibration"]]
    return split


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("--name", required=True, help="name in the zoo")
    parser.add_argument("--space", help="name of the space")
    parser.add_argument("--trained", help="a few words on how much it was trained")
    parser.add_argument("--reaches", help="a few words on how good it is")
    parser.add_argument("--trials", type=int, default=300, help="trials of the search")
    parser.add_argument("--seed", type=int, default=0, help="seed for all random choices")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    said = {"name": given.space, "trained": given.trained, "reaches": given.reaches}
    notes = {key: text for key, text in said.items() if text}
    make(Run.open(given.run), SUPERNETS / given.name, given.trials, given.seed, notes)


if __name__ == "__main__":
    main()
