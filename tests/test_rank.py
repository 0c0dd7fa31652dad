"""The rank check: tau and its interval, the architectures it takes, and a check from the command line."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import nas
from nas import console
from nas.analysis import rank
from nas.analysis.kendall import agreement, tau_interval, tau_p_value
from nas.analysis.rank_result import RANK_COLUMNS
from nas.analysis.rank_spread import spread
from nas.cli import app
from nas.cost.counting.table import CostTable
from nas.cost.counting.tabulate import measured_costs
from nas.photos.split import photos_of, split_folder
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.families import FAMILIES
from nas.support.errors import InputError
from nas.training.settings import settings_of
from nas.weights.checkpoint import supernet_of

COUNT, STEPS = 3, 2
TINY = {"crop": 64, "batch": 1, "steps": STEPS, "architectures": 2, "learning_rate": 0.01}
FILES = {"rank.csv", "rank.json", "rank.png", "rank.svg"}
# One width for everything, latents too, and a hyperprior that can be left out.
SLIM = {
    "family": "mean-scale-hyperprior",
    "widths": {
        "width": {
            "candidates": [3, 4, 6],
            "layers": dict.fromkeys([*FAMILIES["mean-scale-hyperprior"].choices, "y", "z"], 1),
        },
        "hyperprior": [0, 1],
    },
}

# Correlation


@st.composite
def pairs(draw: st.DrawFn, most: int = 8) -> tuple[list[float], list[float]]:
    """Two lists of losses, with ties as often as not."""
    count = draw(st.integers(3, most))
    levels = st.integers(0, draw(st.sampled_from([2, 5, 10_000])))
    one, other = (draw(st.lists(levels, min_size=count, max_size=count)) for _ in range(2))
    return [float(value) for value in one], [float(value) for value in other]


def tau_b(one: list[float], other: list[float]) -> float | None:
    """By its definition: pairs that agree less pairs that do not, over those that no side ties."""
    numbers = itertools.combinations(range(len(one)), 2)
    signs = [(np.sign(one[i] - one[j]), np.sign(other[i] - other[j])) for i, j in numbers]
    untied = [sum(abs(pair[side]) for pair in signs) for side in (0, 1)]
    return float(sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])) if all(untied) else None


@given(pairs())
@example(([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 2.0, 4.0]))
def test_tau_is_tau_b_inside_its_interval(lists):
    found, expected = agreement(*lists), tau_b(*lists)
    if expected is None:
        assert (found.tau, found.interval, found.p) == (None, None, None)
        return
    assert found.tau == pytest.approx(expected, abs=1e-12)
    low, high = found.interval
    assert -1 <= low <= found.tau <= high <= 1
    assert high - low > 0
    assert 0 < found.p <= 1
    turned = agreement(lists[0], [-value for value in lists[1]])
    assert turned.interval == pytest.approx((-high, -low), abs=1e-6)
    assert turned.p == pytest.approx(found.p)


@given(st.lists(st.floats(0.1, 100), min_size=3, max_size=12, unique=True))
def test_perfect_agreement_and_its_reverse(losses):
    same, reverse = agreement(losses, losses), agreement(losses, [-value for value in losses])
    assert (same.tau, reverse.tau) == (pytest.approx(1), pytest.approx(-1))
    assert same.interval[1] == -reverse.interval[0] == 1
    assert same.interval[0] < 1  # a handful proves nothing
    assert same.p == pytest.approx(2 / math.factorial(len(losses)))


@given(pairs(most=6))
def test_p_is_the_share_of_orders_that_agree_or_disagree_as_much(lists):
    one, other = lists
    seen = tau_b(one, other)
    if seen is not None:
        found = [tau_b(list(order), other) or 0.0 for order in itertools.permutations(one)]
        expected = sum(abs(value) >= abs(seen) - 1e-12 for value in found) / len(found)
        assert tau_p_value(one, other) == pytest.approx(expected)


def test_p_of_many_ties_is_never_zero():
    one = [float(number // 2) for number in range(20)]
    assert 0 < tau_p_value(one, one) < 1e-3
    assert tau_p_value(one, [float(number % 2) for number in range(20)]) > 0.5


@pytest.mark.parametrize("theta", [-3.0, -0.7, 0.0, 0.4, 1.1, 2.5])
@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_interval_holds_the_truth_as_often_as_it_says(count, theta):
    """Every order there is, weighted as Mallows' model does: coverage without drawing."""
    line = list(range(count))
    taus = np.array([tau_b(line, list(order)) for order in itertools.permutations(line)])
    weights = np.exp(-theta * math.comb(count, 2) * (1 - taus) / 2)
    weights /= weights.sum()
    truth = float(weights @ taus)
    limits = {tau: tau_interval(tau, count) for tau in set(taus)}
    held = [limits[tau][0] - 1e-9 <= truth <= limits[tau][1] + 1e-9 for tau in taus]
    assert float(weights @ np.array(held)) >= 0.95 - 1e-9


