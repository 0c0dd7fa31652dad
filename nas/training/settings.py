"""What a training run can be told, as it stands in RUN/config.yaml and after `--set`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.errors import InputError, nearest
from nas.space import explain_validation


class TrainingSettings(BaseModel):
    """Settings of `nas train`; each can be given as `--set NAME=VALUE`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    lmbda: float = Field(default=0.013, gt=0, description="weight of the distortion")
    metric: Literal["mse", "ms-ssim"] = "mse"
    steps: int = Field(default=100_000, ge=1, description="optimiser steps")
    batch: int = Field(default=8, ge=1, description="crops a step")
    crop: int = Field(default=256, ge=64, multiple_of=64, description="side of a crop, pixels")
    strategy: Literal["uniform", "sandwich"] = "sandwich"
    architectures: int = Field(default=4, ge=1, description="architectures trained in one step")
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup: int = Field(default=100, ge=0, description="steps until the full rate of learning")
    final_rate: float = Field(default=0.05, gt=0, le=1, description="share of it left at the end (cosine)")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    integer_phase: float = Field(
        default=0.2, ge=0, le=1, description="last share of the steps, with the rate on integers"
    )
    checkpoint_every: int = Field(default=1000, ge=1, description="steps between checkpoints")
    seed: int = Field(default=0, ge=0)

    @classmethod
    def make(cls, values: dict[str, Any]) -> TrainingSettings:
        """Settings from names and values; InputError names the wrong one and what is allowed."""
        unknown = [name for name in values if name not in cls.model_fields]
        if unknown:
            raise InputError(f"There is no setting '{unknown[0]}': {nearest(unknown[0], cls.model_fields)}")
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise InputError(f"Setting {explain_validation(error, cls)}") from error
        if settings.metric == "ms-ssim" and settings.crop <= 160:
            raise InputError("MS-SSIM needs crops of more than 160 pixels: add --set crop=256.")
        return settings

    def rate_at(self, step: int) -> float:
        """The rate of learning at a step: linear warm-up, then half a cosine down to `final_rate`."""
        import math

        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        fall = (1 + math.cos(math.pi * min(1.0, progress))) / 2
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * fall)


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` words as a mapping; values are read as YAML reads them."""
    import yaml

    found = {}
    for word in assignments:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"'{word}' is not NAME=VALUE: write --set steps=1000, say.")
        try:
            # YAML reads 1e-4 as text: numbers first
            found[name] = (
                float(value) if "e" in value.lower() and _is_number(value) else yaml.safe_load(value)
            )
        except yaml.YAMLError as error:
            raise InputError(f"Cannot read the value in '{word}': write a number or a word.") from error
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
