"""Starts and continues trainings: from the arguments of `nas train` to a trained run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.quantity import macs
from nas.cost.exact.reach import ReachableCosts
from nas.graph.network import CodecNetwork, Supernet
from nas.metrics.objective import Objective
from nas.photos.images import BUNDLED, Photo
from nas.photos.split import photos_of, split_of, training_photos, write_split
from nas.run import Run
from nas.shipped import in_zoo, zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.rates import anchors_between, middle, parse_lmbda
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.device import choose
from nas.support.errors import InputError, UnreachableBudgetError, nearest
from nas.support.files import LOCK, clear, folder_lock, refuse_existing, refuse_over_input, write_yaml
from nas.support.paths import as_typed
from nas.training import expected
from nas.training.data import CropSource
from nas.training.devices import make_fabric, refuse_what_does_not_fit
from nas.training.klt import with_klt
from nas.training.loop import NonFiniteLossError, Progress, belongs_to, is_trained, train
from nas.training.settings import TrainingSettings, settings_of
from nas.training.strategies import NO_FRONT, architectures_on_fronts
from nas.weights import checkpoint
from nas.weights.checkpoint import supernet_of
from nas.weights.rates import at_one_rate, over_range

LEAST_SIDE = 64  # least side of a crop in pixels; smaller photos are enlarged
LEAST_CROP = 192  # least advised side of a crop in pixels: from there on z has a middle
KLT = "klt"  # value of --init-from: see `with_klt`


@dataclass(frozen=True)
class TrainingRequest:
    """The arguments of `nas train`.

    Attributes:
        space: a shipped space, a YAML file, a codec.yaml, or a `SearchSpace`.
        data: a folder of photos, or `bundled`.
        out: folder of the run.
        arch: train only this architecture.
        settings: training settings by name.
        init_from: starting weights: `klt` (computed from the photos), a run's folder, a supernet.safetensors,
            `zoo:NAME`, a CompressAI checkpoint or a name of CompressAI's zoo, or plain layers of the one
            architecture that is trained.
        front: a searched run whose front `strategy=front` trains. By default it is the run of `init_from`.
        notes: further entries of config.yaml.
        split: the photos of `data` by part. By default they are split by a hash of their names.
        force: replace an existing run.
        device: where to compute: `auto`, `cpu` or `cuda`.
    """

    space: str | SearchSpace
    data: str
    out: Path
    arch: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    init_from: str | Path | CodecNetwork | None = None
    force: bool = False
    device: str = "auto"
    front: Path | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, list[Path]] | None = None

    def search_space(self) -> SearchSpace:
        """The space to train, with the range of rates that `lmbda` gives.

        If the space has a range already, `lmbda` may be the lambda of its middle anchor, as in a run's
        settings.
        """
        space = self.space if isinstance(self.space, SearchSpace) else SearchSpace.load(self.space)
        match self._lmbda:
            case None:
                return space
            case (low, high):
                return replace(space, rates=anchors_between(low, high))
            case single:
                return space if space.rates and single == middle(space.rates) else replace(space, rates=())

    def training_settings(self) -> TrainingSettings:
        """The settings. Over a range of rates, their lambda is that of the middle anchor."""
        rates = self.search_space().rates
        return TrainingSettings.make({**self.settings, **({"lmbda": middle(rates)} if rates else {})})

    @property
    def _lmbda(self) -> float | tuple[float, float] | None:
        given = self.settings.get("lmbda")
        return None if given is None else parse_lmbda(given)


def advice(request: TrainingRequest) -> str | None:
    """Advice against settings that the user may regret, in a sentence or two, or None.

    Raises:
        InputError: the space or a setting cannot be read.
    """
    settings, space = request.training_settings(), request.search_space()
    if request.arch is not None:
        space = space.only(space.parse(request.arch))
    sentences = [long] if (long := expected.long_training_warning(space, settings, request.device)) else []
    side = settings.crop // 64
    small = (
        f"Crops of {settings.crop} pixels make z {side}x{side}, so the hyperprior never sees the middle of a "
        f"photo, and whole ones may cost a sixth more: --set crop={LEAST_CROP} or more avoids that."
    )
    if settings.crop < LEAST_CROP and "h_a" in space.family.edges:
        sentences.append(small)
    if settings.frozen and request.init_from is None:
        sentences.append(
            f"`frozen` keeps random weights in {' and '.join(settings.frozen)}: add --init-from klt, or "
            "other weights that are worth keeping."
        )
    return " ".join(sentences) or None


def start_training(
    request: TrainingRequest,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Run:
    """Make a run and train it to the end.

    Args:
        request: what to train, on which photos, and where to write.
        report: called as the work goes on.
        say: called with advice (see `advice`) before the work begins.

    Raises:
        InputError: the request cannot be met. Raised before anything is written.
    """
    space, settings, split, photos, front = _checked(request)
    if word := advice(request):  # after all quick checks
        say(word)
    initial = None
    if request.init_from is not None:
        torch.manual_seed(settings.seed)  # for weights that the starting point does not have
        if request.init_from == KLT:
            initial = with_klt(space, photos, settings.objective)
        else:
            initial = initial_weights(request.init_from, space, settings.objective)
        checkpoint.check_fit(Supernet(space), initial, source=_named(request.init_from))
    fabric = make_fabric(request.device, settings.precision)
    fabric.barrier()  # all processes have checked before one writes
    if fabric.is_global_zero and request.force and not request.out.is_dir():
        clear(request.out)
    with folder_lock(request.out / LOCK) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            _refuse_run(request.out, force=request.force)  # another process may have made it meanwhile
            for path in request.out.iterdir():
                if path.name != LOCK:
                    clear(path)
            run = Run.create(request.out, space, settings.model_dump())
            more: dict[str, Any] = {"data": BUNDLED} if request.data == BUNDLED else {}
            more |= {} if request.init_from is None else {"init_from": _named(request.init_from)}
            keys = [architecture.key for architecture in front]
            more |= {"front": keys} if keys else {}
            write_yaml(run.config_path, {**run.config, **more, **request.notes})
            write_split(run.split_path, split)
            if keys:
                run.begin_with(keys)
        fabric.barrier()
        run = Run.open(request.out)
        train(run, photos, fabric, initial=initial, report=report)
    return run


def check_training(request: TrainingRequest) -> None:
    """Make the quick checks of `start_training`, before something else is removed for the training.

    Args:
        request: what to train, on which photos, and where to write.

    Raises:
        InputError: the request cannot be met.
    """
    _checked(request)


def _checked(
    request: TrainingRequest,
) -> tuple[SearchSpace, TrainingSettings, dict[str, list[Path]], list[Photo], list[Architecture]]:
    """The space, settings, split, photos and front of a request that passes all quick checks."""
    space, settings = request.search_space(), request.training_settings()
    if request.arch is not None:
        space = space.only(space.parse(request.arch))
    _refuse_run(request.out, force=request.force)
    refuse_over_input(request.out, *_read_from(request))
    device = choose(request.device)
    split = split_of(request.data) if request.split is None else dict(request.split)
    photos = training_photos(request.data, split)
    CropSource(photos, crop=settings.crop, seed=settings.seed)
    _check_crop(photos, max(crop for crop, _ in settings.phases))
    refuse_what_does_not_fit(space, settings, device, int(os.environ.get("WORLD_SIZE", 1)))
    _check_structure(space, settings)
    _check_frozen(space, settings)
    front = _front(request, space, settings) if settings.strategy == "front" else []
    if settings.only is not None and request.init_from is None:
        raise InputError(f"only={settings.only} trains a part of trained weights: add --init-from RUN.")
    return space, settings, split, photos, front


def train_or_resume(
    request: TrainingRequest, report: Callable[[Progress], None] = lambda progress: None
) -> Run:
    """Train a run to the end. If an earlier attempt of the same request stopped, continue it.

    Args:
        request: what to train, on which photos, and where to write.
        report: called as the work goes on.

    Raises:
        InputError: an existing run was trained with other settings.
        NonFiniteLossError: the training diverged.
    """
    run = Run(request.out)
    done = run.weights_path.is_file()
    try:
        if not done and not run.checkpoint_path.is_file():  # it stopped before its first checkpoint
            return start_training(replace(request, force=True), report)
        run = Run.open(request.out)
        if settings_of(run) != request.training_settings():
            raise InputError(
                f"{request.out} holds a run with other settings: give another folder, or remove it."
            )
        return run if done else resume_training(request.out, device=request.device, report=report)
    except NonFiniteLossError as error:
        advice = "Begin anew with a lower learning rate (--set learning_rate=...)."
        raise NonFiniteLossError(error.where, advice) from error


def _named(source: str | Path | CodecNetwork) -> str:
    """The name of a starting point in config.yaml and messages."""
    return "the codec" if isinstance(source, CodecNetwork) else str(source)


def _front(request: TrainingRequest, space: SearchSpace, settings: TrainingSettings) -> list[Architecture]:
    """The architectures that strategy=front trains: those of `members`, or those that a search found."""
    if settings.members:
        return [space.parse(key) for key in settings.members]
    return architectures_on_fronts(_searched(request), space)


def _searched(request: TrainingRequest) -> Run:
    """The searched run whose front is trained."""
    source = request.front or request.init_from
    if isinstance(source, str | Path) and in_zoo(source):
        return zoo_run(source)
    if not isinstance(source, str | Path) or not Path(source).is_dir():
        raise InputError(NO_FRONT)
    return Run.open(source)


def _check_structure(space: SearchSpace, settings: TrainingSettings) -> None:
    """Raise InputError if the space lacks the structure to learn, or cannot reach its target cost."""
    if settings.layout_stages and not space.with_convolution:
        what = "context convolution" if space.family.context else "context model"
        raise InputError(f"{space.name} has no {what}, so no layout can be learned: leave layout_stages out.")
    if settings.target is None:
        return
    quantity = macs(measured_costs(space), settings.structure_scope)
    least, _, most = (value / quantity.per_unit for value in ReachableCosts(quantity).span())
    if not least <= settings.target <= most:
        raise UnreachableBudgetError(
            f"target={settings.target:g} kMAC/px ({settings.structure_scope}) is out of reach: {space.name} "
            f"costs {least:.4g} to {most:.4g}."
        )


def _check_frozen(space: SearchSpace, settings: TrainingSettings) -> None:
    """Raise InputError if a frozen part does not exist, or if nothing is left to train."""
    if not settings.frozen:
        return
    names = [name for name, _ in Supernet(space).named_parameters()]
    for part in settings.frozen:
        if not any(belongs_to(name, part) for name in names):
            layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
            raise InputError(f"frozen: {space.name} has no layer '{part}': {nearest(part, layers)}")
    if not any(is_trained(name, settings) for name in names):
        raise InputError("`frozen` leaves nothing to train: name fewer parts in it.")


def resume_training(
    out: Path, *, device: str = "auto", report: Callable[[Progress], None] = lambda progress: None
) -> Run:
    """Continue an interrupted run, with the same result as without the interruption.

    Args:
        out: folder of the run.
        device: where to compute: `auto`, `cpu` or `cuda`.
        report: called as the work goes on.

    Raises:
        InputError: there is no run or no checkpoint, or another process trains in the folder.
    """
    run = Run.open(out)
    if not run.checkpoint_path.is_file():
        raise InputError(f"{out} has no checkpoint to resume from: start again with --force.")
    world = int(os.environ.get("WORLD_SIZE", 1))
    refuse_what_does_not_fit(run.trained_space, settings_of(run), choose(device), world)
    fabric = make_fabric(device, settings_of(run).precision)
    with folder_lock(out / LOCK) if fabric.is_global_zero else nullcontext():
        train(run, photos_of(run, "train"), fabric, resume=True, report=report)
    return run


def how_to_train_longer(out: Path) -> str:
    """A sentence on how to train a finished run longer.

    Args:
        out: folder of the run.
    """
    return (
        f"To train it longer, begin a new run from its weights: nas train SPACE --data DIR --out NEW "
        f"--init-from {out} --steps N."
    )


def _read_from(request: TrainingRequest) -> list[str | Path]:
    """The files and folders that a request reads."""
    read: list[str | Path] = [request.data] if request.data != BUNDLED else []
    if isinstance(request.space, str):
        read.append(resources.find("search_spaces", request.space))
    if isinstance(request.init_from, str | Path) and request.init_from != KLT:
        read.append(request.init_from)
    return read


def _refuse_run(out: Path, *, force: bool) -> None:
    """Raise InputError if a new training would replace something in `out`. The message says what to do."""
    run = Run(out)
    begun = not force and run.config_path.is_file()
    if begun and run.weights_path.is_file():
        raise InputError(
            f"{out} already exists and its training is complete: give another --out, or --force to replace "
            f"it. {how_to_train_longer(out)}"
        )
    if begun and run.checkpoint_path.is_file():
        raise InputError(
            f"{out} holds an unfinished training: continue it with "
            f"`nas train --out {as_typed(out)} --resume`, or give another --out to begin a new one."
        )
    if not _holds_a_lock_alone(out):
        refuse_existing(out, force=force, what="run")


def _holds_a_lock_alone(out: Path) -> bool:
    """Whether a folder is empty except for the lock."""
    return out.is_dir() and all(path.name == LOCK for path in out.iterdir())


def _check_crop(photos: Sequence[Photo], crop: int) -> None:
    """Raise InputError if no photo, enlarged to sides that are multiples of 64, is as large as a crop."""
    sides = [min(photo.pixels.shape[:2]) for photo in photos]
    most = max(LEAST_SIDE, -(-max(sides) // LEAST_SIDE) * LEAST_SIDE)
    if crop > most:
        height, width = photos[int(np.argmax(sides))].pixels.shape[:2]
        raise InputError(
            f"Crops of {crop} pixels fit into none of the photos, of which the largest measures "
            f"{width}x{height}: set crop={most} or smaller."
        )


def initial_weights(
    source: str | Path | CodecNetwork, space: SearchSpace, objective: Objective | None = None
) -> dict[str, Tensor]:
    """Make weights for a space from a starting point of `nas train --init-from`.

    Args:
        source: a run's folder or `zoo:NAME` (sliced if the space is one architecture of that run), a
            supernet.safetensors, a file that CompressAI saved, a name of CompressAI's zoo such as mbt2018-4,
            or, for a space with one architecture, plain layers.
        space: the space to train.
        objective: objective of the training. It selects CompressAI's weights, and the rate at which weights
            of a range of rates are taken. By default it is MSE at the middle rate.

    Returns:
        Tensors by name, in the shapes of the space's supernet.

    Raises:
        InputError: the source does not exist or does not fit the space.
    """
    if isinstance(source, CodecNetwork):
        return _rated(_of_plain(source, space), source.space.rates, space, objective)
    path = zoo_run(source).path if in_zoo(source) else Path(source)
    if path.is_dir():
        run = Run.open(path)
        return _rated(_weights_of(run, space), run.space.rates, space, objective, settings_of(run).lmbda)
    from nas.weights.interchange import bare_names, from_checkpoint, from_state, from_zoo, zoo_name

    if path.suffix == ".safetensors":
        tensors = bare_names(checkpoint.Checkpoint.read(path).tensors)
        theirs = any(name.startswith("entropy_bottleneck.") for name in tensors)
        return from_state(tensors, space, str(path)) if theirs else _read_as_in(space, tensors)
    if path.exists():
        return from_checkpoint(path, space)
    if zoo_name(str(source)):
        return from_zoo(str(source), objective.metric if objective else "mse", space)
    raise InputError(
        f"There is no {source} to start from: give {KLT}, a run, zoo:NAME, a supernet.safetensors, a "
        "checkpoint of CompressAI's or a name of its zoo (mbt2018-4)."
    )


def _read_as_in(space: SearchSpace, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of a context model to the way in which a space reads its context.

    Missing tables start without any effect. Without a convolution, only psi is read.
    """
    first = "context.entropy_parameters.0.weight"
    state = dict(tensors)
    if space.family.context and not space.with_convolution:
        state = {name: v for name, v in state.items() if not name.startswith("context.context_prediction.")}
        if first in state:
            state[first] = state[first][:, : space.features[0]]
    if space.with_tables:
        fresh = Supernet(space).state_dict()
        state |= {name: v for name, v in fresh.items() if "context.table." in name and name not in state}
    return state


