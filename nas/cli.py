"""The command line: verbs only, no logic. Heavy parts are imported by the verbs that use them."""

from __future__ import annotations

import io
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nas.support.errors import InputError, InputWarning
from nas.support.limits import check_seed


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


def _example(*lines: str) -> str:
    # \b keeps the lines as they are
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


@app.callback()
def _group() -> None:
    pass


@app.command(epilog=_example("nas demo --out my-demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results: a run with codecs and pictures.")] = Path(
        "nas-demo"
    ),
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Train from random weights instead of the starter supernet."),
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
    from dataclasses import replace

    from nas import console
    from nas.demo import CONTINUED, FROM_SCRATCH, NAMES, run_demo

    size = FROM_SCRATCH if from_scratch else CONTINUED
    size = replace(size, steps=steps or size.steps, trials=trials or size.trials)
    start = "random weights" if from_scratch else "the starter supernet that the package carries"
    console.say(
        f"Training {size.steps} steps from {start}, then {size.trials} trials. Photos: four to train, one to "
        "calibrate, and one kept out of everything to compress at the end."
    )
    with console.progress() as report:
        result = run_demo(
            out, size=size, from_scratch=from_scratch, seed=seed, device=device, force=force, report=report
        )
    if json:
        console.emit(result.to_json())
        return
    columns = (
        "target",
        "encoder",
        "decoder",
        "stages",
        "bytes",
        "bpp",
        "PSNR",
        "JPEG bpp",
        "JPEG PSNR",
        "better",
    )
    rows = [
        (
            row.target_kmac_px,
            row.encoder_kmac_px,
            row.decoder_kmac_px,
            row.stages,
            row.bytes,
            row.bpp,
            row.psnr,
            row.jpeg_bpp,
            row.jpeg_psnr,
            row.better,
        )
        for row in result.rows
    ]
    console.table(f"{result.photo}, kept out of training and search (costs in kMAC/px)", columns, rows)
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
    assign: Annotated[
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
    from nas.run import Run
    from nas.support.progress import duration
    from nas.training.loop import Progress
    from nas.training.record.clock import expectation
    from nas.training.settings import parse_assignments, settings_of
    from nas.training.start import (
        TrainingRequest,
        advice,
        how_to_train_longer,
        resume_training,
        start_training,
    )

    trained = False
    with console.progress() as show:

        def report(progress: Progress) -> None:
            nonlocal trained
            trained = True
            note = (
                f"loss {progress.loss:.3f}  {progress.bpp:.3f} bpp  {progress.photos_per_second:.0f} photos/s"
                f"  {duration(progress.seconds_left)} left"
            )
            show("training", progress.step, progress.steps, note)
            if progress.expected is not None:
                console.say(expectation(progress.expected, duration(progress.expected)))

        try:
            if resume:
                given = (space, data, arch, lmbda, metric, steps, init_from, assign)
                if force or any(value is not None and value != [] for value in given):
                    raise InputError(
                        "--resume goes on as the run was begun: give --out and nothing else. "
                        + how_to_train_longer(out)
                    )
                run = resume_training(out, device=device, report=report)
            else:
                if space is None or data is None:
                    raise InputError("Training needs a SPACE and --data DIR (or --resume with --out RUN).")
                named = {"lmbda": lmbda, "metric": metric, "steps": steps}
                settings: dict[str, Any] = {"seed": seed, **parse_assignments(assign or [])}
                settings |= {name: value for name, value in named.items() if value is not None}
                request = TrainingRequest(space, data, out, arch, settings, init_from, force, device)
                if word := advice(request):
                    console.say(word)
                run = start_training(request, report)
        except KeyboardInterrupt:
            kept = Run(out).checkpoint_path.is_file()
            go_on = f"the state is kept. Go on with: nas train --out {out} --resume"
            console.say(f"Stopped; {go_on if kept else 'nothing was trained yet.'}")
            raise
    if json:
        console.emit({"run": str(run.path), "fingerprint": run.fingerprint, "steps": settings_of(run).steps})
    else:
        if not trained:
            console.say(f"{run.path} was trained to its end before. {how_to_train_longer(run.path)}")
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
            "after `nas profile`, 30ms.",
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
    from nas.api import LoadedRun, run_on_photos
    from nas.cost.counting.cache import kept_costs
    from nas.profiling.possible import Possible
    from nas.profiling.quantities import Quantities
    from nas.run import Run
    from nas.shipped import copied, in_zoo, zoo_run
    from nas.spaces.budget import Budget

    from_zoo = in_zoo(run)
    if not from_zoo and (data is None) != (out is None):
        raise InputError("--data and --out go together: a search on other photos gets a run of its own.")
    limit = Budget.asked(budget, target, scope)
    found = zoo_run(run) if from_zoo else Run.open(run)
    _ = found.trained_weights  # or refused
    quantities = Quantities(found, kept_costs(found.space, found.costs_path), device)
    question = quantities.question(limit)  # or refused, before what takes long to import
    from nas import console
    from nas.searching.hints import export_commands

    possible = Possible.of(quantities, question)
    own = out or (Path(found.path.name) if from_zoo else None)
    if own is not None:
        found = run_on_photos(found, data, own, force=force) if data else copied(found, own, force=force)
        quantities = Quantities(found, kept_costs(found.space, found.costs_path), device)
    if trials is None and not (from_zoo and data is None):
        trials = 100
    place = found.path
    console.table(possible.title, possible.columns, possible.rows(), aside=True)
    loaded = LoadedRun(found, device=device, quantities=quantities)
    try:
        with console.progress() as report:
            result = loaded.search(limit, trials=trials, storage=storage, seed=seed, report=report)
    except KeyboardInterrupt:
        console.say(
            f"Stopped; every score is kept. Run the same command again to continue, or: nas pareto {place}"
        )
        raise
    if json:
        ranges = {name: span.to_json() for name, span in result.ranges.items()}
        console.emit(
            {
                "run": str(place),
                "architectures": result.size,
                "scored": len(result.scored),
                "front": len(result.front),
                "set_aside": [architecture.key for architecture in result.set_aside],
                "ranges_kmac_px": ranges,
                "possible": possible.to_json(),
                "choices": [choice.to_json() for choice in result.choices],
            }
        )
        return
    told = [pair for choice in result.choices for pair in choice.answers().items()]
    if told:
        title = f"best at or under each target ({question.quantity.title}, {question.quantity.unit})"
        rows = [{"": f"{row}", **choice.row()} for row, (_, choice) in enumerate(told, 1)]
        console.table(title, list(rows[0]), [list(row.values()) for row in rows], narrow=True)
        for row, (what, choice) in enumerate(told, 1):
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
    json: Json = False,
) -> None:
    """Draw the Pareto front, and write front.csv, pareto.png, pareto.svg and report.html.

    The drawings show loss, rate and PSNR against MACs and, after `nas profile RUN`, against time. They also
    show the budgets that were asked for, what each architecture consists of, and how much better the front
    is than uniform widths.
    """
    from nas import console
    from nas.report.front.make import draw_runs
    from nas.run import Run

    different = {run.resolve(): Run.open(run) for run in runs}
    files = draw_runs(list(different.values()), out or runs[0], scope=scope)
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
    from nas.analysis.prices import table_rows
    from nas.api import load_run
    from nas.report.prices import save_prices
    from nas.report.structure.graph import check_picture

    if out is not None:
        check_picture(out, force=force)
    loaded = load_run(run, device=device)
    try:
        with console.progress() as report:
            found = loaded.explain(arch, scope=scope, report=report)
    except KeyboardInterrupt:
        console.say("Stopped; every score is kept. Run the same command again to continue.")
        raise
    if out is not None:
        save_prices(found, out)
    if json:
        console.emit({**found.to_json(), **({"files": [str(out)]} if out is not None else {})})
        return
    console.show([found.architecture.key, found.heading()])
    for title, steps in found.groups.items():
        rows = table_rows(steps)
        console.table(title, list(rows[0]), [list(row.values()) for row in rows])
    console.show([*found.sentences(), *([str(out)] if out is not None else [])])


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
            "after `nas profile`, 30ms.",
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
    from nas.api import load_run
    from nas.support.files import refuse_existing

    refuse_existing(out, force=force, what="codec")
    with console.progress() as report:
        content = load_run(run, device=device).export(
            out,
            target=target,
            budget=budget,
            arch=arch,
            family=family,
            scope=scope,
            arithmetic=arithmetic,
            onnx=onnx,
            force=force,
            report=report,
        )
    if json:
        console.emit(content)
        return
    from nas.report.family import tables

    costs, found = content["kmac_px"], content["measured"]
    console.say(f"{out}: {content['arch']}")
    by_scope = " / ".join(f"{costs[scope]:.3f}" for scope in ("encoder", "decoder", "total"))
    console.say(f"{by_scope} kMAC/px (encoder / decoder / total), {content['stages']} stages")
    console.say(
        f"{found['photos']} held-out photo{'s' * (found['photos'] != 1)}, as files: {found['bpp']:.4f} bpp, "
        f"{found['psnr']:.2f} dB"
    )
    if content["arithmetic"] == "float64":
        why = f": exact would cost {content['exact_costs']:.1%} in rate" if "exact_costs" in content else ""
        console.say(f"The entropy path is in float64, for machines alike{why}.")
    elif "exact_costs" in content:
        console.say(f"The entropy path is exact on every machine, for {content['exact_costs']:+.2%} in rate.")
    for action, (seconds, wanted) in content.get("timed", {}).items():
        console.say(
            f"Measured here: {1000 * seconds:.1f} ms to {action}, {wanted:.1f} ms by the run's profile."
        )
    for table in tables(content):
        console.table(*table)
    if onnx:
        console.say(f"ONNX models, and a decoder that needs no torch: {out}/onnx")


