"""Searches as they are asked for from Python, and runs whose spaces are at an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from families import SPACES, content_of
from small_run import small_run

import nas
from nas.api import LoadedRun
from nas.report.front.make import draw_runs
from nas.searching.sources import Sources
from nas.spaces.budget import Budget
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

QUICK = Sources(logits=False, layouts=False)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> LoadedRun:
    run = small_run(tmp_path_factory.mktemp("runs") / "run", SPACES["factorized-integer"], photo_folder)
    found = nas.load_run(run.path, device="cpu")
    found.search(trials=3, sources=QUICK)
    return found


@pytest.mark.parametrize(
    ("asked", "targets"),
    [
        ({"target": "80%"}, 1),
        ({"target": "80%", "scope": "decoder"}, 1),
        ({"budget": "80%"}, 1),
        ({"budget": " 80 %", "scope": "decoder"}, 1),
        ({"budget": "paper-8-levels"}, 8),
        ({"budget": Budget.of("80%")}, 1),
        ({"budget": None}, 0),
        ({"scope": "decoder"}, 0),
    ],
)
def test_a_search_takes_a_budget_its_name_or_a_target(
    loaded: LoadedRun, asked: dict[str, Any], targets: int
) -> None:
    assert len(loaded.search(**asked, trials=0, sources=QUICK).choices) == targets


def test_a_budget_is_a_file_too(loaded: LoadedRun, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("targets: [80%, 90%]")
    for given in (path, str(path)):
        assert len(loaded.search(given, trials=0, sources=QUICK).choices) == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget": "phone", "target": "60%"}, "its own targets and scope"),
        ({"budget": "phone", "scope": "decoder"}, "its own targets and scope"),
        ({"budget": Budget.of("80%"), "scope": "decoder"}, "its own targets and scope"),
        ({"budget": "phome"}, "no budget named 'phome': did you mean phone"),
        ({"target": "phone"}, "not a target"),
        ({"target": "-5"}, "not a target"),
        ({"budget": "3 apples"}, "not a target"),
        ({"target": float("nan")}, "not a target"),
        ({"budget": -5}, "not a target"),
    ],
)
def test_what_is_neither_is_refused(loaded: LoadedRun, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        loaded.search(**asked, trials=0, sources=QUICK)


@pytest.mark.parametrize("trials", [-1, 2.5, "5", [1]])
def test_what_is_no_number_of_trials_is_refused(loaded: LoadedRun, trials: Any) -> None:
    before = loaded.run.scores_path.read_bytes()
    with pytest.raises(InputError, match=r"trials cannot be .*: give a whole number from 0"):
        loaded.search(target="80%", trials=trials, sources=QUICK)
    with pytest.raises(InputError, match="is not a seed"):
        loaded.search(target="80%", trials=1, seed=trials, sources=QUICK)
    assert loaded.run.scores_path.read_bytes() == before


@pytest.mark.parametrize("changes", [{"repeats": 0}, {"repeats": 1.5}, {"check": -1}])
def test_what_is_no_number_of_repeats_is_refused(loaded: LoadedRun, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"(repeats|check) cannot be"):
        nas.profile(loaded.run, **changes)
    assert not loaded.run.profile_path.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lmbda": (0.1, 0.2)}, "is not a value for lmbda"),
        ({"lmbda": []}, "is not a value for lmbda"),
        ({"settings": ["batch=3"]}, "Settings are names and values"),
        ({"settings": "batch=3"}, "Settings are names and values"),
        ({"arch": 3}, "is not an architecture's key"),
        ({"steps": 1.5}, "whole number"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused(
    photo_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        nas.train("factorized-tiny", photo_folder, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_space_without_blocks_is_drawn(tmp_path: Path, photo_folder: Path) -> None:
    """Depths that are 0 in every architecture."""
    content = content_of(FAMILIES["residual"])
    content["widths"] |= {name: 0 for name in content["widths"] if name.endswith("_depth")}
    run = small_run(tmp_path / "run", SearchSpace.from_dict(content, name="shallow"), photo_folder)
    found = nas.load_run(run.path, device="cpu")
    found.search(trials=3, sources=QUICK)
    written = draw_runs([run], tmp_path / "drawn")
    assert all(path.is_file() for path in written)
    found.explain(found.front()["arch"][0])
