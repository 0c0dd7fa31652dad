"""`nas compress`, `nas decompress` and `nas transcode`: pictures and .nic files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.photos.batch import (
    STANDARD,
    Batch,
    BatchPlan,
    Content,
    Done,
    FileKind,
    Job,
    WorkerPool,
    plan_batch,
    run_all,
    standard_input,
    write_standard,
)
from nas.photos.folders import list_files
from nas.support.errors import InputError
from nas.support.files import refuse_existing, write_atomically
from nas.support.limits import ONE_THREAD, PICTURE_SUFFIXES, check_count, check_precision
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent

if TYPE_CHECKING:
    import torch

    from nas.codec.nic import Nic
    from nas.photos.images import Pixels


@dataclass(frozen=True)
class Compressed:
    """A .nic file that was written.

    Attributes:
        file: the written file.
        bytes: its size.
        bpp: the same in bits per pixel.
        layout: the layout that it is coded in; None where its codec has no name for it.
        quality: 0 to 100, of a codec of a range of rates.
        psnr: PSNR of the decoded picture in dB, if requested. Infinite if it is exact.
    """

    file: Path
    bytes: int
    bpp: float
    layout: str | None
    quality: float | None = None
    psnr: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite PSNR is null."""
        more: dict[str, Any] = {} if self.quality is None else {"quality": self.quality}
        if self.psnr is not None:
            more["psnr"] = self.psnr if math.isfinite(self.psnr) else None
        return {"file": str(self.file), "bytes": self.bytes, "bpp": self.bpp, "layout": self.layout, **more}

    def row(self) -> dict[str, Any]:
        """A row of a table, by column."""
        psnr = {} if self.psnr is None else {"PSNR": self.psnr}
        return {"file": str(self.file), "bytes": self.bytes, "bpp": self.bpp, **psnr}

    def sentence(self) -> str:
        """A sentence on the written file."""
        at = "" if self.quality is None else f", quality {self.quality:g}"
        psnr = "" if self.psnr is None else f", {self.psnr:.2f} dB"
        return f"{self.file}: {self.bytes} bytes, {self.bpp:.4f} bpp, layout {self.layout}{at}{psnr}"


@dataclass(frozen=True)
class Decompressed:
    """A decoded picture.

    Attributes:
        image: the written file.
        width, height: size in pixels.
        arch: key of the codec that decoded it.
        bytes: size of the .nic file.
        kmac_px: cost of decoding, if the codec's family has several decoders.
    """

    image: Path
    width: int
    height: int
    arch: str
    bytes: int
    kmac_px: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them. `kmac_px` is left out where it is None."""
        cost = {} if self.kmac_px is None else {"kmac_px": self.kmac_px}
        size = {"width": self.width, "height": self.height, "bytes": self.bytes}
        return {"image": str(self.image), **size, "arch": self.arch, **cost}

    def row(self) -> dict[str, Any]:
        """A row of the printed table. bytes and bpp are those of the .nic file."""
        bpp = 8 * self.bytes / (self.width * self.height)
        size = {"width": self.width, "height": self.height}
        return {"image": str(self.image), **size, "bytes": self.bytes, "bpp": bpp}

    def sentence(self) -> str:
        """A sentence on the written picture."""
        cost = "" if self.kmac_px is None else f", decoded at {self.kmac_px:.3f} kMAC/px"
        return f"{self.image}: {self.width}x{self.height}{cost}"


@dataclass(frozen=True)
class Transcoded:
    """A .nic file in another layout.

    Attributes:
        file: the written file.
        bytes, bytes_before: sizes of the new and of the old file.
        layout, layout_before: layouts of the new and of the old file.
    """

    file: Path
    bytes: int
    bytes_before: int
    layout: str | None
    layout_before: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        before = {"from": self.layout_before, "bytes_before": self.bytes_before}
        return {"file": str(self.file), "bytes": self.bytes, "layout": self.layout, **before}


def _images(folder: Path) -> list[Path]:
    from nas.photos.images import list_images

    return list_images(folder)


def _is_nic(path: Path) -> bool:
    """Whether a file is a .nic file by its content or by its name."""
    if path.suffix.lower() == ".nic":
        return True
    try:
        with open(path, "rb") as file:
            return file.read(3) == b"NIC"
    except OSError:  # reading it says more
        return True


def _nics(folder: Path) -> list[Path]:
    hint = "`nas compress` makes them"
    return list_files(folder, _is_nic, what=".nic files", other="no .nic file", hint=hint)


def _refuse_picture_name(path: Path) -> None:
    """Refuse a .nic file that is named like a picture, which programs would try to open as one."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise InputError(
            f"{path} is named like a picture, but a .nic file is written: choose a name that ends in .nic."
        )


