"""The command line from end to end: the whole way once, and every wrong input in one plain sentence."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from optuna.storages import BaseStorage
from PIL import Image
from small_run import QUICK
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.photos.images import psnr, read_image
from nas.searching.answers import FILL_SCORES
from nas.searching.sampler.logits import LogitSettings
from nas.searching.scoring.evaluator import Evaluator
from nas.searching.sources import Sources
from nas.searching.study.storage import open_storage

SPACE = "joint-ar-tiny"
FEW_LAYOUTS = {"groups": 2, "tile": [1, 2], "stages": [2]}
SMALL = ("--set", "crop=64", "--set", "batch=2")
FIRST, MORE = 3, 5
CODEC_FIELDS = {
    *("format", "family", "arch", "widths", "layout", "lmbda", "metric", "kmac_px", "stages", "params"),
    *("kmac_px_by_edge", "measured", "fingerprint"),
}
RUN_FILES = {
    *("config.yaml", "supernet.safetensors", "checkpoint", "metrics.csv", "split.csv", "search"),
    *("front.csv", "pareto.png", "pareto.svg", "report.html"),
}
FRONT_COLUMNS = (
    "arch,encoder_kmac_px,decoder_kmac_px,total_kmac_px,stages,params,bpp,psnr,rd_loss,bd_rate,lmbda,metric,"
    "on_front_encoder,on_front_decoder,on_front_total,test_bpp,test_psnr,test_rd_loss"
)
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.status == 0, self.err
        return dict(json.loads(self.out))


def run_nas(*words: object) -> Answer:
    """A command in this process; what it raises by mistake is raised here."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Answer(done.exit_code, done.stdout, done.stderr)


def succeed(*words: object) -> Answer:
    answer = run_nas(*words)
    assert answer.status == 0, answer.err
    return answer


def files_in(folder: Path) -> dict[str, str]:
    """Everything below a folder: a digest of each file, and the folders themselves."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha1(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def refused(places: Path | list[Path], words: list[Any], *expected: str) -> None:
    """Runs a command that must stop with status 2, one sentence and nothing changed in some folders."""
    places = places if isinstance(places, list) else [places]
    before = [files_in(place) for place in places]
    answer = run_nas(*words)
    assert answer.status == 2, (answer.out, answer.err)
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    assert [line for line in lines if line.startswith("Error: ")] == lines[-1:], answer.err
    assert "Traceback" not in answer.err
    for word in expected:
        assert word in lines[-1]
    assert [files_in(place) for place in places] == before


def filled(command: str, place: Path, new: Path) -> list[str]:
    """A command's words with paths for {name}: those that begin with x are in a folder for new things."""
    return [
        re.sub(r"\{(.+?)\}", lambda m: str((new if m[1][0] == "x" else place) / m[1]), word)
        for word in command.split()
    ]


def scored_keys(run: Path) -> list[str]:
    with open(run / "search" / "scores.csv", newline="", encoding="utf-8") as file:
        return [row["key"] for row in csv.DictReader(file)]


# The whole way, once


@dataclass(frozen=True)
class Way:
    """The folder in which the whole way was gone once; tests leave it as it is, or work on a copy."""

    place: Path

    def __getattr__(self, name: str) -> Path:
        return self.place / name

    @property
    def photo(self) -> Path:
        return self.place / "photo.png"

    @property
    def space(self) -> Path:
        """The description of SPACE, in which a search finds few layouts."""
        return self.place / "space.yaml"


@pytest.fixture(scope="session")
def way(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path, chelsea: np.ndarray) -> Way:
    """A run trained for four steps and searched, two codecs, a .nic file and its picture."""
    way = Way(tmp_path_factory.mktemp("way"))
    shutil.copytree(photo_folder, way.photos)
    Image.fromarray(chelsea[:100, :150]).save(way.photo)
    few_layouts = nas.SearchSpace.load(SPACE).to_dict() | {"grouping": FEW_LAYOUTS}
    way.space.write_text(yaml.safe_dump(few_layouts, sort_keys=False))
    done = succeed("train", way.space, "--data", way.photos, "--out", way.run, "--steps", 4, *SMALL)
    assert "--set crop=192" in done.err  # SMALL has small crops
    assert "The training will take about" in done.err
    # the first search through Python, where grouping and logits can be made short; later ones find them made
    nas.load_run(way.run, device="cpu").search(trials=FIRST, sources=QUICK)
    succeed("export", way.run, "--target", "60%", "--out", way.codec)
    other = nas.SearchSpace.load(SPACE).uniform(0.5, "checkerboard").key
    succeed("export", way.run, "--arch", other, "--out", way.other)
    succeed("pareto", way.run)
    succeed("compress", way.codec, way.photo, way.place / "photo.nic")
    succeed("decompress", way.codec, way.place / "photo.nic", way.place / "decoded.png")
    return way


