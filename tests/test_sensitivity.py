"""The sensitivity table: every step there is, what it changes, the order of the steps, and the command."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image
from small_run import small_run, write_profile
from typer.testing import CliRunner

import nas
from nas.analysis.sensitivity import SensitivityTable, Step, table_rows
from nas.cli import app
from nas.report.sensitivity import save_sensitivity_table
from nas.run import Run
from nas.searching.scoring.scores import read_scores
from nas.spaces.architecture import Architecture
from nas.spaces.budget import SCOPES
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

# A hyperprior that can be left out, with all that belongs to it.
SWITCHED = {
    "family": "mean-scale-hyperprior",
    "latents": {"y": 4, "z": 3},
    "widths": {
        **{name: [2, 3] for name in FAMILIES["mean-scale-hyperprior"].choices},
        "hyperprior": [0, 1],
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_space: SearchSpace, photo_folder: Path) -> Run:
    return small_run(tmp_path_factory.mktemp("sensitivity") / "run", small_space, photo_folder)


def seconds(action: str, edge: str, architecture: Architecture) -> float:
    """What no edge's widths change but its own."""
    if edge == "context":
        return 0.001 * len(architecture.layout)
    return 0.001 * sum(width for slot, width in architecture.widths if slot.split(".")[0] == edge)


@pytest.fixture(scope="module")
def profiled(run: Run) -> Run:
    write_profile(run, seconds)
    return run


def steps_of(explained: SensitivityTable) -> tuple[Step, ...]:
    return (*explained.down, *explained.up, *explained.level)


