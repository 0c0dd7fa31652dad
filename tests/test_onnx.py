"""A codec's ONNX folder: the models and the reference decoder find what the toolkit coded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SEEDS
from families import INTEGER, INTEGER_NAMES, RATED, SPACES, image, net_of, seeded_supernet
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import module_at
from PIL import Image
from test_exact import drawn_latents
from torch import Tensor

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily, Member
from nas.codec.nic import Nic
from nas.codec.quantize import can_be_exact, quantized
from nas.graph.staged import SLICE
from nas.onnx.quick import decode_quickly, sealed
from nas.onnx.write import write_onnx
from nas.photos.images import bundled
from nas.spaces.layout import Layout, named_layout
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NAMED = (
    "none",
    "raster",
    "checkerboard",
    "channelwise-4",
    "channelwise-3-checkerboard",
    "raster-2x2",
    "random-7",
)
UNEVEN = Layout((1, 3, 2), (0, 0), (((0, 1),), ((2, 0),), ((1, 2),)), "uneven")
QUALITIES = (None, 0, 17.3, 50, 83, 100)
SIZES = ((64, 64), (50, 131), (1, 1), (130, 50))
JOINT = "joint-ar-integer"


def family_of(name: str, *, with_z: bool = True) -> CodecFamily:
    """A small codec with two decoders, under several layouts where they exist."""
    space, net = (INTEGER | RATED)[name], net_of(name)
    indexes, small = (list(space.indexes(space.widest())) for _ in range(2))
    for place, slot in enumerate(space.slots):
        if slot.name == "hyperprior" and not with_z:
            indexes[place] = small[place] = 0
        elif slot.layers[0][0].startswith("g_s"):
            small[place] = 0
    large, cheap = space.at(indexes), space.at(small)
    codec = Codec(net.extract(large), large)
    layouts = {large.layout: codec.layout}
    if can_be_exact(codec):
        if not space.with_convolution:
            layouts |= space.layouts
        else:
            names = NAMED if name == JOINT else ("checkerboard",)
            named = [named_layout(each, space.y_channels, space.window) for each in names]
            layouts |= {each.name: each for each in (*named, UNEVEN)}
        codec = quantized(codec, [codec.latents(image(0))], list(layouts.values()))
    members = [Member(codec.network.space, codec.network.g_s, {"kmac_px": {"decoder": 2.0}})]
    if cheap != large:
        members.insert(0, Member(space.only(cheap), net.extract(cheap).g_s, {"kmac_px": {"decoder": 1.0}}))
    return CodecFamily(codec, layouts, members, {each: {"kmac_px": {"decoder": 2.0}} for each in layouts})


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Any:
    """Families and their folders, by name, each written once."""

    @cache
    def of(name: str, with_z: bool = True) -> tuple[CodecFamily, Path, ModuleType]:
        family, out = family_of(name, with_z=with_z), tmp_path_factory.mktemp("codec") / "onnx"
        write_onnx(family, out)
        return family, out, module_at(out / "decoder.py")

    return of


def picture(height: int, width: int, seed: int = 3) -> np.ndarray:
    x = image(seed, height + 8, width + 8, batch=1)[0, :, :height, :width]
    return (x * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def file_of(codec: Codec, y_hat: Tensor, z_hat: Tensor | None) -> bytes:
    """A file of given latents."""
    (stream,) = codec.encode(y_hat, z_hat)
    height, width = (16 * side for side in y_hat.shape[-2:])
    return Nic(codec.path_identity, codec.fingerprint, width, height, stream, 0).to_bytes()


def assert_same_latents(decoder: ModuleType, data: bytes, y_hat: Tensor, z_hat: Tensor | None) -> None:
    found_y, found_z = decoder.decode_latents(data)
    assert found_y.dtype == np.float32
    assert np.array_equal(found_y, y_hat.numpy())
    assert (found_z is None) == (z_hat is None)
    assert z_hat is None or np.array_equal(found_z, z_hat.numpy())


# The same files, the same latents


@pytest.mark.parametrize("with_z", [True, False])
@pytest.mark.parametrize("name", INTEGER_NAMES)
def test_every_family_decodes_alike(written, name, with_z):
    family, _, decoder = written(name, with_z)
    pixels = [picture(*size) for size in (SIZES if with_z else SIZES[1:2])]
    for number, layout in enumerate(list(family.layouts)[:2]):
        codec = family.codec(layout)
        for each in pixels if number == 0 else pixels[1:2]:
            nic = compress_image(codec, each)
            latents = codec.decode([nic.stream], codec.shape(nic.height, nic.width))
            assert_same_latents(decoder, nic.to_bytes(), *latents)
            ours = decompress_image(codec, nic).astype(int)
            theirs = decoder.decode(nic.to_bytes()).astype(int)
            assert theirs.shape == each.shape
            assert np.abs(theirs - ours).max() <= 1
            assert (theirs != ours).mean() < 0.001


@pytest.mark.parametrize("with_z", [True, False])
@pytest.mark.parametrize("name", [name for name, space in RATED.items() if space.quantizer == "integer"])
def test_files_of_every_quality_decode_alike(written, name, with_z):
    family, folder, decoder = written(name, with_z)
    pictures = []
    files = {each: compress_image(family.base, picture(50, 99), quality=each) for each in QUALITIES}
    assert all(parsed_step(decoder, nic) == nic.step is not None for nic in files.values())
    for nic in (replace(files[None], step=None), *files.values()):  # the first says nothing of its quality
        for place in range(len(family.decoders)):
            ours = decompress_image(family.codec(decoder=place), nic).astype(int)
            theirs = decoder.decode(nic.to_bytes(), place).astype(int)
            assert np.abs(theirs - ours).max() <= 1
            assert (theirs != ours).mean() < 0.001
        pictures.append(ours)
    assert np.array_equal(pictures[0], pictures[1])
    assert len({each.tobytes() for each in pictures[2:]}) == 5
    assert "does not exist, so it is damaged" in refusal(decoder, replace(nic, step=1001).to_bytes())
    rates, network = json.loads((folder / "codec.json").read_text())["rates"], family.base.network
    x = image(5, batch=1)
    for anchor, lmbda in enumerate(rates["lambdas"]):  # what an encoder of the folder's models does
        y = network.g_a(x) * np.exp(rates["before_rounding"][anchor])[None, :, None, None]
        assert torch.allclose(y.float(), network.scaled_y(network.g_a(x), lmbda), rtol=1e-5)
        if network.with_z:
            gain, shift = (torch.tensor(rates[part][anchor]) for part in ("z_before_rounding", "z_shift"))
            z = network.h_a(y.float()) * gain.exp()[:, None, None] + shift[:, None, None]
            assert torch.allclose(z, network.z_of(y.float(), lmbda), rtol=1e-4, atol=1e-4)


def parsed_step(decoder: ModuleType, nic: Nic) -> int | None:
    step: int | None = decoder.parse(nic.to_bytes())[4]
    return step


def refusal(decoder: ModuleType, data: bytes) -> str:
    with pytest.raises(decoder.InputError) as refused:
        decoder.decode(data)
    return str(refused.value)


@given(st.sampled_from([*NAMED, "uneven"]), SEEDS)
@settings(max_examples=12)
def test_any_latents_are_read_as_they_were_written(written, layout, seed):
    """Over the whole of their ranges, where limits matter."""
    family, _, decoder = written(JOINT)
    codec = family.codec(layout)
    latents = drawn_latents(codec, seed)
    assert_same_latents(decoder, file_of(codec, *latents), *latents)


@pytest.mark.parametrize("name", ["mean-scale-hyperprior-integer", "factorized-integer"])
def test_any_latents_without_a_context_model(written, name):
    family, _, decoder = written(name)
    codec = family.base
    if codec.network.with_z:
        latents: tuple[Tensor, Tensor | None] = drawn_latents(codec, 5)
    else:
        y_hat = torch.randint(-1023, 1024, (1, codec.network.space.y_channels, 3, 5)).float()
        latents = y_hat, None
    assert_same_latents(decoder, file_of(codec, *latents), *latents)


def test_long_stages_are_read_in_slices(written):
    family, _, decoder = written(JOINT)
    for layout in ("none", "channelwise-4"):
        codec = family.codec(layout)
        latents = drawn_latents(codec, 1, rows=23, columns=24)
        assert latents[0][0, 0].numel() > SLICE
        assert_same_latents(decoder, file_of(codec, *latents), *latents)


def test_the_encoders_models_are_the_encoder(written):
    family, folder, decoder = written(JOINT)
    for size in ((64, 64), (128, 192)):
        x = image(5, *size, batch=1)
        with torch.no_grad():
            y = family.base.network.g_a(x)
            z = family.base.network.h_a(y)
        found_y = decoder.run(folder, "g_a.onnx", {"x": x.numpy()})["y"]
        found_z = decoder.run(folder, "h_a.onnx", {"y": y.numpy()})["z"]
        for found, expected in ((found_y, y), (found_z, z)):
            scale = float(expected.abs().max())
            assert np.allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5 * scale)


# The folder


def models_in(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.rglob("*.onnx")):
        yield path.relative_to(folder).as_posix(), onnx.load(path)


def test_its_models_are_valid_and_all_of_them_are_used(written):
    _, folder, _ = written(JOINT)
    content = json.loads((folder / "codec.json").read_text())
    blocks = [block for layout in content["layouts"] for block in layout["blocks"]]
    used = {"g_a.onnx", "h_a.onnx", "h_s.onnx"}
    used |= {each["file"] for each in (*content["decoders"], *blocks)}
    found = dict(models_in(folder))
    assert set(found) == used
    for model in found.values():
        onnx.checker.check_model(model, full_check=True)
    for block in blocks:
        inputs = {each.name: each.type.tensor_type.shape.dim[1] for each in found[block["file"]].graph.input}
        seen = sum(len(near["rows"]) * len(near["channels"]) for near in block["seen"])
        sizes = {"y": seen, **{name: len(block[name]) for name in ("phi", "hidden_1", "hidden_2")}}
        assert {name: side.dim_value for name, side in inputs.items() if name != "psi"} == {
            name: size for name, size in sizes.items() if size
        }


def test_weights_of_the_entropy_path_take_two_bytes(written):
    """And what is multiplied is no wider than what the toolkit multiplies."""
    _, folder, _ = written(JOINT)
    for name, model in models_in(folder):
        kinds = {node.op_type for node in model.graph.node}
        if not name.startswith(("g_", "h_a")):
            assert kinds & {"MatMul", "Conv"}
            large = [part for part in model.graph.initializer if len(part.dims) > 1 and max(part.dims) > 1]
            wide = [part for part in large if part.data_type != onnx.TensorProto.INT16]
            assert all(sorted(part.dims)[:-1] == [1] * (len(part.dims) - 1) for part in wide)  # steps


def test_weights_that_half_precision_holds_take_two_bytes_and_give_the_same_numbers():
    from nas.onnx.graphs import Graph

    draw = np.random.default_rng(0)
    exact, x = draw.integers(-2000, 2001, (5, 4, 3, 3)) / 256, draw.random((1, 4, 9, 8), np.float32)
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    for weight, kind in ((exact, half), (exact + 2.0**-20, single), (exact * 2.0**18, single)):
        found = []
        for add, stored_as in ((Graph.weight, kind), (Graph.constant, single)):
            graph = Graph()
            value = graph.node("Conv", graph.input("x", [1, 4, "rows", "columns"]), add(graph, weight))
            graph.output("y", value, [1, 5, "rows_out", "columns_out"])
            model = graph.model()
            assert [each.data_type for each in model.graph.initializer] == [stored_as]
            session = onnxruntime.InferenceSession(model.SerializeToString())
            found += session.run(["y"], {"x": x})
        assert found[0].any()
        assert np.array_equal(*found)


def test_a_second_time_gives_the_same_bytes(written, tmp_path):
    family, folder, _ = written(JOINT)
    told = []
    write_onnx(family, tmp_path, report=lambda *each: told.append(each[1:3]))
    files, again = (
        {path.relative_to(place) for path in place.rglob("*.*") if path.suffix in (".onnx", ".json", ".py")}
        for place in (folder, tmp_path)
    )
    assert files == again
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)
    assert [done for done, _ in told] == list(range(1, told[-1][1] + 1))


def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch):
    floating = Codec(net_of(JOINT).extract(INTEGER[JOINT].widest()), INTEGER[JOINT].widest())
    space = SPACES["factorized-centred"]
    centred = Codec(net_of("factorized-centred").extract(space.widest()), space.widest())
    for codec in (floating, centred):
        with pytest.raises(InputError, match="--arithmetic exact"):
            write_onnx(CodecFamily(codec), tmp_path / "onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"pip install '\.\[onnx\]'"):
        write_onnx(family_of("factorized-integer"), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


# The reference decoder's command line

WITHOUT_US = """
import runpy, sys
class Missing:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("torch", "nas", "compressai", "onnx"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Missing())
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_needs_neither_torch_nor_this_toolkit(written, tmp_path):
    family, folder, decoder = written(JOINT)
    nic = compress_image(family.codec("channelwise-4"), picture(70, 131))
    (tmp_path / "a.nic").write_bytes(nic.to_bytes())
    command = [sys.executable, "-I", "-c", WITHOUT_US, str(folder / "decoder.py")]
    done = subprocess.run(
        [*command, str(tmp_path / "a.nic"), str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), decoder.decode(nic.to_bytes()))


