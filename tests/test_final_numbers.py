"""What a run's figure, page and tables are made of: its scores, its profile, its codecs, and whose photos."""

from __future__ import annotations

import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from small_run import small_run, write_profile
from test_report import data_of, table_keys

import nas
from nas.photos.split import shared_photos, split_folder, write_split
from nas.report.front.make import draw_runs
from nas.run import Run
from nas.searching.family import FamilyMembers
from nas.searching.scoring.final import with_tested
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, InputWarning
from nas.support.files import write_yaml
from nas.verbs.export import export_codec
from nas.verbs.search import run_on_photos


@pytest.fixture
def run(tmp_path: Path, small_space: SearchSpace, photo_folder: Path) -> Run:
    """A run with a few scores."""
    run = small_run(tmp_path / "run", small_space, photo_folder)
    searcher = nas.load_run(run.path, device="cpu").searcher
    for architecture in [*run.space.baselines()[:4], *run.space.tapered()]:
        searcher.scores.of(architecture)
    searcher.write_front()
    return run


def drawn(*runs: Run, figure: bool = False) -> str:
    """The page of some runs; their figure, which takes most of the time, is drawn where it is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        if not figure:
            patch.setattr("nas.report.front.make.save_front", lambda *_: ())
        draw_runs(runs, runs[0].path)
    return (runs[0].path / "report.html").read_text(encoding="utf-8")


def facts(page: str) -> dict[str, str]:
    part = page[page.index('<dl class="facts">') :]
    return {unescape(k): unescape(v) for k, v in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", part)}


# Numbers of real files


def test_numbers_of_real_files_outlast_being_beaten(run: Run, tmp_path: Path) -> None:
    searcher = nas.load_run(run.path, device="cpu").searcher
    table = searcher.table()
    beaten = table[~table[[f"on_front_{s}" for s in ("encoder", "decoder", "total")]].any(axis=1)]
    first, other = beaten["arch"].iloc[0], run.front()["arch"].iloc[0]
    measured = {
        key: export_codec(run, FamilyMembers.alone(run.space.parse(key)), tmp_path / name)["measured"]
        for name, key in (("first", first), ("other", other))
    }
    searcher.write_front()
    front = run.front().set_index("arch")
    assert first not in front.index
    assert front.loc[other, "test_rd_loss"] == measured[other]["rd_loss"]
    assert front["test_rd_loss"].notna().sum() == 1
    final = drawn(run).split('<h2 id="final">')[1]
    for found in measured.values():
        assert f">{found['rd_loss']:.4f}<" in final
        assert f">{found['bpp']:.4f}<" in final
    run.tested_path.write_text("arch\nx\n")
    with pytest.raises(InputError, match=r"tested\.csv is damaged"):
        draw_runs([run], run.path)


def test_numbers_of_other_weights_are_not_shown(run: Run, tmp_path: Path) -> None:
    architecture = run.space.narrowest()
    export_codec(run, FamilyMembers.alone(architecture), tmp_path / "codec")
    table = pd.DataFrame({"arch": [architecture.key, run.space.widest().key]})
    assert with_tested(table.copy(), run)["test_psnr"].notna().tolist() == [True, False]
    (run.path / "supernet.safetensors").write_bytes(run.weights_path.read_bytes()[:-1] + b"\1")
    assert with_tested(table.copy(), Run.open(run.path))["test_psnr"].isna().all()


# Calibration and test never mix


def test_no_photo_is_in_two_parts_of_a_folder(photo_folder: Path) -> None:
    split = split_folder(photo_folder)
    files = [photo for part in split.values() for photo in part]
    assert len(set(files)) == len(files)
    assert not shared_photos(split["held-out"], split["calibration"])


def test_held_out_photos_are_never_calibration_photos(run: Run, tmp_path: Path) -> None:
    split = run.split()
    spare = split["train"][-1:]
    write_split(run.split_path, {**split, "held-out": [*split["held-out"], *spare]})
    own = tmp_path / "own photos"
    own.mkdir()
    for number, photo in enumerate([*split["held-out"], *split["train"][:1]]):
        shutil.copy(photo, own / f"renamed-{number}.png")
    other = run_on_photos(Run.open(run.path), own, tmp_path / "other")
    found = other.split()
    assert found["held-out"] == spare
    assert sorted(found["calibration"]) == sorted(own.iterdir())
    assert not shared_photos(found["held-out"], found["calibration"])
    for photo in spare:
        shutil.copy(photo, own)
    with pytest.raises(InputError, match=r"All held-out photos .* leave some out"):
        run_on_photos(Run.open(run.path), own, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_page_says_which_photos_were_which(run: Run) -> None:
    split = run.split()
    told = facts(drawn(run))
    (searched,) = (text for name, text in told.items() if name.startswith("searched on"))
    (final,) = (text for name, text in told.items() if name.startswith("final numbers"))
    assert all(photo.name in searched and photo.name not in final for photo in split["calibration"])
    assert all(photo.name in final and photo.name not in searched for photo in split["held-out"])
    assert "1 photo (" in final
    assert not any("no fair test" in name for name in told)
    write_split(run.split_path, {**split, "held-out": split["calibration"]})
    (mixed,) = (text for name, text in facts(drawn(run)).items() if "no fair test" in name)
    assert mixed == "; ".join(photo.name for photo in split["calibration"])


# Time, budgets, baselines


def test_a_profile_adds_time_and_the_front_in_it(run: Run) -> None:
    page = drawn(run)
    assert 'value="decode"' not in page
    assert "nas profile" in facts(page)["time"]
    dear = {"none": 5.0, "raster": 2.0, "uneven": 1.0}
    write_profile(run, lambda _, edge, a: dear[a.layout] if edge == "context" else 0.0)
    page = drawn(run, figure=True)
    assert 'value="decode"' in page
    assert "A Machine" in facts(page)["time"]
    rows = zip(data_of(page)["rows"], table_keys(page), strict=True)
    quick = [key.split("layout=")[1] for row, key in rows if "decode" in row["on"]]
    scored = nas.load_run(run.path, device="cpu").searcher.table()
    layouts = scored["arch"].str.split("layout=").str[1]
    best = {name: scored.loc[layouts == name, "rd_loss"].min() for name in set(layouts)}
    expected = [a for a in best if all(best[b] > best[a] for b in best if dear[b] < dear[a])]
    assert sorted(quick) == sorted(expected)
    assert "A Machine" in (run.path / "pareto.svg").read_text(encoding="utf-8")


def test_budgets_of_every_kind_are_marked_and_what_is_no_budget_is_passed_over(run: Run) -> None:
    write_profile(run, lambda _, __, architecture: 0.001 * len(architecture.layout))
    write_yaml(
        run.targets_path,
        {"total": {123.0: "x"}, "decode-ms-768x512-cpu": {456.5: "y"}, "stages": {3: "z"}, "encoder": 7},
    )
    page, figure = drawn(run, figure=True), (run.path / "pareto.svg").read_text(encoding="utf-8")
    assert data_of(page)["runs"][0]["targets"]["total"] == [123.0]
    assert data_of(page)["runs"][0]["targets"]["decode"] == [456.5]
    for text in ("≤ 123 →", "≤ 456.5 ms →"):
        assert text in figure


def test_baselines_are_made_by_hand_and_none_is_two_kinds(tiny_space: SearchSpace) -> None:
    found = {"greedy-2": tiny_space.layouts["checkerboard"], "learned-3": tiny_space.layouts["raster"]}
    space = tiny_space.with_layouts(found)
    uniform, tapered = space.baselines(), space.tapered()
    assert not {a.layout for a in (*uniform, *tapered)} & set(found)
    assert not set(uniform) & set(tapered)
    assert tapered
    for architecture in tapered:
        widths = dict(architecture.widths)
        g_a, g_s = ([widths[f"{edge}.{k}"] for k in (1, 2, 3)] for edge in ("g_a", "g_s"))
        assert g_a == sorted(g_a)
        assert g_s == sorted(g_s, reverse=True)
        assert g_a[0] < g_a[-1]
        assert g_a == g_s[::-1]
    assert not SearchSpace.load("joint-ar-per-edge").tapered()


@pytest.mark.parametrize("share", [0.0, 0.61])
def test_an_export_for_a_time_is_timed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr("nas.profiling.profile.disturbance", lambda: share)
    told = pytest.warns(InputWarning, match="61% slower .* run `nas profile") if share else nullcontext()
    write_profile(run, lambda _, __, architecture: 0.001 * len(architecture.layout))
    loaded = nas.load_run(run.path, device="cpu")
    with told:
        found = loaded.export(tmp_path / "codec", target="20ms", scope="decoder")
    assert "timed" in found
    seconds, predicted = found["timed"]["decode"]
    assert seconds > 0
    assert predicted <= 20
    assert "timed" not in loaded.export(tmp_path / "other", target="60%")


def test_losses_of_several_lambdas_are_told_relative_to_the_least(run: Run) -> None:
    from nas.report.front.fronts import loss_title, on_one_axis
    from nas.report.front.make import front_of

    one = front_of(run, {})
    other = replace(one, name="other", lmbda=2 * one.lmbda)
    assert "bpp" in loss_title([one, one])
    first, second = on_one_axis([one, other])
    assert first.scored["rd_loss"].min() == 0 == second.scored["rd_loss"].min()
    assert "%" in loss_title([one, other])


def test_the_answer_within_limits_is_drawn_though_it_is_on_no_front(run: Run) -> None:
    table = nas.load_run(run.path, device="cpu").searcher.table()
    flags = [f"on_front_{s}" for s in ("encoder", "decoder", "total")]
    beaten = table.loc[~table[flags].any(axis=1), "arch"].iloc[0]
    write_yaml(run.targets_path, {"total with stages <= 1": {99.0: beaten}})
    page = drawn(run)
    chosen = {key: row["chosen"] for row, key in zip(data_of(page)["rows"], table_keys(page), strict=True)}
    assert chosen[beaten] == ["total"]
    assert "stages &lt;= 1" in page
