"""Exported codecs: what is decoded is what was encoded, and damage is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import SMALL
from drawn import SEEDS, layouts
from families import exact_codec
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.coder import Decoder, Encoder
from nas.codec.folder import DESCRIPTION, WEIGHTS, load_codec, read_description, save_codec
from nas.codec.nic import FIXED, Nic, read_varint, write_varint
from nas.codec.standalone import MODEL
from nas.graph.entropy import Y_LIMIT, bits, from_grid, snap
from nas.graph.network import CodecNetwork
from nas.photos.grey import is_grey, to_grey
from nas.photos.tensors import pad, to_tensor
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

TINY = SearchSpace.load("joint-ar-tiny")
FACTS = {"lmbda": 0.013, "metric": "mse", "kmac_px": {"total": 1.0}, "stages": 2, "params": 1, "measured": {}}
LAYOUTS = list(TINY.layouts)


@pytest.fixture(scope="module")
def codecs(supernet) -> dict[str, Codec]:
    """One codec per layout of the tiny space, at different widths; the last in float64, the others exact."""
    levels = dict(zip(LAYOUTS, (0.0, 0.3, 0.5, 0.8, 1.0), strict=True))
    return {name: _codec(supernet, name, level, exact=name != "raster") for name, level in levels.items()}


def _codec(net, layout: str, level: float = 0.5, *, exact: bool = True) -> Codec:
    architecture = net.space.uniform(level, layout)
    codec = Codec(net.extract(architecture), architecture)
    return exact_codec(codec, to_tensor(picture("noise", 64, 128))) if exact else codec


@pytest.fixture(scope="module")
def saved(codecs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("codecs") / "one"
    save_codec(codecs["checkerboard"], path, FACTS)
    return path


@pytest.fixture(scope="module")
def nic(codecs, chelsea) -> bytes:
    return compress_image(codecs["checkerboard"], chelsea[:50, :70]).to_bytes()


def picture(kind: str, height: int, width: int, photo: np.ndarray | None = None) -> np.ndarray:
    if kind == "photo":
        assert photo is not None
        return np.ascontiguousarray(np.tile(photo, (2, 2, 1))[:height, :width])
    if kind == "noise":
        return np.random.default_rng(height * 1000 + width).integers(
            0, 256, (height, width, 3), dtype=np.uint8
        )
    if kind == "edges":
        board = (np.arange(height)[:, None] // 3 + np.arange(width) // 5) % 2 * 255
        return np.repeat(board[..., None], 3, 2).astype(np.uint8)
    return np.full((height, width, 3), {"black": 0, "white": 255}[kind], np.uint8)


def assert_round_trip(codec: Codec, x: torch.Tensor) -> torch.Tensor:
    y_hat, z_hat = codec.latents(x)
    coded = codec.compress(x)
    (strings,) = coded["strings"]
    assert len(strings) == len(x)
    assert coded["shape"] == z_hat.shape[-2:]
    y, z = codec.decode(strings, coded["shape"])
    assert torch.equal(y, y_hat)
    assert torch.equal(z, z_hat)
    x_hat = codec.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert x_hat.is_contiguous()
    assert x_hat.shape == x.shape
    assert torch.equal(x_hat, codec.synthesize(y_hat))
    return y_hat


# Decoded = encoded


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 128, 64), (2, 64, 192)])
def test_latents_survive(codecs, chelsea, layout, batch, height, width):
    x = torch.cat(
        [to_tensor(picture("photo", height, width, np.roll(chelsea, 20 * k, 0))) for k in range(batch)]
    )
    assert assert_round_trip(codecs[layout], x).any()


@given(st.integers(1, 192), st.integers(1, 192), st.sampled_from(LAYOUTS), st.data())
@settings(max_examples=12)
def test_pictures_of_any_size(codecs, chelsea, height, width, layout, data):
    kind = data.draw(st.sampled_from(["photo", "noise", "edges", "black", "white"]))
    assert_picture(codecs[layout], picture(kind, height, width, chelsea))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (65, 1), (1, 65), (37, 90), (64, 64), (137, 129)])
@pytest.mark.parametrize("layout", ["raster", "none"])
def test_pictures_of_odd_sizes(codecs, chelsea, layout, height, width):
    assert_picture(codecs[layout], picture("photo", height, width, chelsea))


def assert_picture(codec: Codec, pixels: np.ndarray) -> None:
    data = compress_image(codec, pixels).to_bytes()
    nic = Nic.parse(data)
    assert nic.to_bytes() == data
    assert (nic.height, nic.width) == pixels.shape[:2]
    assert nic.header_bytes <= 24
    assert len(data) == nic.header_bytes + len(nic.stream)
    found = decompress_image(codec, nic)
    assert found.shape == pixels.shape
    y_hat, _ = codec.latents(pad(to_tensor(pixels), 64))
    expected = codec.synthesize(y_hat)[0].permute(1, 2, 0).mul(255).round()[: nic.height, : nic.width]
    wanted = expected.to(torch.uint8).numpy()
    assert (found == (to_grey(wanted) if is_grey(pixels) else wanted)).all()


@pytest.mark.parametrize("kind", ["noise", "edges", "black", "white"])
@pytest.mark.parametrize("spread", [0.0, 10_000.0, 10_000_000.0])
def test_extreme_latents(make_supernet, kind, spread):
    """All zero, hundreds, and beyond the clamp."""
    net = make_supernet(TINY, seed=2, spread=spread)
    if spread == 0:
        net.g_a[-1].bias.data.zero_()
    for layout in ("raster", "channelwise-4"):
        y_hat = assert_round_trip(_codec(net, layout, 1.0), to_tensor(picture(kind, 64, 128)))
        largest = int(y_hat.abs().max())
        if spread == 0:
            assert largest == 0
        elif kind in ("noise", "edges"):
            assert largest > 100
            assert largest <= Y_LIMIT
            assert spread < 1e6 or largest == Y_LIMIT


@given(layouts(6), SEEDS)
@settings(max_examples=15)
def test_any_layout_decodes(make_supernet, layout, seed):
    space = SearchSpace.from_dict(SMALL, name="small").with_layouts({"drawn": layout})
    codec = _codec(make_supernet(space, seed=seed % 1000), "drawn", 1.0)
    assert_round_trip(codec, to_tensor(picture("noise", 64, 128)))


@given(st.sampled_from(LAYOUTS), SEEDS)
@settings(max_examples=10)
def test_any_integers_survive(codecs, layout, seed):
    """Latents that no picture gives, as far from their means as can be."""
    rng = torch.Generator().manual_seed(seed)
    y_hat = torch.randint(-Y_LIMIT, Y_LIMIT + 1, (1, 32, 4, 8), generator=rng).float()
    z_hat = torch.randint(-127, 128, (1, 16, 1, 2), generator=rng).float()
    y, z = codecs[layout].decode(codecs[layout].encode(y_hat, z_hat), (1, 2))
    assert torch.equal(y, y_hat)
    assert torch.equal(z, z_hat)


def test_the_wavefront_codes_what_a_serial_loop_does(codecs, chelsea):
    """One element after another, as raster is defined: the same parameters, integers, and size of stream."""
    codec = codecs["raster"]
    y_hat, z_hat = codec.latents(to_tensor(picture("photo", 64, 128, chelsea)))
    psi, context = codec.coding_h_s(z_hat.double()), codec.coding_context
    wave = torch.stack(snap(*context.one_pass(psi, y_hat.double())))[:, 0]
    model = copy.deepcopy(codec.network.context).double()
    height, width = y_hat.shape[-2:]
    limit = int(y_hat.abs().max())

    def parameters(known, row, column):
        """Scales and means at one position, from all that came before it."""
        near = F.pad(known, [2] * 4)[..., row : row + 5, column : column + 5]
        phi = F.conv2d(near, model.context_prediction.weight, model.context_prediction.bias)
        inputs = torch.cat([psi[..., row : row + 1, column : column + 1], phi], 1)
        return torch.stack(snap(*model.entropy_parameters(inputs).chunk(2, 1)))[:, 0, :, 0, 0]

    encoder, known = Encoder(), torch.zeros_like(y_hat).double()
    for row, column in np.ndindex(height, width):
        scales, means = found = parameters(known, row, column).detach()
        assert torch.equal(found, wave[..., row, column])
        here = y_hat[0, :, row, column]
        encoder.gaussian(here.numpy().astype(np.int32), scales.numpy(), means.numpy(), limit)
        known[0, :, row, column] = here.double()
    serial = encoder.finish()
    decoder, known = Decoder(serial), torch.zeros_like(known)
    for row, column in np.ndindex(height, width):
        scales, means = parameters(known, row, column).detach()
        known[0, :, row, column] = torch.from_numpy(decoder.gaussian(scales.numpy(), means.numpy(), limit))
    (string,) = codec.encode(y_hat, z_hat)
    assert torch.equal(known.float(), y_hat)
    assert torch.equal(known.float(), codec.decode([string], codec.shape(64, 128))[0])
    assert np.any(y_hat.numpy())
    hyper = Encoder()
    steps = z_hat[0].flatten(1).numpy().astype(np.int32)
    hyper.under_table(steps, codec.table.numpy(), int(np.abs(steps).max()))
    assert abs(len(string) - len(hyper.finish()) - len(serial)) <= 12  # words that end a stream


def test_images_of_a_batch_are_coded_apart(codecs, chelsea):
    codec = codecs["raster-2x2"]
    x = torch.cat([to_tensor(np.roll(chelsea, 30 * k, 1)[:128, :64]) for k in range(3)])
    together = codec.compress(x)["strings"][0]
    assert together == [codec.compress(image[None])["strings"][0][0] for image in x]


@pytest.mark.slow
def test_another_process_decodes_the_same(codecs, chelsea, tmp_path):
    """With one thread and with two, from the files alone."""
    expected = {}
    for layout, codec in codecs.items():
        save_codec(codec, tmp_path / layout, FACTS)
        pixels = picture("photo", 100, 150, chelsea)
        (tmp_path / layout / "photo.nic").write_bytes(compress_image(codec, pixels).to_bytes())
        latents = codec.latents(pad(to_tensor(pixels), 64))
        expected[layout] = [
            hashlib.sha256(part.numpy().astype(np.int32).tobytes()).hexdigest() for part in latents
        ]
    script = """
