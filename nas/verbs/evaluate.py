"""`nas evaluate`: measures codecs on photos, beside formats and published curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nas.comparison.compare import compare
from nas.comparison.comparison import Comparison
from nas.comparison.plan import Outputs, Plan
from nas.report.rates import save_rates
from nas.support.device import choose
from nas.support.paths import texts_of, with_paths
from nas.support.progress import StageReport, silent


@with_paths
def evaluate(
    codecs: str | Path | Sequence[str | Path],
    data: str | Path,
    *,
    against: str | Sequence[str] | None = None,
    anchor: Sequence[str] = (),
    curve: Sequence[str] = (),
    out: str | Path | None = None,
    effort: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> Comparison:
    """Measure codecs on photos, with real files: bpp, PSNR, MS-SSIM, seconds, MACs and BD-rates.

    Args:
        codecs: folders of exported codecs.
        data: a folder of photos, or `bundled` for those in the package.
        against: formats to compare with, such as `jpeg,webp,avif`.
        anchor: what BD-rates compare with: formats, curves of the codecs, FILE.json or FILE.csv:NAME. By
            default they compare with the formats.
        curve: codecs that form a curve, each as NAME=CODEC,CODEC,...
        out: FILE.json for the results. Beside it are a table by photo, a picture and each format's results.
        effort: how long to search for better latents of each photo, from 0 (not at all) to 10. See
            `compress`.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace existing results.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        A `Comparison`: the points of every codec and format (bits per pixel, PSNR in dB, MS-SSIM, seconds),
        and the BD-rates in %.

    Raises:
        InputError: a codec, photo, format or anchor cannot be read, or the results exist already. Nothing is
            measured then.
        KeyboardInterrupt: with `out`, what was measured is kept. The same call continues.

    Example:
        >>> result = nas.evaluate(["codecs/a", "codecs/b"], "kodak/", against="jpeg,webp")  # doctest: +SKIP
    """
    where = choose(device)
    folders = [codecs] if isinstance(codecs, str | Path) else list(codecs)
    words = against.split(",") if isinstance(against, str) else texts_of("against", against)
    plan = Plan.of(
        [Path(folder) for folder in folders],
        against=[word.strip() for word in words if word.strip()],
        anchors=texts_of("anchor", anchor),
        curves=texts_of("curve", curve),
        out=None if out is None else Path(out),
        effort=effort,
        force=force,
    )
    result = compare(
        plan, data, lambda done, total, note: report("evaluating", done, total, note), device=where
    )
    if plan.outputs is None:
        return result
    return replace(result, files=tuple(write_comparison(result, plan.outputs)))


def write_comparison(comparison: Comparison, outputs: Outputs) -> list[Path]:
    """Draw a comparison and write its results, each file atomically.

    The pictures come first, because writing the results deletes the measurements of an interrupted
    evaluation.

    Args:
        comparison: result of an evaluation.
        outputs: the files to write.
    """
    save_rates(comparison.drawn(), outputs.pictures, subtitle=comparison.subtitle())
    return comparison.write(outputs)
