"""`nas train`: trains a run from photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.limits import check_settings
from nas.support.paths import as_typed, with_paths
from nas.support.progress import StageReport, duration, silent

RANDOM = "random"  # value of --init-from


# Other families are trained at one rate from random weights, as in their papers.
FAMILY_DEFAULTS = {"patch": {"recipe": "patch-soap", "lmbda": "0.0018..0.18", "init_from": "klt"}}


@with_paths
def train(
    space: str | SearchSpace | None = None,
    data: str | Path | None = None,
    out: str | Path = "run",
    *,
    arch: str | None = None,
    lmbda: str | float | None = None,
    metric: str | None = None,
    steps: int | None = None,
    init_from: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
    say: Callable[[str], None] = silent,
) -> Run:
    """Train a supernet on photos, or a single architecture.

    Args:
        space: a shipped space's name, a YAML file, a codec.yaml, or the space itself.
        data: a folder of photos, which is searched recursively, or `bundled` for those in the package.
        out: folder of the run.
        arch: train only this architecture, given by its key.
        lmbda: weight of the distortion in the loss, or a range for all rates: `0.0018..0.18`. By default that
            range for `patch`, and 0.013 for other families.
        metric: distortion to train for: `mse` or `ms-ssim`.
        steps: number of training steps.
        init_from: starting weights: `klt` (a linear codec computed from the photos), `random`, a run,
            `zoo:NAME`, a supernet.safetensors, a CompressAI checkpoint, or a name of CompressAI's zoo such as
            `mbt2018-4`. By default `klt` for `patch`, and `random` for other families.
        settings: other training settings by name. `recipe` sets many at once, and is by default `patch-soap`
            for `patch`.
        resume: continue the interrupted run in `out`. No other argument is needed.
        seed: seed for all random choices.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace an existing run.
        report: called with a stage's name, the work done, the total work and a note.
        say: called with sentences for people, such as how long training will take.

    Returns:
        The trained run, which `search` and `export` take.

    Raises:
        InputError: a setting is wrong, the photos or weights cannot be read, or `out` exists already. Nothing
            is written then.
        KeyboardInterrupt: a checkpoint was written. `resume` continues from it.

    Example:
        >>> run = nas.train("patch-small", "photos/", "runs/new", steps=2000)  # doctest: +SKIP
    """
    from nas.training.loop import Progress
    from nas.training.record.clock import expectation
    from nas.training.start import (
        TrainingRequest,
        how_to_train_longer,
        resume_training,
        start_training,
    )

    stepped = False

    def show(progress: Progress) -> None:
        nonlocal stepped
        stepped = True
        note = f"loss {progress.loss:.3f}  {progress.bpp:.3f} bpp  {progress.photos_per_second:.0f} photos/s"
        report("training", progress.step, progress.steps, note)
        if progress.expected is not None:
            say(expectation(progress.expected, duration(progress.expected)))

    folder, named = Path(out), {"lmbda": lmbda, "metric": metric, "steps": steps}
    if resume:
        given = (space, data, arch, *named.values(), init_from, settings or None)
        if force or any(value is not None for value in given):
            raise InputError(
                "--resume continues the run with its own settings: give --out and nothing else. "
                + how_to_train_longer(folder)
            )
        run = resume_training(folder, device=device, report=show)
        if not stepped:
            say(f"{run.path} was trained to its end before. {how_to_train_longer(run.path)}")
        return run
    if space is None or data is None:
        raise InputError("Training needs a SPACE and --data DIR (or --resume with --out RUN).")
    values = {"seed": seed, **check_settings(settings)}
    values |= {name: value for name, value in named.items() if value is not None}
    loaded = space if isinstance(space, SearchSpace) else SearchSpace.load(space)
    taken = defaults_of(loaded, values, init_from)
    if taken:
        say(f"Defaults of the family {loaded.family.name}: {', '.join(map('='.join, taken.items()))}.")
    init_from = taken.pop("init_from", None if init_from == RANDOM else init_from)
    request = TrainingRequest(space, str(data), folder, arch, {**taken, **values}, init_from, force, device)
    return start_training(request, show, say)


def defaults_of(
    space: SearchSpace, values: Mapping[str, Any], init_from: str | Path | None
) -> dict[str, str]:
    """What the space's family is trained with, of what the user did not give.

    Args:
        space: the space to train.
        values: the given settings, by name.
        init_from: the given starting weights.

    Returns:
        Some of `recipe`, `lmbda` and `init_from`.
    """
    from nas.training.settings import read_recipe

    if space.family.name not in FAMILY_DEFAULTS:
        return {}
    given = {**(read_recipe(values["recipe"]) if "recipe" in values else {}), **values}
    several = given.get("strategy", "level") not in ("level", "front") or given.get("structure") == "joint"
    left_out = {
        "recipe": "recipe" in given or several,  # such a step has several architectures, and the recipe's one
        "lmbda": "lmbda" in given or given.get("metric") == "ms-ssim" or bool(space.rates),
        "init_from": init_from is not None or "only" in given,
    }
    return {name: word for name, word in FAMILY_DEFAULTS[space.family.name].items() if not left_out[name]}


def how_to_resume(out: str | Path) -> str:
    """A sentence on what an interrupted training left, and how to continue.

    Args:
        out: folder of the run.
    """
    if not Run(Path(out)).checkpoint_path.is_file():
        return "Stopped; nothing was trained yet. Run the same command again."
    return f"Stopped; the state is kept. Go on with: nas train --out {as_typed(out)} --resume"
