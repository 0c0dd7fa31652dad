"""The reference encoder of an ONNX folder writes the files of the toolkit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SEEDS
from families import INTEGER_NAMES, RATED, trained_codec
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import module_at
from PIL import Image
from test_exact import drawn_latents
from test_onnx import JOINT, NAMED, QUALITIES, SIZES, WITHOUT_US, family_of, picture

import nas
from nas.codec.bitstream import compress_image, decompress_image, latents_of, lmbda_of, step_of
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.folder import save_codec
from nas.codec.nic import Nic
from nas.onnx.write import write_onnx
from nas.photos.images import read_image
from nas.photos.tensors import Padded
from nas.spaces.rates import middle_quality

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

RATED_NAMES = [name for name, space in RATED.items() if space.quantizer == "integer"]


def encoder_at(folder: Path) -> ModuleType:
    """The encoder of a folder, with the decoder beside it, which it imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "decoder", raising=False)
        module = module_at(folder / "encoder.py")
        assert Path(module.decoder.__file__).parent == folder
    sys.modules.pop("decoder", None)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Any:
    """Families, their folders and the encoders in them, by name, each written once."""

    @cache
    def of(name: str, with_z: bool = True) -> tuple[CodecFamily, Path, ModuleType]:
        family, out = family_of(name, with_z=with_z), tmp_path_factory.mktemp("codec") / "onnx"
        write_onnx(family, out)
        return family, out, encoder_at(out)

    return of


def arrays(latents: tuple[torch.Tensor, torch.Tensor | None]) -> tuple[np.ndarray, np.ndarray | None]:
    y_hat, z_hat = latents
    return y_hat.numpy(), None if z_hat is None else z_hat.numpy()