import hashlib, json, sys
from pathlib import Path
import numpy as np, torch
from nas.codec.bitstream import Nic
from nas.codec.folder import load_codec
found = {}
for threads in (1, 2):
    torch.set_num_threads(threads)
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        codec, nic = load_codec(folder), Nic.read(folder / "photo.nic")
        assert (codec.path_identity, codec.fingerprint) == (nic.path_identity, nic.fingerprint)
        latents = codec.decode([nic.stream], (2, 3))
        hashes = [hashlib.sha256(part.numpy().astype(np.int32).tobytes()).hexdigest() for part in latents]
        found.setdefault(folder.name, []).append(hashes)
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        timeout=120,
    )
    assert json.loads(done.stdout) == {layout: [hashes, hashes] for layout, hashes in expected.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_as_long_as_estimated(make_supernet, layout):
    """Latents drawn from the model itself, so that its probabilities are right: no training needed."""
    net = make_supernet(TINY, seed=8)
    with torch.no_grad():
        last = net.context.entropy_parameters[4]
        last.weight.mul_(0.2)
        last.bias[:32] += torch.linspace(0.3, 4, 32)
    codec = _codec(net, layout, 1.0)
    rng = torch.Generator().manual_seed(3)
    z = (
        torch.multinomial(codec.table.double(), 24, replacement=True, generator=rng)
        - codec.table.shape[1] // 2
    )
    z_hat = z.double().reshape(1, 16, 4, 6)

    def draw(work, parameters):
        real = (from_grid(*codec.coding_context.grid(*pair)) for pair in parameters)
        return [torch.normal(means, scales, generator=rng).round() for scales, means in real]

    y_hat = codec.coding_context.by_stages(codec.psi(z_hat), draw)
    assert 3 < y_hat.abs().max() < Y_LIMIT
    ((string,), network) = codec.encode(y_hat, z_hat), codec.network
    with torch.no_grad():
        scales, means = network.context(network.h_s(z_hat.float()), y_hat.float(), codec.layout)
        likelihoods = (
            network.gaussian.likelihood(y_hat.float(), scales, means),
            network.prior.likelihood(z_hat.float()),
        )
    estimate = sum(float(bits(likelihood).sum()) for likelihood in likelihoods) / 8
    assert estimate > 3000
    assert len(string) == pytest.approx(estimate, rel=0.005, abs=16)


# The network


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_codec_estimates_as_the_supernet_does(supernet, codecs, chelsea, layout):
    codec = codecs[layout]
    x = to_tensor(chelsea[:128, :64])
    with torch.no_grad():
        expected = supernet(x, supernet.activate(codec.architecture), coded=True)
        found = codec(x)
    assert set(found) == {"x_hat", "likelihoods"}
    assert set(found["likelihoods"]) == {"y", "z"}
    torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["likelihoods"]["z"], expected["likelihoods"]["z"], rtol=1e-4, atol=1e-5)