@pytest.fixture
def run_copy(way: Way, tmp_path: Path) -> Path:
    """A run to change."""
    return Path(shutil.copytree(way.run, tmp_path / "run"))


@pytest.fixture
def little_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches learn their logits in two steps; where this is not asked for, in as many as a user's do."""
    monkeypatch.setattr("nas.searching.searcher.Sources", lambda: QUICK)


def test_a_run_has_the_contracts_files(way):
    assert {path.name for path in way.run.iterdir()} == RUN_FILES
    config = yaml.safe_load((way.run / "config.yaml").read_text())
    assert {"space", "training", "seed", "versions"} <= set(config)
    assert config["training"]["steps"] == 4
    assert nas.SearchSpace.from_dict(config["space"], name=config["name"]) == nas.SearchSpace.load(way.space)


def test_the_split_names_every_photo_once(way):
    with open(way.run / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["photo"] for row in rows) == sorted(map(str, way.photos.rglob("*.png")))
    assert {row["split"] for row in rows} == {"train", "calibration", "held-out"}


def test_front_csv_has_exactly_the_contracts_columns(way):
    header = (way.run / "front.csv").read_text().splitlines()[0]
    assert header == FRONT_COLUMNS
    front = nas.load_run(way.run, device="cpu").front()
    assert (front[["on_front_encoder", "on_front_decoder", "on_front_total"]].any(axis=1)).all()
    assert front["arch"].is_unique


def test_the_exported_architecture_has_its_held_out_results_in_the_front(way):
    content = yaml.safe_load((way.codec / "codec.yaml").read_text())
    front = nas.load_run(way.run, device="cpu").front().set_index("arch")
    for name in ("bpp", "psnr", "rd_loss"):
        assert front.loc[content["arch"], f"test_{name}"] == pytest.approx(content["measured"][name])


def test_a_codec_has_the_contracts_files_and_fields(way):
    assert {path.name for path in way.codec.iterdir()} == {"codec.safetensors", "codec.yaml", "model.py"}
    content = yaml.safe_load((way.codec / "codec.yaml").read_text())
    assert set(content) >= CODEC_FIELDS
    assert set(content["kmac_px"]) == {"encoder", "decoder", "total"}
    assert {"split", "photos", "bpp", "psnr", "rd_loss"} <= set(content["measured"])
    assert content["measured"]["split"] == "held-out"
    assert nas.load_codec(way.codec).fingerprint == content["fingerprint"]


