"""Ctrl-C: whenever it comes, a command ends with status 130 and says how to continue."""

from __future__ import annotations

import builtins
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.__main__ import main
from nas.cli import app
from nas.support.errors import InputError
from nas.support.interrupts import STOPS

VERBS = {  # command: the function that does its work
    "demo --out made": "nas.verbs.demo.demo",
    "train joint-ar-tiny --data photos --out made": "nas.verbs.train.train",
    "search run --trials 1": "nas.verbs.search.search",
    "pareto run": "nas.verbs.pareto.pareto",
    "explain run --arch x": "nas.verbs.analyse.explain",
    "rank-check run --data photos": "nas.verbs.analyse.rank_check",
    "export run --target 50% --out made": "nas.verbs.export.export",
    "compress codec photo.png photo.nic": "nas.verbs.code.compress",
    "decompress codec photo.nic photo.png": "nas.verbs.code.decompress",
    "transcode codec a.nic b.nic --layout raster": "nas.verbs.code.transcode",
    "finetune codec --data photos --out made": "nas.verbs.finetune.finetune",
    "evaluate codec --data photos --out rd.json": "nas.verbs.evaluate.evaluate",
    "profile run": "nas.verbs.profile.profile",
    "info joint-ar-tiny": "nas.verbs.info.info",
}
AGAIN = "un the same command again"


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", VERBS)
def test_a_command_says_how_to_continue(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VERBS[command], interrupted)
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 130
    assert result.stderr.count("Stopped; ") == 1
    assert result.stderr.endswith("Interrupted.\n")
    assert AGAIN in result.stderr


@pytest.mark.parametrize("verb", ["demo", "export"])
def test_where_a_folder_was_begun_it_says_force(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = next(each for each in VERBS if each.startswith(verb))

    def begun(*_: Any, **__: Any) -> None:
        Path("made").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(VERBS[command], begun)
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 130
    assert "made exists. Run the same command with --force" in result.stderr


@pytest.mark.usefixtures("signals_as_usual")
@pytest.mark.parametrize("number", [signal.SIGINT, *STOPS])
@pytest.mark.parametrize("made", [ValueError, InputError, OSError])
def test_a_library_makes_another_error_of_it(
    number: int, made: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pydantic does, where the signal comes while it builds a model."""
    monkeypatch.chdir(tmp_path)

    def catching(*_: Any, **__: Any) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:
            raise made("cannot build the model") from None

    monkeypatch.setattr("nas.verbs.search.search", catching)
    result = CliRunner().invoke(app, ["search", "run"])
    assert result.exit_code == 130
    assert "every score is kept" in result.stderr
    assert "cannot build" not in result.stderr


@pytest.mark.parametrize("verb", ["search", "train"])
def test_the_command_to_go_on_with_is_quoted(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "my runs" / "a=b ü"
    (out / "checkpoint").mkdir(parents=True)
    (out / "checkpoint" / "last.safetensors").write_bytes(b"")
    monkeypatch.setattr(f"nas.verbs.{verb}.{verb}", interrupted)
    words = {"search": ["search", str(out)], "train": ["train", "--out", str(out), "--resume"]}
    told = CliRunner().invoke(app, words[verb]).stderr.splitlines()[0]
    command = shlex.split(told.partition("nas ")[2])
    assert str(out) in command


def test_an_error_without_a_signal_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def failing(*_: Any, **__: Any) -> None:
        raise InputError("This is wrong.")

    monkeypatch.setattr("nas.verbs.search.search", failing)
    result = CliRunner().invoke(app, ["search", "run"])
    assert (result.exit_code, result.stderr) == (2, "Error: This is wrong.\n")


def test_before_the_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.support.files.refuse_existing", interrupted)
    result = CliRunner().invoke(app, ["export", "run", "--target", "50%", "--out", "made"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted. Run the same command again.\n")


def test_while_the_command_line_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = builtins.__import__

    def stop(name: str, *more: Any, **others: Any) -> Any:
        if name == "nas.cli":
            raise KeyboardInterrupt
        return usual(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", stop)
    with pytest.raises(SystemExit, match="130"):
        main()
    assert AGAIN in capsys.readouterr().err
