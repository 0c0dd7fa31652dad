"""Which architectures a supernet trains in one step: small objects that the loop asks.

What a step draws depends on the seed and the step's number alone, so that a resumed run, and every process
of a joint one, draws the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nas.run import Run
from nas.spaces.architecture import Architecture
from nas.spaces.layout import Layout, random_layout
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.settings import TrainingSettings

RATE_OVERSHOOT = 0.04  # of the range of rates, on either side
NO_FRONT = "strategy=front trains what a search found: add --init-from RUN, a run that was searched."


@dataclass(frozen=True)
class Sample:
    """What runs: an architecture's widths, under its own layout or one drawn at random, at a rate.

    Attributes:
        lmbda: the rate, where the space has a range of them.
    """

    architecture: Architecture
    layout: Layout
    lmbda: float | None = None


class Strategy(Protocol):
    """Draws the architectures of one step.

    Attributes:
        widest_first: whether the first of every step is the widest, which the others may then learn from.
    """

    widest_first: bool

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """The samples of one step, the same whenever it is drawn.

        Args:
            space: the search space.
            step: number of the step.
            seed: seed of the training.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """`count` architectures, uniform in every slot.

    Attributes:
        count: architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 2
    random_layouts: float = 0.5
    widest_first = False

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Architectures and layouts, each uniformly.

        Args:
            space: the search space.
            step: number of the step.
            seed: seed of the training.
        """
        rng = generator(seed, step)
        for _ in range(self.count):
            architecture = space.sample(rng)
            yield Sample(architecture, any_layout(space, architecture, rng, self.random_layouts))


