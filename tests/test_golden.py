"""Files of earlier versions: they decode as they did when they were written."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nas
from nas.codec.bitstream import decompress_image
from nas.codec.folder import load_family
from nas.codec.nic import GREY, PLAIN, RATED, Nic
from nas.photos.grey import is_grey
from nas.spaces.families import FAMILIES
from nas.support.errors import InputError
from nas.support.files import digest

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(file.parent.name for file in GOLDEN.glob("*/codec.zip"))
MOST_BYTES = 300_000  # of all of them


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of golden files, and its codec unpacked."""
    folder = GOLDEN / request.param
    codec = tmp_path_factory.mktemp("golden") / "codec"
    with zipfile.ZipFile(folder / "codec.zip") as packed:
        packed.extractall(codec)
    return folder, codec


def test_every_file_decodes_as_it_did(case: tuple[Path, Path]) -> None:
    folder, codec = case
    expected: dict[str, str] = json.loads((folder / "latents.json").read_text())
    assert expected.keys() == {file.name for file in folder.glob("*.nic")}
    family = load_family(codec)
    names = {family.base.identity_under(layout): name for name, layout in family.layouts.items()}
    used = set()
    for name, latents in expected.items():
        nic = Nic.read(folder / name)
        own = family.codec(names[nic.path_identity])
        y_hat, z_hat = own.decode([nic.stream], own.shape(nic.height, nic.width))
        parts = [part for part in (y_hat, z_hat) if part is not None]
        assert digest(*(part.numpy().astype("<i2").tobytes() for part in parts)) == latents
        decoded = decompress_image(own, nic)
        away = np.abs(decoded.astype(int) - picture(folder / name))
        assert away.max() <= 1
        assert (away > 0).mean() < 0.001
        assert nic.grey == is_grey(decoded) == folder.name.endswith("-grey")
        assert own.encode(y_hat, z_hat) == [nic.stream]  # and is coded as it was
        assert nic.to_bytes() == (folder / name).read_bytes()
        used.add(names[nic.path_identity])
    assert used == set(family.layouts)


def picture(path: Path) -> np.ndarray:
    """What a file decoded to when it was written, [H, W, 3] in 8 bits."""
    step = Nic.read(path).step
    name = "picture.png" if step is None else f"picture-{step / 10:g}.png"
    return pixels(path.with_name(name))


def pixels(path: Path) -> np.ndarray:
    """A picture, [H, W, 3], as numbers that can be subtracted."""
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_the_command_decodes_them(case: tuple[Path, Path], tmp_path: Path) -> None:
    folder, codec = case
    file = min(folder.glob("*.nic"))
    nas.decompress(codec, file, tmp_path / "picture.png")
    away = np.abs(pixels(tmp_path / "picture.png") - picture(file))
    assert away.max() <= 1


def test_they_are_of_every_family_and_version() -> None:
    versions, families, tables = set(), set(), set()
    for case in CASES:
        versions |= {file.read_bytes()[3] for file in (GOLDEN / case).glob("*.nic")}
        with zipfile.ZipFile(GOLDEN / case / "codec.zip") as packed:
            text = packed.read("codec.yaml").decode()
        families |= {line.removeprefix("family: ") for line in text.splitlines() if line.startswith("family")}
        tables |= {"table"} if "context: table" in text else set()
    assert versions == {PLAIN, RATED, PLAIN | GREY, RATED | GREY}
    assert families == set(FAMILIES)
    assert tables
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < MOST_BYTES


def test_an_altered_codec_does_not_pass(case: tuple[Path, Path], tmp_path: Path) -> None:
    """Else the test above could not fail."""
    _, codec = case
    shutil.copytree(codec, tmp_path / "codec")
    from nas.weights.files import read_weights, write_weights

    tensors, _ = read_weights(tmp_path / "codec" / "codec.safetensors")
    name = next(name for name in tensors if name.endswith("weight") and "g_s" in name)
    with torch.no_grad():
        tensors[name].view(-1)[0] += 1
    write_weights(tmp_path / "codec" / "codec.safetensors", tensors)
    with pytest.raises(InputError, match="do not belong together"):
        load_family(tmp_path / "codec")
