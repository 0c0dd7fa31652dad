"""Random crops of training photos, and processes that cut them ahead of the loop."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nas.photos.images import Photo
from nas.support.errors import InputError
from nas.support.interrupts import STOPS

# Reducing by up to this factor hides the artefacts of JPEG sources and varies the content's scale.
LARGEST_REDUCTION = 2.0


class CropSource:
    """Random crops by number: crop k of a run is the same whoever makes it, and whenever.

    Each is a square from a randomly reduced version of a photo, flipped at random; photos are drawn in
    proportion to their sizes, and smaller ones than the crop are enlarged.

    Args:
        photos: decoded photos. Worker processes that are forked (Linux) share them with this one; those that
            are spawned (macOS, Windows) get a copy each.
        crop: side in pixels, a multiple of 64.
        seed: of the run.
    """

    def __init__(self, photos: Sequence[Photo], *, crop: int, seed: int) -> None:
        if crop % 64 or crop < 64:
            raise InputError(f"Crops must be a multiple of 64 pixels, not {crop}: set crop=64, 128, 256, ...")
        if not photos:
            raise InputError(
                "No photo is listed to train on: restore the run's split.csv, or train a new run."
            )
        self._size, self._seed = crop, seed
        self._images = [Image.fromarray(photo.pixels) for photo in photos]
        self._ends = np.cumsum([photo.size for photo in photos])

    def crop(self, number: int) -> Tensor:
        """Crop `number`, 8-bit, [3, crop, crop]."""
        rng = np.random.default_rng((self._seed, number))
        pick = np.searchsorted(self._ends, rng.integers(self._ends[-1]), side="right")
        part, flipped = _cut(self._images[pick], self._size, rng)
        bands = [np.asarray(band) for band in part.split()]
        return torch.from_numpy(np.stack([band[:, ::-1] for band in bands] if flipped else bands))


def batches(
    source: CropSource,
    *,
    batch: int,
    first: int,
    last: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Generator[Tensor, None, None]:
    """Batches of steps `first` .. `last` - 1 in [0, 1], [batch / world, 3, crop, crop].

    Step s holds crops s * batch .. (s + 1) * batch - 1 of the source, and each process an equal share of
    them, so a run that goes on at `first` sees what it would have seen. The workers end with the generator:
    close it where an exception may outlive the loop.

    Args:
        source: where the crops are from.
        batch: crops a step, over all processes.
        first: the first step.
        last: the step after the last one.
        rank: which of the `world` processes this is.
        world: number of processes.
        workers: processes that make batches ahead of time; with 0 they are made in this one.
        pin: put batches into page-locked memory, from which a GPU can copy them while it computes.

    Raises:
        InputError: the batch cannot be shared equally.
    """
    if batch % world:
        raise InputError(
            f"A batch of {batch} crops cannot be shared equally by {world} processes: set batch to a "
            f"multiple of {world}."
        )
    return _serve(_Shares(source, batch, rank, world), range(first, last), workers, pin)


class _Shares(Dataset[Tensor]):
    """One process's share of every step's batch, 8-bit, [batch / world, 3, crop, crop]."""

    def __init__(self, source: CropSource, batch: int, rank: int, world: int) -> None:
        self._source, self._batch, self._rank, self._each = source, batch, rank, batch // world

    def __getitem__(self, step: int) -> Tensor:
        start = step * self._batch + self._rank * self._each
        return torch.stack([self._source.crop(number) for number in range(start, start + self._each)])


def _serve(shares: _Shares, steps: range, workers: int, pin: bool) -> Generator[Tensor, None, None]:
    pin = pin and torch.cuda.is_available()
    with _quiet_start() if workers else nullcontext():
        loader = DataLoader(
            shares,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            pin_memory=pin,  # so that a thread of its own fetches what the workers made
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # else it draws from the global one
        )
        served = iter(loader)
    try:
        for block in served:
            x = torch.empty(block.shape, pin_memory=pin)
            yield x.copy_(block).div_(255)
    finally:
        if workers:  # now, even where a traceback keeps the iterator alive
            served._shutdown_workers()  # type: ignore[attr-defined]


def _ignore_interrupts(worker: int) -> None:
    """What stops a training may reach all its processes at once: the first one sees to its workers' end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end_when_asked_again)
    if hasattr(signal, "pthread_sigmask"):  # they were blocked while this worker was started
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _end_when_asked_again(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """What starts workers: Ctrl-C and its like wait until they are there; no warnings of theirs.

    More workers than cores are the user's choice, and what a worker does after a fork needs no threads.
    """
    masks = hasattr(signal, "pthread_sigmask")  # Windows has none: a worker that is starting may complain
    if masks:
        if multiprocessing.get_start_method() != "fork":
            resource_tracker.ensure_running()  # starting it would lift the mask
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, *STOPS])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")
            warnings.filterwarnings("ignore", r".*use of fork\(\) may lead to deadlocks")
            yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cut(image: Image.Image, crop: int, rng: np.random.Generator) -> tuple[Image.Image, bool]:
    """A random crop of an image's random reduction, and whether it is to be flipped."""
    most = min(LARGEST_REDUCTION, min(image.size) / crop)
    factor = most if most < 1 else rng.uniform(1, most)
    side = min(crop * factor, *image.size)  # the product may be rounded up
    left = rng.uniform(0, image.width - side)
    top = rng.uniform(0, image.height - side)
    if factor < 1.05 and most >= 1:  # too little to be worth resampling
        x, y = int(left), int(top)
        part = image.crop((x, y, x + crop, y + crop))
    else:
        box = (left, top, left + side, top + side)
        kind = Image.Resampling.BOX if factor > 1 else Image.Resampling.BICUBIC
        part = image.resize((crop, crop), kind, box)
    return part, bool(rng.random() < 0.5)
