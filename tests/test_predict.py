"""Time and memory of every architecture: what is measured covers a space, and what is summed up is exact."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SEEDS
from families import INTEGER_NAMES, SPACES, table_of
from hypothesis import given, settings

from nas.profiling.accuracy import accuracies
from nas.profiling.live import LiveTensors, held_bytes
from nas.profiling.measure import memory_corners
from nas.profiling.measurements import Measurements, Timed
from nas.profiling.pieces import (
    choices,
    choices_at,
    coding,
    cover,
    edge_pieces,
    interpolated,
    without_idle_choices,
)
from nas.profiling.predict import PARTS_OF_ACTION, Predictor
from nas.spaces.architecture import Architecture
from nas.spaces.description import HYPER_EDGES, HYPERPRIOR, placements
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError

SHIPPED = resources.shipped("search_spaces")
FACTS = {"width": 64, "height": 64, "device": "cpu", "machine": "A Machine", "threads": 1}
every_space = pytest.mark.parametrize("name", INTEGER_NAMES)


# What is measured


def check_cover(space: SearchSpace, found: list[Architecture]) -> None:
    """Every choice of every piece, and every knot of the coding, is somewhere in it."""
    ways = [(piece.axes, [range(space.shape[axis]) for axis in piece.axes]) for piece in edge_pieces(space)]
    part, largest = coding(space), 0
    for axes, allowed in [*ways, (part.axes, part.knots)]:
        wanted = {without_idle_choices(space, axes, choice) for choice in itertools.product(*allowed)}
        assert wanted <= {choices_at(space, axes, architecture) for architecture in found}
        largest = max(largest, len(wanted))
    assert len(set(found)) == len(found)
    assert largest <= len(found) <= 1.2 * largest + 4


@pytest.mark.parametrize("name", SHIPPED)
def test_a_cover_has_every_choice_of_every_piece(name: str) -> None:
    space = SearchSpace.load(name)
    found = cover(space)
    check_cover(space, found)
    assert found == cover(space)


@every_space
@given(seed=SEEDS)
@settings(max_examples=5)
def test_a_cover_goes_on_from_what_is_known(name: str, seed: int) -> None:
    space, rng = SPACES[name], random.Random(seed)
    check_cover(space, cover(space, seed=seed))
    known = list(dict.fromkeys(space.sample(rng) for _ in range(rng.randrange(4))))
    found = cover(space, known, seed)
    check_cover(space, [*dict.fromkeys([*found, *known])])
    assert set(found[: len(known)]) <= {*known, *found}
    assert cover(space, found) == found


@pytest.mark.parametrize("name", SHIPPED)
def test_pieces_are_all_layers_once(name: str) -> None:
    space = SearchSpace.load(name)
    for edge, description in space.family.edges.items():
        own = [where for piece in edge_pieces(space) if piece.edge == edge for where in piece.layers]
        for placed in placements(description):
            assert sum(f"{placed.place}.".startswith(f"{where}.") for where in own) == 1
    assert len({piece.name for piece in edge_pieces(space)}) == len(edge_pieces(space))


@every_space
@given(seed=SEEDS)
@settings(max_examples=5)
def test_interpolation_is_exact_at_knots_and_where_the_truth_is_linear_in_each(name: str, seed: int) -> None:
    space, rng = SPACES[name], np.random.default_rng(seed)
    part = coding(space)
    noise = rng.random([len(knots) for knots in part.knots])
    table = interpolated(space, part, noise)
    assert table.shape == tuple(space.shape[axis] for axis in part.axes)
    assert table[np.ix_(*part.knots)] == pytest.approx(noise)
    truth = multilinear(space, rng)
    assert interpolated(space, part, truth[np.ix_(*part.knots)]) == pytest.approx(truth)


def multilinear(space: SearchSpace, rng: np.random.Generator) -> np.ndarray:
    """A table over the coding's slots that is linear in each one's candidates, and of any layout."""
    *slots, layout = coding(space).axes
    table = np.ones(())
    for axis in slots:
        slope, start = rng.random(2)
        table = np.multiply.outer(table, start + slope * np.array(space.slots[axis].candidates))
    return np.multiply.outer(table, 1 + rng.random(space.shape[layout]))


# Bytes


def test_the_peak_is_that_of_the_tensors_alive_at_once() -> None:
    live = LiveTensors()
    with live:
        a = torch.empty(1000, dtype=torch.uint8)
        b = torch.empty(500, dtype=torch.float32)  # 3000 at once
        view = b[:10]  # no bytes of its own
        del a
        assert live.restart() == 3000
        c = b + 1  # 4000 beside the 1000 that are gone
        del b
        assert view.untyped_storage().nbytes() == 2000  # still holds b's
        d = torch.empty(300, dtype=torch.uint8)
        assert live.restart() == 4300
        del view, c
        e = torch.empty(100, dtype=torch.uint8)
        e.add_(1)  # in place
        assert live.restart() == 4300
        assert live.restart() == 400
    assert d.numel() + e.numel() == 400


def test_held_bytes_count_every_storage_once() -> None:
    layer = torch.nn.Linear(10, 20)
    assert held_bytes([layer, {"again": layer.weight}, (layer.weight[:3],)]) == 4 * 220
    layer.copy = layer.weight.detach().double()  # no parameter, as a codec's copies for coding are
    assert held_bytes(layer) == 4 * 220 + 8 * 200


# Predictions


class Truth:
    """Costs that add up by pieces: seconds, live bytes, weights and a process, of any architecture."""

    fixed, per_weight, per_live = 31e6, 1.25, 1.5

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.space = name, SPACES[name]
        rng = np.random.default_rng(seed)
        part = coding(self.space)
        self.tables: list[tuple[str, tuple[int, ...], bool, np.ndarray, np.ndarray]] = []
        for action, parts in PARTS_OF_ACTION.items():
            for piece in edge_pieces(self.space):
                if piece.edge in parts:
                    shape = [self.space.shape[axis] for axis in piece.axes]
                    seconds, live = rng.random(shape), rng.integers(10**5, 10**7, shape)
                    hyper = piece.edge in HYPER_EDGES
                    self.tables.append((f"{action} {piece.name}", piece.axes, hyper, seconds, live))
            for what in ("context", "coder"):
                seconds, live = (multilinear(self.space, rng) for _ in range(2))
                self.tables.append((f"{action} {what}", part.axes, False, seconds, 1e5 * live))
        self.more = 1e6 * multilinear(self.space, rng)

    def parts(self, architecture: Architecture) -> Iterator[tuple[str, float, float]]:
        indexes, switch = self.space.indexes(architecture), self.space.setter(HYPERPRIOR)
        off = switch is not None and indexes[switch] == 0
        for name, axes, hyper, seconds, live in self.tables:
            if not (off and hyper):
                place = tuple(indexes[axis] for axis in axes)
                yield name, float(seconds[place]), float(live[place])

    def weights(self, architecture: Architecture) -> float:
        indexes = self.space.indexes(architecture)
        own = sum(
            (12 if layer.edge == "h_s" else 4)
            * int(layer.params[tuple(indexes[axis] for axis in layer.axes)])
            for layer in table_of(self.name).layers
            if layer.edge in self.space.family.edges
        )
        return own + float(self.more[tuple(indexes[axis] for axis in coding(self.space).axes)])

    def seconds(self, architecture: Architecture, action: str) -> float:
        return sum(found for name, found, _ in self.parts(architecture) if name.startswith(action))

    def process(self, architecture: Architecture, action: str) -> float:
        live = max(found for name, _, found in self.parts(architecture) if name.startswith(action))
        return self.fixed + self.per_weight * self.weights(architecture) + self.per_live * live

    def timed(self, architecture: Architecture, *, process: bool, noise: float = 0.0) -> Timed:
        """Three rounds whose median is the truth."""
        rounds = [
            {name: seconds * factor for name, seconds, _ in self.parts(architecture)}
            for factor in (1.0, 1 + noise, 1 - noise / 2)
        ]
        peaks = {name: live for name, _, live in self.parts(architecture)}
        peaks["weights"] = self.weights(architecture)
        taken = {action: self.process(architecture, action) for action in PARTS_OF_ACTION} if process else {}
        return Timed(rounds, peaks, taken)  # type: ignore[arg-type]

    def measured(self, path: Path = Path("none"), checked: int = 0) -> Measurements:
        wanted, corners = cover(self.space), memory_corners(self.space)
        found = Measurements(path, dict(FACTS))
        for architecture in dict.fromkeys([*wanted, *corners]):
            found.codecs[architecture.key] = self.timed(
                architecture, process=architecture in corners, noise=0.3
            )
        rng = random.Random(1)
        for _ in range(20 * checked):
            architecture = self.space.sample(rng)
            if architecture.key not in found.codecs and len(found.checked) < checked:
                found.codecs[architecture.key] = self.timed(architecture, process=True, noise=0.1)
                found.checked.append(architecture.key)
        return found


@every_space
@given(seed=SEEDS)
@settings(max_examples=2)
def test_what_adds_up_by_pieces_is_predicted_exactly(name: str, seed: int) -> None:
    truth, rng = Truth(name, seed), random.Random(seed)
    predictor = Predictor(table_of(name), truth.measured())
    for architecture in {truth.space.sample(rng) for _ in range(30)}:
        for action in PARTS_OF_ACTION:
            seconds = truth.seconds(architecture, action)
            assert predictor.time(action).value(architecture) == pytest.approx(1000 * seconds, abs=1e-4)
            parts = predictor.milliseconds(architecture, action)
            assert sum(parts.values()) == pytest.approx(1000 * seconds)
            assert set(parts) <= set(PARTS_OF_ACTION[action])


@every_space
@given(seed=SEEDS)
@settings(max_examples=2)
def test_memory_is_the_process_the_weights_and_the_largest_parts_tensors(name: str, seed: int) -> None:
    truth, rng = Truth(name, seed), random.Random(seed)
    predictor = Predictor(table_of(name), truth.measured())
    for action in PARTS_OF_ACTION:
        fitted = predictor.fitted_on
        rows = np.array([[truth.fixed, *predictor.tensors(one, action)] for one in fitted])
        unlike = np.linalg.matrix_rank(rows / rows.max(axis=0), tol=0.02) == 3  # enough to tell three apart
        more = [truth.space.sample(rng) for _ in range(30)] if unlike else []
        for architecture in {*fitted, *more}:
            megabytes = truth.process(architecture, action) / 1e6
            assert predictor.memory(action).value(architecture) == pytest.approx(megabytes, rel=1e-3)
            weights = truth.weights(architecture)
            assert predictor.tensors(architecture, action)[0] == pytest.approx(weights, rel=1e-9)
            held = predictor.megabytes(architecture, action)
            assert sum(held.values()) == pytest.approx(megabytes, rel=1e-3)
            if unlike:
                assert held["process"] == pytest.approx(truth.fixed / 1e6, rel=2e-2)
                assert held["weights"] == pytest.approx(truth.per_weight * weights / 1e6, rel=2e-2)


def test_a_quantity_says_where_it_holds() -> None:
    predictor = Predictor(table_of("joint-ar-integer"), Truth("joint-ar-integer", 0).measured())
    assert predictor.time("decode").title == "decode at 64x64 on cpu"
    assert predictor.time("decode") is predictor.time("decode")
    assert {predictor.time(a).identity for a in PARTS_OF_ACTION} == {
        f"{a}-ms-64x64-cpu" for a in PARTS_OF_ACTION
    }


@every_space
def test_what_is_missing_is_told(name: str) -> None:
    truth = Truth(name, 3)
    whole = truth.measured()
    wanted = cover(truth.space)
    part = next(piece for piece in edge_pieces(truth.space) if piece.edge == "g_s")
    mine = choices_at(truth.space, part.axes, wanted[0])
    for key in [
        key for key in whole.codecs if choices_at(truth.space, part.axes, truth.space.parse(key)) == mine
    ]:
        whole.codecs[key].rounds.clear()
    with pytest.raises(InputError, match=r"^Not all of .* is measured at 64x64 on cpu .* run `nas profile`"):
        Predictor(table_of(name), whole)
    with pytest.raises(InputError, match="Not all of"):
        Predictor(table_of(name), Measurements(Path("none"), dict(FACTS)))


def test_what_is_only_compared_predicts_nothing() -> None:
    truth = Truth("joint-ar-integer", 4)
    found = truth.measured(checked=6)
    for key in found.checked:
        found.codecs[key].rounds = [dict.fromkeys(found.codecs[key].rounds[0], 9000000000.0)]
    predictor = Predictor(table_of(truth.name), found)
    architecture = truth.space.widest()
    seconds = truth.seconds(architecture, "decode")
    assert predictor.time("decode").value(architecture) == pytest.approx(1000 * seconds, abs=1e-4)


def test_without_processes_there_is_no_memory() -> None:
    truth = Truth("joint-ar-integer", 5)
    found = truth.measured()
    for timed in found.codecs.values():
        timed.process.clear()
    predictor = Predictor(table_of(truth.name), found)
    assert predictor.time("encode").value(truth.space.widest()) > 0
    assert predictor.fitted_on == []
    with pytest.raises(InputError, match=r"Memory was not measured at 64x64 on cpu.*--device cpu"):
        predictor.memory("encode")


def test_accuracies_of_what_is_known() -> None:
    truth = Truth("residual-integer", 6)
    found = truth.measured(checked=7)
    exact = accuracies(Predictor(table_of(truth.name), found))
    assert [one.what for one in exact] == ["encode, s", "decode, s", "encode, MB", "decode, MB"]
    for one in exact:
        assert one.count == 7
        assert one.rank_correlation == pytest.approx(1)
        assert one.worst_error < 1e-5
        assert len(one.row()) == len(one.columns)
    assert exact[0].spread == pytest.approx((0.1 + 0.05) / 3)
    assert exact[2].spread is None
    for key, factor in zip(found.checked, (1, 1, 1, 1, 1, 1, 0.5), strict=True):  # one took half the time
        for parts in found.codecs[key].rounds:
            parts.update({part: factor * seconds for part, seconds in parts.items()})
    wrong = accuracies(Predictor(table_of(truth.name), found))[0]
    assert wrong.worst_error == pytest.approx(1)
    assert wrong.mean_error == pytest.approx(1 / 7)
    del found.checked[2:]
    assert accuracies(Predictor(table_of(truth.name), found)) == []  # too few to say


# The file


def test_measurements_survive_their_file(tmp_path: Path) -> None:
    truth = Truth("joint-ar-integer", 7)
    found = truth.measured(tmp_path / "cpu-64x64" / "measured.yaml", checked=2)
    for timed in found.codecs.values():  # as they are kept
        timed.peaks = {part: int(live) for part, live in timed.peaks.items()}
    found.add("more", {"encode g_a": 0.1, "decode g_s": 0.25})
    found.keep()
    again = Measurements.read(found.path)
    assert (again.facts, again.codecs, again.checked) == (found.facts, found.codecs, found.checked)
    assert (again.of("more").median("encode"), again.of("more").median("decode")) == (0.1, 0.25)
    architecture = truth.space.widest()
    assert again.of(architecture.key).median("decode") == pytest.approx(truth.seconds(architecture, "decode"))
    assert list(found.path.parent.iterdir()) == [found.path]


def test_other_work_while_it_was_measured_is_remembered(tmp_path: Path) -> None:
    truth = Truth("joint-ar-integer", 1)
    kept = truth.measured(tmp_path / "cpu-64x64" / "measured.yaml")
    kept.disturbance = 0.61
    kept.keep()
    again = Measurements.read(kept.path)
    assert again.disturbance == 0.61
    kept.path.write_text(kept.path.read_text().replace("disturbance: 0.61\n", ""))  # as it was written once
    assert Measurements.read(kept.path).disturbance == 0


@pytest.mark.parametrize("spoil", ["soon", "null", "[1]", ".nan", "{}"])
def test_what_is_no_number_is_damage(tmp_path: Path, spoil: str) -> None:
    kept = Truth("joint-ar-integer", 1).measured(tmp_path / "measured.yaml")
    kept.keep()
    text, found = kept.path.read_text(), 0
    for pattern in (
        r"decode g_s: ([0-9.e-]+)",
        r"weights: ([0-9]+)",
        r"disturbance: ([0-9.]+)",
        r"width: ([0-9]+)",
    ):
        where = re.search(pattern, text)
        if where is not None:
            found += 1
            kept.path.write_text(text[: where.start(1)] + spoil + text[where.end(1) :])
            with pytest.raises(InputError, match="is damaged"):
                Measurements.read(kept.path)
    assert found >= 3


@pytest.mark.parametrize(
    "spoil",
    [
        *("", "[", "- 3\n", "format: nas-profile 1\n", "format: nas-profile 2\n", "3\n"),
        "format: nas-profile 2\nfacts: {}\nchecked: []\ncodecs: {a: {laps: []}}\n",
        "format: nas-profile 2\nfacts: {}\nchecked: []\ncodecs: {a: 3}\n",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, spoil: Any) -> None:
    (tmp_path / "measured.yaml").write_text(spoil)
    with pytest.raises(
        InputError,
        match=r"measured\.yaml (is damaged|has .*): measure again with `nas profile .* --force`\.$",
    ):
        Measurements.read(tmp_path / "measured.yaml")


def test_choices_differ_from_each_other() -> None:
    for space in SPACES.values():
        for piece in edge_pieces(space):
            found = list(choices(space, piece.axes, [range(space.shape[axis]) for axis in piece.axes]))
            assert len(set(found)) == len(found)
            assert all(without_idle_choices(space, piece.axes, choice) == choice for choice in found)