def same(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    return all(
        np.array_equal(a, b) if b is not None else a is None for a, b in zip(found, wanted, strict=True)
    )


def described(encoder: ModuleType, name: str | None = None) -> dict[str, Any]:
    """A layout in its codec.json."""
    found: dict[str, Any] = encoder.layout_named(encoder.decoder.description(encoder.HERE), name)
    return found


def assert_codes_alike(
    encoder: ModuleType, codec: Codec, pixels: np.ndarray, quality: float | None = None
) -> None:
    """Its file decodes to its own latents, nearly those of the toolkit, which give the toolkit's file."""
    name, (height, width), step = codec.layout.name, pixels.shape[:2], step_of(codec, quality)
    layout = described(encoder, name)
    data = encoder.encode(pixels, quality, name)
    mine = encoder.latents_of(pixels, step)
    assert mine[0].any()
    nic = Nic.parse(data)
    read = codec.decode([nic.stream], codec.shape(height, width))
    assert same(encoder.decoder.decode_latents(data), mine)
    assert same(arrays(read), mine)

    theirs = arrays(latents_of(codec, pixels, lmbda=lmbda_of(codec, step)))
    for own, their in zip(mine, theirs, strict=True):
        assert (own is None) == (their is None)
        if own is not None and their is not None:
            assert own.shape == their.shape
            assert np.abs(own - their).max() <= 1
            assert (own != their).mean() < 0.002
    whole = compress_image(codec, pixels, quality=quality).to_bytes()
    stream = encoder.encode_latents(*theirs, layout)
    assert encoder.file_of(layout, width, height, step, stream, grey=nic.grey) == whole
    assert data == whole or not same(mine, theirs)


# The same files


@pytest.mark.parametrize("with_z", [True, False])
@pytest.mark.parametrize("name", INTEGER_NAMES)
def test_every_family_codes_alike(written, name, with_z):
    family, _, encoder = written(name, with_z)
    for number, layout in enumerate(list(family.layouts)[:3]):
        for size in SIZES if number == 0 and with_z else SIZES[1:2]:
            assert_codes_alike(encoder, family.codec(layout), picture(*size))


@pytest.mark.parametrize("with_z", [True, False])
@pytest.mark.parametrize("name", RATED_NAMES)
def test_every_quality_is_coded_alike(written, name, with_z):
    family, _, encoder = written(name, with_z)
    pixels = picture(50, 99)
    for quality in QUALITIES:
        assert_codes_alike(encoder, family.base, pixels, quality)
    files = {quality: encoder.encode(pixels, quality) for quality in QUALITIES}
    assert round(middle_quality(family.base.rates)) == 50
    assert files[None] == files.pop(50)
    assert len(set(files.values())) == len(files)
    ours = decompress_image(family.base, Nic.parse(files[83])).astype(int)
    assert np.abs(encoder.decoder.decode(files[83]).astype(int) - ours).max() <= 1


@given(st.sampled_from([*NAMED, "uneven"]), SEEDS)
@settings(max_examples=12)
def test_any_latents_are_written_as_the_toolkit_writes_them(written, layout, seed):
    """Over the whole of their ranges, where limits matter."""
    family, _, encoder = written(JOINT)
    codec = family.codec(layout)
    latents = drawn_latents(codec, seed)
    assert [encoder.encode_latents(*arrays(latents), described(encoder, layout))] == codec.encode(*latents)


@pytest.mark.parametrize("name", ["tables-integer", "mean-scale-hyperprior-integer", "factorized-integer"])
def test_any_latents_without_a_network_as_context(written, name):
    family, _, encoder = written(name)
    codec = family.base
    latents: tuple[torch.Tensor, torch.Tensor | None] = drawn_latents(codec, 5, rows=23, columns=24)
    if not codec.network.with_z:
        latents = latents[0], None
    for layout in encoder.decoder.description(encoder.HERE)["layouts"]:
        wanted = family.codec(layout["name"]).encode(*latents)
        assert [encoder.encode_latents(*arrays(latents), layout)] == wanted


@pytest.mark.parametrize("name", [JOINT, RATED_NAMES[0]])
def test_grey_pictures_are_marked_as_the_toolkit_marks_them(written, name, tmp_path):
    family, folder, encoder = written(name)
    colours = picture(40, 70)
    colours[0, 0] = (1, 2, 2)
    grey = np.repeat(colours[..., :1], 3, -1)
    assert_codes_alike(encoder, family.base, grey)
    almost = grey.copy()
    almost[39, 69, 2] ^= 1
    marked = {bool(Nic.parse(encoder.encode(each)).grey): each for each in (grey, almost)}
    assert [marked[True] is grey, marked[False] is almost] == [True, True]
    (tmp_path / "grey.nic").write_bytes(encoder.encode(grey))
    words = [sys.executable, folder / "decoder.py", tmp_path / "grey.nic", tmp_path / "grey.png"]
    subprocess.run(words, check=True)
    with Image.open(tmp_path / "grey.png") as image:
        decoded = encoder.decoder.decode((tmp_path / "grey.nic").read_bytes())
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), decoded[..., 0])


def test_latents_of_zeros_only(written):
    for name in (JOINT, "factorized-integer"):
        family, _, encoder = written(name)
        y_hat, z_hat = drawn_latents(family.base, 0)
        latents = 0 * y_hat, 0 * z_hat if family.base.network.with_z else None
        assert [encoder.encode_latents(*arrays(latents), described(encoder))] == family.base.encode(*latents)


