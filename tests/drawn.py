"""What hypothesis draws: architectures and layouts."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import strategies as st

from nas.spaces.architecture import Architecture
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace

SEEDS = st.integers(0, 2**32 - 1)


def indexes(space: SearchSpace) -> st.SearchStrategy[tuple[int, ...]]:
    """One index per slot, the layout last."""
    return st.tuples(*(st.integers(0, count - 1) for count in space.shape))


def architectures(space: SearchSpace) -> st.SearchStrategy[Architecture]:
    return indexes(space).map(space.at)


def samples(space: SearchSpace) -> st.SearchStrategy[Architecture]:
    """Architectures as the space samples them: far from its corners even in the first example."""
    return SEEDS.map(lambda seed: space.sample(random.Random(seed)))


@st.composite
def layouts(draw: st.DrawFn, channels: int, slopes: bool = True) -> Layout:
    """Any layout: uneven groups, odd tiles, slopes, several groups in one stage."""
    cuts = sorted(draw(st.sets(st.integers(1, channels - 1), max_size=3)))
    groups = tuple(np.diff([0, *cuts, channels]).tolist())
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = len(groups) * rows * columns
    numbers = draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    _, closed = np.unique(numbers, return_inverse=True)
    tile = closed.reshape(len(groups), rows, columns).tolist()
    slope = draw(st.sampled_from([(0, 0), (3, 1), (1, 1), (0, 2), (1, 0)])) if slopes else (0, 0)
    return Layout(groups, slope, tuple(tuple(map(tuple, group)) for group in tile), "drawn")
