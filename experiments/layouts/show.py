"""Writes the tables and the figure of docs/layouts.md from the committed results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.layouts.common import RESULTS
from experiments.results import ROOT, read_result, renew
from nas.report.info.layouts import visible_share
from nas.spaces.layout import Layout

DOCS = ROOT / "docs"
FOUND = ("greedy", "learned")


def gains(rows: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Compute by how many % the rate of y is below that of `none`: with shared weights, and tuned by seed."""
    none = rows["none"]
    found = {}
    for name, row in rows.items():
        shared = [100 * (1 - row["test_bpp"] / none["test_bpp"])]
        tuned = [
            100 * (1 - mine / theirs)
            for mine, theirs in zip(
                row.get("tuned_test_bpp", []), none.get("tuned_test_bpp", []), strict=False
            )
        ]
        found[name] = {"shared": shared, "tuned": tuned}
    return found


def spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def rate_table(rows: dict[str, Any], decode: dict[str, Any]) -> str:
    """Make the table of all layouts, ordered by stages."""
    lines = [
        "| layout | stages | seen | shared: % below none | tuned: % below none | decoding y, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    found = gains(rows)
    for name in sorted(rows, key=lambda n: (rows[n]["stages"], -found[n]["shared"][0])):
        side = decode.get("sides", {}).get(name)
        seconds = f"{side['seconds']:.3f}" if side else ""
        tuned = spread(found[name]["tuned"])
        fields = {key: rows[name][key] for key in ("groups", "slope", "tile")}
        seen = visible_share(Layout.from_dict(fields), 5)
        lines.append(
            f"| {name} | {rows[name]['stages']} | {seen:.2f} | {found[name]['shared'][0]:.2f} | {tuned} "
            f"| {seconds} |"
        )
    return "\n".join(lines)


def aims_table(rows: dict[str, Any]) -> str:
    """Compare found layouts with the best hand-made ones of equal stages, and with the gain of raster."""
    found = gains(rows)
    lines = [
        "| stages | weights | found layout, its rate over the best hand-made | share of raster's gain |",
        "| --- | --- | --- | --- |",
    ]
    for stages in (2, 4, 8, 10):
        for weights, key in (("shared", "test_bpp"), ("tuned", "tuned_test_bpp")):
            same = [n for n in rows if rows[n]["stages"] == stages and key in rows[n]]
            ours = [n for n in same if n.startswith(FOUND)]
            theirs = [n for n in same if not n.startswith(FOUND)]
            if not ours or not theirs:
                continue

            def rate(name: str, key: str = key) -> float:
                return float(np.mean(rows[name][key]))

            mine, best = min(ours, key=lambda n: rows[n]["calibration_bpp"]), min(theirs, key=rate)
            over = 100 * (rate(mine) / rate(best) - 1)
            share = 100 * np.mean(found[mine][weights]) / np.mean(found["raster"][weights])
            lines.append(f"| {stages} | {weights} | {mine}: {over:+.2f} % against {best} | {share:.0f} % |")
    return "\n".join(lines)


def ablation_table(rows: list[dict[str, Any]]) -> str:
    """Make the table of VIMCO and the relaxation."""
    lines = [
        "| stages | method | start | % above greedy's rate (calibration) | layouts scored | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['stages']} | {row['method']} | {row['begins']} | {row['percent_over_greedy']:+.2f} "
        f"| {row['layouts_scored']} | {row['seconds']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def oracle_table(content: dict[str, Any]) -> str:
    lines = [
        "| method | excess on calibration photos, % | on held-out photos, % | layouts scored | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in content["methods"].items():
        excess = row["excess_percent"]
        lines.append(
            f"| {name} | {excess['calibration']:.3f} | {excess['held-out']:.3f} | {row['tables_scored']} "
            f"| {row['seconds']:.0f} |"
        )
    mean = content["mean_excess_percent"]
    seconds = content["enumeration_seconds"]
    lines.append(
        f"| all 256, the mean | {mean['calibration']:.3f} | {mean['held-out']:.3f} | 256 | {seconds:.0f} |"
    )
    for name, excess in content["named_excess_percent"].items():
        lines.append(f"| ({name}) | {excess['calibration']:.3f} | {excess['held-out']:.3f} | | |")
    return "\n".join(lines)


def draw(rows: dict[str, Any], path: Path) -> None:
    """Draw the gain over `none` against stages, with shared and with tuned weights."""
    found = gains(rows)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, constrained_layout=True)
    for axis, weights in zip(axes, ("shared", "tuned"), strict=True):
        shown = {n: float(np.mean(v[weights])) for n, v in found.items() if v[weights]}
        hand = [n for n in shown if not n.startswith(FOUND)]
        ladder = sorted((n for n in shown if n.startswith("greedy")), key=lambda n: rows[n]["stages"])
        axis.plot(
            [1, *(rows[n]["stages"] for n in ladder)],
            [0, *(shown[n] for n in ladder)],
            "o-",
            color="#c2410c",
            label="found by greedy grouping",
            zorder=3,
        )
        axis.plot(
            [rows[n]["stages"] for n in hand],
            [shown[n] for n in hand],
            "s",
            color="#64748b",
            label="hand-made",
        )
        best = {max((m for m in hand if rows[m]["stages"] == rows[n]["stages"]), key=shown.get) for n in hand}  # type: ignore[arg-type]
        for name in best:
            axis.annotate(
                name,
                (rows[name]["stages"], shown[name]),
                xytext=(5, -24 if rows[name]["stages"] == 4 else -11),
                textcoords="offset points",
                fontsize=8,
            )
        axis.axhline(shown["raster"], color="#94a3b8", linewidth=0.8, linestyle=":")
        axis.set_xscale("log", base=2)
        ticks = [1, 2, 4, 8, 16, 141]
        axis.set_xticks(ticks, map(str, ticks))
        axis.set_xlabel("stages (serial steps of decoding a 768x512 photo)")
        axis.set_title(f"{weights} weights of the context model", fontsize=10)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("rate of y, % under none")
    axes[0].legend(loc="lower right", fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def in_turn(found: dict[str, Any], rows: dict[str, Any]) -> str:
    """Describe the layout that was improved in turn with the weights."""
    sentences = ["`joint.py` improves a layout in turn with the weights, over eight groups."]
    for name, row in found.items():
        before = rows[f"greedy-{row['stages']}"]
        same = all(before[field] == row[field] for field in ("groups", "slope", "tile"))
        became = "stayed the same" if same else f"became {name}"
        over = 100 * (np.mean(row["tuned_test_bpp"]) / np.mean(before["tuned_test_bpp"]) - 1)
        sentences.append(f"greedy-{row['stages']} {became} (tuned: {over:+.2f} %).")
    return " ".join(sentences)


def tables() -> list[str]:
    """Make the tables of the page."""
    rates, oracle, decode = (read_result(RESULTS / f"{name}.json") for name in ("rates", "oracle", "decode"))
    rows = rates["layouts"]
    raster, serial = decode["sides"]["raster"], decode["sides"]["CompressAI, serial"]
    times = raster["times_faster"]
    return [
        "### Against all layouts of two groups, 2x2 cells and two stages",
        oracle_table(oracle),
        "### Rates at equal stages, on Kodak",
        aims_table(rows),
        rate_table(rows, decode),
        "### Methods compared: four groups, 2x2 cells",
        ablation_table(rates["ablation"]),
        in_turn(read_result(RESULTS / "joint.json")["layouts"], rows),
        "### Decoding time",
        f"Raster decodes y in {raster['seconds']:.3f} s. CompressAI's serial loop with the same weights "
        f"takes {serial['seconds']:.2f} s, {times[0]:.0f} times ({times[1]:.0f} to {times[2]:.0f}) as long.",
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    draw(read_result(RESULTS / "rates.json")["layouts"], DOCS / "layouts.png")
    renew(DOCS / "layouts.md", "results", tables())


if __name__ == "__main__":
    main()
