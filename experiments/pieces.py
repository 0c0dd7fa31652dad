"""Training by pieces: a piece is a run that goes on from committed weights and leaves its own.

Weights are in half precision; their file names the pieces it has seen in its metadata (steps, settings).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.results import say
from nas.graph.network import Supernet, is_constant
from nas.run import Run
from nas.space import SearchSpace
from nas.training.checkpoint import Checkpoint, halved
from nas.training.loop import Progress
from nas.training.start import TrainingRequest, train_or_resume

EXPERIMENTS = Path(__file__).parent
WEIGHTS = EXPERIMENTS / "weights"
TRANSFORMS = WEIGHTS / "layouts.safetensors"  # joint-ar of 48 channels, 11,000 steps at lambda 0.013
SAID = 200  # steps between lines of progress


@dataclass(frozen=True)
class Piece:
    """What is trained, and how.

    Attributes:
        space: of what.
        weights: where its weights are committed.
        begin: files to begin with, where there are no such weights yet: the first that exists.
        fresh: what to begin with where there are none of those either.
        settings: of the piece.
    """

    space: SearchSpace
    weights: Path
    begin: tuple[Path, ...]
    fresh: Callable[[], dict[str, Tensor]]
    settings: dict[str, Any]

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The pieces that its weights have seen."""
        return list(Checkpoint.read(self.weights).record["pieces"]) if self.weights.is_file() else []

    @property
    def start(self) -> Path | None:
        """The committed weights that it begins with."""
        return next((path for path in (self.weights, *self.begin) if path.is_file()), None)


def train_piece(piece: Piece, data: Path, runs: Path, device: str = "auto", seed: int = 0) -> None:
    """Train a piece and write its weights; stopped, the same call goes on."""
    seen, start = piece.seen, piece.start
    out = runs / f"{piece.weights.stem}-{len(seen) + 1}"
    settings = {**piece.settings, "seed": seed + len(seen)}
    source = start
    if source is None:
        torch.manual_seed(settings["seed"])
        source = runs / "start" / f"{piece.weights.stem}.safetensors"
        source.parent.mkdir(parents=True, exist_ok=True)
        Checkpoint(piece.fresh(), {}).write(source)
    request = TrainingRequest(piece.space, str(data), out, settings=settings, init_from=source, device=device)

    def report(progress: Progress) -> None:
        if progress.step % SAID == 0:
            say(
                f"{out.name}  {progress.step}/{progress.steps}  loss {progress.loss:.4f}  "
                f"{progress.bpp:.4f} bpp  {progress.seconds_left / 60:.0f} min left"
            )

    run = train_or_resume(request, report)
    record = {"from": start.stem if start else TRANSFORMS.stem, **settings}
    write_half(run, piece.weights, {"pieces": [*seen, record]})


def write_half(run: Run, path: Path, record: dict[str, Any]) -> None:
    """A run's weights in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Checkpoint(halved(Checkpoint.read(run.weights_path).tensors), record).write(path)
    say(f"wrote {path.relative_to(EXPERIMENTS.parent)}")


def with_transforms(space: SearchSpace, edges: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights of a space: some edges those of TRANSFORMS, all else at random."""
    fresh, known = Supernet(space).state_dict(), Checkpoint.read(TRANSFORMS).tensors
    kept = {
        name: known[name].float()
        for name in fresh
        if name.partition(".")[0] in edges and name in known and not is_constant(name)
    }
    return {**fresh, **{name: t for name, t in kept.items() if t.shape == fresh[name].shape}}


def options(description: str) -> argparse.ArgumentParser:
    """The options of everything that trains."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of training photos")
    parser.add_argument("--runs", type=Path, required=True, help="where runs are kept while they train")
    parser.add_argument("--piece", type=int, default=1, help="train up to so many pieces of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    return parser
