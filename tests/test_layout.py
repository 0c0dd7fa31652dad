"""Layouts: stages, blocks, what is visible, and what cannot be decoded."""

from __future__ import annotations

import random

import numpy as np
import pytest
from drawn import SEEDS, layouts
from hypothesis import given
from hypothesis import strategies as st

from nas.graph.staged import steps, whole
from nas.spaces.layout import Layout, layout_names, named_layout, random_layout, tiled_layout, unit_channel
from nas.support.errors import InputError

NAMED = [
    *(name for name in layout_names() if not set("KS") & set(name)),
    *(
        "channelwise-2",
        "channelwise-4",
        "channelwise-5",
        "channelwise-2-checkerboard",
        "channelwise-4-checkerboard",
        "random-1",
        "random-6",
        "random-17",
    ),
]
SIZES = st.tuples(st.integers(2, 7), st.integers(2, 7))


def visible_share(layout: Layout, window: int) -> float:
    """The columns that blocks read, as a share of what a dense window over all channels reads."""
    sizes = np.array(layout.groups)
    read = sum(
        sizes[list(block.groups)].sum() * (block.visible.sum((1, 2)) * sizes).sum()
        for block in layout.blocks(window)
    )
    cells = layout.table[0].size
    return float(read / (cells * layout.channels**2 * window**2))


@pytest.mark.parametrize(
    ("name", "share"),
    [("none", 0), ("checkerboard", 0.24), ("raster-2x2", 0.32), ("channelwise-4", 0.375), ("raster", 0.48)],
)
def test_visible_share_of_a_dense_pass(name, share):
    assert visible_share(named_layout(name, 192, 5), 5) == pytest.approx(share)


@pytest.mark.parametrize(
    ("name", "landscape", "portrait"),
    [
        ("none", 1, 1),
        ("checkerboard", 2, 2),
        ("checkerboard-interlaced", 2, 2),
        ("raster-2x2", 4, 4),
        ("channelwise-4", 4, 4),
        ("channelwise-4-checkerboard", 8, 8),
        ("elic-10", 10, 10),
        ("multistage-4x4", 16, 16),
        ("random-5", 5, 5),
        ("random-30", 30, 30),
        ("zigzag", 79, 79),
        ("raster", 141, 173),
    ],
)
def test_stages_at_768x512_and_512x768(name, landscape, portrait):
    layout = named_layout(name, 192, 5)
    assert layout.stages() == layout.stages(32, 48) == landscape
    assert layout.stages(48, 32) == portrait


@pytest.mark.parametrize("window", [3, 5, 7])
def test_raster_has_the_dependencies_of_one_element_after_another(window):
    layout = named_layout("raster", 4, window)
    (block,) = layout.blocks(window)
    earlier = np.arange(window**2).reshape(window, window) < window**2 // 2
    assert (block.visible[0] == earlier).all()


def test_elic_has_its_uneven_groups():
    assert named_layout("elic-10", 192).groups == (16, 16, 32, 64, 64)
    assert named_layout("elic-10", 320).groups == (16, 16, 32, 64, 192)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("channels", [9, 32, 192])
def test_named_layouts_fit_any_latent(name, channels):
    layout = named_layout(name, channels, 5)
    assert layout.channels == channels
    assert layout.name == name
    assert layout.has_context == (visible_share(layout, 5) > 0) == (name not in ("none", "random-1"))
    assert Layout.from_dict(layout.to_dict()) == layout


@given(layouts(6), st.sampled_from([3, 5]), SIZES)
def test_every_element_has_one_block_and_one_stage(layout, window, size):
    height, width = size
    blocks, groups = layout.blocks(window), layout.group_of_channel
    stage_map = layout.stage_map(height, width)
    for work in (whole(layout, window, height, width), *steps(layout, window, height, width)):
        assert len({number for number, _ in work}) == len(work)
    seen = np.full((layout.channels, height * width), -1)
    for when, work in enumerate(steps(layout, window, height, width)):
        for number, places in work:
            channels = np.flatnonzero(np.isin(groups, blocks[number].groups))
            assert (seen[np.ix_(channels, places)] == -1).all()
            seen[np.ix_(channels, places)] = when
    _, ranks = np.unique(stage_map[groups], return_inverse=True)
    assert (seen.ravel() == ranks.ravel()).all()
    assert seen.max() + 1 == layout.stages(height, width)


def test_a_tracer_that_asks_first_spoils_no_positions():
    from torch._subclasses import FakeTensorMode

    layout = named_layout("raster-2x2", 5)
    with FakeTensorMode():
        assert steps(layout, 3, 7, 9)
        assert whole(layout, 3, 7, 9)
    for work in (whole(layout, 3, 7, 9), [each for step in steps(layout, 3, 7, 9) for each in step]):
        assert sorted(place for _, places in work for place in places.tolist()) == list(range(63))


