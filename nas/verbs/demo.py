"""`nas demo`: the whole way on bundled photos: train, learn, group, search, export, code, compare."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nas.codec.bitstream import compress_image
from nas.codec.folder import load_codec
from nas.comparison.formats import nearest_size
from nas.photos.images import BUNDLED, bundled, psnr, read_image, write_image
from nas.report.front.make import draw_runs
from nas.run import Run
from nas.searching.layouts.candidates import LayoutSettings
from nas.searching.sampler.logits import LogitSettings
from nas.searching.searcher import Searcher
from nas.searching.sources import Sources
from nas.shipped import zoo_run
from nas.spaces.budget import Budget
from nas.support.errors import NasError
from nas.support.files import write_atomically
from nas.support.progress import StageReport, silent
from nas.training.loop import Progress
from nas.training.start import TrainingRequest, start_training
from nas.verbs.export import export_from

SPACE, BUDGET = "joint-ar-tiny", "three-levels"
STARTER = zoo_run(SPACE).weights_path
LAMBDA = 0.0035
NAMES = ("small", "medium", "large")


@dataclass(frozen=True)
class DemoSize:
    """How much of everything: the demo's own size, or a smaller one to try the way."""

    steps: int
    trials: int
    learning_rate: float
    crop: int
    batch: int
    logit_steps: int = 40
    ladders: int = 2
    vimco_steps: int = 40


# Large crops teach the hyperprior what the middle of a photo is like; from random weights, small ones learn
# faster in the little time there is.
CONTINUED = DemoSize(steps=120, trials=100, learning_rate=2e-4, crop=192, batch=2)
FROM_SCRATCH = DemoSize(steps=700, trials=60, learning_rate=2e-3, crop=64, batch=8)


@dataclass(frozen=True)
class DemoRow:
    """One target: what was achieved, and JPEG at the nearest size."""

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
        """Who is better at about this size."""
        return "this codec" if self.psnr > self.jpeg_psnr else "JPEG"


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    run: Path
    photo: str
    rows: list[DemoRow]
    seconds: float

    def table(self) -> tuple[Sequence[str], list[list[Any]]]:
        """Columns and rows, for people."""
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
        """Plain values."""
        return {
            "run": str(self.run),
            "photo": self.photo,
            "seconds": round(self.seconds, 1),
            "rows": [{**asdict(row), "better": row.better} for row in self.rows],
        }


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
    """Train, search, export and compare; everything stays in `out`, which is a run.

    Args:
        out: the run's folder.
        from_scratch: start from random weights instead of the starter supernet.
        steps: number of training steps.
        trials: number of architectures to score.
        size: how much of everything else; by default what takes one to two minutes on two cores.
        seed: for all random choices.
        device: `auto`, `cpu` or `cuda`.
        force: replace what is there.
        report: called with a stage's name, how much of it is done, of how much, and a note.
        say: called with sentences for people.

    Example:
        >>> result = nas.demo("my-demo")  # doctest: +SKIP
    """
    began, out = time.monotonic(), Path(out)
    torch.set_num_threads(1)  # nets this small gain nothing from more, and lose much beside other work
    size = size or (FROM_SCRATCH if from_scratch else CONTINUED)
    size = replace(size, steps=steps or size.steps, trials=trials or size.trials)
    start = "random weights" if from_scratch else "the starter supernet that the package carries"
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
    result = searcher.search(
        Budget.load(BUDGET), trials=size.trials, sources=sources, seed=seed, report=report
    )
    answers = [choice.best for choice in result.choices]
    photo = bundled()["test"][0]
    rows = []
    for done, (name, choice) in enumerate(zip(NAMES, answers, strict=False)):
        report("exporting codecs", done, len(NAMES), name)
        folder = out / "codecs" / name
        export_from(searcher, folder, arch=choice.architecture.key)
        stream = out / "photos" / f"{name}.nic"
        decoded = stream.with_suffix(".png")
        write_atomically(stream, compress_image(load_codec(folder), photo.pixels).to_bytes())
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
    draw_runs([searcher.run], out, report=report)
    return DemoResult(out, photo.name, rows, time.monotonic() - began)


def _train(
    out: Path, size: DemoSize, from_scratch: bool, seed: int, device: str, force: bool, report: StageReport
) -> None:
    settings = {
        "lmbda": LAMBDA,
        "steps": size.steps,
        "crop": size.crop,
        "batch": size.batch,
        "architectures": 3,
        "learning_rate": size.learning_rate,
        "warmup": min(20, size.steps // 4),
        "checkpoint_every": max(1, size.steps // 10),
        "seed": seed,
    }
    request = TrainingRequest(
        SPACE,
        BUNDLED,
        out,
        settings=settings,
        init_from=None if from_scratch else STARTER,
        force=force,
        device=device,
    )

    def show(progress: Progress) -> None:
        note = f"loss {progress.loss:.3f}  {progress.bpp:.3f} bpp  {progress.photos_per_second:.0f} crops/s"
        report("training supernet", progress.step, progress.steps, note)

    start_training(request, show)


def _decode_elsewhere(codec: Path, stream: Path, image: Path) -> None:
    """Decode in a process of its own, which knows nothing but the file and the codec's folder."""
    command = [sys.executable, "-m", "nas", "decompress", str(codec), str(stream), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NasError(f"Decoding {stream} in another process failed: {done.stderr.strip()[-400:]}")
