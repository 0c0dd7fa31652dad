"""What is scored next: the surrogate, the expected gain, the proposals and the Optuna sampler."""

from __future__ import annotations

import collections
import copy
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from drawn import architectures
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.quantity import Bound, macs
from nas.metrics.pareto import hypervolume
from nas.profiling.quantities import Question
from nas.searching.sampler.acquisition import HypervolumeImprovement, TargetImprovement, expected_improvement
from nas.searching.sampler.attempts import ATTEMPTS
from nas.searching.sampler.logits import WidthLogits
from nas.searching.sampler.moves import crosses, exchanges, neighbours
from nas.searching.sampler.pareto import ParetoSampler, quiet_optuna
from nas.searching.sampler.prior import OPEN, LogitPrior
from nas.searching.sampler.proposer import ExhaustedError, Proposer
from nas.searching.sampler.rows import as_rows, distances, proposer
from nas.searching.sampler.surrogate import Surrogate
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

SHAPES = st.lists(st.integers(2, 4), min_size=2, max_size=4)
SHAPE = (4, 4, 3, 3)


@pytest.fixture(scope="module")
def table(tiny_space):
    return measured_costs(tiny_space)


def apart(count):
    places = np.linspace(0, 1, count)
    return np.abs(places[:, None] - places)


def every_row(shape):
    return np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), 1)


def costs(rows):
    """A cost that tells most rows apart."""
    return (rows * np.array([5.0, 3.0, 2.0, 1.3])[: rows.shape[1]]).sum(1) + 1


def losses(rows):
    """More width is better, less and less, and layers hold each other back."""
    lacks = 1 / (1 + rows)
    return 0.5 + (lacks * np.array([0.4, 0.3, 0.3, 0.2])[: rows.shape[1]]).sum(1) + lacks.max(1) * 0.3


def small(seed=0, acquisition=None, shape=SHAPE, **options):
    slots = {f"slot_{k}": apart(count) for k, count in enumerate(shape)}
    return Proposer(slots, costs, acquisition or HypervolumeImprovement(40.0), seed=seed, **options)


def drawn(found, number):
    """So many proposals, one after the other."""
    rows = []
    for _ in range(number):
        scored = found.rows(rows)
        rows.append(found.propose(scored, losses(scored)))
    return rows


# The surrogate


