"""A refused command leaves everything as it was: no new file, no folder, nothing changed or removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from nas.api import load_run
from nas.cli import app
from nas.photos.split import write_split
from nas.run import Run
from nas.searching.scoring.scores import read_scores
from nas.shipped import copied, zoo_run
from nas.verbs.finetune import FinetuneRequest, finetune_codec


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def interrupted(codec: Path, photos: Path, out: Path) -> None:
    """A fine-tuning that was stopped after a step."""

    def stop(*told: object) -> None:
        raise KeyboardInterrupt

    settings = {"crop": 64, "batch": 1}
    with pytest.raises(KeyboardInterrupt):
        finetune_codec(FinetuneRequest(codec, str(photos), out, steps=3, settings=settings), stop)


def with_nan(run: Path) -> None:
    path = run / "supernet.safetensors"
    with safe_open(path, "pt") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    save_file(tensors, path, facts)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "nan": with_nan,
    "front": lambda run: (run / "front.csv").write_text("a\n1,2\n"),
    "scores": lambda run: (run / "search" / "scores.csv").write_text("a\n1,2\n"),
    "split": lambda run: (run / "split.csv").write_text("a\n1,2\n"),
    "held-out": lambda run: hold_out(run, run.parents[1] / "bad" / "3.png"),
}


def hold_out(run: Path, photo: Path) -> None:
    """Make a run one on photos of its own, of which the held-out one is given."""
    config = run / "config.yaml"
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("data:")), encoding="utf-8")
    good = sorted((run.parents[1] / "good").iterdir())
    write_split(run / "split.csv", {"train": good[:2], "calibration": good[2:3], "held-out": [photo]})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, chelsea: np.ndarray) -> Path:
    """A searched run and damaged copies of it, a codec, a stopped fine-tuning, photos, damaged photos."""
    root = tmp_path_factory.mktemp("refused")
    run = copied(zoo_run("zoo:joint-ar-tiny"), root / "run")
    key = read_scores(run.scores_path)[0]["key"]
    load_run(run.path, device="cpu").export(root / "codec", arch=key)
    for name in ("good", "bad"):
        (root / name).mkdir()
        for number in range(5):
            Image.fromarray(chelsea[number : number + 64, :64]).save(root / name / f"{number}.png")
    damaged = root / "bad" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    interrupted(root / "codec", root / "good", root / "stopped")
    for name, damage in DAMAGES.items():
        shutil.copytree(run.path, root / "damaged" / name)
        damage(root / "damaged" / name)
    (root / "empty").mkdir()
    return root


@pytest.mark.parametrize(
    "words",
    [
        "export IN/run --arch ARCH --onnx --arithmetic float64 --out IN/empty/a",
        "export IN/run --target 60% --onnx --arithmetic float64 --out IN/codec --force",
        "export IN/damaged/held-out --target 60% --out IN/empty/a",
        "export IN/damaged/held-out --arch ARCH --out IN/codec --force",
        "search IN/run --trials 0 --device cuda --storage IN/empty/a.log",
        "search IN/run --trials 0 --device gpu --storage IN/empty/a.log",
        "search IN/run --trials 0 --data IN/bad --out IN/empty/a",
        "search IN/run --trials 0 --data IN/bad --out IN/empty/a --storage IN/empty/a.log",
        "search IN/run --trials 0 --data IN/bad --out IN/empty/a --storage IN/empty/b/a.log",
        "search IN/run --trials 0 --data IN/bad --out IN/empty/a --storage sqlite:///IN/empty/a.db",
        "search IN/run --trials 0 --data IN/good --out IN/empty/a --device cuda",
        "search zoo:joint-ar-tiny --data IN/bad --out IN/run --storage IN/empty/a.log --force",
        "search zoo:joint-ar-tiny --trials 0 --out IN/empty/a --device gpu",
        "search IN/damaged/nan --trials 0 --storage IN/empty/a.log",
        "search IN/damaged/scores --trials 0 --storage IN/empty/a.log",
        "search IN/damaged/split --trials 0 --storage IN/empty/a.log",
        "search IN/damaged/held-out --trials 0 --data IN/bad --out IN/empty/a --storage IN/empty/a.log",
        "search IN/damaged/nan --trials 0 --data IN/good --out IN/empty/a",
        "search IN/damaged/front --trials 0 --data IN/good --out IN/empty/a",
        "finetune IN/codec --data IN/bad --out IN/stopped --force",
        "finetune IN/codec --data IN/bad --only g_s --out IN/stopped --force",
        "finetune IN/codec --data IN/good --out IN/stopped --device cuda --force",
        "finetune IN/codec --data IN/good --out IN/stopped --set crop=4096 --force",
        "finetune IN/codec --data IN/good --out IN/stopped --set crop=64 --set frozen=[nothing] --force",
        "train joint-ar-tiny --data IN/bad --steps 1 --out IN/run --force",
        "train joint-ar-tiny --data IN/good --steps 1 --out IN/run --set crop=64 --set frozen=[g_z] --force",
        "rank-check IN/run --data IN/bad --count 3 --steps 1 --set crop=64",
        "evaluate IN/codec --data IN/bad --against jpeg --out IN/empty/a.json",
        "probe IN/run --arch ARCH --data IN/bad --out IN/empty/a.json",
        "compress IN/codec IN/good IN/empty/a --layout nothing",
    ],
)
def test_what_is_refused_leaves_everything_as_it_was(words: str, place: Path) -> None:
    key = read_scores(Run(place / "run").scores_path)[0]["key"]
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    before = everything(place)
    argv = words.replace("IN", str(place)).replace("ARCH", key).split()
    done = CliRunner().invoke(app, argv)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2, done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    after = everything(place)
    assert sorted(after) == sorted(before)
    assert [name for name in after if after[name] != before[name]] == []
