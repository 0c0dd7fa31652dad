"""Seconds, memory, parameters and MACs of codecs and runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.codec.bitstream import compress_image
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.cost import memory, profile
from nas.cost.memory import PeakMemory, measure_here, peak_memory, sample_photo
from nas.cost.profile import measure_latency, parse_size, profile_codec, profile_path, profile_run
from nas.cost.table import CostTable
from nas.errors import InputError
from nas.graph.network import Supernet
from nas.images import read_image, write_image
from nas.run import Run
from nas.training.checkpoint import Checkpoint
from nas.training.settings import TrainingSettings

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
    pixels, clock = sample_photo(*SIZE), profile._Clock(torch.device("cpu"))
    with profile._timed(codec, clock) as timed:
        assert compress_image(timed, pixels) == compress_image(codec, pixels)


@pytest.mark.usefixtures("no_processes")
def test_a_codec(codec: Codec, folder: Path) -> None:
    found = profile_codec(folder, size=SIZE, repeats=2)
    costs = CostTable.measure(codec.network.space)
    assert found.params == costs.params(codec.architecture)
    assert found.kmac_px == pytest.approx(costs.scopes(codec.architecture), rel=1e-12)
    assert found.kmac_px_by_edge == pytest.approx(costs.by_edge(codec.architecture), rel=1e-12)
    assert found.stages == 2
    assert all(len(row) == len(found.columns) for row in found.rows())
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["latency"]["decode"]["whole"]["median"] > 0


@pytest.mark.usefixtures("no_processes")
def test_a_run(supernet: Supernet, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", supernet.space, TrainingSettings())
    with pytest.raises(InputError, match="no trained supernet"):
        profile_run(run.path, size=SIZE)
    Checkpoint(supernet.state_dict(), {}).write(run.weights_path)
    found = profile_path(run.path, size=SIZE, repeats=1)
    assert isinstance(found, profile.RunProfile)
    assert found.size == supernet.space.size
    narrow, middle, wide = found.shapes
    assert wide.arch == supernet.space.widest().key
    for scope, span in found.ranges.items():
        assert span["least"] == pytest.approx(narrow.kmac_px[scope])
        assert span["least"] < middle.kmac_px[scope] < span["most"]
        assert wide.kmac_px[scope] == pytest.approx(span["most"])
    for shape, end in zip((narrow, wide), found.ends, strict=True):
        assert (shape.arch, shape.params) == (end.arch, end.params)
        assert shape.kmac_px == pytest.approx(end.kmac_px, rel=1e-12)
    assert all(len(row) == len(found.columns) for row in found.rows())
    assert all(len(row) == len(found.range_columns) for row in found.range_rows())
    json.dumps(found.to_json(), allow_nan=False)


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
        with pytest.raises(InputError, match="WIDTHxHEIGHT"):
            parse_size(wrong)


def test_what_cannot_be_profiled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run nor a codec"):
        profile_path(tmp_path)