@given(SHAPES, st.integers(0, 999))
def test_the_surrogate_goes_through_what_it_was_shown(shape, seed):
    rng = np.random.default_rng(seed)
    rows = every_row(shape)
    rows = rows[rng.permutation(len(rows))[: max(3, len(rows) // 3)]]
    values = np.log(losses(rows))
    model = Surrogate([apart(count) for count in shape])
    model.fit(rows, values)
    model.observe(rows, values)
    mean, deviation = model.predict(rows)
    spread = values.std() + 1e-9
    assert np.abs(mean - values).max() < 0.02 * spread + 1e-6
    elsewhere = model.predict(every_row(shape))[1]
    assert (deviation <= elsewhere.max() + 1e-12).all()
    assert deviation.max() < 0.05 * spread + 1e-6


@given(st.integers(0, 999))
def test_the_surrogates_slopes_are_those_of_its_evidence(seed):
    """Against differences, at random parameters."""
    rng = np.random.default_rng(seed)
    model = Surrogate([apart(count) for count in SHAPE])
    rows = every_row(SHAPE)[rng.permutation(math.prod(SHAPE))[:20]]
    hot, values = model._hot(rows), np.log(losses(rows))
    at = rng.uniform(-1.5, 1.0, 2 * len(SHAPE))
    _, slopes = model._evidence(at, hot, values)
    for place in range(len(at)):
        step = np.zeros_like(at)
        step[place] = 1e-5
        above, below = (model._evidence(at + sign * step, hot, values)[0] for sign in (1, -1))
        assert slopes[place] == pytest.approx((above - below) / 2e-5, rel=1e-3, abs=1e-4)


def test_the_surrogate_guesses_what_it_was_not_shown():
    """From a fifth of all rows, three times better than the mean of what was seen."""
    rows = every_row(SHAPE)
    rows = rows[np.random.default_rng(1).permutation(len(rows))]
    values = np.log(losses(rows))
    model = Surrogate([apart(count) for count in SHAPE])
    model.fit(rows[:30], values[:30])
    model.observe(rows[:30], values[:30])
    mean, deviation = model.predict(rows[30:])
    errors = mean - values[30:]
    assert np.sqrt((errors**2).mean()) < values.std() / 3
    assert 0.3 < np.sqrt(((errors / deviation) ** 2).mean()) < 3  # and it knows how well


# The gain


POINTS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=12)


@given(POINTS, st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_a_sure_gain_is_the_growth_of_the_hypervolume(points, one):
    """The reference is the dearest cost there is, and the worst loss that is known."""
    known = tuple(np.array(column, dtype=float) for column in zip(*points, strict=True))
    most, worst = 31.0, known[1].max()
    after = hypervolume([*known[0], one[0]], [*known[1], one[1]], (most, worst))
    grown = after - hypervolume(*known, (most, worst))
    cost, loss = (np.array([float(value)]) for value in one)
    gain = HypervolumeImprovement(most).improvement(known, cost, loss, np.array([1e-12]))
    assert gain[0] == pytest.approx(grown, abs=1e-9)


@given(POINTS, st.tuples(st.integers(1, 30), st.integers(1, 30)), st.sets(st.integers(1, 30), min_size=1))
def test_a_sure_gain_at_targets_is_what_their_least_losses_fall_by(points, one, targets):
    known = tuple(np.array(column, dtype=float) for column in zip(*points, strict=True))

    def least(target, points):
        return min((loss for cost, loss in points if cost <= target), default=known[1].max())

    fallen = sum(max(0, least(t, points) - least(t, [*points, one])) for t in targets)
    cost, loss = (np.array([float(value)]) for value in one)
    gain = TargetImprovement(sorted(targets)).improvement(known, cost, loss, np.array([1e-12]))
    assert gain[0] == pytest.approx(fallen, abs=1e-9)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.05, 2))
def test_improvement_is_the_mean_of_what_draws_fall_by(level, mean, deviation):
    draws = mean + deviation * np.random.default_rng(0).standard_normal(200_000)
    expected = np.maximum(level - draws, 0).mean()
    found = expected_improvement(np.array([level]), np.array([mean]), np.array([deviation]))
    assert found[0, 0] == pytest.approx(expected, abs=0.01 * deviation)


# Moves


@given(SHAPES, st.integers(0, 999))
def test_neighbours_are_all_that_is_one_step_away(shape, seed):
    rng = np.random.default_rng(seed)
    row = rng.integers(0, shape)
    last = len(shape) - 1
    found = set(map(tuple, neighbours(row[None], shape, (last,)).tolist()))
    wanted = {
        tuple(other)
        for other in every_row(shape).tolist()
        if (np.abs(other - row)[:last].sum() == 1 and other[last] == row[last])
        or (np.abs(other - row)[:last].sum() == 0 and other[last] != row[last])
    }
    assert found == wanted
    parents = rng.integers(0, shape, (5, len(shape)))
    for moved in (exchanges(parents, shape, 50, rng), crosses(parents, 50, rng)):
        assert (moved >= 0).all()
        assert (moved < np.array(shape)).all()


# Proposals


@given(st.integers(0, 99), st.sampled_from([HypervolumeImprovement(40.0), TargetImprovement((9.0, 15.0))]))
@settings(max_examples=10)
def test_every_allowed_row_is_proposed_once_and_then_no_more(seed, acquisition):
    shape, limit = (3, 2, 3), 15.0
    found = small(seed, acquisition, shape, allowed=lambda rows: costs(rows) <= limit)
    wanted = [tuple(row) for row in every_row(shape).tolist() if costs(np.array([row]))[0] <= limit]
    rows = drawn(found, len(wanted))
    assert sorted(rows) == sorted(wanted)
    with pytest.raises(ExhaustedError):
        found.propose(found.rows(rows), losses(found.rows(rows)))


def test_what_is_wanted_first_comes_first_and_what_is_pending_does_not_come_again():
    first = [(0, 0, 0, 0), (3, 3, 2, 2), (1, 1, 1, 1)]
    found = small(first=first, allowed=lambda rows: costs(rows) < 20)
    assert drawn(found, 2) == [(0, 0, 0, 0), (1, 1, 1, 1)]  # the widest is too dear
    rows = found.rows(drawn(found, 12))
    one = found.propose(rows, losses(rows))
    assert found.propose(rows, losses(rows), found.rows([one])) != one


def test_few_scores_find_the_whole_front():
    """Of 144 rows the front is nearly found by scoring a third."""
    rows = every_row(SHAPE)
    reference = (40.0, losses(rows).max())
    exact = hypervolume(costs(rows), losses(rows), reference)
    for seed in range(3):
        found = small(seed)
        scored = found.rows(drawn(found, 48))
        assert hypervolume(costs(scored), losses(scored), reference) > 0.99 * exact


@given(st.integers(0, 20), st.integers(1, 15))
@settings(max_examples=8)
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(seed, cut):
    whole = drawn(small(seed), 18)
    again = small(seed)
    rows = again.rows(whole[:cut])
    assert again.propose(rows, losses(rows)) == whole[cut]


# Spaces as rows


@given(st.data())
def test_rows_cost_and_are_allowed_as_their_architectures(tiny_space, table, draw_from):
    found = draw_from.draw(st.lists(architectures(tiny_space), min_size=1, max_size=5))
    limit = draw_from.draw(st.floats(0.2, 3))
    rows, quantity = as_rows(tiny_space, found), macs(table, "decoder")
    within = FeasibleSet(tiny_space, [Bound(quantity, quantity.to_integer(limit))])
    assert quantity.of_rows(rows).tolist() == [quantity.of(architecture) for architecture in found]
    assert within.allows_rows(rows).tolist() == [within.allows(architecture) for architecture in found]


def test_rows_are_settled_as_architectures_are():
    known = SearchSpace.load("mean-scale-hyperprior-tiny").to_dict()
    known["widths"]["hyperprior"] = [0, 1]
    space = SearchSpace.from_dict(known, name="optional")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, space.shape, (50, len(space.shape)))
    settled = space.settle_rows(rows)
    assert settled.tolist() == [list(space.indexes(space.at(row))) for row in rows.tolist()]
    assert (settled != rows).any()


