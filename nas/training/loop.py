"""The training loop: trains one supernet, from photos to weights."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas.cost.counting.cache import load_or_measure_costs
from nas.graph.entropy import Y_LIMIT, bits, quantize, widened
from nas.graph.network import Noise, Supernet
from nas.metrics.losses import batch_losses, distortion
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.photos.split import photos_of
from nas.run import Run
from nas.spaces.layout import Layout
from nas.spaces.rates import scored
from nas.support.device import freed_memory_kept, return_free_memory
from nas.support.errors import InputError
from nas.support.files import write_yaml
from nas.support.interrupts import Interrupts
from nas.support.resources import errors_as_damage
from nas.training.data import CropSource, batches
from nas.training.layout_logits import LayoutLogits
from nas.training.optimizers import Plateaus, build_optimizer, moving_average, set_learning_rate
from nas.training.record.clock import TrainingClock
from nas.training.record.learning import Learning
from nas.training.record.metrics_file import MetricsFile
from nas.training.record.preview import preview, write_preview
from nas.training.record.watch import PHOTOS, CalibrationMonitor, MonitoredRate
from nas.training.settings import TrainingSettings, settings_of
from nas.training.shared_encoder import SharedEncoder
from nas.training.strategies import Sample, at_rates, strategy
from nas.training.structure import Structure
from nas.weights import checkpoint
from nas.weights.files import BrokenWeightsError

SETTLE_EVERY = 100  # steps between updates of the medians that centred latents are rounded about
MOST_WORKERS = 12
ANEW = "restore it, or train anew with --force or with another --out"  # remedy for a damaged checkpoint
RECENT = 50  # number of steps over which progress is averaged
TRIM_EVERY = 50  # steps after which freed memory is returned to the system


@dataclass(frozen=True)
class Progress:
    """The report after a step, with means over recent steps.

    Attributes:
        seconds_left: seconds until the end.
        expected: seconds of the whole training, given once, when the first steps have been timed.
        loss: the training loss.
        bpp: bits per pixel.
        distortion: MSE, or 1 - MS-SSIM.
        photos_per_second: number of crops per second.
    """

    step: int
    steps: int
    loss: float
    bpp: float
    distortion: float
    photos_per_second: float
    seconds_left: float
    expected: float | None = None


class NonFiniteLossError(InputError):
    """The training diverged: a loss, gradient or weight is not finite. The last checkpoint is kept.

    Args:
        where: the step and the value that is not finite, in a sentence.
        advice: what the user can do, in a sentence.

    Attributes:
        where: the step and the value that is not finite, in a sentence.
    """

    def __init__(self, where: str, advice: str) -> None:
        super().__init__(f"{where} {advice}")
        self.where = where


@freed_memory_kept()
def train(
    run: Run,
    photos: Sequence[Photo],
    fabric: Fabric,
    *,
    resume: bool = False,
    initial: dict[str, Tensor] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train a run's supernet to the end and write its weights.

    Args:
        run: an existing run. Its config says how to train.
        photos: decoded training photos.
        fabric: devices and precision: see `make_fabric`.
        resume: continue from the run's checkpoint.
        initial: weights to start from. By default they are random.
        report: called after every step.

    Raises:
        NonFiniteLossError: the training diverged. The message names the step and the architectures.
        KeyboardInterrupt: raised again after a checkpoint has been written.
    """
    settings = settings_of(run)
    training = Training(run, fabric, initial)
    first = training.restore() if resume else 0
    learning = _learning(run) if fabric.is_global_zero else None
    metrics = _metrics_file(run, first, learning) if learning else None
    phases = [
        batches(
            CropSource(photos, crop=crop, seed=settings.seed),
            batch=settings.batch,
            first=max(first, steps.start),
            last=steps.stop,
            rank=fabric.global_rank,
            world=fabric.world_size,
            workers=_workers(settings, fabric),
            pin=fabric.device.type == "cuda",
        )
        for crop, steps in settings.phases
    ]
    recent, before = training.recent, metrics.seconds if metrics else 0.0
    whole, inside, interrupts, clock = first, False, Interrupts(), TrainingClock(settings, first)
    try:
        for step, x in enumerate(chain.from_iterable(phases), first):
            inside = True
            losses = training.step(step, x.to(fabric.device, non_blocking=True))
            whole, inside = step + 1, False
            if whole % TRIM_EVERY == 0:
                return_free_memory()
            recent.add(*losses)
            clock.tick(whole)
            rate = settings.batch * (whole - first) / clock.seconds
            means = recent.mean()
            report(Progress(whole, settings.steps, *means, rate, clock.left, clock.expected))
            if whole % settings.checkpoint_every == 0 or whole == settings.steps:
                training.plateaus.see(means[0])
                if metrics and learning:
                    row, last = _row(training, step, before + clock.seconds, means), whole == settings.steps
                    pixel = clock.per_pixel / settings.architectures
                    row |= (seen := learning.look(training.kept, clock.seconds, pixel, last=last))
                    metrics.add(whole, row)  # a surplus row is dropped when the run continues
                    training.write(whole)
                    if seen:
                        learning.draw(metrics.rows)
            if metrics and settings.preview_every and whole % settings.preview_every == 0:
                picture = preview(training.net, photos_of(run, "held-out", 1)[0])
                write_preview(run.preview_path, picture)
                metrics.picture(whole, picture)
            if interrupts.wanted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        if metrics and whole > first and not inside:  # in the middle of a step, keep the last checkpoint
            training.write(whole)
        raise
    finally:
        interrupts.close()
        for crops in phases:
            crops.close()
        if metrics:
            metrics.close()
    if metrics:
        training.finish()
    fabric.barrier()


