"""Budgets: limits on what a codec may cost (no torch here)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas import resources
from nas.errors import InputError, UnreachableBudgetError
from nas.space import explain_validation

SCOPES = ("encoder", "decoder", "total")


@dataclass(frozen=True)
class Target:
    """A limit as people write it: `20` (kMAC per pixel) or `60%` (of the widest)."""

    value: float
    unit: Literal["kMAC/px", "%"]

    @classmethod
    def parse(cls, text: str | float) -> Target:
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%|kMAC/px)?\s*", str(text))
        if not match or float(match[1]) <= 0:
            raise InputError(f"'{text}' is no target: write 20 (kMAC per pixel) or 60% (of the widest).")
        return cls(float(match[1]), "%" if match[2] == "%" else "kMAC/px")

    def kmac_px(self, widest: float) -> float:
        """The limit in kMAC per pixel, given the widest architecture's."""
        return self.value / 100 * widest if self.unit == "%" else self.value

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.unit == "%" else f"{self.value:g} kMAC/px"


@dataclass(frozen=True)
class Budget:
    """Targets in one scope, and perhaps a limit on the decoding stages.

    Args:
        name: what messages call it.
        scope: `encoder`, `decoder` or `total`.
        targets: limits, each searched for; empty means the whole range.
        levels: instead of targets, this many evenly spaced over what the space can reach.
        max_stages: most serial decoding steps at 768x512.
    """

    name: str
    scope: str = "total"
    targets: tuple[Target, ...] = ()
    levels: int = 0
    max_stages: int | None = None

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"There is no scope '{self.scope}': choose one of {', '.join(SCOPES)}.")

    @classmethod
    def load(cls, name: str | Path) -> Budget:
        """A shipped budget by name or a YAML file by path; InputError names a wrong field or value."""
        path = resources.find("budgets", name)
        try:
            fields = _BudgetFields.model_validate(resources.read_yaml(path))
            return fields.build(path.stem)
        except ValidationError as error:
            raise InputError(f"{path}: {explain_validation(error, _BudgetFields)}") from error
        except InputError as error:
            raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error

    @classmethod
    def of(cls, target: str, scope: str = "total") -> Budget:
        """One target, as `--target` gives it."""
        return cls(f"target {target}", scope, (Target.parse(target),))

    def limits(self, reach: Mapping[str, float]) -> list[float]:
        """The targets in kMAC per pixel.

        Args:
            reach: the `least` and `most` kMAC per pixel that the space reaches in this scope.

        Raises:
            UnreachableBudgetError: a target below the least.
        """
        least, most = reach["least"], reach["most"]
        found = [target.kmac_px(most) for target in self.targets]
        found += [least + (most - least) * (k + 1) / self.levels for k in range(self.levels)]
        low = [limit for limit in found if limit < least]
        if low:
            raise UnreachableBudgetError(
                f"No architecture costs at most {low[0]:.4g} kMAC/px ({self.scope}): the least is "
                f"{_up(least)}, the most {most:.4g}. Ask for a target in between."
            )
        return sorted(set(found))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _BudgetFields(_Strict):
    scope: Literal["encoder", "decoder", "total"] = "total"
    targets: list[str | float] = Field(default_factory=list)
    levels: int = Field(default=0, ge=0, le=1000)
    max_stages: int | None = Field(default=None, ge=1)

    def build(self, name: str) -> Budget:
        if not self.targets and not self.levels:
            raise InputError("it needs `targets` (a list such as [20, 60%]) or `levels` (how many).")
        targets = tuple(Target.parse(target) for target in self.targets)
        return Budget(name, self.scope, targets, self.levels, self.max_stages)


def _up(value: float) -> str:
    """A least value rounded up, so that asking for what is printed works."""
    import math

    return f"{math.ceil(value * 1000) / 1000:g}"
