"""The layouts that a search adds to its space: greedy ones, and learned ones where these are better.

They are stored in search/layouts.yaml of the run with their measured rates, beside the rates of the hand-made
layouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.searching.layouts.grouping import LADDERS, RIVALS, FoundLayout, greedy_layouts
from nas.searching.layouts.rate import LayoutRate
from nas.searching.layouts.vimco import learn_layout
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.files import write_yaml
from nas.support.progress import Report, silent


@dataclass(frozen=True)
class LayoutSettings:
    """How much work goes into finding layouts.

    Attributes:
        ladders: number of ladders of greedy grouping.
        rivals: number of random tables that greedy grouping improves for each number of stages.
        steps: largest number of VIMCO steps for each number of stages, starting from the greedy layout. 0
            turns VIMCO off.
        photos: number of calibration photos that are used.
        side: positions of y across and down that are used of each photo.
    """

    ladders: int = LADDERS
    rivals: int = RIVALS
    steps: int = 40
    photos: int = 4
    side: int = 16


def find_layouts(
    rate: LayoutRate,
    space: SearchSpace,
    settings: LayoutSettings,
    *,
    trained: Sequence[Layout] = (),
    seed: int = 0,
    report: Report = silent,
) -> list[FoundLayout]:
    """Find a greedy layout for every wanted number of stages, and learned layouts where they are better.

    Args:
        rate: rate of y under a layout, on calibration photos.
        space: the search space, whose `grouping` says which layouts are wanted.
        settings: how much work to spend.
        trained: layouts that were learned together with the weights. They are used as they are.
        seed: seed for all random choices.
        report: called with the work done, the total work and a note.
    """
    ladder = greedy_layouts(
        rate,
        space.y_channels,
        space.grouping,
        ladders=settings.ladders,
        rivals=settings.rivals,
        seed=seed,
        report=report,
    )
    learned = [FoundLayout(layout, rate(layout), layout.table) for layout in trained]
    for greedy in ladder if settings.steps else ():
        stages = int(greedy.table.max()) + 1
        name = f"learned-{stages}"
        if stages == 1 or any(other.layout.name == name for other in learned):
            continue
        better = learn_layout(
            rate,
            space.y_channels,
            space.grouping,
            stages,
            starts=[greedy.table],
            steps=settings.steps,
            seed=seed,
            report=lambda done, total, note, stages=stages: report(  # type: ignore[misc]
                done, total, f"learning {stages} stages  {note}"
            ),
        )
        if better.bpp < greedy.bpp and better.layout.stages() == stages:
            learned.append(better)
    return [*ladder, *learned]


def write_layouts(
    path: Path, layouts: Sequence[FoundLayout], hand_made: Mapping[str, float], facts: Mapping[str, Any]
) -> None:
    """Write the layouts that were found, with their rates and those of the space's own layouts.

    Args:
        path: file to write.
        layouts: the layouts that were found.
        hand_made: rates of the space's own layouts by name, in bpp.
        facts: the data that they were found with: weights, calibration photos and architecture.
    """
    entries = [
        {"name": f.layout.name, "bpp": f.bpp, "stages": f.layout.stages(), **f.layout.to_dict()}
        for f in layouts
    ]
    write_yaml(path, {**facts, "hand_made_bpp": dict(hand_made), "layouts": entries})


def read_rates(path: Path) -> dict[str, float]:
    """Read the rate of y under every layout of a file, in bpp. The result is empty if there is no file.

    Args:
        path: the file that `write_layouts` wrote.
    """
    if not path.is_file():
        return {}
    content = resources.read_yaml(path)
    with resources.errors_as_damage(path, resources.RENEWED):
        rates = {**content["hand_made_bpp"], **{entry["name"]: entry["bpp"] for entry in content["layouts"]}}
        return {str(name): resources.finite_number(rate) for name, rate in rates.items()}


def has_layouts(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a file has layouts that were found with these weights, photos and architecture.

    Args:
        path: the file.
        facts: the values that the file must contain, by name.
    """
    if not path.is_file():
        return False
    content = resources.read_yaml(path)
    return all(content.get(name) == value for name, value in facts.items())


def wants_layouts(space: SearchSpace) -> bool:
    """Whether there are layouts to find: the space has several, and a convolution reads their context."""
    return space.with_convolution and len(space.layouts) > 1
