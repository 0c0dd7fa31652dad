"""The exact entropy path: integers, the same whatever computes them."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from conftest import SMALL
from drawn import SEEDS, layouts, samples
from families import INTEGER, INTEGER_NAMES, TRAINED, exact_codec, image, net_of, others_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas.codec.codec import Codec
from nas.codec.folder import WEIGHTS, load_codec, save_codec
from nas.graph import staged
from nas.graph.affine import EXACT, SLOPE_PARTS, IntegerAffine
from nas.graph.entropy import SCALE_BOUNDS, Y_LIMIT, Z_LIMIT, levels_of, levels_of_whole
from nas.graph.integers import CONTEXT_LIMIT, IntegerConv, IntegerDeconv, IntegerLayer
from nas.graph.layers.convolution import ConvTranspose2d
from nas.graph.network import Supernet
from nas.graph.staged import StagedContext
from nas.photos.images import bundled
from nas.photos.tensors import pad, to_tensor
from nas.profiling.audit import counted_by_torch, traced_edges
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.weights.checkpoint import Checkpoint, load_weights

WITH_Z = [name for name in INTEGER_NAMES if INTEGER[name].family.has_z]
# One of each kind of entropy path, for what takes seconds with a family
KINDS = ("mean-scale-hyperprior-integer", "joint-ar-integer", "tables-integer")
FACTS = {"lmbda": 0.013, "metric": "mse", "kmac_px": {"total": 1.0}, "stages": 2, "params": 1, "measured": {}}
TINY = SearchSpace.load("joint-ar-tiny")


@cache
def both(name: str, architecture: Architecture | None = None) -> tuple[Codec, Codec]:
    """A codec of a small space in float64, and in integer arithmetic."""
    space = INTEGER[name]
    architecture = architecture or space.widest()
    floating = Codec(net_of(name).extract(architecture), architecture)
    return floating, exact_codec(floating, image(0), image(1))


@pytest.fixture(scope="module")
def tiny(supernet) -> dict[str, Codec]:
    found = {}
    for name in TINY.layouts:
        architecture = TINY.uniform(0.5, name)
        codec = Codec(supernet.extract(architecture), architecture)
        found[name] = exact_codec(
            codec, torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
        )
    return found


def drawn_latents(
    codec: Codec, seed: int, batch: int = 1, rows: int = 2, columns: int = 3
) -> tuple[Tensor, Tensor]:
    """Integers over the whole of their ranges, most of them small."""
    rng = torch.Generator().manual_seed(seed)
    space = codec.network.space

    def draw(channels: int, height: int, width: int, limit: int) -> Tensor:
        sizes = torch.rand(batch, channels, height, width, generator=rng) ** 8 * (limit + 0.4)
        return (sizes * torch.randint(-1, 2, sizes.shape, generator=rng)).round()

    return (
        draw(space.y_channels, 4 * rows, 4 * columns, Y_LIMIT),
        draw(space.z_channels, rows, columns, Z_LIMIT),
    )


def parameters(codec: Codec, seed: int = 3, **sizes: int) -> Tensor:
    y_hat, z_hat = drawn_latents(codec, seed, **sizes)
    levels, steps = codec.parameters_of_y(y_hat, z_hat)
    return torch.stack([levels.long(), steps.long()])


# It decodes


@pytest.mark.parametrize("name", WITH_Z)
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=3)
def test_every_family_decodes_what_it_encoded(name, data, seed):
    architecture = data.draw(samples(INTEGER[name]))
    if not INTEGER[name].only(architecture).candidates("hyperprior")[0]:
        return  # no z: nothing but a table
    _, codec = both(name, architecture)
    latents = drawn_latents(codec, seed, batch=2)
    found = codec.decode(codec.encode(*latents), (2, 3))
    assert all(torch.equal(a, b) for a, b in zip(latents, found, strict=True))


@given(layouts(6), SEEDS)
@settings(max_examples=12)
def test_any_layout_decodes(make_supernet, layout, seed):
    space = SearchSpace.from_dict(SMALL, name="small").with_layouts({"drawn": layout})
    net = make_supernet(space, seed=seed % 100)
    architecture = space.under("drawn", space.widest())
    codec = exact_codec(Codec(net.extract(architecture), architecture), torch.rand(1, 3, 64, 64))
    latents = drawn_latents(codec, seed)
    found = codec.decode(codec.encode(*latents), (2, 3))
    assert all(torch.equal(a, b) for a, b in zip(latents, found, strict=True))


# It is exact


@pytest.mark.parametrize("name", WITH_Z)
def test_no_sum_can_leave_what_float32_holds(name):
    integers = both(name)[1].integers
    sums = integers.largest_sums()
    assert len(sums) == len(integers.layers)
    assert all(EXACT / 8 < each < EXACT for each in sums)  # and the room is used


@given(
    st.integers(1, 40), st.integers(1, 6), st.integers(1, 1023), st.sampled_from([0, 41, SLOPE_PARTS]), SEEDS
)
def test_a_layer_is_exact_at_its_limits(inputs, outputs, limit, slope, seed):
    """Whatever it reads within its limits: as with Python's integers."""
    rng = random.Random(seed)
    layer = IntegerLayer(outputs, inputs)
    most = min(2**15 - 1, (EXACT - 2**12) // (inputs * limit))
    weight = torch.tensor(
        [[rng.choice((-most, most, rng.randint(-most, most))) for _ in range(inputs)] for _ in range(outputs)]
    )
    layer.weight.copy_(weight)
    layer.bias.copy_(torch.tensor([rng.randint(-(2**11), 2**11) for _ in range(outputs)]))
    layer.shift.copy_(torch.tensor([rng.randint(-2, 14) for _ in range(outputs)]))
    layer.slope.fill_(slope)
    layer.limit.fill_(1023)
    assert int(layer.largest_sums(torch.tensor(limit)).max()) < EXACT
    columns = torch.tensor(
        [[rng.choice((-limit, limit, rng.randint(-limit, limit))) for _ in range(inputs)] for _ in range(4)]
    )
    found = layer.affine()(columns.float())
    for row, out in zip(columns.tolist(), found.tolist(), strict=True):
        for k in range(outputs):
            total = sum(w * v for w, v in zip(weight[k].tolist(), row, strict=True)) + int(layer.bias[k])
            shift = int(layer.shift[k])
            value = total >> shift if shift >= 0 else total << -shift
            if value < 0:
                value = (max(value, -(2**18)) * slope + SLOPE_PARTS // 2) // SLOPE_PARTS
            assert out[k] == max(-1023, min(1023, value))


def test_beyond_the_limit_sums_go_wrong():
    """Which is why weights beyond it are refused."""
    weight, columns = torch.full((1, 4001), 8191.0), torch.full((1, 4001), 1023.0)
    weight[0, ::2] -= 2
    total = int((weight.long() * columns.long()).sum())
    affine = IntegerAffine(weight, torch.zeros(1), torch.ones(1), SLOPE_PARTS, 2**40)
    assert affine(columns).item() != total


@pytest.mark.parametrize("layout", list(TINY.layouts))
def test_nothing_changes_the_numbers(tiny, layout, monkeypatch):
    codec = tiny[layout]
    expected = parameters(codec, batch=3)
    assert len(expected[0].unique()) > 5
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.equal(parameters(codec, batch=3), expected)
    finally:
        torch.set_num_threads(threads)
    y_hat, z_hat = drawn_latents(codec, 3, batch=3)
    for k in range(3):  # other shapes of arrays
        levels, steps = codec.parameters_of_y(y_hat[k : k + 1], z_hat[k : k + 1])
        assert torch.equal(torch.stack([levels[0].long(), steps[0].long()]), expected[:, k])
    last = (y_hat.to(memory_format=torch.channels_last), z_hat.to(memory_format=torch.channels_last))
    assert torch.equal(torch.stack([part.long() for part in codec.parameters_of_y(*last)]), expected)
    with warnings.catch_warnings(action="ignore"):  # torch speaks of other devices here
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(parameters(codec, batch=3), expected)
        torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(parameters(codec, batch=3), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(staged, "SLICE", 7)  # sums over other pieces
    assert torch.equal(parameters(codec, batch=3), expected)
    strings = codec.encode(y_hat, z_hat)
    monkeypatch.undo()
    assert all(
        torch.equal(a, b)
        for a, b in zip(codec.decode(codec.encode(y_hat, z_hat), (2, 3)), (y_hat, z_hat), strict=True)
    )
    assert len(strings) == 3


@pytest.mark.parametrize("layout", list(TINY.layouts))
def test_float64_finds_the_same(tiny, layout):
    """The same integers, held in float64."""
    codec = tiny[layout]
    y_hat, z_hat = drawn_latents(codec, 5)
    products, h_s = codec.integers.products(), codec.integers.hyper()
    wide = StagedContext(
        type(products)(
            _wide(products.context_prediction),
            tuple(_wide(each) for each in products.entropy_parameters),
            products.grid,
            products.y_limit,
        ),
        codec.layout,
    )
    for module in h_s:
        for phase in getattr(module, "phases", []):
            object.__setattr__(phase[3], "weight", phase[3].weight.double())
            object.__setattr__(phase[3], "bias", phase[3].bias.double())
            object.__setattr__(phase[3], "step", phase[3].step.double())
        if isinstance(module, IntegerConv):
            module.affine = _wide(module.affine)
    psi = h_s(z_hat.double())
    assert psi.dtype == torch.float64
    assert torch.equal(psi.float(), codec.psi(z_hat))
    found = wide.grid(*wide.one_pass(psi, y_hat.double()))
    for a, b in zip(found, codec.parameters_of_y(y_hat, z_hat), strict=True):
        assert torch.equal(a.long(), b.long())


def _wide(affine: IntegerAffine) -> IntegerAffine:
    return IntegerAffine(
        affine.weight.double(), affine.bias.double(), affine.step.double(), affine.slope, affine.limit
    )


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (5, 2), (3, 2), (5, 3)])
def test_gathered_columns_are_torchs_convolutions(kernel, stride):
    rng = torch.Generator().manual_seed(kernel + stride)
    layer = IntegerLayer(6, 4, kernel, kernel)
    layer.weight.copy_(torch.randint(-9, 10, layer.weight.shape, generator=rng))
    layer.bias.copy_(torch.randint(-9, 10, layer.bias.shape, generator=rng))
    layer.limit.fill_(2**20)
    x = torch.randint(-9, 10, (2, 4, 5, 7), generator=rng).float()
    with torch.no_grad():
        if stride == 1:
            theirs = torch.nn.Conv2d(4, 6, kernel, padding=kernel // 2)
            theirs.weight.copy_(layer.weight)
            ours: torch.nn.Module = IntegerConv(layer.affine())
        else:
            theirs = ConvTranspose2d(4, 6, kernel, stride)
            theirs.weight.copy_(layer.weight.transpose(0, 1))
            ours = IntegerDeconv(layer.affine(), stride)
        theirs.bias.copy_(layer.bias)
        assert torch.equal(ours(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), theirs(x).round())


# It is near the network


@pytest.mark.parametrize("name", WITH_Z)
def test_its_parameters_are_the_networks(name):
    """Up to rounding: most scales on the same level or the next, means within a small share of a unit."""
    floating, integer = both(name)
    y_hat, z_hat = floating.latents(image(7))
    y_hat = y_hat.clamp(-CONTEXT_LIMIT, CONTEXT_LIMIT)
    theirs, ours = (codec.parameters_of_y(y_hat, z_hat) for codec in (floating, integer))
    far = (theirs[0] - ours[0]).abs()
    assert (far <= 1).float().mean() > 0.85
    assert ((theirs[1] - ours[1]).abs() / (64 + theirs[1].abs())).quantile(0.9) < 0.05


def test_it_costs_next_to_nothing_in_rate():
    """Of a trained supernet, on a photo that the numbers were not chosen on."""
    net = Supernet(TINY)
    load_weights(net, Checkpoint.read(TRAINED).tensors, source="zoo:joint-ar-tiny")
    photos = bundled()
    chosen, other = (
        pad(to_tensor(photos[part][0].pixels[:256, :384]), 64) for part in ("calibration", "test")
    )
    for layout in ("raster-2x2", "channelwise-4"):
        architecture = TINY.uniform(0.5, layout)
        floating = Codec(net.extract(architecture), architecture)
        integer = exact_codec(floating, chosen)
        latents = floating.latents(other)
        theirs, ours = (len(codec.encode(*latents)[0]) for codec in (floating, integer))
        assert abs(ours / theirs - 1) < 0.005


# MACs


@pytest.mark.parametrize("name", others_slow(WITH_Z, KINDS))
def test_it_runs_as_many_macs(name):
    floating, integer = both(name)
    assert traced_edges(integer, 60, 50) == traced_edges(floating, 60, 50)
    assert counted_by_torch(integer, 60, 50) == counted_by_torch(floating, 60, 50)


# On disk


def test_a_saved_exact_codec_is_the_same_codec(tiny, tmp_path):
    content = save_codec(tiny["raster"], tmp_path / "codec", FACTS)
    assert content["arithmetic"] == "exact"
    loaded = load_codec(tmp_path / "codec")
    assert loaded.exact
    assert (loaded.fingerprint, loaded.path_identity) == (
        tiny["raster"].fingerprint,
        tiny["raster"].path_identity,
    )
    assert torch.equal(parameters(loaded), parameters(tiny["raster"]))


@pytest.mark.parametrize("change", ["no vector", "other stream", "other numbers", "too large"])
def test_a_machine_that_differs_is_refused(tiny, tmp_path, change, monkeypatch):
    from safetensors.torch import load_file, save_file

    save_codec(tiny["checkerboard"], tmp_path / "codec", FACTS)
    weights = tmp_path / "codec" / WEIGHTS
    tensors = load_file(weights)
    expected = {
        "no vector": "lacks the check",
        "other stream": "computes other numbers",
        "other numbers": "altered",
        "too large": "too large to be exact",
    }[change]
    if change == "no vector":
        tensors = {name: value for name, value in tensors.items() if not name.startswith("check.")}
    elif change == "other stream":
        tensors["check.stream.checkerboard"][9] ^= 1
    elif change == "other numbers":
        tensors["integers.entropy_parameters.2.bias"][0] += 64
    else:
        tensors["integers.h_s.0.weight"].fill_(2**15 - 1)
    save_file(tensors, weights)
    with pytest.raises(InputError, match=expected):
        load_codec(tmp_path / "codec")


def test_a_machine_whose_sums_differ_is_refused(tiny, tmp_path, monkeypatch):
    """As if its products were computed in half precision."""
    save_codec(tiny["checkerboard"], tmp_path / "codec", FACTS)
    finish = IntegerAffine.finish
    monkeypatch.setattr(IntegerAffine, "finish", lambda self, sums: finish(self, sums.bfloat16().float()))
    with pytest.raises(InputError, match="computes other numbers than"):
        load_codec(tmp_path / "codec")


# Another process


@pytest.mark.slow
def test_another_process_decodes_it(tiny, chelsea, tmp_path):
    """With another number of threads, without oneDNN and on other instructions."""
    from nas.codec.bitstream import compress_image, decompress_image

    codec = tiny["raster"]
    save_codec(codec, tmp_path / "codec", FACTS)
    nic = compress_image(codec, chelsea[:130, :190])
    (tmp_path / "a.nic").write_bytes(nic.to_bytes())
    code = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[1]));"
        "torch.backends.mkldnn.enabled = sys.argv[1] == '1';"
        "from nas import load_codec; from nas.codec.bitstream import *; from pathlib import Path;"
        "import numpy as np; c = load_codec(sys.argv[2]); n = Nic.read(Path(sys.argv[3]));"
        "np.save(sys.argv[4], c.decode([n.stream], c.shape(n.height, n.width))[0].numpy())"
    )
    expected = codec.decode([nic.stream], codec.shape(nic.height, nic.width))[0].numpy()
    for threads, instructions in ((1, "AVX2"), (2, "SSE4_2"), (2, "AVX512")):
        out = tmp_path / f"{instructions}.npy"
        environment = {
            "MKL_ENABLE_INSTRUCTIONS": instructions,
            "ONEDNN_MAX_CPU_ISA": instructions.replace("SSE4_2", "SSE41"),
        }
        arguments = [str(threads), str(tmp_path / "codec"), str(tmp_path / "a.nic"), str(out)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=_with(environment))
        assert np.array_equal(np.load(out), expected)
    assert decompress_image(codec, nic).shape == (130, 190, 3)


