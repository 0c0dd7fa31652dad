"""Strategies: which architectures a supernet trains in one step.

The draw of a step depends only on the seed and on the step's number. A resumed run, and every process of a
joint training, therefore draws the same.
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

RATE_OVERSHOOT = 0.04  # share of the range of rates, on either side
NO_FRONT = "strategy=front trains what a search found: add --init-from RUN, a run that was searched."


@dataclass(frozen=True)
class Sample:
    """One sample of a step: an architecture's widths, under its own or a random layout, at a rate.

    Attributes:
        lmbda: lambda of the rate, if the space has a range of rates.
    """

    architecture: Architecture
    layout: Layout
    lmbda: float | None = None


class Strategy(Protocol):
    """Draws the architectures of one step.

    Attributes:
        widest_first: whether the first sample of every step is the widest architecture, so that the others
            can learn from it.
    """

    widest_first: bool

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Draw the samples of one step. The same arguments give the same samples.

        Args:
            space: the search space.
            step: number of the step.
            seed: seed of the training.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """Draws `count` architectures, uniformly in every slot.

    Attributes:
        count: number of architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 2
    random_layouts: float = 0.5
    widest_first = False

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Draw architectures and layouts uniformly.

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
    """Draws the widest, the narrowest and random architectures (Yu and Huang, ICCV 2019).

    Attributes:
        count: number of architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 4
    random_layouts: float = 0.5
    widest_first = True

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Draw the widest, the narrowest, and some random architectures.

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
    """Strict fairness: draws every candidate of every slot equally often (FairNAS, Chu et al., ICCV 2021).

    Each slot deals its candidates from a shuffled deck, and begins a new one when it is empty. The counts of
    its candidates therefore never differ by more than one.

    Attributes:
        count: number of architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 4
    random_layouts: float = 0.5
    widest_first = False

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Draw architectures so that each candidate of a slot comes equally often.

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
    """Draws one relative width for all slots, with a spread around it in each slot. Layouts are uniform.

    If each slot is drawn separately, there is nearly always a narrow layer among them, and architectures near
    either end are hardly ever trained. Here the levels of a step are spread evenly from the narrowest to the
    widest (stratified). They reach half a spread beyond both ends, so that the ends themselves occur.

    Attributes:
        count: number of architectures in a step.
        random_layouts: share of the layouts that are drawn at random.
    """

    count: int = 4
    random_layouts: float = 0.5
    spread: float = 0.3  # standard deviation of a slot's relative width around the level
    widest_first = False

    def draw(self, space: SearchSpace, step: int, seed: int) -> Iterator[Sample]:
        """Draw architectures whose slots are about equally wide, at every level.

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
    """Draws the architectures that a search found best, evenly along its front, and similar ones.

    A supernet trains all of its architectures, but only a few are ever chosen. Further training makes these
    better (after AttentiveNAS, Wang et al., CVPR 2021).

    Attributes:
        members: the front, ordered by MACs. An architecture that is named twice is drawn twice as often.
        elsewhere: share drawn as in `Level`, so that the rest is not forgotten.
        moved: share of the others that are moved by one step in a slot, so that a later search finds their
            neighbours trained equally well.
        one_encoder: draw the members of a step among those that share one encoder. An encoder is drawn in
            proportion to its number of members.
        count: number of architectures in a step.
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
        """Draw architectures of the front, and some from elsewhere.

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
        """The members that share the encoder of a randomly drawn member."""
        wanted = space.encoder(rng.choice(self.members))
        return [member for member in self.members if space.encoder(member) == wanted]


def any_layout(
    space: SearchSpace, architecture: Architecture, rng: random.Random, share: float = 0.5
) -> Layout:
    """The architecture's own layout, or with probability `share` a random one, so that any can be scored.

    A random layout has from one to all channel groups of `grouping`, so that coarse layouts become as
    familiar as fine ones. Only orders that a convolution reads are searched, so a table keeps its own order.

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
    """Give each sample of a step a rate of its own, if the space has a range of rates.

    The range is divided into as many parts as there are samples. Each sample gets a lambda from one of them,
    uniform in its logarithm. So every step sees low and high rates, and the gains between anchors are trained
    too. Draws reach a little beyond the ends and are clamped to them, so that the ends themselves occur.

    Args:
        samples: the samples of the step.
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
    """The generator that draws the architectures of a step.

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
    """Make the strategy that the settings name, one of `STRATEGIES`.

    Args:
        settings: settings of the training.
        members: the front to train, for the strategy `front`.

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
    """The fronts of a searched run in every scope, as architectures of a space, ordered by MACs.

    If the space does not have an architecture's layout (for example, because the search found it), the layout
    with the nearest number of stages replaces it.

    Args:
        run: a searched run.
        space: the space of the resulting architectures.

    Raises:
        InputError: the run has no front, or its widths do not fit the space.
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
