"""Many pictures with one command: as each would be alone, side by side, and going on where it stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from families import trained_codec
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec import folder
from nas.codec.folder import save_codec
from nas.codec.nic import Nic
from nas.photos.batch import MOST_TOGETHER, BatchPlan, FileKind, Job, WorkerPool, plan_batch, run_all
from nas.photos.images import psnr, read_image
from nas.support.errors import InputError

FACTS = {"lmbda": 0.013, "metric": "mse", "kmac_px": {"total": 1.0}, "stages": 2, "params": 1, "measured": {}}


@pytest.fixture(scope="module")
def codec(tmp_path_factory, chelsea) -> Path:
    """A trained one's folder."""
    exact = trained_codec(chelsea)
    path = tmp_path_factory.mktemp("codecs") / "codec"
    save_codec(exact, path, FACTS)
    return path


@pytest.fixture
def photos(photo_folder, tmp_path) -> Path:
    """Five photos, two of them in a subfolder, to change."""
    return Path(shutil.copytree(photo_folder, tmp_path / "photos"))


def run_nas(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def contents(path: Path) -> dict[str, bytes]:
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def test_a_folder_goes_there_and_back_as_each_picture_alone(codec, photos, tmp_path):
    status, out, err = run_nas("compress", codec, photos, tmp_path / "packed", "--psnr")
    assert status == 0, err
    assert "mean" in out
    assert "PSNR" in out
    assert "5 pictures in" in err
    assert "pictures/s" in err
    names = {"photo-0", "photo-1", "photo-2", "more/photo-3", "more/photo-4"}
    packed = contents(tmp_path / "packed")
    assert set(packed) == {f"{name}.nic" for name in names}
    status, out, err = run_nas("decompress", codec, tmp_path / "packed", tmp_path / "pictures", "--json")
    assert status == 0, err
    assert set(contents(tmp_path / "pictures")) == {f"{name}.png" for name in names}
    assert len(json.loads(out)["done"]) == 5
    for name in names:
        alone = nas.compress(codec, photos / f"{name}.png", tmp_path / "x.nic", psnr=True, force=True)
        assert (tmp_path / "x.nic").read_bytes() == packed[f"{name}.nic"]
        nas.decompress(codec, tmp_path / "x.nic", tmp_path / "x.png", force=True)
        pixels = read_image(tmp_path / "pictures" / f"{name}.png")
        assert np.array_equal(read_image(tmp_path / "x.png"), pixels)
        assert alone.psnr == psnr(read_image(photos / f"{name}.png"), pixels)


def test_threads_do_not_change_the_bytes(codec, photos, tmp_path):
    """Nor does the work change how many threads others get."""
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            nas.compress(codec, photos, tmp_path / str(threads))
            assert torch.get_num_threads() == threads
            found.append(contents(tmp_path / str(threads)))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_the_same_command_goes_on(codec, photos, tmp_path):
    out = tmp_path / "packed"
    whole = nas.compress(codec, photos, out)
    assert [each.file for each in whole.done] == [
        out / path.relative_to(photos).with_suffix(".nic") for path in sorted(photos.rglob("*.png"))
    ]
    packed = contents(out)
    (out / "photo-1.nic").unlink()
    (out / "photo-2.nic").write_bytes(b"mine")
    table = whole.to_dataframe()
    assert len(table) == len(whole.done)
    assert table["bytes"].sum() == sum(done.bytes for done in whole.done)
    assert repr(whole) == f"Batch({len(whole.done)} done, 0 skipped, 0 failed)"
    again = nas.compress(codec, photos, out)
    assert [each.file.name for each in again.done] == ["photo-1.nic"]
    assert len(again.skipped) == 4
    assert contents(out) == packed | {"photo-2.nic": b"mine"}
    status, _, err = run_nas("compress", codec, photos, out)
    assert status == 0
    assert "0 pictures. 5 skipped" in err
    assert "--force" in err
    assert len(nas.compress(codec, photos, out, force=True).done) == 5
    assert contents(out) == packed


def test_what_fails_is_listed_and_the_rest_is_done(codec, photos, tmp_path):
    (photos / "a-cut.png").write_bytes((photos / "photo-0.png").read_bytes()[:900])
    (photos / "z-text.png").write_text("no picture")
    status, out, err = run_nas("compress", codec, photos, tmp_path / "packed", "--json")
    assert status == 2
    found = json.loads(out)
    assert len(found["done"]) == 5
    assert [Path(each["source"]).name for each in found["failed"]] == ["a-cut.png", "z-text.png"]
    lines = err.splitlines()
    at = lines.index("2 of 7 files failed:")
    assert "a-cut.png" in lines[at + 1]
    assert "z-text.png" in lines[at + 2]
    assert "Pillow" in lines[at + 2]
    assert set(contents(tmp_path / "packed")) == {
        path.relative_to(photos).with_suffix(".nic").as_posix() for path in photos.rglob("photo-*.png")
    }
    damaged = tmp_path / "packed" / "photo-1.nic"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    status, _, err = run_nas("decompress", codec, tmp_path / "packed", tmp_path / "pictures")
    assert status == 2
    assert "1 of 5 files failed:" in err
    assert "cut short or damaged" in err
    assert len(contents(tmp_path / "pictures")) == 4


def test_a_failed_command_leaves_no_folder_and_does_not_count_to_zero(codec, photos, tmp_path):
    nas.compress(codec, photos / "photo-0.png", tmp_path / "a.nic")
    out = tmp_path / "new" / "pictures"
    status, _, err = run_nas("decompress", codec, tmp_path / "a.nic", out, "--max-pixels", 1)
    assert status == 2
    assert "1 of 1 file failed:" in err
    assert "0 pictures" not in err
    assert not (tmp_path / "new").exists()
    out.parent.mkdir()  # what was there before stays
    assert run_nas("decompress", codec, tmp_path / "a.nic", out, "--max-pixels", 1)[0] == 2
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["a.jpg", "a.PNG", "a.webp", "below/a.tiff", "a.avif"])
def test_a_stream_is_not_named_like_a_picture(codec, photos, tmp_path, monkeypatch, name):
    monkeypatch.setattr(folder, "load_family", lambda _: pytest.fail("it was loaded"))
    before = contents(tmp_path)
    for words in (("compress", codec, photos / "photo-0.png"), ("transcode", codec, tmp_path / "a.nic")):
        more = () if words[0] == "compress" else ("--stages", 4)
        status, out, err = run_nas(*words, tmp_path / name, *more)
        assert (status, out) == (2, "")
        assert f"{name} is named like a picture, but a .nic file is written: choose a name" in err
    assert contents(tmp_path) == before


