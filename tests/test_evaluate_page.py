"""docs/evaluate.md: its commands run, and write the files it lists."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nas.cli import app
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.graph.network import Supernet

PAGE = (Path(__file__).parents[1] / "docs" / "evaluate.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"^```sh\n((?s:.*?))^```$", PAGE, re.MULTILINE)
    for line in block.splitlines()
]


@pytest.fixture
def place(supernet: Supernet, tmp_path: Path, chelsea: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's commands find what they name."""
    monkeypatch.chdir(tmp_path)
    for name, level, lmbda in zip("abcd", (0.0, 0.3, 0.6, 1.0), (0.002, 0.004, 0.008, 0.016), strict=True):
        architecture = supernet.space.uniform(level, "none")
        costs = {"encoder": 1.0, "decoder": 2.0, "total": 2.5}
        facts = {"lmbda": lmbda, "metric": "mse", "kmac_px": costs, "stages": 1, "params": 1000}
        save_codec(Codec(supernet.extract(architecture), architecture), tmp_path / "codecs" / name, facts)
    (tmp_path / "photos").mkdir()
    Image.fromarray(chelsea[:64, :96]).save(tmp_path / "photos" / "photo.png")
    rates, qualities = [0.1, 0.3, 0.9, 2.0], [20, 25, 32, 40]
    content = {"name": "VTM", "results": {"bpp": rates, "psnr-rgb": qualities}}
    (tmp_path / "vtm.json").write_text(json.dumps(content))
    rows = [
        f"{name}.json,{name},{rate},{quality},\n"
        for name in ("vtm", "elic2022_mse")
        for rate, quality in zip(rates, qualities, strict=True)
    ]
    (tmp_path / "published.csv").write_text("file,name,bpp,psnr_rgb,ms_ssim_rgb\n" + "".join(rows))
    return tmp_path


def test_the_commands_run(place: Path) -> None:
    ours = [command for command in COMMANDS if command.startswith("nas evaluate")]
    assert len(ours) == 5
    for command in ours:
        words = shlex.split(command.replace("codecs/*", "codecs/a codecs/b codecs/c codecs/d"))
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, done.output
        assert "none" in done.stdout or "%" in done.stdout  # a BD-rate, or why not
    for name in re.findall(r"`(rd[a-z.-]*\.[a-z]{3,4})`", PAGE):
        assert (place / name).is_file(), name
    assert len(json.loads((place / "all.json").read_text())["evaluation"]["bd_rate"]) == 2 * 2 * 3


def test_the_other_command_is_compressais() -> None:
    (other,) = (command for command in COMMANDS if not command.startswith("nas evaluate"))
    assert other.startswith("python -m compressai.utils.plot -f rd.json rd-jpeg.json")
