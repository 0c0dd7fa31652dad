"""The layouts that a search adds to its space: greedy ones, and learned ones where they are better.

They are kept in a run's search/layouts.yaml, each with its measured rate, beside those of the hand-made ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.searching.layouts.grouping import LADDERS, RIVALS, Found, greedy_layouts
from nas.searching.layouts.rate import LayoutRate
from nas.searching.layouts.vimco import learn_layout
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.files import write_yaml
from nas.support.progress import Report, silent


@dataclass(frozen=True)
class LayoutSettings:
    """How much is done to find layouts.

    Attributes:
        ladders, rivals: of greedy grouping.
        steps: of VIMCO, at most, for each number of stages, from the greedy layout on; 0 for none of it.
        photos, side: on so many calibration photos, and so many positions of y across and down of each.
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
) -> list[Found]:
    """A greedy layout for every wanted number of stages, and learned ones that are better.

    Args:
        rate: on calibration photos.
        space: whose grouping says what is wanted.
        settings: how much is done.
        trained: layouts learned with the weights, which are taken as they are.
        seed: of everything that is drawn.
        report: called with how much is done, of how much, and a note.
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
    learned = [Found(layout, rate(layout), layout.table) for layout in trained]
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
    path: Path, layouts: Sequence[Found], hand_made: Mapping[str, float], facts: Mapping[str, Any]
) -> None:
    """The table of found layouts with their rates, those of the space's own, and what all was found on.

    Args:
        path: the file.
        layouts: the layouts that were found.
        hand_made: rate of each of the space's own layouts, in bpp, by name.
        facts: what they were found on: weights, calibration photos and architecture.
    """
    entries = [
        {"name": f.layout.name, "bpp": f.bpp, "stages": f.layout.stages(), **f.layout.to_dict()}
        for f in layouts
    ]
    write_yaml(path, {**facts, "hand_made_bpp": dict(hand_made), "layouts": entries})


def read_rates(path: Path) -> dict[str, float]:
    """The rate of y under every layout of a table, in bpp; none where there is no table.

    Args:
        path: path of the table.
    """
    if not path.is_file():
        return {}
    content = resources.read_yaml(path)
    with resources.damage_told(path, resources.RENEWED):
        rates = {**content["hand_made_bpp"], **{entry["name"]: entry["bpp"] for entry in content["layouts"]}}
        return {str(name): resources.finite_number(rate) for name, rate in rates.items()}


def has_layouts(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a table of layouts for these facts exists.

    Args:
        path: the file.
        facts: what it has to say, by name.
    """
    if not path.is_file():
        return False
    content = resources.read_yaml(path)
    return all(content.get(name) == value for name, value in facts.items())


def wants_layouts(space: SearchSpace) -> bool:
    """Whether a space leaves open in which order a convolution reads: one layout leaves nothing to find."""
    return space.with_convolution and len(space.layouts) > 1
