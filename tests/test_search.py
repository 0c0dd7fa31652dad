"""The search: exact cached scores, the front, layouts by grouping, the sampler, answers to targets."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from drawn import architectures
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from nas.budget import Amount, Budget
from nas.cost.quantity import macs
from nas.cost.reach import Reach
from nas.cost.tabulate import measured_costs
from nas.errors import UnreachableBudgetError
from nas.graph.entropy import bits
from nas.images import Photo, pad, psnr, to_pixels, to_tensor
from nas.run import Run
from nas.search.evaluator import Evaluator
from nas.search.front import COLUMNS, hypervolume, pareto
from nas.search.grouping import greedy_layouts
from nas.search.layout_rate import LayoutRate
from nas.search.layouts import LayoutSettings
from nas.search.logits import LogitSettings, learn_logits
from nas.search.sampler import ArchitectureSampler, ExhaustedError, quiet_optuna
from nas.search.scores import known_scores, read_scores
from nas.search.searcher import NEAR, Searcher, Sources
from nas.space import Grouping
from nas.training.start import TrainingRequest, start_training

SMALL_LOGITS = LogitSettings(steps=3, batch=2)
LMBDA = 0.01


@pytest.fixture(scope="module")
def photos():
    chelsea = data.chelsea()
    return [Photo("a", chelsea[:100, :130]), Photo("b", chelsea[150:214, 200:264])]


@pytest.fixture(scope="module")
def evaluator(supernet, photos):
    return Evaluator(supernet, photos, lmbda=LMBDA)


@pytest.fixture(scope="module")
def table(tiny_space):
    return measured_costs(tiny_space)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run trained for a few real steps on the bundled photos."""
    out = tmp_path_factory.mktemp("search") / "run"
    settings = {"steps": 12, "crop": 64, "batch": 2, "architectures": 2, "learning_rate": 2e-3}
    start_training(TrainingRequest("joint-ar-tiny", "bundled", out, settings=settings, device="cpu"))
    return Run.open(out)


# Scores