def test_coding_leaves_the_state_as_it_was(codecs, chelsea):
    codec = codecs["raster"]
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    fingerprint = codec.fingerprint
    compress_image(codec, chelsea)
    codec(to_tensor(chelsea[:64, :64]))
    codec.update()
    assert codec.fingerprint == fingerprint
    assert list(codec.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())


def test_identities_follow_what_they_name(supernet, codecs):
    fingerprints = {codec.fingerprint for codec in codecs.values()}
    paths = {codec.path_identity for codec in codecs.values()}
    assert len(fingerprints) == len(paths) == len(codecs)
    same = _codec(supernet, "checkerboard", 0.3)
    assert same.fingerprint == codecs["checkerboard"].fingerprint
    with torch.no_grad():  # another picture from the same stream: the same entropy path
        same.network.g_s[-1].bias.add_(0.1)
    same.update()
    assert same.path_identity == codecs["checkerboard"].path_identity
    assert same.fingerprint != codecs["checkerboard"].fingerprint
    same.integers.h_s["0"].bias.add_(1)
    same.update()
    assert same.path_identity != codecs["checkerboard"].path_identity


def test_another_decoder_of_the_family_reads_the_stream(supernet, codecs, chelsea):
    """Decoders may choose their own g_s; here one with other weights."""
    other = _codec(supernet, "checkerboard", 0.3)
    with torch.no_grad():
        other.network.g_s[-1].bias.add_(0.2)
    other.update()
    nic = compress_image(codecs["checkerboard"], chelsea)
    bright, plain = decompress_image(other, nic), decompress_image(codecs["checkerboard"], nic)
    assert bright.mean() > plain.mean()


