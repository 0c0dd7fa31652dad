"""The sensitivity table of an architecture: what one step in each slot costs and what it does to the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.searching.scoring.evaluator import Score
from nas.spaces.architecture import Architecture
from nas.spaces.budget import ACTIONS, REFERENCE_SIZE, check_scope
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.tables import signed

if TYPE_CHECKING:
    import pandas as pd

    from nas.cost.exact.quantity import Quantity
    from nas.searching.searcher import Searcher
    from nas.support.progress import StageReport


@dataclass(frozen=True)
class Step:
    """One step in one slot, and its effects.

    Attributes:
        slot: name of the slot, or `layout`.
        before, after: choice before and after the step: a width, a number of blocks, or a layout's name.
        architecture: the architecture after the step.
        kmac_px: change in kMAC per image pixel, in the scope of the table.
        total_kmac_px: the same in the scope `total`.
        ms: changes in milliseconds to `encode` and to `decode`. Empty if the run is not profiled here.
        stages: change in the number of stages.
        bpp, psnr, loss: changes on the calibration photos. That of the loss is in %.
    """

    slot: str
    before: str
    after: str
    architecture: Architecture
    kmac_px: float
    total_kmac_px: float
    ms: Mapping[str, float]
    stages: int
    bpp: float
    psnr: float
    loss: float

    @property
    def name(self) -> str:
        """The step as text: `g_s.3 96 -> 72`."""
        return f"{self.slot} {self.before} -> {self.after}"

    @property
    def sensitivity(self) -> float:
        """Loss per cost: % more loss for each kMAC per pixel saved, or minus the % less for each one spent.

        Lower is better. If the cost does not change, it is the % more loss.
        """
        return self.loss / (abs(self.kmac_px) or 1.0)

    def sentence(self, action: str) -> str:
        """The step in words: `g_s.3 96 -> 72: -4.1 kMAC/px, -1.9 ms, +0.6 % loss`, with an action's time."""
        parts = [f"{_signed(self.kmac_px)} kMAC/px"]
        if action in self.ms:
            parts.append(f"{_signed(self.ms[action])} ms")
        if self.stages:
            parts.append(f"{self.stages:+,d} stage{'s' * (abs(self.stages) != 1)}")
        return f"{self.name}: {', '.join(parts)}, {signed(self.loss, '.2f')} % loss"

    def row(self, *, total: bool) -> dict[str, str]:
        """A row of the printed table: all changes with their signs.

        Args:
            total: show the change in total MACs, too.
        """
        return {
            "step": self.name,
            "kMAC/px": _signed(self.kmac_px),
            **({"in total": _signed(self.total_kmac_px)} if total else {}),
            **{f"{action}, ms": _signed(value) for action, value in self.ms.items()},
            "stages": f"{self.stages:+,d}" if self.stages else "",
            "bpp": signed(self.bpp, ".4f"),
            "PSNR, dB": signed(self.psnr, ".3f"),
            "loss, %": signed(self.loss, ".2f"),
            **({"% per kMAC/px": _signed(self.sensitivity)} if self.kmac_px else {}),
        }


