"""The fields of a search space's YAML file, and the checks that they fit together. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from nas.spaces.architecture import DEFAULT_STAGES, Grouping, Slot
from nas.spaces.description import HYPERPRIOR, Family
from nas.spaces.families import FAMILIES
from nas.spaces.layout import TABLE, Layout, named_layout
from nas.support.errors import InputError, nearest
from nas.support.fields import Strict
from nas.support.limits import LEAST_LMBDA, MOST_BLOCKS, MOST_CHANNELS, MOST_LMBDA, MOST_TILE

Quantizer = Literal["integer", "centred"]
_SLOT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[0-9]+)?")
_LAYOUT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


_Channels = Annotated[int, Field(gt=0, le=MOST_CHANNELS)]
_Side = Annotated[int, Field(gt=0, le=MOST_TILE)]
_Candidate = Annotated[int, Field(ge=0, le=MOST_CHANNELS)]
_Lmbda = Annotated[float, Field(ge=LEAST_LMBDA, le=MOST_LMBDA)]


class _LatentFields(Strict):
    y: _Channels | None = None
    z: _Channels | None = None


class _Features(Strict):
    psi: _Channels | None = None
    phi: _Candidate | None = None


class _TiedSlot(Strict):
    candidates: list[_Candidate] = Field(min_length=1)
    layers: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)


class _GroupingFields(Strict):
    groups: _Channels = 4
    tile: tuple[_Side, _Side] = (2, 2)
    stages: list[PositiveInt] = Field(default=list(DEFAULT_STAGES), min_length=1)


class SpaceFields(Strict):
    """The fields of a space's YAML file."""

    family: str
    latents: _LatentFields = _LatentFields()
    features: _Features = _Features()
    rates: list[_Lmbda] = Field(default=[], description="lambdas of the anchors")
    quantizer: Quantizer = "integer"
    window: int = Field(default=5, description="3, 5 or 7")
    widths: dict[str, _Candidate | list[_Candidate] | _TiedSlot]
    layouts: list[str | dict[str, Any]] = Field(default=["none"], min_length=1)
    grouping: _GroupingFields = _GroupingFields()

    @model_validator(mode="after")
    def _known(self) -> SpaceFields:
        if self.family not in FAMILIES:
            raise ValueError(f"family '{self.family}' is unknown: {nearest(self.family, FAMILIES)}")
        if self.window not in (3, 5, 7):
            raise ValueError(f"window must be 3, 5 or 7, not {self.window}.")
        if self.rates and (len(self.rates) < 2 or self.rates != sorted(set(self.rates))):
            raise ValueError(
                "rates must list at least two different lambdas from small to large, as in [0.0018, 0.18]."
            )
        return self

    def parts(self) -> dict[str, Any]:
        """The arguments of `SearchSpace`, except its name.

        Raises:
            InputError: the fields do not fit together, or do not fit the family.
        """
        family = FAMILIES[self.family]
        slots = tuple(_build_slot(family, key, value) for key, value in self.widths.items())
        counts: dict[str, int] = {}
        for slot in slots:
            for layer, _ in slot.layers:
                counts[layer] = counts.get(layer, 0) + 1
        for layer in dict.fromkeys((*family.choices, *counts)):
            if counts.get(layer, 0) != 1:
                how = "twice" if layer in counts else "nowhere"
                raise InputError(f"`widths` sets {layer} {how}: every layer needs exactly one slot.")
        y = self._channels("y", slots)
        z = self._channels("z", slots) if family.has_z else 0
        layouts: dict[str, Layout] = {}
        for entry in self.layouts:
            layout = _build_layout(entry, y, self.window)
            if layout.name in layouts:
                raise InputError(f"Two layouts are named '{layout.name}'.")
            layouts[layout.name] = layout
        self._check(family, slots, layouts)
        grouping = Grouping(self.grouping.groups, self.grouping.tile, tuple(self.grouping.stages))
        if family.context and grouping.groups > y:
            raise InputError(f"grouping.groups is {grouping.groups}, more than y has channels.")
        return {
            "family": family,
            "y_channels": y,
            "z_channels": z,
            "window": self.window,
            "slots": slots,
            "layouts": layouts,
            "grouping": grouping,
            "quantizer": self.quantizer,
            "psi_channels": self.features.psi,
            "phi_channels": self.features.phi,
            "rates": tuple(self.rates),
        }

    def _channels(self, node: Literal["y", "z"], slots: Sequence[Slot]) -> int:
        """The channels of a latent: those of `latents`, or the most that a slot gives it."""
        fixed = getattr(self.latents, node)
        tied = [slot for slot in slots if node in dict(slot.layers)]
        if tied and fixed:
            raise InputError(f"`latents` and `widths` both set {node}: leave it out of one of them.")
        if tied:
            return tied[0].widths(tied[0].candidates[-1])[node]
        if not fixed:
            raise InputError(
                f"`latents` does not say how many channels {node} has: add it, as in {node}: 192."
            )
        return int(fixed)

    def _check(self, family: Family, slots: Sequence[Slot], layouts: Mapping[str, Layout]) -> None:
        """Refuse fields that the family does not have."""
        if not family.has_z and self.latents.z:
            raise InputError(f"The family {family.name} has no z: take `z` out of `latents`.")
        if family.context:
            shrinking = {"y", "z"} & {layer for slot in slots for layer, _ in slot.layers}
            if shrinking:
                raise InputError(
                    f"`widths` cannot set {min(shrinking)} in {family.name}: with a context model the "
                    "latents keep their channels. Use a family without one."
                )
            self._check_contexts(layouts)
            return
        if self.features != _Features():
            raise InputError(f"{family.name} has no context model: leave `features` out.")
        more = [name for name, layout in layouts.items() if layout.has_context or len(layout.groups) > 1]
        if more or len(layouts) > 1:
            raise InputError(
                f"{family.name} has no context model, so no element waits for another: write `layouts: "
                f"[none]`, without '{(more or list(layouts))[-1]}'."
            )

    def _check_contexts(self, layouts: Mapping[str, Layout]) -> None:
        """Check that layouts with a convolution have features."""
        convolved = [
            name for name, each in layouts.items() if each.has_context and each.context == "convolution"
        ]
        if self.features.phi == 0 and convolved:
            raise InputError(
                f"The layout '{convolved[0]}' reads its context by a convolution, and `features` has none "
                f"(phi: 0): write {convolved[0]}{TABLE}, or give phi some features."
            )


