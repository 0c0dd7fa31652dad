"""Seconds, memory, parameters and MACs of codecs and runs."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL
from families import SPACES, net_of
from small_run import QUICK
from typer.testing import CliRunner

import nas
import nas.profiling.measure as measuring
from nas.cli import app
from nas.codec.bitstream import compress_image
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.codec.quantize import quantized
from nas.cost.counting.cache import load_or_measure_costs
from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.reach import most_kmac_px
from nas.graph.layers.subpixel import SubPixel
from nas.graph.network import Supernet
from nas.photos.images import read_image, write_image
from nas.profiling import memory, profile, timing
from nas.profiling.measure import Request, measure, path_of
from nas.profiling.measurements import Measurements
from nas.profiling.memory import PeakMemory, measure_here, peak_memory, sample_photo
from nas.profiling.pieces import edge_pieces
from nas.profiling.predict import Predictor
from nas.profiling.profile import parse_size, profile_codec
from nas.profiling.quantities import no_such_device
from nas.profiling.run_profile import known_architectures, profile_run
from nas.profiling.run_profile import relation as relation_of
from nas.profiling.timing import measure_latency
from nas.report.profile import save_profile
from nas.run import Run
from nas.searching.searcher import Searcher
from nas.shipped import zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.budget import REFERENCE_SIZE, Amount, Budget, Limit, Span
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, InputWarning, UnreachableBudgetError
from nas.training.settings import TrainingSettings
from nas.training.start import TrainingRequest, start_training
from nas.verbs.info import describe
from nas.verbs.search import run_on_photos
from nas.weights.checkpoint import supernet_of

SIZE = (100, 70)


@pytest.fixture(scope="module")
def codec(supernet: Supernet) -> Codec:
    architecture = supernet.space.uniform(0.5, "checkerboard")
    return Codec(supernet.extract(architecture), architecture)


@pytest.fixture(scope="module")
def folder(codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profiled") / "codec"
    save_codec(codec, path, {"lmbda": 0.01, "metric": "mse"})
    return path


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """The machine is taken to be quiet, whatever else it runs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (measuring, profile):
            patch.setattr(module, "disturbance", lambda: 0.0)
        yield


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory without the seconds it takes to start Python and torch."""
    found = {"encode": PeakMemory(2**20, 3 * 2**20), "decode": PeakMemory(2**20, 2 * 2**20)}
    monkeypatch.setattr(profile, "peak_memory", lambda *_: found)


def test_parts_add_up_to_the_whole(codec: Codec) -> None:
    pixels = sample_photo(*SIZE)
    (once,) = measure_latency([codec], pixels, repeats=1)
    assert list(once.encode) == ["whole", "g_a", "h_a", "h_s", "context", "coder"]
    assert list(once.decode) == ["whole", "h_s", "context", "coder", "g_s"]
    for parts in (once.encode, once.decode):
        whole, *others = (spread.median for spread in parts.values())
        assert sum(others) == pytest.approx(whole, rel=1e-9)
        assert min(others) > 0


def test_several_are_timed_in_turns(codec: Codec) -> None:
    steps: list[int] = []
    found = measure_latency(
        [codec, codec], sample_photo(*SIZE), repeats=3, report=lambda done, *_: steps.append(done)
    )
    assert len(found) == 2
    assert steps == [0, 1, 2, 3, 4]
    for spread in (*found[0].encode.values(), *found[1].decode.values()):
        assert 0 < spread.least <= spread.median <= spread.most


def test_timing_changes_nothing(codec: Codec) -> None:
    pixels = sample_photo(*SIZE)
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    data = compress_image(codec, pixels).to_bytes()
    measure_latency([codec], pixels, repeats=1)
    after = codec.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in (*codec.modules(), codec.coding_h_s))
    assert compress_image(codec, pixels).to_bytes() == data


def test_a_timed_codec_makes_the_same_file(codec: Codec) -> None:
    pixels, clock = sample_photo(*SIZE), timing.Stopwatch(torch.device("cpu"))
    with timing._timed(codec, clock) as timed:
        assert compress_image(timed, pixels) == compress_image(codec, pixels)


@pytest.mark.usefixtures("no_processes")
def test_a_codec(codec: Codec, folder: Path) -> None:
    found = profile_codec(folder, size=SIZE, repeats=2)
    costs = measured_costs(codec.network.space)
    assert found.params == costs.params(codec.architecture)
    assert found.kmac_px == pytest.approx(costs.scopes(codec.architecture), rel=1e-12)
    assert found.kmac_px_by_edge == pytest.approx(costs.by_edge(codec.architecture), rel=1e-12)
    assert found.stages == 2
    assert all(len(row) == len(found.columns) for row in found.rows())
    assert found.to_dataframe().values.tolist() == found.rows()
    assert repr(found).startswith(f"CodecProfile({folder.name!r}: encoder ")
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    seconds = content["latency"]["decode"]["whole"]["median"]
    assert seconds > 0
    (row,) = (row for row in found.rows() if row[:2] == ["decode, ms", "whole"])
    assert float(row[2]) == pytest.approx(1000 * seconds, abs=0.01)


@pytest.mark.slow
def test_memory_is_of_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    ballast = np.ones(2**27, dtype=np.uint8)  # what this process holds must not count: 128 MiB more
    write_image(tmp_path / "photo.png", sample_photo(256, 192))
    peak = memory._in_process(folder, "encode", tmp_path / "photo.png", tmp_path / "photo.nic")
    assert len(ballast) == 2**27
    assert 0 < peak.before <= peak.after < memory.peak_bytes()


@pytest.mark.slow
def test_memory_of_both_sides(folder: Path) -> None:
    found = peak_memory(folder, 256, 192)
    assert set(found) == {"encode", "decode"}
    assert all(0 < peak.before <= peak.after for peak in found.values())


def test_what_the_process_does(folder: Path, codec: Codec, tmp_path: Path) -> None:
    photo, file, decoded = (tmp_path / name for name in ("in.png", "a.nic", "out.png"))
    write_image(photo, sample_photo(*SIZE))
    assert json.loads(memory.main([str(folder), "encode", str(photo), str(file)]))["after"] > 0
    assert file.read_bytes() == compress_image(codec, sample_photo(*SIZE)).to_bytes()
    measure_here(folder, "decode", file, decoded)
    assert read_image(decoded).shape == (70, 100, 3)
    with pytest.raises(InputError, match="no action"):
        measure_here(folder, "guess", file, decoded)
    with pytest.raises(InputError, match="Give FOLDER"):
        memory.main(["one"])


def test_the_sample_photo_fills_any_size() -> None:
    small, large = sample_photo(64, 40), sample_photo(1200, 1100)
    assert small.shape == (40, 64, 3)
    assert large.shape == (1100, 1200, 3)
    assert np.array_equal(large[:40, :64], small)
    assert np.array_equal(large[512 : 512 + 100], large[510:410:-1])  # mirrored at the photo's end
    with pytest.raises(InputError, match="0x5"):
        sample_photo(0, 5)


def test_sizes_as_people_write_them() -> None:
    assert parse_size("768x512") == (768, 512)
    for wrong in ("768", "0x5", "axb", "5x-1"):
        with pytest.raises(InputError, match=r"WIDTHxHEIGHT|at least 1 pixel"):
            parse_size(wrong)


# Runs

HERE = (64, 64)
MEASURED = Request(size=HERE, repeats=1, check=3)


def measured_by_size(folder: Path, *_: int) -> dict[str, PeakMemory]:
    """Memory of a codec without the seconds it takes to start Python and torch."""
    size = (folder / "codec.safetensors").stat().st_size
    return {"encode": PeakMemory(2**20, 2**25 + 5 * size), "decode": PeakMemory(2**20, 2**25 + 3 * size)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    """A run of the smallest space, trained for a few steps; tests work on copies."""
    place = tmp_path_factory.mktemp("profile")
    (place / "small.yaml").write_text(yaml.safe_dump(SMALL))
    settings = {"steps": 3, "crop": 64, "batch": 2, "architectures": 2}
    request = TrainingRequest(str(place / "small.yaml"), str(photo_folder), place / "run", settings=settings)
    return start_training(replace(request, device="cpu")).path


@pytest.fixture(scope="module")
def codec_of() -> Callable[[Supernet, Architecture], Codec]:
    """`measure.codec_of` for the copies of one run, whose weights are the same: each codec is made once."""
    made: dict[Architecture, Codec] = {}
    make = measuring.codec_of

    def kept(supernet: Supernet, architecture: Architecture) -> Codec:
        if architecture not in made:
            made[architecture] = make(supernet, architecture)
        return made[architecture]

    return kept


@pytest.fixture
def run(
    trained: Path, codec_of: Callable[..., Codec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """A copy that is not measured yet."""
    monkeypatch.setattr("nas.profiling.measure.peak_memory", measured_by_size)
    monkeypatch.setattr("nas.profiling.measure.codec_of", codec_of)
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def known(trained: Path, codec_of: Callable[..., Codec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, measured with three architectures to check."""
    place = Path(shutil.copytree(trained, tmp_path_factory.mktemp("known") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.profiling.measure.codec_of", codec_of)
        patch.setattr("nas.profiling.measure.peak_memory", measured_by_size)
        measure(Run.open(place), MEASURED)
    return place


@pytest.fixture
def profiled(run: Run, known: Path) -> Run:
    """A copy that is measured."""
    shutil.copytree(known / "profile", run.path / "profile")
    return run


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often something is measured from here on."""
    counts = {"time_once": 0, "peaks_once": 0, "peak_memory": 0}

    def counting(name: str, measured: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            counts[name] += 1
            return measured(*arguments)

        return count

    for name in counts:
        monkeypatch.setattr(measuring, name, counting(name, getattr(measuring, name)))
    return counts


def rounds_in(measured: Measurements) -> int:
    return sum(len(timed.rounds) for timed in measured.codecs.values())


def nas_said(*words: object) -> tuple[int, str, str]:
    """A command in this process: its status, what it prints, what it says."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_run_is_profiled_by_edge(profiled: Run, counted: dict[str, int]) -> None:
    found = profile_run(profiled, MEASURED)
    assert found.to_dataframe().values.tolist() == found.rows()
    assert repr(found).startswith(f"RunProfile({profiled.space.name} at 64x64 on ")
    space, costs = profiled.space, load_or_measure_costs(profiled.space, profiled.costs_path)
    assert not any(counted.values())
    assert found.possible.size == space.size
    narrow, middle, wide = found.shapes
    assert (narrow.arch, wide.arch) == (space.narrowest().key, space.widest().key)
    for scope, span in found.possible.scopes.items():
        assert span.least == pytest.approx(narrow.kmac_px[scope])
        assert span.least < middle.kmac_px[scope] < span.most
        assert wide.kmac_px[scope] == pytest.approx(span.most) == most_kmac_px(costs)[scope]
    predictor = Predictor(costs, Measurements.read(path_of(profiled, "cpu", HERE)))
    for shape in found.shapes:
        architecture = space.parse(shape.arch)
        assert sum(shape.params_by_edge.values()) == shape.params == costs.params(architecture)
        for action in ("encode", "decode"):
            time, memory = predictor.time(action), predictor.memory(action)
            assert sum(shape.ms[action].values()) == pytest.approx(time.value(architecture), abs=1e-4)
            assert sum(shape.mb[action].values()) == pytest.approx(memory.value(architecture), abs=1e-4)
            assert list(shape.ms[action])[:1] == ["g_a" if action == "encode" else "h_s"]
    assert all(len(row) == len(found.columns) for row in found.rows())
    assert all(len(row) == len(found.possible.columns) for row in found.possible.rows())
    assert [one.count for one in found.accuracies] == [3, 3, 3, 3]
    for relation in found.relations:
        assert 0 < relation.least <= relation.most
        assert relation.alike >= 1
        assert -1 <= relation.rank_correlation <= 1
        assert relation.of == "sample"
        assert relation.action in relation.sentence()
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["patch-integer", "residual-integer"])
@pytest.mark.parametrize("level", [0, 1])
def test_every_layer_is_charged_to_its_piece(name: str, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that goes on by one with every module that runs; what is left out has no time."""
    space, now = SPACES[name], [0]
    codec = Codec(net_of(name).extract(space.uniform(level)), space.uniform(level))
    pieces = [piece for piece in edge_pieces(space, most=4) if piece.edge in ("g_a", "g_s")]
    assert len(pieces) > 4
    expected: dict[str, int] = {}

    def tick(*_: Any) -> None:
        now[0] += 1

    for edge in ("g_a", "g_s"):
        modules = dict(codec.network.get_submodule(edge).named_modules())
        whole = [place for place, module in modules.items() if isinstance(module, SubPixel)]
        for place, module in modules.items():
            inside = place.rpartition(".")[0] in whole  # its kernel is used, but it is not called
            if place in whole or not (inside or list(module.children())):
                module.register_forward_hook(tick)
                (mine,) = [
                    piece.name
                    for piece in pieces
                    if piece.edge == edge and any(f"{place}.".startswith(f"{at}.") for at in piece.layers)
                ]
                expected[mine] = expected.get(mine, 0) + 1
    monkeypatch.setattr(timing.Stopwatch, "_now", lambda _: now[0])
    encode, decode = timing.time_once(codec, picture_of_noise(64, 64), pieces)
    found = {part: ticks for part, ticks in (encode | decode).items() if ticks}
    assert found == expected
    assert (len(expected) < len(pieces)) == (name == "patch-integer" and level == 0)


def picture_of_noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_profile_is_drawn(profiled: Run, tmp_path: Path) -> None:
    png, svg = save_profile(profile_run(profiled, MEASURED), tmp_path / "figures")
    assert png.read_bytes()[:4] == b"\x89PNG"
    words = svg.read_text()
    assert words.startswith("<?xml")
    for word in ("kMAC/px", "decode, ms", "encode, MB", "parameters", "narrowest", "g_a", "stages", "64x64"):
        assert word in words


def test_nothing_is_measured_twice(profiled: Run, counted: dict[str, int]) -> None:
    path = path_of(profiled, "cpu", HERE)
    before = path.read_text()
    steps: list[tuple[int, int]] = []
    measure(profiled, MEASURED, report=lambda done, total, _: steps.append((done, total)))
    assert counted == {"time_once": 0, "peaks_once": 0, "peak_memory": 0}
    assert path.read_text() == before
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]
    was = rounds_in(Measurements.read(path))
    found = measure(profiled, replace(MEASURED, repeats=2))  # one round more
    again = measuring.REFERENCES
    assert counted == {"time_once": rounds_in(found) - was + again, "peaks_once": 0, "peak_memory": 0}
    assert {len(timed.rounds) for timed in found.codecs.values()} <= {1, 2}
    assert all(len(found.of(key).rounds) == 2 for key in found.checked)
    counted.update(dict.fromkeys(counted, 0))
    anew = measure(profiled, replace(MEASURED, force=True))
    assert counted["time_once"] == counted["peaks_once"] == rounds_in(anew) == len(anew.codecs)
    assert counted["peak_memory"] == sum(bool(timed.process) for timed in anew.codecs.values()) > 0


@pytest.mark.slow
def test_an_interrupted_profile_goes_on(
    run: Run, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    once, left = measuring.time_once, [3]

    def interrupted(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return once(*arguments)

    words = ("profile", run.path, "--size", "64x64", "--repeats", 1, "--device", "cpu")
    monkeypatch.setattr(measuring, "time_once", interrupted)
    status, _, said = nas_said(*words)
    assert status == 130
    assert "what was measured is kept" in said
    kept = Measurements.read(path_of(run, "cpu", HERE))
    assert rounds_in(kept) == 3
    with pytest.raises(InputError, match="Not all of small is measured"):
        Predictor(load_or_measure_costs(run.space, run.costs_path), kept)
    monkeypatch.setattr(measuring, "time_once", once)
    warmed = counted["peaks_once"]
    status, out, _ = nas_said(*words, "--json")
    assert status == 0
    content = json.loads(out)
    assert all(Path(file).is_file() for file in content["files"])
    assert counted["peaks_once"] == warmed == len(kept.codecs)
    again = rounds_in(kept)
    assert counted["time_once"] == rounds_in(Measurements.read(kept.path)) + again > 6


@pytest.mark.parametrize("slower", [0.5, 1, 3])
def test_what_is_measured_later_is_told_in_the_seconds_of_before(
    profiled: Run, monkeypatch: pytest.MonkeyPatch, slower: float
) -> None:
    speed = [1.0]

    def of_one_speed(*_: Any) -> Any:
        return {"g_a": 2.0 * speed[0], "coder": speed[0]}, {"g_s": 4.0 * speed[0]}

    monkeypatch.setattr(measuring, "time_once", of_one_speed)
    monkeypatch.setattr(measuring, "peaks_once", lambda *_: ({}, {}))
    monkeypatch.setattr(measuring, "_process", lambda *_: {})
    first = measure(profiled, replace(MEASURED, force=True, check=0))
    speed[0] = slower
    later = measure(profiled, replace(MEASURED, check=3, repeats=2))
    assert rounds_in(later) > rounds_in(first)
    expected = {"encode g_a": 2.0, "encode coder": 1.0, "decode g_s": 4.0}
    for timed in later.codecs.values():
        assert all(parts == pytest.approx(expected) for parts in timed.rounds)


def test_measuring_leaves_the_weights_as_they_are(known: Path, trained: Path) -> None:
    name = "supernet.safetensors"
    assert (known / name).read_bytes() == (trained / name).read_bytes()


def test_figures_of_another_machine_are_not_mixed(profiled: Run) -> None:
    path = path_of(profiled, "cpu", HERE)
    held = Measurements.read(path)
    held.facts["threads"] += 1
    held.keep()
    with pytest.raises(InputError, match=r"threads = .* measure again with `nas profile .* --force`"):
        profile_run(profiled, MEASURED)
    held.facts["threads"] -= 1
    held.facts["weights"] = "others"
    held.keep()
    with pytest.raises(InputError, match=r"with other weights: run `nas profile .* --force`"):
        Searcher(profiled, device="cpu").question(Budget.of("3 ms at 64x64"))
    held.facts["weights"] = profiled.fingerprint
    held.disturbance = 0.61
    held.keep()
    assert profile_run(profiled, MEASURED).disturbance == 0.61  # nothing was measured again
    with pytest.warns(InputWarning, match=r"61% slower .* run `nas profile .*--size 64x64 .*--force`"):
        Searcher(profiled, device="cpu").quantities.of("decode", "ms", HERE)
    assert profile_run(profiled, replace(MEASURED, force=True)).measured["weights"] == profiled.fingerprint


def test_a_run_on_other_photos_keeps_the_profile(profiled: Run, photo_folder: Path, tmp_path: Path) -> None:
    other = run_on_photos(profiled, photo_folder / "more", tmp_path / "own")
    there, here = (Searcher(found, device="cpu").quantities.predictor(HERE) for found in (other, profiled))
    architecture = profiled.space.uniform(0.5)
    assert there.time("decode").of(architecture) == here.time("decode").of(architecture)
    assert describe(str(other.path)).fields["profiles"] == ["cpu-64x64"]


def test_limits_in_ms_need_a_profile(run: Run) -> None:
    for words in (("--target", "3ms"), ("--target", "100 MB at 96x64", "--scope", "encoder")):
        status, out, said = nas_said("search", run.path, *words, "--device", "cpu")
        assert (status, out) == (2, "")
        size = " --size 96x64" if "96x64" in words[1] else ""
        command = f"`nas profile {run.path}{size}`"
        assert said == f"Error: Limits in ms and MB need this machine's figures: run {command} first.\n"


@pytest.mark.usefixtures("profiled")
def test_a_limit_at_a_size_without_a_profile_is_told_the_sizes_that_have_one(run: Run) -> None:
    status, _, said = nas_said("search", run.path, "--target", "3ms", "--device", "cpu")
    known = "figures at 768x512, and there are only some at 64x64: run `nas profile"
    assert (status, known in said) == (2, True), said


@pytest.mark.usefixtures("profiled")
def test_an_accepted_target_stays_so_when_new_layouts_are_timed_on_a_faster_machine(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = Searcher(run, device="cpu")
    time = searcher.quantities.of("decode", "ms", HERE)
    most = searcher.question(Budget("x")).feasible.most(time)
    assert most is not None
    measure = measuring.measure

    def faster(*given: Any, **more: Any) -> Measurements:
        kept = measure(*given, **more)
        for timed in kept.codecs.values():
            timed.rounds = [{part: seconds / 4 for part, seconds in parts.items()} for parts in timed.rounds]
        kept.keep()
        return kept

    monkeypatch.setattr(measuring, "measure", faster)
    target = Budget.of(f"{0.9 * most / time.per_unit:.4f}ms at 64x64", "decoder")
    result = searcher.search(target, trials=2, sources=QUICK)
    assert len(result.choices) == 1
    assert any("no architecture costs more than" in note for note in result.notes)
    with pytest.raises(UnreachableBudgetError, match="Every architecture costs less"):
        Searcher(run, device="cpu").search(target, trials=0)


@pytest.mark.usefixtures("profiled")
def test_a_search_for_milliseconds(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nas.searching.searcher.Sources", lambda: QUICK)
    searcher = Searcher(run, device="cpu")
    time = searcher.quantities.of("decode", "ms", HERE)
    least, _, most = (value / time.per_unit for value in searcher.question(Budget("x")).feasible.span(time))
    asked = 0.75 * most  # new layouts are timed later, when other work may make the machine slower
    target = f"{asked:.4f}ms at 64x64"
    words = ("search", run.path, "--scope", "decoder", "--device", "cpu")
    status, out, said = nas_said(*words, "--target", target, "--trials", 4, "--json")
    assert status == 0, said
    answer = json.loads(out)
    assert answer["scored"] >= 4
    (choice,) = answer["choices"]
    space = run.space
    assert [name for name in space.layouts if name.startswith("greedy")]  # found since, and measured
    predictor = Searcher(run, device="cpu").quantities.predictor(HERE)
    time = predictor.time("decode")
    assert (choice["unit"], choice["of"]) == ("ms", "decode at 64x64 on cpu")
    for found in (choice, choice["nearest"] or choice):
        assert found["cost"] == pytest.approx(time.value(space.parse(found["arch"])))
        assert found["cost"] <= asked * (1 + 1e-9)
    # with limits of every other kind beside it
    memory = predictor.memory("decode")
    low, _, high = FeasibleSet(space).span(memory)
    limits = [Limit.parse("stages <= 3"), Limit.parse(f"decode <= {(low + high) / 2e6:.4f} MB at 64x64")]
    limits.append(Limit.parse("encoder <= 95%"))
    budget = Budget("mine", "decoder", (Amount.parse(target),), limits=tuple(limits))
    result = nas.load_run(run.path, device="cpu").search(budget, trials=2, sources=QUICK)
    (limited,) = result.choices
    architecture = limited.architecture
    assert time.value(architecture) <= asked * (1 + 1e-9)
    assert memory.value(architecture) <= limits[1].most.value * (1 + 1e-9)
    assert space.layout(architecture).stages() <= 3
    assert limited.kmac_px["encoder"] <= 0.95 * most_kmac_px(searcher.costs)["encoder"] * (1 + 1e-9)
    # export takes the best at or under it
    status, _, said = nas_said(
        "export", run.path, "--target", target, "--out", tmp_path / "codec", "--device", "cpu"
    )
    assert status == 0, said
    exported = yaml.safe_load((tmp_path / "codec" / "codec.yaml").read_text())["arch"]
    assert time.value(space.parse(exported)) <= asked * (1 + 1e-9)
    # what cannot be is refused, with what can
    status, out, said = nas_said(*words, "--target", f"{least / 2:.6f}ms at 64x64")
    assert (status, out) == (2, "")
    told = re.search(r"decode at 64x64 on cpu\): the least is ([0-9.]+ ms), the most", said)
    assert told is not None
    least_now = FeasibleSet(space).least(time)
    assert least_now is not None
    assert time.to_integer(Amount.parse(told[1]).value) >= least_now


def test_a_search_for_megabytes(profiled: Run) -> None:
    searcher = Searcher(profiled, device="cpu")
    memory = searcher.quantities.of("encode", "MB", HERE)
    low, _, high = FeasibleSet(searcher.space).span(memory)
    budget = Budget.of(f"{(low + high) / 2e6:.4f} MB at 64x64", "encoder")
    sources = replace(QUICK, layouts=False, logits=False)
    (choice,) = searcher.search(budget, trials=3, sources=sources).choices
    assert low <= memory.of(choice.architecture) <= memory.to_integer(choice.target)
    assert choice.to_json()["unit"] == "MB"
    ends = Budget("ends", "encoder", span=Span(3, Amount.parse("1MB at 64x64"), Amount.parse("1GB at 64x64")))
    with pytest.raises(UnreachableBudgetError, match=r"\(encode at 64x64 on cpu\): the least is [0-9.]+ MB"):
        searcher.question(ends)


def test_what_cannot_be_profiled(tmp_path: Path, small_space: SearchSpace) -> None:
    status, out, said = nas_said("profile", tmp_path)
    assert (status, out) == (2, "")
    assert "neither a run nor a codec" in said
    run = Run.create(tmp_path / "run", small_space, TrainingSettings().model_dump())
    with pytest.raises(InputError, match="no trained supernet"):
        profile_run(run, MEASURED)
    with pytest.raises(InputError, match="0x64"):
        profile_run(run, replace(MEASURED, size=(0, 64)))


@pytest.mark.slow
def test_a_run_with_its_real_memory(trained: Path, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(trained, tmp_path / "run"))
    found = profile_run(run, MEASURED)
    assert len(found.accuracies) == 4
    for shape in found.shapes:
        assert all(1 < sum(parts.values()) < 2000 for parts in shape.mb.values())


def test_a_device_that_was_timed_at_another_size_is_not_called_unknown(tmp_path: Path) -> None:
    for folder in ("phone-64x64", "cpu-768x512"):
        (tmp_path / "profile" / folder).mkdir(parents=True)
        (tmp_path / "profile" / folder / "measured.yaml").touch()
    told = no_such_device(Run(tmp_path), "phone", REFERENCE_SIZE)
    assert (
        "has no profile of phone at 768x512, only of cpu and phone at 64x64: name the size, such as" in told
    )
    assert "'30ms@phone at 64x64'" in told
    assert "has no profile of camera, only of" in no_such_device(Run(tmp_path), "camera", REFERENCE_SIZE)
    told = no_such_device(Run(tmp_path), "cuda", (64, 64))  # no CSV of another device helps here
    assert told.endswith(f"to measure one, run `nas profile {tmp_path} --device cuda --size 64x64`.")


def test_times_that_never_differ_rank_nothing() -> None:
    """As of a device with a coarse clock."""
    space = SPACES["joint-ar-integer"]
    rng = random.Random(0)
    architectures = [space.sample(rng) for _ in range(5)]
    quantity = SimpleNamespace(value=lambda architecture: 0.01)
    predictor: Any = SimpleNamespace(time=lambda action: quantity)
    found = relation_of(predictor, measured_costs(space), "decode", architectures, "sample")
    assert found.rank_correlation == 0
    assert "rank alike to 0.00" in found.sentence()


def test_ranks_are_told_of_a_sample_where_the_front_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = nas.SearchSpace.load("joint-ar-tiny")
    keys = [space.narrowest().key, space.widest().key, space.sample(random.Random(1)).key]
    for count, kind in ((1, "sample"), (3, "front")):
        (tmp_path / "front.csv").touch()
        monkeypatch.setattr(Run, "front", lambda run, count=count: {"arch": keys[:count]})
        assert known_architectures(Run(tmp_path), space)[0] == kind


def test_what_is_timed_expects_photos():
    """Else the coder is surprised by every value, and takes twice as long as that of an exported codec."""
    supernet = supernet_of(zoo_run("patch"))
    architecture = supernet.space.narrowest()
    timed, plain = (
        measuring.codec_of(supernet, architecture),
        Codec(supernet.extract(architecture), architecture),
    )
    photo = sample_photo(320, 192)
    sizes = [len(compress_image(codec, photo).stream) for codec in (timed, plain)]
    assert sizes[0] < 1.02 * sizes[1]
    black = torch.zeros(1, 3, 64, 64)
    surprised = quantized(plain, [plain.latents(black)])
    assert len(compress_image(surprised, photo).stream) > 1.1 * sizes[1]
