"""A codec without this toolkit: its model.py, CompressAI's helpers, and weights that others have trained."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import RATED, SPACES, exact_codec, image, net_of
from modules import module_at
from safetensors.torch import save_file

import nas
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import load_codec, save_codec
from nas.photos.images import read_image
from nas.support.errors import InputError
from nas.verbs.renew import renew_codec

FIXED = {name: space for name, space in (SPACES | RATED).items() if space.fixed_latents}
FACTS = {"lmbda": 0.01, "metric": "mse", "stages": 1}


def saved(name: str, folder: Path, layout: str | None = None, level: float = 1) -> Codec:
    space = FIXED[name]
    architecture = space.uniform(level, layout)
    codec = Codec(net_of(name).extract(architecture), architecture)
    save_codec(codec, folder, FACTS)
    return codec


@pytest.mark.parametrize("name", FIXED)
def test_model_py_is_the_network(name: str, tmp_path: Path) -> None:
    """In double precision, so that nothing falls on either side of a half."""
    for layout in FIXED[name].layouts:
        for level in (0, 1):
            codec = saved(name, tmp_path / f"{layout}-{level}", layout, level)
            model = module_at(tmp_path / f"{layout}-{level}" / "model.py").load().double()
            x = image(3)[:, :, :128].double()
            found, expected = model(x), codec.network.double()(x, codec.layout)
            assert_same_outputs(found, expected)
            for lmbda in (0.001, 0.002, 0.0033, 0.01, 0.02, 0.05, 0.06) if codec.rates else ():
                assert_same_outputs(model(x, lmbda=lmbda), codec.network(x, codec.layout, lmbda=lmbda))
            codec.network.float()


def assert_same_outputs(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found["likelihoods"]) == set(expected["likelihoods"])
    torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=1e-5, atol=1e-6)
    for part, values in expected["likelihoods"].items():
        torch.testing.assert_close(found["likelihoods"][part], values, rtol=1e-4, atol=1e-7)


def test_model_py_trains(tmp_path: Path) -> None:
    """Every weight has a gradient, as in the network itself."""
    codec = saved("joint-ar-integer", tmp_path, "uneven")
    model, x = module_at(tmp_path / "model.py").load(), image(1)

    def gradients(
        found: dict[str, Any], parameters: dict[str, torch.nn.Parameter]
    ) -> dict[str, torch.Tensor]:
        bits = sum(-part.log2().sum() for part in found["likelihoods"].values())
        loss = bits / x[0, 0].numel() + 10 * (found["x_hat"] - x).square().mean()
        used = {k: p for k, p in parameters.items() if p.requires_grad and p.numel()}
        return dict(zip(used, torch.autograd.grad(loss, list(used.values())), strict=True))

    ours = gradients(model.double()(x.double()), dict(model.named_parameters()))
    network = codec.network.requires_grad_(True).double()
    network.prior.quantiles.requires_grad_(False)
    expected = gradients(network(x.double(), codec.layout), dict(network.named_parameters()))
    network.requires_grad_(False).float()
    assert set(ours) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6 * float(value.abs().max()))
    noisy = model(x.double(), noise=True)["likelihoods"]["y"]
    assert not torch.equal(noisy, model(x.double(), noise=True)["likelihoods"]["y"])


@pytest.mark.slow  # a process of its own
def test_model_py_needs_torch_and_safetensors_alone(tmp_path: Path) -> None:
    saved("joint-ar-integer", tmp_path / "codec")
    script = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('nas', 'compressai', 'constriction', 'yaml', 'pydantic'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import torch; from model import load\n"
        "out = load()(torch.zeros(1, 3, 64, 64))\n"
        "print(tuple(out['x_hat'].shape))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "codec")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(1, 3, 64, 64)"


# And back


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exact codec."""
    folder = tmp_path_factory.mktemp("codecs") / "source"
    space = SPACES["joint-ar-integer"]
    architecture = space.uniform(1)
    codec = Codec(net_of("joint-ar-integer").extract(architecture), architecture)
    save_codec(exact_codec(codec, image(0)), folder, FACTS)
    return folder


@pytest.mark.parametrize("edge", ["g_s", "h_s"])
def test_weights_that_others_trained(source: Path, photo_folder: Path, tmp_path: Path, edge: str) -> None:
    photo = read_image(next(iter(sorted(photo_folder.glob("*.png")))))
    before, model = load_codec(source), module_at(source / "model.py").load()
    with torch.no_grad():
        model.get_submodule(edge)[0].weight.mul_(1.5)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    content = nas.renew_codec(source, tmp_path / "mine.safetensors", str(photo_folder), tmp_path / "new")
    after = load_codec(tmp_path / "new")
    assert after.exact
    assert torch.equal(after.network.get_submodule(edge)[0].weight, model.get_submodule(edge)[0].weight)
    assert content["measured"]["photos"] == 1
    assert content["lmbda"] == FACTS["lmbda"]
    nic = compress_image(before, photo)
    assert (after.path_identity == before.path_identity) == (edge == "g_s")
    if edge == "g_s":
        assert not np.array_equal(decompress_image(after, nic), decompress_image(before, nic))
    assert decompress_image(after, compress_image(after, photo)).shape == photo.shape
    module_at(tmp_path / "new" / "model.py").load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("g_a.0.weight"), "lack g_a.0.weight"),
        (lambda state: state.update(g_x=torch.zeros(1)), "have g_x"),
        (lambda state: state.update({"g_a.0.bias": torch.zeros(1)}), "g_a.0.bias is"),
    ],
)
def test_weights_that_do_not_fit(
    source: Path, photo_folder: Path, tmp_path: Path, change: Any, message: str
) -> None:
    state = dict(module_at(source / "model.py").load().state_dict())
    change(state)
    with pytest.raises(InputError, match=message):
        renew_codec(source, state, str(photo_folder), tmp_path / "new")
    with pytest.raises(InputError, match="is missing"):
        renew_codec(source, tmp_path / "none.safetensors", str(photo_folder), tmp_path / "new")
    assert not (tmp_path / "new").exists()


# In CompressAI


@pytest.mark.slow  # its registry and helpers take half a minute to import
@pytest.mark.filterwarnings("ignore")
def test_compressai_evaluates_it(source: Path, photo_folder: Path, tmp_path: Path) -> None:
    from compressai.registry import MODELS
    from compressai.utils.eval_model.__main__ import eval_model
    from PIL import Image
    from skimage import data

    import nas.compressai

    codec = MODELS[nas.compressai.NAME](path=source)
    assert isinstance(codec, Codec)
    codec.update(force=True)
    Image.fromarray(data.chelsea()[:200, :300]).save(tmp_path / "photo.png")
    files = [tmp_path / "photo.png"]
    how = {"architecture": nas.compressai.NAME, "half": False, "per_image": False}
    real = eval_model(codec, tmp_path, tmp_path, files, **how)
    estimated = eval_model(codec, tmp_path, tmp_path, _aligned(tmp_path), entropy_estimation=True, **how)
    assert set(real) == set(estimated) == {"psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time"}
    assert all(math.isfinite(value) for value in (*real.values(), *estimated.values()))
    aligned = eval_model(codec, tmp_path, tmp_path, _aligned(tmp_path), **how)
    assert aligned["bpp"] == pytest.approx(estimated["bpp"], rel=0.02)
    assert aligned["psnr-rgb"] == pytest.approx(estimated["psnr-rgb"], abs=1e-3)


def _aligned(folder: Path) -> list[Path]:
    from PIL import Image

    path = folder / "aligned.png"
    Image.open(folder / "photo.png").crop((0, 0, 256, 192)).save(path)
    return [path]