@given(st.data())
def test_a_cached_score_is_the_extracted_codecs(evaluator, photos, tiny_space, draw_from):
    architecture = draw_from.draw(architectures(tiny_space))
    score = evaluator.score(architecture)
    plain = evaluator.supernet.extract(architecture)
    rows = []
    for photo in photos:
        x = to_tensor(photo.pixels)
        with torch.no_grad():
            output = plain(pad(x, tiny_space.family.alignment), tiny_space.layout(architecture), coded=True)
        x_hat = output["x_hat"][..., : x.shape[-2], : x.shape[-1]].clamp(0, 1)
        bpp = sum(float(bits(likelihood)[0]) for likelihood in output["likelihoods"].values()) / photo.size
        error = float((x - x_hat).square().mean())
        rows.append((bpp, psnr(photo.pixels, to_pixels(x_hat)), bpp + LMBDA * 255**2 * error))
    for found, expected in zip(vars(score).values(), np.mean(rows, axis=0), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_small_cache_changes_nothing(supernet, photos, tiny_space):
    rng = random.Random(3)
    drawn = [tiny_space.sample(rng) for _ in range(6)]
    large = Evaluator(supernet, photos, lmbda=LMBDA)
    small = Evaluator(supernet, photos, lmbda=LMBDA, cache_bytes=1)
    assert [large.score(a) for a in drawn] == [small.score(a) for a in drawn]


def test_scoring_leaves_the_supernet_as_it_was(evaluator, tiny_space):
    before = {name: value.clone() for name, value in evaluator.supernet.state_dict().items()}
    evaluator.score(tiny_space.narrowest())
    after = evaluator.supernet.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


# The front


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats(points):
    costs, losses = zip(*points, strict=True)
    keep = pareto(costs, losses)
    kept = {point for point, on in zip(points, keep, strict=True) if on}
    for cost, loss in points:
        beaten = any((c <= cost and x < loss) or (c < cost and x <= loss) for c, x in points)
        assert ((cost, loss) in kept) != beaten
    assert sum(keep) == len(kept)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_hypervolume_counts_dominated_cells(points):
    costs, losses = zip(*points, strict=True)
    cells = sum(any(c <= i and x <= j for c, x in points) for i in range(10) for j in range(10))
    assert hypervolume(costs, losses, (10, 10)) == cells


# Logits


def test_dear_macs_make_narrow_widths(supernet, photos, table):
    """At a price far above what quality is worth, the expected cost falls; weights stay as they were."""
    before = supernet.g_a[0].weight.clone()
    settings = LogitSettings(steps=8, batch=1, learning_rate=0.5)
    rungs = learn_logits(
        supernet,
        photos,
        table,
        lmbda=LMBDA,
        metric="mse",
        scope="total",
        price=1e4,
        seed=0,
        settings=settings,
    )
    costs = [rung.expected_cost for rung in rungs]
    assert costs[-1] < 0.5 * costs[0] or costs[-1] < 1.0
    assert [rung.lambda_c for rung in rungs] == sorted(rung.lambda_c for rung in rungs)
    assert all(sum(p) == pytest.approx(1, abs=1e-5) for p in rungs[0].probabilities().values())
    assert torch.equal(before, supernet.g_a[0].weight)
    assert all(width.gates is None for name, width in supernet.widths.items() if "." in name)


# Grouping


def test_greedy_layouts_beat_the_one_stage_they_all_contain(evaluator, tiny_space):
    rate = LayoutRate.of(evaluator, tiny_space.widest(), side=4)
    grouping = Grouping(groups=2, tile=(2, 2), stages=(4, 2, 1))
    found = greedy_layouts(rate, tiny_space.y_channels, grouping, ladders=2, seed=0)
    assert [len(np.unique(g.layout.table)) for g in found] == [4, 2, 1]
    assert [g.layout.name for g in found] == ["greedy-4", "greedy-2", "greedy-1"]
    for g in found:
        assert g.bpp == pytest.approx(rate(g.layout))
        table = g.layout.table
        for cell in np.ndindex(table.shape):  # no single move helps
            if (table == table[cell]).sum() > 1:
                for stage in range(int(table.max()) + 1):
                    moved = table.copy()
                    moved[cell] = stage
                    tile = tuple(tuple(map(tuple, rows)) for rows in moved.tolist())
                    assert rate(replace(g.layout, tile=tile)) >= g.bpp * (1 - 2e-6)


# The sampler


@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_the_sampler_never_repeats_and_stays_within_the_budget(tiny_space, table, tmp_path, storage):
    quiet_optuna()
    costs, limit = table, 3.0
    sampler = ArchitectureSampler(tiny_space, seed=1, allowed=lambda a: costs.kmac_px(a) <= limit)
    url = f"sqlite:///{tmp_path}/study.db" if storage else None
    study = optuna.create_study(sampler=sampler, storage=url, directions=["minimize", "minimize"])
    drawn = []
    count = 12 if storage else 25  # a database is slow
    for _ in range(count):
        trial = study.ask(sampler.distributions())
        architecture = sampler.architecture(trial.params)
        cost = costs.kmac_px(architecture)
        drawn.append(architecture)
        study.tell(trial, [cost, 10 - cost])
    assert len(set(drawn)) == count
    assert all(costs.kmac_px(a) <= limit for a in drawn)


def test_a_restored_sampler_goes_on_alike(tiny_space):
    def ask(sampler, study):
        trial = study.ask(sampler.distributions())
        study.tell(trial, [sum(trial.params.values()), 1.0])
        return sampler.architecture(trial.params)

    one = ArchitectureSampler(tiny_space, seed=4)
    study = optuna.create_study(sampler=one, directions=["minimize", "minimize"])
    for _ in range(5):
        ask(one, study)
    other = ArchitectureSampler(tiny_space, seed=99)
    other.restore(one.state())
    copy = optuna.create_study(sampler=other, directions=["minimize", "minimize"])
    copy.add_trials(study.get_trials())
    assert [ask(one, study) for _ in range(5)] == [ask(other, copy) for _ in range(5)]


def test_an_exhausted_space_says_so(tiny_space):
    layouts = {name: tiny_space.layouts[name] for name in ("none", "raster")}
    two = replace(tiny_space.only(tiny_space.widest()), layouts=layouts)
    sampler = ArchitectureSampler(two, seed=0)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    for _ in range(2):
        study.tell(study.ask(sampler.distributions()), [1.0, 1.0])
    with pytest.raises(ExhaustedError):
        study.ask(sampler.distributions())


# The whole


def test_a_search_from_beginning_to_end(run):
    searcher = Searcher(run, device="cpu")
    sources = Sources(layout_settings=LayoutSettings(ladders=1, steps=2), logit_settings=SMALL_LOGITS)
    budget = Budget("x", "decoder", (Amount.parse("1.5"), Amount.parse("60%")))
    result = searcher.search(budget, trials=8, sources=sources, seed=0)
    rows = read_scores(run.scores_path)
    assert len(rows) == len({row["key"] for row in rows}) == len(result.scored)
    assert {name for name in run.space.layouts if name.startswith("greedy")} == {
        "greedy-8",
        "greedy-4",
        "greedy-2",
    }
    assert list(run.front().columns) == list(COLUMNS)
    for choice, limit in zip(result.choices, (1.5, 0.6 * result.ranges["decoder"].most), strict=True):
        assert NEAR * limit <= choice.kmac_px["decoder"] <= limit
        costs = result.scored["decoder_kmac_px"]
        assert choice.rd_loss == result.scored[costs.between(NEAR * limit, limit)]["rd_loss"].min()
        assert choice.best.rd_loss == result.scored[costs <= limit]["rd_loss"].min()
        assert (choice.cheaper is None) == (choice.best.rd_loss == choice.rd_loss)
    again = Searcher(run, device="cpu").search(budget, trials=3, sources=sources, seed=0)
    keys = [row["key"] for row in read_scores(run.scores_path)]
    assert len(keys) == len(set(keys)) >= len(rows) + 3
    assert len(again.scored) == len(keys)
    assert known_scores(run.scores_path, run.space, run.fingerprint).keys() >= {
        c.architecture for c in again.choices
    }


def test_unreachable_budgets_name_the_range_and_score_nothing(run):
    searcher = Searcher(run, device="cpu")
    before = len(read_scores(run.scores_path))
    with pytest.raises(UnreachableBudgetError, match=r"the least is [0-9.]+ kMAC/px, the most [0-9.]+"):
        searcher.search(Budget.of("0.01"), trials=5)
    assert len(read_scores(run.scores_path)) == before
    least = searcher.ranges()["total"].least
    assert searcher.question(Budget.of(f"{np.ceil(least * 1000) / 1000}")).targets


@given(st.floats(0.02, 0.98), st.sampled_from(["encoder", "decoder", "total"]))
def test_wherever_the_space_has_one_within_two_per_cent_it_is_found(table, share, scope):
    reach = Reach(macs(table, scope))
    most = reach.least + round(share * (reach.most - reach.least))
    near = int(np.ceil(NEAR * most))
    found = reach.draw(near, most, 3, np.random.default_rng(0))
    assert bool(found) == (reach.count(near, most) > 0)
    assert all(near <= table.macs(architecture, scope) <= most for architecture in found)