def test_nothing_on_disk_is_a_pickle(way):
    for path in way.place.rglob("*"):
        if path.suffix == ".safetensors":
            data = path.read_bytes()
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            assert header
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                assert all(held[name].dtype != object for name in held.files)
        elif path.is_file():
            assert path.suffix not in (".pt", ".pth", ".pkl", ".ckpt")
            head = path.read_bytes()[:2]
            assert head != b"PK"
            assert not (head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def test_the_decoded_picture_is_the_codecs_reconstruction(way):
    decoded, original = read_image(way.place / "decoded.png"), read_image(way.photo)
    assert decoded.shape == original.shape
    x = torch.zeros(1, 3, 128, 192)  # padded to multiples of 64
    codec = nas.load_codec(way.codec)
    coded = codec.compress(x)
    assert codec.decompress(**coded)["x_hat"].shape == x.shape
    assert psnr(decoded, original) > 3  # four steps teach nothing, but it is a picture


def test_json_of_every_verb_on_the_way(way, tmp_path, run_copy, monkeypatch):
    # what a user's search prepares, in fewer steps
    few_steps = Sources(logit_settings=LogitSettings(steps=10))
    monkeypatch.setattr("nas.searching.searcher.Sources", lambda: few_steps)
    trained = run_nas(
        "train", way.space, "--data", way.photos, "--out", tmp_path / "again", "--steps", 4, *SMALL, "--json"
    ).json
    assert trained["run"] == str(tmp_path / "again")
    assert trained["fingerprint"] == nas.load_run(way.run, device="cpu").run.fingerprint  # the same seed
    found = run_nas("search", run_copy, "--target", "60%", "--trials", 1, "--json").json
    assert set(found["ranges_kmac_px"]) == {"encoder", "decoder", "total"}
    assert found["scored"] == len(scored_keys(run_copy))
    (choice,) = found["choices"]
    assert 0.98 <= choice["total_kmac_px"] / choice["target_kmac_px"] <= 1
    drawn = run_nas("pareto", run_copy, "--json").json
    assert all(Path(file).is_file() for file in drawn["files"])
    exported = run_nas("export", run_copy, "--arch", choice["arch"], "--out", tmp_path / "c", "--json").json
    assert exported == yaml.safe_load((tmp_path / "c" / "codec.yaml").read_text())
    nic = tmp_path / "photo.nic"
    coded = run_nas("compress", tmp_path / "c", way.photo, nic, "--json").json
    assert coded["bytes"] == nic.stat().st_size
    assert coded["bpp"] == pytest.approx(8 * coded["bytes"] / (100 * 150))
    decoded = run_nas("decompress", tmp_path / "c", nic, tmp_path / "photo.png", "--json").json
    assert (decoded["width"], decoded["height"]) == (150, 100)
    assert decoded["bytes"] == nic.stat().st_size
    assert "kmac_px" not in decoded  # its codec has one decoder, whose cost codec.yaml tells


def test_a_codec_trains_alone_from_its_description(way, tmp_path):
    run = tmp_path / "alone"
    description = shutil.copy(way.codec / "codec.yaml", tmp_path / "codec.yaml")
    succeed("train", description, "--data", way.photos, "--out", run, "--steps", 2, *SMALL)
    loaded = nas.load_run(run, device="cpu")
    assert loaded.searcher.space.size == 1
    wanted = yaml.safe_load((way.codec / "codec.yaml").read_text())
    succeed("export", run, "--target", "100%", "--out", tmp_path / "codec")
    got = yaml.safe_load((tmp_path / "codec" / "codec.yaml").read_text())
    for field in ("arch", "widths", "layout", "kmac_px", "stages", "params"):
        assert got[field] == wanted[field]


def test_one_architecture_of_a_space_trains_from_the_runs_weights(way, tmp_path):
    key = nas.SearchSpace.load(SPACE).uniform(0.5, "checkerboard").key
    words = ["--data", way.photos, "--out", tmp_path / "one", "--arch", key, "--steps", 1, *SMALL]
    succeed("train", way.space, *words, "--init-from", way.run)
    assert nas.load_run(tmp_path / "one", device="cpu").searcher.space.widest().key == key


# Searching again


def test_a_search_adds_exactly_its_trials_and_scores_nothing_twice(run_copy):
    before = scored_keys(run_copy)
    for _ in range(2):
        succeed("search", run_copy, "--trials", MORE)
    after = scored_keys(run_copy)
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == len(before) + 2 * MORE


def test_a_target_is_never_exceeded_and_something_just_under_it_is_scored(run_copy):
    searcher = nas.load_run(run_copy, device="cpu").searcher
    for target in (1.2, 2.5):
        codec = run_copy / "codecs" / str(target)
        succeed("export", run_copy, "--target", target, "--scope", "decoder", "--out", codec)
        assert yaml.safe_load((codec / "codec.yaml").read_text())["kmac_px"]["decoder"] <= target
        scored = [searcher.costs.kmac_px(searcher.space.parse(k), "decoder") for k in scored_keys(run_copy)]
        assert any(0.98 * target <= cost <= target for cost in scored)


@pytest.mark.usefixtures("little_prepared")
def test_a_search_for_a_target_adds_its_trials_and_those_near_the_target(run_copy, tmp_path):
    before = len(scored_keys(run_copy))
    answer = run_nas("search", run_copy, "--target", "60%", "--trials", MORE, "--json").json
    keys = scored_keys(run_copy)
    assert len(keys) == len(set(keys)) == answer["scored"]
    assert before + MORE <= len(keys) <= before + MORE + FILL_SCORES
    # the same question again has the same answer, and nothing is scored for it
    content = run_nas("export", run_copy, "--target", "60%", "--out", tmp_path / "codec", "--json").json
    assert scored_keys(run_copy) == keys
    (choice,) = answer["choices"]
    assert content["arch"] == choice["arch"]


def test_a_search_of_no_trials_scores_nothing_and_answers_from_what_is_known(run_copy):
    before = scored_keys(run_copy)
    answer = run_nas("search", run_copy, "--target", "60%", "--trials", 0, "--json").json
    assert scored_keys(run_copy) == before
    assert [choice["total_kmac_px"] <= 0.6 * 6.4688 for choice in answer["choices"]] == [True]


@pytest.mark.usefixtures("little_prepared")
def test_the_answer_to_a_budget_with_limits_is_exported_as_the_search_says(run_copy, tmp_path):
    (tmp_path / "my budget.yaml").write_text("scope: decoder\ntargets: [1.2, 2.5, 90]\nlimits: stages <= 4\n")
    (tmp_path / "limits.yaml").write_text("limits: stages <= 4 and decoder <= 2\n")
    told = succeed("search", run_copy, "--budget", tmp_path / "my budget.yaml", "--trials", MORE)
    hints = [shlex.split(line) for line in told.err.splitlines() if line.startswith("  nas export")]
    assert [words[words.index("--budget") + 1] for words in hints] == [str(tmp_path / "my budget.yaml")] * 3
    assert "no architecture costs more than" in told.err
    keys = [line.strip() for line in told.out.splitlines() if "+layout=" in line]
    assert keys
    assert set(keys) <= set(scored_keys(run_copy))  # whole, however narrow the terminal
    assert all(len(line) <= 80 for line in told.out.splitlines() if "layout=" not in line)
    targets = [words[words.index("--target") + 1] for words in hints if "--target" in words]
    assert [target for target in targets if len(target) > 6] == []
    for words, most in zip(hints, (1.2, 2.5, 90), strict=True):
        content = run_nas(*words[1:-1], tmp_path / f"{most}", "--json").json
        assert content["kmac_px"]["decoder"] <= most
        assert content["stages"] <= 4
        assert content["arch"] in keys
    loaded = nas.load_run(run_copy, device="cpu")
    for budget in (str(tmp_path / "limits.yaml"), nas.Budget.load(tmp_path / "limits.yaml")):
        content = loaded.export(tmp_path / "limited", budget=budget, force=True)
        assert (content["stages"] <= 4, content["kmac_px"]["decoder"] <= 2) == (True, True)


@pytest.mark.usefixtures("little_prepared")
def test_limits_beside_a_target_hold_for_its_answer_and_for_what_is_exported(run_copy, tmp_path):
    free = run_nas("search", run_copy, "--target", "60%", "--trials", MORE, "--json").json["choices"][0]
    most = f"encoder <= {0.8 * free['encoder_kmac_px']:.3f}"  # changes the answer
    limits = ["--limit", "stages <= 1", "--limit", most]
    words = [run_copy, "--target", "60%", *limits]
    told = succeed("search", *words, "--trials", MORE)
    (hint,) = (shlex.split(line) for line in told.err.splitlines() if line.startswith("  nas export"))
    assert hint[1:-2] == ["export", *map(str, words)]
    content = run_nas(*hint[1:-1], tmp_path / "codec", "--json").json
    assert (content["stages"], content["kmac_px"]["encoder"] <= 0.8 * free["encoder_kmac_px"]) == (1, True)
    assert content["arch"] in told.out
    loaded = nas.load_run(run_copy, device="cpu")
    python = loaded.export(tmp_path / "python", target="60%", limits=["stages <= 1", most])
    assert python["arch"] == content["arch"]
    (choice,) = loaded.search("60%", limits=f"stages <= 1 and {most}", trials=0).choices
    assert choice.architecture.key == content["arch"]
    told = succeed("search", run_copy, *limits, "--trials", 0)  # without a target
    assert f"nas export {run_copy} --limit 'stages <= 1' --limit '{most}' --out codec" in told.err


def test_the_hint_after_a_search_is_of_what_was_asked(run_copy, tmp_path):
    told = succeed("search", run_copy, "--target", "50%", "--scope", "encoder", "--trials", 0).err
    assert f"nas export {run_copy} --target 50% --scope encoder --out codec" in told
    assert "0.7035 to 6.469 kMAC/px" in succeed("search", run_copy, "--trials", 0).err


def test_an_interrupted_search_keeps_its_scores_and_goes_on(run_copy, monkeypatch):
    before, left = scored_keys(run_copy), [2]
    score = Evaluator.score

    def interrupted(self: Evaluator, architecture: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return score(self, architecture)

    monkeypatch.setattr(Evaluator, "score", interrupted)
    answer = run_nas("search", run_copy, "--trials", 12)
    assert answer.status == 130
    assert "every score is kept" in answer.err
    assert "Traceback" not in answer.err
    assert len(scored_keys(run_copy)) == len(before) + 2
    monkeypatch.undo()
    succeed("search", run_copy, "--trials", MORE)
    assert len(scored_keys(run_copy)) == len(set(scored_keys(run_copy))) == len(before) + 2 + MORE


@pytest.mark.usefixtures("little_prepared")
def test_searching_on_other_photos_makes_a_run_of_its_own(way, tmp_path):
    before = files_in(way.run)
    words = ["--data", way.photos / "more", "--out", tmp_path / "own", "--trials", 1]
    succeed("search", way.run, *words)
    assert files_in(way.run) == before
    assert (tmp_path / "own" / "front.csv").is_file()


# Wrong input: status 2, one sentence, nothing changed


@pytest.fixture(scope="session")
def wrong(way: Way) -> Way:
    """What commands must refuse, beside what they accept."""
    place = way.place
    (place / "no-photos").mkdir()
    (place / "empty").mkdir()
    (place / "text.png").write_text("not a picture")
    (place / "cut.png").write_bytes(way.photo.read_bytes()[:2000])
    (place / "two").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(way.photo, place / "two" / name)
    shutil.copytree(way.photos, place / "spoilt")
    for path in (place / "spoilt").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:300])
    (place / "no-photos" / "notes.txt").write_text("nothing here")
    data = (place / "photo.nic").read_bytes()
    (place / "cut.nic").write_bytes(data[:-3])
    (place / "short.nic").write_bytes(data[:7])
    (place / "empty.nic").write_bytes(b"")
    (place / "altered.nic").write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    shutil.copytree(way.codec, place / "altered")
    weights = bytearray((way.codec / "codec.safetensors").read_bytes())
    weights[-5] ^= 1
    (place / "altered" / "codec.safetensors").write_bytes(weights)
    shutil.copytree(way.run, place / "untrained")
    (place / "untrained" / "supernet.safetensors").unlink()
    shutil.copytree(way.run, place / "unscored", ignore=shutil.ignore_patterns("search", "front.csv"))
    return way


