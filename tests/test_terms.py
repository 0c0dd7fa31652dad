"""What a setting adds to the loss of a step, against the formula by hand; and the constraint's sign."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from families import SPACES
from small_run import small_run
from torch import Tensor

import nas
from nas.photos.images import bundled
from nas.run import Run
from nas.searching.sources import Sources
from nas.searching.study.storage import JOURNAL, open_storage
from nas.spaces.rates import anchors_between
from nas.spaces.space import SearchSpace
from nas.training.data import CropSource
from nas.training.devices import make_fabric
from nas.training.loop import Training
from nas.training.settings import TrainingSettings

LMBDA = 0.02
SPACE = SearchSpace.load("joint-ar-tiny")
RATED = SearchSpace.from_dict(
    {**SPACE.to_dict(), "rates": list(anchors_between(0.0018, 0.18))}, name="rated", source="a test"
)


def training(folder: Path, space: SearchSpace = SPACE, **settings: Any) -> Training:
    """A training before its first step: integers from the beginning, so that nothing is drawn but samples."""
    values = {"lmbda": LMBDA, "steps": 10, "crop": 64, "batch": 2, "seed": 3, "warmup": 0}
    values |= {"integer_phase": 1.0, "strategy": "sandwich", "architectures": 3, "learning_rate": 1e-3}
    made = TrainingSettings.make({**values, **settings})
    return Training(Run.create(folder, space, made.model_dump()), make_fabric("cpu", "32"))


@pytest.fixture(scope="module")
def x() -> Tensor:
    source = CropSource(bundled()["train"][:2], crop=64, seed=0)
    return torch.stack([source.crop(number) for number in range(2)]) / 255


def backwards(found: Training, x: Tensor) -> list[float]:
    """The loss of every sample of step 0 as its gradient is taken, times their number."""
    losses: list[float] = []
    original = found.fabric.backward

    def note(loss: Tensor) -> None:
        losses.append(loss.item())
        original(loss)

    found.fabric.backward = note  # type: ignore[method-assign, assignment]
    found.step(0, x)
    return [loss * len(losses) for loss in losses]


def parts(found: Training, x: Tensor) -> list[tuple[float, Tensor]]:
    """bpp and the picture of every sample of step 0, in its order."""
    net, told = found.net, []
    for sample in found.strategy.draw(net.space, 0, found.settings.seed):
        net.activate(sample.architecture)
        with torch.no_grad():
            output = net(x, sample.layout)
        rate = sum(-torch.log2(part).sum() for part in output["likelihoods"].values())
        told.append((float(rate) / (len(x) * 64 * 64), output["x_hat"]))
    return told


def distortion(a: Tensor, b: Tensor) -> float:
    """LMBDA * 255^2 * MSE."""
    return LMBDA * 255**2 * float((a - b).square().mean())


def test_without_terms_it_is_the_rate_and_the_distortion(tmp_path, x):
    found = training(tmp_path / "run")
    by_hand = [bpp + distortion(x, x_hat) for bpp, x_hat in parts(found, x)]
    assert backwards(found, x) == pytest.approx(by_hand, rel=1e-4)


def test_distillation_adds_the_distance_to_the_widest(tmp_path, x):
    found = training(tmp_path / "run", distillation=0.7)
    told = parts(found, x)
    teacher = told[0][1].clamp(0, 1)
    by_hand = [bpp + distortion(x, x_hat) + 0.7 * distortion(teacher, x_hat) for bpp, x_hat in told]
    assert by_hand[1] > told[1][0] + distortion(x, told[1][1])  # a distance is never negative
    assert backwards(found, x) == pytest.approx(by_hand, rel=1e-4)


def test_structure_adds_the_price_of_the_expected_cost(tmp_path, x):
    plain = training(tmp_path / "plain", structure="joint", lambda_c=0.0)
    priced = training(tmp_path / "priced", structure="joint", lambda_c=0.3)
    assert priced.structure is not None
    costs = priced.structure.costs
    tables = [layer.macs for layer in costs.in_scope("total")]  # logits are equal: so are all their entries
    mean = sum(float(table.mean()) for table in tables) / costs.pixels / 1000
    assert costs.kmac_px(SPACE.narrowest()) < mean < costs.kmac_px(SPACE.widest())
    without, with_price = backwards(plain, x), backwards(priced, x)
    assert with_price[:-1] == pytest.approx(without[:-1], rel=1e-5)
    assert with_price[-1] - without[-1] == pytest.approx(0.3 * mean, rel=1e-3)


def test_the_price_pulls_the_logits_towards_what_is_cheap(tmp_path, x):
    """A price so high that nothing else counts: the narrow candidate's logit rises, the wide one's falls."""
    found = training(tmp_path / "run", structure="joint", lambda_c=1e6)
    assert found.structure is not None
    found.step(0, x)
    for logits in found.structure.logits:
        assert logits[0] > 0 > logits[-1] or len(logits) == 1


def test_the_average_follows_by_its_formula(tmp_path, x):
    found = training(tmp_path / "run", ema=0.9)
    seen = []
    for step in range(3):
        found.step(step, x)
        seen.append(copy.deepcopy(found.net.state_dict()["g_a.0.weight"]))
    by_hand = seen[0]
    for count, weight in enumerate(seen[1:], 1):
        keep = min(0.9, (1 + count) / (10 + count))
        by_hand = keep * by_hand + (1 - keep) * weight
    kept = found.kept.state_dict()["g_a.0.weight"]
    assert not torch.equal(kept, seen[-1])
    torch.testing.assert_close(kept, by_hand)


def test_gains_scale_what_is_rounded_and_scale_it_back(tmp_path, x):
    net = training(tmp_path / "run", RATED).net
    net.activate(RATED.widest())
    low, middle, high = RATED.rates[0], RATED.rates[len(RATED.rates) // 2], RATED.rates[-1]
    with torch.no_grad():
        y = net.g_a(x)
        for lmbda in (low, middle, high):
            step = math.sqrt(lmbda / middle)  # as gains begin
            by_hand = net.g_s(torch.round(y * step) / step)
            output = net(x, RATED.layout(RATED.widest()), lmbda=lmbda)
            torch.testing.assert_close(output["x_hat"], by_hand, rtol=1e-4, atol=1e-4)


def test_over_a_range_a_per_cent_counts_alike_at_every_rate(tmp_path, x):
    """What is trained is the loss's logarithm: divided by itself every loss is 1, whatever its rate."""
    assert backwards(training(tmp_path / "run", RATED), x) == pytest.approx([1.0] * 3)


def test_the_study_is_told_how_far_a_trial_is_over_the_target(tmp_path, photo_folder):
    run = small_run(tmp_path / "run", SPACES["factorized-integer"], photo_folder)
    loaded = nas.load_run(run.path, device="cpu")
    loaded.search("0.2", trials=8, sources=Sources(logits=False, layouts=False))
    storage = open_storage(run.search_path / JOURNAL)
    (name,) = optuna.get_all_study_names(storage)
    told = []
    for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False):
        if trial.values is not None:
            (constraint,) = trial.constraints.values()
            assert constraint == pytest.approx(
                trial.values[0] / 0.2 - 1
            )  # above zero Optuna calls infeasible
            told.append(constraint)
    assert told
    assert min(told) < 0
