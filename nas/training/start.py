"""From the words of `nas train` to a trained run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.device import choose
from nas.errors import InputError
from nas.files import clear, refuse_existing, write_yaml
from nas.graph.network import Supernet
from nas.images import bundled
from nas.run import Run
from nas.space import SearchSpace
from nas.training import checkpoint
from nas.training.data import Crops, load_photos, split_folder, write_split
from nas.training.loop import Progress, train
from nas.training.settings import TrainingSettings

BUNDLED = "bundled"  # as --data: the photos that scikit-image and matplotlib carry


@dataclass(frozen=True)
class TrainingRequest:
    """What `nas train` was asked for.

    Attributes:
        space: a shipped space, a YAML file or a codec.yaml.
        data: a folder of photos, or `bundled`.
        out: the run's folder.
        arch: train this architecture alone.
        settings: values by name.
        init_from: a run's folder or a supernet.safetensors to start from.
    """

    space: str
    data: str
    out: Path
    arch: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    init_from: Path | None = None
    force: bool = False
    device: str = "auto"


def start_training(
    request: TrainingRequest, report: Callable[[Progress], None] = lambda progress: None
) -> Run:
    """Make a run and train it to the end.

    Raises:
        InputError: before anything is written, where the request cannot be met.
    """
    space = SearchSpace.load(request.space)
    settings = TrainingSettings.make(request.settings)
    if request.arch is not None:
        space = space.only(space.parse(request.arch))
    refuse_existing(request.out, force=request.force, what="run")
    split = _bundled_split() if request.data == BUNDLED else split_folder(request.data)
    photos = bundled()["train"] if request.data == BUNDLED else load_photos(split["train"])
    Crops(photos, crop=settings.crop, batch=settings.batch, seed=settings.seed)
    choose(request.device)
    initial = None if request.init_from is None else initial_weights(request.init_from, space)
    if initial is not None:
        checkpoint.check_fit(Supernet(space), initial, source=str(request.init_from))
    if request.force:
        clear(request.out)
    run = Run.create(request.out, space, settings)
    if request.data == BUNDLED:
        write_yaml(run.config_path, {**run.config, "data": BUNDLED})
    write_split(run.split_path, split)
    run = Run.open(request.out)
    train(run, photos, device=request.device, initial=initial, report=report)
    return run


def resume_training(
    out: Path, *, device: str = "auto", report: Callable[[Progress], None] = lambda progress: None
) -> Run:
    """Go on with an interrupted run, as if it had not been interrupted."""
    run = Run.open(out)
    if not run.checkpoint_path.is_file():
        raise InputError(f"{out} has no checkpoint to resume from: start again with --force.")
    train(run, run.photos("train"), device=device, resume=True, report=report)
    return run


def initial_weights(source: Path, space: SearchSpace) -> dict[str, Tensor]:
    """Weights for a space from a run or a supernet.safetensors; sliced where it is one point of the run's."""
    if source.is_dir():
        run = Run.open(source)
        if set(space.shape) == {1} and set(run.space.shape) != {1}:
            return _sliced_weights(run, space)
        source = run.weights_path
    return checkpoint.Checkpoint.read(source).tensors


@torch.no_grad()
def _sliced_weights(run: Run, space: SearchSpace) -> dict[str, Tensor]:
    architecture = space.widest()
    supernet = run.supernet()
    known = supernet.space
    if architecture.layout not in known.layouts:
        architecture = known.parse(f"{architecture.key.rpartition('=')[0]}={known.layout_names[0]}")
    else:
        architecture = known.parse(architecture.key)
    plain = supernet.extract(architecture).state_dict()
    alone = Supernet(space).state_dict()
    return {name: plain.get(name, value) for name, value in alone.items()}


def _bundled_split() -> dict[str, list[Path]]:
    parts = bundled()
    names = {"train": "train", "calibration": "calibration", "held-out": "test"}
    return {name: [Path(photo.name) for photo in parts[part]] for name, part in names.items()}