def space_yaml(**changes: Any) -> str:
    content = nas.SearchSpace.load(SPACE).to_dict() | {"layouts": ["none", "raster"]}
    return yaml.safe_dump({**content, **changes}, sort_keys=False)


Case = tuple[str, list[str]]

# words, in which {name} is a path, and what the sentence names
COMPRESS: dict[str, Case] = {
    "missing image": ("compress {codec} {none.png} {x.nic}", ["none.png", "no image"]),
    "cut image": ("compress {codec} {cut.png} {x.nic}", ["cut.png", "Cannot read"]),
    "no image at all": ("compress {codec} {text.png} {x.nic}", ["text.png", "not an image"]),
    "a folder as image": ("compress {codec} {photos} {x.nic}", ["folder"]),
    "file exists": ("compress {codec} {photo.png} {photo.nic}", ["already exists", "--force"]),
    "no codec": ("compress {run} {photo.png} {x.nic}", ["not a codec"]),
    "missing codec": ("compress {none} {photo.png} {x.nic}", ["not a codec"]),
    "no codec, and a folder": ("compress {none} {photo.png} {x}", ["not a codec"]),
    "no layout, and a folder": ("compress {codec} {photo.png} {x} --layout rasta", ["rasta"]),
    "altered codec": ("compress {altered} {photo.png} {x.nic}", ["altered"]),
    "unknown device": ("compress {codec} {photo.png} {x.nic} --device gpu", ["gpu", "auto, cpu or cuda"]),
    "below a file": ("compress {codec} {photo.png} {photo.nic/x.nic}", ["photo.nic"]),
}
DECOMPRESS: dict[str, Case] = {
    "no codec, and a folder": ("decompress {none} {photo.nic} {x}", ["not a codec"]),
    "no device, and a folder": ("decompress {codec} {photo.nic} {x} --device tpu", ["tpu"]),
    "no target, and a folder": ("decompress {codec} {photo.nic} {x} --target few", ["few"]),
    "missing file": ("decompress {codec} {none.nic} {x.png}", ["none.nic"]),
    "cut file": ("decompress {codec} {cut.nic} {x.png}", ["cut short or damaged"]),
    "very short file": ("decompress {codec} {short.nic} {x.png}", ["cut short or damaged"]),
    "empty file": ("decompress {codec} {empty.nic} {x.png}", ["not a .nic file"]),
    "altered file": ("decompress {codec} {altered.nic} {x.png}", ["cut short or damaged"]),
    "another kind of file": ("decompress {codec} {photo.png} {x.png}", ["not a .nic file"]),
    "folder": ("decompress {codec} {photos} {x.png}", ["photos"]),
    "another entropy path": ("decompress {other} {photo.nic} {x.png}", ["did not make the file"]),
    "picture exists": ("decompress {codec} {photo.nic} {photo.png}", ["already exists"]),
    "unknown format": ("decompress {codec} {photo.nic} {x.xyz}", ["image format"]),
}
TRAIN: dict[str, Case] = {
    "nothing": ("train", ["SPACE", "--data"]),
    "missing folder": ("train joint-ar-tiny --data {none} --out {x}", ["none", "not a folder"]),
    "empty folder": ("train joint-ar-tiny --data {empty} --out {x}", ["no images"]),
    "no photos": ("train joint-ar-tiny --data {no-photos} --out {x}", ["no images"]),
    "two photos": ("train joint-ar-tiny --data {two} --out {x}", ["2 photos", "three"]),
    "spoilt photos": ("train joint-ar-tiny --data {spoilt} --out {x} --steps 1", ["Cannot read", "spoilt"]),
    "unknown space": ("train joint-ar-tinny --data {photos} --out {x}", ["joint-ar-tiny"]),
    "missing YAML": ("train {none.yaml} --data {photos} --out {x}", ["none.yaml"]),
    "run exists": ("train joint-ar-tiny --data {photos} --out {run}", ["already exists", "--force"]),
    "unknown setting": ("train joint-ar-tiny --data {photos} --out {x} --set stepps=3", ["steps"]),
    "no assignment": ("train joint-ar-tiny --data {photos} --out {x} --set steps", ["NAME=VALUE"]),
    "wrong value": ("train joint-ar-tiny --data {photos} --out {x} --set crop=65", ["crop", "64", "65"]),
    "wrong word": ("train joint-ar-tiny --data {photos} --out {x} --set steps=few", ["steps", "few"]),
    "wrong metric": ("train joint-ar-tiny --data {photos} --out {x} --metric psnr", ["mse", "ms-ssim"]),
    "wrong lambda": ("train joint-ar-tiny --data {photos} --out {x} --lmbda 0", ["lmbda", "give a number"]),
    "no steps": ("train joint-ar-tiny --data {photos} --out {x} --steps 0", ["steps"]),
    "small crops for MS-SSIM": (
        "train joint-ar-tiny --data {photos} --out {x} --metric ms-ssim --set crop=128",
        ["160"],
    ),
    "unknown key": ("train joint-ar-tiny --data {photos} --out {x} --arch widest", ["widest", "g_a="]),
    "no start": ("train joint-ar-tiny --data {photos} --out {x} --init-from {none}", ["none"]),
    "start of another kind": ("train joint-ar-tiny --data {photos} --out {x} --init-from {photo.png}", []),
    "start of another search space": (
        "train joint-ar-per-edge --data {photos} --out {x} --init-from {run} --steps 1 --set crop=64",
        ["another search space"],
    ),
    "resuming no run": ("train --resume --out {empty}", ["not a run"]),
    "resuming and starting": ("train joint-ar-tiny --data {photos} --out {run} --resume", ["--resume"]),
    "resuming with other steps": ("train --out {run} --resume --steps 9", ["--resume"]),
}
SEARCH: dict[str, Case] = {
    "missing run": ("search {none}", ["not a run", "no such folder"]),
    "a name of the zoo": ("search joint-ar-tiny", ["no run joint-ar-tiny", "nas search zoo:joint-ar-tiny"]),
    "no run": ("search {photos}", ["not a run"]),
    "a codec": ("search {codec}", ["not a run but a codec"]),
    "untrained": ("search {untrained}", ["--resume"]),
    "unknown budget": ("search {run} --budget three-levels-", ["three-levels"]),
    "no profile": ("search {run} --target 30ms", ["nas profile", "first"]),
    "a budget without its profile": ("search {run} --budget laptop", ["nas profile"]),
    "missing budget": ("search {run} --budget {none.yaml}", ["none.yaml"]),
    "target too low": ("search {run} --target 0.1", ["0.7035", "6.469"]),
    "share too low": ("search {run} --target 1% --scope decoder", ["decoder", "0.37", "3.369"]),
    "target above the most": ("search {run} --target 100", ["100 kMAC/px", "6.469", "0.7035"]),
    "share above all": ("search {run} --target 150%", ["150%", "100%"]),
    "decimal comma": ("search {run} --target 1,5", ["'1,5'", "point"]),
    "no target": ("search {run} --target small", ["small", "60%"]),
    "unknown scope": ("search {run} --target 60% --scope both", ["both", "encoder, decoder, total"]),
    "budget and target": ("search {run} --budget three-levels --target 60%", ["budget", "--target"]),
    "budget and scope": ("search {run} --budget three-levels --scope decoder", ["--scope"]),
    "photos without a place": ("search {run} --data {photos}", ["--data", "--out"]),
    "a place without photos": ("search {run} --out {x}", ["--data", "--out"]),
    "place exists": ("search {run} --data {photos} --out {codec}", ["already exists"]),
    "empty photos": ("search {run} --data {empty} --out {x}", ["no images"]),
    "spoilt photos": ("search {run} --data {spoilt} --out {x}", ["Cannot read", "spoilt"]),
    "no limit": ("search {run} --limit stages", ["'stages'", "stages <= 4"]),
    "impossible limit": ("search {run} --limit encoder<=0.1", ["encoder", "0.1"]),
    "two targets": ("search {run} --target 20% --target=60%", ["--target is given 2 times"]),
    "unknown device": ("search {run} --device tpu", ["tpu"]),
    "unknown storage": ("search {run} --storage nonsense://x", ["nonsense://x"]),
    "storage nowhere": ("search {run} --storage sqlite:///{none}/x.db", ["x.db"]),
}
REST: dict[str, Case] = {
    "drawing no run": ("pareto {photos}", ["not a run"]),
    "drawing nothing": ("pareto {unscored}", ["no scores", "nas search"]),
    "drawing an unknown scope": ("pareto {run} --scope both", ["both", "encoder, decoder, total"]),
    "exporting no run": ("export {photos} --target 60% --out {x}", ["not a run"]),
    "exporting nothing": ("export {run} --out {x}", ["target"]),
    "exporting two things": ("export {run} --target 60% --arch a --out {x}", ["not both"]),
    "exporting over a codec": ("export {run} --target 60% --out {codec}", ["already exists", "--force"]),
    "exporting over a run": ("export {run} --target 60% --out {run}", ["already exists"]),
    "exporting below the least": ("export {run} --target 0.1 --out {x}", ["0.7035", "6.469"]),
    "exporting above the most": ("export {run} --target 7 --out {x}", ["7 kMAC/px", "6.469"]),
    "exporting an unknown budget": ("export {run} --budget three-level --out {x}", ["three-levels"]),
    "exporting a budget and a scope": ("export {run} --budget phone --scope total --out {x}", ["--scope"]),
    "exporting a budget and a key": ("export {run} --budget phone --arch a --out {x}", ["not both"]),
    "exporting limits and a key": ("export {run} --limit stages<=4 --arch a --out {x}", ["not both"]),
    "exporting an unknown key": ("export {run} --arch g_a=1 --out {x}", ["g_a=1"]),
    "demo over a run": ("demo --out {run}", ["already exists", "--force"]),
}
CASES = {
    f"{verb}: {name}": case
    for verb, cases in (
        ("compress", COMPRESS),
        ("decompress", DECOMPRESS),
        ("train", TRAIN),
        ("search", SEARCH),
        ("", REST),
    )
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_gets_one_sentence_and_changes_nothing(wrong, tmp_path, name):
    command, expected = CASES[name]
    refused([wrong.place, tmp_path], filled(command, wrong.place, tmp_path), *expected)


@pytest.mark.parametrize(
    "name",
    [
        *("search: target too low", "search: storage nowhere", "search: place exists"),
        *("exporting below the least", "exporting over a codec", "exporting an unknown key"),
    ],
)
def test_a_refused_command_keeps_no_costs_in_a_run_that_has_none(wrong, tmp_path, name):
    """They were measured in vain: what is refused leaves nothing."""
    command, expected = CASES.get(name) or CASES[f": {name}"]
    run = Path(shutil.copytree(wrong.run, tmp_path / "copy"))
    (run / "search" / "costs.npz").unlink()
    refused(tmp_path, filled(command.replace("{run}", str(run)), wrong.place, tmp_path), *expected)


@pytest.mark.parametrize(
    "command",
    [
        "search {run} --data {photos} --out {codec}",
        "search zoo:joint-ar-tiny --out {codec}",
        "search {run} --seed -1",
        "search {run} --trials -1",
    ],
)
def test_a_refused_search_makes_no_storage(wrong, tmp_path, command):
    words = filled(command, wrong.place, tmp_path)
    for storage in (f"sqlite:///{tmp_path}/x.db", tmp_path / "x.log"):
        refused([wrong.place, tmp_path], [*words, "--storage", storage])


@pytest.mark.parametrize("storage", ["sqlite:///{place}/x.db", "{place}/x.log", None])
def test_a_search_opens_its_storage_once(run_copy, tmp_path, monkeypatch, little_prepared, storage):
    """Opening reads every page of it, so it is handed on."""
    opened = []

    def noted(where: str | Path) -> BaseStorage:
        opened.append(where)
        return open_storage(where)

    for module in ("storage", "shared"):
        monkeypatch.setattr(f"nas.searching.study.{module}.open_storage", noted)
    more = [] if storage is None else ["--storage", storage.format(place=tmp_path)]
    for trials in (1, 2):
        succeed("search", run_copy, "--trials", trials, *more)
        assert len(opened) == trials


def test_a_run_is_not_drawn_beside_one_that_is_refused(wrong, tmp_path):
    run = Path(shutil.copytree(wrong.run, tmp_path / "copy"))
    (run / "search" / "costs.npz").unlink()
    (run / "front.csv").unlink()
    refused(tmp_path, ["pareto", run, wrong.unscored], "no scores")


@no_cuda
@pytest.mark.parametrize(
    "command",
    [
        "train joint-ar-tiny --data {photos} --out {x} --steps 1",
        "search {run} --trials 1",
        "export {run} --target 60% --out {x}",
        "compress {codec} {photo.png} {x.nic}",
        "decompress {codec} {photo.nic} {x.png}",
    ],
)
def test_cuda_where_there_is_none(wrong, tmp_path, command):
    words = [*filled(command, wrong.place, tmp_path), "--device", "cuda"]
    refused([wrong.place, tmp_path], words, "no CUDA device", "--device cpu")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("--data {photos} --device cuda", id="no CUDA", marks=no_cuda),
        pytest.param("--data {spoilt}", id="spoilt photos"),
        pytest.param("--data {empty}", id="no photos"),
        pytest.param(
            "--data {photos} --init-from {codec/codec.safetensors}", id="another search space's weights"
        ),
        pytest.param("--data {photos} --set crop=65", id="a wrong setting"),
    ],
)
def test_force_destroys_nothing_before_the_rest_is_known_to_be_right(wrong, run_copy, words):
    more = filled(words, wrong.place, run_copy)
    refused(run_copy, ["train", SPACE, "--out", run_copy, "--steps", 1, "--force", *more])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (space_yaml(famly="joint-ar"), ["famly", "family"]),
        (space_yaml(family="joint-arr"), ["joint-arr", "joint-ar"]),
        (space_yaml(window=4), ["window", "3, 5 or 7", "4"]),
        (space_yaml(latents={"y": "many", "z": 16}), ["latents.y", "many"]),
        (space_yaml(latents={"y": 32}), ["latents", "how many channels z has"]),
        (space_yaml(layouts=["rastre"]), ["rastre", "raster"]),
        (space_yaml(layouts=[]), ["layouts"]),
        (space_yaml(widths={"g_a": [8, 16]}), ["every layer needs exactly one slot"]),
        (space_yaml(widths={"g_b": [8, 16]}), ["g_b"]),
        (space_yaml(widths={"g_a": [16, 8]}), ["g_a", "narrow to wide"]),
        ("- family\n", ["name: value"]),
        ("family: [", ["not valid YAML"]),
        ("", ["name: value"]),
    ],
)
def test_a_wrong_space_is_named_with_what_is_allowed(way, tmp_path, text, expected):
    (tmp_path / "mine.yaml").write_text(text)
    words = ["train", tmp_path / "mine.yaml", "--data", way.photos, "--out", tmp_path / "x"]
    refused(tmp_path, words, "mine.yaml", *expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scop: decoder\ntargets: [3]\n", ["scop", "scope"]),
        ("scope: dekoder\ntargets: [3]\n", ["dekoder", "encoder", "total"]),
        ("targets: [few]\n", ["few", "60%"]),
        ("targets: 3\n", ["targets", "list"]),
        ("targets: [3]\nmax_stages: 0\n", ["max_stages"]),
        ("scope: total\n", ["targets", "levels"]),
        ("targets: [3, 30ms]\n", ["kMAC/px and ms", "limits"]),
        ("targets: {from: 3, to: 2, levels: 2}\n", ["empty"]),
        ("targets: [3]\nlimits: decoder <= 0.1\n", ["decoder <= 0.1 kMAC/px", "the least", "0.3712"]),
        ("targets: [3]\nlimits: decode <= 1\n", ["ms or MB"]),
        ("targets: [3]\nlimits: [decode <= 1 ms at 64x64]\n", ["nas profile", "--size 64x64"]),
        ("limits: parameters <= 99k parameters\n", ["parameters <= 99,000", "100,135 parameters"]),
        ("targets: [0.1]\n", ["0.7035", "6.469"]),
        ("- 3\n", ["name: value"]),
        ("targets: [3\n", ["not valid YAML"]),
    ],
)
def test_a_wrong_budget_is_named_with_what_is_allowed(way, run_copy, tmp_path, text, expected):
    (tmp_path / "mine.yaml").write_text(text)
    refused(tmp_path, ["search", run_copy, "--budget", tmp_path / "mine.yaml"], *expected)


