"""Commands that make, search and check runs: demo, train, search, pareto, explain, probe, rank-check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Device, Force, Json, MoreLimits, Seed, example
from nas.cli.work import DRAWN, TRAINED, interrupted_folder_message, work
from nas.support.limits import check_seed
from nas.support.paths import as_typed


@example("nas demo --out my-demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results: a run with codecs and pictures.")] = Path(
        "nas-demo"
    ),
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Begin without trained weights: a smaller space, at one rate."),
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Number of training steps.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of architectures to score.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Run all steps on photos from the package: train, search, export, compress.

    It takes two to three minutes on two cores.
    """
    from nas import console

    again = "Run the same command with --force to begin again."
    with work(lambda: interrupted_folder_message(out, "run", again)) as report:
        from nas.verbs.demo import NAMES, SCOPE
        from nas.verbs.demo import demo as go

        result = go(
            out,
            from_scratch=from_scratch,
            steps=steps,
            trials=trials,
            seed=seed,
            device=device,
            force=force,
            report=report,
            say=console.say,
        )
    if json:
        console.emit(result.to_json())
        return
    title = (
        f"{result.photo}, kept out of training and search (costs in kMAC/px; a target limits the {SCOPE}'s)"
    )
    console.table(title, *result.table())
    console.say(
        f"Done in {result.seconds:.0f} s. The front: {out}/pareto.png and {out}/report.html. The codecs: "
        f"{out}/codecs/{{{','.join(NAMES)}}}. The pictures: {out}/photos. Next: nas info {as_typed(out)}"
    )