def test_a_stream_may_have_any_other_suffix(codec, photos, tmp_path):
    for name in ("a.nic", "a.bin", "a.jpg.nic"):
        assert nas.compress(codec, photos / "photo-0.png", tmp_path / name).file == tmp_path / name


def test_a_codec_is_loaded_once(codec, photos, tmp_path, monkeypatch):
    loaded = []
    load = folder.load_family
    monkeypatch.setattr(folder, "load_family", lambda path: loaded.append(path) or load(path))
    nas.compress(codec, photos, tmp_path / "packed")
    nas.decompress(codec, tmp_path / "packed", tmp_path / "pictures")
    assert loaded == [codec, codec]
    nas.compress(codec, photos, tmp_path / "packed")  # nothing is left to do
    assert len(loaded) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("{p/photo-0.png} {p/photo-0.jpg} {out}", ["photo-0.png", "photo-0.jpg", "both be written"]),
        ("{p} {p/more/photo-0.png} {out}", ["both be written"]),
        ("{p} {out/x.nic}", ["x.nic", "name one"]),
        ("{p} {p/photo-0.png}", ["photo-0.png", "name one"]),
        ("{p/photo-0.png} {p/photo-1.png} -", ["Standard output", "folder"]),
        ("- {p/photo-1.png} {out}", ["Standard input"]),
        ("- {out}", ["Standard input"]),
        ("{p/none-*.png} {out}", ["none-*.png"]),
        ("{p/x.nic} {p}", ["would replace"]),
        ("{p} {out} --quality 50", ["one rate"]),
        ("{p} {out} --layout raster", ["raster"]),
        ("{p/photo-0.png} - --json", ["--json"]),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(codec, photos, tmp_path, words, expected):
    shutil.copy(photos / "photo-0.png", photos / "x.nic")
    if "{p}" not in words or "more" in words:
        Image.open(photos / "photo-0.png").save(photos / "photo-0.jpg")
        shutil.copy(photos / "photo-1.png", photos / "more" / "photo-0.png")
    before = contents(tmp_path)
    places = {"{p": str(photos), "{out": str(tmp_path / "out")}
    text = words.replace("}", "")
    for name, place in places.items():
        text = text.replace(name, place)
    status, out, err = run_nas("compress", codec, *text.split())
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("Error: ")
    for word in expected:
        assert word in err.splitlines()[-1]
    assert contents(tmp_path) == before


