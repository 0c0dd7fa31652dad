"""Writes the flagship's part of docs/results.md from the committed results.

    python -m experiments.flagship.show [--take FILE.json]

`--take` first stores a result of `nas evaluate` for its codecs on Kodak, without single photos. If this
result lacks the curve of a format or a published curve, the one of the earlier result stays, because it does
not depend on the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.evaluations import curves_of, evaluation_to_commit, percent
from experiments.results import ROOT, facts, read_result, renew, table, write_result
from nas.report.rates import save_rates

DOCS = ROOT / "docs"
RESULT = Path(__file__).parent / "results" / "kodak.json"
PREFIX = "decoder-"  # prefix of the codecs' names; the decoder's target in kMAC/px follows
ANCHORS = {  # anchors of the comparison, with their titles in the table
    "webp": "WebP",
    "jpeg": "JPEG",
    "avif": "AVIF",
    "compressai-mbt2018-mean_mse_cuda": "mbt2018-mean",
    "compressai-mbt2018_mse_cuda": "mbt2018",
}


def by_target(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Group codecs by name, from the smallest target. `nas evaluate` lists each once for every quality."""
    codecs = {codec["name"].partition(" ")[0]: codec for codec in found["codecs"]}
    return dict(sorted(codecs.items(), key=lambda item: float(item[0].removeprefix(PREFIX))))


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)["evaluation"]
    curves = curves_of(found)
    anchors = {name: title for name, title in ANCHORS.items() if name in curves}
    rows = []
    for codec_name, codec in by_target(found).items():
        costs = [f"{codec['kmac_px'][scope]:.2f}" for scope in ("decoder", "total")]
        compared = [percent(curves[codec_name], curves[name]) for name in anchors]
        rows.append([codec_name.removeprefix(PREFIX), *costs, str(codec["stages"]), *compared])
    columns = ["decoder at most, kMAC/px", "decoder", "total", "stages", *anchors.values()]
    return [table(columns, rows), "![Rate and distortion of the flagship's codecs on Kodak](flagship.png)"]


def draw() -> None:
    """Draw the curves of the codecs, of the formats, and the published ones."""
    found = read_result(RESULT)["evaluation"]
    curves = curves_of(found)
    shown = [curves[name] for name in (*by_target(found), *ANCHORS) if name in curves]
    subtitle = (
        f"means of {found['photos']} Kodak photos; all codecs from one set of weights; dotted: as published"
    )
    save_rates(shown, [DOCS / "flagship.png"], subtitle=subtitle)


def take(path: Path) -> None:
    """Store a result of `nas evaluate` among the committed results."""
    found = evaluation_to_commit(path)
    for codec in found["evaluation"]["codecs"]:
        del codec["photos"]
    if RESULT.is_file():
        _keep_anchors(found["evaluation"], read_result(RESULT)["evaluation"])
    write_result(RESULT, {**found, "facts": facts(seed=0)})


def _keep_anchors(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Add anchors to a new result that only the old one has."""
    known = {curve["name"] for curve in new["curves"]}
    for curve in old["curves"]:
        if curve["name"] in ANCHORS and curve["name"] not in known:
            new["curves"].append(curve)
            new["formats"] |= {name: old["formats"][name] for name in old["formats"] if name == curve["name"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--take", type=Path, help="result file of `nas evaluate --out`")
    given = parser.parse_args()
    if given.take:
        take(given.take)
    draw()
    renew(DOCS / "results.md", "flagship", tables())


if __name__ == "__main__":
    main()
