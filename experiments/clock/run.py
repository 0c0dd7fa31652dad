"""Compares MACs with measured time as the target of a search.

    python -m experiments.clock.run --runs RUNS --photo PHOTO

A copy of `zoo:patch` is profiled on this machine. Two searches of its decoders have the same number of
scores. The first has eight MAC budgets. The second is limited to the milliseconds that the answers of the
first are predicted to take. All answers are exported and timed in turn on a photo. It writes
results/clock.json and its section of experiments/journal.md. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

import nas
from benchmarks.common import interleaved
from experiments.results import (
    JOURNAL,
    facts,
    options,
    progress,
    read_result,
    renew,
    say,
    table,
    write_result,
)
from experiments.structure.show import stages
from nas.api import LoadedRun
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.photos.images import read_image
from nas.profiling.measure import Request, measure
from nas.shipped import copied, zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.budget import REFERENCE_SIZE, Amount, Budget

RESULT = Path(__file__).parent / "results" / "clock.json"
SOURCE = "zoo:patch"
TARGETS = (0.8, 1.2, 1.8, 2.5, 3.5, 5, 7, 9.3)  # targets of the decoder, in kMAC/px
ROUNDS = 7  # timed rounds, after one that warms up


def answers(loaded: LoadedRun, targets: Sequence[Amount], trials: int, seed: int) -> list[Architecture]:
    """Search for the best decoder at or under each target."""
    budget = Budget("decoders", "decoder", tuple(targets))
    found = loaded.search(budget, trials=trials, seed=seed, report=progress("clock"))
    return [choice.architecture for choice in found.choices]


def timed(codecs: dict[str, Codec], photo: Path) -> dict[str, float]:
    """Time all codecs in turn. Returns the median milliseconds that each takes to decode a photo."""
    pixels = read_image(photo)
    files = {key: compress_image(codec, pixels) for key, codec in codecs.items()}
    sides = {key: partial(decompress_image, codec, files[key]) for key, codec in codecs.items()}
    return {key: 1000 * median(seconds) for key, seconds in interleaved(sides, ROUNDS).items()}


def compared(loaded: LoadedRun, photo: Path, trials: int, seed: int) -> list[dict[str, Any]]:
    """Compare answers to MAC budgets with answers to the time that those take."""
    by_macs = answers(loaded, [Amount(target, "kMAC/px") for target in TARGETS], trials, seed)
    searcher = loaded.searcher
    decode = searcher.question(Budget("all", "decoder", (Amount(1e6, "ms", REFERENCE_SIZE),))).quantity
    allowed = [decode.value(architecture) for architecture in by_macs]
    limits = sorted(set(allowed))
    found = answers(loaded, [Amount(ms, "ms", REFERENCE_SIZE) for ms in limits], trials, seed)
    by_time = dict(zip(limits, found, strict=True))
    pairs = [{"MACs": one, "time": by_time[limit]} for one, limit in zip(by_macs, allowed, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        codecs = {}
        for key in {found.key for pair in pairs for found in pair.values()}:
            out = Path(folder) / str(len(codecs))
            loaded.export(out, arch=key)
            codecs[key] = nas.load_codec(out)
            say(f"exported {key}")
        spent = timed(codecs, photo)
    return [
        {
            "target": target,
            **{
                name: {
                    "arch": found.key,
                    "kmac_px": searcher.costs.kmac_px(found, "decoder"),
                    "stages": searcher.space.layout(found).stages(),
                    "rd_loss": searcher.scores.of(found).rd_loss,
                    "predicted_ms": decode.value(found),
                    "measured_ms": spent[found.key],
                }
                for name, found in pair.items()
            },
        }
        for target, pair in zip(TARGETS, pairs, strict=True)
    ]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the profiled run")
    parser.add_argument("--photo", type=Path, required=True, help="photo that decoders are timed on")
    parser.add_argument("--trials", type=int, default=120, help="scores of each of the two searches")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run = copied(zoo_run(SOURCE), given.runs / "clock", force=True)
    report = progress("clock")
    measure(run, Request(), report=lambda done, total, note: report("profiling", done, total, note))
    loaded = nas.load_run(run.path, device="cpu")
    found = compared(loaded, given.photo, given.trials, given.seed)
    write_result(RESULT, {"facts": facts(given.seed, source=SOURCE, trials=given.trials), "answers": found})
    renew(JOURNAL, "clock", tables())


# Tables for the page


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    rows = []
    for answer in read_result(RESULT)["answers"]:
        cells = [
            f"{own['kmac_px']:.2f}, {stages(own)}, "
            f"{own['measured_ms']:.0f} ms ({own['predicted_ms']:.0f}): {own['rd_loss']:.3f}"
            for own in (answer["MACs"], answer["time"])
        ]
        less = 100 * (1 - answer["time"]["rd_loss"] / answer["MACs"]["rd_loss"])
        rows.append([f"{answer['target']:.4g}", *cells, f"{less:+.2f}"])
    return [table(["target", "the best by MACs", "the best by time", "reduction of loss, %"], rows)]


if __name__ == "__main__":
    main()