def _weights_of(run: Run, space: SearchSpace) -> dict[str, Tensor]:
    """A run's weights for a space, with the run's gains if it has any."""
    if set(space.shape) == {1} and set(run.space.shape) != {1}:
        return _sliced_weights(run, space)
    return _read_as_in(space, checkpoint.Checkpoint.read(run.weights_path).tensors)


def _rated(
    tensors: dict[str, Tensor],
    rates: tuple[float, ...],
    space: SearchSpace,
    objective: Objective | None,
    trained_for: float | None = None,
) -> dict[str, Tensor]:
    """Convert weights to the rate, or to the range of rates, of a space.

    Args:
        tensors: the weights, with their gains if they have any.
        rates: anchors of their range of rates. Empty for weights of one rate.
        space: the space that they are for.
        objective: rate at which weights of a range are taken. By default it is the middle one.
        trained_for: lambda of weights of one rate. By default it is the middle of the new range.
    """
    if rates and not space.rates:
        return at_one_rate(tensors, space.family, rates, objective.lmbda if objective else middle(rates))
    if space.rates and not rates:
        fresh = Supernet(space).state_dict()
        return over_range(fresh, tensors, space.rates, trained_for or middle(space.rates))
    return tensors


@torch.no_grad()
def _sliced_weights(run: Run, space: SearchSpace) -> dict[str, Tensor]:
    architecture = space.widest()
    supernet = supernet_of(run)
    its_space = supernet.space
    if architecture.layout not in its_space.layouts:
        architecture = its_space.parse(f"{architecture.key.rpartition('=')[0]}={its_space.layout_names[0]}")
    else:
        architecture = its_space.parse(architecture.key)
    return _of_plain(supernet.extract(architecture), space)


def _of_plain(network: CodecNetwork, space: SearchSpace) -> dict[str, Tensor]:
    """Plain layers and their gains as weights of a space with one architecture; the rest are constants."""
    supernet, plain = Supernet(replace(space, rates=network.space.rates)), network.state_dict()
    return {name: plain.get(name, value) for name, value in supernet.state_dict().items()}
