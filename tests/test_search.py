"""The search: exact cached scores, the front, layouts by grouping, the sampler, answers to targets."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import architectures
from families import TRAINED
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from small_run import QUICK

from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.quantity import macs
from nas.cost.exact.reach import ReachableCosts
from nas.graph.entropy import bits
from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.metrics.pareto import hypervolume, non_dominated
from nas.photos.images import Photo, psnr
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.run import FRONT_COLUMNS, Run
from nas.searching.answers import FILL_SCORES, LITTLE, MUCH, NEAR, Answers
from nas.searching.layouts.grouping import greedy_layouts
from nas.searching.layouts.rate import LayoutRate
from nas.searching.sampler.logits import LogitSettings, learn_logits
from nas.searching.scoring.evaluator import Evaluator, Score
from nas.searching.scoring.scores import Scores, known_scores, read_scores
from nas.searching.searcher import Searcher
from nas.searching.sources import Sources
from nas.spaces.architecture import Grouping
from nas.spaces.budget import Amount, Budget
from nas.support.errors import UnreachableBudgetError
from nas.support.progress import silent
from nas.training.start import TrainingRequest, start_training
from nas.weights.checkpoint import Checkpoint, load_weights

SMALL_LOGITS = LogitSettings(steps=3, batch=2)
LMBDA = 0.01


@pytest.fixture(scope="module")
def photos():
    chelsea = data.chelsea()
    return [Photo("a", chelsea[:100, :130]), Photo("b", chelsea[150:214, 200:264])]


@pytest.fixture(scope="module")
def evaluator(supernet, photos):
    return Evaluator(supernet, photos, Objective(LMBDA))


@pytest.fixture(scope="module")
def table(tiny_space):
    return measured_costs(tiny_space)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_space):
    """A run trained for a few real steps on the bundled photos, in which few layouts are to be found."""
    out = tmp_path_factory.mktemp("search") / "run"
    space = replace(tiny_space, grouping=Grouping(groups=2, tile=(2, 2), stages=(4, 2)))
    settings = {"steps": 12, "crop": 64, "batch": 2, "architectures": 2, "learning_rate": 2e-3}
    start_training(TrainingRequest(space, "bundled", out, settings=settings, device="cpu"))
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
    values = score.bpp, score.psnr, score.rd_loss
    for found, expected in zip(values, np.mean(rows, axis=0), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_small_cache_changes_nothing(supernet, photos, tiny_space):
    rng = random.Random(3)
    drawn = [tiny_space.sample(rng) for _ in range(6)]
    large = Evaluator(supernet, photos, Objective(LMBDA))
    small = Evaluator(supernet, photos, Objective(LMBDA), cache_bytes=1)
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
    keep = non_dominated(costs, losses)
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


def learned(supernet, photos, table, targets=(), **settings):
    settings = LogitSettings(batch=1, **settings)
    return learn_logits(
        supernet,
        photos,
        table,
        objective=Objective(LMBDA),
        scope="total",
        targets=targets,
        seed=0,
        settings=settings,
    )


def test_dear_macs_make_narrow_widths(supernet, photos, table):
    """Each rung's MACs are dearer and its expected cost is less; weights stay as they were."""
    before = supernet.g_a[0].weight.clone()
    rungs = learned(supernet, photos, table, steps=12, learning_rate=0.5, ladder=(1.0, 1e8))
    costs = [rung.expected_cost for rung in rungs]
    assert costs[-1] < 0.8 * costs[0]
    assert [rung.lambda_c for rung in rungs] == sorted(rung.lambda_c for rung in rungs)
    assert all(sum(p) == pytest.approx(1, abs=1e-5) for p in rungs[0].probabilities().values())
    assert torch.equal(before, supernet.g_a[0].weight)
    assert all(width.gates is None for name, width in supernet.widths.items() if "." in name)


def test_dual_ascent_finds_the_price_of_every_target(tiny_space, photos, table):
    """From the dearest target on, each set of logits ends near its own, where width is worth something."""
    supernet = Supernet(tiny_space)
    load_weights(supernet, Checkpoint.read(TRAINED).tensors, source="zoo:joint-ar-tiny")
    ends = [table.kmac_px(a) for a in (table.space.narrowest(), table.space.widest())]
    targets = [ends[0] + share * (ends[1] - ends[0]) for share in (0.25, 0.6)]
    rungs = learned(supernet, photos, table, targets, steps=40, learning_rate=0.3)
    assert [rung.target for rung in rungs] == targets[::-1]
    for rung in rungs:
        assert rung.expected_cost == pytest.approx(rung.target, rel=0.25)


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


# The whole


