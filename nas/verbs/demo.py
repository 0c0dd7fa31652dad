"""`nas demo`: all steps on bundled photos: train, learn, group, search, export, code, compare."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nas.codec.folder import load_family
from nas.codec.recode import compress_smallest
from nas.comparison.formats import nearest_size
from nas.photos.images import BUNDLED, bundled, psnr, read_image, write_image
from nas.report.front.make import draw_runs
from nas.run import Run
from nas.searching.layouts.candidates import LayoutSettings
from nas.searching.sampler.logits import LogitSettings
from nas.searching.searcher import Searcher
from nas.searching.sources import Sources
from nas.shipped import zoo_run
from nas.spaces.budget import Amount, Budget
from nas.support.errors import NasError
from nas.support.files import write_atomically
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent
from nas.training.loop import Progress
from nas.training.start import KLT, TrainingRequest, start_training
from nas.verbs.export import export_from

STARTER, SMALL_SPACE = "patch", "patch-tiny"
SCOPE = "decoder"  # of the targets and the picture, because most devices mostly decode
TARGETS = "15%", "25%", "60%"  # of the widest decoder
LAMBDA = 0.0035  # the one rate that there is time for from scratch
DEMO_QUALITY = 20  # quality at which codecs for all rates compress the photo
NAMES = ("small", "medium", "large")


@dataclass(frozen=True)
class DemoSize:
    """The amount of work in each step of the demo, for the demo itself and for smaller tests.

    Attributes:
        steps: training steps.
        trials: architectures to score.
        training: settings of the training, by name.
        logit_steps: steps for each set of width logits.
        ladders: greedy ladders of layouts.
        vimco_steps: steps of learning a layout.
    """

    steps: int
    trials: int
    training: Mapping[str, Any]
    logit_steps: int = 40
    ladders: int = 2
    vimco_steps: int = 40


# `zoo:patch` has seen hundreds of photos, and four more teach it little, so there are few and small steps.
CONTINUED = DemoSize(
    steps=30,
    trials=50,
    training={
        "optimizer": "muon",
        "learning_rate": 1e-4,
        "crop": 256,
        "batch": 2,
        "architectures": 2,
        "frozen": ["g_a.0.linear", "g_s.0.linear"],
    },
    logit_steps=30,
)
# From scratch, many small steps gain more than a few large ones.
FROM_SCRATCH = DemoSize(
    steps=800,
    trials=60,
    training={
        "optimizer": "soap",
        "learning_rate": 3e-3,
        "hold": 0.3,
        "final_rate": 0.03,
        "integer_phase": 0.0,
        "crop": 192,
        "batch": 2,
        "architectures": 1,
    },
)


@dataclass(frozen=True)
class DemoRow:
    """One target: the result of the codec, and JPEG at the nearest size.

    Attributes:
        target_kmac_px: largest cost of the decoder, in kMAC per pixel.
        encoder_kmac_px: cost of the encoder, in kMAC per pixel.
        decoder_kmac_px: cost of the decoder, in kMAC per pixel.
        stages: serial steps of decoding.
        bytes: size of the codec's file.
        bpp: bits per pixel of that file.
        psnr: PSNR of its picture, in dB.
        jpeg_bpp: bits per pixel of the JPEG file.
        jpeg_psnr: PSNR of the JPEG's picture, in dB.
        codec: folder of the codec.
    """

    target_kmac_px: float
    encoder_kmac_px: float
    decoder_kmac_px: float
    stages: int
    bytes: int
    bpp: float
    psnr: float
    jpeg_bpp: float
    jpeg_psnr: float
    codec: str

    @property
    def better(self) -> str:
        """The name of the better one at about this size."""
        return "this codec" if self.psnr > self.jpeg_psnr else "JPEG"


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo.

    Attributes:
        run: folder of the run.
        photo: name of the photo that was compressed.
        rows: a row for each target.
        seconds: time of the whole demo.
    """

    run: Path
    photo: str
    rows: list[DemoRow]
    seconds: float

    def table(self) -> tuple[Sequence[str], list[list[Any]]]:
        """Columns and rows of the printed table."""
        names = {
            "target": "target_kmac_px",
            "encoder": "encoder_kmac_px",
            "decoder": "decoder_kmac_px",
            "stages": "stages",
            "bytes": "bytes",
            "bpp": "bpp",
            "PSNR": "psnr",
            "JPEG bpp": "jpeg_bpp",
            "JPEG PSNR": "jpeg_psnr",
            "better": "better",
        }
        return list(names), [[getattr(row, name) for name in names.values()] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {
            "run": str(self.run),
            "photo": self.photo,
            "seconds": round(self.seconds, 1),
            "rows": [{**asdict(row), "better": row.better} for row in self.rows],
        }


@with_paths
def demo(
    out: str | Path = "nas-demo",
    *,
    from_scratch: bool = False,
    steps: int | None = None,
    trials: int | None = None,
    size: DemoSize | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
    say: Callable[[str], None] = silent,
) -> DemoResult:
    """Train, search, export and compare. Everything is kept in `out`, which is a run.

    Args:
        out: folder of the run.
        from_scratch: begin with the KLT of the photos instead of `zoo:patch`, in a smaller space and at one
            rate.
        steps: number of training steps.
        trials: number of architectures to score.
        size: amount of work in each step. By default it takes about two minutes on two cores.
        seed: seed for all random choices.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace an existing run.
        report: called with a stage's name, the work done, the total work and a note.
        say: called with sentences for people.

    Returns:
        A `DemoResult`, whose rows hold a codec each: its costs in kMAC per pixel, its file in bytes and
        bits per pixel, its PSNR in dB, and the same of JPEG at the nearest size.

    Raises:
        InputError: `out` exists already, or it cannot be written.

    Example:
        >>> result = nas.demo("my-demo")  # doctest: +SKIP
    """
    began, out = time.monotonic(), Path(out)
    torch.set_num_threads(1)  # small networks gain nothing from more threads
    size = size or (FROM_SCRATCH if from_scratch else CONTINUED)
    size = replace(size, steps=steps or size.steps, trials=trials or size.trials)
    start = f"the photos' KLT in {SMALL_SPACE}" if from_scratch else f"zoo:{STARTER} of this package"
    say(
        f"Training {size.steps} steps from {start}, then {size.trials} trials. Photos: four to train, one to "
        "calibrate, and one kept out of everything to compress at the end."
    )
    _train(out, size, from_scratch, seed, device, force, report)
    searcher = Searcher(Run.open(out), device=device)
    sources = Sources(
        layout_settings=LayoutSettings(ladders=size.ladders, steps=size.vimco_steps),
        logit_settings=LogitSettings(steps=size.logit_steps),
    )
    targets = tuple(Amount.parse(target) for target in TARGETS)
    result = searcher.search(
        Budget("demo", SCOPE, targets), trials=size.trials, sources=sources, seed=seed, report=report
    )
    answers = result.choices
    photo = bundled()["test"][0]
    rows, quality = [], None if from_scratch else DEMO_QUALITY
    for done, (name, choice) in enumerate(zip(NAMES, answers, strict=False)):
        report("exporting codecs", done, len(NAMES), name)
        folder = out / "codecs" / name
        export_from(searcher, folder, arch=choice.architecture.key)
        stream = out / "photos" / f"{name}.nic"
        decoded = stream.with_suffix(".png")
        family = load_family(folder)
        nic = compress_smallest(family, photo.pixels, list(family.layouts), quality=quality)
        write_atomically(stream, nic.to_bytes())
        _decode_elsewhere(folder, stream, decoded)
        size_bytes = stream.stat().st_size
        jpeg = nearest_size("jpeg", photo, size_bytes)
        rows.append(
            DemoRow(
                target_kmac_px=choice.target,
                encoder_kmac_px=choice.kmac_px["encoder"],
                decoder_kmac_px=choice.kmac_px["decoder"],
                stages=searcher.space.layout(choice.architecture).stages(),
                bytes=size_bytes,
                bpp=8 * size_bytes / photo.size,
                psnr=psnr(photo.pixels, read_image(decoded)),
                jpeg_bpp=jpeg.bpp,
                jpeg_psnr=jpeg.psnr,
                codec=str(folder),
            )
        )
    report("exporting codecs", len(NAMES), len(NAMES), "")
    write_image(out / "photos" / "original.png", photo.pixels)
    draw_runs([searcher.run], out, scope=SCOPE, report=report)
    return DemoResult(out, photo.name, rows, time.monotonic() - began)


def _train(
    out: Path, size: DemoSize, from_scratch: bool, seed: int, device: str, force: bool, report: StageReport
) -> None:
    starter = zoo_run(STARTER)
    settings = {
        **({"lmbda": LAMBDA} if from_scratch else {}),
        **size.training,
        "steps": size.steps,
        "strategy": "level",
        "warmup": min(20, size.steps // 4),
        "checkpoint_every": max(1, size.steps // 10),
        "seed": seed,
    }
    request = TrainingRequest(
        SMALL_SPACE if from_scratch else starter.space,
        BUNDLED,
        out,
        settings=settings,
        init_from=KLT if from_scratch else starter.weights_path,
        force=force,
        device=device,
    )

    def show(progress: Progress) -> None:
        note = f"loss {progress.loss:.3f}  {progress.bpp:.3f} bpp  {progress.photos_per_second:.0f} crops/s"
        report("training supernet", progress.step, progress.steps, note)

    start_training(request, show)


def _decode_elsewhere(codec: Path, stream: Path, image: Path) -> None:
    """Decode in a separate process, which has only the file and the codec's folder."""
    command = [sys.executable, "-m", "nas", "decompress", str(codec), str(stream), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NasError(f"Decoding {stream} in another process failed: {done.stderr.strip()[-400:]}")
