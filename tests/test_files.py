"""Where outputs go: links are followed, pipes and devices written into, long names work, nothing is lost."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.comparison.published import read_published
from nas.graph.network import Supernet
from nas.support.errors import InputError
from nas.support.files import (
    clear,
    make_folder,
    refuse_existing,
    refuse_over_input,
    sibling_path,
    write_atomically,
)

LONG = "é" * 122 + ".json"  # 249 bytes


def test_long_names_work(tmp_path: Path) -> None:
    for name in (LONG, "a" * 255):
        write_atomically(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
        refuse_existing(tmp_path / name, force=True, what="file", folder=False)
    assert len(list(tmp_path.iterdir())) == 2
    names = {
        sibling_path(tmp_path / ("é" * 122 + end), ".", "-very-long-curve.json").name
        for end in (".json", "a.json")
    }
    assert len(names) == 2
    assert all(len(os.fsencode(name)) <= 255 for name in names)
    assert sibling_path(tmp_path / "rd.json", "", "-jpeg.json") == tmp_path / "rd-jpeg.json"


@pytest.mark.parametrize("name", ["a" * 256, "file/below.nic", "nul\0"])
def test_what_no_file_can_be_called_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    for folder in (False, True):
        with pytest.raises(InputError, match="Cannot write"):
            refuse_existing(tmp_path / name, force=True, what="file", folder=folder)


LONG_PATH = "a/" * 3000


@pytest.mark.parametrize(
    "door",
    [
        nas.load_run,
        nas.load_codec,
        nas.SearchSpace.load,
        nas.Budget.load,
        lambda path: nas.evaluate([path], path),
    ],
)
def test_paths_longer_than_the_system_takes_are_refused(door: Callable[[str], object]) -> None:
    with pytest.raises(InputError, match="is a path of 6000 bytes"):
        door(LONG_PATH)


@pytest.mark.parametrize("anchor", [LONG_PATH, "a/" + "b" * 300, f"{LONG_PATH}x.csv:name"])
def test_anchors_longer_than_the_system_takes_are_no_files(anchor: str) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_published(anchor)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there.nic").write_text("old")
    for name, target in {"link": "there.nic", "nowhere": "new.nic", "two": "link"}.items():
        (tmp_path / name).symlink_to(target)
        write_atomically(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "there.nic").read_text() == (tmp_path / "new.nic").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 5
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(InputError, match="symbolic links"):
        refuse_existing(tmp_path / "round", force=True, what="file", folder=False)


def test_a_linked_folder_is_emptied_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "there" / "more").mkdir(parents=True)
    (tmp_path / "there" / "codec.yaml").write_text("format: nas-codec 1")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "nowhere").symlink_to("new")
    for name, target in (("link", "there"), ("nowhere", "new")):
        refuse_existing(tmp_path / name, force=True, what="codec")
        clear(tmp_path / name)
        make_folder(tmp_path / name)
        write_atomically(tmp_path / name / "codec.yaml", "x")
        assert (tmp_path / name).is_symlink()
        assert [path.name for path in (tmp_path / target).iterdir()] == ["codec.yaml"]


def test_pipes_and_devices_are_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        read: list[bytes] = []
        reader = threading.Thread(target=lambda read=read: read.append((tmp_path / "pipe").read_bytes()))
        reader.start()
        write_atomically(tmp_path / name, b"x" * 100_000)
        reader.join(timeout=10)
        assert read == [b"x" * 100_000]
    write_atomically(Path(os.devnull), "x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(InputError, match="already exists"):
        refuse_existing(tmp_path / "pipe", force=False, what="picture", folder=False)


def test_outputs_of_another_kind_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("file").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name, folder in (
            ("folder", False),
            ("socket", False),
            ("pipe", True),
            ("file", True),
            ("socket", True),
        ):
            with pytest.raises(InputError, match="choose another place"):
                refuse_existing(Path(name), force=True, what="codec", folder=folder)
    refuse_existing(Path("folder"), force=False, what="codec")


@pytest.mark.parametrize("what", ["run", "codec"])
def test_only_outputs_are_replaced(tmp_path: Path, what: str) -> None:
    names = {"run": "config.yaml", "codec": "codec.yaml"}
    for kind in ("run", "codec", "project"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / names.get(kind, "config.yaml")).write_text(f"format: nas-{kind} 1\n")
        (folder / "photo.png").touch()
        if kind == what:
            refuse_existing(folder, force=True, what=what)
        else:
            with pytest.raises(InputError, match=f"is not a {what}, so --force does not replace it"):
                refuse_existing(folder, force=True, what=what)
        with pytest.raises(InputError, match=r"already exists.*--force"):
            refuse_existing(folder, force=False, what=what)


def test_nothing_is_written_over_what_it_is_made_from(tmp_path: Path) -> None:
    photo, link, other = (tmp_path / name for name in ("photo.png", "link.png", "other.png"))
    photo.touch()
    link.symlink_to(photo)
    for path, given in (
        (photo, photo),
        (photo, link),
        (link, photo),
        (tmp_path, photo),
        (tmp_path, tmp_path),
    ):
        with pytest.raises(InputError, match="which is read: choose another place"):
            refuse_over_input(path, "bundled", given)
    refuse_over_input(other, photo)
    refuse_over_input(photo, tmp_path)


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_atomically(tmp_path / name, name)
    assert (tmp_path / name).read_bytes() == b"caf\xe9"


@pytest.fixture(scope="module")
def inputs(supernet: Supernet, tmp_path_factory: pytest.TempPathFactory, chelsea: np.ndarray) -> Path:
    """A codec, a photo in a folder, and a file that the codec made of it."""
    root = tmp_path_factory.mktemp("inputs")
    architecture = supernet.space.uniform(0.0, "none")
    costs = dict.fromkeys(("encoder", "decoder", "total"), 1.0)
    facts = {"lmbda": 0.01, "metric": "mse", "kmac_px": costs, "stages": 1, "params": 1}
    save_codec(Codec(supernet.extract(architecture), architecture), root / "codec", facts)
    (root / "photos").mkdir()
    Image.fromarray(chelsea[:64, :64]).save(root / "photos" / "photo.png")
    made = ["compress", str(root / "codec"), str(root / "photos" / "photo.png"), str(root / "photo.nic")]
    assert CliRunner().invoke(app, made).exit_code == 0
    return root


VERBS = {
    "compress": (["codec", "photos/photo.png"], ".nic"),
    "decompress": (["codec", "photo.nic"], ".png"),
    "transcode": (["--layout", "none", "codec", "photo.nic"], ".nic"),
    "info": (["codec", "--out"], ".svg"),
    "evaluate": (["codec", "--data", "photos", "--out"], ".json"),
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_keeps_links_and_pipes_and_takes_long_names(
    inputs: Path, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inputs)
    words, suffix = VERBS[verb]

    def run(out: Path, *more: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, [verb, *words, str(out), *more])
        return found.exit_code, found.output

    link, target, pipe, folder = (
        tmp_path / f"{name}{suffix}" for name in ("link", "target", "pipe", "folder")
    )
    link.symlink_to(target.name)
    target.write_text("old")
    assert run(link)[0] == 2
    assert target.read_text() == "old"
    code, output = run(link, "--force")
    assert code == 0, output
    assert link.is_symlink()
    assert len(target.read_bytes()) > 10
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    code, output = run(pipe, "--force")
    assert code == 0, output
    reader.join(timeout=10)
    assert len(read[0]) > 10
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    folder.mkdir()
    code, output = run(folder, "--force")
    if verb in ("compress", "decompress"):  # they write into it
        assert code == 0, output
        assert [path.name for path in folder.iterdir()] == [f"photo{suffix}"]
    else:
        assert (code, "is a folder" in output) == (2, True)
    long = tmp_path / ("é" * ((249 - len(suffix)) // 2) + suffix)
    code, output = run(long)
    assert code == 0, output
    assert long.is_file()
