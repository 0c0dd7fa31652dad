"""The settings of a training, from `--set` and recipes, as RUN/config.yaml stores them."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.metrics.objective import Objective
from nas.run import Run
from nas.support import resources
from nas.support.errors import InputError, nearest
from nas.support.fields import validated
from nas.support.limits import LEAST_LMBDA, MOST_LMBDA, MOST_SEED

# For a space with one architecture: each step trains it once, and no structure is learned.
ALONE: dict[str, Any] = {
    "strategy": "uniform",
    "architectures": 1,
    "members": [],
    "one_encoder": False,
    "distillation": 0.0,
    "structure": "none",
    "lambda_c": 0.0,
    "target": None,
    "layout_stages": None,
}


class TrainingSettings(BaseModel):
    """Settings of `nas train`; each can be given as `--set NAME=VALUE`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # loss
    lmbda: float = Field(default=0.013, ge=LEAST_LMBDA, le=MOST_LMBDA, description="weight of the distortion")
    metric: Literal["mse", "ms-ssim"] = "mse"
    integer_phase: float = Field(
        default=0.2, ge=0, le=1, description="last share of the steps, with the rate on integers"
    )
    # amount of training
    steps: int = Field(default=100_000, ge=1, description="optimiser steps")
    batch: int = Field(default=8, ge=1, description="crops a step, over all processes")
    crop: int = Field(default=256, ge=64, multiple_of=64, description="side of a crop, pixels")
    final_crop: int | None = Field(
        default=None,
        ge=64,
        multiple_of=64,
        description="side of a crop in the last phase; none: no such phase",
    )
    final_share: float = Field(
        default=0.1, gt=0, lt=1, description="last share of the steps, with crops of `final_crop` pixels"
    )
    # architectures and parts that are trained in a step
    only: Literal["g_s", "entropy"] | None = Field(
        default=None,
        description="train g_s alone, or all but g_a and g_s; the rest stays as it is, to the bit",
    )
    frozen: list[str] = Field(
        default=[], description="layers and edges that stay as they are, by name: [h_a.0]"
    )
    strategy: Literal["uniform", "sandwich", "fair", "level", "front"] = "sandwich"
    architectures: int = Field(default=4, ge=1, le=1000, description="architectures trained in one step")
    random_layouts: float = Field(
        default=0.5, ge=0, le=1, description="share of layouts that are of no name, so that any can be scored"
    )
    members: list[str] = Field(
        default=[],
        description="with strategy=front: these architectures, by key, instead of a search's front",
    )
    elsewhere: float = Field(
        default=0.25, ge=0, lt=1, description="with strategy=front: share of architectures not of the front"
    )
    moved: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="with strategy=front: the share of members moved one step in a slot",
    )
    one_encoder: bool = Field(
        default=False,
        description="with strategy=front: the members of a step have one encoder, which then runs once",
    )
    distillation: float = Field(
        default=0.0, ge=0, description="weight with which the others match the widest one's picture"
    )
    # structure that is learned with the weights
    structure: Literal["none", "joint"] = "none"
    structure_scope: Literal["encoder", "decoder", "total"] = "total"
    lambda_c: float = Field(default=0.0, ge=0, description="price of a kMAC per pixel")
    target: float | None = Field(default=None, gt=0, description="E[C] in kMAC/px that drives lambda_c")
    structure_rate: float = Field(default=0.05, gt=0, description="learning rate of the logits")
    layout_stages: int | None = Field(
        default=None, ge=2, description="learn a layout of so many stages with the weights (VIMCO)"
    )
    # optimisation
    optimizer: Literal["adam", "soap", "muon"] = "adam"
    learning_rate: float = Field(default=1e-4, gt=0)
    fan_in: int | None = Field(
        default=None,
        ge=1,
        description="with adam, kernels of more inputs than this learn more slowly, in proportion; "
        "none: all learn alike",
    )
    warmup: int = Field(default=100, ge=0, description="steps until the full learning rate")
    schedule: Literal["cosine", "plateau", "milestones", "constant"] = "cosine"
    hold: float = Field(
        default=0.0, ge=0, lt=1, description="share of the steps at the full rate before it falls (cosine)"
    )
    final_rate: float = Field(default=0.05, gt=0, le=1, description="share of it left at the end (cosine)")
    milestones: list[float] = Field(
        default=[0.8, 0.9], description="shares of the steps after which it is multiplied by `decay`"
    )
    decay: float = Field(default=0.5, gt=0, le=1, description="factor at a milestone or on a plateau")
    patience: int = Field(
        default=10, ge=1, description="checkpoints without a better mean loss that make a plateau"
    )
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay of the weights' moving average, from its start on; 0: none",
    )
    precision: Literal["auto", "32", "bf16"] = "auto"
    # machine and logging
    workers: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="processes that cut crops; by default some where a GPU waits for them",
    )
    checkpoint_every: int = Field(default=1000, ge=1, description="steps between checkpoints")
    preview_every: int = Field(default=5000, ge=0, description="steps between pictures; 0: none")
    tensorboard: bool = False
    seed: int = Field(default=0, ge=0, le=MOST_SEED)

    @property
    def objective(self) -> Objective:
        """The objective: the weight of the distortion, and its metric."""
        return Objective(self.lmbda, self.metric)

    @classmethod
    def make(cls, values: dict[str, Any]) -> TrainingSettings:
        """Make settings from names and values. An InputError names a wrong one and the allowed values.

        `recipe` among the names is a shipped recipe or a YAML file. The other settings override those of the
        recipe.
        """
        own = {name: value for name, value in values.items() if name != "recipe"}
        recipe = str(values["recipe"]) if "recipe" in values else None
        values = _with_words(own if recipe is None else {**read_recipe(recipe), **own})
        if unknown := [name for name in values if name not in cls.model_fields]:
            raise InputError(f"There is no setting {_unknown(unknown[0])}")
        settings = validated(cls, values, "Setting")
        if wrong := settings._contradiction():
            raise InputError(wrong if recipe is None else f"{_whose(recipe, own, wrong)}{wrong}")
        return settings

    def _contradiction(self) -> str | None:
        """What settings that do not go together are told; None if they go together."""
        if self.metric == "ms-ssim" and self.crop <= 160:
            return "MS-SSIM needs crops of more than 160 pixels: add --set crop=256."
        if self.final_crop is not None and self.final_crop < self.crop:
            return (
                f"final_crop={self.final_crop} is smaller than crop={self.crop}: the last phase "
                "is for larger crops."
            )
        if self.final_crop is not None and self.hold + self.final_share >= 1:
            return (
                f"hold={self.hold:g} and final_share={self.final_share:g} leave no steps in which "
                "the learning rate could fall: lower one of them."
            )
        if self.distillation and self.strategy != "sandwich":
            return "Distillation needs the widest architecture in every step: add --set strategy=sandwich."
        if self.only == "entropy" and (self.distillation or self.structure != "none"):
            return (
                "only=entropy makes no picture, which distillation and structure=joint need: leave them out."
            )
        if self.members and self.strategy != "front":
            return "members are trained by strategy=front: add --set strategy=front."
        if self.one_encoder and self.strategy != "front":
            return "one_encoder goes with strategy=front: add --set strategy=front."
        if self.fan_in is not None and self.optimizer != "adam":
            return (
                f"fan_in works with adam only, because {self.optimizer} chooses the size of each "
                "kernel's step itself: leave one of them out."
            )
        if self.structure == "none" and (self.lambda_c or self.target):
            return "lambda_c and target belong to a structure that is learned: add --set structure=joint."
        if any(not 0 < share < 1 for share in self.milestones):
            return (
                "Milestones are shares of the steps, between 0 and 1: write milestones=[0.8, 0.9], for "
                "example."
            )
        return None

    @property
    def phases(self) -> list[tuple[int, range]]:
        """The phases of the training: side of the crops in pixels, and the steps with such crops."""
        if self.final_crop is None:
            return [(self.crop, range(self.steps))]
        last = max(1, round(self.steps * self.final_share))
        return [
            (self.crop, range(self.steps - last)),
            (self.final_crop, range(self.steps - last, self.steps)),
        ]

    def pixels(self, first: int, last: int) -> int:
        """Number of pixels that the steps `first` .. `last` - 1 read, over all processes.

        Args:
            first: the first step.
            last: the step after the last one.
        """
        read = 0
        for crop, steps in self.phases:
            read += crop**2 * self.batch * max(0, min(last, steps.stop) - max(first, steps.start))
        return read

    def rate_at(self, step: int, plateaus: int = 0) -> float:
        """The learning rate at a step: a linear warm-up, then the schedule.

        Args:
            step: number of the step, from 0.
            plateaus: number of plateaus so far.
        """
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        match self.schedule:
            case "cosine":
                held = max(self.warmup, round(self.hold * self.steps))
                end = self.phases[0][1].stop  # the rate is low when the large crops begin
                progress = (step - held) / max(1, end - held)
                fall = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
                return self.learning_rate * (self.final_rate + (1 - self.final_rate) * fall)
            case "milestones":
                passed = sum(step >= share * self.steps for share in self.milestones)
                return self.learning_rate * self.decay**passed
            case "plateau":
                return self.learning_rate * self.decay**plateaus
            case _:
                return self.learning_rate


