"""The decoders and layouts of a codec family: those of a run that are worth their cost beside one encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.metrics.pareto import non_dominated
from nas.searching.scoring.front import on_any_front
from nas.searching.searcher import Searcher
from nas.spaces.architecture import Architecture
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.progress import StageReport

FAR = 0.02  # share of the rate; single pictures prefer another layout by less than this
WORTH = 0.001  # share of the loss that a dearer decoder has to gain; no picture would show less


@dataclass(frozen=True)
class FamilyMembers:
    """The architectures of a family. All share the encoder and the entropy path of `base`.

    Attributes:
        base: the architecture that encodes, and that decodes by default.
        decoders: one architecture for each g_s, the cheapest first. `base` is one of them.
        layouts: one architecture for each layout, that of `base` first.
    """

    base: Architecture
    decoders: tuple[Architecture, ...]
    layouts: tuple[str, ...]

    @classmethod
    def alone(cls, architecture: Architecture) -> FamilyMembers:
        """A family with a single member.

        Args:
            architecture: the only one.
        """
        return cls(architecture, (architecture,), (architecture.layout,))

    def orders(self, space: SearchSpace) -> list[Layout]:
        """The layouts of the family as `Layout` objects.

        Args:
            space: the space that knows the layouts by name.
        """
        return [space.layout(space.under(name, self.base)) for name in self.layouts]


def find_family_members(searcher: Searcher, base: Architecture | None, report: StageReport) -> FamilyMembers:
    """Find the family around an architecture: the decoders and layouts that are worth their cost.

    Each g_s of the run's front and each layout is scored together with the encoder and the entropy path of
    `base`, on the calibration photos. A g_s is left out if another one has both fewer MACs and less loss, or
    if it lowers the loss of the next cheaper one by no more than `WORTH`. A layout is left out if another one
    with no more stages takes fewer bits by more than `FAR`. Layouts that are closer than this change places
    from picture to picture.

    Args:
        searcher: searcher of a searched run.
        base: architecture whose encoder and entropy path are shared. By default it is the one with the least
            loss on the front.
        report: called for each architecture that is scored.

    Raises:
        InputError: the run's space does not allow families.
    """
    space, scores = searcher.space, searcher.scores
    places = places_of_g_s(space)
    table = on_any_front(searcher.table())
    if table.empty:
        raise InputError(f"{searcher.run.typed} has no front yet: {searcher.run.how_to_run('search')} first.")
    if base is None:
        base = space.parse(str(table.loc[table["rd_loss"].idxmin(), "arch"]))
    front = [space.parse(key) for key in table["arch"]]
    decoders = list(dict.fromkeys([base, *(_with_g_s_of(space, base, other, places) for other in front)]))
    layouts = _layouts(space, base)
    todo = list(dict.fromkeys([*decoders, *layouts]))
    scores.of(base)
    for done, architecture in enumerate(todo):
        report("scoring the family", done, len(todo), "")
        scores.attempt(architecture)
    report("scoring the family", len(todo), len(todo), "")
    decoders, layouts = ([scored for scored in each if scored in scores] for each in (decoders, layouts))
    costs = [float(searcher.costs.macs(decoder, "decoder")) for decoder in decoders]
    keep = non_dominated(costs, [scores.of(decoder).rd_loss for decoder in decoders])
    chosen: list[tuple[float, Architecture]] = []
    least = math.inf
    for cost, _, decoder, kept in sorted(zip(costs, range(len(costs)), decoders, keep, strict=True)):
        loss = scores.of(decoder).rd_loss
        if decoder == base or (kept and loss < (1 - WORTH) * least):
            chosen.append((cost, decoder))
            least = min(least, loss)
    rates = {architecture.layout: scores.of(architecture).bpp for architecture in layouts}
    stages = {architecture.layout: space.layout(architecture).stages() for architecture in layouts}
    names = [
        name
        for name, rate in rates.items()
        if rate <= (1 + FAR) * min(rates[other] for other in rates if stages[other] <= stages[name])
    ]
    return FamilyMembers(
        base,
        tuple(decoder for _, decoder in chosen),
        tuple(dict.fromkeys([base.layout, *names])),
    )


def places_of_g_s(space: SearchSpace) -> list[int]:
    """Places of the slots that set g_s and no other edge.

    Raises:
        InputError: one slot sets g_s together with another edge, so the space has no families.
    """
    if not space.fixed_latents:
        raise InputError(
            f"{space.name} has no families: its latents shrink with its widths, so every decoder reads files "
            "of its own. Export single codecs with --target or --arch."
        )
    numbers = []
    for number, slot in enumerate(space.slots):
        edges = {space.family.edge_of(layer) for layer, _ in slot.layers}
        if "g_s" in edges and len(slot.candidates) > 1:  # one candidate is no choice
            if edges != {"g_s"}:
                raise InputError(
                    f"Slot {slot.name} of {space.name} sets {' and '.join(sorted(edges))} together, so no "
                    "decoder can be chosen alone: give g_s slots of its own, or export single codecs."
                )
            numbers.append(number)
    return numbers


def _with_g_s_of(
    space: SearchSpace, base: Architecture, other: Architecture, places: Sequence[int]
) -> Architecture:
    mine, theirs = list(space.indexes(base)), space.indexes(other)
    for number in places:
        mine[number] = theirs[number]
    return space.at(mine)


def _layouts(space: SearchSpace, base: Architecture) -> list[Architecture]:
    """The architecture under every layout that the same weights can read, its own layout first.

    If the latents depend on the layout, only its own is returned.
    """
    if space.quantizer == "centred":  # latents are rounded about means, which depend on the order
        return [base]
    kind = space.layout(base).context
    names = [name for name in space.layout_names if space.layouts[name].context == kind]
    return list(dict.fromkeys([base, *(space.under(name, base) for name in names)]))
