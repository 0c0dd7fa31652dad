"""The command line: verbs only, no logic. Heavy parts are imported by the verbs that use them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from nas.errors import InputError


class _Verbs(TyperGroup):
    """Exit statuses: 0; 2 for wrong input, in one sentence; 130 when interrupted; 1 for a failure of ours."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Neural architecture search for learned image codecs: train one supernet, search it under a "
    "budget, export the codecs you choose.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]


def _example(*lines: str) -> str:
    return "[dim]Example:[/dim]\n\n" + "\n\n".join(f"    {line}" for line in lines)


@app.callback()
def _group() -> None:
    pass


@app.command(epilog=_example("nas train joint-ar --data photos/ --out runs/a --lmbda 0.013 --set steps=50000"))
def train(
    space: Annotated[Optional[str], typer.Argument(help="A shipped space, a YAML file or a codec.yaml.")] = None,
    data: Annotated[Optional[str], typer.Option(help="A folder of photos, or `bundled`.")] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("run"),
    arch: Annotated[Optional[str], typer.Option(help="Train this architecture alone.")] = None,
    lmbda: Annotated[Optional[float], typer.Option(help="Weight of the distortion.")] = None,
    metric: Annotated[Optional[str], typer.Option(help="mse or ms-ssim.")] = None,
    steps: Annotated[Optional[int], typer.Option(help="Optimiser steps.")] = None,
    init_from: Annotated[Optional[Path], typer.Option(help="A run or a supernet.safetensors.")] = None,
    assign: Annotated[Optional[list[str]], typer.Option("--set", help="NAME=VALUE, any setting.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a supernet (or one architecture) on your photos."""
    from nas import console
    from nas.training.loop import Progress
    from nas.training.settings import parse_assignments
    from nas.training.start import TrainingRequest, resume_training, start_training

    with console.bar("training") as bar:

        def report(progress: Progress) -> None:
            note = f"loss {progress.loss:.3f}  {progress.bpp:.3f} bpp  {progress.photos_per_second:.0f} photos/s"
            bar(progress.step, progress.steps, note)

        try:
            if resume:
                run = resume_training(out, device=device, report=report)
            else:
                if space is None or data is None:
                    raise InputError("Training needs a SPACE and --data DIR (or --resume with --out RUN).")
                named = {"lmbda": lmbda, "metric": metric, "steps": steps}
                settings: dict[str, Any] = {"seed": seed, **parse_assignments(assign or [])}
                settings |= {name: value for name, value in named.items() if value is not None}
                request = TrainingRequest(space, data, out, arch, settings, init_from, force, device)
                run = start_training(request, report)
        except KeyboardInterrupt:
            console.say(f"Stopped; the state is kept. Go on with: nas train --out {out} --resume")
            raise
    if json:
        console.emit({"run": str(run.path), "fingerprint": run.fingerprint, "steps": run.settings.steps})
    else:
        console.say(f"Trained: {run.path}. Next: nas search {run.path} --target 60%")


def main() -> None:
    """Run the command line."""
    app()
