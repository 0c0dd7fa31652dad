"""Writes the section on families of experiments/journal.md from the committed results.

    python -m experiments.families.show [--take FILE.json]

`--take` first stores a result of `nas evaluate`, without the single photos of formats, and the number of
steps of each training.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.evaluations import curves_of, evaluation_to_commit, percent
from experiments.families.common import CODECS, LMBDAS, RESULTS, TRANSFORMS, weights_of
from experiments.pieces import pieces_seen
from experiments.results import JOURNAL, ROOT, SUMMARY, facts, read_result, renew, table, write_result
from nas.report.rates import save_rates

DOCS = ROOT / "docs"
PAPERS = {  # the name of each family's published curve in the table of anchors
    "factorized": "compressai-bmshj2018-factorized_mse_cuda",
    "scale-hyperprior": "compressai-bmshj2018-hyperprior_mse_cuda",
    "mean-scale-hyperprior": "compressai-mbt2018-mean_mse_cuda",
    "checkerboard": "paper-minnen2018-checkerboard_mse",
    "joint-ar": "compressai-mbt2018_mse_cuda",
}
YARDSTICK = "scale-hyperprior"


def codecs_of(found: dict[str, Any], name: str) -> dict[float, dict[str, Any]]:
    """Return the codecs of a family by their lambda."""
    own = (codec for codec in found["codecs"] if codec["name"].startswith(f"{name}/"))
    return {codec["lmbda"]: codec for codec in own}


def cost_table(found: dict[str, Any]) -> str:
    rows = []
    for name in CODECS:
        own = list(codecs_of(found, name).values())
        if not own:
            continue
        cost, seconds = own[0]["kmac_px"], [codec["mean"] for codec in own]
        rows.append(
            [
                name,
                *(f"{cost[scope]:.2f}" for scope in ("encoder", "decoder", "total")),
                f"{own[0]['params'] / 1e3:.0f}",
                str(own[0]["stages"]),
                *(f"{mean(s[f'{side}_seconds'] for s in seconds):.2f}" for side in ("encode", "decode")),
            ]
        )
    columns = ["family", "encoder", "decoder", "total, kMAC/px", "parameters, k", "stages"]
    return table([*columns, "encode, s", "decode, s"], rows)


def rate_table(found: dict[str, Any]) -> str:
    curves = curves_of(found)
    papers = {name: curves.get(paper) for name, paper in PAPERS.items()}
    rows = []
    for name in CODECS:
        mine = curves.get(name)
        compared = [
            percent(mine, curves.get(YARDSTICK)),
            percent(papers[name], papers[YARDSTICK]),
            percent(mine, papers[name]),
            *(percent(mine, curves.get(format)) for format in ("webp", "jpeg")),
        ]
        rows.append([name, *compared])
    columns = ["family", f"against our {YARDSTICK}", "the same, as published", "against the published curve"]
    return table([*columns, "against WebP", "against JPEG"], rows)


def steps_of(name: str, lmbda: float) -> str:
    """Format the training steps: of the initial transforms, of the entropy model alone, of everything."""
    alone, whole = steps_seen(weights_of(name, lmbda))
    return f"{steps_seen(weights_of(TRANSFORMS, lmbda))[1]:,} + {alone:,} + {whole:,}"


def steps_seen(weights: Path) -> tuple[int, int]:
    """Count the steps of the entropy model alone, and of everything."""
    pieces = pieces_seen(weights)
    alone = sum(piece["steps"] for piece in pieces if piece.get("only") == "entropy")
    return alone, sum(piece["steps"] for piece in pieces) - alone


def point_table(found: dict[str, Any], steps: dict[str, dict[str, str]]) -> str:
    same = {(entry["codec"], entry["format"]): entry["psnr"] for entry in found["same_size"]}
    rows = []
    for name in CODECS:
        own = codecs_of(found, name)
        for lmbda in sorted(own):
            codec = own[lmbda]
            means = codec["mean"]
            above = [means["psnr"] - same[codec["name"], format] for format in ("jpeg", "webp")]
            rows.append(
                [
                    name,
                    f"{lmbda:g}",
                    steps[name][f"{lmbda:g}"],
                    f"{means['bpp']:.3f}",
                    f"{means['psnr']:.2f}",
                    f"{means['ms_ssim_db']:.2f}",
                    *(f"{value:+.2f}" for value in above),
                ]
            )
    columns = ["family", "lambda", "steps", "bpp", "PSNR, dB", "MS-SSIM, dB"]
    return table([*columns, "over JPEG, dB", "over WebP, dB"], rows)


def summary() -> list[str]:
    """Make the table of docs/results.md."""
    return [rate_table(read_result(RESULTS / "kodak.json")["evaluation"])]


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    result = read_result(RESULTS / "kodak.json")
    found = result["evaluation"]
    load = " to ".join(f"{value:.1f}" for value in found["load"])
    threads = f"{found['threads']} thread{'s' * (found['threads'] != 1)}"
    return [
        "BD-rates in %, by PSNR (negative: fewer bits for the same quality):",
        rate_table(found),
        "![Rate and distortion of five families on Kodak](../docs/families.png)",
        f"Seconds per photo are means over the lambdas ({found['machine']}, {threads}, load {load}):",
        cost_table(found),
        "The next table has every codec. Steps are those of the transforms that it began with, those of its "
        f"entropy model alone, and those of everything. The steps at lambda {LMBDAS[0]}, where the others "
        "start, come on top. PSNR is compared with JPEG and WebP at equal bytes, photo by photo, and then "
        "averaged. "
        "[The distance between the curves](../docs/evaluate.md) in the picture is another number, because "
        "curves join means over photos at one quality.",
        point_table(found, result["steps"]),
    ]


def take(path: Path) -> None:
    """Store a result of `nas evaluate` among the committed results."""
    steps = {name: {f"{lmbda:g}": steps_of(name, lmbda) for lmbda in LMBDAS} for name in CODECS}
    write_result(
        RESULTS / "kodak.json", {**evaluation_to_commit(path), "steps": steps, "facts": facts(seed=0)}
    )


def draw() -> None:
    """Draw our curves and the published ones."""
    found = read_result(RESULTS / "kodak.json")["evaluation"]
    curves = curves_of(found)
    shown = [curves[name] for name in (*CODECS, "jpeg", "webp", *PAPERS.values()) if name in curves]
    subtitle = f"means of {found['photos']} Kodak photos; dotted: as published, four times as wide"
    save_rates(shown, [DOCS / "families.png"], subtitle=subtitle)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--take", type=Path, help="result file of `nas evaluate --out`")
    given = parser.parse_args()
    if given.take:
        take(given.take)
    draw()
    renew(JOURNAL, "families", tables())
    renew(SUMMARY, "families", summary())


if __name__ == "__main__":
    main()
