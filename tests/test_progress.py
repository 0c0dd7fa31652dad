"""Progress at a terminal: something moves from the first second on, and nothing is left of what is over."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from nas import console
from nas.cli import work as work_module
from nas.cli.work import STOPPED_MEASURING, work

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def wait_for(self, text: str, after: int = 0) -> None:
        until = time.monotonic() + 20
        while text not in self.getvalue()[after:]:
            assert time.monotonic() < until, self.getvalue()
            time.sleep(0.01)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in the place of stderr, and no patience."""
    made = Terminal()
    monkeypatch.setattr(work_module, "sys", SimpleNamespace(stderr=made))  # pytest sets sys.stderr itself
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = Console(file=made, force_terminal=True, width=100, highlight=False, soft_wrap=True)
    monkeypatch.setattr(console, "errors", shown)
    monkeypatch.setattr(work_module, "PATIENCE", 0.0)
    return made


def test_a_terminal_shows_that_something_is_loaded(terminal: Terminal) -> None:
    with work(STOPPED_MEASURING) as report:
        terminal.wait_for("loading")
        report("scoring", 1, 2, "")
        terminal.wait_for("scoring")
        report("scoring", 2, 2, "")
    last = terminal.getvalue().rpartition("loading")[2]
    assert "scoring" in last
    assert "2/2" in last


def test_something_moves_when_a_stage_has_come_to_its_end(terminal: Terminal) -> None:
    with work(STOPPED_MEASURING) as report:
        report("training", 1, 2, "")
        report("training", 2, 2, "")
        terminal.wait_for("2/2")
        drawn = len(terminal.getvalue())
        terminal.wait_for(SPINNER[1], after=drawn)
        report("drawing", 0, 1, "")
    lines = terminal.getvalue().splitlines()
    training, drawing = ([line for line in lines if name in line][-1] for name in ("training", "drawing"))
    assert not set(SPINNER) & set(training)
    assert set(SPINNER) & set(drawing)


def test_nothing_is_left_of_loading_where_it_fails(terminal: Terminal) -> None:
    def fail() -> None:
        with work(STOPPED_MEASURING):
            terminal.wait_for("loading")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert "\n" not in terminal.getvalue().rpartition("loading")[2]


def test_what_is_quick_shows_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "PATIENCE", 60.0)
    with work(STOPPED_MEASURING):
        pass
    assert terminal.getvalue() == ""


def test_a_log_says_how_long_a_stage_will_still_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with work(STOPPED_MEASURING) as report:
        for done in range(20, 101, 10):  # continues where an earlier process stopped
            report("timing", done, 100, "g_s")
            now[0] += 10 * 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["timing: 20/100  g_s", "timing: 30/100  g_s  4 min left"]
    assert lines[-2:] == ["timing: 90/100  g_s  30 s left", "timing: 100/100  g_s"]


def test_a_log_has_no_line_for_loading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "PATIENCE", 0.0)
    with work(STOPPED_MEASURING) as report:
        time.sleep(0.2)
        report("scoring", 1, 2, "")
    assert capsys.readouterr().err == "scoring: 1/2\n"