@given(layouts(6), st.sampled_from([3, 5]), SIZES)
def test_visible_exactly_when_the_stage_is_smaller(layout, window, size):
    height, width = size
    reach = window // 2
    stage = layout.stage_map(height, width)
    _, rows, columns = layout.table.shape
    where = {
        (group, block.row, block.column): block for block in layout.blocks(window) for group in block.groups
    }
    for (group, i, j), mine in np.ndenumerate(stage):
        block = where[group, i % rows, j % columns]
        assert (block.known == (stage[:, i, j] <= mine)).all()
        for other in range(len(layout.groups)):
            for di in range(max(-reach, -i), min(reach, height - 1 - i) + 1):
                for dj in range(max(-reach, -j), min(reach, width - 1 - j) + 1):
                    expected = stage[other, i + di, j + dj] < mine
                    assert block.visible[other, di + reach, dj + reach] == expected


@given(layouts(6), st.sampled_from([3, 5]))
def test_blocks_come_in_an_order_in_which_they_can_be_computed(layout, window):
    order = [block.stage for block in layout.blocks(window)]
    assert order == sorted(order)


@given(layouts(9))
def test_a_layout_survives_its_dictionary(layout):
    again = Layout.from_dict(layout.to_dict(), name="another")
    assert again == layout
    assert hash(again) == hash(layout)
    assert again.name == "another"


def test_the_name_is_no_part_of_the_identity():
    one, other = named_layout("checkerboard", 8), tiled_layout(8, np.array([[[0, 1], [1, 0]]]), "mine")
    assert one == other
    assert len({one, other}) == 1
    assert one != named_layout("checkerboard", 9)
    assert one != named_layout("raster", 8)
    assert one != "checkerboard"


@given(SEEDS, st.integers(1, 8), st.integers(1, 4), st.integers(1, 20))
def test_random_layouts_are_decodable_and_reproducible(seed, groups, side, stages):
    made = [random_layout(8, groups, (side, 2), stages, random.Random(seed)) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].channels == 8
    assert made[0].stages(8, 8) <= stages


WRONG = [
    ({"groups": [4], "tile": [[[0, 2]]]}, "Stage 1 is missing"),
    ({"groups": [4], "tile": [[[1]]]}, "Stage 0 is missing"),
    ({"groups": [4], "tile": [[[-1, 0]]]}, "-1 .*negative"),
    ({"groups": [4], "tile": [[[-1]]], "slope": [1, 1]}, "negative"),
    ({"groups": [4], "tile": [[[0]]], "slope": [-1, 1]}, "slope"),
    ({"groups": [4], "tile": [[[0]]], "slope": [1]}, "slope"),
    ({"groups": [4], "tile": [[[0]]], "slope": 3}, "whole number"),
    ({"groups": [4, 0], "tile": [[[0]], [[1]]]}, "positive"),
    ({"groups": [], "tile": []}, "positive|tile"),
    ({"groups": [4], "tile": [[[0]], [[1]]]}, "2 groups, but `groups` lists 1"),
    ({"groups": [4], "tile": [[[0, 1], [1]]]}, "same rows and columns"),
    ({"groups": [2, 2], "tile": [[[0, 1]], [[0]]]}, "same rows and columns"),
    ({"groups": [4], "tile": [[]]}, "tile"),
    ({"groups": [4], "tile": [0]}, "whole number"),
    ({"groups": [4], "tile": [[["a"]]]}, "whole number"),
    ({"groups": [4], "tile": [[[0, 10**20]]]}, "at most 1000000"),
    ({"groups": [4], "tile": [[[0, 10**18]]]}, "stages up to 1000000"),
    ({"groups": [4], "tile": [[[0] * 65]]}, "at most 64 rows and columns"),
    ({"groups": [4], "tile": [[[0]]], "slope": [1, 10**20]}, "1000000 steps of slope"),
    ({"groups": [10**20], "tile": [[[0]]]}, "at most 4096 channels"),
    ({"groups": [4]}, "must be"),
    ({"tile": [[[0]]]}, "must be"),
    ({"groups": [4], "tile": [[[0]]], "tiles": 1}, "must be"),
    ([4], "must be"),
    ("raster", "must be"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_what_cannot_be_decoded_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        Layout.from_dict(content)


@pytest.mark.parametrize(
    "name", ["", "Raster", "channelwise", "channelwise-", "channelwise-x", "channelwise--1"]
)
def test_unknown_names_list_the_known(name):
    with pytest.raises(InputError, match="no layout named"):
        named_layout(name, 8)


@pytest.mark.parametrize("name", ["channelwise-9", "channelwise-0", "elic-10", "channelwise-9-checkerboard"])
def test_groups_that_the_channels_do_not_allow(name):
    with pytest.raises(InputError, match=r"8 channels|at least 9"):
        named_layout(name, 8)


@given(st.integers(1, 60), st.integers(1, 200))
def test_hidden_units_cover_channels_evenly(channels, units):
    owners = unit_channel(units, channels)
    counts = np.bincount(owners, minlength=channels)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("channels", [32, 192])
def test_every_prefix_of_the_units_covers_groups_evenly(channels):
    owners = unit_channel(4 * channels, channels)
    for parts in (2, 3, 4, 8):
        group_of = np.arange(channels) * parts // channels
        shares = np.bincount(group_of) / channels
        for prefix in range(parts, len(owners)):
            counts = np.bincount(group_of[owners[:prefix]], minlength=parts)
            assert np.abs(counts - prefix * shares).max() < 3