# Files


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_saved_codec_is_the_same_codec(codecs, chelsea, tmp_path, layout):
    codec = codecs[layout]
    content = save_codec(codec, tmp_path / "codec", FACTS)
    again = load_codec(tmp_path / "codec")
    assert {path.name for path in (tmp_path / "codec").iterdir()} == {WEIGHTS, DESCRIPTION, MODEL}
    assert read_description(tmp_path / "codec") == content
    assert content["arch"] == codec.architecture.key == again.architecture.key
    assert (again.fingerprint, again.path_identity) == (codec.fingerprint, codec.path_identity)
    assert content["fingerprint"] == codec.fingerprint
    x = to_tensor(chelsea[:64, :128])
    assert torch.equal(again(x)["x_hat"], codec(x)["x_hat"])
    assert again.compress(x) == codec.compress(x)


def test_a_codec_is_a_search_space_of_one(saved, codecs):
    space = SearchSpace.load(saved / DESCRIPTION)
    architecture = codecs["checkerboard"].architecture
    assert space.size == 1
    assert space.widest() == architecture
    state = CodecNetwork(space).state_dict()
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in codecs["checkerboard"].network.state_dict().items()
    }


def test_every_damaged_byte_is_refused(nic):
    places = sorted({*range(24), *range(24, len(nic), max(1, len(nic) // 60)), len(nic) - 1})
    for place in places:
        for flip in (1, 0x80, 0xFF):
            bad = bytearray(nic)
            bad[place] ^= flip
            with pytest.raises(InputError, match=r"a\.nic (is|has)"):
                Nic.parse(bytes(bad), source="a.nic")


def test_every_truncation_is_refused(nic):
    for size in sorted({*range(40), *range(40, len(nic), 37), len(nic) - 1}):
        with pytest.raises(InputError, match=r"a\.nic (is|has)"):
            Nic.parse(nic[:size], source="a.nic")
    with pytest.raises(InputError):
        Nic.parse(nic + b"\0")


def test_files_that_are_no_nic(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read .*absent"):
        Nic.read(tmp_path / "absent.nic")
    with pytest.raises(InputError, match="Cannot read"):
        Nic.read(tmp_path)
    (tmp_path / "photo.nic").write_bytes(b"\x89PNG....")
    with pytest.raises(InputError, match=r"photo\.nic is not a \.nic file"):
        Nic.read(tmp_path / "photo.nic")


def test_another_codecs_file_is_refused(codecs, nic):
    for layout, codec in codecs.items():
        if layout != "checkerboard":
            with pytest.raises(InputError, match=codec.path_identity):
                decompress_image(codec, Nic.parse(nic))


@pytest.mark.parametrize("side", [63, 1, 65])
def test_compress_needs_aligned_sides(codecs, side):
    with pytest.raises(InputError, match="multiples of 64"):
        codecs["none"].compress(torch.zeros(1, 3, 64, side))


def test_altered_weights_are_refused(saved, tmp_path):
    data = (saved / WEIGHTS).read_bytes()
    description = (saved / DESCRIPTION).read_text()
    (tmp_path / DESCRIPTION).write_text(description)
    header = int.from_bytes(data[:8], "little")
    places = [0, 3, 8, 9, 20, header // 2, header, header + 8, header + 100, len(data) // 2, len(data) - 1]
    for place in places:
        bad = bytearray(data)
        bad[place] ^= 0xFF
        (tmp_path / WEIGHTS).write_bytes(bad)
        with pytest.raises(InputError, match=r"damaged|altered|does not fit"):
            load_codec(tmp_path)
    for size in (0, 4, 100, header + 8, len(data) - 1):
        (tmp_path / WEIGHTS).write_bytes(data[:size])
        with pytest.raises(InputError, match="damaged"):
            load_codec(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(InputError, match="missing"):
        load_codec(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "nas-codec 1"},
        {"format": None},
        {"arch": "layout=none"},
        {"arch": None},
        {"decoders": [{"arch": "x", "widths": {"g_a": 5}}]},
        {"family": "joint-at"},
        {"latents": {"y": 33, "z": 16}},
        {"window": 3},
        {"widths": {}},
        {"layout": {"name": "checkerboard", "groups": [32], "slope": [0, 0], "tile": [[[1, 0], [0, 1]]]}},
        {"layout": None},
        {"fingerprint": "00000000"},
        {"fingerprint": None},
    ],
    ids=lambda change: "-".join(map(str, change)),
)
def test_an_altered_description_is_refused(saved, tmp_path, change):
    content = yaml.safe_load((saved / DESCRIPTION).read_text()) | change
    content = {key: value for key, value in content.items() if value is not None}
    (tmp_path / DESCRIPTION).write_text(yaml.safe_dump(content))
    (tmp_path / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes())
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        load_codec(tmp_path)


def test_the_weights_of_another_codec_are_refused(supernet, saved, tmp_path):
    save_codec(_codec(supernet, "checkerboard", 0.8), tmp_path / "wide", FACTS)
    (tmp_path / "wide" / DESCRIPTION).write_text((saved / DESCRIPTION).read_text())
    with pytest.raises(InputError, match="damaged"):
        load_codec(tmp_path / "wide")


def test_folders_that_are_no_codec(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="is not a codec"):
            load_codec(path)


# Numbers of variable length


@given(st.integers(0, 2**35 - 1), st.binary(max_size=4))
def test_numbers_survive(value, rest):
    data = write_varint(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert read_varint(data + rest) == (value, rest)
    for size in range(len(data)):
        with pytest.raises(InputError, match="does not end"):
            read_varint(data[:size])


def test_the_header_of_a_photo_is_small(nic):
    assert Nic.parse(nic).header_bytes == FIXED + 2
