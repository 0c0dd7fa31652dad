"""A range of rates beyond training: whole curves of one codec, curves beside the front, other commands."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compressai.utils.plot.__main__ import main as compressai_plot
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_run import small_run
from test_report import data_of, table_keys
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.folder import load_codec, read_description
from nas.codec.nic import Nic
from nas.comparison.compare import compare
from nas.comparison.evaluate import evaluate_codec
from nas.comparison.plan import Plan
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.report.front.costs import COSTS
from nas.report.front.make import front_of
from nas.searching.scoring.evaluator import Point, Score
from nas.searching.scoring.front import bd_rate_of
from nas.searching.sources import Sources
from nas.spaces.rates import anchor_qualities, anchors_between, scored
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, InputWarning
from nas.verbs.evaluate import write_comparison

RANGE = "0.0018..0.18"
ANCHORS = anchors_between(0.0018, 0.18)
QUALITIES = list(anchor_qualities(ANCHORS))
TINY = {"crop": 64, "batch": 1, "steps": 2, "warmup": 0}


def command(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def run(small_space: SearchSpace, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a range of rates with seeded weights; every hand-made architecture is scored."""
    folder = tmp_path_factory.mktemp("rated") / "run"
    small_run(folder, replace(small_space, rates=ANCHORS), photo_folder)
    searcher = nas.load_run(folder, device="cpu").searcher
    for architecture in [*searcher.space.baselines(), *searcher.space.tapered(), searcher.space.widest()]:
        searcher.scores.of(architecture)
    searcher.write_front()
    return folder