def test_latents_are_rounded_and_clamped_as_in_the_toolkit(written, monkeypatch):
    family, _, encoder = written(JOINT)
    values = torch.tensor([0.5, 1.5, -2.5, 0.49999997, -1e9, 1e9, 1023.4, 127.5]).reshape(1, 2, 2, 2)
    wanted = arrays(family.base.to_integers(values, values))
    assert same((encoder.rounded(values.numpy(), 1023), encoder.rounded(values.numpy(), 127)), wanted)
    run = encoder.decoder.run

    def large(folder: Path, file: str, *rest: Any) -> dict[str, np.ndarray]:
        return {
            name: value * (1e6 if file[1:] == "_a.onnx" else 1)
            for name, value in run(folder, file, *rest).items()
        }

    monkeypatch.setattr(encoder.decoder, "run", large)
    y_hat, z_hat = encoder.latents_of(picture(64, 64), None)
    assert (np.abs(y_hat).max(), np.abs(z_hat).max()) == (1023, 127)
    assert same(encoder.decoder.decode_latents(encoder.encode(picture(64, 64))), (y_hat, z_hat))
    monkeypatch.setattr(
        encoder.decoder, "run", lambda *given: {"y": np.full((1, 6, 4, 4), np.nan, np.float32)}
    )
    with pytest.raises(encoder.decoder.InputError, match="not finite"):
        encoder.encode(picture(64, 64))


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 64]))
def test_pictures_are_mirrored_as_in_the_toolkit(written, height, width, multiple):
    _, _, encoder = written(JOINT)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(encoder.padded(pixels, multiple), Padded(pixels, multiple).levels())


def test_what_is_no_picture_for_a_file_is_refused(written):
    _, _, encoder = written(JOINT)
    wrong = [np.zeros((4, 70000, 3), np.uint8), np.zeros((0, 5, 3), np.uint8), np.zeros((8, 8), np.uint8)]
    for pixels in (*wrong, np.zeros((8, 8, 3))):
        with pytest.raises(encoder.decoder.InputError, match=r"^[A-Z].*\.$"):
            encoder.encode(pixels)


def test_parts_of_a_description_that_do_not_fit_are_told(written, tmp_path):
    _, folder, encoder = written("joint-ar-integer-rates")
    changes = (
        lambda content: content["layouts"][0].pop("fingerprint"),
        lambda content: content["layouts"][0].update(fingerprint="nothing"),
        lambda content: content["rates"].pop("z_shift"),
        lambda content: content["rates"].update(lambdas=[]),
        lambda content: content["table"][0].pop(),
    )
    for number, change in enumerate(changes):
        copy = Path(shutil.copytree(folder, tmp_path / str(number)))
        content = json.loads((folder / "codec.json").read_text())
        del content["digest"]
        change(content)
        (copy / "codec.json").write_text(json.dumps(content))
        with pytest.raises(encoder.decoder.InputError, match=r"codec\.json is damaged"):
            encoder.encode(picture(64, 64), folder=copy)
    copy = Path(shutil.copytree(folder, tmp_path / "altered"))
    (copy / "g_a.onnx").write_bytes((folder / "g_a.onnx").read_bytes()[:-1])
    with pytest.raises(encoder.decoder.InputError, match=r"g_a\.onnx was altered or is damaged"):
        encoder.encode(picture(64, 64), folder=copy)


# Pictures


def saved(place: Path) -> dict[str, Path]:
    """Pictures of many kinds, by what they are."""
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 256, (9, 14, 3), np.uint8)
    deep = rng.integers(0, 65536, (9, 14)).astype(np.uint16)
    deep[2, 3:6] = 77
    rgb, grey = Image.fromarray(colour), Image.fromarray(colour[..., 0])
    alpha = rgb.copy()
    alpha.putalpha(grey)
    palette = rgb.quantize(7)
    files: dict[str, Path] = {}

    def save(what: str, image: Image.Image, suffix: str = ".png", **options: Any) -> None:
        files[what] = place / f"{what.replace(' ', '-')}{suffix}"
        image.save(files[what], **options)

    save("colour", rgb)
    save("grey", grey)
    save("grey and alpha", alpha.convert("LA"))
    save("alpha", alpha)
    save("bits", grey.convert("1"))
    save("palette", palette)
    save("palette with a clear colour", palette, transparency=3)
    save("grey with a clear level", grey, transparency=int(colour[0, 0, 0]))
    save("CMYK", rgb.convert("CMYK"), ".jpg")
    save("jpeg", rgb, ".jpg")
    save("webp", alpha, ".webp", lossless=True)
    save("two frames", rgb.quantize(9), ".gif", save_all=True, append_images=[palette])
    save("deep grey", Image.fromarray(deep))
    save("deep grey with a clear level", Image.fromarray(deep), transparency=77)
    save("deep grey TIFF", Image.fromarray(deep), ".tif")
    save("deep grey PGM", Image.fromarray(deep.astype(np.int32)), ".pgm")
    save("colour TIFF", rgb, ".tif")
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"turned {orientation}", rgb, (".jpg", ".png", ".tif")[orientation % 3], exif=exif)
        save(f"turned deep {orientation}", Image.fromarray(deep), exif=exif)
    return files


