"""Information on a search space, a budget or a recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nas.report.info.info import Info
from nas.report.structure.layout_text import stages_text
from nas.spaces.budget import Budget, Span
from nas.spaces.space import SearchSpace


def space_info(space: SearchSpace) -> Info:
    """Describe the slots and layouts of a search space."""
    grouping = {
        "groups": space.grouping.groups,
        "tile": list(space.grouping.tile),
        "stages": list(space.grouping.stages),
    }
    fields = {
        "space": space.name,
        "family": space.family.name,
        "latents": _latents(space),
        "quantizer": space.quantizer,
        "window": f"{space.window}x{space.window}" if space.with_convolution else None,
        "architectures": space.size,
        "slots": {slot.name: list(slot.candidates) for slot in space.slots},
        "layouts": {name: stages_text(space.layouts[name]) for name in space.layout_names},
        "grouping": grouping if space.family.context else None,
        "narrowest": space.narrowest().key,
        "widest": space.widest().key,
    }
    return Info("space", fields)


def space_with_reach(space: SearchSpace) -> Info:
    """Describe a space of the user's own, with the MACs that its architectures reach, counted now."""
    from nas.cost.counting.tabulate import measured_costs
    from nas.cost.exact.quantity import scopes
    from nas.cost.exact.reach import ReachableCosts

    reached = {}
    for scope, quantity in scopes(measured_costs(space)).items():
        least, median, most = ReachableCosts(quantity).span()
        least_text, most_text = quantity.format_number(least, least=True), quantity.format_number(most)
        reached[scope] = f"{least_text} to {most_text} kMAC/px, the median {quantity.format_number(median)}"
    info = space_info(space)
    return replace(info, fields={**info.fields, "reach": reached})


def _latents(space: SearchSpace) -> dict[str, Any]:
    """The numbers of channels of y and z, or their candidates if a slot sets them."""
    nodes = ("y", "z") if space.family.has_z else ("y",)
    choices = {node: list(space.candidates(node)) for node in nodes}
    return {node: sizes[0] if len(sizes) == 1 else sizes for node, sizes in choices.items()}


def budget_info(budget: Budget) -> Info:
    """Describe the limits of a budget."""
    fields = {
        "budget": budget.name,
        "scope": budget.scope,
        "targets": [str(target) for target in budget.targets] or None,
        "levels": _span(budget.span),
        "limits": [str(limit) for limit in budget.limits] or None,
    }
    return Info("budget", fields)


def _span(span: Span | None) -> str | None:
    if span is None:
        return None
    start, end = (span.start or "the least that is reachable"), (span.end or "the most")
    return f"{span.levels}, from {start} to {end}"


def setting_names() -> list[str]:
    """The settings that a recipe may set."""
    from nas.training.settings import TrainingSettings

    return list(TrainingSettings.model_fields)


def recipe_info(name: str) -> Info:
    """Describe a shipped recipe: the settings that it sets, and the defaults of all others.

    Args:
        name: name of the recipe.
    """
    from nas.training.settings import TrainingSettings, read_recipe

    content = read_recipe(name)
    rest = TrainingSettings.make({"recipe": name}).model_dump(exclude=set(content))
    return Info("recipe", {"recipe": name, "sets": content, "and_by_default": rest})