def test_a_search_from_beginning_to_end(run):
    searcher = Searcher(run, device="cpu")
    sources = Sources(layout_settings=QUICK.layout_settings, logit_settings=SMALL_LOGITS)
    budget = Budget("x", "decoder", (Amount.parse("1.5"), Amount.parse("60%")))
    result = searcher.search(budget, trials=8, sources=sources, seed=0)
    rows = read_scores(run.scores_path)
    assert len(rows) == len({row["key"] for row in rows}) == len(result.scored)
    assert {name for name in run.space.layouts if name.startswith("greedy")} == {"greedy-4", "greedy-2"}
    assert list(run.front().columns) == list(FRONT_COLUMNS)
    for choice, limit in zip(result.choices, (1.5, 0.6 * result.ranges["decoder"].most), strict=True):
        near = choice.nearest or choice
        assert NEAR[0] * limit <= near.kmac_px["decoder"] <= limit
        costs = result.scored["decoder_kmac_px"]
        assert near.rd_loss == result.scored[costs.between(NEAR[0] * limit, limit)]["rd_loss"].min()
        assert choice.rd_loss == result.scored[costs <= limit]["rd_loss"].min()
        assert (choice.nearest is None) == (near.rd_loss == choice.rd_loss)
    again = Searcher(run, device="cpu").search(budget, trials=3, sources=sources, seed=0)
    keys = [row["key"] for row in read_scores(run.scores_path)]
    assert len(keys) == len(set(keys)) >= len(rows) + 3
    assert len(again.scored) == len(keys)
    assert known_scores(run.scores_path, run.space, run.fingerprint).keys() >= {
        c.architecture for c in again.choices
    }


class DearerIsWorse(Evaluator):
    """A loss that grows with the cost, so that the best architecture is never close to a target."""

    def __init__(self, costs, *given):
        super().__init__(*given)
        self.costs = costs  # of found layouts, too

    def score(self, architecture):
        return Score(1.0, 30.0, self.costs.kmac_px(architecture, "decoder"))


def test_a_question_asked_again_has_the_same_answer_and_scores_nothing(run, supernet, photos, tmp_path):
    searcher = Searcher(run, device="cpu")
    question = searcher.question(Budget.of("60%", "decoder"))
    evaluator = DearerIsWorse(searcher.costs, supernet, photos, Objective(LMBDA))
    scores = Scores(tmp_path / "scores.csv", evaluator, run.fingerprint)
    answers = Answers(searcher.costs, scores, {})
    scores.of(searcher.space.narrowest())
    first = answers.choose(question, question.targets[0], silent)
    assert first.nearest is not None
    assert len(scores) == 1 + FILL_SCORES
    assert answers.choose(question, question.targets[0], silent) == first
    assert len(scores) == 1 + FILL_SCORES


class EncodersHardlyMatter(Evaluator):
    """A loss that falls with the decoder's cost, and by a thousandth at most with the encoder's."""

    def __init__(self, costs, *given):
        super().__init__(*given)
        self.costs = costs

    def score(self, architecture):
        scopes = self.costs.scopes(architecture)
        return Score(1.0, 30.0, 1 / scopes["decoder"] + 1e-3 / (1 + scopes["encoder"]) / scopes["decoder"])


def test_an_architecture_that_is_hardly_worse_and_much_cheaper_is_shown(run, supernet, photos, tmp_path):
    searcher = Searcher(run, device="cpu")
    space, costs = searcher.space, searcher.costs
    question = searcher.question(Budget.of("100%", "decoder"))
    evaluator = EncodersHardlyMatter(costs, supernet, photos, Objective(LMBDA))
    scores = Scores(tmp_path / "scores.csv", evaluator, run.fingerprint)
    wide, narrow = space.indexes(space.widest()), space.indexes(space.narrowest())
    of_encoder = [slot.name.startswith(("g_a", "h_a")) for slot in space.slots]
    mixed = [low if own else high for low, high, own in zip(narrow, wide, of_encoder, strict=False)]
    cheap = space.at([*mixed, *wide[len(mixed) :]])
    for architecture in (space.widest(), cheap, space.narrowest()):
        scores.of(architecture)
    answers = Answers(costs, scores, {})
    choice = answers.choose(question, question.targets[0], silent)
    assert choice.architecture == space.widest()
    assert choice.frugal is not None
    assert choice.frugal.architecture == cheap
    assert choice.frugal.rd_loss <= (1 + LITTLE) * choice.rd_loss
    assert choice.frugal.kmac_px["total"] <= MUCH * choice.kmac_px["total"]
    assert list(choice.answers())[-1].endswith("% more loss")
    # a limit on the total itself leaves nothing to save
    question = searcher.question(Budget.of("100%", "total"))
    assert answers.choose(question, question.targets[0], silent).frugal is None


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
    reach = ReachableCosts(macs(table, scope))
    most = reach.least + round(share * (reach.most - reach.least))
    near = int(np.ceil(NEAR[-1] * most))
    found = reach.draw(near, most, 3, np.random.default_rng(0))
    assert bool(found) == (reach.count(near, most) > 0)
    assert all(near <= table.macs(architecture, scope) <= most for architecture in found)