@app.command(
    epilog=_example(
        "nas compress codecs/small photo.png photo.nic",
        "nas compress codecs/family photo.png photo.nic --stages 8",
    )
)
def compress(
    codec: Annotated[Path, typer.Argument(help="Folder of an exported codec.")],
    image: Annotated[Path, typer.Argument(help="Picture to compress, in any format that Pillow reads.")],
    file: Annotated[Path, typer.Argument(help=".nic file to write.")],
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
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Compress a picture into a .nic file."""
    from nas import console
    from nas.photos.images import read_image
    from nas.support.files import refuse_existing, refuse_over_input, write_atomically

    if sum(value is not None for value in (quality, bpp, size)) > 1:
        raise InputError("Give one of --quality, --bpp and --size: each of them decides the rate.")
    refuse_existing(file, force=force, what=".nic file", folder=False)
    refuse_over_input(file, image)
    pixels = read_image(image)
    from nas.codec.folder import load_family
    from nas.codec.recode import compress_smallest
    from nas.spaces.rates import STEPS_OF_QUALITY
    from nas.support.device import choose

    family = load_family(codec).to(choose(device))
    most = size if bpp is None else bpp * pixels.shape[0] * pixels.shape[1] / 8
    layouts = family.choose_layouts(layout, stages)
    nic = compress_smallest(family, pixels, layouts, quality=quality, most_bytes=most)
    data, name = nic.to_bytes(), family.layout_of(nic.path_identity)
    write_atomically(file, data)
    found = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    at = {} if nic.step is None else {"quality": 100 * nic.step / STEPS_OF_QUALITY}
    if json:
        console.emit({"file": str(file), "bytes": len(data), "bpp": found, "layout": name, **at})
    else:
        told = f", quality {at['quality']:g}" if at else ""
        console.say(f"{file}: {len(data)} bytes, {found:.4f} bpp, layout {name}{told}")


@app.command(
    epilog=_example(
        "nas decompress codecs/small photo.nic photo.png",
        "nas decompress codecs/family photo.nic photo.png --target 10",
    )
)
def decompress(
    codec: Annotated[
        Path,
        typer.Argument(help="Folder of the codec that made the file, or of one with the same entropy path."),
    ],
    file: Annotated[Path, typer.Argument(help=".nic file to read.")],
    image: Annotated[Path, typer.Argument(help="Picture to write, such as a .png file.")],
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
    """Decompress a .nic file into a picture."""
    from nas import console
    from nas.support.files import refuse_existing, refuse_over_input

    refuse_existing(image, force=force, what="picture", folder=False)
    refuse_over_input(image, file)
    from nas.codec.bitstream import Nic, decompress_image
    from nas.codec.folder import load_family
    from nas.photos.images import MAX_PIXELS, check_format, write_image
    from nas.support.device import choose

    check_format(image)
    nic = Nic.read(file)
    family = load_family(codec)
    layout = family.layout_of(nic.path_identity)
    decoder = family.decoder_within(target, layout) if target and layout else family.default
    chosen = family.to(choose(device)).codec(layout, decoder)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    write_image(image, decompress_image(chosen, nic, max_pixels=limit))
    if json:
        arch = chosen.architecture.key
        console.emit({"image": str(image), "width": nic.width, "height": nic.height, "arch": arch})
        return
    cost = ""
    if layout is not None and len(family.decoders) > 1:
        cost = f", decoded at {family.decoder_kmac_px(decoder, layout):.3f} kMAC/px"
    console.say(f"{image}: {nic.width}x{nic.height}{cost}")


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
    from nas.support.files import refuse_existing, write_atomically

    refuse_existing(out, force=force, what=".nic file", folder=False)
    if layout is None and stages is None:
        raise InputError("Say into which layout: --layout NAME, or the smallest within --stages N.")
    from nas.codec.bitstream import Nic
    from nas.codec.folder import load_family
    from nas.codec.recode import transcode as coded_again
    from nas.photos.images import MAX_PIXELS
    from nas.support.device import choose

    nic = Nic.read(file)
    family = load_family(codec).to(choose(device))
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    found = coded_again(family, nic, family.choose_layouts(layout, stages), max_pixels=limit)
    before, after = (family.layout_of(each.path_identity) for each in (nic, found))
    sizes = len(nic.to_bytes()), len(found.to_bytes())
    write_atomically(out, found.to_bytes())
    if json:
        console.emit({"file": str(out), "bytes": sizes[1], "layout": after, "from": before})
    else:
        change = 100 * (sizes[1] / sizes[0] - 1)
        console.say(f"{out}: {before} to {after}, {sizes[0]} to {sizes[1]} bytes ({change:+.2f} %)")


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
    assign: Annotated[
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
    from nas.api import load_run
    from nas.training.settings import parse_assignments

    loaded, settings = load_run(run, device=device), parse_assignments(assign or [])
    try:
        with console.progress() as report:
            result = loaded.rank_check(
                data,
                count=count,
                steps=steps,
                start=start,
                settings=settings,
                seed=seed,
                force=force,
                report=report,
            )
    except KeyboardInterrupt:
        console.say("Stopped; what was trained is kept. Run the same command again to continue.")
        raise
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
    assign: Annotated[
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
    from nas.verbs.finetune import FinetuneRequest, finetune_codec

    settings = parse_assignments(assign or [])
    request = FinetuneRequest(codec, data, out, only, steps, settings, seed, device, force)
    try:
        with console.progress() as report:
            result = finetune_codec(request, report)
    except KeyboardInterrupt:
        console.say("Stopped; what was trained is kept. Run the same command again to continue.")
        raise
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
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure codecs on photos, with real files: bpp, PSNR, MS-SSIM, seconds, MACs and BD-rates."""
    from nas import console
    from nas.comparison.compare import compare
    from nas.comparison.plan import Plan
    from nas.support.device import choose
    from nas.verbs.evaluate import write_comparison

    where = choose(device)
    formats = [word.strip() for word in against.split(",") if word.strip()] if against else []
    plan = Plan.of(codecs, against=formats, anchors=anchor or [], curves=curve or [], out=out, force=force)
    try:
        with console.progress() as show:
            result = compare(
                plan, data, lambda done, total, note: show("evaluating", done, total, note), device=where
            )
        written = write_comparison(result, plan.outputs) if plan.outputs is not None else []
    except KeyboardInterrupt:
        kept = "what was measured is kept. Run the same command again to continue."
        console.say(f"Stopped; {kept if plan.outputs else 'with --out FILE.json it would have been kept.'}")
        raise
    if json:
        console.emit({**result.to_json(), "files": [str(path) for path in written]})
        return
    for table in result.tables():
        console.table(*table)
    for line in [*result.notes(), *map(str, written)]:
        console.say(line)


@app.command(
    epilog=_example(
        "nas profile codecs/small", "nas profile runs/a --check 30", "nas profile runs/a --size 1920x1080"
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
    seed: Annotated[
        int, typer.Option(help="Seed for choosing the architectures of --check.", callback=check_seed)
    ] = 0,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="For a run: measure everything again.")] = False,
    json: Json = False,
) -> None:
    """Measure parameters, MACs by edge and scope, latency and peak memory on this machine.

    For a run, every edge is measured at every width and the context under every layout, once. After that, the
    time of any architecture is known, and `--target 30ms` works. The figures and a picture are kept in
    RUN/profile. If it is interrupted, run the same command again: it continues where it stopped.
    """
    from nas import console
    from nas.profiling.profile import parse_size, profile_codec
    from nas.profiling.timing import warning
    from nas.support.device import choose

    pixels, where = parse_size(size), choose(device)
    if (path / "codec.yaml").is_file():
        with console.progress() as show:
            codec = profile_codec(
                path,
                size=pixels,
                repeats=repeats,
                device=where,
                report=lambda done, total, note: show("profiling", done, total, note),
            )
        if json:
            console.emit(codec.to_json())
        else:
            console.table(f"{path}", codec.columns, codec.rows())
            console.say(warning(codec.disturbance))
        return
    if not (path / "config.yaml").is_file():
        raise InputError(
            f"{path} is neither a run nor a codec: give a folder that `nas train` or `nas export` made."
        )
    from nas.profiling.measure import Request
    from nas.profiling.run_profile import profile_run
    from nas.report.profile import save_profile
    from nas.run import Run

    request = Request(pixels, repeats, where, check, seed, force)
    try:
        with console.progress() as show:
            result = profile_run(
                Run.open(path),
                request,
                report=lambda done, total, note: show("profiling", done, total, note),
            )
    except KeyboardInterrupt:
        console.say("Stopped; what was measured is kept. Run the same command again to continue.")
        raise
    files = save_profile(result, Path(result.measured["folder"]))
    if json:
        console.emit({**result.to_json(), "files": [str(file) for file in files]})
        return
    console.table(result.possible.title, result.possible.columns, result.possible.rows())
    console.table(f"{path}, {size} on {result.machine}", result.columns, result.rows())
    if result.accuracies:
        rows = [found.row() for found in result.accuracies]
        console.table("whole codecs against predictions", result.accuracies[0].columns, rows)
    console.say("\n".join(found.sentence() for found in result.relations))
    console.say(warning(result.disturbance))
    console.say("\n".join(str(file) for file in files))


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
    from nas.verbs.info import describe

    found = describe(thing)
    written = found.draw(out, force=force) if out is not None else None
    if json:
        console.emit({**found.to_json(), **({"files": [str(out)]} if out is not None else {})})
        return
    console.show(found.lines())
    if written:
        console.say(written)


def main() -> None:
    """Run the command line."""
    app()
