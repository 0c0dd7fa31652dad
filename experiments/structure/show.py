"""Writes the section on structure of experiments/journal.md from the committed results.

python -m experiments.structure.show
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import mean
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.results import JOURNAL, ROOT, SUMMARY, read_result, renew, table
from experiments.structure.common import FRONT, KINDS, LMBDAS, RESULTS, SPACE
from nas.metrics.curves import BD_POINTS, Curve, CurvePoint, bd_rate
from nas.report.style import COLOURS, GRID, MARKERS, STYLE, write_figure

DOCS = ROOT / "docs"
ABLATION = ("shared", "context", "backbone", "hand-made", SPACE)
MAIN = ("space", "per-edge", "shared", "slimcae")
PAIRS = (("space", "per-edge"), ("space", "shared"), ("per-edge", "shared"), ("space", "slimcae"))
Results = dict[float, dict[str, Any]]


def results() -> Results:
    """Read the results of all kinds of structure, by lambda."""
    paths = {lmbda: RESULTS / f"search-{lmbda}.json" for lmbda in LMBDAS}
    return {lmbda: read_result(path)["kinds"] for lmbda, path in paths.items() if path.is_file()}


def answers(found: Results, lmbda: float, kind: str) -> list[dict[str, Any]]:
    """Return the answers of one kind by rising targets. Without targets, these are all its architectures."""
    rows: list[dict[str, Any]] = found[lmbda].get(kind, {}).get("answers", [])
    return rows


def by_target(found: Results, lmbda: float, kind: str) -> dict[float, dict[str, Any]]:
    """Return the best answer of one kind to each target that a width per layer meets."""
    rows = answers(found, lmbda, kind)
    chosen = {}
    for target in (row["target"] for row in answers(found, lmbda, SPACE)):
        under = [row for row in rows if row["target"] in (target, None) and row["kmac_px"]["total"] <= target]
        if under:
            chosen[target] = min(under, key=lambda row: float(row["calibration"]["rd_loss"]))
    return chosen


# Tables


def loss_table(found: Results, lmbda: float) -> str:
    """Make the table of all targets at one lambda, with the answers of each kind and their loss on Kodak."""
    kinds = [kind for kind in (*MAIN, FRONT) if answers(found, lmbda, kind)]
    chosen = {kind: by_target(found, lmbda, kind) for kind in kinds}
    rows = []
    for target, first in chosen[SPACE].items():
        cells = [answer_cell(chosen[kind].get(target), first) for kind in kinds]
        rows.append([f"{target:.4g}", *cells])
    return table(["target", *(KINDS[kind].title for kind in kinds)], rows)


def answer_cell(answer: dict[str, Any] | None, first: dict[str, Any]) -> str:
    """Describe one answer, with the difference in loss from the first kind's answer."""
    if answer is None:
        return ""
    test = answer["test"]
    more = 100 * (test["rd_loss"] / first["test"]["rd_loss"] - 1)
    return (
        f"{answer['kmac_px']['total']:.2f}, {stages(answer)}: "
        f"{test['bpp']:.3f} bpp, {test['psnr']:.2f} dB, {test['rd_loss']:.3f}"
        + ("" if answer is first else f" ({more:+.1f} %)")
    )


def stages(answer: dict[str, Any]) -> str:
    """Format the number of stages of an answer's layout."""
    return f"{answer['stages']} stage{'s' * (answer['stages'] != 1)}"


def ablation_table(found: Results, lmbda: float) -> str:
    """Make the table of losses on Kodak if only a part of the structure is searched."""
    kinds = [kind for kind in ABLATION if answers(found, lmbda, kind)]
    losses = {
        kind: {row["target"]: row["test"]["rd_loss"] for row in answers(found, lmbda, kind)} for kind in kinds
    }
    rows = []
    for target, least in losses[SPACE].items():
        known = {kind: losses[kind].get(target) for kind in kinds}
        cells = [
            "" if loss is None else f"{loss:.3f} ({100 * (loss / least - 1):+.1f} %)"
            for loss in known.values()
        ]
        rows.append([f"{target:.4g}", *cells])
    return table(["target", *(KINDS[kind].title for kind in kinds)], rows)