def without(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def holding(name: str, content: str) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        (run / name).write_text(content)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(without("split.csv"), "split.csv", id="no split.csv"),
        pytest.param(holding("supernet.safetensors", "x" * 90), "supernet.safetensors", id="weights"),
        pytest.param(holding("config.yaml", "format: nas-run 1\n"), "config.yaml", id="empty config.yaml"),
        pytest.param(holding("config.yaml", "format: nas-run 9\n"), "config.yaml", id="newer config.yaml"),
        pytest.param(holding("config.yaml", "{"), "config.yaml", id="broken config.yaml"),
    ],
)
def test_a_damaged_run_is_named(run_copy, spoil, expected):
    spoil(run_copy)
    refused(run_copy, ["search", run_copy, "--trials", "1"], expected)


@pytest.mark.parametrize(
    "words", [["nothing"], ["search"], ["search", "run", "--trails", "3"], ["train", "--steps", "few"]]
)
def test_the_option_parser_says_what_is_wrong(words):
    answer = run_nas(*words)
    assert answer.status == 2
    assert "Usage:" in answer.err
    assert "Traceback" not in answer.err


def test_force_replaces(way, tmp_path):
    target = tmp_path / "photo.nic"
    target.write_bytes(b"old")
    succeed("compress", way.codec, way.photo, target, "--force")
    assert target.read_bytes() == (way.place / "photo.nic").read_bytes()


# Processes of their own


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    # whoever runs the tests in the background may have interrupts ignored, and that is inherited
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_wrong_input_ends_a_process_with_status_2(tmp_path):
    process = start("search", "run", "--budget", "three-levels", "--target", "60%", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert err == "Error: A budget has its own targets and scope: leave --target and --scope out.\n"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "joint-ar-tiny", "--data", "", "--out", "run"],
        ["evaluate", "codec", "--data="],
        ["export", "run", "--target", "60%", "--out", ""],
        ["compress", "codec", "", "packed"],
        ["info", ""],
    ],
)
def test_an_empty_argument_is_not_the_current_folder(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, words, "An argument is empty: a variable of the shell may be unset.")
