"""Folders that cannot be written: one sentence before the work, and what needs no writing works."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nas.api import load_run
from nas.cli import app
from nas.codec.bitstream import compress_image
from nas.codec.folder import load_codec
from nas.run import Run
from nas.searching.scoring.scores import read_scores
from nas.shipped import copied, zoo_run
from nas.support.errors import InputError
from nas.training.start import resume_training

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
CAPGET, CAPSET, OVERRIDES = 125, 126, 0b110  # system calls of x86-64; DAC_OVERRIDE and DAC_READ_SEARCH


@contextmanager
def as_anybody() -> Iterator[None]:
    """Without root's right to write everywhere, which it has in containers."""
    if os.geteuid() != 0:
        yield
        return
    system, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()
    if os.uname().machine != "x86_64" or system.syscall(CAPGET, header, rights) != 0:
        pytest.skip("root's rights cannot be put aside here")
    before = rights[0]
    rights[0] = before & ~OVERRIDES
    assert system.syscall(CAPSET, header, rights) == 0
    try:
        yield
    finally:
        rights[0] = before
        assert system.syscall(CAPSET, header, rights) == 0


def scored(run: Run) -> str:
    """The key of an architecture whose score is known."""
    return read_scores(run.scores_path)[0]["key"]


def protect(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, chelsea: np.ndarray) -> Iterator[Path]:
    """A searched run, a codec, a file, a photo; then a folder `closed` with copies of them, read-only."""
    root = tmp_path_factory.mktemp("read-only")
    (root / "closed").mkdir()
    run = copied(zoo_run("zoo:joint-ar-tiny"), root / "run")
    load_run(run.path, device="cpu").export(root / "codec", arch=scored(run))
    codec = load_codec(root / "codec")
    Image.fromarray(chelsea[:64, :64]).save(root / "photo.png")
    (root / "photo.nic").write_bytes(compress_image(codec, chelsea[:64, :64]).to_bytes())
    for name in ("run", "codec"):
        shutil.copytree(root / name, root / "closed" / name)
    protect(root / "closed")
    yield root
    for path in [root / "closed", *(root / "closed").rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def command(words: str, place: Path, out: Path) -> list[str]:
    names = {"IN": place, "CLOSED": place / "closed", "OUT": out, "ARCH": scored(Run(place / "run"))}
    found = words.split()
    for name, value in names.items():
        found = [word.replace(name, str(value)) for word in found]
    return found


@pytest.mark.parametrize(
    "words",
    [
        "demo --out CLOSED/demo",
        "train joint-ar-tiny --data bundled --out CLOSED/new --steps 1",
        "train joint-ar-tiny --data bundled --out CLOSED/run --steps 1 --force",
        "search CLOSED/run --trials 1",
        "search zoo:joint-ar-tiny --out CLOSED/new --trials 0",
        "search IN/run --data IN --out CLOSED/new --trials 0",
        "pareto CLOSED/run",
        "pareto IN/run --out CLOSED/new",
        "explain IN/run --arch ARCH --out CLOSED/steps.svg",
        "probe IN/run --arch ARCH --out CLOSED/probes.json",
        "export IN/run --arch ARCH --out CLOSED/new",
        "export IN/run --arch ARCH --out CLOSED/codec --force",
        "compress IN/codec IN/photo.png CLOSED/new.nic",
        "decompress IN/codec IN/photo.nic CLOSED/new.png",
        "transcode IN/codec IN/photo.nic CLOSED/new.nic --stages 9",
        "rank-check CLOSED/run --data bundled",
        "finetune IN/codec --data bundled --out CLOSED/new --steps 1",
        "evaluate IN/codec --data bundled --out CLOSED/new.json",
        "profile CLOSED/run",
        "info IN/codec --out CLOSED/new.svg",
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(words: str, place: Path, tmp_path: Path) -> None:
    before = sorted((place / "closed").rglob("*"))
    with as_anybody():
        done = CliRunner().invoke(app, command(words, place, tmp_path))
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "read-only" in line
    assert str(place / "closed") in line
    assert sorted((place / "closed").rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        "pareto CLOSED/run --out OUT/figures",
        "explain CLOSED/run --arch ARCH",
        "probe CLOSED/run --arch ARCH --photos 1 --steps 1",
        "export CLOSED/run --arch ARCH --out OUT/codec",
        "compress CLOSED/codec IN/photo.png OUT/new.nic",
        "decompress CLOSED/codec IN/photo.nic OUT/new.png",
        "info CLOSED/run",
        "info CLOSED/codec --out OUT/codec.svg",
        "search zoo:joint-ar-tiny --target 80% --trials 0 --out OUT/run",
    ],
)
def test_what_is_only_read_may_be_read_only(words: str, place: Path, tmp_path: Path) -> None:
    with as_anybody():
        done = CliRunner().invoke(app, command(words, place, tmp_path))
    assert done.exit_code == 0, (done.output, done.exception)


def test_a_read_only_training_is_not_resumed(place: Path) -> None:
    run = Run(place / "closed" / "run")
    with as_anybody(), pytest.raises(InputError):
        resume_training(run.path, device="cpu")


@pytest.mark.parametrize("out", ["/proc/nowhere/new", "/dev/null/new"])
@pytest.mark.parametrize("words", ["compress IN/codec IN/photo.png", "export IN/run --arch ARCH --out"])
def test_places_where_nothing_can_be_made(words: str, out: str, place: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*command(words, place, tmp_path), out])
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2
    assert "Error: Cannot " in done.stderr
