"""Commands that describe or profile something: profile, info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Device, Force, Json, example
from nas.cli.work import STOPPED_MEASURING, work
from nas.support.limits import check_seed
from nas.support.paths import as_typed


@example(
    "nas profile codecs/small",
    "nas profile runs/a --check 30",
    "nas profile runs/a --pieces for-phone",
    "nas profile runs/a --from times.csv --device-name phone",
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
        typer.Option(help="For a run: write a folder with ONNX models for another device to time."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--from", help="For a run: read the CSV that time_pieces.py wrote on that device."),
    ] = None,
    device_name: Annotated[
        str | None, typer.Option(help="Name of the other device, for targets such as 30ms@phone.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed for choosing the architectures of --check.", callback=check_seed)
    ] = 0,
    device: Device = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="For a run: measure everything again, or replace existing output.")
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

    with work(STOPPED_MEASURING) as report:
        from nas.profiling.devices.write import Pieces
        from nas.profiling.profile import CodecProfile
        from nas.profiling.timing import disturbance_warning
        from nas.verbs.profile import profile as go

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
            console.say(
                disturbance_warning(result.disturbance, f"nas profile {as_typed(path)} --size {size}")
            )
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


@example("nas info raster-2x2", "nas info photo.nic", "nas info codecs/a10 --out a10.svg", "nas info zoo")
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
    """Describe a run, codec, file, space, budget, recipe, layout or key.

    A codec is drawn as a graph whose arrows are as thick as their MACs.
    """
    from nas import console
    from nas.verbs.info import info as go

    stopped = "Stopped; nothing was changed. Run the same command again."
    with work(stopped):  # for the user's own spaces, costs are counted first
        described = go(thing, out=out, force=force)
    if json:
        console.emit({**described.to_json(), **({"files": [str(out)]} if out is not None else {})})
        return
    console.show(described.lines())
    if described.drawn:
        console.say(described.drawn)
