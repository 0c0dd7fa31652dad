"""Random crops of training photos, and worker processes that cut them ahead of time."""

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

# Photos are reduced by up to this factor, which hides the artefacts of JPEG sources and varies the scale.
LARGEST_REDUCTION = 2.0


class CropSource:
    """Random crops by number. Crop k of a run is always the same, whichever process makes it and whenever.

    Each crop is a square from a randomly reduced version of a photo, flipped at random. Photos are drawn in
    proportion to their sizes, and photos smaller than the crop are enlarged.

    Args:
        photos: decoded photos. Forked worker processes (Linux) share them with this process. Spawned ones
            (macOS, Windows) get a copy each.
        crop: side of the crops in pixels, a multiple of 64.
        seed: seed of the run.
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
        """Make crop `number`, 8-bit, [3, crop, crop]."""
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
    """Yield the batches of steps `first` .. `last` - 1 in [0, 1], [batch / world, 3, crop, crop].

    Step s has crops s * batch .. (s + 1) * batch - 1 of the source, and each process gets an equal share of
    them. A run that continues at `first` therefore sees the same crops as without interruption. The workers
    end with the generator: close it if an exception may outlive the loop.

    Args:
        source: makes the crops.
        batch: number of crops in a step, over all processes.
        first: the first step.
        last: the step after the last one.
        rank: number of this process.
        world: number of processes.
        workers: number of worker processes that make batches ahead of time. With 0, this process makes them.
        pin: put batches into page-locked memory, from which a GPU can copy them while it computes.

    Raises:
        InputError: the batch cannot be divided equally among the processes.
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
            pin_memory=pin,  # a separate thread then fetches the workers' batches
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # otherwise it draws from the global generator
        )
        served = iter(loader)
    try:
        for block in served:
            x = torch.empty(block.shape, pin_memory=pin)
            yield x.copy_(block).div_(255)
    finally:
        if workers:  # end them now, even if a traceback keeps the iterator alive
            served._shutdown_workers()  # type: ignore[attr-defined]


def _ignore_interrupts(worker: int) -> None:
    """Ignore interrupts in a worker: they may reach all processes, and the main one ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored already, as under nohup
            signal.signal(number, _end_when_asked_again)
    if hasattr(signal, "pthread_sigmask"):  # they were blocked while this worker was started
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _end_when_asked_again(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Start workers without interrupts in between, and without their warnings.

    Ctrl-C and similar signals wait until the workers exist. Using more workers than cores is the user's
    choice, and forked workers need no threads.
    """
    masks = hasattr(signal, "pthread_sigmask")  # Windows has none: an interrupted worker may print there
    if masks:
        if multiprocessing.get_start_method() != "fork":
            resource_tracker.ensure_running()  # started now, because starting it lifts the mask
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
    """Cut a random crop from a random reduction of an image. Also returns whether to flip it."""
    most = min(LARGEST_REDUCTION, min(image.size) / crop)
    factor = most if most < 1 else rng.uniform(1, most)
    side = min(crop * factor, *image.size)  # the product may have been rounded up
    left = rng.uniform(0, image.width - side)
    top = rng.uniform(0, image.height - side)
    if factor < 1.05 and most >= 1:  # the reduction is too small to be worth resampling
        x, y = int(left), int(top)
        part = image.crop((x, y, x + crop, y + crop))
    else:
        box = (left, top, left + side, top + side)
        kind = Image.Resampling.BOX if factor > 1 else Image.Resampling.BICUBIC
        part = image.resize((crop, crop), kind, box)
    return part, bool(rng.random() < 0.5)