@dataclass(frozen=True)
class SensitivityTable:
    """The sensitivity table of an architecture: the steps around it.

    Attributes:
        architecture: the architecture.
        scope: scope of the MACs.
        kmac_px: cost of the architecture in kMAC per image pixel at 768x512.
        ms: milliseconds to `encode` and to `decode`. Empty if the run is not profiled on this machine.
        where: conditions of the time, or how to measure it.
        score: score of the architecture on the calibration photos.
        down, up, level: the steps that lower the cost, raise it, and keep it, each with the best step first.
    """

    architecture: Architecture
    scope: str
    kmac_px: float
    ms: Mapping[str, float]
    where: str
    score: Score
    down: tuple[Step, ...]
    up: tuple[Step, ...]
    level: tuple[Step, ...]

    @property
    def groups(self) -> dict[str, tuple[Step, ...]]:
        """The non-empty groups of steps, by title."""
        steps_by_title = {
            f"steps down in {self.scope} MACs, the least loss for a kMAC/px saved first": self.down,
            f"steps up in {self.scope} MACs, the most loss gained for a kMAC/px spent first": self.up,
            f"steps that leave the {self.scope} MACs as they are": self.level,
        }
        return {title: steps for title, steps in steps_by_title.items() if steps}

    @property
    def action(self) -> str:
        """The action whose time sentences give: encoding for the scope `encoder`, otherwise decoding."""
        return "encode" if self.scope == "encoder" else "decode"

    def heading(self) -> str:
        """The cost and the loss of the architecture itself."""
        times = [f"{value:,.1f} ms to {action}" for action, value in self.ms.items()]
        score = f"{self.score.bpp:.4f} bpp", f"{self.score.psnr:.2f} dB", f"loss {self.score.rd_loss:.4f}"
        return ", ".join([f"{self.kmac_px:.3f} kMAC/px ({self.scope})", *times, *score])

    def __repr__(self) -> str:
        counts = f"{len(self.down)} steps down, {len(self.up)} up, {len(self.level)} level"
        return f"SensitivityTable({self.architecture.key}: {self.heading()}; {counts})"

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each step: its group, slot, choices before and after, and all changes."""
        import pandas as pd

        return pd.DataFrame(
            {
                "group": group,
                "slot": step.slot,
                "before": step.before,
                "after": step.after,
                "kmac_px": step.kmac_px,
                "total_kmac_px": step.total_kmac_px,
                **{f"{action}_ms": value for action, value in step.ms.items()},
                "stages": step.stages,
                "bpp": step.bpp,
                "psnr": step.psnr,
                "loss": step.loss,
                "sensitivity": step.sensitivity,
                "arch": step.architecture.key,
            }
            for group in ("down", "up", "level")
            for step in getattr(self, group)
        )

    def sentences(self) -> list[str]:
        """Sentences on the best steps, on steps that are cheaper and no worse, and on the time's source."""
        sentences = []
        if not self.groups:
            sentences.append("There is no other step: nothing else of this space can be scored.")
        if self.down:
            sentences.append(f"Best step down: {self.down[0].sentence(self.action)}.")
        if self.up and self.up[0].loss < 0:
            sentences.append(f"Best step up: {self.up[0].sentence(self.action)}.")
        elif self.up:
            sentences.append("No single step up lowers the loss.")
        better = [step for step in (*self.down, *self.level) if step.loss < 0]
        if better:
            steps = f"{len(better)} step" + ("s lower" if len(better) != 1 else " lowers")
            sentences.append(f"It is not on the front: {steps} the loss at no more MACs.")
        return [*sentences, self.where]

    def to_json(self) -> dict[str, Any]:
        """Plain values. Those of steps are differences."""
        return {
            "arch": self.architecture.key,
            "scope": self.scope,
            "kmac_px": self.kmac_px,
            "ms": dict(self.ms),
            "where": self.where,
            **vars(self.score),
            **{
                name: [_plain(step, self.action) for step in getattr(self, name)]
                for name in ("down", "up", "level")
            },
        }