_NIC = FileKind("pictures", ".nic file", ".nic", frozenset({".nic"}), _images)
_PICTURE = FileKind(".nic files", "picture", ".png", PICTURE_SUFFIXES, _nics)


def _each(
    plan: BatchPlan,
    read: Callable[[Job], tuple[Content, int]],
    load: Callable[[], tuple[Callable[[Job, Content], Done], torch.device]],
    *,
    stage: str,
    report: StageReport,
    quick: bool = True,
) -> Done | Batch[Done]:
    """Do the jobs of a plan: a single file in this thread, or the files of a folder in parallel.

    Args:
        plan: the plan.
        read: reads a source. Returns its content and its number of pixels.
        load: returns the function that turns a content into a written file, and the codec's device.
        stage: name of the work, for `report`.
        report: called after each file of a folder.
        quick: use one thread for a small picture.
    """
    if plan.folder is None:
        (job,) = plan.jobs
        content, pixels = read(job)
        return _alone(job, content, load, one=quick and pixels <= ONE_THREAD)

    @contextmanager
    def workforce() -> Iterator[WorkerPool[Content, Done]]:
        from nas.support.device import side_by_side

        work, device = load()
        with side_by_side(device) as (threads, begin):
            yield WorkerPool(work, threads, begin)

    return run_all(plan, read, workforce, stage=stage, report=report)


def _alone(
    job: Job,
    content: Content,
    load: Callable[[], tuple[Callable[[Job, Content], Done], torch.device]],
    *,
    one: bool,
) -> Done:
    """Do the job of a single file.

    Args:
        job: the file.
        content: its content.
        load: see `_each`.
        one: use one thread inside each operation.
    """
    from nas.support.device import one_thread

    with one_thread(one):
        return load()[0](job, content)


