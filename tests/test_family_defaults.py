"""What `nas train` takes for a family where the user says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.training.settings import read_recipe, settings_of
from nas.verbs.train import FAMILY_DEFAULTS, defaults_of

ALL = {"recipe": "patch-soap", "lmbda": "0.0018..0.18", "init_from": "klt"}


@pytest.mark.parametrize(
    ("given", "start", "left_out"),
    [
        ({}, None, set()),
        ({"batch": 2, "optimizer": "muon"}, None, set()),
        ({"lmbda": 0.013}, None, {"lmbda"}),
        ({"metric": "ms-ssim"}, None, {"lmbda"}),
        ({"recipe": "laptop"}, None, {"recipe"}),
        ({"recipe": "classical"}, None, {"recipe", "lmbda"}),  # which has a lambda of its own
        ({"strategy": "front"}, "zoo:patch", {"init_from"}),
        ({"strategy": "sandwich"}, "random", {"recipe", "init_from"}),
        ({"structure": "joint"}, None, {"recipe"}),
        ({"only": "g_s"}, None, {"init_from"}),  # a part of trained weights, which the user has to name
    ],
)
def test_what_is_given_is_never_replaced(
    given: dict[str, Any], start: str | None, left_out: set[str]
) -> None:
    taken = defaults_of(SearchSpace.load("patch-tiny"), given, start)
    assert taken == {name: value for name, value in ALL.items() if name not in left_out}


def test_other_families_have_no_defaults_of_their_own() -> None:
    assert defaults_of(SearchSpace.load("joint-ar-tiny"), {}, None) == {}


@pytest.mark.parametrize("family", FAMILY_DEFAULTS)
def test_recipes_of_families_exist(family: str) -> None:
    assert read_recipe(FAMILY_DEFAULTS[family]["recipe"])


def test_a_family_with_defaults_trains_without_a_setting(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "patch-tiny", "--data", photo_folder, "--out", out, "--steps", 2]
    result = CliRunner().invoke(app, [*map(str, words), "--set", "crop=64", "--set", "batch=1"])
    assert result.exit_code == 0, result.output
    assert "recipe=patch-soap, lmbda=0.0018..0.18, init_from=klt" in result.output
    run = Run.open(out)
    settings = settings_of(run)
    assert (settings.optimizer, settings.architectures, settings.batch) == ("soap", 1, 1)
    assert run.config["init_from"] == "klt"
    assert len(run.space.rates) == 8


def test_random_weights_can_be_asked_for(photo_folder: Path, tmp_path: Path) -> None:
    settings = {"crop": 64, "batch": 1}
    run = nas.train("patch-tiny", photo_folder, tmp_path, init_from="random", steps=1, settings=settings)
    assert "init_from" not in run.config


@pytest.mark.parametrize("start", ["klt", "random"])
def test_a_rank_check_from_scratch_starts_as_the_run_did(
    photo_folder: Path, tmp_path: Path, start: str
) -> None:
    settings = {"crop": 64, "batch": 1}
    run = nas.train("patch-tiny", photo_folder, tmp_path, init_from=start, steps=1, settings=settings)
    result = nas.rank_check(run, photo_folder, count=3)
    for row in result.rows:
        alone = Run.open(run.path / "rank-check" / row.run)
        assert alone.config.get("init_from") == run.config.get("init_from")
    assert not any("scratch" in note for note in result.notes)
