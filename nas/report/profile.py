"""The profile of a run as a figure: the costs of the parts, and time against MACs."""

from __future__ import annotations

from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.profiling.run_profile import SCOPE_OF_ACTION, Relation, RunProfile, Shape
from nas.report.style import COLOURS, FAINT, GRID, INK, STYLE, write_figure

# One colour for every part, in the order of the graph. The names are also written beside the bars.
_PARTS = ("g_a", "h_a", "h_s", "context", "entropy_parameters", "coder", "g_s", "prior", "gains")
_TINTS = dict(zip(_PARTS, (*COLOURS[:6], "#8C8C8C", "#444444", "#C8C8C8"), strict=True))
_HELD = {"process": "#444444", "weights": "#6B8FA3"}
_SHOWN = 0.07  # share of a bar; narrower pieces have no room for their name
_KINDS = ("kMAC/px", "parameters", "encode, ms", "decode, ms", "encode, MB", "decode, MB")


def save_profile(profile: RunProfile, folder: Path) -> tuple[Path, Path]:
    """Write `profile.png` and `profile.svg`: costs by edge above, time against MACs below.

    Args:
        profile: profile of a run.
        folder: the folder of the files.

    Returns:
        The paths of the two files.
    """
    paths = (folder / "profile.png", folder / "profile.svg")
    with matplotlib.style.context(["default", STYLE]):
        write_figure(_draw(profile), paths)
    return paths


def _draw(profile: RunProfile) -> Figure:
    figure = Figure(figsize=(12, 11.5), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    above, below = list(np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=(1.9, 1)))))
    size = "{width}x{height}".format(**profile.measured)
    above.suptitle(
        f"{profile.possible.space} on {profile.machine}, {size}",
        fontsize=10,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    kinds = [kind for kind in _KINDS if any(_values(shape, kind) for shape in profile.shapes)]
    grid = above.subplots(2, -(-len(kinds) // 2), squeeze=False)
    for axes, kind in zip(grid.T.ravel(), kinds, strict=False):
        _bars(axes, profile.shapes, kind)
    for axes, relation in zip(below.subplots(1, 2), profile.relations, strict=True):
        _against(axes, relation)
    return figure


def _values(shape: Shape, kind: str) -> dict[str, float]:
    if kind == "kMAC/px":
        return dict(shape.kmac_px_by_edge)
    if kind == "parameters":
        return {edge: float(count) for edge, count in shape.params_by_edge.items()}
    action, _, unit = kind.partition(", ")
    return dict(shape.ms[action] if unit == "ms" else shape.mb.get(action, {}))


def _bars(axes: Axes, shapes: tuple[Shape, ...], kind: str) -> None:
    """Draw shares of one cost by edge: a bar for each shape, with its sum above."""
    for bar, shape in enumerate(shapes):
        values = {part: value for part, value in _values(shape, kind).items() if value > 0}
        whole, base = sum(values.values()), 0.0
        held = [name for name in _HELD if name in values]
        tensors = [name for name in values if name.startswith("tensors")]
        for part in (*held, *(name for name in _PARTS if name in values), *tensors):
            share = values[part] / whole
            axes.bar(bar, share, 0.8, base, color=_tint(part), edgecolor="white", linewidth=0.6)
            if share >= _SHOWN:
                name = part.replace("entropy_parameters", "entropy p.").replace("tensors of ", "")
                axes.text(bar, base + share / 2, name, ha="center", va="center", fontsize=7.5, color="white")
            base += share
        axes.text(bar, 1.02, _short(whole), ha="center", va="bottom", fontsize=8.5, color=INK)
    axes.set_xticks(range(len(shapes)), [shape.name for shape in shapes])
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_ylim(0, 1.12)
    axes.set_title(kind if kind != "kMAC/px" else "kMAC/px, every edge once", fontsize=9, color=INK)


def _tint(part: str) -> str:
    return _HELD.get(part) or _TINTS[part.removeprefix("tensors of ")]


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1e4:
        return f"{value / 1e3:.3g} k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _against(axes: Axes, relation: Relation) -> None:
    """Milliseconds against kMAC per pixel, coloured by the number of stages."""
    points = np.array(relation.points, dtype=float)
    stages = points[:, 2]
    drawn = axes.scatter(
        points[:, 0],
        points[:, 1],
        c=np.log2(stages),
        cmap="viridis",
        s=22,
        edgecolors="white",
        linewidths=0.4,
    )
    counts = np.unique(stages)
    if len(counts) > 1:
        bar = axes.figure.colorbar(drawn, ax=axes, pad=0.01)
        shown = counts if len(counts) <= 8 else counts[:: -(-len(counts) // 8)]
        bar.set_ticks(np.log2(shown).tolist(), labels=[f"{count:.0f}" for count in shown])
        bar.set_label("stages", fontsize=8.5)
    axes.set(
        xlabel=f"{SCOPE_OF_ACTION[relation.action]}, kMAC/px",
        ylabel=f"{relation.action}, ms",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.grid(color=GRID)
    axes.set_title(
        f"{relation.action} over the {relation.of}: {relation.least:.2f} to {relation.most:.2f} ms per "
        f"kMAC/px, rank correlation {relation.rank_correlation:.2f}",
        fontsize=9,
        color=INK,
    )
    axes.text(
        0.99,
        0.02,
        f"equal MACs: up to {relation.alike:.1f} times the time",
        transform=axes.transAxes,
        ha="right",
        fontsize=8,
        color=FAINT,
    )
