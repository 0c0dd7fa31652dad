"""The two doors: every command is a function with the same options, and the quick ones stay quick."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from families import SPACES
from small_run import small_run
from typer.main import get_command
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.searching.sources import Sources
from nas.spaces.budget import Budget

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
VERBS = sorted(COMMANDS)
# How a caller is told of the work, and what only an experiment changes, is no option of a command.
CALLBACKS = {"report", "say", "announce"}
ONLY_IN_PYTHON = {"demo": {"size"}}
ONLY_ON_THE_LINE = {"json"}


def function(verb: str) -> Any:
    return getattr(nas, verb.replace("-", "_"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_a_parameter_and_the_reverse(verb):
    options = {parameter.name for parameter in COMMANDS[verb].params} - ONLY_ON_THE_LINE
    parameters = set(inspect.signature(function(verb)).parameters) - CALLBACKS
    assert options == parameters - ONLY_IN_PYTHON.get(verb, set())


@pytest.mark.parametrize("verb", VERBS)
def test_both_doors_have_the_same_defaults(verb):
    """Where nothing is said: an empty list and None are one."""
    parameters = inspect.signature(function(verb)).parameters
    for option in COMMANDS[verb].params:
        if option.name not in ONLY_ON_THE_LINE and not option.required:
            default = parameters[option.name].default
            assert str(option.default or None) == str(default or None), option.name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("compress c p.png o.nic --quality x", "'--quality': 'x' is not a number: give one such as 4.5."),
        ("compress c p.png o.nic --size 1e4", "'--size': '1e4' is not a whole number: give one such as 4."),
        ("compress c p.png o.nic --effort 11", "'--effort': 11 is too much: give 10 or less."),
        ("search run --trials -1", "'--trials': -1 is too little: give 0 or more."),
        ("probe run --arch x --tolerance nan", "'--tolerance': nan is too little: give 0 or more."),
        ("train --seed half", "'--seed': 'half' is not a whole number: give one such as 4."),
        ("train patch --steps 1.5", "'--steps': '1.5' is not a whole number: give one such as 4."),
    ],
)
def test_a_wrong_number_is_refused_in_our_words(words, sentence):
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: Invalid value for {sentence}"


@pytest.mark.parametrize(
    "words",
    [
        "train --seed {}",
        "search run --trials {}",
        "decompress c a.nic a.png --max-pixels {}",
        "train factorized-tiny --data bundled --set warmup={}",
        "train factorized-tiny --data bundled --lmbda {}",
        "search zoo:joint-ar-tiny --target {} --out copy",
        "info {}",
    ],
)
@pytest.mark.parametrize("given", ["9" * 5000, "x" * 5000])
def test_a_long_word_is_not_repeated_in_full(words, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words.format(given).split())
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()[-1]) < 500
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_no_function_takes_whatever_comes(verb):
    kinds = {parameter.kind for parameter in inspect.signature(function(verb)).parameters.values()}
    assert not {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL} & kinds


def loaded_by(code: str, cwd: Path) -> set[str]:
    """The modules that a program of its own has imported at its end."""
    command = [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_front_is_read_without_torch_and_optuna(tmp_path):
    modules = loaded_by("import nas; nas.load_run('zoo:joint-ar-tiny').front()", tmp_path)
    assert "pandas" in modules
    assert not {"torch", "optuna", "scipy", "matplotlib", "compressai"} & modules


def test_an_export_opens_no_study(tmp_path):
    code = "import nas; nas.export('zoo:joint-ar-tiny', 'codec', target='60%', device='cpu')"
    assert "optuna" not in loaded_by(code, tmp_path)


def test_the_version_is_told_by_both_doors():
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert shown.stdout.strip() == f"nas {nas.__version__}"


def test_the_package_says_that_it_is_typed():
    assert (Path(nas.__file__).parent / "py.typed").is_file()


@pytest.fixture(scope="module")
def searched(tmp_path_factory, photo_folder):
    run = small_run(tmp_path_factory.mktemp("runs") / "run", SPACES["factorized-integer"], photo_folder)
    nas.load_run(run.path, device="cpu").search(trials=3, sources=Sources(logits=False, layouts=False))
    return run


@pytest.mark.parametrize("kind", ["number", "text", "share", "budget", "file"])
def test_a_target_is_said_alike_at_every_door(searched, kind, tmp_path):
    (tmp_path / "mine.yaml").write_text("targets: [0.2]")
    asked = {
        "number": 0.2,
        "text": "0.2",
        "share": "99%",
        "budget": Budget.of("0.2"),
        "file": tmp_path / "mine.yaml",
    }[kind]
    content = nas.export(searched, tmp_path / "codec", budget=asked, device="cpu")  # may score near it
    choices = nas.search(searched, asked, trials=0, device="cpu").choices
    again = nas.load_run(searched.path, device="cpu").search(asked, trials=0).choices
    assert {content["arch"]} == {choice.architecture.key for choice in (*choices, *again)}


def test_a_picture_goes_there_and_back_from_python(searched, photo_folder, tmp_path):
    widest = searched.space.widest().key
    nas.export(searched.path, tmp_path / "codec", arch=widest, device="cpu")
    photo = min(photo_folder.rglob("*.png"))
    packed = nas.compress(tmp_path / "codec", photo, tmp_path / "photo.nic")
    assert packed.bytes == packed.file.stat().st_size
    unpacked = nas.decompress(tmp_path / "codec", packed.file, tmp_path / "photo.png")
    assert unpacked.image.is_file()
    assert unpacked.arch == widest
    assert nas.info(packed.file).fields["bytes"] == packed.bytes


def test_results_say_what_they_hold(searched):
    result = nas.search(searched, trials=0, device="cpu")
    assert "scored" in repr(result)
    assert list(result.to_dataframe()["arch"]) == list(result.scored["arch"])
    assert str(searched.path) in repr(nas.load_run(searched.path))
    assert nas.zoo() == ["zoo:joint-ar-small", "zoo:joint-ar-tiny", "zoo:patch"]
