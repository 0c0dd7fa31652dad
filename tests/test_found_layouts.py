"""Layouts that are found: their rate, greedy ladders, VIMCO, the relaxation, and the table they end in."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import SEEDS, layouts
from families import seeded_supernet
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from experiments.layouts.relaxation import relax_layout, relaxed_bits, relaxed_cells
from nas.graph.context import layout_cells
from nas.graph.entropy import bits, coded_range
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.run import Run
from nas.searching.layouts.candidates import (
    LayoutSettings,
    find_layouts,
    has_layouts,
    read_rates,
    write_layouts,
)
from nas.searching.layouts.grouping import StageTables, cells_of, fine_orders, greedy_layouts
from nas.searching.layouts.rate import LayoutRate, calibration_latents
from nas.searching.layouts.vimco import learn_layout, random_starts
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.architecture import Grouping
from nas.spaces.layout import Layout, named_layout, tiled_layout
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.layout_logits import LayoutLogits, vimco_signal

CHANNELS = 32
TINY = SearchSpace.load("joint-ar-tiny")
TWO = Grouping(2, (2, 2), (2,))


@pytest.fixture(scope="module")
def evaluator():
    chelsea = data.chelsea()
    photos = [Photo("a", chelsea[:100, :130]), Photo("b", chelsea[150:246, 200:328])]
    return Evaluator(seeded_supernet(TINY), photos, Objective(0.01))


@pytest.fixture(scope="module")
def rate(evaluator):
    return LayoutRate.of(evaluator, TINY.widest(), side=None)


def tables(grouping: Grouping, stages: int) -> st.SearchStrategy[np.ndarray]:
    size = cells_of(grouping)
    cells = st.lists(st.integers(0, stages - 1), min_size=size, max_size=size)
    return cells.map(lambda found: np.array(found).reshape(grouping.groups, *grouping.tile))


# The rate


@given(layouts(CHANNELS))
def test_the_rate_is_the_whole_passs(evaluator, rate, layout):
    """Cell by cell, some of them known from other layouts, the bits are those of one pass."""
    net = evaluator.supernet
    net.activate(TINY.widest())
    for number in range(2):
        psi, y_hat = evaluator.latents(number, TINY.widest())
        with torch.no_grad():
            scales, means = net.context(psi, y_hat, layout)
            whole = bits(net.gaussian.coded_likelihood(y_hat, scales, means))
        expected = float(whole[0]) / (256 * y_hat[0, 0].numel())
        assert rate.per_photo(layout)[number] == pytest.approx(expected, rel=1e-5)


def test_the_rate_of_a_part_is_coded_within_the_photos_range(evaluator):
    (part,) = calibration_latents(evaluator, TINY.widest(), side=3, photos=1)
    _, y_hat = evaluator.latents(0, TINY.widest())
    assert part.y_hat.shape[-2:] == (3, 3)
    assert part.limit.tolist() == coded_range(y_hat).tolist()


def test_photos_of_several_sizes_keep_their_order(evaluator, rate):
    alone = [
        LayoutRate(rate.context, [part]).per_photo(named_layout("raster", CHANNELS)) for part in rate.latents
    ]
    assert np.concatenate(alone) == pytest.approx(rate.per_photo(named_layout("raster", CHANNELS)))


def test_a_family_without_context_has_no_layouts_rate():
    space = SearchSpace.load("mean-scale-hyperprior-tiny")
    photo = Photo("a", data.chelsea()[:64, :64])
    evaluator = Evaluator(seeded_supernet(space), [photo], Objective(0.01))
    with pytest.raises(InputError, match="no context model"):
        LayoutRate.of(evaluator, space.widest())


@given(layouts(9), st.integers(1, 3), st.integers(1, 3))
def test_a_reduced_layout_decodes_alike(layout, rows, columns):
    """Also when its tile is written out several times over and its groups are cut in two."""
    table = np.tile(layout.table, (1, rows, columns))
    groups = tuple(part for size in layout.groups for part in (size // 2, size - size // 2) if part)
    cut = np.concatenate([table[[g]].repeat(1 + (size > 1), 0) for g, size in enumerate(layout.groups)])
    larger = Layout(groups, layout.slope, tuple(tuple(map(tuple, rows)) for rows in cut.tolist()))
    reduced = larger.reduced()
    for one in (larger, layout):
        assert (
            one.stage_map(7, 8)[one.group_of_channel] == reduced.stage_map(7, 8)[reduced.group_of_channel]
        ).all()
    assert reduced == layout.reduced() == reduced.reduced()


# Greedy grouping


@settings(max_examples=5)
@given(SEEDS)
def test_ladders_are_decodable_nested_in_nothing_but_order(rate, seed):
    grouping = Grouping(2, (1, 2), (4, 3, 2, 1))
    found = greedy_layouts(rate, CHANNELS, grouping, ladders=4, seed=seed)
    assert [f.layout.stages() for f in found] == [4, 3, 2, 1]
    assert [f.layout.name for f in found] == ["greedy-4", "greedy-3", "greedy-2", "greedy-1"]
    assert found[-1].layout == named_layout("none", CHANNELS)
    for one in found:
        assert one.bpp == rate(tiled_layout(CHANNELS, one.table, "again"))
        assert rate(one.layout) == pytest.approx(one.bpp, rel=1e-6)


@pytest.mark.slow
def test_two_stages_of_few_cells_are_found_exactly(rate):
    """By enumeration: greedy grouping and VIMCO from a few starts find the best of all 256 tables."""
    every = [np.array(cells).reshape(2, 2, 2) for cells in itertools.product((0, 1), repeat=8)]
    best = min(rate(tiled_layout(CHANNELS, table, "table")) for table in every)
    assert greedy_layouts(rate, CHANNELS, TWO, rivals=4)[0].bpp <= best * 1.001
    assert learn_layout(rate, CHANNELS, TWO, 2, starts=[None] * 4).bpp <= best * 1.001


@given(tables(Grouping(2, (2, 2)), 4))
def test_a_merge_loses_a_stage_and_a_split_gains_one(table):
    closed = np.unique(table, return_inverse=True)[1].reshape(table.shape)
    some = StageTables(lambda layout: float(layout.table.sum()), CHANNELS)
    count = int(closed.max()) + 1
    if count > 1:
        merged = some.merge(closed)
        assert len(np.unique(merged)) == merged.max() + 1 == count - 1
    split = some.split(closed)
    assert len(np.unique(split)) == split.max() + 1 == count + 1
    moved = some.improve(closed, pairs=True)
    assert len(np.unique(moved)) == moved.max() + 1 == count


def test_fine_orders_differ_and_have_a_stage_for_every_cell():
    orders = list(itertools.islice(fine_orders(Grouping(4, (2, 2)), random.Random(0)), 6))
    assert len({order.tobytes() for order in orders}) == 6
    assert all(sorted(order.ravel()) == list(range(16)) for order in orders)


# VIMCO


@given(st.lists(st.floats(-1e4, 0), min_size=2, max_size=8))
def test_the_signal_is_what_a_sample_adds(log_w):
    count = len(log_w)
    signal = vimco_signal(torch.tensor(log_w, dtype=torch.float64)).tolist()

    def bound(values):
        most = max(values)
        return most + math.log(sum(math.exp(v - most) for v in values) / count)

    for k in range(count):
        others = [v for j, v in enumerate(log_w) if j != k]
        replaced = [*others, sum(others) / (count - 1)]
        assert signal[k] == pytest.approx(bound(log_w) - bound(replaced), rel=1e-6, abs=1e-6)


def test_learning_finds_the_table_that_is_rewarded():
    wanted = np.array([0, 2, 1, 1, 2, 0, 0, 1]).reshape(2, 2, 2)
    logits = LayoutLogits(CHANNELS, TWO, 3, learning_rate=0.2)
    rng = torch.Generator().manual_seed(0)
    for _ in range(200):
        drawn = logits.draw(rng)
        logits.learn(drawn, [50.0 * float((table.numpy() != wanted).sum()) for table in drawn])
    assert (logits.mode() == wanted).all()
    assert logits.certainty() > 0.9


def test_stages_that_no_cell_has_are_closed_up():
    start = np.array([0, 3, 3, 0, 0, 3, 0, 3]).reshape(2, 2, 2)
    logits = LayoutLogits(CHANNELS, TWO, 4, start=start)
    assert logits.mode().max() == 1
    assert logits.layout(start).stages() == 2
    assert logits.to_dict()["name"] == "learned-4"


def test_the_same_seed_learns_the_same(rate):
    starts = [None, *random_starts(TWO, 2, 1, 3)]
    made = [learn_layout(rate, CHANNELS, TWO, 2, starts=starts, steps=4, seed=5) for _ in range(2)]
    assert made[0].bpp == made[1].bpp
    assert (made[0].table == made[1].table).all()


# The relaxation


@given(tables(Grouping(3, (2, 1)), 4), st.sampled_from([3, 5]))
def test_relaxed_masks_of_a_table_are_its_own(table, window):
    layout = tiled_layout(9, table, "table")
    chosen = torch.nn.functional.one_hot(torch.from_numpy(layout.table), 4).float()
    for soft, hard in zip(relaxed_cells(chosen, window), layout_cells(layout, window), strict=True):
        visible = torch.zeros_like(soft.visible) if hard.visible is None else hard.visible
        assert torch.equal(soft.visible, visible.float())
        assert torch.equal(soft.known, hard.known.float())
        assert torch.equal(soft.live, hard.live.float())


def test_a_relaxed_rate_is_the_rate_and_has_a_gradient(rate):
    before = {name: value.clone() for name, value in rate.context.state_dict().items()}
    layout = tiled_layout(CHANNELS, np.array([[[0, 1], [1, 2]], [[1, 0], [2, 1]]]), "table")
    chosen = torch.nn.functional.one_hot(torch.from_numpy(layout.table), 3).float().requires_grad_()
    found = relaxed_bits(rate, layout, chosen)
    found.backward()
    whole = sum(
        value * 256 * part.y_hat[0, 0].numel()
        for value, part in zip(rate.per_photo(layout), rate.latents, strict=True)
    )
    assert float(found.detach()) == pytest.approx(whole, rel=1e-4)
    assert chosen.grad is not None
    assert float(chosen.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in rate.context.parameters())
    assert all(torch.equal(before[name], value) for name, value in rate.context.state_dict().items())


def test_the_relaxation_is_no_worse_than_where_it_began(rate):
    start = np.zeros((2, 2, 2), dtype=np.int64)
    found = relax_layout(rate, CHANNELS, TWO, 2, starts=[start], steps=3)
    assert found.layout.stages() <= 2
    assert found.bpp == rate(tiled_layout(CHANNELS, found.table, "again"))


# Both together, and their file


def test_learned_layouts_are_kept_where_they_are_better(rate, tmp_path):
    space = replace(TINY, grouping=Grouping(2, (2, 2), (4, 2, 1)))
    found = find_layouts(rate, space, LayoutSettings(ladders=1, steps=5))
    greedy = {f.layout.stages(): f.bpp for f in found if f.layout.name.startswith("greedy")}
    assert set(greedy) == {1, 2, 4}
    for one in found:
        if one.layout.name.startswith("learned"):
            assert one.bpp < greedy[one.layout.stages()]
    facts = {"weights": "abc"}
    hand_made = {name: rate(layout) for name, layout in space.layouts.items()}
    write_layouts(tmp_path / "layouts.yaml", found, hand_made, facts)
    rates = read_rates(tmp_path / "layouts.yaml")
    assert rates == pytest.approx({**hand_made, **{one.layout.name: one.bpp for one in found}})
    assert has_layouts(tmp_path / "layouts.yaml", facts)
    assert not has_layouts(tmp_path / "layouts.yaml", {"weights": "other"})
    trained = tiled_layout(CHANNELS, np.array([[[0, 1], [1, 0]]]), "learned-2")
    again = find_layouts(rate, space, LayoutSettings(ladders=1, steps=5), trained=[trained])
    assert [f.layout for f in again if f.layout.name == "learned-2"] == [trained]


def test_a_run_gives_one_order_of_decoding_one_name(tmp_path):
    from nas.training.settings import TrainingSettings

    run = Run.create(tmp_path / "run", TINY, TrainingSettings.make({}).model_dump())
    checkerboard = {"groups": [16, 16], "slope": [0, 0], "tile": [[[0, 1], [1, 0]], [[0, 1], [1, 0]]]}
    other = {"groups": [32], "slope": [0, 0], "tile": [[[0], [1]]]}
    found = [
        Layout.from_dict(c, name=n).reduced() for c, n in ((checkerboard, "greedy-2"), (other, "learned-2"))
    ]
    entries = [{"name": layout.name, **layout.to_dict()} for layout in found]
    from nas.support.files import write_yaml

    write_yaml(run.layouts_path, {"layouts": entries})
    assert set(run.space.layouts) - set(TINY.layouts) == {"learned-2"}
    write_yaml(run.layouts_path, {"layouts": [{"groups": [32]}]})
    with pytest.raises(InputError, match="damaged"):
        _ = run.space
