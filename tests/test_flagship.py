"""The flagship's training: tiles stay together, and a phase goes on where it was stopped."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from experiments.flagship import train
from experiments.flagship.train import split_by_picture
from nas.run import Run
from nas.training.settings import read_recipe


def test_tiles_of_one_picture_stay_together(tmp_path):
    for number in range(30):
        for tile in range(3):
            Image.new("RGB", (8, 8), (number, tile, 0)).save(tmp_path / f"picture{number}_{tile}.png")
    parts = split_by_picture(tmp_path)
    pictures = {part: {path.stem.rpartition("_")[0] for path in paths} for part, paths in parts.items()}
    assert sum(map(len, parts.values())) == 90
    assert sum(map(len, pictures.values())) == 30  # no picture is in two parts


def test_a_phase_goes_on_from_the_zoo_and_from_its_own_checkpoint(tmp_path, monkeypatch):
    """It trains the architectures that it names; stopped, it comes to its end another time."""
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"picture{number}_0.png")
    small = {"crop": 64, "batch": 1, "architectures": 1, "warmup": 1, "checkpoint_every": 1}
    monkeypatch.setattr(train, "read_recipe", lambda path: {**read_recipe(path), **small})
    arguments = ["--data", str(photos), "--run", str(tmp_path / "run"), "--steps", "3"]

    def stop(progress):
        if progress.step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "tell", stop)
        with pytest.raises(KeyboardInterrupt):
            train.main(arguments)
    run = Run.open(tmp_path / "run")
    assert not run.weights_path.exists()
    assert run.config["front"] == train.MEMBERS
    train.main(arguments)
    with open(run.metrics_path, newline="") as file:
        rates = {int(row["step"]): float(row["learning_rate"]) for row in csv.DictReader(file)}
    assert list(rates) == [2, 3]  # it was stopped before a row of the first step
    assert rates[3] < 0.6 * rates[2]
    assert run.weights_path.is_file()