def sensitivity_table(
    searcher: Searcher, architecture: Architecture, scope: str, report: StageReport
) -> SensitivityTable:
    """Make the sensitivity table of an architecture.

    It has one step narrower and one step wider in each slot, and all other layouts. Slots without effect in
    this architecture have no steps. Scores are stored as they come, and none is computed twice.

    Args:
        searcher: searcher of the run.
        architecture: an architecture of its space.
        scope: `encoder`, `decoder` or `total`.
        report: called for each step that is scored.

    Raises:
        InputError: the scope does not exist.
    """
    check_scope(scope)
    macs = searcher.quantities.of(scope, "kMAC/px", None)
    total = searcher.quantities.of("total", "kMAC/px", None)
    clocks, where = _clocks(searcher)
    moves = list(_moves(searcher.space, architecture))
    report("scoring steps", 0, len(moves) + 1, "the architecture itself")
    searcher.store_costs()
    here, steps = searcher.scores.of(architecture), []
    for done, (slot, before, after, other) in enumerate(moves, 1):
        report("scoring steps", done, len(moves) + 1, f"{slot} {before} -> {after}")
        there = searcher.scores.attempt(other)
        if there is None:
            continue
        step = Step(
            slot,
            before,
            after,
            other,
            kmac_px=(macs.of(other) - macs.of(architecture)) / macs.per_unit,
            total_kmac_px=(total.of(other) - total.of(architecture)) / total.per_unit,
            ms={action: clock.value(other) - clock.value(architecture) for action, clock in clocks.items()},
            stages=_stages(searcher.space, other) - _stages(searcher.space, architecture),
            bpp=there.bpp - here.bpp,
            psnr=there.psnr - here.psnr,
            loss=100 * (there.rd_loss / here.rd_loss - 1),
        )
        steps.append(step)
    report("scoring steps", len(moves) + 1, len(moves) + 1, "")
    steps.sort(key=lambda step: step.sensitivity)
    return SensitivityTable(
        architecture,
        scope,
        kmac_px=macs.value(architecture),
        ms={action: clock.value(architecture) for action, clock in clocks.items()},
        where=where,
        score=here,
        down=tuple(step for step in steps if step.kmac_px < 0),
        up=tuple(step for step in steps if step.kmac_px > 0),
        level=tuple(step for step in steps if step.kmac_px == 0),
    )


def table_rows(steps: Sequence[Step]) -> list[dict[str, str]]:
    """Rows of the table, with numbers padded so that they are aligned to the right.

    Args:
        steps: steps of the sensitivity table, in the order of the rows.

    Returns:
        A row for each step: heading and text of every column.
    """
    total = any(step.total_kmac_px != step.kmac_px for step in steps)
    rows = [step.row(total=total) for step in steps]
    wide = {column: max(len(row[column]) for row in rows) for column in rows[0]} if rows else {}
    return [
        {column: text.rjust(wide[column]) if column != "step" else text for column, text in row.items()}
        for row in rows
    ]


def _moves(space: SearchSpace, architecture: Architecture) -> Iterator[tuple[str, str, str, Architecture]]:
    """Yield slot, choice before, choice after and architecture: neighbours in each slot, then layouts."""
    here = space.indexes(architecture)
    for position, slot in enumerate(space.slots):
        for index in (here[position] - 1, here[position] + 1):
            if 0 <= index < len(slot.candidates):
                other = space.at([*here[:position], index, *here[position + 1 :]])
                if other != architecture:
                    yield slot.name, str(slot.candidates[here[position]]), str(slot.candidates[index]), other
    for name in space.layout_names:
        other = space.under(name, architecture)
        if other != architecture:
            yield "layout", architecture.layout, name, other


def _clocks(searcher: Searcher) -> tuple[dict[str, Quantity], str]:
    """The time to decode and to encode with its source. Without a profile, nothing and how to get one."""
    try:
        predictor = searcher.quantities.predictor(REFERENCE_SIZE)
    except InputError as error:
        return {}, f"Without time: {error}"
    machine = predictor.measured.facts["machine"]
    return (
        {action: predictor.time(action) for action in reversed(ACTIONS)},
        f"Time {predictor.where}, measured on {machine}; loss on calibration photos.",
    )


def _stages(space: SearchSpace, architecture: Architecture) -> int:
    return space.layout(architecture).stages()


def _signed(value: float) -> str:
    """A number with three significant digits and its sign."""
    if round(value, 6) == 0:
        return "0"
    return f"{value:+,.{max(0, min(6, 2 - math.floor(math.log10(abs(value)))))}f}"


def _plain(step: Step, action: str) -> dict[str, Any]:
    fields = {name: value for name, value in vars(step).items() if name not in ("architecture", "ms")}
    return {
        **fields,
        "ms": dict(step.ms),
        "arch": step.architecture.key,
        "sensitivity": step.sensitivity,
        "sentence": step.sentence(action),
    }