def test_distances_are_of_widths_in_octaves_and_of_layouts_in_rate(tiny_space):
    rates = {name: 0.5 + 0.1 * place for place, name in enumerate(tiny_space.layout_names)}
    for found in (distances(tiny_space, {}), distances(tiny_space, rates)):
        assert tuple(len(between) for between in found.values()) == tiny_space.shape
        for between in found.values():
            assert np.allclose(between, between.T)
            assert (between.diagonal() == 0).all()
            assert between[0].argmax() == len(between) - 1
            off = between[~np.eye(len(between), dtype=bool)]
            assert (off > 0).all()


@given(st.integers(0, 99))
@settings(max_examples=3)
def test_proposals_for_a_space_answer_its_question(tiny_space, table, seed):
    total, decoder = macs(table, "total"), macs(table, "decoder")
    within = FeasibleSet(tiny_space, [Bound(decoder, decoder.to_integer(1.0))])
    question = Question(total, within, (total.to_integer(2.0),), within.span(total))
    found = proposer(tiny_space, question, {}, first=tiny_space.baselines(), seed=seed)
    rows: list[tuple[int, ...]] = []
    for _ in range(20):
        scored = found.rows(rows)
        rows.append(found.propose(scored, 1 + 1 / (1.0 + scored.sum(1))))
    for row in rows:
        architecture = tiny_space.at(row)
        assert tiny_space.indexes(architecture) == row
        assert decoder.value(architecture) <= 1.0
        assert total.value(architecture) <= 2.0
    assert len(set(rows)) == 20