def _with(more: dict[str, str]) -> dict[str, str]:
    import os

    return {**os.environ, **more}


# Another runtime


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["raster-2x2", "channelwise-4"])
def test_onnxruntime_finds_the_same(tiny, layout, tmp_path):
    """The whole path, exported as it stands, on another runtime's kernels."""
    onnxruntime = pytest.importorskip("onnxruntime")
    codec = tiny[layout]

    class EntropyPath(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h_s, self.context = codec.coding_h_s, codec.coding_context

        def forward(self, y_hat: Tensor, z_hat: Tensor) -> tuple[Tensor, Tensor]:
            scales, means = self.context.one_pass(self.h_s(z_hat), y_hat)
            return scales, means

    y_hat, z_hat = drawn_latents(codec, 11)
    with torch.no_grad():
        torch.onnx.export(EntropyPath(), (y_hat, z_hat), tmp_path / "path.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "path.onnx", providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    found = session.run(None, dict(zip(names, (y_hat.numpy(), z_hat.numpy()), strict=True)))
    grid = codec.coding_context.grid(*(torch.from_numpy(part) for part in found))
    for a, b in zip(grid, codec.parameters_of_y(y_hat, z_hat), strict=True):
        assert torch.equal(a.long(), b.long())


def test_levels_by_a_table_are_those_by_comparison():
    """Of every scale in whole units, and of some that no layer gives."""
    most = int(SCALE_BOUNDS[-1])
    units = torch.arange(-5.0, most + 1000)
    for scales in (units, torch.tensor([-(2.0**24), 2.0**24]), units[:60].view(3, 4, 5).transpose(1, 2)):
        levels = levels_of_whole(scales)
        assert levels.dtype == torch.int32
        assert torch.equal(levels, levels_of(scales))
