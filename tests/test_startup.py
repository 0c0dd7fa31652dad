"""A quick start: commands import what they need, and a codec's ONNX models decode without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from families import trained_codec

import nas
from nas.codec.family import CodecFamily
from nas.codec.folder import load_family, save_codec
from nas.codec.nic import Nic
from nas.onnx.quick import decode_quickly
from nas.onnx.write import write_onnx
from nas.photos.images import read_image, write_image
from nas.support.errors import InputError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FACTS = {
    "lmbda": 0.013,
    "metric": "mse",
    "kmac_px": {"decoder": 0.7, "total": 1.0},
    "kmac_px_by_edge": {
        "g_a": 0.3,
        "h_a": 0.1,
        "h_s": 0.1,
        "context": 0.1,
        "entropy_parameters": 0.1,
        "g_s": 0.3,
    },
    "stages": 2,
    "params": 1,
    "measured": {},
}
# Packages, and the heavy parts of two of which the codec uses a little
HEAVY = {"pandas", "matplotlib", "optuna", "fvcore", "lightning_fabric", "skimage", "onnx", "torch_geometric"}
PARTS = {"scipy.stats._distn_infrastructure", "compressai.zoo"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, chelsea) -> Path:
    """A folder with a trained codec, without and with ONNX models, a photo and its file."""
    place = tmp_path_factory.mktemp("startup")
    exact = trained_codec(chelsea)
    for name in ("plain", "onnx"):
        save_codec(exact, place / name, FACTS)
    write_onnx(CodecFamily(exact), place / "onnx" / "onnx")
    write_image(place / "photo.png", chelsea)
    nas.compress(place / "plain", place / "photo.png", place / "photo.nic")
    return place


def imported_by(*commands: str, cwd: Path) -> set[str]:
    """The modules that one process has imported after these commands."""
    code = (
        "import json, sys\nfrom nas.cli import app\n"
        "for command in sys.argv[1:]:\n"
        "    try:\n        app(command.split())\n    except SystemExit as end:\n        assert not end.code\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *commands]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_torch_is_the_only_heavy_import(place):
    words = ("decompress plain photo.nic x.png --force", "compress plain photo.png x.nic --force")
    found = imported_by(*words, cwd=place)
    assert "torch" in found
    assert not (HEAVY | PARTS | {"onnxruntime"}) & found


@pytest.mark.parametrize(
    "words", ["decompress onnx photo.nic x.png --force", "info onnx", "info plain", "info photo.nic"]
)
def test_torch_is_not_imported_where_it_is_not_needed(place, words):
    found = imported_by(words, cwd=place)
    assert not (HEAVY | {"torch", "scipy", "compressai"}) & found
    assert ("onnxruntime" in found) == words.startswith("decompress")


def test_a_picture_is_that_of_torch_within_one_level(place, tmp_path):
    quick = nas.decompress(place / "onnx", place / "photo.nic", tmp_path / "quick.png")
    usual = nas.decompress(place / "plain", place / "photo.nic", tmp_path / "usual.png")
    assert quick.to_json() | {"image": ""} == usual.to_json() | {"image": ""}
    assert quick.bytes == usual.bytes == (place / "photo.nic").stat().st_size
    pictures = [read_image(tmp_path / f"{name}.png").astype(int) for name in ("quick", "usual")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.fixture
def changed(place, tmp_path) -> Path:
    """A copy of the codec with ONNX models, to change."""
    return Path(shutil.copytree(place / "onnx", tmp_path / "codec"))


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("target", [1000, 1000.0, np.float64(1000), "1000", "100%"])
def test_a_target_may_be_a_number(place, tmp_path, target):
    for precision in ("32", "auto"):  # without torch, and with it
        out = tmp_path / f"{precision}.png"
        nas.decompress(place / "onnx", place / "photo.nic", out, target=target, precision=precision)
    pictures = [read_image(tmp_path / f"{name}.png").astype(int) for name in ("32", "auto")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.parametrize("target", [0, -1, True, float("nan"), [2], {}, b"2"])
def test_a_wrong_target_is_refused_in_a_sentence(place, tmp_path, target):
    with pytest.raises(InputError, match="is not an amount above 0: write 20"):
        nas.decompress(place / "onnx", place / "photo.nic", tmp_path / "x.png", target=target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["g_s.0.onnx", "h_s.onnx", "codec.json"])
def test_altered_models_are_not_used(place, changed, name):
    nic = Nic.read(place / "photo.nic")
    assert decode_quickly(changed, nic) is not None
    alter(changed / "onnx" / name)
    assert decode_quickly(changed, nic) is None
    found = nas.decompress(changed, place / "photo.nic", changed / "x.png")  # torch decodes it
    assert found.width == nic.width


def test_models_of_another_codec_are_not_used(place, changed):
    text = (changed / "codec.yaml").read_text()
    fingerprint = load_family(changed).base.fingerprint
    (changed / "codec.yaml").write_text(text.replace(f"fingerprint: {fingerprint}", "fingerprint: 12345678"))
    assert decode_quickly(changed, Nic.read(place / "photo.nic")) is None


def test_without_onnxruntime_torch_decodes(place, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "nas.onnx.decoder", raising=False)
    monkeypatch.delattr("nas.onnx.decoder", raising=False)
    assert decode_quickly(place / "onnx", Nic.read(place / "photo.nic")) is None
    assert nas.decompress(place / "onnx", place / "photo.nic", tmp_path / "x.png").image.is_file()


def test_a_damaged_stream_is_refused_in_one_sentence(place):
    nic = Nic.read(place / "photo.nic")
    forged = Nic(nic.path_identity, nic.fingerprint, nic.width, nic.height, nic.stream[:-8], 0)
    with pytest.raises(InputError, match="damaged"):
        decode_quickly(place / "onnx", forged)


def test_files_of_others_and_large_pictures_are_left_to_torch(place):
    nic = Nic.read(place / "photo.nic")
    others = Nic("00000000", nic.fingerprint, nic.width, nic.height, nic.stream, 0)
    large = Nic(nic.path_identity, nic.fingerprint, 4096, 4096, nic.stream, 0)
    assert decode_quickly(place / "onnx", others) is None
    assert decode_quickly(place / "onnx", large) is None


def test_max_pixels_holds_without_torch(place, tmp_path):
    with pytest.raises(InputError, match="--max-pixels"):
        nas.decompress(place / "onnx", place / "photo.nic", tmp_path / "x.png", max_pixels=100)
    assert not (tmp_path / "x.png").exists()
