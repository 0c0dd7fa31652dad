"""CompressAI's models at random weights: the same numbers here, in and out again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.codec.codec import Codec
from nas.codec.folder import load_codec, save_codec
from nas.graph.network import Supernet
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.start import TrainingRequest, initial_weights, start_training
from nas.weights.checkpoint import supernet_of
from nas.weights.interchange import zoo_name

N, M = 6, 12
pytestmark = pytest.mark.slow  # importing CompressAI's models takes as long as all of these
THEIRS = {name: family.compressai for name, family in FAMILIES.items() if family.compressai}
families = pytest.mark.parametrize("name", sorted(THEIRS))


@pytest.fixture(scope="module")
def zoo() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import compressai.zoo.image
    return compressai.zoo.image


def sizes(name: str) -> tuple[int, ...]:
    return (N,) if name == "cheng" else (N, M)


def channels(name: str) -> int:
    return sizes(name)[-1]


def make_space(name: str, **more: Any) -> SearchSpace:
    """A space whose widest architecture is CompressAI's model at N and M."""
    family, m = FAMILIES[name], channels(name)
    wide = {"h_s.1": m, "h_s.2": m * 3 // 2} if name in ("joint-ar", "mean-scale-hyperprior") else {}
    wide |= {"h_s.3": m * 3 // 2, "h_s.4": m * 3 // 2} if name == "cheng" else {}
    wide |= {"entropy_parameters.1": m * 10 // 3, "entropy_parameters.2": m * 8 // 3}
    widths = {choice: [2, wide.get(choice, N)] for choice in family.choices}
    latents = {"y": m, **({"z": N} if family.has_z else {})}
    layouts = ["raster", "none"] if family.context else ["none"]
    content = {"family": name, "latents": latents, "widths": widths, "layouts": layouts, **more}
    return SearchSpace.from_dict(content, name=name)


def widest(space: SearchSpace) -> Any:
    return space.uniform(1, "raster" if space.family.context else "none")


def make_theirs(zoo: Any, name: str) -> nn.Module:
    """Random weights whose latents are far from zero, and medians that are not zero either."""
    torch.manual_seed(len(name))
    model = zoo.model_architectures[THEIRS[name]](*sizes(name)).eval()
    with torch.no_grad():
        model.g_a[-1].weight.mul_(100)
        if hasattr(model, "h_a"):
            model.h_a[-1].weight.mul_(30)
        for parameter in model.entropy_bottleneck.biases:
            parameter.add_(torch.randn_like(parameter))
        model.entropy_bottleneck._update_quantiles()
    return model


def image() -> Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))


def save(model: nn.Module, path: Path) -> Path:
    torch.save(model.state_dict(), path)
    return path


def load(space: SearchSpace, source: Path | str) -> Supernet:
    net = Supernet(space).eval()
    net.load_state_dict(initial_weights(source, space))
    return net


@torch.no_grad()
def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    scale = float(expected["x_hat"].abs().max())
    torch.testing.assert_close(found["x_hat"], expected["x_hat"], rtol=1e-5, atol=1e-5 * scale)
    assert set(found["likelihoods"]) == set(expected["likelihoods"])
    for node, likelihood in expected["likelihoods"].items():
        torch.testing.assert_close(found["likelihoods"][node], likelihood, rtol=1e-5, atol=1e-5)


@families
def test_centred_at_full_width_is_compressais_model(zoo, name, tmp_path):
    theirs = make_theirs(zoo, name)
    space = make_space(name, quantizer="centred")
    net = load(space, save(theirs, tmp_path / "theirs.pth.tar"))
    with torch.no_grad():
        expected = theirs(image())
        found = net(image(), net.activate(widest(space)))
        plain = net.extract(widest(space))(image(), space.layout(widest(space)))
    assert expected["likelihoods"]["y"].min() < 0.9
    assert_same(found, expected)
    assert_same(plain, expected)


@families
@pytest.mark.parametrize("quantizer", ["integer", "centred"])
def test_a_full_width_export_loads_into_its_class(zoo, name, quantizer, tmp_path):
    theirs = make_theirs(zoo, name)
    space = make_space(name, quantizer=quantizer)
    net = load(space, save(theirs, tmp_path / "theirs.pth"))
    save_codec(Codec(net.extract(widest(space)), widest(space)), tmp_path / "codec", {})
    again = load_codec(tmp_path / "codec").to_compressai()
    assert type(again) is type(theirs)
    with torch.no_grad():
        assert_same(again(image()), theirs(image()))
    again.update()
    coded = again.compress(image())
    assert again.decompress(coded["strings"], coded["shape"])["x_hat"].shape == image().shape


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "model.", "module.", "model._orig_mod.", "module.net."])
@pytest.mark.parametrize("under", [None, "network", "model_state_dict", "state_dict", "model"])
def test_checkpoints_as_others_keep_them(zoo, tmp_path, prefix, under):
    theirs, space = make_theirs(zoo, "factorized"), make_space("factorized")
    expected = initial_weights(save(theirs, tmp_path / "plain.pth"), space)
    state = {prefix + name: value for name, value in theirs.state_dict().items()}
    if prefix:
        state["loss.weight"] = torch.ones(3)  # beside the model
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}
    content = state if under is None else {"epoch": 3, "optimizer": optimizer, under: state, "best": None}
    torch.save(content, tmp_path / "theirs.pth.tar")
    save_file(state, tmp_path / "theirs.safetensors")
    for name in ("theirs.pth.tar", "theirs.safetensors"):
        found = initial_weights(tmp_path / name, space)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    state[f"{prefix}g_a.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(content, tmp_path / "theirs.pth.tar")
    with pytest.raises(InputError, match=r"numbers of .*g_a\.0\.weight are not finite"):
        initial_weights(tmp_path / "theirs.pth.tar", space)


def test_checkpoints_of_every_age_are_read(zoo, tmp_path):
    """As its training example saves them, from several processes, and with the names of old versions."""
    theirs = make_theirs(zoo, "mean-scale-hyperprior")
    state = theirs.state_dict()
    space = make_space("mean-scale-hyperprior")
    old = {}
    for name, value in state.items():
        for new, before in (("matrices.", "_matrix"), ("biases.", "_bias"), ("factors.", "_factor")):
            name = name.replace(f"entropy_bottleneck.{new}", f"entropy_bottleneck.{before}")
        old[f"module.{name}"] = value
    files = {"training": {"epoch": 3, "state_dict": state, "loss": 1.0}, "old": old, "now": state}
    found = {}
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        found[name] = initial_weights(tmp_path / name, space)
    for name in ("training", "old"):
        assert all(torch.equal(found[name][key], value) for key, value in found["now"].items())


def test_narrow_architectures_begin_as_slices(zoo, tmp_path):
    theirs = make_theirs(zoo, "joint-ar")
    space = make_space("joint-ar")
    net = load(space, save(theirs, tmp_path / "theirs.pth"))
    plain = net.extract(space.narrowest())
    torch.testing.assert_close(plain.g_a[0].weight, theirs.g_a[0].weight[:2])
    torch.testing.assert_close(plain.g_a[1].gamma, theirs.g_a[1].gamma[:2, :2])


def test_a_space_that_may_go_without_z_keeps_a_prior_of_its_own(zoo, tmp_path):
    theirs = make_theirs(zoo, "scale-hyperprior")
    space = make_space("scale-hyperprior")
    widths = {slot.name: list(slot.candidates) for slot in space.slots}
    space = make_space("scale-hyperprior", widths={"hyperprior": [0, 1], **widths})
    net = load(space, save(theirs, tmp_path / "theirs.pth"))
    net.activate(space.narrowest())
    assert not net.with_z
    with torch.no_grad():
        assert net(image(), space.layouts["none"])["likelihoods"]["y"].isfinite().all()


def test_training_starts_from_them(zoo, tmp_path, photo_folder):
    path = save(make_theirs(zoo, "factorized"), tmp_path / "theirs.pth")
    space = make_space("factorized")
    from nas.support.files import write_yaml

    write_yaml(tmp_path / "space.yaml", space.to_dict())
    settings = {"steps": 1, "crop": 64, "batch": 1, "learning_rate": 1e-9, "checkpoint_every": 1}
    request = TrainingRequest(
        str(tmp_path / "space.yaml"), str(photo_folder), tmp_path / "run", settings=settings, init_from=path
    )
    run = start_training(request)
    weight = supernet_of(run).g_a[0].weight
    torch.testing.assert_close(weight, initial_weights(path, space)["g_a.0.weight"], atol=1e-6, rtol=0)


def test_the_zoo_by_name(zoo, tmp_path, monkeypatch):
    """With the file in torch's cache, as it lies there after a download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    url = zoo.model_urls["mbt2018-mean"]["mse"][3]
    theirs = make_theirs(zoo, "mean-scale-hyperprior")
    save(theirs, folder / url.rpartition("/")[2])
    space = make_space("mean-scale-hyperprior")
    found = initial_weights("mbt2018-mean-3", space)
    assert torch.equal(found["g_a.0.weight"], theirs.state_dict()["g_a.0.weight"])
    with pytest.raises(InputError, match="another kind"):
        initial_weights("mbt2018-mean-3", make_space("joint-ar"))


def test_an_unreachable_zoo_says_what_to_fetch(zoo, tmp_path, monkeypatch):
    import urllib.error

    def refuse(*args: Any, **more: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(InputError, match=r"no network.*bmshj2018-factorized-prior-1.*path"):
        initial_weights("bmshj2018-factorized-1", make_space("factorized"))


def test_zoo_names():
    assert zoo_name("mbt2018-mean-4") == ("mbt2018-mean", 4)
    assert zoo_name("mbt2018-8") == ("mbt2018", 8)
    assert zoo_name("mbt2018-9") is None
    assert zoo_name("runs/mbt2018-4") is None


def test_what_does_not_fit_is_refused(zoo, tmp_path):
    path = save(make_theirs(zoo, "joint-ar"), tmp_path / "theirs.pth")
    small = make_space("joint-ar", latents={"y": M, "z": N - 1})
    with pytest.raises(InputError, match=r"N=6, M=12.*widest architecture"):
        initial_weights(path, small)
    with pytest.raises(InputError, match="another kind"):
        initial_weights(path, make_space("cheng"))
    residual = SearchSpace.load("residual")
    with pytest.raises(InputError, match="no model of the family residual"):
        initial_weights(path, residual)
    for content in (3, {"state_dict": [1]}, {"a": 1}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(InputError, match="no state dict"):
            initial_weights(tmp_path / "other.pth", small)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match="neither a run"):
        initial_weights(tmp_path / "text.pth", small)


def test_only_full_width_and_raster_go_back(zoo):
    space = make_space("joint-ar")
    net = Supernet(space)
    with pytest.raises(InputError, match="raster"):
        Codec(net.extract(space.narrowest()), space.narrowest()).to_compressai()
    mixed = space.at([*[1] * (len(space.shape) - 2), 0, list(space.layout_names).index("raster")])
    with pytest.raises(InputError, match="one width throughout"):
        Codec(net.extract(mixed), mixed).to_compressai()