def ask(decoder: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of its command line."""
    monkeypatch.setattr(sys, "argv", ["decoder.py", *map(str, arguments)])
    try:
        decoder.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_decoder_is_chosen_by_place_or_cost(written, tmp_path, monkeypatch, capsys):
    family, _, decoder = written(JOINT)
    nic = compress_image(family.codec("none"), picture(70, 131))
    (tmp_path / "a.nic").write_bytes(nic.to_bytes())
    pictures = [decoder.decode(nic.to_bytes(), place) for place in (0, 1)]
    assert not np.array_equal(*pictures)
    assert np.array_equal(decoder.decode(nic.to_bytes()), pictures[1])  # the base codec's
    for place in (0, 1):
        ours = decompress_image(family.codec("none", place), nic).astype(int)
        assert np.abs(pictures[place].astype(int) - ours).max() <= 1
    choices = [(("--decoder", 0), 0), (("--decoder", 1), 1), (("--target", 1.5), 0), (("--target", 9), 1)]
    for arguments, place in choices:
        assert ask(decoder, monkeypatch, tmp_path / "a.nic", tmp_path / "a.png", *arguments) == 0
        assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pictures[place])
    for arguments, message in ((("--decoder", 2), "choose 0 to 1"), (("--target", 0.5), "at most 0.5 kMAC")):
        assert ask(decoder, monkeypatch, tmp_path / "a.nic", tmp_path / "b.png", *arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


def damaged(nic: Nic) -> Iterator[tuple[bytes, str]]:
    """Files that cannot be decoded, and what is said of them."""
    data = nic.to_bytes()
    yield data[:9], "checksum"
    yield data[:-1], "checksum"
    yield data[:20] + bytes([data[20] ^ 1]) + data[21:], "checksum"
    yield b"PNG" + data[3:], "not a .nic file"
    yield data[:3] + b"\3" + data[4:], "version 3"
    forged = [
        ({"path_identity": "00000000"}, "Another codec"),
        ({"width": 0}, "picture has 0x"),
        ({"height": 70000}, "picture has 131x70000"),
        ({"width": 60000, "height": 60000}, "more than"),
        ({"width": 6000, "height": 6000}, "too short"),
        ({"stream": nic.stream[:-1]}, "multiple of 4 bytes"),
        ({"stream": nic.stream + bytes(40)}, "after its end"),
        ({"stream": b"\xff\x7f" + nic.stream[1:]}, "beyond their limits"),
        ({"stream": b"\x80" * 9}, "does not end"),
    ]
    for change, message in forged:
        yield replace(nic, **change).to_bytes(), message


def test_damaged_files_are_refused_in_a_sentence(written, tmp_path, monkeypatch, capsys):
    family, _, decoder = written(JOINT)
    nic = compress_image(family.codec("raster"), picture(70, 131))
    for data, message in damaged(nic):
        (tmp_path / "a.nic").write_bytes(data)
        assert ask(decoder, monkeypatch, tmp_path / "a.nic", tmp_path / "a.png") == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert ask(decoder, monkeypatch, tmp_path / "none.nic", tmp_path / "a.png") == 2
    assert not (tmp_path / "a.png").exists()


def test_a_damaged_folder_is_refused_in_a_sentence(written, tmp_path, monkeypatch, capsys):
    family, folder, _ = written(JOINT)
    (tmp_path / "a.nic").write_bytes(compress_image(family.base, picture(64, 64)).to_bytes())
    for name, content in (
        ("h_s.onnx", b"no model"),
        ("g_s.1.onnx", None),
        ("codec.json", b"{"),
        ("codec.json", b"[]"),
        ("codec.json", b"[" * 100_000),
        ("codec.json", b'{"format": "nas-onnx 2"}'),
    ):
        copy = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(content) if content else (copy / name).unlink()
        assert ask(module_at(copy / "decoder.py"), monkeypatch, tmp_path / "a.nic", tmp_path / "a.png") == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_flipped_bit_in_a_folder_is_told(written, tmp_path):
    """Not taken for another picture: also where a value of codec.json, or a weight, is as good as before."""
    family, folder, _ = written(JOINT)
    data = compress_image(family.base, picture(64, 64)).to_bytes()
    description = (folder / "codec.json").read_text()
    table = json.dumps(json.loads(description)["table"])
    other = re.sub(r"\d+", lambda match: str(int(match[0]) + 1), table, count=1)
    weights = bytearray((folder / "h_s.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    for name, content in (("codec.json", description.replace(table, other).encode()), ("h_s.onnx", weights)):
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
        decoder = module_at(tmp_path / name / "decoder.py")
        assert re.search(rf"{name} was altered or is damaged", refusal(decoder, data))
    for name in ("g_a.onnx", "h_a.onnx"):  # a decoder does without
        (tmp_path / "h_s.onnx" / name).unlink()
    shutil.copy(folder / "h_s.onnx", tmp_path / "h_s.onnx")
    assert module_at(tmp_path / "h_s.onnx" / "decoder.py").decode(data).shape == (64, 64, 3)


WRONG = {  # names of keys of codec.json, and wrong values
    **{"layouts": 7, "layouts.0.blocks": None, "layouts.0.tile": [2], "layouts.0.slope": [0, "1"]},
    **{"layouts.0.blocks.0.channels": [0, -1], "layouts.0.blocks.0.seen": [[]], "decoders.0.file": 3},
    **{"layouts.0.entropy_path": 3, "layouts.0.blocks.0.phi": "1"},
    **{"layouts.0.blocks.0.file": 3, "scales": [1, -1]},
    **{"alignment": 0, "z_channels": "8", "y_limit": [], "table": [1, 2], "default": 2},
}


@pytest.mark.parametrize("path", WRONG)
def test_keys_of_a_description_that_lack_or_have_other_values_are_told(written, tmp_path, path):
    """Also in a folder without digests, as the first ones were; the toolkit then does without the models."""
    family, folder, decoder = written(JOINT)
    data = compress_image(family.base, picture(64, 64)).to_bytes()
    names = [int(name) if name.isdigit() else name for name in path.split(".")]
    for number, values in enumerate(([WRONG[path]], [])):
        content = json.loads((folder / "codec.json").read_text())
        del content["digest"]
        part = content
        for name in names[:-1]:
            part = part[name]
        del part[names[-1]]
        for value in values:
            part[names[-1]] = value
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        (copy / "codec.json").write_text(json.dumps(content))
        if not values and names[-1] == "phi":  # not every block has it
            continue
        told = path.replace(".0", "")
        if names[-1] == "seen":
            told = f"{told}(.rows)?"
        message = rf"codec.json is damaged, because `{told}` is missing or of another kind"
        with pytest.raises(decoder.InputError, match=message):
            decoder.decode(data, folder=copy)
        (tmp_path / "codec.yaml").write_text(f"fingerprint: {family.base.fingerprint}\n")
        (copy / "codec.json").write_text(json.dumps(sealed(content)))
        copy.rename(tmp_path / "onnx")
        assert decode_quickly(tmp_path, Nic.parse(data)) is None
        (tmp_path / "onnx").rename(copy)


def test_every_description_that_is_written_is_whole(written):
    for name in (*INTEGER_NAMES, "tables-alone-rates"):
        _, folder, decoder = written(name)
        assert decoder.misfit(json.loads((folder / "codec.json").read_text())) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["table"][0].pop(),
        lambda content: content["layouts"][0]["blocks"][0]["channels"].append(60000),
        lambda content: content["layouts"][0]["blocks"][0]["channels"].pop(),
        lambda content: content.update(scale_bounds=[0.5], scales=[1.0]),
    ],
)
def test_parts_of_a_description_that_do_not_fit_each_other_are_told(written, tmp_path, change):
    family, folder, decoder = written(JOINT)
    content = json.loads((folder / "codec.json").read_text())
    del content["digest"]
    change(content)
    copy = Path(shutil.copytree(folder, tmp_path / "onnx"))
    (copy / "codec.json").write_text(json.dumps(content))
    data = compress_image(family.base, picture(64, 64)).to_bytes()
    with pytest.raises(decoder.InputError, match=r"codec\.json is damaged|coded data|cannot be run"):
        decoder.decode(data, folder=copy)


def test_a_model_of_another_part_is_told(written, tmp_path):
    family, folder, decoder = written(JOINT)
    copy = Path(shutil.copytree(folder, tmp_path / "onnx"))
    content = json.loads((folder / "codec.json").read_text())
    del content["digest"]
    (copy / "codec.json").write_text(json.dumps(content))
    data = compress_image(family.base, picture(64, 64)).to_bytes()
    assert decoder.decode(data, folder=copy).shape == (64, 64, 3)
    for name, other in (("h_s.onnx", "h_a.onnx"), ("g_s.1.onnx", "g_a.onnx")):
        shutil.copy(folder / other, copy / name)
        decoder.session.cache_clear()
        with pytest.raises(decoder.InputError, match=f"{name} cannot be run here"):
            decoder.decode(data, folder=copy)
        shutil.copy(folder / name, copy / name)


# Larger ones


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joint-ar-tiny", "cheng"])
def test_shipped_spaces_on_a_photo(name, tmp_path):
    space = SearchSpace.load(name)
    architecture = space.uniform(0.5, next(iter(space.layouts)))
    codec = Codec(seeded_supernet(space).extract(architecture), architecture)
    more = (
        "channelwise-10-checkerboard",
        "elic-10",
        "multistage-4x4",
        "checkerboard-interlaced",
        "random-20",
    )
    named = [named_layout(each, space.y_channels, space.window) for each in more]
    layouts = {architecture.layout: codec.layout, **space.layouts, **{each.name: each for each in named}}
    codec = quantized(codec, [codec.latents(image(0))], list(layouts.values()))
    family = CodecFamily(codec, layouts)
    write_onnx(family, tmp_path)
    decoder = module_at(tmp_path / "decoder.py")
    pixels = bundled()["test"][0].pixels[:300, :451]
    for layout in layouts:
        codec = family.codec(layout)
        nic = compress_image(codec, pixels)
        latents = codec.decode([nic.stream], codec.shape(nic.height, nic.width))
        assert_same_latents(decoder, nic.to_bytes(), *latents)
        ours, theirs = decompress_image(codec, nic), decoder.decode(nic.to_bytes())
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


# docs/onnx.md


def test_the_page_decodes(written, tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "onnx.md").read_text(encoding="utf-8")
    family, folder, decoder = written(JOINT)
    nic = compress_image(family.base, picture(70, 131))
    (tmp_path / "codecs" / "a10").mkdir(parents=True)
    (tmp_path / "codecs" / "a10" / "onnx").symlink_to(folder)
    (tmp_path / "photo.nic").write_bytes(nic.to_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("decoder", None)
    (code,) = re.findall(r"^```python\n((?s:.*?))^```$", page, re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "onnx.md", "exec"), names)
    del sys.modules["decoder"]
    assert np.array_equal(names["y_hat"], decoder.decode_latents(nic.to_bytes())[0])
    assert np.array_equal(names["pixels"], decoder.decode(nic.to_bytes()))
    commands = re.findall(r"^python \S+/decoder.py (.*)$", page, re.MULTILINE)
    for command in commands:
        assert ask(decoder, monkeypatch, *command.split()) == 0
    assert np.asarray(Image.open("decoded.png")).shape == (70, 131, 3)
    content = json.loads((folder / "codec.json").read_text())
    for key in {*content, *content["layouts"][0], *content["layouts"][0]["blocks"][0]} - {"file"}:
        assert f"`{key}`" in page