def test_pictures_are_read_as_the_toolkit_reads_them(written, tmp_path):
    _, _, encoder = written(JOINT)
    files = saved(tmp_path)
    for what, path in files.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the toolkit's, of several frames
            wanted = read_image(path)
        found = encoder.read_picture(path)
        assert found.dtype == np.uint8, what
        assert np.array_equal(found, wanted), what
    shapes = {encoder.read_picture(files[f"turned {n}"]).shape for n in range(10)}
    assert shapes == {(9, 14, 3), (14, 9, 3)}


def unreadable(place: Path) -> list[tuple[Path, str]]:
    """What is no picture for the encoder, and what is said of it."""
    rng = np.random.default_rng(1)
    values = rng.random((9, 14), np.float32)
    Image.fromarray(values).save(place / "float.tif")
    Image.fromarray((values * 1e6).astype(np.int32)).save(place / "signed.tif")
    inverted = Image.fromarray((values * 65535).astype(np.uint16))
    inverted.save(place / "inverted.tif", tiffinfo={262: 0})
    whole = place / "whole.png"
    Image.fromarray(rng.integers(0, 256, (90, 140, 3), np.uint8)).save(whole)
    (place / "short.png").write_bytes(whole.read_bytes()[:5000])
    (place / "text.png").write_text("no picture")
    return [
        (place / "float.tif", "floating-point"),
        (place / "signed.tif", "signed"),
        (place / "inverted.tif", "white is zero"),
        (place / "short.png", "truncated"),
        (place / "text.png", "no picture that Pillow can read"),
        (place / "none.png", "No such file"),
        (place, "Is a directory"),
    ]


# The command line