@with_paths
def compress(
    codec: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    layout: str | None = None,
    stages: int | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size: int | None = None,
    effort: int = 0,
    psnr: bool = False,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> Compressed | Batch[Compressed]:
    """Compress pictures into .nic files.

    Several pictures, or all those in a folder, go into the folder `out`. Files that exist there are skipped,
    so that the same call continues an interrupted one. The codec is loaded once.

    Args:
        codec: folder of an exported codec.
        images: pictures in any format that Pillow reads, folders of them, patterns such as `photos/*.png`,
            or `-` for standard input.
        out: the .nic file, a folder, or `-` for standard output.
        layout: name of the layout to code in, for a codec that has several.
        stages: try every layout with at most this many stages, and keep the smallest file.
        quality: 0 (smallest file) to 100 (best picture), for a codec over a range of rates. By default it is
            that of the middle anchor.
        bpp: instead, the best quality with at most this many bits per pixel.
        size: instead, the best quality with at most this many bytes.
        effort: 0 to 10: how long to search for better latents of each picture. Files become smaller for the
            same quality, and decode everywhere and as fast as before. Each level takes 1.6 times as long as
            the one before.
        psnr: decode each file again, and give the PSNR of its picture in dB.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace files.
        report: called after each picture of a folder. For a single picture it is called as its latents are
            refined.

    Returns:
        A `Compressed` for a single file. For a folder, a `Batch` of them, which also names what was skipped
        and what failed.

    Raises:
        InputError: the codec cannot be read, it has no such layout or quality, the picture cannot be read, or
            `out` exists already. Nothing is written then. Of a folder, pictures that cannot be read are in
            `failed` instead.

    Example:
        >>> packed = nas.compress("codecs/a", "photo.png", "photo.nic")  # doctest: +SKIP
        >>> packed.bytes  # doctest: +SKIP
        20480
        >>> batch = nas.compress("codecs/a", "photos/", "packed/", psnr=True)  # doctest: +SKIP
        >>> [each.bpp for each in batch.done]  # doctest: +SKIP
        [0.3214, 0.2871]
    """
    if sum(value is not None for value in (quality, bpp, size)) > 1:
        raise InputError("Give one of --quality, --bpp and --size: each of them decides the rate.")
    if size is not None:
        check_count(size, "size", 1)
    if bpp is not None and not 0 < bpp < math.inf:
        raise InputError(f"`bpp` cannot be {bpp:g}: give the most bits per pixel, such as 0.5.")
    plan = plan_batch(images, out, _NIC, force=force)
    if plan.folder is None:
        _refuse_picture_name(plan.jobs[0].target)

    def read(job: Job) -> tuple[Pixels, int]:
        from nas.photos.images import image_of, read_content, read_image

        if job.source == STANDARD:
            pixels = image_of(read_content(standard_input(), job.source_name), job.source_name)
        else:
            pixels = read_image(job.source)
        return pixels, pixels.shape[0] * pixels.shape[1]

    def load() -> tuple[Callable[[Job, Pixels], Compressed], torch.device]:
        from nas.codec.bitstream import decompress_image, step_of
        from nas.codec.folder import load_family
        from nas.codec.recode import compress_smallest
        from nas.codec.refining.effort import check_effort
        from nas.photos.images import psnr as psnr_of
        from nas.spaces.rates import STEPS_OF_QUALITY
        from nas.support.device import choose

        check_effort(effort)
        compute = choose(device)
        family = load_family(codec).to(compute)
        alone = plan.folder is None
        layouts = family.choose_layouts(layout, stages)
        step_of(family.base, quality if bpp is None and size is None else 0)  # refuses a wrong quality
        for name in layouts:
            family.codec(name)  # checks the codec once, before the work

        def work(job: Job, pixels: Pixels) -> Compressed:
            area = pixels.shape[0] * pixels.shape[1]
            most = size if bpp is None else bpp * area / 8
            nic = compress_smallest(
                family,
                pixels,
                layouts,
                quality=quality,
                most_bytes=most,
                effort=effort,
                report=(lambda *told: report("refining", *told)) if alone else silent,
            )
            stream = nic.to_bytes()
            name = family.layout_of(nic.path_identity)
            again = psnr_of(pixels, decompress_image(family.codec(name), nic)) if psnr else None
            if job.target == STANDARD:
                write_standard(stream)
            else:
                write_atomically(job.target, stream)
            at = None if nic.step is None else 100 * nic.step / STEPS_OF_QUALITY
            return Compressed(job.target, len(stream), 8 * len(stream) / area, name, at, again)

        return work, compute

    return _each(plan, read, load, stage="compressing", report=report, quick=not effort)


@with_paths
def decompress(
    codec: str | Path,
    files: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    target: str | float | None = None,
    precision: str = "32",
    max_pixels: int | None = None,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> Decompressed | Batch[Decompressed]:
    """Decompress .nic files into pictures.

    Several files, or all those in a folder, become PNG files in the folder `out`. Pictures that exist there
    are skipped, so that the same call continues an interrupted one. The codec is loaded once. A grey picture
    becomes a grey image file if the format has them.

    Args:
        codec: folder of the codec that made the files, or of one with the same entropy path.
        files: .nic files, folders of them, patterns such as `packed/*.nic`, or `-` for standard input.
        out: the picture, in a format that Pillow writes, a folder, or `-` for a PNG on standard output.
        target: use the best decoder that costs at most 10 (kMAC per pixel of decoding) or 60% (of the most
            expensive one), for a codec that has several.
        precision: `32`, or for codecs of the family patch `bf16`: g_s in bfloat16, which is faster on
            processors that have it and changes a few per cent of the values by one level. `auto` chooses.
        max_pixels: refuse files of pictures with more pixels. By default the limit is 2^27.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace pictures.
        report: called after each file of a folder.

    Returns:
        A `Decompressed` for a single picture. For a folder, a `Batch` of them, which also names what was
        skipped and what failed.

    Raises:
        InputError: the codec cannot be read, it did not make the file, the file is damaged, or `out` exists
            already. Nothing is written then. Of a folder, files that cannot be decoded are in `failed`
            instead.

    Example:
        >>> nas.decompress("codecs/a", "photo.nic", "photo.png").width  # doctest: +SKIP
        768
    """
    check_precision(precision)
    if max_pixels is not None:
        check_count(max_pixels, "max_pixels", 1)
    plan = plan_batch(files, out, _PICTURE, force=force)
    if plan.folder is None and plan.jobs[0].target != STANDARD:
        from nas.photos.images import check_format

        check_format(plan.jobs[0].target)

    def read(job: Job) -> tuple[Nic, int]:
        from nas.codec.nic import Nic

        if job.source == STANDARD:
            nic = Nic.read_from(standard_input(), source=job.source_name)
        else:
            nic = Nic.read(job.source)
        return nic, nic.width * nic.height

    def load() -> tuple[Callable[[Job, Nic], Decompressed], torch.device]:
        from nas.codec.bitstream import decompress_image
        from nas.codec.folder import load_family
        from nas.spaces.budget import Amount
        from nas.support.device import choose
        from nas.support.limits import MAX_PIXELS

        if target is not None:
            Amount.parse(target)  # or refused once, and not for every file
        compute = choose(device)
        family = load_family(codec).to(compute)
        limit = MAX_PIXELS if max_pixels is None else max_pixels

        def work(job: Job, nic: Nic) -> Decompressed:
            layout = family.layout_of(nic.path_identity)
            decoder = family.default
            if target is not None and layout:
                decoder = family.decoder_within(target, layout)
            chosen = family.codec(layout, decoder)
            pixels = decompress_image(chosen, nic, max_pixels=limit, precision=precision)
            _write_picture(job.target, pixels, nic.grey)
            several = layout is not None and len(family.decoders) > 1
            cost = family.decoder_kmac_px(decoder, layout) if several and layout is not None else None
            return Decompressed(job.target, nic.width, nic.height, chosen.architecture.key, _size(nic), cost)

        return work, compute

    if plan.folder is None and device in ("auto", "cpu") and precision == "32":
        (job,) = plan.jobs
        nic, pixels = read(job)
        quick = _quickly(codec, job, nic, target) if max_pixels is None or pixels <= max_pixels else None
        return _alone(job, nic, load, one=pixels <= ONE_THREAD) if quick is None else quick
    return _each(plan, read, load, stage="decompressing", report=report)


def _quickly(codec: str | Path, job: Job, nic: Nic, target: str | float | None) -> Decompressed | None:
    """Decompress one file without torch. None if the codec's folder lacks the necessary files."""
    from nas.onnx.quick import decode_quickly

    quick = decode_quickly(codec, nic, target)
    if quick is None:
        return None
    _write_picture(job.target, quick.pixels, nic.grey)
    return Decompressed(job.target, nic.width, nic.height, quick.arch, _size(nic), quick.kmac_px)


def _write_picture(target: Path, pixels: Pixels, grey: bool) -> None:
    from nas.photos.images import encoded, write_image

    pixels = pixels[..., 0] if grey else pixels  # all colours are equal there
    if target == STANDARD:
        write_standard(encoded(pixels, "PNG", "standard output"))
    else:
        write_image(target, pixels)


def _size(nic: Nic) -> int:
    """Size of a file in bytes."""
    return nic.header_bytes + len(nic.stream)


@with_paths
def transcode(
    codec: str | Path,
    file: str | Path,
    out: str | Path,
    *,
    layout: str | None = None,
    stages: int | None = None,
    max_pixels: int | None = None,
    device: str = "auto",
    force: bool = False,
) -> Transcoded:
    """Code a .nic file again in another layout of its codec; the picture stays exactly the same.

    Args:
        codec: folder of the codec that made the file.
        file: the .nic file.
        out: the .nic file to write.
        layout: name of the layout to code in.
        stages: instead, try every layout with at most this many stages, and keep the smallest file.
        max_pixels: refuse files of pictures with more pixels. By default the limit is 2^27.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace an existing file.

    Returns:
        A `Transcoded`, with the layouts and the sizes in bytes of both files.

    Raises:
        InputError: the codec has no such layout or did not make the file, the file is damaged, or `out`
            exists already. Nothing is written then.

    Example:
        >>> done = nas.transcode("codecs/family", "photo.nic", "fast.nic", stages=8)  # doctest: +SKIP
        >>> done.layout  # doctest: +SKIP
        'checkerboard'
    """
    path = Path(out)
    _refuse_picture_name(path)
    refuse_existing(path, force=force, what=".nic file", folder=False)
    if layout is None and stages is None:
        raise InputError(
            "Choose a layout: --layout NAME, or --stages N for the smallest file with at most N stages."
        )
    from nas.codec.folder import load_family
    from nas.codec.nic import Nic
    from nas.codec.recode import transcode as coded_again
    from nas.support.device import choose
    from nas.support.limits import MAX_PIXELS

    before = Nic.read(Path(file))
    family = load_family(codec).to(choose(device))
    limit = MAX_PIXELS if max_pixels is None else check_count(max_pixels, "max_pixels", 1)
    after = coded_again(family, before, family.choose_layouts(layout, stages), max_pixels=limit)
    stream = after.to_bytes()
    write_atomically(path, stream)
    layouts = (family.layout_of(nic.path_identity) for nic in (after, before))
    return Transcoded(path, len(stream), len(before.to_bytes()), *layouts)
