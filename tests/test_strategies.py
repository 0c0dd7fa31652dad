"""What is trained in a step: strategies, distillation, schedules, structure learned with the weights."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from conftest import SMALL
from drawn import SEEDS
from hypothesis import given
from hypothesis import strategies as st

from nas.cost.counting.tabulate import measured_costs
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError
from nas.training.optimizers import Plateaus
from nas.training.settings import TrainingSettings, read_recipe
from nas.training.strategies import STRATEGIES, any_layout, generator, strategy
from nas.training.structure import Structure

SPACE = SearchSpace.from_dict(SMALL, name="small")
COSTS = measured_costs(SPACE)
MEMBERS = [SPACE.narrowest(), *SPACE.baselines(), SPACE.widest()]
kinds = pytest.mark.parametrize("kind", sorted(STRATEGIES))


def strategy_of(kind, count=4, members=MEMBERS, **settings):
    return strategy(TrainingSettings(strategy=kind, architectures=count, **settings), members)


@kinds
@given(st.integers(1, 6), st.integers(0, 10**6), SEEDS)
def test_a_step_is_drawn_alike_wherever_it_runs(kind, count, step, seed):
    chosen = strategy_of(kind, count)
    first, again = (list(chosen.draw(SPACE, step, seed)) for _ in range(2))
    assert first == again
    assert len(first) == count
    for sample in first:
        assert SPACE.parse(sample.architecture.key) == sample.architecture
        assert sample.layout.channels == SPACE.y_channels
    if chosen.widest_first:
        assert first[0].architecture.widths == SPACE.widest().widths


@kinds
def test_steps_and_seeds_differ(kind):
    chosen = strategy_of(kind)
    drawn = {tuple(chosen.draw(SPACE, step, seed)) for step in range(5) for seed in range(3)}
    assert len(drawn) > 10


@given(st.integers(1, 5), st.integers(1, 40), SEEDS)
def test_fair_deals_every_candidate_equally_often(count, steps, seed):
    chosen = strategy_of("fair", count)
    counts = [Counter() for _ in SPACE.shape]
    for step in range(steps):
        for sample in chosen.draw(SPACE, step, seed):
            for place, index in enumerate(SPACE.indexes(sample.architecture)):
                counts[place][index] += 1
    for found, size in zip(counts, SPACE.shape, strict=True):
        dealt = [found[index] for index in range(size)]
        assert max(dealt) - min(dealt) <= 1


def test_the_sandwich_has_both_ends():
    for step in range(5):
        drawn = [sample.architecture.widths for sample in strategy_of("sandwich", 3).draw(SPACE, step, 0)]
        assert drawn[:2] == [SPACE.widest().widths, SPACE.narrowest().widths]


def test_levels_reach_both_ends_and_every_size_alike():
    """Slots drawn each for itself leave the ends out; levels give every third of the range its share."""
    space = SearchSpace.load("joint-ar-tiny")
    sizes = {}
    for kind in ("uniform", "level"):
        drawn = [
            sample.architecture for step in range(200) for sample in strategy_of(kind, 3).draw(space, step, 0)
        ]
        places = [space.indexes(architecture)[:-1] for architecture in drawn]
        shares = [sum(k / (n - 1) for k, n in zip(p, space.shape, strict=False)) / len(p) for p in places]
        sizes[kind] = [
            sum(low <= share < low + 1 / 3 + 1e-9 for share in shares) / 600 for low in (0, 1 / 3, 2 / 3)
        ]
        if kind == "level":
            assert {space.narrowest().widths, space.widest().widths} <= {a.widths for a in drawn}
    assert min(sizes["level"]) > 0.25
    assert min(sizes["uniform"]) < 0.1


def test_layouts_are_often_random_ones():
    rng = random.Random(0)
    drawn = [any_layout(SPACE, SPACE.widest(), rng) for _ in range(200)]
    own = sum(layout in SPACE.layouts.values() for layout in drawn)
    assert 80 < own < 150
    assert len(set(drawn)) > 20


@kinds
def test_no_random_layouts_where_none_are_wanted(kind):
    for step in range(20):
        for sample in strategy_of(kind, random_layouts=0).draw(SPACE, step, 0):
            assert sample.layout == SPACE.layout(sample.architecture)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20), SEEDS)
def test_a_front_is_trained_evenly_with_its_neighbours(seeds, seed):
    """Each part of the front gets its turn; most of what is drawn is a member or one step from one."""
    members = [SPACE.sample(random.Random(number)) for number in seeds]
    near = {architecture for member in members for architecture in (member, *SPACE.neighbours(member))}
    chosen, steps = strategy_of("front", members=members), 150
    drawn = [sample.architecture for step in range(steps) for sample in chosen.draw(SPACE, step, seed)]
    assert sum(architecture in near for architecture in drawn) > 0.6 * len(drawn)
    assert set(members) <= set(drawn)


@given(st.integers(0, 100), SEEDS)
def test_members_alone_are_trained_where_that_is_asked(step, seed):
    near = {architecture for member in MEMBERS for architecture in (member, *SPACE.neighbours(member))}
    for moved, allowed in ((0, MEMBERS), (1, near)):
        drawn = strategy_of("front", elsewhere=0, moved=moved).draw(SPACE, step, seed)
        assert all(sample.architecture in allowed for sample in drawn)


@given(SEEDS)
def test_members_of_a_step_can_have_one_encoder(seed):
    """Each encoder comes as often as it has members, and each member gets its turn."""
    narrow, wide = (SPACE.indexes(architecture) for architecture in (SPACE.narrowest(), SPACE.widest()))
    assert SPACE.slots[0].name == "g_a"
    decoders = (narrow[1:], wide[1:], (*narrow[1:-1], wide[-1]))
    members = [SPACE.at((narrow[0], *decoder)) for decoder in decoders]
    members.append(SPACE.at((wide[0], *narrow[1:])))
    chosen = strategy_of("front", 2, members, elsewhere=0, moved=0, one_encoder=True)
    steps = [[sample.architecture for sample in chosen.draw(SPACE, step, seed)] for step in range(200)]
    assert all(len({SPACE.encoder(architecture) for architecture in step}) == 1 for step in steps)
    assert {architecture for step in steps for architecture in step} == set(members)
    assert 20 < sum(step[0] == members[-1] for step in steps) < 90


def test_a_strategy_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="sandwich"):
        TrainingSettings.make({"strategy": "sandwitch"})
    with pytest.raises(InputError, match="--init-from RUN"):
        strategy_of("front", members=[])
    with pytest.raises(InputError, match="add --set strategy=front"):
        TrainingSettings.make({"members": [SPACE.widest().key]})
    with pytest.raises(InputError, match="one_encoder goes with strategy=front"):
        TrainingSettings.make({"one_encoder": True})


# Schedules


@given(st.sampled_from(["cosine", "plateau", "milestones", "constant"]), st.integers(1, 500))
def test_rates_rise_and_never_exceed_the_full_one(schedule, steps):
    chosen = TrainingSettings.make(
        {"schedule": schedule, "steps": steps, "warmup": 10, "learning_rate": 1e-3}
    )
    rates = [chosen.rate_at(step) for step in range(steps)]
    assert all(0 < rate <= 1e-3 * (1 + 1e-9) for rate in rates)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)


@given(st.integers(20, 500), st.floats(0, 0.5), st.sampled_from([None, 384]), st.floats(0.05, 0.4))
def test_a_rate_holds_falls_and_is_low_when_crops_are_large(steps, hold, final_crop, share):
    values = {"steps": steps, "warmup": 0, "hold": hold, "final_crop": final_crop, "final_share": share}
    chosen = TrainingSettings.make({**values, "learning_rate": 1.0, "final_rate": 0.03})
    rates = [chosen.rate_at(step) for step in range(steps)]
    assert rates[: round(hold * steps) + 1] == [1.0] * (round(hold * steps) + 1)
    crops = {step: crop for crop, part in chosen.phases for step in part}
    assert list(crops) == list(range(steps))
    large = [rates[step] for step, crop in crops.items() if crop == final_crop]
    assert large == pytest.approx([0.03] * (max(1, round(share * steps)) if final_crop else 0))
    assert chosen.pixels(3, steps) == sum(chosen.batch * crop**2 for step, crop in crops.items() if step >= 3)


def test_milestones_and_plateaus_multiply():
    given_ = {"learning_rate": 1.0, "warmup": 0, "steps": 100, "decay": 0.1}
    steps = TrainingSettings.make({**given_, "schedule": "milestones", "milestones": [0.5, 0.9]})
    assert [steps.rate_at(k) for k in (0, 49, 50, 90)] == pytest.approx([1, 1, 0.1, 0.01])
    flat = TrainingSettings.make({**given_, "schedule": "plateau"})
    assert [flat.rate_at(5, count) for count in (0, 1, 2)] == pytest.approx([1, 0.1, 0.01])


@given(st.lists(st.floats(0.1, 10), max_size=60), st.integers(1, 5))
def test_a_plateau_is_a_wait_without_a_better_loss(losses, patience):
    found = Plateaus(patience)
    for loss in losses:
        found.see(loss)
    assert found.count <= len(losses) // patience
    falling = Plateaus(patience)
    for step in range(3 * patience):
        falling.see(0.5**step)
    assert falling.count == 0
    flat = Plateaus(patience)
    for _ in range(1 + 3 * patience):
        flat.see(1.0)
    assert flat.count == 3


# Recipes


@pytest.mark.parametrize("name", resources.shipped("recipes"))
def test_recipes_are_settings(name):
    settings_ = TrainingSettings.make({"recipe": name})
    assert {key: getattr(settings_, key) for key in read_recipe(name)} == read_recipe(name)
    over = TrainingSettings.make({"recipe": name, "steps": 7})
    assert over == settings_.model_copy(update={"steps": 7})


def test_a_recipe_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text("steps: 12\nprecision: 32\n")
    found = TrainingSettings.make({"recipe": str(tmp_path / "mine.yaml")})
    assert (found.steps, found.precision) == (12, "32")
    with pytest.raises(InputError, match="classical"):
        TrainingSettings.make({"recipe": "clasical"})
    (tmp_path / "two.yaml").write_text("recipe: classical\n")
    with pytest.raises(InputError, match="another recipe"):
        TrainingSettings.make({"recipe": str(tmp_path / "two.yaml")})


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"distillation": 1, "strategy": "fair"}, "sandwich"),
        ({"only": "entropy", "structure": "joint"}, "no picture"),
        ({"only": "entropy", "distillation": 1}, "no picture"),
        ({"target": 3}, "structure=joint"),
        ({"lambda_c": 3}, "structure=joint"),
        ({"milestones": [2]}, "shares"),
        ({"ema": 1}, "ema"),
        ({"precision": "fp8"}, "precision"),
        ({"workers": -1}, "workers"),
    ],
)
def test_settings_that_cannot_be(values, word):
    with pytest.raises(InputError, match=word):
        TrainingSettings.make(values)


# Structure


def make(**more) -> Structure:
    return Structure(SPACE, COSTS, **more)


def test_samples_are_one_hot_with_the_soft_gradient():
    structure = make()
    rng = torch.Generator().manual_seed(0)
    for progress in (0.0, 0.5, 1.0):
        gates = structure.sample(progress, rng, torch.device("cpu"))
        assert set(gates) == {slot.name for slot in SPACE.slots}
        for gate in gates.values():
            assert float(gate.detach().sum()) == pytest.approx(1, abs=1e-6)
            assert float(gate.detach().max()) == pytest.approx(1, abs=1e-6)
        sum((gate * torch.arange(len(gate))).sum() for gate in gates.values()).backward()
    assert all(values.grad is not None and values.grad.isfinite().all() for values in structure.logits)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_dual_ascent_meets_the_target(share):
    """Where every step up in a slot is worth the same, the expected cost settles at the target."""
    least, most = (COSTS.kmac_px(a) for a in (SPACE.narrowest(), SPACE.widest()))
    target = least + share * (most - least)
    structure = make(target=target, learning_rate=0.05)
    costs = []
    for _ in range(200):
        want = -sum(values.softmax(0) @ torch.arange(len(values)).float() for values in structure.logits)
        (want + structure.price * structure.expected_cost()).backward()
        costs.append(structure.step(10.0))  # the loss is of the size of what is at stake
    assert sum(costs[-20:]) / 20 == pytest.approx(target, rel=0.05)
    assert structure.price >= 0


def test_a_dear_price_narrows_and_none_leaves_alone():
    def learned(price: float) -> float:
        structure = make(price=price)
        for _ in range(60):
            (structure.price * structure.expected_cost()).backward()
            structure.step(1.0)
        return structure.step(1.0)

    assert learned(10.0) < 0.9 * learned(0.0) == pytest.approx(0.9 * make().step(1.0))


def test_its_state_comes_back():
    one = make(price=1.0, target=0.01)
    for _ in range(3):
        one.expected_cost().backward()
        one.step(1.0)
    logits, numbers = one.state()
    other = make(target=0.01)
    other.restore({name: values.detach() for name, values in logits.items()}, numbers)
    assert other.learned() == one.learned()
    assert other.price == one.price


def test_generators_are_their_own():
    random.seed(1)
    before = random.getstate()
    generator(3, 4).random()
    assert random.getstate() == before