def explain(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["explain", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("scope", SCOPES)
def test_every_step_is_there_once_with_what_it_changes(run: Run, scope: str) -> None:
    loaded = nas.load_run(run.path, device="cpu")
    searcher, space = loaded.searcher, run.space
    rng = random.Random(SCOPES.index(scope))
    here = space.sample(rng)
    explained = loaded.explain(here.key, scope=scope)
    widths = [found for found in space.neighbours(here) if found.layout == here.layout]
    layouts = [space.under(name, here) for name in space.layout_names if name != here.layout]
    assert sorted(step.architecture.key for step in steps_of(explained)) == sorted(
        found.key for found in [*widths, *layouts]
    )
    before, costs = searcher.scores.of(here), searcher.costs
    for step in steps_of(explained):
        after = searcher.scores.of(step.architecture)
        more = costs.kmac_px(step.architecture, scope) - costs.kmac_px(here, scope)
        assert step.kmac_px == pytest.approx(more, abs=1e-12)
        more = costs.kmac_px(step.architecture, "total") - costs.kmac_px(here, "total")
        assert step.total_kmac_px == pytest.approx(more, abs=1e-12)
        assert before.rd_loss * (1 + step.loss / 100) == pytest.approx(after.rd_loss)
        assert before.bpp + step.bpp == pytest.approx(after.bpp)
        changed = dict(here.widths) | {"layout": here.layout}
        assert str(changed[step.slot]) == step.before
        there = dict(step.architecture.widths) | {"layout": step.architecture.layout}
        assert str(there[step.slot]) == step.after


def test_a_step_that_costs_nothing_in_the_scope_shows_what_it_costs_in_total(run: Run) -> None:
    explained = nas.load_run(run.path, device="cpu").explain(run.space.widest().key, scope="decoder")
    rows = table_rows(explained.level)
    assert all(row["kMAC/px"].strip() == "0" for row in rows)
    assert any(row["in total"].strip() != "0" for row in rows)
    in_total = nas.load_run(run.path, device="cpu").explain(run.space.widest().key)
    assert all("in total" not in row for steps in in_total.groups.values() for row in table_rows(steps))


def test_an_exported_codec_names_its_architecture(run: Run, tmp_path: Path) -> None:
    key = run.space.widest().key
    nas.export(run.path, tmp_path / "codec", arch=key, device="cpu")
    assert nas.explain(run.path, str(tmp_path / "codec"), device="cpu").architecture.key == key


@pytest.mark.parametrize("seed", range(4))
def test_the_best_steps_stand_first(run: Run, seed: int) -> None:
    here = run.space.sample(random.Random(seed))
    explained = nas.load_run(run.path, device="cpu").explain(here.key)
    assert len(explained.down) + len(explained.up) > 3
    table = explained.to_dataframe()
    assert table["arch"].tolist() == [step.architecture.key for step in steps_of(explained)]
    assert table["group"].value_counts().get("down", 0) == len(explained.down)
    assert here.key in repr(explained)
    assert len(repr(explained)) < 400
    assert all(step.kmac_px < 0 for step in explained.down)
    assert all(step.kmac_px > 0 for step in explained.up)
    lost = [step.loss / -step.kmac_px for step in explained.down]
    gained = [-step.loss / step.kmac_px for step in explained.up]
    assert lost == sorted(lost)
    assert gained == sorted(gained, reverse=True)
    told = explained.sentences()
    if explained.down:
        assert told[0] == f"Best step down: {explained.down[0].sentence('decode')}."
    if explained.up and explained.up[0].loss < 0:
        assert f"Best step up: {explained.up[0].sentence('decode')}." in told
    elif explained.up:
        assert "No single step up lowers the loss." in told
    cheaper = [step for step in (*explained.down, *explained.level) if step.loss < 0]
    assert any("not on the front" in sentence for sentence in told) == bool(cheaper)


def test_scores_are_kept_and_none_is_computed_twice(run: Run) -> None:
    key = run.space.widest().key
    nas.load_run(run.path, device="cpu").explain(key)
    before = [row["key"] for row in read_scores(run.scores_path)]
    assert len(set(before)) == len(before)
    nas.load_run(run.path, device="cpu").explain(key, scope="decoder")
    assert [row["key"] for row in read_scores(run.scores_path)] == before


def test_what_is_switched_off_has_no_step(tmp_path: Path, photo_folder: Path) -> None:
    space = SearchSpace.from_dict(SWITCHED, name="switched")
    run = small_run(tmp_path / "run", space, photo_folder)
    off = space.narrowest()
    assert dict(off.widths)["hyperprior"] == 0
    explained = nas.load_run(run.path, device="cpu").explain(off.key)
    slots = {step.slot for step in steps_of(explained)}
    assert slots == {name for name, _ in off.widths if not name.startswith(("h_a", "h_s"))}


def test_times_are_those_of_the_profile(profiled: Run) -> None:
    loaded, space = nas.load_run(profiled.path, device="cpu"), profiled.space
    here = space.at([1, 0, 0, 1, 1, 0, 1])
    explained = loaded.explain(here.key, scope="decoder")
    assert explained.ms["decode"] > 0
    assert "A Machine" in explained.where
    by_slot = {(step.slot, step.after): step for step in steps_of(explained)}
    for (slot, _), step in by_slot.items():
        of_encoder, of_decoder = slot in ("g_a", "h_a.1"), slot == "decoder"
        if of_encoder:
            assert step.ms["decode"] == pytest.approx(0, abs=1e-6)
            assert step.ms["encode"] == pytest.approx(int(step.after) - int(step.before), abs=1e-6)
        if of_decoder:
            assert step.ms["encode"] == pytest.approx(0, abs=1e-6)
        if slot == "layout":
            more = len(step.after) - len(step.before)
            assert step.ms == pytest.approx({"encode": more, "decode": more}, abs=1e-6)
    assert "ms" in explained.sentences()[0]


def test_without_a_profile_it_says_how_to_get_one(
    tmp_path: Path, small_space: SearchSpace, photo_folder: Path
) -> None:
    run = small_run(tmp_path / "run", small_space, photo_folder)
    explained = nas.load_run(run.path, device="cpu").explain(run.space.narrowest().key)
    assert not explained.ms
    assert all(not step.ms for step in steps_of(explained))
    assert f"nas profile {run.path}" in explained.sentences()[-1]
    assert " ms" not in explained.sentences()[0]


def test_the_command(run: Run, tmp_path: Path) -> None:
    key = run.space.uniform(0.5).key
    words = (run.path, "--arch", key, "--scope", "encoder", "--device", "cpu")
    status, out, err = explain(*words, "--json", "--out", tmp_path / "steps.svg")
    assert status == 0, err
    content = json.loads(out)
    explained = nas.load_run(run.path, device="cpu").explain(key, scope="encoder")
    assert [step["sentence"] for step in content["down"]] == [s.sentence("encode") for s in explained.down]
    assert content["files"] == [str(tmp_path / "steps.svg")]
    status, out, err = explain(*words)
    assert status == 0, err
    assert explained.sentences()[0] in out
    for step in steps_of(explained):
        assert step.name in out
    for wrong, expected in (
        (("--arch", "g_a=3"), "does not fit"),
        (("--arch", key, "--scope", "both"), "encoder, decoder, total"),
        (("--arch", key, "--out", tmp_path / "steps.svg"), "already exists"),
        (("--arch", key, "--out", tmp_path / "steps.bmp"), ".svg"),
    ):
        status, _, err = explain(run.path, *wrong)
        assert status == 2
        assert expected in err.splitlines()[-1]


def test_rows_of_a_table_are_equally_wide(run: Run) -> None:
    explained = nas.load_run(run.path, device="cpu").explain(run.space.uniform(0.5).key)
    rows = table_rows(explained.up)
    for column in rows[0]:
        if column != "step":
            assert len({len(row[column]) for row in rows}) == 1
    assert table_rows(()) == []


def test_the_picture_is_the_same_each_time(run: Run, tmp_path: Path) -> None:
    loaded = nas.load_run(run.path, device="cpu")
    explained = loaded.explain(run.space.uniform(0.5).key, scope="decoder")
    for name in ("a.png", "b.png", "a.svg"):
        save_sensitivity_table(explained, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 1650
    text = (tmp_path / "a.svg").read_text()
    assert all(step.name.replace(">", "&gt;") in text for step in steps_of(explained))


def test_an_unknown_scope_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="encoder, decoder, total"):
        nas.load_run(run.path, device="cpu").explain(run.space.widest().key, scope="both")