# The prior


def test_a_prior_is_the_mixture_of_its_rungs(tiny_space):
    rng = np.random.default_rng(3)
    rungs = [
        WidthLogits(
            price, 1.0, {s.name: rng.normal(size=len(s.candidates)).tolist() for s in tiny_space.slots}
        )
        for price in (0.1, 1.0)
    ]
    prior = LogitPrior(tiny_space, rungs)
    rows = prior.draw(40_000, rng)
    assert (rows >= 0).all()
    assert (rows < np.array(tiny_space.shape)).all()
    for place, slot in enumerate(tiny_space.slots):
        share = np.bincount(rows[:, place], minlength=len(slot.candidates)) / len(rows)
        wanted = np.mean([rung.probabilities()[slot.name] for rung in rungs], axis=0)
        assert share == pytest.approx((1 - OPEN) * wanted + OPEN / len(wanted), abs=0.02)
    one = rows[:1]
    by_hand = [
        math.prod(
            (1 - OPEN) * rung.probabilities()[slot.name][one[0, place]] + OPEN / len(slot.candidates)
            for place, slot in enumerate(tiny_space.slots)
        )
        for rung in rungs
    ]
    assert prior.log_density(one)[0] == pytest.approx(math.log(sum(by_hand)))


def test_a_prior_is_heard_at_first_and_outvoted_in_time():
    """One that is sure of the narrowest: early proposals follow it, the front is found all the same."""

    class Narrow:
        def draw(self, number, rng):
            return np.minimum(rng.integers(0, SHAPE, (number, 4)), rng.integers(0, SHAPE, (number, 4)))

        def log_density(self, rows):
            return -1.5 * rows.sum(1).astype(float)

    with_prior, without = (small(2, prior=prior) for prior in (Narrow(), None))
    early = [np.array(drawn(found, 16)).sum() for found in (with_prior, without)]
    assert early[0] < early[1]
    rows = every_row(SHAPE)
    reference = (40.0, losses(rows).max())
    scored = with_prior.rows(drawn(with_prior, 60))
    exact = hypervolume(costs(rows), losses(rows), reference)
    assert hypervolume(costs(scored), losses(scored), reference) > 0.99 * exact


# The sampler


@pytest.fixture(scope="module", autouse=True)
def quiet():
    quiet_optuna()


def study_of(sampler, **options):
    return optuna.create_study(sampler=sampler, directions=["minimize", "minimize"], **options)


def objective(trial):
    row = np.array([[trial.suggest_int(f"slot_{k}", 0, count - 1) for k, count in enumerate(SHAPE)]])
    return costs(row)[0], losses(row)[0]


def test_the_sampler_serves_optunas_own_loop():
    sampler = ParetoSampler(small())
    study = study_of(sampler)
    study.optimize(objective, n_trials=30)
    rows = [sampler.row(trial) for trial in study.trials]
    assert len(set(rows)) == 30
    assert rows == drawn(small(), 30)


@pytest.mark.parametrize("kept", ["journal", "sqlite"])
def test_a_study_goes_on_alike_in_another_process(tmp_path, kept):
    """Whatever became of the sampler that began it: it held nothing."""
    if kept == "journal":
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
        storage = optuna.storages.JournalStorage(backend)
    else:
        storage = f"sqlite:///{tmp_path}/study.db"
    study_of(ParetoSampler(small(5)), storage=storage, study_name="s").optimize(objective, n_trials=9)
    again = optuna.load_study(study_name="s", storage=storage, sampler=ParetoSampler(small(5)))
    again.optimize(objective, n_trials=5)
    sampler = ParetoSampler(small(5))
    assert [sampler.row(trial) for trial in again.trials] == drawn(small(5), 14)


