"""Trainings that live, stop and go on: one at a time in a folder, and what a person is told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from nas.cli import app
from nas.photos.split import load_photos
from nas.spaces.space import SearchSpace
from nas.support.device import free_memory
from nas.support.errors import InputError
from nas.support.files import LOCK, clear, folder_lock
from nas.support.interrupts import PAUSE, STOPS, Interrupts, as_ctrl_c
from nas.training.data import _ignore_interrupts
from nas.training.devices import bytes_per_pixel, refuse_what_does_not_fit
from nas.training.settings import TrainingSettings
from nas.training.start import TrainingRequest, start_training
from nas.weights.checkpoint import Checkpoint

SPACE = "factorized-tiny"
SMALL = ["crop=64", "batch=1", "architectures=2"]
_SET = [word for setting in SMALL for word in ("--set", setting)]


def nas(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stderr


def train(photos: Path, out: Path, *more: object) -> tuple[int, str]:
    """A small training; what is asked for goes over its settings."""
    names = [str(word).partition("=")[0] for word in more]
    own = [word for word in SMALL if word.partition("=")[0] not in names]
    return nas("train", SPACE, "--data", photos, "--out", out, *(w for s in own for w in ("--set", s)), *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("live") / "run"
    assert train(photo_folder, out, "--steps", 2)[0] == 0
    return out


def test_a_finished_run_says_how_to_train_longer(finished: Path, photo_folder: Path) -> None:
    assert not (finished / LOCK).exists()
    longer = f"--out NEW --init-from {finished}"
    before = (finished / "supernet.safetensors").read_bytes()
    status, said = train(photo_folder, finished, "--steps", 9)
    assert status == 2
    assert "its training is complete" in said
    assert longer in said
    status, said = nas("train", "--out", finished, "--resume", "--steps", 9)
    assert status == 2
    assert longer in said
    status, said = nas("train", "--out", finished, "--resume")
    assert status == 0
    assert longer in said
    assert (finished / "supernet.safetensors").read_bytes() == before


def test_an_unfinished_training_is_gone_on_with(photo_folder: Path, tmp_path: Path) -> None:
    """Its own command, run again, names --resume and nothing that would delete it."""
    out = tmp_path / "run"
    request = TrainingRequest(
        SPACE, str(photo_folder), out, settings={"crop": 64, "batch": 1, "steps": 5, "architectures": 2}
    )

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_training(request, stop)
    assert Checkpoint.read(out / "checkpoint" / "last.safetensors").record["step"] == 1
    status, said = train(photo_folder, out, "--steps", 5)
    assert status == 2
    assert f"nas train --out {out} --resume" in said
    assert "--force" not in said
    assert nas("train", "--out", out, "--resume")[0] == 0


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    """A training that has done one of two steps."""
    out = tmp_path_factory.mktemp("live") / "stopped"
    settings = {"crop": 64, "batch": 1, "steps": 2, "architectures": 2}

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_training(TrainingRequest(SPACE, str(photo_folder), out, settings=settings), stop)
    return out


@pytest.mark.parametrize(
    "change",
    [
        *({"step": value} for value in (None, "soon", -1, float("nan"), [])),
        *({"plateaus": value} for value in (None, {}, 3, {"patience": "long"})),
        *({"recent": value} for value in (True, [1], [[1, 2]], [["a", 1, 2]])),
        *({"optimizers": value} for value in ("soon", {"optimizer": {"values": 3}})),
    ],
)
def test_a_checkpoint_of_another_form_is_refused_and_stays(
    stopped: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    """As a version wrote it that kept other things, or damaged."""
    out = Path(shutil.copytree(stopped, tmp_path / "run"))
    path = out / "checkpoint" / "last.safetensors"
    known = Checkpoint.read(path)
    Checkpoint(known.tensors, {**known.record, **change}).write(path)
    before = path.read_bytes()
    status, said = nas("train", "--out", out, "--resume")
    assert status == 2
    assert "last.safetensors is damaged: restore it, or train anew with --force" in said
    assert said.count("\n") == 1
    assert path.read_bytes() == before


def test_a_split_without_photos_to_train_on_is_refused(stopped: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(stopped, tmp_path / "run"))
    (out / "split.csv").write_text("split,photo\n")
    status, said = nas("train", "--out", out, "--resume")
    assert status == 2
    assert "restore the run's split.csv" in said


def test_one_process_trains_in_a_folder(finished: Path, photo_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nas.support.files import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(finished / LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        before = sorted(finished.rglob("*"))
        for words in (["--resume"], [SPACE, "--data", photo_folder, *_SET, "--steps", 1, "--force"]):
            status, said = nas("train", "--out", finished, *words)
            assert status == 2
            assert "Another process is training" in said
        for folder in (finished, finished.parent):
            with pytest.raises(InputError, match="Another process is training"):
                clear(folder)
        assert sorted(finished.rglob("*")) == before
    finally:
        other.kill()  # the system gives its lock back
        other.communicate()
    assert nas("train", "--out", finished, "--resume")[0] == 0


def test_threads_count_as_processes(tmp_path: Path) -> None:
    with folder_lock(tmp_path / LOCK), pytest.raises(InputError, match="Another process"):
        folder_lock(tmp_path / LOCK).__enter__()
    with folder_lock(tmp_path / LOCK):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("signals_as_usual")
@pytest.mark.parametrize("number", STOPS)
def test_what_schedulers_send_is_remembered_until_the_step_is_whole(number: int) -> None:
    before = signal.getsignal(number)
    with as_ctrl_c():
        interrupts = Interrupts()
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert interrupts.wanted
        with pytest.raises(KeyboardInterrupt):  # asked for again, it does not wait
            signal.raise_signal(number)
        interrupts.close()
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("signals_as_usual")
@pytest.mark.parametrize("pause", [PAUSE, 0])  # with none, it may come before Python has forgotten the first
@pytest.mark.parametrize("number", [signal.SIGINT, *STOPS])
def test_an_interruption_that_python_had_to_ignore_is_raised_again(
    number: int, pause: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.support.interrupts.PAUSE", pause)

    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def finalise_one() -> None:
        one = Finalised()
        del one
        time.sleep(10)

    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), as_ctrl_c():
        finalise_one()
    assert capsys.readouterr().err == ""
    assert sys.unraisablehook is before


def test_other_errors_that_python_has_to_ignore_are_told_as_ever() -> None:
    class Finalised:
        def __del__(self) -> None:
            raise ValueError("told")

    told: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, told.append
    try:
        with as_ctrl_c():
            one = Finalised()
            del one
    finally:
        sys.unraisablehook = before
    assert [each.exc_type for each in told] == [ValueError]


def test_workers_ignore_what_the_program_ignores() -> None:
    """Under nohup, a terminal that closes may tell every process of a group so twice."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *STOPS)]
    try:
        _ignore_interrupts(0)
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in STOPS)
    finally:
        for number, handler in zip((signal.SIGINT, *STOPS), before, strict=True):
            signal.signal(number, handler)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(STOPS[0], signal.SIG_IGN)
    try:
        with as_ctrl_c():
            interrupts = Interrupts()
            os.kill(os.getpid(), STOPS[0])
            time.sleep(0.01)
            assert not interrupts.wanted
            interrupts.close()
    finally:
        signal.signal(STOPS[0], before)