def ask(encoder: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of its command line."""
    monkeypatch.setattr(sys, "argv", ["encoder.py", *map(str, arguments)])
    try:
        encoder.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_process_needs_neither_torch_nor_this_toolkit(written, tmp_path):
    family, folder, encoder = written("joint-ar-integer-rates")
    pixels, photo, out = picture(70, 131), tmp_path / "a.png", tmp_path / "a.nic"
    Image.fromarray(pixels).save(photo)
    beside = "import pathlib, sys\nsys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))\n"
    command = [
        sys.executable,
        "-I",
        "-c",
        beside + WITHOUT_US,
        str(folder / "encoder.py"),
        str(photo),
        str(out),
    ]
    layout = list(family.layouts)[1]
    done = subprocess.run(
        [*command, "--quality", "17.3", "--layout", layout], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert out.read_bytes() == encoder.encode(pixels, 17.3, layout)
    assert Nic.read(out).step == 173
    again = subprocess.run(
        [sys.executable, folder / "encoder.py", photo, out], capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (2, "", 1)
    assert "already exists" in again.stderr
    assert sorted(tmp_path.iterdir()) == [out, photo]


def test_a_trained_codec_and_the_command_of_the_toolkit(chelsea, tmp_path, monkeypatch):
    """An exported folder, a photo in JPEG: the same file, which `nas decompress` reads."""
    codec = trained_codec(chelsea)
    save_codec(codec, tmp_path / "codec", {"kmac_px": {"decoder": 0.7}, "params": 1, "measured": {}})
    write_onnx(CodecFamily(codec), tmp_path / "codec" / "onnx")
    encoder, photo = encoder_at(tmp_path / "codec" / "onnx"), tmp_path / "photo.jpg"
    Image.fromarray(chelsea[:200, :250]).save(photo)
    nas.compress(tmp_path / "codec", photo, tmp_path / "ours.nic")
    assert ask(encoder, monkeypatch, photo, tmp_path / "theirs.nic") == 0
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("ours.nic", "theirs.nic"))
    assert abs(len(theirs) - len(ours)) <= 8
    mine, others = encoder.latents_of(read_image(photo), None), arrays(latents_of(codec, read_image(photo)))
    assert (ours == theirs) == same(mine, others)
    nas.decompress(tmp_path / "codec", tmp_path / "theirs.nic", tmp_path / "photo.png")
    assert nas.photos.images.psnr(read_image(tmp_path / "photo.png"), read_image(photo)) > 25


def test_wrong_input_is_refused_in_a_sentence_and_nothing_is_written(written, tmp_path, monkeypatch, capsys):
    _, _, encoder = written("joint-ar-integer-rates")
    place = tmp_path / "in"
    place.mkdir()
    wrong = [((path, tmp_path / "a.nic"), says) for path, says in unreadable(place)]
    photo = place / "whole.png"
    (place / "old.nic").write_bytes(b"old")
    wrong += [
        ((photo, tmp_path / "a.nic", "--quality", 101), "from 0 to 100, not 101"),
        ((photo, tmp_path / "a.nic", "--quality", "nan"), "from 0 to 100, not nan"),
        ((photo, tmp_path / "a.nic", "--layout", "spiral"), "no layout 'spiral': choose one of raster, "),
        ((photo, place / "old.nic"), "already exists"),
        ((photo, place, "--force"), "cannot be replaced"),
        ((photo, photo, "--force"), "cannot be replaced"),
        ((photo, tmp_path / "none" / "a.nic"), "no folder"),
    ]
    before = {path: path.read_bytes() for path in place.iterdir()}
    for arguments, says in wrong:
        assert ask(encoder, monkeypatch, *arguments) == 2
        told = capsys.readouterr().err
        assert says in told
        assert re.fullmatch(r"\S.*[^.]\.\n", told)
    one_rate = written(JOINT)[2]
    assert ask(one_rate, monkeypatch, photo, tmp_path / "a.nic", "--quality", 50) == 2
    assert "has one rate" in capsys.readouterr().err
    assert ask(encoder, monkeypatch, photo, tmp_path / "a.nic", "--quality", "best") == 2
    assert {path: path.read_bytes() for path in place.iterdir()} == before
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_is_replaced_where_that_is_asked_for_and_as_a_whole(written, tmp_path, monkeypatch, capsys):
    _, _, encoder = written(JOINT)
    photo, out, link = tmp_path / "a.png", tmp_path / "a.nic", tmp_path / "link.nic"
    Image.fromarray(picture(64, 64)).save(photo)
    out.write_bytes(b"old")
    link.symlink_to(out)

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert ask(encoder, patch, photo, out, "--force") == 2
    assert capsys.readouterr().err == f"Cannot write {out}: No space left on device.\n"
    assert out.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [out, photo, link]
    assert ask(encoder, monkeypatch, photo, link, "--force") == 0
    assert link.is_symlink()
    assert out.read_bytes() == encoder.encode(picture(64, 64))
    assert sorted(tmp_path.iterdir()) == [out, photo, link]


# docs/onnx.md


def test_the_page_encodes(written, tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "onnx.md").read_text(encoding="utf-8")
    _, _, encoder = written("joint-ar-integer-rates")
    Image.fromarray(picture(70, 131)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^python \S+/encoder.py (.*)$", page, re.MULTILINE)
    assert commands
    for command in commands:
        assert ask(encoder, monkeypatch, *command.replace("NAME", "raster").split()) == 0
    assert encoder.decoder.decode((tmp_path / "photo.nic").read_bytes()).shape == (70, 131, 3)
