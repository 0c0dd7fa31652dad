"""What the figure and the page draw: one run's front, with all that was scored around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nas.budget import SCOPES
from nas.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from nas.space import SearchSpace

MEASURES = ("rd_loss", "bpp", "psnr")
_POINT_COLUMNS = ("arch", *(f"{scope}_kmac_px" for scope in SCOPES), *MEASURES)
_FRONT_COLUMNS = (*_POINT_COLUMNS, "stages", "params", *(f"on_front_{scope}" for scope in SCOPES))
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_]*=[0-9]+(-[0-9]+)*\+)+layout=[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class WidthRange:
    """One searched width: its slot, the edge it belongs to, and the widest it can be in channels."""

    slot: str
    edge: str
    widest: int


@dataclass(frozen=True, eq=False)
class RunFront:
    """The front of one run (one lambda) and what surrounds it.

    Args:
        name: what legends call the run.
        lmbda: weight of the distortion in the loss.
        metric: `mse` or `ms-ssim`.
        front: the rows of front.csv, each with an index of its own; `test_bpp`, `test_psnr`, `test_rd_loss`
            are NaN or absent where nothing was exported.
        scored: every scored architecture, same columns; may be empty.
        baselines: architectures of uniform width, same columns; may be empty.
        targets: chosen budgets in kMAC per pixel, in the scope that is drawn.
        space: knows the widest candidate of every slot; without it, the widest that was scored counts.

    Raises:
        InputError: the front is empty, a column is missing, or a key is not an architecture's.
    """

    name: str
    lmbda: float
    metric: str
    front: pd.DataFrame
    scored: pd.DataFrame
    baselines: pd.DataFrame
    targets: Sequence[float] = ()
    space: SearchSpace | None = None

    def __post_init__(self) -> None:
        if self.front.empty:
            raise InputError(f"Run '{self.name}' has an empty front: run `nas search` first.")
        for what, table, needed in (
            ("front", self.front, _FRONT_COLUMNS),
            ("scored", self.scored, _POINT_COLUMNS),
            ("baselines", self.baselines, _POINT_COLUMNS),
        ):
            missing = [column for column in needed if column not in table.columns]
            if missing and not table.empty:
                raise InputError(f"Run '{self.name}': its {what} table lacks {', '.join(missing)}.")
        for key in self.front["arch"]:
            self.widths(key)

    @property
    def label(self) -> str:
        """The run's name with its lambda."""
        return f"{self.name} (λ = {self.lmbda:g})"

    @cached_property
    def exported(self) -> pd.Series:
        """For every row of `front`, whether it was exported and measured on real files."""
        if "test_rd_loss" not in self.front.columns:
            return self.front["rd_loss"].isna() & False
        return self.front["test_rd_loss"].notna()

    def on_front(self, scope: str) -> pd.DataFrame:
        """The rows on the front of one scope, cheapest first."""
        return self.front[self.front[f"on_front_{scope}"].eq(True)].sort_values(
            [f"{scope}_kmac_px", "rd_loss"], kind="stable"
        )

    def off_front(self, scope: str) -> pd.DataFrame:
        """What was exported without being on the front of this scope: drawn all the same."""
        return self.front[self.exported & ~self.front[f"on_front_{scope}"].eq(True)]

    def chosen(self, scope: str) -> dict[float, object]:
        """For every target that something satisfies, the index of the row of least loss at or under it."""
        front = self.on_front(scope)
        found: dict[float, object] = {}
        for target in sorted(set(self.targets)):
            affordable = front[front[f"{scope}_kmac_px"] <= target]
            if not affordable.empty:
                found[target] = affordable["rd_loss"].idxmin()
        return found

    def widths(self, key: str) -> tuple[int, ...]:
        """The widths that a key names, in channels, in the order of `ranges`."""
        groups, _ = split_key(key)
        widths = tuple(width for values in groups.values() for width in values)
        if {edge: len(values) for edge, values in groups.items()} != self._counts:
            raise InputError(f"Run '{self.name}': the key '{key}' does not have the slots of the others.")
        return widths

    def shares(self, key: str) -> tuple[float, ...]:
        """Every width of a key relative to the widest of its slot, in (0, 1], in the order of `ranges`."""
        return tuple(width / known.widest for width, known in zip(self.widths(key), self.ranges, strict=True))

    @cached_property
    def ranges(self) -> tuple[WidthRange, ...]:
        """The slots in the order of the key."""
        if self.space is not None:
            slots = _by_edge([slot.name for slot in self.space.slots])
            widest = {slot.name: max(slot.candidates) for slot in self.space.slots}
            return tuple(
                WidthRange(slot, edge, widest[slot]) for edge, names in slots.items() for slot in names
            )
        keys = [key for table in (self.front, self.scored, self.baselines) for key in table.get("arch", ())]
        most = [max(column) for column in zip(*(self.widths(key) for key in keys), strict=True)]
        names = [
            (edge if count == 1 else f"{edge}.{number + 1}", edge)
            for edge, count in self._counts.items()
            for number in range(count)
        ]
        return tuple(WidthRange(slot, edge, w) for (slot, edge), w in zip(names, most, strict=True))

    @cached_property
    def _counts(self) -> dict[str, int]:
        """How many widths a key lists for every edge."""
        if self.space is not None:
            slots = _by_edge([slot.name for slot in self.space.slots])
            return {edge: len(names) for edge, names in slots.items()}
        groups, _ = split_key(self.front["arch"].iloc[0])
        return {edge: len(values) for edge, values in groups.items()}


def split_key(key: str) -> tuple[dict[str, tuple[int, ...]], str]:
    """The widths by edge and the layout's name that a key spells; no space is needed.

    Raises:
        InputError: the string is not an architecture's key.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(
            f"'{str(key)[:60]}' is no architecture's key: they look like g_a=32-32+layout=raster"
        )
    parts = dict(part.split("=", 1) for part in key.split("+"))
    layout = parts.pop("layout")
    return {edge: tuple(map(int, widths.split("-"))) for edge, widths in parts.items()}, layout


def check_scope(scope: str) -> None:
    """Refuse what is not a scope."""
    if scope not in SCOPES:
        raise InputError(f"'{scope}' is no scope: choose one of: {', '.join(SCOPES)}")


def check(fronts: Sequence[RunFront], scope: str) -> None:
    """Refuse what cannot be drawn: no run at all, or an unknown scope."""
    check_scope(scope)
    if not fronts:
        raise InputError("There is no run to draw: name at least one.")


def loss_formula(fronts: Sequence[RunFront]) -> str:
    """The loss written out, where all runs share one."""
    formulas = {"mse": "bpp + λ·255²·MSE", "ms-ssim": "bpp + λ·(1 - MS-SSIM)"}
    found = {formulas.get(run.metric, run.metric) for run in fronts}
    return found.pop() if len(found) == 1 else "bpp + λ·distortion"


def _by_edge(slots: Sequence[str]) -> dict[str, list[str]]:
    """Slots grouped as `Architecture.key` groups them."""
    edges: dict[str, list[str]] = {}
    for slot in slots:
        edges.setdefault(slot.split(".")[0], []).append(slot)
    return edges