def test_failed_trials_are_as_if_they_had_not_been_and_running_ones_count():
    sampler = ParetoSampler(small())
    study = study_of(sampler)
    study.optimize(objective, n_trials=10)
    lost = study.ask(sampler.distributions())
    running = study.ask(sampler.distributions())
    assert sampler.row(running) != sampler.row(lost)
    study.tell(lost, state=TrialState.FAIL)
    study.tell(running, state=TrialState.FAIL)
    assert sampler.row(study.ask(sampler.distributions())) == sampler.row(lost)


@pytest.mark.parametrize("odd", [math.inf, -math.inf, 0.0, -1.0, 5e-324, 1.7e308, -1.7e308])
def test_a_loss_may_be_any_number(odd):
    sampler = ParetoSampler(small(shape=(3, 3, 2)))
    study = study_of(sampler)
    for number in range(18):
        trial = study.ask(sampler.distributions())
        row = np.array([sampler.row(trial)])
        study.tell(trial, [costs(row)[0], odd if number in (1, 7, 9) else losses(row)[0]])
    assert len({sampler.row(trial) for trial in study.trials}) == 18


@given(st.lists(st.floats(allow_nan=False), min_size=16, max_size=16))
def test_losses_of_any_size_lead_to_proposals(odd):
    found = small(shape=(4, 4, 3))
    rows = found.rows([tuple(row) for row in every_row((4, 4, 3))[::3].tolist()])
    proposed = found.propose(rows, np.array(odd))
    assert proposed not in set(map(tuple, rows.tolist()))


def test_shifted_losses_lead_as_well_to_the_front():
    """Below 0, as where a quality with a minus sign is minimised."""
    rows = every_row(SHAPE)
    found, scored = small(1), []
    for _ in range(48):
        known = found.rows(scored)
        scored.append(found.propose(known, losses(known) - 2))
    known = found.rows(scored)
    reference = (40.0, losses(rows).max())
    exact = hypervolume(costs(rows), losses(rows), reference)
    assert hypervolume(costs(known), losses(known), reference) > 0.98 * exact


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_study_ends_when_every_row_is_known(jobs):
    shape = (3, 2, 2)
    sampler = ParetoSampler(small(shape=shape))
    study = study_of(sampler)

    def slow(trial):
        row = np.array([[trial.suggest_int(f"slot_{k}", 0, count - 1) for k, count in enumerate(shape)]])
        time.sleep(0.01)
        return costs(row)[0], losses(row)[0]

    study.optimize(slow, n_trials=40, n_jobs=jobs)
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert sorted(map(sampler.row, done)) == sorted(map(tuple, every_row(shape).tolist()))
    assert len(study.trials) < 12 + jobs
    with pytest.raises(ExhaustedError, match="Nothing new is left"):
        study.ask(sampler.distributions())


@pytest.mark.parametrize("jobs", [3, -1])
def test_threads_of_one_study_try_different_rows(jobs):
    sampler = ParetoSampler(small())

    def slow(trial):
        time.sleep(0.005)  # before anything is asked for
        return objective(trial)

    study = study_of(sampler)
    study.optimize(slow, n_trials=30, n_jobs=jobs)
    assert len({sampler.row(trial) for trial in study.trials}) == 30


def test_processes_that_share_a_storage_try_different_rows(tmp_path):
    """What one has proposed is seen by the other before its objective has asked for a parameter."""
    storage = f"sqlite:///{tmp_path}/study.db"
    one = study_of(ParetoSampler(small()), storage=storage, study_name="s")
    other = optuna.load_study(study_name="s", storage=storage, sampler=ParetoSampler(small()))
    first, second = one.ask(), other.ask()
    objective(first)
    objective(second)
    assert first.params != second.params


experimental = pytest.mark.filterwarnings("ignore:.*experimental:optuna.exceptions.ExperimentalWarning")