class Pass(nn.Module):
    """One forward pass in the form that Fabric wraps: its only argument are the images.

    Args:
        net: the supernet.
        picture: whether x_hat is computed: see `CodecNetwork.forward`.

    Attributes:
        layout, noise, lmbda, picture, y: the other arguments of `CodecNetwork.forward`.
    """

    layout: Layout
    noise: Noise | None
    lmbda: float | None = None
    y: Tensor | None = None

    def __init__(self, net: Supernet, *, picture: bool = True) -> None:
        super().__init__()
        self.net, self.picture = net, picture

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Run the network on x, [B, 3, H, W]."""
        output: dict[str, Any] = self.net(
            x, self.layout, self.noise, lmbda=self.lmbda, picture=self.picture, y=self.y
        )
        return output


class Training:
    """The whole state of a training: weights, their average, logits and optimisers.

    Quantiles of factorised priors are in no optimiser. Integer latents do not use them, and for centred
    latents the medians are solved for (`FactorizedPrior.update_medians`).

    Args:
        run: the run with its settings.
        fabric: devices and precision.
        initial: weights to start from, by name. By default they are random.
    """

    def __init__(self, run: Run, fabric: Fabric, initial: dict[str, Tensor] | None = None) -> None:
        self.run, self.fabric, self.settings = run, fabric, settings_of(run)
        settings, space = self.settings, run.trained_space
        torch.manual_seed(settings.seed)
        self.net = Supernet(space)
        if initial is not None:
            checkpoint.load_weights(self.net, initial, source="the starting point")
        for name, parameter in self.net.named_parameters():
            if not is_trained(name, settings):
                parameter.requires_grad_(False)
        self.optimizer = build_optimizer(
            self.net, settings.optimizer, settings.learning_rate, settings.fan_in
        )
        self.passing = Pass(self.net, picture=settings.only != "entropy")
        self.module, self._wrapped = fabric.setup(self.passing, self.optimizer)
        self.average = None
        if settings.ema:
            self.average = AveragedModel(self.net, multi_avg_fn=moving_average(settings.ema))
        self.structure = None
        if settings.structure == "joint":
            self.structure = Structure(
                space,
                load_or_measure_costs(space, run.costs_path),
                scope=settings.structure_scope,
                price=settings.lambda_c,
                target=settings.target,
                learning_rate=settings.structure_rate,
            )
        self.layouts = None
        if settings.layout_stages:
            rate = settings.structure_rate
            self.layouts = LayoutLogits(
                space.y_channels, space.grouping, settings.layout_stages, learning_rate=rate
            )
        with errors_as_damage(run.config_path, "restore it, or train a new run"):
            members = [space.parse(key) for key in run.config.get("front") or []]
        self.strategy = strategy(settings, members)
        self.plateaus = Plateaus(settings.patience)
        self.recent = _Mean(RECENT)

    def step(self, step: int, x: Tensor) -> tuple[float, float, float]:
        """Take one step on a batch, [B, 3, H, W]. Returns the mean loss, bpp and distortion.

        Args:
            step: number of the step, from 0.
            x: images in [0, 1].

        Raises:
            NonFiniteLossError: the loss or the gradient is not finite.
        """
        settings, net = self.settings, self.net
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)  # the layers' memory format on a CPU
        set_learning_rate(self.optimizer, settings.rate_at(step, self.plateaus.count))
        drawn = list(self.strategy.draw(net.space, step, settings.seed))
        samples = at_rates(drawn, net.space, step, settings.seed)
        # g_s reads rounded latents: if it is trained alone, the rate is only reported
        rounded = settings.only == "g_s" or step >= settings.steps * (1 - settings.integer_phase)
        noise = None if rounded else self._noise(step)
        self.optimizer.zero_grad(set_to_none=True)
        totals, teacher = torch.zeros(3, device=self.fabric.device), None
        encoder = self._shared_encoder(x, samples)
        for number, sample in enumerate(samples):
            structure = self.structure if number == len(samples) - 1 else None
            self.passing.y = None
            if structure is None:
                net.activate(sample.architecture)
                with self.fabric.autocast():
                    self.passing.y = encoder.y(sample.architecture)
            else:
                net.gate(structure.sample(step / settings.steps, self._generator(step, "gates"), x.device))
            self.passing.layout, self.passing.noise, self.passing.lmbda = sample.layout, noise, sample.lmbda
            tables = None
            if self.layouts is not None and number == len(samples) - 1:
                tables = self.layouts.draw(self._generator(step, "layouts"))
                self.passing.layout = self.layouts.layout(tables[0])
            output = self.module(x)
            objective = settings.objective.at(sample.lmbda)
            losses = batch_losses(x, output, objective)
            loss = losses.total
            if settings.distillation:
                teacher = output["x_hat"].detach() if teacher is None else teacher
                loss = loss + settings.distillation * self._distance(teacher, output["x_hat"], objective)
            if (
                sample.lmbda is not None
            ):  # gradient of the logarithm: one per cent counts the same at every rate
                loss = loss / losses.total.detach()
            if structure is not None:
                loss = loss + structure.price * structure.expected_cost().to(x.device)
            self.fabric.backward(loss / len(samples))
            if tables is not None and "psi" in output:  # without a hyperprior no layout has an effect
                self._learn_layout(tables, output)
            totals += torch.stack([losses.total, losses.bpp, losses.distortion]).detach() / len(samples)
        encoder.backward()
        means = self._together(totals)
        self._check("loss", means[0], step, samples)
        norm = self.fabric.clip_gradients(
            self.module, self._wrapped, max_norm=settings.clip, error_if_nonfinite=False
        )
        assert norm is not None  # a largest norm was asked for
        self._check("gradient", float(norm), step, samples)
        self._wrapped.step()
        if self.structure is not None:
            for logits in self.structure.logits:
                logits.grad = torch.tensor(self._together(logits.grad))
            self.structure.step(means[0])
        if self.average is not None:
            self.average.update_parameters(net)
        if net.centred and settings.only != "g_s" and (step + 1) % SETTLE_EVERY == 0:
            update_medians(net)
        return means[0], means[1], means[2]

    def _shared_encoder(self, x: Tensor, samples: Sequence[Sample]) -> SharedEncoder:
        """The shared encoder of a step's samples. Not for several processes: Fabric gathers gradients."""
        alone = self.fabric.world_size == 1 and self.structure is None
        return SharedEncoder(self.net, x, [sample.architecture for sample in samples] if alone else [])

    @torch.no_grad()
    def _layout_bits(self, tables: Tensor, output: dict[str, Any]) -> list[float]:
        """The bits of y in this batch under each of some tables of stages, over all processes."""
        assert self.layouts is not None
        bits_by_table, y_hat = [], quantize(output["y"], Y_LIMIT)
        for table in tables:
            parameters = self.net.context(output["psi"], y_hat, self.layouts.layout(table))
            scales, means = (widened(part) for part in parameters)
            bits_by_table.append(bits(self.net.gaussian.likelihood(y_hat, scales, means)).sum())
        return [value * self.fabric.world_size for value in self._together(torch.stack(bits_by_table))]

    def _learn_layout(self, tables: Tensor, output: dict[str, Any]) -> None:
        assert self.layouts is not None
        self.layouts.learn(tables, self._layout_bits(tables, output))

    def _distance(self, teacher: Tensor, x_hat: Tensor, objective: Objective) -> Tensor:
        """The distance of a picture from the widest architecture's, in the units of the loss."""
        error = distortion(teacher.clamp(0, 1), x_hat, objective.metric).mean()
        distance: Tensor = objective.loss(0.0, error)
        return distance

    def _together(self, values: Tensor | None) -> list[float]:
        """The mean over all processes."""
        assert values is not None
        reduced = self.fabric.all_reduce(values.to(self.fabric.device), reduce_op="mean")
        assert isinstance(reduced, Tensor)
        listed: list[float] = reduced.tolist()
        return listed

    def _check(self, what: str, value: float, step: int, samples: Sequence[Sample]) -> None:
        if not math.isfinite(value):
            names = ", ".join(sample.architecture.key for sample in samples)
            raise self._diverged(f"The {what} is not finite at step {step} with {names}.")

    def _diverged(self, where: str) -> NonFiniteLossError:
        """The error for a training that diverged. From the same checkpoint it would diverge again."""
        kept = self.run.checkpoint_path
        begin = f", from the last checkpoint with --init-from {kept}" if kept.is_file() else ""
        return NonFiniteLossError(
            where, f"Begin anew with a lower learning rate (--set learning_rate=...){begin}."
        )

    def _generator(self, step: int, what: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator for one purpose of one step. It does not depend on how the run reached this step."""
        words = [self.settings.seed, step, *what.encode()]
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1
        return torch.Generator(device).manual_seed(seed)

    def _noise(self, step: int) -> Noise:
        """Uniform noise for a whole batch over all processes. Each process takes its own part."""
        rng = self._generator(step, "noise", self.fabric.device)
        rank, world = self.fabric.global_rank, self.fabric.world_size

        def noise(like: Tensor) -> Tensor:
            shape = (world * len(like), *like.shape[1:])
            drawn = torch.rand(shape, generator=rng, device=like.device, dtype=like.dtype) - 0.5
            return drawn[rank * len(like) : (rank + 1) * len(like)]

        return noise

    # State

    @property
    def kept(self) -> Supernet:
        """The weights that the run keeps: the moving average if there is one."""
        if self.average is None:
            return self.net
        assert isinstance(self.average.module, Supernet)
        return self.average.module

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """All optimisers, by their names in the checkpoint."""
        optimizers = {"optimizer": self.optimizer}
        if self.structure is not None:
            optimizers["structure"] = self.structure.optimizer
        if self.layouts is not None:
            optimizers["layout optimizer"] = self.layouts.optimizer
        return optimizers

    def write(self, step: int) -> None:
        """Write a checkpoint after `step` steps."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        record: dict[str, Any] = {"step": step, "plateaus": asdict(self.plateaus)}
        record |= {"recent": self.recent.values, "optimizers": {}}
        for name, optimizer in self._optimizers().items():
            state, record["optimizers"][name] = checkpoint.optimizer_state(optimizer, name)
            tensors |= state
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        if self.structure is not None:
            logits, record["structure"] = self.structure.state()
            tensors |= {f"logits.{name}": value for name, value in logits.items()}
        if self.layouts is not None:
            tensors["layout"] = self.layouts.logits.detach()
        try:
            checkpoint.Checkpoint(tensors, record).write(self.run.checkpoint_path)
        except BrokenWeightsError as error:
            raise self._diverged(f"The weights are not finite after step {step - 1}.") from error

    def restore(self) -> int:
        """Load the checkpoint. Returns the number of its steps.

        Raises:
            InputError: the checkpoint is damaged, or an incompatible version wrote it.
        """
        path = self.run.checkpoint_path
        with errors_as_damage(path, ANEW):
            try:
                return self._restore(checkpoint.Checkpoint.read(path, ANEW))
            except checkpoint.OtherWeightsError as error:
                raise InputError(f"{path} is not a checkpoint of this run: {ANEW}.") from error
            except BrokenWeightsError as error:
                raise BrokenWeightsError(f"{error} To train on, {ANEW}.") from error

    def _restore(self, saved: checkpoint.Checkpoint) -> int:
        tensors, source = saved.tensors, str(self.run.checkpoint_path)
        checkpoint.load_weights(self.net, checkpoint.without_prefix(tensors, "net"), source=source)
        kept = saved.record.get("optimizers", {})
        for name, optimizer in self._optimizers().items():
            checkpoint.restore_optimizer(optimizer, tensors, name, kept.get(name))
        if self.average is not None:
            checkpoint.load_weights(
                self.average, checkpoint.without_prefix(tensors, "average"), source=source
            )
        if self.structure is not None:
            self.structure.restore(checkpoint.without_prefix(tensors, "logits"), saved.record["structure"])
        if self.layouts is not None:
            self.layouts.restore(tensors["layout"])
        kinds = {"patience": int, "count": int, "best": float, "waited": int}
        self.plateaus = Plateaus(**{name: of(saved.record["plateaus"][name]) for name, of in kinds.items()})
        self.recent.values = [(float(a), float(b), float(c)) for a, b, c in saved.record["recent"]]
        if (step := int(saved.record["step"])) < 0:
            raise ValueError
        return step

    def finish(self) -> None:
        """Write the results: weights (averaged if there is an average), learned structure, learned layout."""
        net = self.kept
        if net.centred and self.settings.only != "g_s":
            update_medians(net)
        record = {"steps": self.settings.steps}
        checkpoint.Checkpoint(net.state_dict(), record).write(self.run.weights_path)
        if self.structure is not None:
            content = {
                "scope": self.structure.scope,
                "lambda_c": self.structure.price,
                "expected_cost": float(self.structure.expected_cost().detach()),
                "logits": self.structure.learned(),
            }
            write_yaml(self.run.structure_path, content)
        if self.layouts is not None:
            write_yaml(self.run.learned_layout_path, {"layouts": [self.layouts.to_dict()]})
        # written now, so that the first search can show the reachable costs at once
        load_or_measure_costs(self.run.space, self.run.costs_path)


def is_trained(name: str, settings: TrainingSettings) -> bool:
    """Whether a parameter is trained, if only a part of the network is.

    Args:
        name: name of the parameter.
        settings: settings of the training, which name the part that is trained.
    """
    if any(belongs_to(name, layer) for layer in settings.frozen):
        return False
    match settings.only:
        case None:
            return True
        case "entropy":
            return name.partition(".")[0] not in ("g_a", "g_s", "gains")
        case edge:
            return name.partition(".")[0] == edge


def belongs_to(name: str, part: str) -> bool:
    """Whether a parameter belongs to a part: an edge (`h_a`), a layer (`h_a.0`) or a parameter.

    Args:
        name: name of the parameter.
        part: an edge, a layer or a parameter.
    """
    return f"{name}.".startswith(f"{part}.")


def _workers(settings: TrainingSettings, fabric: Fabric) -> int:
    """The number of processes that cut crops. On a CPU, the training process does this between its steps."""
    if settings.workers is not None:
        return settings.workers
    cores = (os.cpu_count() or 1) // fabric.world_size
    return min(MOST_WORKERS, max(1, cores - 1)) if fabric.device.type == "cuda" else 0


def update_medians(net: Supernet) -> None:
    """Update the medians of the factorised priors.

    Args:
        net: the supernet.
    """
    for prior in net.priors:
        prior.update_medians()


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


def _learning(run: Run) -> Learning:
    settings = settings_of(run)
    space = run.trained_space
    names = zip(("_low", "_middle", "_high"), scored(space.rates), strict=True) if space.rates else ()
    rates = [MonitoredRate(name, lmbda) for name, lmbda in names] or [MonitoredRate("", settings.lmbda)]
    watch = CalibrationMonitor(space, photos_of(run, "calibration", PHOTOS), rates, settings.metric)
    return Learning(watch, run.learning_path)


def _metrics_file(run: Run, step: int, learning: Learning) -> MetricsFile:
    settings = settings_of(run)
    more = ("expected_cost", "lambda_c") if settings.structure == "joint" else ()
    events = run.path / "tensorboard" if settings.tensorboard else None
    columns = (*learning.watch.columns, *more)
    return MetricsFile(run.metrics_path, more=columns, tensorboard=events, step=step)


def _row(
    training: Training, step: int, seconds: float, means: tuple[float, float, float]
) -> dict[str, float]:
    """The row of metrics.csv for a checkpoint."""
    loss, bpp, error = means
    settings = training.settings
    if settings.only == "entropy":
        error = math.nan  # no picture was computed
    row = {"seconds": seconds, "loss": loss, "bpp": bpp, "distortion": error}
    has_psnr = settings.metric == "mse" and not math.isnan(error)
    row["psnr"] = -10 * math.log10(max(error, 1e-12)) if has_psnr else math.nan
    row["learning_rate"] = settings.rate_at(step, training.plateaus.count)
    if training.structure is not None:
        row["expected_cost"] = float(training.structure.expected_cost().detach())
        row["lambda_c"] = training.structure.price
    return row