def split_table(found: Results, kind: str) -> str:
    """Make the table of the context's share of MACs and the stages in one kind's answers."""
    lmbdas = sorted(found)
    chosen = {lmbda: {row["target"]: row for row in answers(found, lmbda, kind)} for lmbda in lmbdas}
    rows = []
    for target in chosen[LMBDAS[0]]:
        row = [f"{target:.4g}"]
        for lmbda in lmbdas:
            answer = chosen[lmbda][target]
            share = 100 * answer["context_kmac_px"] / answer["kmac_px"]["total"]
            row.append(f"{share:.0f} %, {stages(answer)}")
        rows.append(row)
    return table(["target", *(f"lambda {lmbda:g}" for lmbda in lmbdas)], rows)


def rates(found: Results) -> list[str]:
    """Make the part on BD-rates over the lambdas, or list the lambdas that exist so far."""
    if len(found) < BD_POINTS:
        return [f"Lambdas so far: {', '.join(map(str, found))}; BD-rates need {BD_POINTS}."]
    return [
        "BD-rate in % over the lambdas, on Kodak (negative: fewer bits for the same PSNR):",
        rate_table(found),
    ]


def rate_table(found: Results) -> str:
    """Make the table of BD-rates between kinds, at every target that has answers at all lambdas."""
    chosen = {kind: [by_target(found, lmbda, kind) for lmbda in found] for kind in MAIN}
    pairs = [pair for pair in PAIRS if all(all(chosen[kind]) for kind in pair)]
    rows = []
    for target in chosen[SPACE][0]:
        row = [f"{target:.4g}"]
        for pair in pairs:
            curves = [curve(kind, [by[target] for by in chosen[kind] if target in by]) for kind in pair]
            whole = all(len(own.points) == len(found) for own in curves)
            value = bd_rate(*curves).percent if whole else None
            row.append("" if value is None else f"{value:+.2f}")
        rows.append(row)
    return table(
        ["target", *(f"{KINDS[one].title} against {KINDS[other].title}" for one, other in pairs)], rows
    )


def curve(name: str, rows: Sequence[dict[str, Any]]) -> Curve:
    """Make a curve of one target's answers at all lambdas."""
    points = [CurvePoint(row["test"]["bpp"], row["test"]["psnr"]) for row in rows]
    return Curve(name, tuple(sorted(points, key=lambda point: point.bpp)))


def under_table(found: Results) -> str:
    """Make the table that compares one kind's losses at the costs of another kind's front."""
    pairs = [pair for pair in PAIRS if all(kind in own for own in found.values() for kind in pair)]
    rows = []
    for lmbda in sorted(found):
        row = [f"{lmbda:g}"]
        for kind, other in pairs:
            fronts = [found[lmbda][name]["front"] for name in (kind, other)]
            reached = [(cost, loss) for cost, loss in fronts[1] if cost >= fronts[0][0][0]]
            less = [100 * (1 - best_under(fronts[0], cost) / loss) for cost, loss in reached]
            row.append(f"{mean(less):.2f} ({min(less):.2f} to {max(less):.2f})")
        rows.append(row)
    return table(
        ["lambda", *(f"{KINDS[one].title} under {KINDS[other].title}" for one, other in pairs)], rows
    )


def best_under(front: Sequence[tuple[float, float]], cost: float) -> float:
    """Find the least loss at or under a cost."""
    return min(loss for other, loss in front if other <= cost * (1 + 1e-9))


def ranks(found: dict[str, Any]) -> str:
    """Describe how far the supernet's ranks agree with those of architectures that were trained alone."""
    low, high = found["interval"]
    penalty, settings = found["penalty"], found["settings"]
    return (
        f"`nas rank-check` trained {settings['count']} architectures from end to end of the range, each "
        f"alone for {settings['steps']} steps from the weights that it has in the supernet. Kendall's tau is "
        f"{found['tau']:.2f} ({low:.2f} to {high:.2f}, 95 %). The penalty of sharing is "
        f"{100 * penalty['mean']:.1f} % ({100 * penalty['least']:.1f} to {100 * penalty['most']:.1f})."
    )


def alone_table(found: dict[str, Any]) -> str:
    """Make the table of what sharing costs three architectures, before and after some steps alone."""
    architectures = found["architectures"]
    sides = {
        "supernet": "in the supernet",
        "front": "after training the front",
        **{name: tuning(trainings) for name, trainings in found["facts"]["tunings"].items()},
        "alone": "alone from the start",
    }
    rows = []
    for side, title in sides.items():
        cells = []
        for row in architectures:
            own, alone = row[side]["test"], row["alone"]["test"]
            more = f" ({100 * (own['rd_loss'] / alone['rd_loss'] - 1):+.1f} %)" if side != "alone" else ""
            cells.append(f"{own['bpp']:.3f} bpp, {own['psnr']:.2f} dB, {own['rd_loss']:.3f}{more}")
        rows.append([title, *cells])
    return table(["", *(f"{row['kmac_px']['total']:.2f} kMAC/px" for row in architectures)], rows)