@pytest.mark.usefixtures("signals_as_usual")
@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_terminated_training_keeps_its_last_step(photo_folder: Path, tmp_path: Path, workers: int) -> None:
    """The signal reaches the workers, too, as where a scheduler ends a whole job."""
    out = tmp_path / "run"
    words = ["train", SPACE, "--data", str(photo_folder), "--out", str(out), *_SET, "--steps", "100000"]
    command = [sys.executable, "-m", "nas", *words, "--set", f"workers={workers}"]
    process = subprocess.Popen(
        [*command, "--set", "checkpoint_every=100000"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("training:"):
            break
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"--out {out} --resume" in errors
    assert "Traceback" not in errors
    assert Checkpoint.read(out / "checkpoint" / "last.safetensors").record["step"] >= 1


# What cannot fit


def test_crops_larger_than_every_photo_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    status, said = train(photo_folder, tmp_path / "run", "--set", "crop=4096")
    assert status == 2
    assert "fit into none of the photos, of which the largest measures 128x96: set crop=128" in said
    assert time.monotonic() - began < 20
    assert not (tmp_path / "run").exists()


def test_batches_larger_than_the_memory_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    free = free_memory(torch.device("cpu"))
    if free is None:
        pytest.skip("this system does not tell what is free")
    status, said = train(photo_folder, tmp_path / "run", "--set", "batch=10000000")
    assert status == 2
    assert "GB for its gradients" in said
    assert not (tmp_path / "run").exists()
    settings = TrainingSettings(crop=64, batch=10_000_000)
    with pytest.raises(InputError, match="GB are free"):
        refuse_what_does_not_fit(SearchSpace.load(SPACE), settings, torch.device("cpu"))


def test_what_is_kept_for_gradients_is_counted() -> None:
    """A picture and its 8 channels at half its sides are among it; less is kept where parts are frozen."""
    space = SearchSpace.load(SPACE)
    whole = bytes_per_pixel(space, TrainingSettings())
    assert 4 * (3 + 8 / 4) < whole < 4000
    assert bytes_per_pixel(space, TrainingSettings(only="g_s")) < whole


# Photos


def test_all_bad_photos_are_named_at_once(tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / f"good-{number}.png")
    for number in range(9):
        data = (tmp_path / f"good-{number}.png").read_bytes()
        (tmp_path / f"bad-{number}.png").write_bytes(data[: 20 + number])
    status, said = train(tmp_path, tmp_path.parent / "out")
    assert status == 2
    for number in range(9):
        assert f"bad-{number}.png" in said
    assert "9 photos cannot be used" in said
    assert said.count("\n") == 1 + said.count("hyperprior")
    assert not (tmp_path.parent / "out").exists()
    with pytest.raises(InputError, match=r"bad-0\.png \(it is cut off\)") as one:
        load_photos([tmp_path / "good-0.png", tmp_path / "bad-0.png"])
    assert "photos cannot be used" not in str(one.value)
    with pytest.raises(InputError, match=r"2 photos.*bad-0.*bad-7"):
        load_photos([tmp_path / f"{name}.png" for name in ("bad-0", "good-1", "bad-7")])
