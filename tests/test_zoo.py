"""The zoo: supernets that the package carries, searched in a copy and never changed themselves."""

from __future__ import annotations

import errno
import hashlib
import html
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from families import others_slow
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec.bitstream import compress_image
from nas.comparison.formats import nearest_size
from nas.cost.counting.cache import load_or_measure_costs
from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.reach import most_kmac_px
from nas.photos.images import bundled, psnr
from nas.run import Run
from nas.searching.scoring.scores import known_scores
from nas.shipped import EXPLAINED, SUPERNETS, copied, zoo_names, zoo_run
from nas.support.errors import InputError
from nas.weights.checkpoint import supernet_of

names = pytest.mark.parametrize("name", zoo_names())


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def search(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["search", *map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@names
def test_it_is_small_and_explained(name: str) -> None:
    assert sum(path.stat().st_size for path in (SUPERNETS / name).rglob("*") if path.is_file()) <= 14e6
    assert "nas train" in (SUPERNETS / name / EXPLAINED).read_text(encoding="utf-8")


@names
def test_every_score_over_rates_has_its_curve(name: str) -> None:
    """Without them, bd_rate is empty, and the page draws no curves."""
    run = zoo_run(f"zoo:{name}")
    front = nas.load_run(f"zoo:{name}").front()
    scores = known_scores(run.scores_path, run.space, run.fingerprint)
    assert len(front) > 0
    assert front["bd_rate"].notna().all() == bool(run.space.rates)
    assert all(len(score.curve) == (3 if run.space.rates else 0) for score in scores.values())


@pytest.mark.slow
@names
def test_it_answers_from_what_it_knows(name: str, here: Path) -> None:
    before = digests(SUPERNETS)
    run = zoo_run(f"zoo:{name}")
    target = round(0.7 * most_kmac_px(load_or_measure_costs(run.space, run.costs_path))["total"], 3)
    began = time.process_time()  # of a machine with other work to do, seconds of the clock say little
    found = search(f"zoo:{name}", "--target", target)
    assert time.process_time() - began < 60
    assert digests(SUPERNETS) == before
    (choice,) = found["choices"]
    assert choice["cost"] <= target
    assert found["scored"] >= len(pd.read_csv(SUPERNETS / name / "search" / "scores.csv"))
    own = Run.open(here / name)
    assert own.fingerprint == run.fingerprint
    assert not (own.path / EXPLAINED).exists()
    nas.load_run(own.path, device="cpu").draw()
    assert (own.path / "report.html").is_file()
    again = search(f"zoo:{name}", "--target", target, "--trials", 1)  # goes on in the same folder
    assert again["scored"] >= found["scored"]
    assert digests(SUPERNETS) == before


@pytest.mark.parametrize("name", others_slow(zoo_names(), ["joint-ar-tiny"]))
def test_it_beats_jpeg(name: str, tmp_path: Path) -> None:
    """On the bundled photo that no supernet was trained on, at the same size."""
    run = copied(zoo_run(f"zoo:{name}"), tmp_path / "run")
    front = run.front()
    best = front.loc[front["rd_loss"].idxmin(), "arch"]
    nas.load_run(run.path, device="cpu").export(tmp_path / "codec", arch=best)
    codec, photo = nas.load_codec(tmp_path / "codec"), bundled()["test"][0]
    from nas.codec.bitstream import decompress_image

    nic = compress_image(codec, photo.pixels)
    ours = psnr(photo.pixels, decompress_image(codec, nic))
    assert ours > nearest_size("jpeg", photo, len(nic.to_bytes())).psnr


def test_photos_of_ones_own(here: Path, photo_folder: Path) -> None:
    name = zoo_names()[0]
    found = search(f"zoo:{name}", "--data", photo_folder, "--out", "mine", "--trials", 2)
    assert found["scored"] >= 2
    with pytest.raises(InputError, match="already exists"):
        copied(zoo_run(name), _occupied(here / "other"))


def _occupied(place: Path) -> Path:
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    return place


def test_costs_are_counted_again_but_not_kept_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with another version of torch than that of the package's tables."""
    run = zoo_run("zoo:joint-ar-tiny")
    before = run.costs_path.read_bytes()
    known = most_kmac_px(load_or_measure_costs(run.space, run.costs_path, keep=False))
    monkeypatch.setattr("nas.cost.counting.cache.COUNTED", -1)
    searcher = nas.load_run("zoo:joint-ar-tiny", device="cpu").searcher
    assert most_kmac_px(searcher.costs) == known
    assert run.costs_path.read_bytes() == before


@pytest.mark.parametrize("name", ["joint-ar-small", "joint-ar-tiny", "patch"])
def test_the_package_has_tables_of_what_is_counted_now(name: str) -> None:
    run = zoo_run(name)
    layers = measured_costs(run.space).layers
    with np.load(run.costs_path) as held:
        assert held["names"].tolist() == [[layer.name, layer.edge] for layer in layers]
        for number, layer in enumerate(layers):
            assert np.array_equal(held[f"{number}.macs"], layer.macs)
            assert np.array_equal(held[f"{number}.params"], layer.params)


def test_what_is_not_there(here: Path) -> None:
    done = CliRunner().invoke(app, ["search", "zoo:joint", "--target", "5"])
    assert done.exit_code == 2
    assert "The zoo has no supernet 'joint'" in done.stderr
    done = CliRunner().invoke(app, ["search", f"zoo:{zoo_names()[0]}", "--target", "0.001"])
    assert done.exit_code == 2
    assert list(here.iterdir()) == []


def test_training_starts_from_it(here: Path, photo_folder: Path) -> None:
    name = zoo_names()[0]
    words = ["train", name, "--data", photo_folder, "--out", "run", "--init-from", f"zoo:{name}"]
    small = ("--steps", 1, "--set", "crop=64", "--set", "batch=2", "--set", "learning_rate=1e-9")
    done = CliRunner().invoke(app, [str(word) for word in (*words, *small)])
    assert done.exit_code == 0, done.output
    ours, theirs = (supernet_of(run).g_s[0].weight for run in (Run.open("run"), zoo_run(name)))
    assert np.allclose(ours.detach(), theirs.detach(), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train {zoo} --data bundled --out out", "is a trained supernet, not a search space: give a space"),
        ("compress {zoo} {photo} out.nic", "is a supernet, not a codec: make one with `nas export {zoo}"),
        ("evaluate {zoo} --data {photos}", "is a supernet, not a codec"),
        ("finetune {zoo} --data {photos} --out out", "is a supernet, not a codec"),
        ("profile {zoo}", "make a copy of it with `nas search {zoo} --out RUN`"),
        (
            "search {zoo} --target 30ms@phone --trials 0",
            "{zoo} has no profile of phone, and none of any other: to read one, make a copy of it with `nas "
            "search {zoo} --out RUN`, then run `nas profile RUN --from FILE.csv --device-name phone`",
        ),
        ("pareto {zoo}", "make a copy of it with `nas search {zoo} --out RUN`"),
        ("rank-check {zoo} --data {photos}", "make a copy of it with"),
        (
            "export {zoo} --target 30ms --out out",
            "--out RUN`, then run `nas profile RUN`, and give RUN instead",
        ),
        ("export {zoo}x --target 60% --out out", "The zoo has no supernet"),
        ("explain {zoo} --arch x", "does not fit joint-ar-tiny"),
        ("probe {zoo} --arch x", "does not fit joint-ar-tiny"),
        ("probe {zoo}x --arch x", "The zoo has no supernet"),
    ],
)
def test_every_verb_says_what_to_do_with_a_name_of_the_zoo(
    here: Path, photo_folder: Path, words: str, said: str
) -> None:
    given = {"zoo": "zoo:joint-ar-tiny", "photos": photo_folder, "photo": photo_folder / "photo-0.png"}
    before = sorted(here.rglob("*"))
    done = CliRunner().invoke(app, [word.format(**given) for word in words.split()])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said.format(**given) in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_the_page_of_a_supernet_of_the_zoo_names_it_as_commands_do(tmp_path: Path) -> None:
    """Not by a folder of the package, in which nothing can be kept."""
    nas.pareto("zoo:joint-ar-tiny", out=tmp_path / "drawn", pictures=0)
    page = (tmp_path / "drawn" / "report.html").read_text()
    assert "then run `nas profile RUN`, and give RUN instead" in html.unescape(page)
    assert '"zoo:joint-ar-tiny"' in page
    assert str(SUPERNETS) not in page


@pytest.mark.parametrize(
    "stopped_by", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_copy_that_is_not_finished_leaves_nothing(
    stopped_by: BaseException, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, left = shutil.copyfile, [2]

    def limited(source: Path, target: Path) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise stopped_by
        return copy(source, target)

    monkeypatch.setattr("nas.shipped.shutil.copyfile", limited)
    with pytest.raises((InputError, KeyboardInterrupt)) as error:
        copied(zoo_run("zoo:joint-ar-tiny"), here / "run")
    if isinstance(stopped_by, OSError):
        assert str(error.value) == f"Cannot copy the run to {here / 'run'}: No space left on device."
    assert list(here.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert Run.open(copied(zoo_run("zoo:joint-ar-tiny"), here / "run").path).weights_path.is_file()