@example(
    "nas train patch --data photos/ --out runs/a",
    "nas train joint-ar --data photos/ --out runs/b --lmbda 0.013 --steps 50000",
    "nas train --out runs/a --resume",
)
def train(
    space: Annotated[
        str | None, typer.Argument(help="Search space: a shipped one's name, a YAML file or a codec.yaml.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of photos, or `bundled` for those in the package.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run that this makes.")] = Path("run"),
    arch: Annotated[str | None, typer.Option(help="Train only this architecture, given by its key.")] = None,
    lmbda: Annotated[
        str | None,
        typer.Option(
            help="Weight of distortion in the loss (larger: better pictures, larger files), or a range "
            "for all rates: 0.0018..0.18. Default: that range for patch, else 0.013.",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Distortion to train for: mse (the default) or ms-ssim.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of training steps. Default: the recipe's, else 100000.")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Starting weights: klt (a linear codec computed from the photos), random, a run, zoo:NAME, "
            "a supernet.safetensors, a CompressAI checkpoint, or a name of CompressAI's zoo such as "
            "mbt2018-4. Default: klt for patch, else random."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A training setting; repeatable. recipe=NAME sets many at once. Default: "
            "recipe=patch-soap for patch.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run. Needs --out only.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a supernet on your photos, or a single architecture with --arch."""
    from nas import console
    from nas.training.settings import parse_assignments, settings_of
    from nas.verbs.train import how_to_resume
    from nas.verbs.train import train as go

    with work(lambda: how_to_resume(out)) as report:
        run = go(
            space,
            data,
            out,
            arch=arch,
            lmbda=lmbda,
            metric=metric,
            steps=steps,
            init_from=init_from,
            settings=parse_assignments(settings or []),
            resume=resume,
            seed=seed,
            device=device,
            force=force,
            report=report,
            say=console.say,
        )
    if json:
        console.emit({"run": str(run.path), "fingerprint": run.fingerprint, "steps": settings_of(run).steps})
    else:
        console.say(f"Trained: {run.path}. Next: nas search {as_typed(run.path)} --target 60%")


@example(
    "nas search runs/a --target 10 --scope decoder --trials 200",
    "nas search zoo:patch --target 5 --scope decoder --limit 'stages <= 2'",
)
def search(
    run: Annotated[str, typer.Argument(help="A trained run, or zoo:NAME for a supernet from the package.")],
    budget: Annotated[str | None, typer.Option(help="Budget: a shipped one's name or a YAML file.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Largest cost of the codec: 20 (kMAC per pixel), 60% (of the widest architecture), "
            "'4 stages', '5M parameters' or, after `nas profile`, 30ms, or 30ms@phone on another device.",
        ),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="Whose cost the target limits: encoder, decoder or total (the default)."),
    ] = None,
    limits: MoreLimits = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of architectures to score, beyond those that are already scored. A few more may be "
            "scored near a target. 0 scores none. Default: 100; for zoo:NAME only those near the target.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of your own photos to score on. Needs --out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a copy of the run, which is then searched. Default for zoo:NAME: NAME."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Optuna storage that several machines share: a URL, or a journal's path. Default: a journal "
            "in the run.",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the best architectures under a budget, and the Pareto front.

    Without a budget, the whole range is searched. Nothing is ever scored twice: run the command again to
    search further.
    """
    from nas.profiling.possible import Possible
    from nas.verbs.search import search as go
    from nas.verbs.search import searched_at

    folder, told = searched_at(run, out), []

    def announce(possible: Possible) -> None:
        from nas import console

        told.append(possible)
        console.table(possible.title, possible.columns, possible.rows(), aside=True)

    draw = f"nas pareto {as_typed(folder)}"
    again = f"Stopped; every score is kept. Run the same command again to continue, or: {draw}"
    with work(again) as report:
        result = go(
            run,
            budget,
            target=target,
            scope=scope,
            limits=limits or (),
            trials=trials,
            data=data,
            out=out,
            storage=storage,
            seed=seed,
            device=device,
            force=force,
            report=report,
            announce=announce,
        )
    from nas import console

    if json:
        console.emit({**result.to_json(), "run": str(folder), "possible": told[0].to_json()})
        return
    from nas.searching.hints import export_commands

    question = result.question
    assert question is not None  # after a search
    answers = [pair for choice in result.choices for pair in choice.answers().items()]
    if answers:
        limited = ", ".join(dict.fromkeys((question.quantity.title, question.quantity.unit)))
        title = f"best at or under each target ({limited})"
        rows = [{"": f"{row}", **choice.row()} for row, (_, choice) in enumerate(answers, 1)]
        console.table(title, list(rows[0]), [list(row.values()) for row in rows], narrow=True)
        for row, (what, choice) in enumerate(answers, 1):
            console.show(choice.lines(row, what))
    console.say(f"{len(result.scored)} scored, {len(result.front)} on the front: {folder}/front.csv")
    console.say(f"{'; '.join(result.notes)}. Next: {draw}")
    for command in export_commands(folder, question, result.choices, budget, target, scope, limits or ()):
        console.say(f"  {command}")


@example("nas pareto runs/a", "nas pareto runs/a runs/b --out figures")
def pareto(
    runs: Annotated[list[Path], typer.Argument(help="One or more searched runs, such as one per lambda.")],
    scope: Annotated[str, typer.Option(help="Whose MACs to show: encoder, decoder or total.")] = "total",
    out: Annotated[Path | None, typer.Option(help="Folder for the drawings. Default: the first run.")] = None,
    pictures: Annotated[
        int, typer.Option(help="How many architectures show a decoded photo in report.html; 0 for none.")
    ] = 12,
    json: Json = False,
) -> None:
    """Draw the Pareto front, and write front.csv, pareto.png, pareto.svg and report.html.

    The drawings show loss, rate and PSNR against MACs and, after `nas profile RUN`, against time. They also
    show the targets of the last search, the structure of each architecture, and how much better the front is
    than uniform widths.
    """
    from nas import console
    from nas.verbs.pareto import pareto as go

    with work(DRAWN) as report:
        files = go(runs, scope=scope, out=out, pictures=pictures, report=report)
    if json:
        console.emit({"files": [str(file) for file in files]})
    else:
        console.say("\n".join(str(file) for file in files))


@example("nas explain runs/a --arch KEY --scope decoder --out steps.svg")
def explain(
    run: Annotated[
        Path, typer.Argument(help="Folder of a trained run, or zoo:NAME for a supernet from the package.")
    ],
    arch: Annotated[
        str,
        typer.Option(help="Key of the architecture, as in front.csv, or a codec that was exported from RUN."),
    ],
    scope: Annotated[str, typer.Option(help="Whose MACs to show: encoder, decoder or total.")] = "total",
    out: Annotated[
        Path | None, typer.Option(help="Draw the table into this file: .png, .svg or .pdf.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Print the sensitivity table of an architecture: what one step in each slot costs and gains.

    For every slot the table has one step narrower and one step wider, and every other layout, with the best
    steps first. Steps without a score are scored now. After `nas profile RUN` the table has milliseconds too.
    """
    from nas import console
    from nas.verbs.analyse import explain as go

    with work("Stopped; every score is kept. Run the same command again to continue.") as report:
        table = go(run, arch, scope=scope, out=out, device=device, force=force, report=report)
    if json:
        console.emit({**table.to_json(), **({"files": [str(out)]} if out is not None else {})})
        return
    from nas.analysis.sensitivity import table_rows

    console.show([table.architecture.key, table.heading()])
    for title, steps in table.groups.items():
        rows = table_rows(steps)
        console.table(title, list(rows[0]), [list(row.values()) for row in rows])
    console.show([*table.sentences(), *([str(out)] if out is not None else [])])


@example("nas probe runs/a --arch KEY --out probes.json", "nas probe zoo:patch --arch KEY --photos 4")
def probe(
    run: Annotated[str, typer.Argument(help="A trained run, or zoo:NAME for a supernet from the package.")],
    arch: Annotated[
        str,
        typer.Option(help="Key of the architecture, as in front.csv, or a codec that was exported from RUN."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder of photos to probe on, or `bundled` for those in the package. Default: the run's "
            "calibration photos."
        ),
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="Number of photos, at most.")] = 8,
    quality: Annotated[
        float | None,
        typer.Option(
            help="0 (lowest rate) to 100, for a run of a range of rates. Default: the middle anchor."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="How much the loss may rise when components are left out, in %."),
    ] = 1.0,
    steps: Annotated[
        int, typer.Option(min=1, help="Number of steps along the gradient, to find the headroom.")
    ] = 40,
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.json for the results. Beside it are FILE.csv and a picture, FILE.png and FILE.svg."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Find where an architecture is redundant and where it lacks capacity, without training.

    For every activation between two layers, and for y, z and psi, it shows two numbers. Redundancy: how few
    principal components keep the loss. Headroom: how much a better activation of each picture would gain,
    because the layers before it lack capacity.
    """
    from nas import console
    from nas.verbs.analyse import probe as go

    with work("Stopped; nothing was kept. With fewer --photos and --steps it takes less time.") as report:
        result = go(
            run,
            arch,
            data=data,
            photos=photos,
            quality=quality,
            tolerance=tolerance,
            steps=steps,
            out=out,
            seed=seed,
            device=device,
            force=force,
            report=report,
        )
    if json:
        console.emit({**result.to_json(), "files": [str(file) for file in result.files]})
        return
    console.show([result.architecture.key])
    console.table("components that keep the loss, and headroom", *result.table())
    console.show([*result.sentences(), *map(str, result.files)])


@example("nas rank-check runs/a --data photos/ --count 8")
def rank_check(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    data: Annotated[
        str, typer.Option(help="Folder of the photos that the run was trained on, or `bundled`.")
    ],
    count: Annotated[
        int,
        typer.Option(
            help="Number of architectures to train, 3 or more, evenly spread over the range of MACs."
        ),
    ] = 6,
    steps: Annotated[
        int | None, typer.Option(help="Training steps for each. Default: as many as the run had.")
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="Where each training starts. scratch: as the run did, from random weights or from the "
            "photos' KLT, which is the classical check. supernet: from the supernet's weights, which shows "
            "the cost of sharing in fewer steps."
        ),
    ] = "scratch",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A training setting; repeatable. lmbda and metric are those of the run.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed for choosing the architectures. Training uses the run's seed.", callback=check_seed
        ),
    ] = 0,
    device: Device = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Replace results that were made with other settings.")
    ] = False,
    json: Json = False,
) -> None:
    """Check whether the supernet ranks architectures correctly, and what sharing weights costs.

    A few architectures are trained alone and compared with the supernet's scores. Nothing is trained twice:
    run the command again to continue. Results are in RUN/rank-check: rank.csv, rank.json, rank.png, rank.svg,
    and a run for each architecture.
    """
    from nas import console
    from nas.training.settings import parse_assignments
    from nas.verbs.analyse import rank_check as go

    with work(TRAINED) as report:
        result = go(
            run,
            data,
            count=count,
            steps=steps,
            start=start,
            settings=parse_assignments(settings or []),
            seed=seed,
            device=device,
            force=force,
            report=report,
        )
    if json:
        console.emit({**result.to_json(), "files": [str(file) for file in result.files]})
        return
    rows = result.table()
    console.table("rd_loss on the run's calibration photos", list(rows[0]), [list(r.values()) for r in rows])
    console.say("\n".join([*result.sentences(), *(str(file) for file in result.files)]))
