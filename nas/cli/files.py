"""Commands that make and read .nic files: compress, decompress, transcode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Device, Effort, Force, Json, example
from nas.cli.work import interrupted_files_message, print_results, refuse_both, work
from nas.support.tables import signed


@example(
    "nas compress codecs/small photo.png photo.nic",
    "nas compress codecs/family photo.png photo.nic --stages 8",
    "nas compress codecs/small photo.png photo.nic --effort 5",
    "nas compress codecs/small photos/ packed/ --psnr",
    "nas compress codecs/small *.jpg packed/",
    "cat photo.png | nas compress codecs/small - - > photo.nic",
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
            "rates. Default: that of the middle anchor, which is 42.9 for lambdas of 0.0018..0.18."
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

    Several pictures, or those of a folder, go into a folder, and files that exist there are skipped. If the
    command is interrupted, run it again to continue. With --force all files are written again.
    """
    from nas.verbs.code import compress as go

    refuse_both(json, out)
    with work(interrupted_files_message(force)) as report:
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
    print_results(result, json=json, quiet=out == "-" and not psnr)


@example(
    "nas decompress codecs/small photo.nic photo.png",
    "nas decompress codecs/family photo.nic photo.png --target 10",
    "nas decompress codecs/small packed/ pictures/",
    "nas decompress codecs/small - - < photo.nic > photo.png",
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
    precision: Annotated[
        str,
        typer.Option(
            help="32, or for codecs of the family patch bf16: the picture is computed in bfloat16, which is "
            "faster on processors that have it and changes a few per cent of the values by one level. auto "
            "chooses."
        ),
    ] = "32",
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse files of larger pictures. Default: 134217728 (2^27).")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Decompress .nic files into pictures.

    Several files, or those of a folder, become PNG files in a folder, and pictures that exist there are
    skipped. If the command is interrupted, run it again to continue. With --force all pictures are written
    again.
    """
    from nas.verbs.code import decompress as go

    refuse_both(json, out)
    with work(interrupted_files_message(force)) as report:
        result = go(
            codec,
            files,
            out,
            target=target,
            precision=precision,
            max_pixels=max_pixels,
            device=device,
            force=force,
            report=report,
        )
    print_results(result, json=json, quiet=out == "-")


@example(
    "nas transcode codecs/family photo.nic fast.nic --layout checkerboard",
    "nas transcode codecs/family photo.nic small.nic --stages 200",
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

    with work("Stopped; nothing was written. Run the same command again."):
        result = go(
            codec, file, out, layout=layout, stages=stages, max_pixels=max_pixels, device=device, force=force
        )
    if json:
        console.emit(result.to_json())
    else:
        change = 100 * (result.bytes / result.bytes_before - 1)
        console.say(
            f"{out}: {result.layout_before} to {result.layout}, "
            f"{result.bytes_before} to {result.bytes} bytes ({signed(change, '.2f')} %)"
        )