def tuning(trainings: list[dict[str, Any]]) -> str:
    """Describe trainings that follow each other."""
    what = ("its entropy model" if own.get("only") else "everything" for own in trainings)
    steps = (f"{own['steps']:,} steps of {name}" for own, name in zip(trainings, what, strict=True))
    return f"after that, alone: {', then '.join(steps)}"


def span(found: Results) -> str:
    """Describe the range of costs of the front."""
    front = found[LMBDAS[0]]["space"]["front"]
    low, high = front[0][0], front[-1][0]
    reach = f"{low:.2f} to {high:.2f} kMAC/px: {high / low:.1f} times"
    return f"With a width per layer, the front reaches from {reach}."


# The figure


def draw(found: Results, lmbda: float) -> None:
    """Draw loss and PSNR on Kodak against MACs at one lambda."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(10, 4), layout="constrained")
        FigureCanvasAgg(figure)
        sides = {"rd_loss": "rate-distortion loss", "psnr": "PSNR (dB)"}
        for axes, (value, label) in zip(figure.subplots(1, 2), sides.items(), strict=True):
            for place, kind in enumerate((*MAIN, FRONT)):
                rows = answers(found, lmbda, kind)
                axes.plot(
                    [row["kmac_px"]["total"] for row in rows],
                    [row["test"][value] for row in rows],
                    color=COLOURS[place],
                    marker=MARKERS[place],
                    markersize=5,
                    label=KINDS[kind].title if rows else None,
                )
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
            axes.set_xlabel("kMAC per pixel")
            axes.set_ylabel(label)
            axes.grid(color=GRID, linewidth=0.7)
        figure.axes[0].legend(frameon=False)
        write_figure(figure, [DOCS / "structure.png"])


def ablation() -> list[str]:
    """Make the tables on the ablation."""
    return [ablation_table(results(), LMBDAS[0])]


def split() -> list[str]:
    """Make the tables on how a budget is split."""
    found = results()
    return [
        "The share of the context model and the entropy parameters in an answer's MACs, and its stages, with "
        "a width per layer:",
        split_table(found, SPACE),
        "The same with one width for all layers:",
        split_table(found, "shared"),
    ]


def summary() -> list[str]:
    """Make the table of docs/results.md: the loss of each kind at every target."""
    found = results()
    kinds = [kind for kind in (*MAIN, FRONT) if answers(found, LMBDAS[0], kind)]
    chosen = {kind: by_target(found, LMBDAS[0], kind) for kind in kinds}
    rows = []
    for target, first in chosen[SPACE].items():
        losses = [
            chosen[kind][target]["test"]["rd_loss"] if target in chosen[kind] else None for kind in kinds
        ]
        least = first["test"]["rd_loss"]
        cells = ["" if loss is None else f"{100 * (loss / least - 1):+.1f} %" for loss in losses[1:]]
        rows.append([f"{target:.4g}", f"{least:.3f}", *cells])
    return [table(["target, kMAC/px", *(KINDS[kind].title for kind in kinds)], rows)]


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found, alone = results(), RESULTS / "alone.json"
    pieces = [
        span(found),
        f"Answers at lambda {LMBDAS[0]}. Each cell gives the cost in kMAC/px and the stages, then bpp, PSNR "
        "and loss on Kodak. The number in brackets compares the loss with that of a width per layer.",
        loss_table(found, LMBDAS[0]),
        "![Loss and PSNR against MACs of kinds of structure](../docs/structure.png)",
        *rates(found),
        "The next table compares fronts. It takes the MACs of each architecture on the other kind's front, "
        "and gives by how many per cent the loss is lower within the same MACs (calibration photos; the "
        "mean, the least and the most).",
        under_table(found),
    ]
    if (RESULTS / "rank.json").is_file():
        pieces.append(ranks(read_result(RESULTS / "rank.json")))
    if alone.is_file():
        pieces += [
            "The answers to three budgets; brackets compare the loss with training alone from the start:",
            alone_table(read_result(alone)),
        ]
    return pieces


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    draw(results(), LMBDAS[0])
    renew(JOURNAL, "structure", tables())
    renew(JOURNAL, "ablation", ablation())
    renew(JOURNAL, "split", split())
    renew(SUMMARY, "structure", summary())


if __name__ == "__main__":
    main()