@experimental
@pytest.mark.parametrize("fixed", [{"slot_1": 0}, {"slot_0": 2, "slot_2": 1}])
@pytest.mark.parametrize("jobs", [1, 2])
def test_fixed_parameters_stay_and_nothing_is_tried_twice(fixed, jobs):
    base = ParetoSampler(small(shape=(3, 3, 2), first=[(0, 0, 0), (2, 0, 1)]))
    study = study_of(optuna.samplers.PartialFixedSampler(fixed, base))

    def part(trial):
        row = np.array([[trial.suggest_int(f"slot_{k}", 0, count - 1) for k, count in enumerate((3, 3, 2))]])
        return costs(row)[0], losses(row)[0]

    study.optimize(part, n_trials=30, n_jobs=jobs)
    done = [base.row(trial) for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    names = ("slot_0", "slot_1", "slot_2")
    wanted = [
        tuple(row)
        for row in every_row((3, 3, 2)).tolist()
        if all(row[names.index(name)] == value for name, value in fixed.items())
    ]
    assert sorted(done) == sorted(wanted)


@experimental
def test_fixed_parameters_outside_their_slot_are_refused():
    study = study_of(optuna.samplers.PartialFixedSampler({"slot_1": 7}, ParetoSampler(small())))
    with pytest.warns(UserWarning, match="out of range"), pytest.raises(InputError, match="has 4 choices"):
        study.optimize(objective, n_trials=1)


def test_enqueued_trials_are_tried_as_they_are_and_counted():
    sampler = ParetoSampler(small())
    study = study_of(sampler)
    whole, part = dict(zip(sampler.proposer.names, (3, 3, 2, 2), strict=True)), {"slot_0": 3}
    study.enqueue_trial(whole)
    study.enqueue_trial(part)
    study.optimize(objective, n_trials=20)
    assert study.trials[0].params == whole
    assert study.trials[1].params["slot_0"] == 3
    assert len({sampler.row(trial) for trial in study.trials}) == 20


@pytest.mark.parametrize(
    "directions",
    [["minimize"], ["maximize"], ["minimize", "maximize"], ["maximize", "minimize"], ["minimize"] * 3],
)
def test_other_objectives_are_refused_in_a_sentence(directions):
    study = optuna.create_study(sampler=ParetoSampler(small()), directions=directions)
    with pytest.raises(InputError, match="two objectives, the cost and then the loss"):
        study.optimize(objective, n_trials=3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_always_fails_is_set_aside(jobs):
    sampler = ParetoSampler(small(shape=(3, 2, 2)))
    study = study_of(sampler)

    def fragile(trial):
        row = np.array([[trial.suggest_int(f"slot_{k}", 0, count - 1) for k, count in enumerate((3, 2, 2))]])
        if row[0, 0] == 1:
            raise RuntimeError("too wide")
        return costs(row)[0], losses(row)[0]

    study.optimize(fragile, n_trials=60, n_jobs=jobs, catch=RuntimeError)
    states = collections.Counter(trial.state for trial in study.trials)
    assert states[TrialState.COMPLETE] == 8
    assert 4 * ATTEMPTS <= states[TrialState.FAIL] < 4 * ATTEMPTS + 2 * jobs


def test_a_sampler_can_be_copied():
    study = study_of(ParetoSampler(small()))
    study.optimize(objective, n_trials=8)
    study.sampler = copy.deepcopy(study.sampler)
    study.optimize(objective, n_trials=8)
    assert [study.sampler.row(trial) for trial in study.trials] == drawn(small(), 16)


def test_a_parameter_of_another_range_is_named():
    study = study_of(ParetoSampler(small(first=[(3, 3, 2, 2)])))
    with pytest.raises(InputError, match=r"suggest_int\('slot_0', 0, 3\)"):
        study.ask().suggest_int("slot_0", 0, 2)


def test_a_parameter_of_somebody_elses_is_named():
    study = study_of(ParetoSampler(small()))
    with pytest.raises(ValueError, match="'depth' is not a parameter of the sampler: use slot_0"):
        study.ask().suggest_int("depth", 0, 3)


def test_the_pages_example_runs():
    """docs/search.md: a dozen trials of 25, none twice."""
    page = (Path(__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n((?s:.*?))^```$", page, re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(block, "search.md", "exec"), names)
    assert len({names["sampler"].row(trial) for trial in names["study"].trials}) == 12
