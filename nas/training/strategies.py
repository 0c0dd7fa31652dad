"""Which architectures a supernet trains in one step: small objects that the loop asks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from nas.errors import InputError, nearest
from nas.graph.layout import Layout, random_layout
from nas.space import Architecture, SearchSpace


@dataclass(frozen=True)
class Sample:
    """What runs: an architecture's widths, under its own layout or one drawn at random."""

    architecture: Architecture
    layout: Layout


class Strategy(Protocol):
    """Draws the architectures of one step with the generator it is given."""

    def draw(self, space: SearchSpace, rng: random.Random) -> Iterator[Sample]: ...


@dataclass(frozen=True)
class Uniform:
    """`count` architectures, uniform in every slot."""

    count: int = 2

    def draw(self, space: SearchSpace, rng: random.Random) -> Iterator[Sample]:
        for _ in range(self.count):
            architecture = space.sample(rng)
            yield Sample(architecture, any_layout(space, architecture, rng))


@dataclass(frozen=True)
class Sandwich:
    """The widest, the narrowest and random ones (Yu and Huang, ICCV 2019)."""

    count: int = 4

    def draw(self, space: SearchSpace, rng: random.Random) -> Iterator[Sample]:
        ends = [space.widest(), space.narrowest()][: self.count]
        drawn = [space.sample(rng) for _ in range(self.count - len(ends))]
        for architecture in [*ends, *drawn]:
            architecture = space.under(rng.choice(space.layout_names), architecture)
            yield Sample(architecture, any_layout(space, architecture, rng))


def any_layout(space: SearchSpace, architecture: Architecture, rng: random.Random) -> Layout:
    """Half the time the architecture's own layout, else a random one, so that any can be scored later."""
    if len(space.layouts) == 1 or rng.random() < 0.5:
        return space.layout(architecture)
    grouping = space.grouping
    cells = grouping.groups * grouping.tile[0] * grouping.tile[1]
    return random_layout(space.y_channels, grouping.groups, grouping.tile, rng.randint(1, cells), rng)


STRATEGIES: dict[str, Callable[[int], Strategy]] = {"uniform": Uniform, "sandwich": Sandwich}


def strategy(name: str, count: int) -> Strategy:
    """The strategy of a name, one of `STRATEGIES`, that draws `count` architectures a step."""
    if name not in STRATEGIES:
        raise InputError(f"There is no training strategy '{name}': {nearest(name, STRATEGIES)}")
    return STRATEGIES[name](count)
