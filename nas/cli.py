"""The command line: verbs only, no logic. Heavy parts are imported by the verbs that use them."""

from __future__ import annotations

import io
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from nas.support.errors import InputError, InputWarning
from nas.support.limits import MOST_EFFORT, check_seed
from nas.support.progress import StageReport

if TYPE_CHECKING:
    from nas.photos.batch import Batch
    from nas.verbs.code import Compressed, Decompressed


@contextmanager
def _warnings_in_words(most: int = 3) -> Iterator[None]:
    """Warnings about the input as sentences, each once, and of each kind only the first few."""
    said: dict[type[Warning], set[str]] = defaultdict(set)
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, InputWarning):
                usual(message, category, *where, **more)
            elif str(message) not in said[category]:
                said[category].add(str(message))
                if len(said[category]) <= most:
                    print(f"Note: {message}", file=sys.stderr)

        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
        try:
            yield
        finally:
            for sentences in said.values():
                if len(sentences) > most:
                    print(f"Note: there are {len(sentences) - most} more like the last.", file=sys.stderr)


@contextmanager
def _work(stopped: str | Callable[[], str] | None = None) -> Iterator[StageReport]:
    """Long work with its progress; when it is interrupted, what was kept and how to continue.

    Progress is shown from the first report on: what is refused before it needs nothing that takes long to
    import.
    """
    shown: list[StageReport] = []
    with ExitStack() as stack:

        def report(stage: str, done: int, total: int, note: str) -> None:
            from nas import console

            if not shown:
                shown.append(stack.enter_context(console.progress()))
            shown[0](stage, done, total, note)

        try:
            yield report
        except KeyboardInterrupt:
            from nas import console

            stack.close()
            if stopped is not None:
                console.say(stopped if isinstance(stopped, str) else stopped())
            raise


class _Verbs(TyperGroup):
    """Exit statuses: 0; 2 for wrong input, in one sentence; 130 when interrupted; 1 for a failure of ours."""

    def invoke(self, ctx: Any) -> Any:
        from nas.support.interrupts import as_ctrl_c

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names need not be UTF-8
        try:
            with as_ctrl_c(), _warnings_in_words():
                return super().invoke(ctx)
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            print(f"Error: Cannot use {error.filename}: {error.strerror or error}.", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its renderer alone takes longer to import than help may take
    pretty_exceptions_enable=False,
    help="Neural architecture search for learned image codecs: train one supernet, search it under a "
    "budget, export the codecs you choose.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of text.")]
