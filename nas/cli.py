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

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.", callback=check_seed)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]


def _example(*lines: str) -> str:
    # \b keeps the lines as they are
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


@app.callback()
def _group() -> None:
    pass


@app.command(epilog=_example("nas demo --out my-demo"))
def demo(
    out: Annotated[Path, typer.Option(help="The demo's folder: a run, with its codecs and photos.")] = Path(
        "nas-demo"
    ),
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Do not start from the starter.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    trials: Annotated[int | None, typer.Option(help="Architectures to score.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """The whole way on bundled photos, in under five minutes on two cores."""
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
    space: Annotated[str | None, typer.Argument(help="A shipped space, a YAML file or a codec.yaml.")] = None,
    data: Annotated[str | None, typer.Option(help="A folder of photos, or `bundled`.")] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("run"),
    arch: Annotated[str | None, typer.Option(help="Train this architecture alone.")] = None,
    lmbda: Annotated[
        str | None, typer.Option(help="Weight of the distortion, or a range for all rates: 0.0018..0.18.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="mse or ms-ssim.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="klt (of the photos), a run, zoo:NAME, a supernet.safetensors, or CompressAI's checkpoint "
            "or zoo name."
        ),
    ] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, any setting; recipe=NAME sets many.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a supernet (or one architecture) on your photos."""
    from nas import console
    from nas.run import Run
    from nas.training.loop import Progress
    from nas.training.record.clock import expectation
    from nas.training.settings import parse_assignments
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
                f"  {console.duration(progress.seconds_left)} left"
            )
            show("training", progress.step, progress.steps, note)
            if progress.expected is not None:
                console.say(expectation(progress.expected, console.duration(progress.expected)))

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
        console.emit({"run": str(run.path), "fingerprint": run.fingerprint, "steps": run.settings.steps})
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
    run: Annotated[str, typer.Argument(help="A trained run; or zoo:NAME, a supernet that the package has.")],
    budget: Annotated[str | None, typer.Option(help="A shipped budget or a YAML file.")] = None,
    target: Annotated[
        str | None, typer.Option(help="20 (kMAC/px), 60% (of the widest), or after nas profile 30ms.")
    ] = None,
    scope: Annotated[str | None, typer.Option(help="encoder, decoder or total (the default).")] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Score so many architectures more, and a few near a target where none lies; 0: none at all. "
            "Default: 100, or the few alone where the zoo's own scores answer.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Score on your own photos (needs --out).")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A copy of the run to search in; of zoo:NAME, by default NAME.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="An Optuna storage URL; default: a journal in RUN.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the Pareto front under a budget. Nothing is ever scored twice; run it again to go on."""
    from nas.api import LoadedRun, run_on_photos
    from nas.cost.exact.possible import Possible
    from nas.profiling.quantities import Quantities
    from nas.run import Run
    from nas.spaces.budget import Budget
    from nas.zoo import copied, in_zoo, zoo_run

    from_zoo = in_zoo(run)
    if not from_zoo and (data is None) != (out is None):
        raise InputError("--data and --out go together: a search on other photos gets a run of its own.")
    limit = Budget.asked(budget, target, scope)
    found = zoo_run(run) if from_zoo else Run.open(run)
    found.refuse_untrained()
    quantities = Quantities(found, found.costs(), device)
    question = quantities.question(limit)  # or refused, before what takes long to import
    from nas import console
    from nas.search.hints import export_commands

    possible = Possible.of(quantities, question)
    own = out or (Path(found.path.name) if from_zoo else None)
    if own is not None:
        found = run_on_photos(found, data, own, force=force) if data else copied(found, own, force=force)
        quantities = Quantities(found, found.costs(), device)
    if trials is None and not (from_zoo and data is None):
        trials = 100
    place = found.path
    console.table(possible.title, possible.columns, possible.rows(), aside=True)
    loaded = LoadedRun(found, device=device, quantities=quantities)
    try:
        with console.progress() as report:
            result = loaded.search(limit, trials=trials, storage=storage, seed=seed, report=report)
    except KeyboardInterrupt:
        console.say(f"Stopped; every score is kept. Go on with the same command, or: nas pareto {place}")
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
    runs: Annotated[list[Path], typer.Argument(help="Searched runs, one per lambda.")],
    scope: Annotated[str, typer.Option(help="encoder, decoder or total.")] = "total",
    out: Annotated[Path | None, typer.Option(help="Where to draw; default: the first run.")] = None,
    json: Json = False,
) -> None:
    """Draw the front: front.csv, pareto.png, pareto.svg and report.html.

    Loss, rate and PSNR against MACs and, after `nas profile RUN`, against time; the budgets that were asked
    for; what each architecture is made of; and how much less loss than uniform widths that is.
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
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    arch: Annotated[str, typer.Option(help="An architecture's key, as in front.csv.")],
    scope: Annotated[str, typer.Option(help="encoder, decoder or total.")] = "total",
    out: Annotated[Path | None, typer.Option(help="A picture of the list: .png, .svg or .pdf.")] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """The price list of an architecture: one step in each slot, its cost and its loss.

    Of every width one step narrower and one wider, and every other layout, the best deals first. Steps that
    were not scored yet are scored now. After `nas profile RUN` the list has milliseconds too.
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
        console.say("Stopped; every score is kept. Go on with the same command.")
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
    run: Annotated[Path, typer.Argument(help="A searched run.")],
    out: Annotated[Path, typer.Option(help="The codec's folder.")],
    target: Annotated[
        str | None, typer.Option(help="20 (kMAC/px), 60% (of the widest), or after nas profile 30ms.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="A shipped budget or a YAML file, whose limits the codec meets; of several targets the "
            "largest counts, unless --target names another."
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="An architecture's key, as in front.csv.")] = None,
    family: Annotated[
        bool,
        typer.Option(
            "--family",
            help="One encoder and entropy path (of --target or --arch; else of the front's least loss), with "
            "every decoder and layout of the run that is worth its cost.",
        ),
    ] = False,
    scope: Annotated[
        str | None, typer.Option(help="Of --target: encoder, decoder or total (the default).")
    ] = None,
    arithmetic: Annotated[
        str | None,
        typer.Option(
            help="Of what both sides compute: exact (files decode on every machine) or float64 (on machines "
            "alike).  [default: exact, unless it costs more than 0.5 % in rate]",
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="As ONNX models, too, with a decoder that needs no torch.")
    ] = False,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Export one architecture as a codec of its own, measured on held-out photos with real files.

    A family is a codec with several decoders and layouts: any decoder reads any of its files.
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
    codec: Annotated[Path, typer.Argument(help="An exported codec.")],
    image: Annotated[Path, typer.Argument(help="Any image that Pillow reads.")],
    file: Annotated[Path, typer.Argument(help="The .nic file to write.")],
    layout: Annotated[str | None, typer.Option(help="Of a family: code in this layout.")] = None,
    stages: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of a family: try every layout of at most so many stages, keep the smallest."
        ),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(help="0 (smallest) to 100 (best), of codecs that were trained for all rates."),
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(help="The best quality with at most so many bits per pixel.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="The best quality with at most so many bytes.")] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Compress one picture to a .nic file."""
    from nas import console
    from nas.photos.images import read_image
    from nas.support.files import refuse_existing, write_atomically

    if sum(value is not None for value in (quality, bpp, size)) > 1:
        raise InputError("Give one of --quality, --bpp and --size: each of them decides the rate.")
    refuse_existing(file, force=force, what=".nic file", folder=False)
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
    codec: Annotated[Path, typer.Argument(help="The codec that made the file, or one of its family.")],
    file: Annotated[Path, typer.Argument(help="A .nic file.")],
    image: Annotated[Path, typer.Argument(help="The picture to write (.png).")],
    target: Annotated[
        str | None,
        typer.Option(
            help="Of a family: the best decoder at or under 10 (kMAC/px of decoding) or 60% (of the dearest)."
        ),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse files of larger pictures; default: 134217728 (2^27).")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Decompress a .nic file to a picture."""
    from nas import console
    from nas.support.files import refuse_existing

    refuse_existing(image, force=force, what="picture", folder=False)
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
    codec: Annotated[Path, typer.Argument(help="The family that made the file.")],
    file: Annotated[Path, typer.Argument(help="A .nic file.")],
    out: Annotated[Path, typer.Argument(help="The .nic file to write.")],
    layout: Annotated[str | None, typer.Option(help="Code it again in this layout.")] = None,
    stages: Annotated[
        int | None, typer.Option(min=1, help="Or in the smallest one of at most so many stages.")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse files of larger pictures; default: 134217728 (2^27).")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Code a file again in another layout of its family: stored small, served fast, the same picture."""
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
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    data: Annotated[str, typer.Option(help="The folder of photos it was trained on, or `bundled`.")],
    count: Annotated[int, typer.Option(help="Architectures to train, evenly over the range of MACs.")] = 6,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps for each; default: as many as the run had.")
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="scratch: from random weights, the classical check. supernet: go on from the inherited "
            "weights, which shows the cost of sharing in fewer steps."
        ),
    ] = "scratch",
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE; lmbda and metric are the run's.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the architectures; training has the run's.", callback=check_seed)
    ] = 0,
    device: Device = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the results of a check with other settings.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a few architectures alone: does the supernet rank them right, and what does sharing cost?

    Run it again to go on: nothing is trained twice. It leaves rank.csv, rank.json, rank.png and rank.svg in
    RUN/rank-check, and there a run for each architecture.
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
        console.say("Stopped; what was trained is kept. Go on with the same command.")
        raise
    if json:
        console.emit({**result.to_json(), "files": [str(file) for file in result.files]})
        return
    rows = result.table()
    console.table("rd_loss on the run's calibration photos", list(rows[0]), [list(r.values()) for r in rows])
    console.say("\n".join([*result.sentences(), *(str(file) for file in result.files)]))


