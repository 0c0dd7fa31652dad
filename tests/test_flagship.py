"""The flagship's training: tiles stay together, and a cooled copy ends as it should."""

from __future__ import annotations

import csv

import pytest
from PIL import Image

from experiments.flagship import cool
from experiments.flagship.train import split_by_picture
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.training.start import TrainingRequest, resume_training, start_training

CONSTANT = {
    **{"steps": 1000, "crop": 64, "batch": 2, "architectures": 1, "checkpoint_every": 2, "warmup": 1},
    **{"schedule": "constant", "learning_rate": 1e-3, "lmbda": "0.0018..0.18", "preview_every": 0},
}


def test_tiles_of_one_picture_stay_together(tmp_path):
    for number in range(30):
        for tile in range(3):
            Image.new("RGB", (8, 8), (number, tile, 0)).save(tmp_path / f"picture{number}_{tile}.png")
    parts = split_by_picture(tmp_path)
    pictures = {part: {path.stem.rpartition("_")[0] for path in paths} for part, paths in parts.items()}
    assert sum(map(len, parts.values())) == 90
    assert sum(map(len, pictures.values())) == 30  # no picture is in two parts


def test_a_cooled_copy_ends_at_a_low_rate(tmp_path, photo_folder):
    """It goes on from the checkpoint, and the rate of learning falls from there; the run stays as it is."""

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    request = TrainingRequest(SearchSpace.load("patch-tiny"), str(photo_folder), out, settings=CONSTANT)
    with pytest.raises(KeyboardInterrupt):
        start_training(request, stop)
    before = (out / "config.yaml").read_bytes()
    cool.begin(out, tmp_path / "cooled", 6)
    cooled = resume_training(tmp_path / "cooled")
    with open(cooled.metrics_path, newline="") as file:
        rates = {int(row["step"]): float(row["learning_rate"]) for row in csv.DictReader(file)}
    assert max(rates) == 11
    assert rates[2] == CONSTANT["learning_rate"]
    assert rates[6] > rates[8] > rates[11]
    assert rates[11] < 0.2 * rates[2]
    assert cooled.weights_path.is_file()
    assert (out / "config.yaml").read_bytes() == before
    assert not Run(out).weights_path.exists()
