"""Seeing a run learn: losses on calibration photos, the picture, how long it will take."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.photos.split import photos_of
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.space import SearchSpace
from nas.support.progress import duration
from nas.training.record import clock, learning
from nas.training.record.clock import TIMED_STEPS, TrainingClock, expectation
from nas.training.record.learning import TIME_SHARE, Learning
from nas.training.record.watch import WATCHED_SIDE, CalibrationMonitor, MonitoredRate, monitored_architectures
from nas.training.settings import TrainingSettings, settings_of
from nas.training.start import TrainingRequest, resume_training, start_training
from nas.weights.checkpoint import supernet_of

SETTINGS = {
    **{"steps": 4, "crop": 64, "batch": 1, "architectures": 2, "checkpoint_every": 2, "learning_rate": 1e-3},
    **{"structure": "joint", "lambda_c": 0.1, "ema": 0.5},
}
TINY = SearchSpace.load("joint-ar-tiny")
COLUMNS = ["loss_narrowest", "loss_median", "loss_widest"]


def trained(out: Path, photos: Path, report=lambda progress: None) -> Run:
    return start_training(
        TrainingRequest("joint-ar-tiny", str(photos), out, settings=SETTINGS, device="cpu"), report
    )


@pytest.fixture(scope="module")
def unseen(photo_folder, tmp_path_factory) -> Run:
    """A run too short for a look."""
    return trained(tmp_path_factory.mktemp("unseen") / "run", photo_folder)


def rows_of(run: Run) -> list[dict[str, str]]:
    with open(run.metrics_path, newline="") as file:
        return list(csv.DictReader(file))


def test_looks_are_of_the_kept_weights_and_change_nothing(unseen, photo_folder, tmp_path, monkeypatch):
    """As a search scores them, to what a coder's range is worth; interrupted and resumed, the same bytes."""
    assert [row[name] for row in rows_of(unseen) for name in COLUMNS] == [""] * 6
    assert not unseen.learning_path.exists()
    monkeypatch.setattr(learning, "TIME_SHARE", math.inf)

    def stop(progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", photo_folder, stop)
    run = resume_training(tmp_path / "run", device="cpu")
    assert run.weights_path.read_bytes() == unseen.weights_path.read_bytes()
    assert run.checkpoint_path.read_bytes() == unseen.checkpoint_path.read_bytes()
    rows = rows_of(run)
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    with Image.open(run.learning_path) as picture:
        assert picture.width > 600
    evaluator = Evaluator(supernet_of(run), photos_of(run, "calibration"), Objective(settings_of(run).lmbda))
    for name, architecture in monitored_architectures(TINY).items():
        score = evaluator.score(architecture).rd_loss
        assert float(rows[-1][f"loss_{name}"]) == pytest.approx(score, rel=0.02)


def test_several_rates_are_columns_of_their_own(make_supernet, chelsea):
    """One architecture is watched once; the middle of a large photo is what is read."""
    space = TINY.only(TINY.uniform(0.5))
    photo = Photo("large", chelsea.repeat(3, 0).repeat(2, 1))
    watch = CalibrationMonitor(space, [photo] * 2, [MonitoredRate("_q0", 0.002), MonitoredRate("_q100", 0.2)])
    assert watch.columns == ["loss_widest_q0", "loss_widest_q100"]
    assert watch.pixels == 2 * 2 * WATCHED_SIDE * WATCHED_SIDE
    low, high = watch.losses(make_supernet(space)).values()
    assert low < high
    assert not CalibrationMonitor(
        space, [Photo("small", chelsea[:160])], [MonitoredRate("", 10.0)], "ms-ssim"
    ).pixels


class _Looked:
    """A network whose look takes some seconds, on a clock of its own."""

    columns = COLUMNS
    pixels = 1_000_000

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.looks = seconds, 0.0, 0

    def monotonic(self) -> float:
        return self.now

    def losses(self, net: object) -> dict[str, float]:
        self.now += self.seconds
        self.looks += 1
        return dict.fromkeys(COLUMNS, 1.0)


@given(st.floats(0.1, 20), st.floats(0.5, 500), st.integers(1, 60))
def test_looking_takes_a_small_share_of_the_time(seconds, between, checkpoints):
    """However long a look and the way between two checkpoints; where there is room, the last has one."""
    looked = _Looked(seconds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "time", looked)
        patch.setattr(learning, "write_learning", lambda *_: None)
        watching, elapsed = Learning(looked, Path("unused")), 0.0
        for number in range(1, checkpoints + 1):
            elapsed += between
            seen = watching.look(None, elapsed, seconds / looked.pixels, last=number == checkpoints)
            if seen:
                watching.draw([])
    assert looked.looks * seconds <= TIME_SHARE * elapsed
    if TIME_SHARE * elapsed >= seconds + 1:
        assert seen


def test_the_time_is_told_after_the_first_steps(monkeypatch):
    """The first step starts slowly, and the last ones are of larger crops."""
    values = {"steps": 100, "crop": 64, "final_crop": 128, "final_share": 0.25, "batch": 2}
    settings, looked = TrainingSettings.make(values), _Looked(0)
    monkeypatch.setattr(clock, "time", looked)
    found, told = TrainingClock(settings, 20), {}
    for step in range(21, 101):
        looked.now += (3.0 if step == 21 else 0) + (4.0 if step > 75 else 1.0)
        found.tick(step)
        told[step] = found.expected
    assert [step for step, expected in told.items() if expected is not None] == [21 + TIMED_STEPS]
    assert told[21 + TIMED_STEPS] == pytest.approx(3 + 55 + 4 * 25)
    assert found.left == 0
    alone = TrainingClock(TrainingSettings.make({"steps": 1}), 0)
    looked.now += 5
    alone.tick(1)
    assert (alone.expected, alone.left) == (5, 0)


def test_more_than_a_day_is_said():
    assert "more than a day" not in expectation(3600, duration(3600))
    told = expectation(300_000, duration(300_000))
    assert "about 3.5 days on this machine. That is more than a day: fewer --steps" in told


def test_looking_leaves_the_generator_alone(make_supernet, chelsea):
    net = make_supernet(TINY)
    state = torch.get_rng_state()
    CalibrationMonitor(TINY, [Photo("p", chelsea)], [MonitoredRate("", 0.01)]).losses(net.train())
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
