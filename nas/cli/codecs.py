"""Commands that make and measure codecs: export, finetune, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Device, Effort, Force, Json, MoreLimits, Seed, example
from nas.cli.work import STOPPED_MEASURING, TRAINED, interrupted_folder_message, work


@example(
    "nas export runs/a --target 10 --scope decoder --out codecs/small",
    "nas export runs/a --budget phone --out codecs/phone",
    "nas export runs/a --family --out codecs/family",
)
def export(
    run: Annotated[
        Path, typer.Argument(help="Folder of a searched run, or zoo:NAME for a supernet from the package.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the codec that this makes.")],
    target: Annotated[
        str | None,
        typer.Option(
            help="Largest cost of the codec: 20 (kMAC per pixel), 60% (of the widest architecture), "
            "'4 stages', '5M parameters' or, after `nas profile`, 30ms, or 30ms@phone on another device.",
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
    limits: MoreLimits = None,
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
        bool,
        typer.Option(
            "--onnx", help="Also write ONNX models, with an encoder and a decoder that need no torch."
        ),
    ] = False,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Export one architecture as a codec of its own.

    Give --target, --budget, --limit or --arch. The codec is measured on held-out photos with real files. With
    --family it has several decoders and layouts, and any of its decoders reads any of its files.
    """
    from nas import console
    from nas.support.files import refuse_existing

    refuse_existing(out, force=force, what="codec")  # before slow imports
    from nas.report.family import sentences, tables

    again = "Run the same command with --force to make it again; every score is kept."
    with work(lambda: interrupted_folder_message(out, "codec", again)) as report:
        from nas.verbs.export import export as go

        content = go(
            run,
            out,
            target=target,
            budget=budget,
            arch=arch,
            family=family,
            scope=scope,
            limits=limits or (),
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
        console.say(f"ONNX models, with an encoder and a decoder that need no torch: {out}/onnx")


@example("nas finetune codecs/a10 --data photos/ --only g_s --out codecs/a10-tuned")
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
            "--set",
            metavar="NAME=VALUE",
            help="A training setting; repeatable. lmbda and metric are those of the codec.",
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

    with work(TRAINED) as report:
        from nas.training.settings import parse_assignments
        from nas.verbs.finetune import finetune as go

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


@example(
    "nas evaluate codecs/a codecs/b --data kodak/ --against jpeg,webp --out rd.json",
    "nas evaluate codecs/* --data kodak/ --anchor vtm.json --anchor avif --out rd.json",
)
def evaluate(
    codecs: Annotated[list[Path], typer.Argument(help="Folders of exported codecs.")],
    data: Annotated[
        str,
        typer.Option(
            help="Folder of photos, or `bundled` for the one that the package holds out of training."
        ),
    ],
    against: Annotated[
        str | None, typer.Option(help="Formats to compare with, such as jpeg,webp,avif.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ANCHOR",
            help="What BD-rates compare with; repeatable: a format, a curve of the codecs, FILE.json in "
            "CompressAI's format, or FILE.csv:NAME. Default: the formats of --against.",
        ),
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=CODEC,CODEC,...",
            help="Codecs that form a curve; repeatable. Other codecs form a "
            "curve if they are in one folder and have different lambdas.",
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

    stopped = STOPPED_MEASURING if out else "Stopped; with --out FILE.json it would have been kept."
    with work(stopped) as report:
        from nas.verbs.evaluate import evaluate as go

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