Seed = Annotated[int, typer.Option(help="Seed for all random choices.", callback=check_seed)]
Device = Annotated[str, typer.Option(help="Where to compute: auto (a GPU if there is one), cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]
Effort = Annotated[
    int,
    typer.Option(
        min=0,
        max=MOST_EFFORT,
        help="0 to 10: how long to search for better latents of each picture. Files become smaller for the "
        "same quality, and decode everywhere and as fast as before.",
    ),
]


_TRAINED = "Stopped; what was trained is kept. Run the same command again to continue."
_MEASURED = "Stopped; what was measured is kept. Run the same command again to continue."


def _written(force: bool) -> str:
    again = "the same command again without --force" if force else "the same command again"
    return f"Stopped; the files that were written are kept. Run {again} to continue."


def _refuse_both(json: bool, out: str) -> None:
    if json and out == "-":
        raise InputError("--json and the output - both need standard output: leave one of them out.")


def _tell(result: Compressed | Decompressed | Batch[Any], *, json: bool, quiet: bool) -> None:
    """What became of one file or of many; exit status 2 where some failed."""
    from nas import console
    from nas.photos.batch import Batch

    if json:
        console.emit(result.to_json())
    elif isinstance(result, Batch):
        if result.done:
            console.table("", *result.table())
        console.say(result.sentence())
    elif not quiet:
        console.say(result.sentence())
    if isinstance(result, Batch) and result.failed:
        console.say("\n".join(result.failures()))
        raise typer.Exit(2)


def _example(*lines: str) -> str:
    # \b keeps the lines as they are
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def _print_version(wanted: bool) -> None:
    if wanted:
        import nas

        print(f"nas {nas.__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command(epilog=_example("nas demo --out my-demo"))
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
    """Go the whole way on photos from the package: train, search, export, compress.

    It takes one to two minutes on two cores.
    """
    from nas import console
    from nas.verbs.demo import NAMES
    from nas.verbs.demo import demo as go

    with _work() as report:
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
    console.table(f"{result.photo}, kept out of training and search (costs in kMAC/px)", *result.table())
    console.say(
        f"Done in {result.seconds:.0f} s. The front: {out}/pareto.png and {out}/report.html. The codecs: "
        f"{out}/codecs/{{{','.join(NAMES)}}}. The pictures: {out}/photos. Next: nas info {out}"
    )


@app.command(
    epilog=_example("nas train joint-ar --data photos/ --out runs/a --lmbda 0.013 --set steps=50000")
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
            "for all rates: 0.0018..0.18.",
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Distortion to train for: mse or ms-ssim.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of training steps.")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Starting weights: klt (a linear codec computed from the photos), a run, zoo:NAME, a "
            "supernet.safetensors, a CompressAI checkpoint, or a name of CompressAI's zoo such as mbt2018-4. "
            "Default: random weights."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A training setting; repeatable. recipe=NAME sets many at once."),
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

    with _work(lambda: how_to_resume(out)) as report:
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
        console.say(f"Trained: {run.path}. Next: nas search {run.path} --target 60%")


@app.command(
    epilog=_example(
        "nas search runs/a --target 20 --scope decoder --trials 200",
        "nas search zoo:joint-ar-tiny --target 5",
    )
)
def search(
    run: Annotated[str, typer.Argument(help="A trained run, or zoo:NAME for a supernet from the package.")],
    budget: Annotated[str | None, typer.Option(help="Budget: a shipped one's name or a YAML file.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Most that the codec may cost: 20 (kMAC per pixel), 60% (of the widest architecture) or, "
            "after `nas profile`, 30ms, or 30ms@phone on another device.",
        ),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="Whose cost the target limits: encoder, decoder or total (the default)."),
    ] = None,
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

    place, told = searched_at(run, out), []

    def announce(possible: Possible) -> None:
        from nas import console

        told.append(possible)
        console.table(possible.title, possible.columns, possible.rows(), aside=True)

    again = f"Stopped; every score is kept. Run the same command again to continue, or: nas pareto {place}"
    with _work(again) as report:
        result = go(
            run,
            budget,
            target=target,
            scope=scope,
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
        console.emit({**result.to_json(), "run": str(place), "possible": told[0].to_json()})
        return
    from nas.searching.hints import export_commands

    question = result.question
    assert question is not None  # after a search
    answers = [pair for choice in result.choices for pair in choice.answers().items()]
    if answers:
        title = f"best at or under each target ({question.quantity.title}, {question.quantity.unit})"
        rows = [{"": f"{row}", **choice.row()} for row, (_, choice) in enumerate(answers, 1)]
        console.table(title, list(rows[0]), [list(row.values()) for row in rows], narrow=True)
        for row, (what, choice) in enumerate(answers, 1):
            console.show(choice.lines(row, what))
    console.say(f"{len(result.scored)} scored, {len(result.front)} on the front: {place}/front.csv")
    console.say(f"{'; '.join(result.notes)}. Next: nas pareto {place}")
    for command in export_commands(place, question, result.choices, budget, target, scope):
        console.say(f"  {command}")


@app.command(epilog=_example("nas pareto runs/a", "nas pareto runs/a runs/b --out figures"))
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
    show the budgets that were asked for, what each architecture consists of, and how much better the front
    is than uniform widths.
    """
    from nas import console
    from nas.verbs.pareto import pareto as go

    with _work() as report:
        files = go(runs, scope=scope, out=out, pictures=pictures, report=report)
    if json:
        console.emit({"files": [str(file) for file in files]})
    else:
        console.say("\n".join(str(file) for file in files))


@app.command(epilog=_example("nas explain runs/a --arch KEY --scope decoder --out prices.svg"))
def explain(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    arch: Annotated[str, typer.Option(help="Key of the architecture, as in front.csv.")],
    scope: Annotated[str, typer.Option(help="Whose MACs to show: encoder, decoder or total.")] = "total",
    out: Annotated[
        Path | None, typer.Option(help="Draw the table into this file: .png, .svg or .pdf.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Print the cost table of an architecture: what one step in each slot costs and gains.

    For every slot the table has one step narrower and one step wider, and every other layout, with the best
    deals first. Steps without a score are scored now. After `nas profile RUN` the table has milliseconds too.
    """
    from nas import console
    from nas.verbs.analyse import explain as go

    with _work("Stopped; every score is kept. Run the same command again to continue.") as report:
        prices = go(run, arch, scope=scope, out=out, device=device, force=force, report=report)
    if json:
        console.emit({**prices.to_json(), **({"files": [str(out)]} if out is not None else {})})
        return
    from nas.analysis.prices import table_rows

    console.show([prices.architecture.key, prices.heading()])
    for title, steps in prices.groups.items():
        rows = table_rows(steps)
        console.table(title, list(rows[0]), [list(row.values()) for row in rows])
    console.show([*prices.sentences(), *([str(out)] if out is not None else [])])


@app.command(
    epilog=_example(
        "nas probe runs/a --arch KEY --out probes.json", "nas probe zoo:patch --arch KEY --photos 4"
    )
)
def probe(
    run: Annotated[str, typer.Argument(help="A trained run, or zoo:NAME for a supernet from the package.")],
    arch: Annotated[str, typer.Option(help="Key of the architecture, as in front.csv.")],
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

    For every activation between two layers, and for y, z and psi, it shows how few principal components keep
    the loss (redundancy), and how much a better activation of each picture would gain (headroom: capacity is
    missing before it).
    """
    from nas import console
    from nas.verbs.analyse import probe as go

    with _work("Stopped; nothing was kept. With fewer --photos and --steps it takes less time.") as report:
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


@app.command(
    epilog=_example(
        "nas export runs/a --target 20 --scope decoder --out codecs/small",
        "nas export runs/a --budget phone --out codecs/phone",
        "nas export runs/a --family --out codecs/family",
    )
)
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a searched run.")],
    out: Annotated[Path, typer.Option(help="Folder of the codec that this makes.")],
    target: Annotated[
        str | None,
        typer.Option(
            help="Most that the codec may cost: 20 (kMAC per pixel), 60% (of the widest architecture) or, "
            "after `nas profile`, 30ms, or 30ms@phone on another device.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Budget whose limits the codec must meet: a shipped one's name or a YAML file. If it has "
            "several targets, the largest counts, unless --target names another."
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Key of the architecture to export, as in front.csv.")
    ] = None,
    family: Annotated[
        bool,
        typer.Option(
            "--family",
            help="Export one encoder with every decoder and layout that is worth its cost. The encoder is "
            "that of --target or --arch, otherwise that of the least loss on the front.",
        ),
    ] = False,
    scope: Annotated[
        str | None, typer.Option(help="Whose cost --target limits: encoder, decoder or total (the default).")
    ] = None,
    arithmetic: Annotated[
        str | None,
        typer.Option(
            help="Arithmetic of what encoder and decoder both compute: exact (files decode on every "
            "machine) or "
            "float64 (only on machines that compute alike).  [default: exact, unless it costs more than "
            "0.5 % in rate]",
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write ONNX models and a decoder that needs no torch.")
    ] = False,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Export one architecture as a codec of its own.

    Give --target, --budget or --arch. The codec is measured on held-out photos with real files. With --family
    it has several decoders and layouts, and any of its decoders reads any of its files.
    """
    from nas import console
    from nas.support.files import refuse_existing

    refuse_existing(out, force=force, what="codec")  # before what takes long to import
    from nas.report.family import sentences, tables
    from nas.verbs.export import export as go

    with _work() as report:
        content = go(
            run,
            out,
            target=target,
            budget=budget,
            arch=arch,
            family=family,
            scope=scope,
            arithmetic=arithmetic,
            onnx=onnx,
            device=device,
            force=force,
            report=report,
        )
    if json:
        console.emit(content)
        return
    console.say("\n".join([f"{out}: {content['arch']}", *sentences(content)]))
    for table in tables(content):
        console.table(*table)
    if onnx:
        console.say(f"ONNX models, and a decoder that needs no torch: {out}/onnx")


@app.command(
    epilog=_example(
        "nas compress codecs/small photo.png photo.nic",
        "nas compress codecs/family photo.png photo.nic --stages 8",
        "nas compress codecs/small photo.png photo.nic --effort 5",
        "nas compress codecs/small photos/ packed/ --psnr",
        "nas compress codecs/small *.jpg packed/",
        "cat photo.png | nas compress codecs/small - - > photo.nic",
    )
)
def compress(
    codec: Annotated[Path, typer.Argument(help="Folder of an exported codec.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Pictures to compress, in any format that Pillow reads, or folders of them; - for standard "
            "input."
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(help=".nic file to write, a folder for several pictures, or - for standard output."),
    ],
    layout: Annotated[
        str | None, typer.Option(help="Layout to code in, for a codec that has several.")
    ] = None,
    stages: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Try every layout of the codec with at most this many stages, and keep the smallest file.",
        ),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            help="0 (smallest file) to 100 (best picture), for a codec that was trained over a range of "
            "rates."
        ),
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(help="Take the best quality with at most this many bits per pixel.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Take the best quality with at most this many bytes.")
    ] = None,
    effort: Effort = 0,
    psnr: Annotated[
        bool, typer.Option("--psnr", help="Decode each file again, and show the PSNR of its picture.")
    ] = False,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Compress pictures into .nic files.

    Several pictures, or those of a folder, go into a folder, and files that exist there are skipped: if it is
    interrupted, run the same command again to continue. With --force everything is made anew.
    """
    from nas.verbs.code import compress as go

    _refuse_both(json, out)
    with _work(_written(force)) as report:
        result = go(
            codec,
            images,
            out,
            layout=layout,
            stages=stages,
            quality=quality,
            bpp=bpp,
            size=size,
            effort=effort,
            psnr=psnr,
            device=device,
            force=force,
            report=report,
        )
    _tell(result, json=json, quiet=out == "-" and not psnr)


@app.command(
    epilog=_example(
        "nas decompress codecs/small photo.nic photo.png",
        "nas decompress codecs/family photo.nic photo.png --target 10",
        "nas decompress codecs/small packed/ pictures/",
        "nas decompress codecs/small - - < photo.nic > photo.png",
    )
)
def decompress(
    codec: Annotated[
        Path,
        typer.Argument(help="Folder of the codec that made the files, or of one with the same entropy path."),
    ],
    files: Annotated[
        list[str], typer.Argument(help=".nic files to read, or folders of them; - for standard input.")
    ],
    out: Annotated[
        str,
        typer.Argument(
            help="Picture to write, such as a .png file, a folder for several, or - for a PNG on standard "
            "output."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            help="Use the best decoder that costs at most 10 (kMAC per pixel of decoding) or 60% (of the "
            "most expensive one), for a codec that has several.",
        ),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse files of larger pictures. Default: 134217728 (2^27).")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Decompress .nic files into pictures.

    Several files, or those of a folder, become PNG files in a folder, and pictures that exist there are
    skipped: if it is interrupted, run the same command again to continue. With --force everything is made
    anew.
    """
    from nas.verbs.code import decompress as go

    _refuse_both(json, out)
    with _work(_written(force)) as report:
        result = go(
            codec,
            files,
            out,
            target=target,
            max_pixels=max_pixels,
            device=device,
            force=force,
            report=report,
        )
    _tell(result, json=json, quiet=out == "-")


@app.command(
    epilog=_example(
        "nas transcode codecs/family photo.nic fast.nic --layout checkerboard",
        "nas transcode codecs/family photo.nic small.nic --stages 200",
    )
)
def transcode(
    codec: Annotated[Path, typer.Argument(help="Folder of the codec that made the file.")],
    file: Annotated[Path, typer.Argument(help=".nic file to read.")],
    out: Annotated[Path, typer.Argument(help=".nic file to write.")],
    layout: Annotated[str | None, typer.Option(help="Layout to code the file in.")] = None,
    stages: Annotated[
        int | None,
        typer.Option(
            min=1, help="Or try every layout with at most this many stages, and keep the smallest file."
        ),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse files of larger pictures. Default: 134217728 (2^27).")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Code a .nic file again in another layout of its codec. The picture stays exactly the same.

    Fewer stages decode faster, and more stages give a smaller file.
    """
    from nas import console
    from nas.verbs.code import transcode as go

    result = go(
        codec, file, out, layout=layout, stages=stages, max_pixels=max_pixels, device=device, force=force
    )
    if json:
        console.emit(result.to_json())
    else:
        change = 100 * (result.bytes / result.bytes_before - 1)
        console.say(
            f"{out}: {result.layout_before} to {result.layout}, "
            f"{result.bytes_before} to {result.bytes} bytes ({change:+.2f} %)"
        )


@app.command("rank-check", epilog=_example("nas rank-check runs/a --data photos/ --count 8"))
def rank_check(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    data: Annotated[
        str, typer.Option(help="Folder of the photos that the run was trained on, or `bundled`.")
    ],
    count: Annotated[
        int, typer.Option(help="Number of architectures to train, evenly spread over the range of MACs.")
    ] = 6,
    steps: Annotated[
        int | None, typer.Option(help="Training steps for each. Default: as many as the run had.")
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="Where each training starts. scratch: from random weights, which is the classical check. "
            "supernet: from the supernet's weights, which shows the cost of sharing in fewer steps."
        ),
    ] = "scratch",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A training setting; repeatable. lmbda and metric are those of the run."),
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

    with _work(_TRAINED) as report:
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


@app.command(epilog=_example("nas finetune codecs/a20 --data photos/ --only g_s --out codecs/a20-tuned"))
def finetune(
    codec: Annotated[Path, typer.Argument(help="Folder of an exported codec.")],
    data: Annotated[str, typer.Option(help="Folder of photos, or `bundled` for those in the package.")],
    out: Annotated[Path, typer.Option(help="Folder of the new codec.")],
    only: Annotated[
        str | None,
        typer.Option(
            help="Train only a part. g_s: the decoder's transform; existing files then give better pictures. "
            "entropy: everything but g_a and g_s; the same pictures then take smaller files."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of training steps. Default: 2000.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A training setting; repeatable. lmbda and metric are those of the codec."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Train an exported codec further, alone, and report what that gains at the same MACs.

    By default everything is trained, and the new codec no longer reads older files. With --only g_s older
    files stay readable, and with --only entropy pictures stay the same. If it is interrupted, run the same
    command again: it continues where it stopped. Metrics are in OUT/training.
    """
    from nas import console
    from nas.training.settings import parse_assignments
    from nas.verbs.finetune import finetune as go

    with _work(_TRAINED) as report:
        result = go(
            codec,
            data,
            out,
            only=only,
            steps=steps,
            settings=parse_assignments(settings or []),
            seed=seed,
            device=device,
            force=force,
            report=report,
        )
    if json:
        console.emit(result.to_json())
        return
    for table in result.tables():
        console.table(*table)
    console.say("\n".join([*result.sentences(), str(result.path)]))


@app.command(
    epilog=_example(
        "nas evaluate codecs/a codecs/b --data kodak/ --against jpeg,webp --out rd.json",
        "nas evaluate codecs/* --data kodak/ --anchor vtm.json --anchor avif --out rd.json",
    )
)
def evaluate(
    codecs: Annotated[list[Path], typer.Argument(help="Folders of exported codecs.")],
    data: Annotated[str, typer.Option(help="Folder of photos, or `bundled` for those in the package.")],
    against: Annotated[
        str | None, typer.Option(help="Formats to compare with, such as jpeg,webp,avif.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            help="What BD-rates compare with; repeatable: a format, a curve of the codecs, FILE.json in "
            "CompressAI's format, or FILE.csv:NAME. Default: the formats of --against."
        ),
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(
            help="Codecs that form a curve, as NAME=CODEC,CODEC,...; repeatable. Other codecs form a "
            "curve if they are in one folder and have different lambdas."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.json for the results, in CompressAI's format. Beside it are a table by photo "
            "(FILE.csv), a picture (FILE.png, FILE.svg) and the results of each format."
        ),
    ] = None,
    effort: Effort = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure codecs on photos, with real files: bpp, PSNR, MS-SSIM, seconds, MACs and BD-rates."""
    from nas import console
    from nas.verbs.evaluate import evaluate as go

    stopped = _MEASURED if out else "Stopped; with --out FILE.json it would have been kept."
    with _work(stopped) as report:
        result = go(
            codecs,
            data,
            against=against,
            anchor=anchor or [],
            curve=curve or [],
            out=out,
            effort=effort,
            device=device,
            force=force,
            report=report,
        )
    if json:
        console.emit({**result.to_json(), "files": [str(path) for path in result.files]})
        return
    for table in result.tables():
        console.table(*table)
    for line in [*result.notes(), *map(str, result.files)]:
        console.say(line)


@app.command(
    epilog=_example(
        "nas profile codecs/small",
        "nas profile runs/a --check 30",
        "nas profile runs/a --pieces for-phone",
        "nas profile runs/a --from times.csv --device-name phone",
    )
)
def profile(
    path: Annotated[Path, typer.Argument(help="Folder of a run or a codec.")],
    size: Annotated[str, typer.Option(help="Width x height of the picture to time.")] = "768x512",
    repeats: Annotated[int, typer.Option(min=1, help="Number of timed repeats, after a warm-up.")] = 3,
    check: Annotated[
        int,
        typer.Option(
            min=0,
            help="For a run: also time this many random architectures as whole codecs, to check predictions.",
        ),
    ] = 0,
    pieces: Annotated[
        Path | None,
        typer.Option(
            help="For a run: write what another device is to time into this folder, as ONNX models."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--from", help="For a run: read the CSV that time_pieces.py printed there.")
    ] = None,
    device_name: Annotated[
        str | None, typer.Option(help="Name of that device, for targets such as 30ms@phone.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed for choosing the architectures of --check.", callback=check_seed)
    ] = 0,
    device: Device = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="For a run: measure everything again, or replace what is there.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure parameters, MACs by edge and scope, latency and peak memory on this machine.

    For a run, every edge is measured at every width and the context under every layout, once. After that, the
    time of any architecture is known, and `--target 30ms` works. The figures and a picture are kept in
    RUN/profile. If it is interrupted, run the same command again: it continues where it stopped.

    For another device, --pieces writes a folder to copy there, with a runner that needs NumPy and onnxruntime
    alone. --from reads the CSV that the runner printed. After that, `--target 30ms@phone` works.
    """
    from nas import console
    from nas.profiling.devices.write import Pieces
    from nas.profiling.profile import CodecProfile
    from nas.profiling.timing import warning
    from nas.verbs.profile import profile as go

    with _work(_MEASURED) as report:
        result = go(
            path,
            size=size,
            repeats=repeats,
            check=check,
            pieces=pieces,
            csv=csv,
            device_name=device_name,
            seed=seed,
            device=device,
            force=force,
            report=report,
        )
    if isinstance(result, Pieces):
        if json:
            console.emit(result.to_json())
        else:
            console.say("\n".join(result.lines()))
        return
    if isinstance(result, CodecProfile):
        if json:
            console.emit(result.to_json())
        else:
            console.table(f"{path}", result.columns, result.rows())
            console.say(warning(result.disturbance, f"nas profile {path} --size {size}"))
        return
    if json:
        console.emit({**result.to_json(), "files": [str(file) for file in result.files]})
        return
    console.table(result.possible.title, result.possible.columns, result.possible.rows())
    console.table(f"{path}, {result.size} on {result.machine}", result.columns, result.rows())
    if result.accuracies:
        rows = [accuracy.row() for accuracy in result.accuracies]
        console.table("whole codecs against predictions", result.accuracies[0].columns, rows)
    console.say("\n".join(relation.sentence() for relation in result.relations))
    console.say(result.warning)
    console.say("\n".join(str(file) for file in result.files))


@app.command(
    epilog=_example(
        "nas info raster-2x2", "nas info photo.nic", "nas info codecs/a20 --out a20.svg", "nas info zoo"
    )
)
def info(
    thing: Annotated[
        str,
        typer.Argument(
            help="A run, codec, .nic file, space, budget, recipe, layout or architecture key; zoo:NAME, "
            "or zoo for a list."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Draw a codec, key or layout into this file: .png, .svg or .pdf.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Show what something is. A codec is drawn as a graph whose arrows are as thick as their MACs."""
    from nas import console
    from nas.verbs.info import info as go

    known = go(thing, out=out, force=force)
    if json:
        console.emit({**known.to_json(), **({"files": [str(out)]} if out is not None else {})})
        return
    console.show(known.lines())
    if known.drawn:
        console.say(known.drawn)


def main() -> None:
    """Run the command line."""
    app()