def test_more_architectures_say_more():
    widths = [np.diff(tau_interval(0.5, count)).item() for count in (4, 8, 16, 32)]
    assert widths == sorted(widths, reverse=True)


# Which architectures


@pytest.fixture(scope="module")
def tables(small_space: nas.SearchSpace) -> dict[str, CostTable]:
    slim = nas.SearchSpace.from_dict(SLIM, name="slim")
    return {space.name: measured_costs(space) for space in (small_space, slim)}


@pytest.mark.parametrize("name", ["small", "slim"])
@given(share=st.floats(0, 1), seed=st.integers(0, 99))
def test_architectures_are_spread_from_the_narrowest_to_the_widest(tables, name, share, seed):
    table = tables[name]
    space = table.space
    count = 3 + round(share * (min(space.size, 40) - 3))
    chosen = spread(table, count, seed)
    assert len(set(chosen)) == count
    assert {space.narrowest(), space.widest()} <= set(chosen)
    assert chosen == spread(table, count, seed)
    macs = [table.macs(architecture, "total") for architecture in chosen]
    assert macs == sorted(macs)


@pytest.mark.parametrize("name", ["small", "slim"])
def test_architectures_lie_as_near_to_even_steps_as_any(tables, name):
    """At most twice as far as the nearest that is not taken, the window's doubling being what it is."""
    table = tables[name]
    chosen = spread(table, 5, 0)
    everything = {table.space.at(indexes) for indexes in itertools.product(*map(range, table.space.shape))}
    others = np.array([table.macs(architecture, "total") for architecture in everything - set(chosen)])
    macs = [table.macs(architecture, "total") for architecture in chosen]
    assert len(everything) == table.space.size
    for goal in np.linspace(macs[0], macs[-1], 5)[1:-1]:
        nearest = min((abs(other - goal) for other in others), default=math.inf)
        assert min(abs(cost - goal) for cost in macs) <= 2 * nearest + 0.01 * (macs[-1] - macs[0])


def test_every_architecture_of_a_space_can_be_taken(tables):
    table = tables["slim"]
    assert len(spread(table, table.space.size, 0)) == table.space.size


# A check


def run_nas(*words: object) -> Any:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def bytes_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: its bytes and when it was written; cost tables are kept on first use."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "costs.npz"
    }


def trained_in(run: Path) -> dict[str, tuple[bytes, int]]:
    """The files of the runs that a check left."""
    return {name: found for name, found in bytes_in(run / "rank-check").items() if name not in FILES}


def weights_in(run: Path) -> dict[str, bytes]:
    return {
        name: found[0] for name, found in trained_in(run).items() if name.endswith("supernet.safetensors")
    }


