"""The flagship's part of docs/results.md, from the committed results.

    python -m experiments.flagship.show [--take FILE.json]

`--take` first commits what `nas evaluate` wrote of its codecs on Kodak, but for single photos. Curves that it
lacks and the last result has (a format's, or a published one) stay: they do not depend on the weights.
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
PREFIX = "decoder-"  # of the codecs' names; their targets follow, in kMAC/px of the decoder
ANCHORS = {  # what codecs are compared with, as the table calls it
    "webp": "WebP",
    "jpeg": "JPEG",
    "avif": "AVIF",
    "compressai-mbt2018-mean_mse_cuda": "mbt2018-mean",
    "compressai-mbt2018_mse_cuda": "mbt2018",
}


def by_target(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Codecs by name, from the smallest target; `nas evaluate` lists each once for every quality."""
    codecs = {codec["name"].partition(" ")[0]: codec for codec in found["codecs"]}
    return dict(sorted(codecs.items(), key=lambda item: float(item[0].removeprefix(PREFIX))))


def tables() -> list[str]:
    """What stands between the page's marks."""
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
    """The codecs' curves, those of the formats, and the published ones."""
    found = read_result(RESULT)["evaluation"]
    curves = curves_of(found)
    shown = [curves[name] for name in (*by_target(found), *ANCHORS) if name in curves]
    subtitle = (
        f"means of {found['photos']} Kodak photos; all codecs from one set of weights; dotted: as published"
    )
    save_rates(shown, [DOCS / "flagship.png"], subtitle=subtitle)


def take(path: Path) -> None:
    """Commit a result of `nas evaluate`."""
    found = evaluation_to_commit(path)
    for codec in found["evaluation"]["codecs"]:
        del codec["photos"]
    if RESULT.is_file():
        _keep_anchors(found["evaluation"], read_result(RESULT)["evaluation"])
    write_result(RESULT, {**found, "facts": facts(seed=0)})


def _keep_anchors(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Add what codecs are compared with, where only the last result has it."""
    known = {curve["name"] for curve in new["curves"]}
    for curve in old["curves"]:
        if curve["name"] in ANCHORS and curve["name"] not in known:
            new["curves"].append(curve)
            new["formats"] |= {name: old["formats"][name] for name in old["formats"] if name == curve["name"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--take", type=Path, help="what `nas evaluate --out` wrote")
    given = parser.parse_args()
    if given.take:
        take(given.take)
    draw()
    renew(DOCS / "results.md", "flagship", tables())


if __name__ == "__main__":
    main()
