"""The training loop: one supernet, from photos to weights."""

from __future__ import annotations

import csv
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from nas.device import choose
from nas.errors import NasError
from nas.graph.network import Supernet
from nas.images import Photo
from nas.run import Run
from nas.training import checkpoint
from nas.training.data import Crops
from nas.training.losses import batch_losses
from nas.training.strategies import strategy

SETTLE_EVERY = 100  # steps between the medians that centred latents are rounded about
COLUMNS = ("step", "seconds", "loss", "bpp", "distortion", "psnr", "learning_rate")


@dataclass(frozen=True)
class Progress:
    """What the loop reports after a step: running means over recent steps."""

    step: int
    steps: int
    loss: float
    bpp: float
    distortion: float
    photos_per_second: float


class NonFiniteLossError(NasError):
    """A loss that is no number; the last checkpoint is kept."""


def train(
    run: Run,
    photos: Sequence[Photo],
    *,
    device: str = "auto",
    resume: bool = False,
    initial: dict[str, Tensor] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Supernet:
    """Train a run's supernet to the end and write its weights.

    Args:
        run: an existing run; its config says how to train.
        photos: decoded training photos.
        device: `auto`, `cpu` or `cuda`.
        resume: go on from the run's checkpoint.
        initial: weights to start from.
        report: called after every step.

    Raises:
        NonFiniteLossError: names the step and the architectures.
        KeyboardInterrupt: after a checkpoint has been written.
    """
    settings, space = run.settings, run.trained_space
    fabric = make_fabric(device)
    torch.manual_seed(settings.seed)
    net = Supernet(space)
    if initial is not None:
        checkpoint.load_weights(net, initial, source="the starting point")
    parameters = [p for p in net.parameters() if p.requires_grad and p.numel()]
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
    module, wrapped = fabric.setup(net, optimizer)
    crops = Crops(photos, crop=settings.crop, batch=settings.batch, seed=settings.seed)
    draws = random.Random(settings.seed)
    noise_rng = torch.Generator(fabric.device).manual_seed(settings.seed)
    chosen = strategy(settings.strategy, settings.architectures)
    state = _State(run, net, optimizer, crops, draws, noise_rng)
    first = state.restore() if resume else 0
    if not resume:
        _start_metrics(run)

    def noise(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=noise_rng, device=like.device, dtype=like.dtype) - 0.5

    began, window = time.monotonic(), _Mean(50)
    step, whole, interrupts = first, False, _Interrupts()
    try:
        for step in range(first, settings.steps):
            whole = False
            for group in optimizer.param_groups:
                group["lr"] = settings.rate_at(step)
            integers = step >= settings.steps * (1 - settings.integer_phase)
            x = crops.next().to(fabric.device)
            samples = list(chosen.draw(space, draws))
            optimizer.zero_grad(set_to_none=True)
            totals = torch.zeros(3, device=fabric.device)
            for sample in samples:
                net.activate(sample.architecture)
                output = module(x, sample.layout, None if integers else noise)
                losses = batch_losses(x, output, settings.lmbda, settings.metric)
                fabric.backward(losses.total / len(samples))
                totals += torch.stack([losses.total, losses.bpp, losses.distortion]).detach() / len(samples)
            loss, bpp, distortion = totals.tolist()
            if not math.isfinite(loss):
                names = ", ".join(sample.architecture.key for sample in samples)
                raise NonFiniteLossError(
                    f"The loss is not finite at step {step} with {names}. The last checkpoint is kept: lower "
                    "the rate of learning (--set learning_rate=...) and --resume, or start again."
                )
            fabric.clip_gradients(module, wrapped, max_norm=settings.clip)
            wrapped.step()
            if net.centred and (step + 1) % SETTLE_EVERY == 0:
                settle(net)
            whole = True
            window.add(loss, bpp, distortion)
            seconds = time.monotonic() - began
            rate = (step + 1 - first) * settings.batch / seconds
            report(Progress(step + 1, settings.steps, *window.mean(), rate))
            if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
                _append_metrics(run, step + 1, seconds, window.mean(), settings.rate_at(step))
                state.write(step + 1)
            if interrupts.wanted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        if whole:  # else the last checkpoint stands
            state.write(step + 1)
        raise
    finally:
        interrupts.close()
    if net.centred:
        settle(net)
    checkpoint.Checkpoint(net.state_dict(), {"steps": settings.steps}).write(run.weights_path)
    return net.cpu().eval()


def settle(net: Supernet) -> None:
    """Renew the medians of the factorised priors."""
    for prior in net.priors:
        prior.settle()


def make_fabric(device: str) -> Fabric:
    """One process on the chosen device, in bfloat16 where a GPU has it."""
    on_gpu = choose(device).type == "cuda"
    precision: Any = "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
    return Fabric(accelerator="cuda" if on_gpu else "cpu", devices=1, precision=precision)


class _State:
    """All that changes while a run trains, to and from its checkpoint."""

    def __init__(
        self,
        run: Run,
        net: Supernet,
        optimizer: torch.optim.Optimizer,
        crops: Crops,
        draws: random.Random,
        noise_rng: torch.Generator,
    ) -> None:
        self.run, self.net, self.optimizer = run, net, optimizer
        self.crops, self.draws, self.noise_rng = crops, draws, noise_rng

    def write(self, step: int) -> None:
        """The state after `step` steps."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= checkpoint.optimizer_tensors(self.optimizer)
        tensors["noise"] = self.noise_rng.get_state()
        record = {"step": step, "crops": self.crops.state(), "draws": self.draws.getstate()}
        checkpoint.Checkpoint(tensors, record).write(self.run.checkpoint_path)

    def restore(self) -> int:
        """Back to the checkpoint; returns the steps it had done."""
        found = checkpoint.Checkpoint.read(self.run.checkpoint_path)
        weights = {k.removeprefix("net."): v for k, v in found.tensors.items() if k.startswith("net.")}
        checkpoint.load_weights(self.net, weights, source=str(self.run.checkpoint_path))
        checkpoint.restore_optimizer(self.optimizer, found.tensors)
        self.noise_rng.set_state(found.tensors["noise"])
        self.crops.restore(found.record["crops"])
        version, internal, gauss = found.record["draws"]
        self.draws.setstate((version, tuple(internal), gauss))
        return int(found.record["step"])


class _Interrupts:
    """Ctrl-C between steps: the first is remembered until the step is whole, a second one stops at once."""

    def __init__(self) -> None:
        self.wanted = False
        self._before = signal.getsignal(signal.SIGINT)
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and self._before is signal.default_int_handler
        )
        if self._ours:
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.wanted = True
        self.close()

    def close(self) -> None:
        """Back to how it was."""
        if self._ours:
            signal.signal(signal.SIGINT, self._before)


class _Mean:
    """Means of the last few values."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: list[tuple[float, ...]] = []

    def add(self, *values: float) -> None:
        self.values = [*self.values[1 - self.size :], values]

    def mean(self) -> tuple[float, float, float]:
        loss, bpp, distortion = (sum(part) / len(self.values) for part in zip(*self.values, strict=True))
        return loss, bpp, distortion


def _start_metrics(run: Run) -> None:
    with open(run.metrics_path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(COLUMNS)


def _append_metrics(
    run: Run, step: int, seconds: float, means: tuple[float, float, float], rate: float
) -> None:
    loss, bpp, distortion = means
    psnr = -10 * math.log10(max(distortion, 1e-12)) if run.settings.metric == "mse" else math.nan
    row = (
        step,
        f"{seconds:.1f}",
        f"{loss:.5f}",
        f"{bpp:.5f}",
        f"{distortion:.7f}",
        f"{psnr:.3f}",
        f"{rate:.3g}",
    )
    with open(run.metrics_path, "a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(row)