def settings_of(run: Run) -> TrainingSettings:
    """The training settings of a run. InputError if its config.yaml lacks them."""
    values = run.config.get("training")
    if not isinstance(values, dict):
        raise InputError(f"{run.config_path} has no `training`: restore it, or train a new run.")
    with resources.errors_as_damage(run.config_path, "restore it, or train a new run"):
        return TrainingSettings.make(values)


def read_recipe(name: str) -> dict[str, Any]:
    """Read the settings of a shipped recipe or of a YAML file.

    Raises:
        InputError: there is no recipe of this name, or a value in it is wrong.
    """
    path = resources.find("recipes", name)
    content = resources.read_yaml(path)
    if "recipe" in content:
        raise InputError(
            f"The recipe {name} names another recipe, which is not possible: copy the settings of that one "
            "into it."
        )
    if unknown := [name for name in content if name not in TrainingSettings.model_fields]:
        raise InputError(f"{path}: there is no setting {_unknown(unknown[0])}")
    validated(TrainingSettings, _with_words(content), f"{path}: setting")
    return content


def _whose(recipe: str, own: dict[str, Any], wrong: str) -> str:
    """The beginning of a sentence on settings that do not go together: the recipe's file, if it has a part.

    Args:
        recipe: name or file of the recipe.
        own: the settings given beside it.
        wrong: the sentence.
    """
    path = resources.find("recipes", recipe)
    alone = (validated(TrainingSettings, _with_words(each), "") for each in (read_recipe(recipe), own))
    recipes_own, given = (settings._contradiction() == wrong for settings in alone)
    if recipes_own:
        return f"{path}: "
    if given:
        return ""
    return f"{path} with the settings given beside it: "


def _with_words(values: dict[str, Any]) -> dict[str, Any]:
    """The same settings, where YAML reads a word as a number."""
    return {name: str(value) if name == "precision" else value for name, value in values.items()}


def _unknown(name: object) -> str:
    return f"'{name}': {nearest(str(name), TrainingSettings.model_fields)}"


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Parse words `NAME=VALUE`. Values are read as YAML.

    Args:
        assignments: the words.

    Raises:
        InputError: a word is not an assignment, or its value is not valid YAML.
    """
    settings: dict[str, Any] = {}
    for word in assignments:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"'{word}' is not NAME=VALUE: write --set steps=1000, for example.")
        if name in settings:
            raise InputError(f"--set gives {name} twice: give it once.")
        # YAML reads 1e-4 as text, so numbers are tried first
        is_float = "e" in value.lower() and _is_number(value)
        settings[name] = float(value) if is_float else resources.parse_yaml(value, f"--set {word}")
    return settings


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