def make_run(space: nas.SearchSpace, data: Path, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    description = out.parent / f"{space.name}.yaml"
    description.write_text(yaml.safe_dump(space.to_dict()))
    words = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    done = run_nas("train", description, "--data", data, "--out", out, *words, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, small_space: nas.SearchSpace, photo_folder: Path
) -> Path:
    """A run of two steps; tests leave it as it is."""
    return make_run(small_space, photo_folder, tmp_path_factory.mktemp("rank") / "run")


def check(run: Path, data: Path, *words: object) -> Any:
    return run_nas("rank-check", run, "--data", data, "--count", COUNT, "--device", "cpu", *words)


@pytest.fixture(scope="module")
def answer(trained: Path, photo_folder: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of it that was checked, and what the command printed."""
    run = Path(shutil.copytree(trained, trained.parent / "checked"))
    done = check(run, photo_folder, "--json")
    assert done.exit_code == 0, done.stderr
    return run, json.loads(done.stdout)


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def checked_copy(answer: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(answer[0], tmp_path / "run"))


def test_a_check_leaves_a_table_numbers_and_a_figure(answer):
    run, printed = answer
    assert {path.name for path in (run / "rank-check").iterdir() if path.is_file()} == FILES
    assert sorted(printed["files"]) == sorted(str(run / "rank-check" / name) for name in FILES)
    kept = json.loads((run / "rank-check" / "rank.json").read_text())
    assert kept == {name: value for name, value in printed.items() if name != "files"}
    with open(run / "rank-check" / "rank.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(RANK_COLUMNS)
    assert [row["arch"] for row in rows] == [row["arch"] for row in kept["architectures"]]
    for row, same in zip(rows, kept["architectures"], strict=True):
        for name in RANK_COLUMNS[1:-1]:
            assert float(row[name]) == same[name]
    with Image.open(run / "rank-check" / "rank.png") as picture:
        assert min(picture.size) > 500
    drawn = (run / "rank-check" / "rank.svg").read_text()
    assert "trained alone" in drawn
    assert f"{kept['tau']:.3f}" in drawn


def test_both_sides_are_the_evaluators_scores_of_the_same_photos(answer):
    run, printed = answer
    source = Run.open(run)
    photos = photos_of(source, "calibration")
    for row in printed["architectures"]:
        alone = Run.open(run / "rank-check" / row["run"])
        architecture = source.space.parse(row["arch"])
        assert alone.trained_space.widest() == architecture
        assert alone.trained_space.size == 1
        assert settings_of(alone).steps == row["steps"] == STEPS
        for side, owner in (("supernet", source), ("standalone", alone)):
            score = Evaluator(supernet_of(owner), photos, settings_of(source).objective).score(architecture)
            for name in ("rd_loss", "bpp", "psnr"):
                assert row[f"{side}_{name}"] == pytest.approx(getattr(score, name), rel=1e-9)


def test_penalties_are_relative_to_the_loss_alone(answer):
    _, printed = answer
    rows = printed["architectures"]
    for row in rows:
        alone = row["standalone_rd_loss"]
        assert row["penalty"] == pytest.approx((row["supernet_rd_loss"] - alone) / alone)
    found = [row["penalty"] for row in rows]
    expected = {"mean": sum(found) / COUNT, "least": min(found), "most": max(found)}
    assert printed["penalty"] == pytest.approx(expected)
    losses = [[row[f"{side}_rd_loss"] for row in rows] for side in ("supernet", "standalone")]
    assert printed["tau"] == pytest.approx(tau_b(*losses))
    assert printed["interval"][0] <= printed["tau"] <= printed["interval"][1]


def test_only_the_scores_and_the_check_are_new_in_the_run(answer, trained):
    before, after = bytes_in(trained), bytes_in(answer[0])
    new = {name for name in after if name not in before}
    assert all(name.startswith("rank-check/") or name == "search/scores.csv" for name in new)
    assert all(after[name][0] == content for name, (content, _) in before.items())


def test_the_same_again_trains_nothing_and_says_the_same(checked_copy, photo_folder, answer, monkeypatch):
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(rank, "train_or_resume", never)
    before = bytes_in(checked_copy)
    done = check(checked_copy, photo_folder)
    assert done.exit_code == 0, done.stderr
    assert f"Kendall's tau {answer[1]['tau']:.3f}" in done.stderr
    assert trained_in(checked_copy) == {
        name.removeprefix("rank-check/"): found
        for name, found in before.items()
        if name.startswith("rank-check/") and name.count("/") > 1
    }
    after = bytes_in(checked_copy)
    assert {name: found[0] for name, found in after.items()} == {name: f[0] for name, f in before.items()}


def test_an_interrupted_check_goes_on_where_it_was(copy, photo_folder, answer, monkeypatch):
    """Ctrl-C in the middle of the second training: the first stays, the second ends as if uninterrupted."""

    class Impatient:
        def __call__(self, stage: str, done: int, total: int, note: str) -> None:
            if (stage, done) == (f"training 2 of {COUNT} alone", 1):
                raise KeyboardInterrupt

    @contextmanager
    def progress() -> Iterator[Impatient]:
        yield Impatient()

    monkeypatch.setattr(console, "progress", progress)
    done = check(copy, photo_folder)
    assert done.exit_code == 130
    assert "what was trained is kept" in done.stderr
    assert "Traceback" not in done.stderr
    first = weights_in(copy)
    assert len(first) == 1
    kept = json.loads((copy / "rank-check" / "rank.json").read_text())
    assert (kept["finished"], kept["tau"], len(kept["architectures"])) == (False, None, 1)
    place = copy / "rank-check" / kept["architectures"][0]["run"]
    before = bytes_in(place)
    monkeypatch.undo()
    done = check(copy, photo_folder, "--json")
    assert done.exit_code == 0, done.stderr
    assert bytes_in(place) == before
    assert weights_in(copy) == weights_in(answer[0])
    assert json.loads(done.stdout)["architectures"] == answer[1]["architectures"]


def test_other_settings_need_force_and_leave_what_was_trained(checked_copy, photo_folder):
    before = bytes_in(checked_copy)
    done = check(checked_copy, photo_folder, "--steps", STEPS + 1)
    assert done.exit_code == 2
    assert re.search(rf"steps {STEPS}, now {STEPS + 1}.*--force", done.stderr)
    assert bytes_in(checked_copy) == before
    done = check(checked_copy, photo_folder, "--steps", STEPS + 1, "--force", "--json")
    assert done.exit_code == 0, done.stderr
    assert {row["steps"] for row in json.loads(done.stdout)["architectures"]} == {STEPS + 1}
    after = bytes_in(checked_copy)
    kept = {name for name in before if name.startswith("rank-check/") and name.count("/") > 1}
    assert all(after[name] == before[name] for name in kept)
    assert len(weights_in(checked_copy)) == 2 * COUNT


def test_going_on_from_the_inherited_weights_on_other_photos(copy, chelsea, tmp_path):
    """With no rate of learning to speak of, an architecture alone is what it was in the supernet."""
    (tmp_path / "others").mkdir()
    for number in range(3):
        Image.fromarray(chelsea[number : number + 64, 60:124]).save(tmp_path / "others" / f"{number}.png")
    words = ["--start", "supernet", "--steps", 1, "--set", "learning_rate=1e-12", "--json"]
    done = check(copy, tmp_path / "others", *words)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert "not the photos that the run was trained on" in found["notes"][0]
    assert found["penalty"]["most"] == pytest.approx(0, abs=1e-5)
    assert found["penalty"]["least"] == pytest.approx(0, abs=1e-5)


def test_latents_that_shrink_and_a_hyperprior_that_is_left_out(tmp_path, photo_folder):
    space = nas.SearchSpace.from_dict(SLIM, name="slim")
    run = make_run(space, photo_folder, tmp_path / "run")
    found = nas.load_run(run, device="cpu").rank_check(photo_folder, count=4, steps=1)
    assert found.finished
    assert found.to_dataframe()["arch"].tolist() == [row.arch for row in found.rows]
    assert repr(found).startswith("RankResult(4 architectures, ")
    assert len({row.arch for row in found.rows}) == 4
    assert any("hyperprior=0" in row.arch for row in found.rows)
    assert any("hyperprior=1" in row.arch for row in found.rows)


# Wrong input


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("{none} --data {photos}", ["not a run"]),
        ("{photos} --data {photos}", ["not a run"]),
        ("{run} --data {none}", ["not a folder"]),
        ("{run} --data {two}", ["2 photos", "three"]),
        ("{run} --data {leak}", ["scored on", "leak"]),
        ("{run} --data {photos} --count 2", ["2 architectures", "3 to 144"]),
        ("{run} --data {photos} --count 145", ["145", "3 to 144"]),
        ("{run} --data {photos} --start narrow", ["narrow", "scratch or supernet"]),
        ("{run} --data {photos} --steps 0", ["steps"]),
        ("{run} --data {photos} --set stepps=2", ["stepps", "steps"]),
        ("{run} --data {photos} --set lmbda=0.1", ["lmbda", "as the run"]),
        ("{run} --data {photos} --set strategy=fair", ["strategy", "alone"]),
        ("{run} --data {photos} --device tpu", ["tpu"]),
    ],
)
def test_wrong_input_gets_one_sentence_and_changes_nothing(
    trained, photo_folder, chelsea, tmp_path, words, expected
):
    (tmp_path / "two").mkdir()
    for number in range(2):
        Image.fromarray(chelsea[number : number + 64, :64]).save(tmp_path / "two" / f"{number}.png")
    shutil.copytree(tmp_path / "two", tmp_path / "leak")
    (scored,) = photos_of(Run.open(trained), "calibration")
    for number in range(40):  # under the first name that is for training
        copy = tmp_path / "leak" / f"copy-{number}.png"
        Image.fromarray(scored.pixels).save(copy)
        if copy in split_folder(tmp_path / "leak")["train"]:
            break
        copy.unlink()
    places = {name: tmp_path / name for name in ("none", "two", "leak")} | {
        "run": trained,
        "photos": photo_folder,
    }
    before = bytes_in(trained), bytes_in(tmp_path)
    done = run_nas("rank-check", *words.format(**places).split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    for word in expected:
        assert word in done.stderr
    assert (bytes_in(trained), bytes_in(tmp_path)) == before


@pytest.mark.parametrize("start", ["scratch", "supernet"])
def test_a_run_that_trained_its_front_or_a_part_is_checked_like_others(
    copy, small_space, photo_folder, start
):
    content = yaml.safe_load((copy / "config.yaml").read_text())
    of_run = {"strategy": "front", "members": [small_space.widest().key], "one_encoder": True}
    content["training"] |= {**of_run, "only": "entropy", "frozen": ["h_s"]}
    (copy / "config.yaml").write_text(yaml.safe_dump(content))
    searcher = nas.load_run(copy, device="cpu").searcher
    training = rank._Check(searcher, rank.RankRequest(str(photo_folder), COUNT, start=start)).training
    assert (training.strategy, training.members, training.one_encoder) == ("uniform", [], False)
    kept = (training.only, training.frozen)
    assert kept == ((None, []) if start == "scratch" else ("entropy", ["h_s"]))


def test_a_run_without_weights_and_one_of_too_few_architectures(copy, small_space, photo_folder, tmp_path):
    alone = make_run(small_space.only(small_space.widest()), photo_folder, tmp_path / "alone" / "run")
    with pytest.raises(InputError, match="holds 1 architecture: ranking needs at least 3"):
        nas.load_run(alone, device="cpu").rank_check(photo_folder)
    (copy / "supernet.safetensors").unlink()
    assert check(copy, photo_folder).exit_code == 2