@dataclass(frozen=True)
class Sandwich:
    """The widest, the narrowest and random ones (Yu and Huang, ICCV 2019).

    Attributes:
        count: architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 4
    random_layouts: float = 0.5
    widest_first = True

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """The widest, the narrowest, and some at random.

        Args:
            space: the search space.
            step: number of the step.
            seed: seed of the training.
        """
        rng = generator(seed, step)
        ends = [space.widest(), space.narrowest()][: self.count]
        drawn = [space.sample(rng) for _ in range(self.count - len(ends))]
        for architecture in [*ends, *drawn]:
            architecture = space.under(rng.choice(space.layout_names), architecture)
            yield Sample(architecture, any_layout(space, architecture, rng, self.random_layouts))


@dataclass(frozen=True)
class Fair:
    """Strict fairness: every candidate of every slot equally often (FairNAS, Chu et al., ICCV 2021).

    Each slot deals its candidates from a shuffled deck and begins a new one when it is empty, so their counts
    never differ by more than one.

    Attributes:
        count: architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 4
    random_layouts: float = 0.5
    widest_first = False

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Architectures of which each candidate of a slot comes equally often.

        Args:
            space: the search space.
            step: number of the step.
            seed: seed of the training.
        """
        rng = generator(seed, step)
        for number in range(step * self.count, (step + 1) * self.count):
            dealt = [self._deal(number, slot, size, seed) for slot, size in enumerate(space.shape)]
            architecture = space.at(dealt)
            yield Sample(architecture, any_layout(space, architecture, rng, self.random_layouts))

    def _deal(self, number: int, slot: int, size: int, seed: int) -> int:
        """The candidate that the `number`th architecture has in a slot."""
        deck = list(range(size))
        random.Random(f"deck {seed} {slot} {number // size}").shuffle(deck)
        return deck[number % size]


@dataclass(frozen=True)
class Level:
    """One relative width for all slots, with a spread about it in each; layouts are uniform.

    Slots that are drawn each for itself nearly always have a narrow layer among them, so that architectures
    near either end are hardly ever trained. Here the levels of a step are spread evenly from the narrowest to
    the widest (stratified), and reach half a spread beyond, so that the ends themselves are met.

    Attributes:
        count: architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 4
    random_layouts: float = 0.5
    spread: float = 0.3  # standard deviation of a slot's relative width about the level
    widest_first = False

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Architectures whose slots are about equally wide, at every level.

        Args:
            space: the search space.
            step: number of the step.
            seed: seed of the training.
        """
        rng = generator(seed, step)
        for number in range(self.count):
            level = (number + rng.random()) / self.count * (1 + self.spread) - self.spread / 2
            shares = [min(1.0, max(0.0, rng.gauss(level, self.spread))) for _ in space.slots]
            places = [round(share * (count - 1)) for share, count in zip(shares, space.shape, strict=False)]
            architecture = space.at([*places, rng.randrange(space.shape[-1])])
            yield Sample(architecture, any_layout(space, architecture, rng, self.random_layouts))


@dataclass(frozen=True)
class Front:
    """What a search found best, spread evenly over its front, and others like it.

    A supernet trains all of its architectures, of which few are ever chosen; trained on, these become better
    (after AttentiveNAS, Wang et al., CVPR 2021).

    Attributes:
        members: the front, in the order of their MACs. One that is named twice is drawn twice as often.
        elsewhere: the share drawn as in `Level`, so that the rest is not forgotten.
        moved: the share of the others that move one step in a slot, so that a search sees the surroundings
            alike well.
        one_encoder: whether the members of a step are those with one encoder, the more often the more it has.
        count: architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 4
    random_layouts: float = 0.5
    members: tuple[Architecture, ...] = ()
    elsewhere: float = 0.25
    moved: float = 0.5
    one_encoder: bool = False
    widest_first = False

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Architectures of the front so far, and some from elsewhere.

        Args:
            space: the search space.
            step: number of the step.
            seed: seed of the training.
        """
        rng = generator(seed, step)
        members = self._of_one_encoder(space, rng) if self.one_encoder else self.members
        others = Level(self.count, self.random_layouts).draw(space, step, seed)
        for number, other in enumerate(others):
            if rng.random() < self.elsewhere:
                yield other
                continue
            index = int((number + rng.random()) / self.count * len(members))
            architecture = members[min(index, len(members) - 1)]
            if rng.random() < self.moved:
                architecture = rng.choice([architecture, *space.neighbours(architecture)])
            yield Sample(architecture, any_layout(space, architecture, rng, self.random_layouts))

    def _of_one_encoder(self, space: SearchSpace, rng: random.Random) -> list[Architecture]:
        """The members that encode as one of them does, drawn among all."""
        wanted = space.encoder(rng.choice(self.members))
        return [member for member in self.members if space.encoder(member) == wanted]


def any_layout(
    space: SearchSpace, architecture: Architecture, rng: random.Random, share: float = 0.5
) -> Layout:
    """The architecture's own layout, or a share of the time a random one, so that any can be scored later.

    A random one has from one to all of grouping's channel groups: coarse ones become as familiar as fine.
    Only orders that a convolution reads are searched, so a table stays with its own.

    Args:
        space: the search space.
        architecture: the architecture.
        rng: generator of the random numbers.
        share: probability of a random layout, from 0 to 1.
    """
    own = space.layout(architecture)
    if len(space.layouts) == 1 or rng.random() < 1 - share or own.context == "table":
        return own
    if not space.with_convolution:
        return own
    grouping = space.grouping
    groups = rng.choice([count for count in range(1, grouping.groups + 1) if grouping.groups % count == 0])
    cells = groups * grouping.tile[0] * grouping.tile[1]
    return random_layout(space.y_channels, groups, grouping.tile, rng.randint(1, cells), rng)


def at_rates(samples: Sequence[Sample], space: SearchSpace, step: int, seed: int) -> list[Sample]:
    """The samples of a step, each at a rate of its own, where the space has a range of rates.

    The range is cut into as many parts as there are samples, and each has a lambda from one of them, uniform
    in its logarithm: so every step sees low rates and high ones, and the gains between anchors are trained
    too. A little of what is drawn lies beyond the ends and is moved to them, so that they are met.

    Args:
        samples: what the step trains.
        space: the search space.
        step: number of the step.
        seed: seed of the training.
    """
    if not space.rates:
        return list(samples)
    rng = random.Random(f"rates {seed} {step}")
    parts = rng.sample(range(len(samples)), len(samples))
    low, high = space.rates[0], space.rates[-1]
    rated = []
    for sample, part in zip(samples, parts, strict=True):
        share = (part + rng.random()) / len(samples) * (1 + 2 * RATE_OVERSHOOT) - RATE_OVERSHOOT
        lmbda = low * (high / low) ** min(1.0, max(0.0, share))
        rated.append(replace(sample, lmbda=lmbda))
    return rated


def generator(seed: int, step: int) -> random.Random:
    """What a step draws its architectures with.

    Args:
        seed: seed of the training.
        step: number of the step.
    """
    return random.Random(f"{seed} {step}")


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "uniform": Uniform,
    "sandwich": Sandwich,
    "fair": Fair,
    "level": Level,
    "front": Front,
}


def strategy(settings: TrainingSettings, members: Sequence[Architecture] = ()) -> Strategy:
    """The strategy that settings ask for, one of `STRATEGIES`.

    Args:
        settings: settings of the training.
        members: the front, where it is to be trained.

    Raises:
        InputError: the strategy is `front`, and `members` is empty.
    """
    name, count, random_layouts = settings.strategy, settings.architectures, settings.random_layouts
    if name == "front":
        if not members:
            raise InputError(NO_FRONT)
        shares = settings.elsewhere, settings.moved
        return Front(count, random_layouts, tuple(members), *shares, settings.one_encoder)
    return STRATEGIES[name](count, random_layouts)


def architectures_on_fronts(run: Run, space: SearchSpace) -> list[Architecture]:
    """The fronts of a searched run, of every scope, as architectures of a space; in the order of their MACs.

    Where the space has not the layout of one (the search found it, say), the layout with the nearest number
    of stages takes its place.

    Args:
        run: a searched run.
        space: the space that the architectures are to be of.

    Raises:
        InputError: the run has no front, or one of other widths.
    """
    best = run.front().sort_values("total_kmac_px")
    stages = {name: layout.stages() for name, layout in space.layouts.items()}
    architectures = []
    for key, wanted in zip(best["arch"], best["stages"], strict=True):
        widths, _, layout = key.rpartition("+layout=")
        if layout not in stages:
            layout = min(stages, key=lambda name: abs(stages[name] - wanted))
        architectures.append(space.parse(f"{widths}+layout={layout}"))
    return list(dict.fromkeys(architectures))