@pytest.fixture(scope="module")
def family(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of decoders of that run."""
    folder = tmp_path_factory.mktemp("codecs") / "all-rates"
    command("export", run, "--family", "--out", folder)
    return folder


# Evaluations


@pytest.fixture(scope="module")
def one_photo(chelsea: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one photo."""
    folder = tmp_path_factory.mktemp("evaluated")
    Image.fromarray(chelsea[:96, :128]).save(folder / "cat.png")
    return folder


@pytest.fixture(scope="module")
def evaluated(family: Path, one_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("results") / "rd.json"
    plan = Plan.of([family], against=["jpeg"], out=out)
    found = compare(plan, one_photo, qualities=(10, 40, 70, 90))
    assert plan.outputs is not None
    write_comparison(found, plan.outputs)
    return out, found


def test_one_codec_is_a_whole_curve(evaluated: tuple[Path, Any], family: Path, tmp_path: Path) -> None:
    out, found = evaluated
    (group,) = found.groups
    assert group.name == "all-rates"
    assert [s.quality for s in found.subjects] == QUALITIES
    assert [s.lmbda for s in found.subjects] == list(ANCHORS)
    content = json.loads(out.read_text())
    assert content["name"] == "all-rates"
    assert len(content["results"]["bpp"]) == len(ANCHORS)
    assert content["results"]["bpp"] == sorted(point.bpp for point in found.codecs)
    assert {(rate.curve, rate.anchor) for rate in found.bd_rates} == {("all-rates", "jpeg")}
    tables = {title.split(" ")[0]: rows for title, _, rows in found.tables()}
    assert len(tables["means"]) == len(ANCHORS)
    ((name, lmbda, *_),) = tables["what"]
    assert (name, lmbda) == ("all-rates", RANGE)
    with open(out.with_suffix(".csv"), encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "all-rates"]
    assert [float(row["quality"]) for row in rows[:: len(rows) // len(ANCHORS)]] == QUALITIES
    picture = tmp_path / "plot.png"
    compressai_plot(["-f", str(out), "-o", str(picture)])
    assert picture.is_file()


def test_its_points_are_what_that_quality_gives(evaluated, family, chelsea):
    _, found = evaluated
    photo, codec = Photo("cat", chelsea), load_codec(family)
    for quality in (0.0, 57.1, 100.0):
        alone = evaluate_codec(codec, [photo], Objective(0.01), quality=quality)
        assert alone.bytes == len(compress_image(codec, chelsea, quality=quality).to_bytes())
        assert alone.estimated_bpp == pytest.approx(alone.bpp, rel=0.02, abs=0.01)
    assert len({point.bpp for point in found.codecs}) > len(ANCHORS) / 2


def test_what_was_kept_is_of_its_quality(family, one_photo, tmp_path, monkeypatch):
    plan = Plan.of([family], out=tmp_path / "rd.json")
    first = compare(plan, one_photo)
    monkeypatch.setattr(
        "nas.comparison.evaluate._PhotoMeasurer.measure", lambda *_: pytest.fail("measured twice")
    )
    again = compare(plan, one_photo)
    assert [point.photos[0].bytes for point in again.codecs] == [p.photos[0].bytes for p in first.codecs]


def test_codecs_of_one_rate_and_of_all_beside_each_other(
    family, photo_folder, one_photo, small_space, tmp_path
):
    single = small_run(tmp_path / "run", small_space, photo_folder).path
    command("export", single, "--arch", small_space.narrowest().key, "--out", tmp_path / "one")
    found = compare(Plan.of([tmp_path / "one", family], anchors=["all-rates"]), one_photo)
    assert [subject.quality for subject in found.subjects] == [None, *QUALITIES]
    assert [curve.name for curve in found.drawn()] == ["all-rates", "one"]
    assert len(found.drawn()[1].points) == 1
    assert found.codecs[0].name == "one"
    with pytest.raises(InputError, match="is a curve by itself: leave it out of --curve both"):
        Plan.of([tmp_path / "one", family], curves=["both=one,all-rates"])


# Fronts


def test_curves_stand_beside_the_front(run: Path, tmp_path: Path) -> None:
    command("pareto", run, "--out", tmp_path)
    front = front_of(nas.load_run(run).run, {})
    cost = COSTS["total"]
    curves, on = front.curves_on(cost), front.on_front(cost)
    assert next(iter(curves)) == on.index[0]
    assert list(curves)[-1] == on.index[-1]
    assert all([p.lmbda for p in points] == list(scored(ANCHORS)) for points in curves.values())
    picture, page = (tmp_path / "pareto.svg").read_text(), (tmp_path / "report.html").read_text()
    assert "Rate and distortion of some architectures" in picture
    assert RANGE in picture
    assert ("% against the widest" in page) == front.front["bd_rate"].notna().any()
    for row, key in zip(data_of(page)["rows"], table_keys(page), strict=True):
        curve = [[point.lmbda, point.bpp, point.psnr] for point in front.curves[key]]
        assert len(curve) == 3
        assert np.allclose(row["curve"], curve, rtol=1e-6)


def test_runs_of_one_rate_have_none(small_space, photo_folder, tmp_path):
    run = small_run(tmp_path / "run", small_space, photo_folder)
    searcher = nas.load_run(run.path, device="cpu").searcher
    for architecture in (searcher.space.narrowest(), searcher.space.widest()):
        searcher.scores.of(architecture)
    command("pareto", run.path)
    assert "Rate and distortion" not in (run.path / "pareto.svg").read_text()
    page = (run.path / "report.html").read_text()
    assert not any(row["curve"] for row in data_of(page)["rows"])
    assert "bd_rate" not in data_of(page)["measures"]


@pytest.mark.parametrize("broken", ["nan", "inf", ""])
def test_a_point_that_is_not_finite_is_passed_over(broken: str, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "search" / "curves.csv"
    rows = path.read_text().splitlines()
    words = rows[2].split(",")
    path.write_text("\n".join([*rows[:2], ",".join([*words[:-2], broken, words[-1]]), *rows[3:]]) + "\n")
    command("pareto", tmp_path / "run")
    front = front_of(nas.load_run(tmp_path / "run").run, {})
    assert len(front.curves[words[0]]) == 2
    assert "nan" not in (tmp_path / "run" / "pareto.svg").read_text()


def changed(words: list[str], column: int, factor: float) -> list[str]:
    return [*words[:column], repr(float(words[column]) * factor), *words[column + 1 :]]


@pytest.mark.parametrize(("column", "factor"), [(4, 1e4), (5, -1), (6, 0.5), (6, 1.01)])
def test_a_changed_number_of_a_curve_is_told_and_computed_again(
    column: int, factor: float, run: Path, tmp_path: Path
) -> None:
    """The rate, the PSNR or the loss of an architecture at its lowest rate."""
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "search" / "curves.csv"
    rows = path.read_text().splitlines()
    path.write_text(
        "\n".join([rows[0], ",".join(changed(rows[1].split(","), column, factor)), *rows[2:]]) + "\n"
    )
    with pytest.warns(InputWarning, match=r"Passed over 1 scores in .*scores\.csv, whose numbers cannot"):
        scores = nas.load_run(tmp_path / "run", device="cpu").searcher.scores
    architecture = scores.evaluator.space.parse(rows[1].split(",")[0])
    assert architecture not in scores
    again = scores.of(architecture)
    assert repr(again.curve[0].rd_loss) == rows[1].split(",")[6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert architecture in nas.load_run(tmp_path / "run", device="cpu").searcher.scores


def test_a_study_with_a_changed_curve_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    quick = Sources(logits=False, layouts=False)
    nas.load_run(tmp_path / "run", device="cpu").search(trials=1, sources=quick)
    journal = tmp_path / "run" / "search" / "study.log"
    lines = journal.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"curve"' in line)
    before = re.search(r'"curve": ?\[\[[0-9.e-]+, ?', lines[place])
    assert before is not None
    lines[place] = lines[place].replace(before[0], f"{before[0]}9", 1)  # a digit before the first rate
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="is damaged"):
        nas.load_run(tmp_path / "run", device="cpu").search(trials=1, sources=quick)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=1, max_size=8), st.floats(1e-4, 1))
def test_what_was_measured_is_possible(photos: list[tuple[float, float]], lmbda: float) -> None:
    """Errors of pictures before they are rounded to 8 bits, which may move them by half a level."""
    errors = [error for error, _ in photos]
    rounded = [(math.sqrt(error) + 0.5 / 255) ** 2 for error in errors]
    psnr = sum(-10 * math.log10(error) for error in rounded) / len(rounded)
    bpp = sum(rate for _, rate in photos) / len(photos)
    loss = Objective(lmbda).loss(bpp, sum(errors) / len(errors))
    assert Point(lmbda, bpp, psnr, loss).is_possible("mse")
    assert Score(bpp, psnr, loss).is_possible(Objective(lmbda))
    assert not Point(lmbda, loss + 0.1, psnr, loss).is_possible("ms-ssim")


POINTS = st.builds(Point, st.just(0.01), st.floats(0.01, 9), st.floats(10, 50), st.just(1.0))


@given(*(st.lists(POINTS, min_size=2, max_size=3) for _ in range(2)))
def test_bd_rates_are_of_what_rises(own: list[Point], other: list[Point]) -> None:
    score, anchor = (Score(1, 1, 1, tuple(points)) for points in (own, other))
    assert isinstance(bd_rate_of(score, anchor), float)
    assert bd_rate_of(anchor, None) != bd_rate_of(anchor, None)
    odd = replace(score, curve=(*own, Point(0.01, math.nan, 20.0, 1.0), Point(0.01, 1.0, math.inf, 1.0)))
    assert bd_rate_of(odd, anchor) == pytest.approx(bd_rate_of(score, anchor), nan_ok=True)


def test_equal_psnr_at_two_rates_gives_no_error() -> None:
    flat = Score(
        1, 1, 1, (Point(0.01, 1.0, 30.0, 1.0), Point(0.02, 2.0, 30.0, 1.0), Point(0.03, 3.0, 35.0, 1.0))
    )
    assert bd_rate_of(flat, flat) == pytest.approx(0)


# Other commands


def test_info_tells_the_range_and_its_anchors(run: Path, family: Path) -> None:
    for thing in (run, family):
        told = command("info", thing)
        assert told["range_of_lmbda"] == RANGE
        assert list(told["anchors"].values()) == list(ANCHORS)
        text = CliRunner().invoke(app, ["info", str(thing)]).stdout
        assert "q0: 0.0018" in text
        assert "q100: 0.18" in text
        assert told["default_quality"] == 42.9
        assert "bpp and PSNR are at quality 42.9 (the middle anchor), and the loss is the geometric" in text


def test_quality_travels_through_layouts_and_decoders(family: Path, one_photo: Path, tmp_path: Path) -> None:
    content = read_description(family)
    names = [entry["name"] for entry in content["layouts"]]
    for quality in (0, 33.3, 100):
        for name in names:
            words = ("--quality", quality, "--layout", name, "--force")
            command("compress", family, one_photo / "cat.png", tmp_path / f"{name}.nic", *words)
        command(
            "transcode",
            family,
            tmp_path / f"{names[0]}.nic",
            tmp_path / "t.nic",
            "--layout",
            names[-1],
            "--force",
        )
        assert (tmp_path / "t.nic").read_bytes() == (tmp_path / f"{names[-1]}.nic").read_bytes()
        assert Nic.read(tmp_path / "t.nic").step == round(10 * quality)
        whole = nas.load_family(family)
        pictures = [
            decompress_image(whole.codec(name, place), Nic.read(tmp_path / f"{name}.nic"))
            for place in range(len(whole.decoders))
            for name in names
        ]
        for place in range(len(whole.decoders)):
            same = pictures[place * len(names) : (place + 1) * len(names)]
            assert all(np.array_equal(same[0], other) for other in same)
    assert all(entry["measured"]["rd_loss"] > 0 for entry in content["decoders"])


@pytest.mark.parametrize("only", [None, "g_s", "entropy"])
def test_a_codec_over_a_range_is_tuned_over_it(only, run, photo_folder, tmp_path, chelsea):
    key = nas.load_run(run).run.space.narrowest().key
    command("export", run, "--arch", key, "--out", tmp_path / "codec")
    words = ["--only", only] if only else []
    where = ("--data", photo_folder, "--out", tmp_path / "tuned", "--device", "cpu")
    few = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    told = command("finetune", tmp_path / "codec", *where, *few, *words)
    before, after = load_codec(tmp_path / "codec"), load_codec(tmp_path / "tuned")
    assert after.rates == before.rates == ANCHORS
    assert told["finetuned"]["only"] == only
    file = compress_image(before, chelsea, quality=70)
    if only == "g_s":
        assert after.path_identity == before.path_identity
        assert not np.array_equal(decompress_image(after, file), decompress_image(before, file))
    else:
        assert after.path_identity != before.path_identity
    again = Nic.parse(compress_image(after, chelsea, quality=70).to_bytes())
    assert decompress_image(after, again).shape == chelsea.shape


def test_ranks_are_checked_over_the_range(run: Path, photo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    few = ("--count", 3, "--steps", 2, "--device", "cpu", "--set", "crop=64", "--set", "batch=1")
    told = command("rank-check", tmp_path / "run", "--data", photo_folder, *few)
    for row in told["architectures"]:
        alone = nas.load_run(tmp_path / "run" / "rank-check" / row["run"])
        assert alone.run.space.rates == ANCHORS
        (score,) = alone.searcher.scores.items()
        assert [point.lmbda for point in score[1].curve] == list(scored(ANCHORS))
