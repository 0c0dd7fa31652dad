"""docs/get-started.md: its commands run one after the other, and leave what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nas.cli import app

PAGE = (Path(__file__).parents[1] / "docs" / "get-started.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n((?s:.*?))^```$", PAGE, re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("nas ")
]


def test_the_page_goes_from_a_search_to_a_decoded_file() -> None:
    verbs = [command.split()[1] for command in COMMANDS]
    assert verbs == ["search", "pareto", "export", "info", "compress", "decompress"]


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path, chelsea: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(chelsea[:128, :192]).save("photo.png")
    printed = ""
    for command in COMMANDS:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
        printed += done.output
    for cost in re.findall(r"decoders cost ([\d.]+) to ([\d.]+) kMAC/px", PAGE)[0]:
        assert cost in printed
    for name in re.findall(
        r"`([a-z]+\.(?:csv|png|svg|html))`", PAGE.partition("## 3")[2].partition("## 4")[0]
    ):
        assert (tmp_path / "patch" / name).is_file(), name
    with Image.open("decoded.png") as decoded:
        assert decoded.size == (192, 128)
