"""Training as processes that are killed, interrupted, and joined: the same weights in the end."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import SMALL

from nas.weights.checkpoint import Checkpoint

pytestmark = pytest.mark.slow
STEPS = 150
SET = [
    f"--set={name}={value}"
    for name, value in {
        **{"steps": STEPS, "crop": 64, "batch": 2, "architectures": 3, "checkpoint_every": 5},
        **{"ema": 0.9, "structure": "joint", "target": 0.2, "distillation": 0.5, "schedule": "plateau"},
        **{"patience": 3, "learning_rate": 0.001, "workers": 1, "preview_every": 0},
    }.items()
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> list[str]:
    path = tmp_path_factory.mktemp("space") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return [sys.executable, "-m", "nas", "train", str(path), "--data", str(photo_folder), *SET]


def resume(out: Path) -> list[str]:
    return [sys.executable, "-m", "nas", "train", "--out", str(out), "--resume"]


def start(command: list[str], errors: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    # a group of its own, so that a signal reaches its workers as a terminal's would; what runs in the
    # background may have been told to ignore Ctrl-C
    return subprocess.Popen(
        command,
        env=ENVIRONMENT,
        start_new_session=True,
        text=True,
        stderr=errors,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def steps_done(out: Path) -> int:
    try:
        return int(Checkpoint.read(out / "checkpoint" / "last.safetensors").record["step"])
    except Exception:  # there is none yet
        return 0


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run([*words, "--out", str(out)], env=ENVIRONMENT, check=True, capture_output=True)
    return out


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv", newline="") as file:
        timed = ("seconds", "loss_")  # calibration photos are looked at when there is time
        return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in csv.DictReader(file)]


def assert_same_run(out: Path, whole: Path) -> None:
    for name in ("supernet.safetensors", "checkpoint/last.safetensors", "structure.yaml"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert rows(out) == rows(whole)


def test_killed_again_and_again_it_ends_the_same(words, whole, tmp_path):
    out, rng = tmp_path / "run", random.Random(0)
    process = start([*words, "--out", str(out)])
    for _ in range(3):
        here = steps_done(out)
        wait_for(lambda here=here: steps_done(out) >= here + 20, process)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process = start(resume(out))
    assert process.wait() == 0
    assert_same_run(out, whole)


def test_interrupted_it_says_how_to_go_on(words, whole, tmp_path):
    out = tmp_path / "run"
    process = start([*words, "--out", str(out)], subprocess.PIPE)
    wait_for(lambda: steps_done(out) >= 20, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--out {out} --resume" in errors
    assert "Traceback" not in errors
    subprocess.run(resume(out), env=ENVIRONMENT, check=True, capture_output=True)
    assert_same_run(out, whole)


def test_two_processes_train_as_one_with_the_joint_batch(words, tmp_path):
    """Under torchrun: each takes half of every batch, and the losses are those of the whole."""
    short = {"steps": 6, "checkpoint_every": 1, "batch": 4}
    options = [word for word in words[3:] if not word.startswith(tuple(f"--set={name}=" for name in short))]
    options += [f"--set={name}={value}" for name, value in short.items()]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29517", "-m", "nas"]
    for name, python in (("one", [sys.executable, "-m", "nas"]), ("two", [sys.executable, *launch])):
        command = [*python, *options, "--out", str(tmp_path / name)]
        subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two) == 6
    for alone, joint in zip(one, two, strict=True):
        for name, value in alone.items():
            assert float(joint[name]) == pytest.approx(float(value), rel=2e-4), name
    final = [Checkpoint.read(tmp_path / name / "supernet.safetensors").tensors for name in ("one", "two")]
    for name, value in final[0].items():
        assert (final[1][name] - value).abs().max() < 1e-4 if value.numel() else True, name