def start(*words: object, **more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nas", *map(str, words)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("images", [np.zeros((8, 8, 3), np.uint8), 3, ["a.png", None]])
def test_what_is_no_name_is_refused(codec, tmp_path, images):
    with pytest.raises(InputError, match=r"`images` cannot be .*: give a path|by their names, not as"):
        nas.compress(codec, images, tmp_path / "a.nic")


def test_pipes_carry_the_stream_and_the_picture_alone(codec, photos, tmp_path):
    photo = photos / "photo-0.png"
    nas.compress(codec, photo, tmp_path / "x.nic")
    nas.decompress(codec, tmp_path / "x.nic", tmp_path / "x.png")
    packed, told = start("compress", codec, "-", "-").communicate(photo.read_bytes(), timeout=120)
    assert (packed, told) == ((tmp_path / "x.nic").read_bytes(), b"")
    picture, told = start("decompress", codec, "-", "-").communicate(packed, timeout=120)
    assert (picture, told) == ((tmp_path / "x.png").read_bytes(), b"")
    broken = start("decompress", codec, "-", "-")
    out, told = broken.communicate(packed[:-4], timeout=120)
    assert (broken.returncode, out) == (2, b"")
    assert told.startswith(b"Error: standard input is cut short")


def test_an_interrupted_command_goes_on(codec, photos, tmp_path):
    for number in range(120):
        shutil.copy(photos / "photo-0.png", photos / f"copy-{number:03}.png")
    out = tmp_path / "packed"
    words = ["compress", codec, photos, out]
    process = start(*words, env={**os.environ, "OMP_NUM_THREADS": "2"})
    while not any(out.glob("*.nic")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert b"Run the same command again to continue." in told
    written = contents(out)
    assert 0 < len(written) < 125
    for data in written.values():
        Nic.parse(data)  # whole
    status, _, err = run_nas(*words)
    assert status == 0
    assert f"{len(written)} skipped" in err
    assert len(contents(out)) == 125


def as_many(pixels: list[int], threads: int, seed: int) -> tuple[list[int], list[list[int]]]:
    """Do jobs of so many pixels; in what order results come, and which ran at the same time as each."""
    rng, lock, now, together = random.Random(seed), threading.Lock(), [], []

    def work(job: Job, place: int) -> Done:
        with lock:
            now.append(place)
            together.append(list(now))
        time.sleep(rng.random() / 1000)
        with lock:
            now.remove(place)
        if place % 5 == 4:
            raise InputError("a fifth of them fails")
        return Done(place)

    class Load:
        def __enter__(self) -> WorkerPool[int, Done]:
            return WorkerPool(work, threads)

        def __exit__(self, *_: object) -> None:
            assert not now

    jobs = tuple(Job(Path(str(place)), Path("x")) for place in range(len(pixels)))
    batch = run_all(
        BatchPlan(jobs, Path()),
        lambda job: (int(job.source.name), pixels[int(job.source.name)]),
        Load,
        stage="x",
    )
    assert [each.source for each in batch.failed] == [str(n) for n in range(len(pixels)) if n % 5 == 4]
    return [done.place for done in batch.done], together


class Done:
    def __init__(self, place: int) -> None:
        self.place = place

    def to_json(self) -> dict[str, int]:
        return {"place": self.place}

    row = to_json


@given(
    st.lists(st.integers(1, MOST_TOGETHER * 2), min_size=1, max_size=20),
    st.integers(1, 4),
    st.integers(0, 1 << 16),
)
def test_results_keep_their_order_and_memory_is_bounded(pixels, threads, seed):
    done, together = as_many(pixels, threads, seed)
    assert done == [n for n in range(len(pixels)) if n % 5 != 4]
    for places in together:
        assert len(places) <= threads
        assert len(places) == 1 or sum(pixels[place] for place in places) <= MOST_TOGETHER


NAME = st.sampled_from(["a", "b", "a.b", "c d"])
FILES = st.sets(
    st.tuples(st.lists(NAME, max_size=2), NAME, st.sampled_from([".png", ".jpg"])).map(
        lambda parts: "/".join([*parts[0], "f-" + parts[1] + parts[2]])
    ),
    min_size=1,
    max_size=8,
)


@given(FILES)
def test_every_picture_has_an_output_of_its_own_or_none_is_made(files):
    listed = [Path("in") / name for name in sorted(files)]
    kind = FileKind("pictures", "file", ".nic", frozenset({".nic"}), lambda _: listed)
    stems = {str(Path(name).with_suffix("")) for name in files}
    here = str(Path(__file__).parent)  # a folder that exists; what is listed need not
    kind = FileKind(
        "pictures", "file", ".nic", frozenset({".nic"}), lambda root: [root / n for n in sorted(files)]
    )
    if len(stems) < len(files):
        with pytest.raises(InputError, match="both be written"):
            plan_batch(here, "/tmp/packed", kind)
        return
    jobs = plan_batch(here, "/tmp/packed", kind).jobs
    assert {str(job.target.relative_to("/tmp/packed")) for job in jobs} == {f"{stem}.nic" for stem in stems}
    assert {job.source for job in jobs} == {Path(here) / name for name in files}