@app.command(epilog=_example("nas finetune codecs/a20 --data photos/ --only g_s --out codecs/a20-tuned"))
def finetune(
    codec: Annotated[Path, typer.Argument(help="An exported codec.")],
    data: Annotated[str, typer.Option(help="A folder of photos, or `bundled`.")],
    out: Annotated[Path, typer.Option(help="The new codec's folder.")],
    only: Annotated[
        str | None,
        typer.Option(
            help="g_s: the decoder's transform alone; files made before decode with it. entropy: all but g_a "
            "and g_s; the same pictures from smaller files."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; default: 2000.")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE; lmbda and metric are the codec's.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Train an exported codec on, standalone, and tell what that gained at the same MACs.

    Everything is trained, which gives a codec of another identity; with --only g_s existing files stay
    readable, with --only entropy pictures stay the same. Interrupted, it goes on with the same command. Its
    metrics stay in OUT/training.
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
        console.say("Stopped; what was trained is kept. Go on with the same command.")
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
    codecs: Annotated[list[Path], typer.Argument(help="Exported codecs.")],
    data: Annotated[str, typer.Option(help="A folder of photos, or `bundled`.")],
    against: Annotated[str | None, typer.Option(help="Formats to compare with: jpeg,webp,avif.")] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            help="What BD-rates are against: a format, a curve of the codecs, FILE.json in CompressAI's "
            "format or FILE.csv:NAME. Default: the formats of --against."
        ),
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=CODEC,CODEC,...: codecs that make a curve. Others do where they lie in one folder and "
            "are each for another lambda."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.json: results in CompressAI's format. Beside it a row per photo (FILE.csv), a picture "
            "(FILE.png, FILE.svg) and the results of each format."
        ),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure codecs on photos with real files: bpp, PSNR, MS-SSIM, seconds, MACs, BD-rates."""
    from nas import console
    from nas.comparison.compare import compare
    from nas.comparison.plan import Plan
    from nas.support.device import choose

    where = choose(device)
    formats = [word.strip() for word in against.split(",") if word.strip()] if against else []
    plan = Plan.of(codecs, against=formats, anchors=anchor or [], curves=curve or [], out=out, force=force)
    try:
        with console.progress() as show:
            result = compare(
                plan, data, lambda done, total, note: show("evaluating", done, total, note), device=where
            )
        written = result.write(plan.outputs) if plan.outputs is not None else []
    except KeyboardInterrupt:
        kept = "what was measured is kept. Go on with the same command."
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
    path: Annotated[Path, typer.Argument(help="A run or a codec.")],
    size: Annotated[str, typer.Option(help="Width x height of the picture that is timed.")] = "768x512",
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats, after a warm-up.")] = 3,
    check: Annotated[
        int, typer.Option(min=0, help="Of a run: also time so many random architectures as whole codecs.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Draws the architectures of --check.", callback=check_seed)] = 0,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Of a run: measure again what is known.")] = False,
    json: Json = False,
) -> None:
    """Parameters, MACs by edge and scope, latency and peak memory on this machine.

    Of a run, every edge is measured at every width and the context under every layout, once: afterwards the
    time of any architecture is a look-up, and `--target 30ms` works. The figures and a picture are kept in
    RUN/profile. Stopped, it goes on where it was.
    """
    from nas import console
    from nas.profiling.disturbance import warning
    from nas.profiling.profile import parse_size, profile_codec
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
        console.say("Stopped; what was measured is kept. Go on with the same command.")
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
            help="A run, codec, .nic file, space, budget, recipe, layout or key; zoo:NAME, or zoo for all."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="A picture of a codec, key or layout: .png, .svg or .pdf.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Tell what something is; a codec is drawn as the graph that it is, arrows as thick as their MACs."""
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