def _build_slot(family: Family, name: str, value: int | list[int] | _TiedSlot) -> Slot:
    if not _SLOT_NAME.fullmatch(name) or name.split(".")[0] == "layout":
        raise InputError(f"'{name}' cannot name a slot: use a layer, an edge, or a word of your own.")
    choices = (*family.choices, "y", *((HYPERPRIOR, "z") if family.has_z else ()))
    if isinstance(value, _TiedSlot):
        candidates, layers = value.candidates, dict(value.layers)
    else:
        candidates = [value] if isinstance(value, int) else value
        layers = {layer: 1.0 for layer in choices if name in (layer, layer.rsplit(".", 1)[0])}
    unknown = [layer for layer in layers if layer not in choices]
    if unknown or not layers:
        wrong = unknown[0] if unknown else name
        raise InputError(f"widths.{name}: {family.name} has no '{wrong}': {nearest(wrong, choices)}")
    if not candidates or list(candidates) != sorted(set(candidates)):
        raise InputError(f"widths.{name} must list different widths from narrow to wide, not {candidates}.")
    _check_zero(family, name, candidates, layers)
    slot = Slot(name, tuple(candidates), tuple(layers.items()))
    for layer in layers:
        most, what = (MOST_BLOCKS, "blocks") if layer in family.depths else (MOST_CHANNELS, "channels")
        if layers[layer] * candidates[-1] > most:
            raise InputError(f"widths.{name} gives {layer} more than {most} {what}: write a smaller number.")
        if len({slot.widths(choice)[layer] for choice in candidates}) < len(candidates):
            raise InputError(f"widths.{name}: two candidates give {layer} the same width.")
    return slot


def _check_zero(family: Family, name: str, candidates: Sequence[int], layers: Mapping[str, float]) -> None:
    """Check zeros: 0 may leave out a block or a hyperprior, but no layer has 0 channels."""
    solid = [layer for layer in layers if layer not in (*family.switches, HYPERPRIOR)]
    if candidates[0] == 0 and solid:
        hint = ", ".join([*sorted(family.switches), *([HYPERPRIOR] if family.has_z else [])])
        hint = f"only {hint} can be left out." if hint else f"nothing in {family.name} can be left out."
        raise InputError(f"widths.{name}: {solid[0]} cannot have 0 channels; {hint}")
    if HYPERPRIOR in layers and (list(layers) != [HYPERPRIOR] or candidates[-1] > 1):
        raise InputError(f"widths.{name}: write `{HYPERPRIOR}: [0, 1]`, a slot of its own, to search it.")


def _build_layout(entry: str | dict[str, Any], channels: int, window: int) -> Layout:
    if isinstance(entry, str):
        return named_layout(entry, channels, window)
    content = dict(entry)
    name = str(content.pop("name", "custom"))
    if not _LAYOUT_NAME.fullmatch(name):
        raise InputError(f"'{name}' cannot name a layout: use letters, digits, '.' and '-'.")
    layout = Layout.from_dict(content, name=name)
    if layout.channels != channels:
        raise InputError(f"The groups of layout '{name}' add up to {layout.channels}, and y has {channels}.")
    return layout


def slot_field(slot: Slot) -> Any:
    """The slot's entry in `widths` of the YAML file."""
    if slot.layers == ((slot.name, 1.0),):
        return list(slot.candidates)
    return {"candidates": list(slot.candidates), "layers": dict(slot.layers)}
