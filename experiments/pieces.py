"""Training in pieces. A piece is a run that continues from committed weights and replaces them by its own.

The weights are in half precision. The metadata of their file lists the steps and settings of all their
pieces.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.results import options as plain_options
from experiments.results import say
from nas.metrics.objective import Objective
from nas.photos.split import load_photos, split_folder
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.training.klt import PHOTOS, with_klt
from nas.training.loop import Progress
from nas.training.start import TrainingRequest, train_or_resume
from nas.weights.checkpoint import Checkpoint, to_half_precision

EXPERIMENTS = Path(__file__).parent
WEIGHTS = EXPERIMENTS / "weights"
SAID = 200  # steps between lines of progress
SMALL: dict[str, Any] = {  # settings that all trainings of the experiments have in common
    "batch": 2,
    "crop": 192,
    "final_rate": 0.03,
    "checkpoint_every": 250,
    "preview_every": 0,
}


Start = Callable[[], tuple[str, dict[str, Tensor]]]  # makes the name of initial weights, and the weights


@dataclass(frozen=True)
class Piece:
    """One piece of a training.

    Attributes:
        space: the search space that is trained.
        weights: file of the weights.
        start: makes the initial weights if this file does not exist yet.
        settings: training settings of the piece.
        front: a searched run whose front is trained, or None.
    """

    space: SearchSpace
    weights: Path
    start: Start
    settings: dict[str, Any]
    front: Path | None = None

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The earlier pieces of its weights."""
        return pieces_seen(self.weights)


def pieces_seen(weights: Path) -> list[dict[str, Any]]:
    """List the pieces in which a file of weights was trained. Empty if there is no such file."""
    return list(Checkpoint.read(weights).record["pieces"]) if weights.is_file() else []


def train_piece(piece: Piece, data: Path, runs: Path, device: str = "auto", seed: int = 0) -> None:
    """Train a piece and write its weights. After an interruption, the same call continues."""
    seen = piece.seen
    out = runs / f"{piece.weights.stem}-{len(seen) + 1}"
    settings = {**piece.settings, "seed": seed + len(seen)}
    source, origin = piece.weights, piece.weights.stem
    if not seen:
        torch.manual_seed(settings["seed"])
        source = runs / "start" / f"{piece.weights.stem}.safetensors"
        source.parent.mkdir(parents=True, exist_ok=True)
        origin, tensors = piece.start()
        Checkpoint(tensors, {}).write(source)
    request = TrainingRequest(
        piece.space,
        str(data),
        out,
        settings=settings,
        init_from=source,
        device=device,
        front=piece.front,
    )

    def report(progress: Progress) -> None:
        if progress.step % SAID == 0:
            say(
                f"{out.name}  {progress.step}/{progress.steps}  loss {progress.loss:.4f}  "
                f"{progress.bpp:.4f} bpp  {progress.seconds_left / 60:.0f} min left"
            )

    run = train_or_resume(request, report)
    record = {"from": origin, **settings}
    write_half(run, piece.weights, {"pieces": [*seen, record]})


def write_half(run: Run, path: Path, record: dict[str, Any]) -> None:
    """Write the weights of a run in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Checkpoint(to_half_precision(Checkpoint.read(run.weights_path).tensors), record).write(path)
    say(f"wrote {path.relative_to(EXPERIMENTS.parent)}")


def from_klt(space: SearchSpace, data: Path, lmbda: float) -> Start:
    """Start with g_a and g_s as the KLT of the training photos, and with random weights elsewhere."""
    photos = lambda: load_photos(split_folder(data)["train"][:PHOTOS])  # noqa: E731
    return lambda: ("klt", with_klt(space, photos(), Objective(lmbda)))


def from_lmbda(weights: Path, known: float, lmbda: float) -> Start:
    """Start with the weights of another lambda, with y scaled for this one (see `with_gain`)."""
    gain = math.sqrt(lmbda / known)
    return lambda: (f"{weights.stem}, gain {gain:.3f}", with_gain(full(weights), gain))


def full(weights: Path) -> dict[str, Tensor]:
    """Read weights in single precision."""
    return {name: tensor.float() for name, tensor in Checkpoint.read(weights).tensors.items()}


def with_gain(tensors: dict[str, Tensor], gain: float) -> dict[str, Tensor]:
    """Scale y by a gain inside a network. The network does the same as before, but y is rounded more finely.

    A larger lambda needs finer rounding, and training takes thousands of steps to make y larger. A run for
    another lambda therefore begins with a gain, the square root of the ratio of the lambdas: at high rates,
    the best quantisation step is inversely proportional to the root of lambda (Sullivan and Wiegand, 1998).
    """
    last = "context.entropy_parameters.4" if "context.entropy_parameters.4.weight" in tensors else "h_s.4"
    times = {f"{layer}.{part}" for layer in ("g_a.6", last) for part in ("weight", "bias")}
    over = {f"{layer}.weight" for layer in ("g_s.0", "h_a.0", "context.context_prediction")}
    found = dict(tensors)
    for name, tensor in tensors.items():
        if name in times:
            found[name] = tensor * gain
        elif name in over:
            found[name] = tensor / gain
        elif name == "y_prior.matrices.0":  # first layer of the cumulative distribution: softplus(matrix) y
            found[name] = torch.log(torch.expm1(torch.nn.functional.softplus(tensor) / gain))
    return found


def options(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options of all scripts that train."""
    parser = plain_options(description)
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs of the training")
    return parser


def piece_options(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options of scripts that train in pieces."""
    parser = options(description)
    parser.add_argument("--piece", type=int, default=1, help="train each model up to this number of pieces")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser
