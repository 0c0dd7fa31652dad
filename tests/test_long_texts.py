"""No message grows with what somebody has given: long names, keys, values and options lack their middle."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec.nic import Nic
from nas.spaces.budget import Amount, Budget
from nas.spaces.space import SearchSpace
from nas.support.device import choose
from nas.support.errors import (
    MOST_MESSAGE,
    InputError,
    InputWarning,
    SeveralInputsError,
    in_one_line,
    nearest,
)
from nas.support.limits import check_count, check_seed, check_settings

LONG = ["x" * 5000, "words and " * 500, "'" * 3000, "a=1-" * 1500, "é\n" * 2000, "[" * 4000, "-" * 4000]
SPACE = yaml.safe_load((Path(nas.__file__).parent.parent / "search_spaces/factorized-tiny.yaml").read_text())

DOORS: dict[str, Callable[[str], Any]] = {
    "the name of a space": SearchSpace.load,
    "a key": lambda text: SearchSpace.load("factorized-tiny").parse(text),
    "a field of a space": lambda text: SearchSpace.from_dict({**SPACE, text: 1}, name="mine"),
    "a family": lambda text: SearchSpace.from_dict({**SPACE, "family": text}, name="mine"),
    "a quantiser": lambda text: SearchSpace.from_dict({**SPACE, "quantizer": text}, name="mine"),
    "widths": lambda text: SearchSpace.from_dict({**SPACE, "widths": text}, name="mine"),
    "a width": lambda text: SearchSpace.from_dict({**SPACE, "widths": {text: [1]}}, name="mine"),
    "a value": lambda text: SearchSpace.from_dict({**SPACE, "widths": {"g_a": [text]}}, name="mine"),
    "the name of a configuration": lambda text: SearchSpace.from_dict({}, name=text),
    "an amount": Amount.parse,
    "a budget": Budget.of,
    "a device": choose,
    "a seed": check_seed,  # type: ignore[dict-item]
    "a number": lambda text: check_count(text, "steps"),  # type: ignore[arg-type]
    "settings": check_settings,  # type: ignore[dict-item]
    "a run": nas.load_run,
    "a codec": nas.load_codec,
    "a setting": lambda text: nas.train("factorized-tiny", data="photos", settings={text: 1}),
    "a setting's value": lambda text: nas.train("factorized-tiny", data="photos", settings={"batch": text}),
    "a picture": lambda text: nas.compress("codec", text, "out.nic"),
    "a file": lambda text: Nic.read(Path(text.replace("\n", "")[:300])),
    "the source of a file": lambda text: Nic.parse(b"no", source=text),
    "a misspelt name": lambda text: _raise(nearest(text, ["one"]) + text),
}

COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "a command": lambda text: [text],
    "an option": lambda text: ["info", f"--{text}"],
    "an option of all": lambda text: [f"--{text}"],
    "a whole number": lambda text: ["compress", "a", "b", "c", "--effort", f"9{text}"],
    "a decimal": lambda text: ["compress", "a", "b", "c", "--quality", text],
    "another argument": lambda text: ["info", "a", text],
    "a folder": lambda text: ["info", text],
    "a target": lambda text: ["search", "zoo:patch", "--target", text],
    "a setting": lambda text: ["train", "factorized-tiny", "--data", "a", "--set", text],
    "a supernet": lambda text: ["search", f"zoo:{text}"],
}


def _raise(message: str) -> None:
    raise InputError(message)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("door", DOORS)
def test_messages_do_not_grow_with_what_was_given(
    door: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        DOORS[door](text)
    assert 0 < len(str(caught.value)) <= MOST_MESSAGE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_do_not_repeat_long_words(
    command: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, COMMANDS[command](text))
    assert result.exit_code == 2
    assert len(result.stderr) <= MOST_MESSAGE + 200  # the usage and the name of an option are beside it


def test_a_yaml_file_with_long_names_and_values(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    contents = {"x" * 9000: 1}, {**SPACE, "quantizer": "y" * 9000}, {**SPACE, "x" * 9000: 1}
    for text in ["a: [" + "x" * 9000, "z" * 9000, *map(yaml.safe_dump, contents)]:
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            SearchSpace.load(path)
        assert len(str(caught.value)) <= MOST_MESSAGE


def test_a_list_of_wrong_inputs_names_them_all() -> None:
    error = SeveralInputsError(
        "40 files are wrong", [f"{number}-{'x' * 9000}.png is cut." for number in range(40)]
    )
    for shown in (str(error), str(pickle.loads(pickle.dumps(error)))):
        assert all(f" {number}-xxx" in shown for number in range(40))
        assert len(shown) < 40 * 400
        assert shown.endswith("is cut.")


def test_warnings_do_not_grow_either() -> None:
    with pytest.warns(InputWarning) as said:
        warnings.warn("x" * 9000, InputWarning, stacklevel=1)
    assert len(str(said[0].message)) <= MOST_MESSAGE


@settings(max_examples=300)
@given(st.text(max_size=30), st.integers(1, 400))
def test_a_message_keeps_its_beginning_and_its_end(text: str, times: int) -> None:
    message = f"Here it stands: '{text * times}'. Correct it."
    shown = in_one_line(message)
    assert len(shown) <= MOST_MESSAGE
    assert shown.startswith("Here it stands: '")
    assert shown.endswith("Correct it.")
    assert in_one_line(shown) == shown
    if len(message) <= 200 and text.isascii() and text.isprintable():
        assert shown == message
