"""Decoding in bfloat16: who may, what it changes, and what it never changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import SPACES, exact_codec
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec import codec as codecs
from nas.codec.bitstream import compress_image, decompress_image, read_latents
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.codec.nic import Nic
from nas.graph.network import CodecNetwork
from nas.photos.images import read_image
from nas.support.errors import InputError

FACTS = {"lmbda": 0.013, "metric": "mse", "kmac_px": {"total": 1.0}, "stages": 2, "params": 1, "measured": {}}


def made(family: str) -> Codec:
    """A codec whose every layer has something to do: those that begin at zero, too."""
    torch.manual_seed(3)
    space = SPACES[f"{family}-integer"]
    network = CodecNetwork(space.only(space.widest()))
    for name, parameter in network.g_s.named_parameters():
        if "linear" not in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return exact_codec(Codec(network, space.widest()), torch.rand(1, 3, 64, 64))


@pytest.fixture(scope="module")
def patch() -> Codec:
    return made("patch")


@pytest.fixture(scope="module")
def nic(patch, chelsea) -> Nic:
    return compress_image(patch, chelsea[:150, :200])


def test_bfloat16_changes_the_picture_a_little_and_nothing_before_it(patch, nic, monkeypatch):
    single, mixed = (decompress_image(patch, nic, precision=word).astype(int) for word in ("32", "bf16"))
    assert 0 < np.abs(single - mixed).max() <= 8
    assert np.abs(single - mixed).mean() < 0.5
    seen = []
    for name, layer in patch.network.g_s.named_modules():
        if hasattr(layer, "squares"):
            squares = layer.squares
            monkeypatch.setattr(
                layer,
                "squares",
                lambda x, f=squares, n=name: seen.append((n, f(x).dtype)) or f(x),
                raising=False,
            )
    decompress_image(patch, nic, precision="bf16")
    assert {torch.float32} == {dtype for name, dtype in seen if "linear" in name}
    assert {torch.bfloat16} == {dtype for name, dtype in seen if "linear" not in name}
    y_hat, _ = read_latents(patch, nic)
    assert y_hat.dtype == torch.float32


def test_auto_asks_the_processor_and_the_decoder(patch, nic, monkeypatch):
    other = made("mean-scale-hyperprior")
    for able in (False, True):
        monkeypatch.setattr("nas.support.device.multiplies_bfloat16", lambda on_gpu, able=able: able)
        assert patch.mixed("auto") is able
        assert not patch.mixed("32")
        assert patch.mixed("bf16")
        assert not other.mixed("auto")
    assert codecs.takes_bfloat16("bf16", False)
    with pytest.raises(InputError, match="family patch"):
        other.mixed("bf16")
    with pytest.raises(InputError, match="no precision '16'"):
        decompress_image(patch, nic, precision="16")


def test_the_command_takes_a_precision(patch, nic, tmp_path):
    save_codec(patch, tmp_path / "codec", FACTS)
    (tmp_path / "a.nic").write_bytes(nic.to_bytes())
    for word in ("32", "bf16"):
        nas.decompress(tmp_path / "codec", tmp_path / "a.nic", tmp_path / f"{word}.png", precision=word)
        expected = decompress_image(patch, nic, precision=word)
        assert np.array_equal(read_image(tmp_path / f"{word}.png"), expected)
    words = ["decompress", tmp_path / "codec", tmp_path / "a.nic", tmp_path / "b.png", "--precision", "16"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 2
    assert "choose auto, 32 or bf16" in done.stderr
    assert not Path(tmp_path / "b.png").exists()
