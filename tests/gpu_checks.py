"""What runs on a GPU leaves no tensor behind on the CPU: held to on a device that only looks like one."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from families import exact_codec
from pretend_gpu import MixedDevicesError, pretend_gpu

from nas.codec.codec import Codec
from nas.cost.counting.cache import load_or_measure_costs
from nas.metrics.objective import Objective
from nas.photos.images import Photo
from nas.photos.tensors import pad, to_tensor
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.space import SearchSpace
from nas.training.devices import make_fabric
from nas.training.loop import Training
from nas.training.record.watch import CalibrationMonitor, MonitoredRate
from nas.training.settings import TrainingSettings

SPACES = ("joint-ar-tiny", "patch-tiny", "slimcae")
WAYS = {
    "everything": {"structure": "joint", "target": 3.0, "layout_stages": 2, "ema": 0.9, "distillation": 0.3},
    "soap": {"optimizer": "soap"},
    "muon": {"optimizer": "muon", "integer_phase": 1.0},
    "entropy": {"only": "entropy"},
    "g_s": {"only": "g_s"},
}


@pytest.fixture(scope="module")
def photo(chelsea: np.ndarray) -> Photo:
    return Photo("chelsea", chelsea[:70, :90])


def test_devices_that_mix_are_refused():
    with pretend_gpu() as gpu:
        made = torch.ones(3, device=gpu)
        assert (made + torch.tensor(1.0)).cpu().tolist() == [2, 2, 2]
        with pytest.raises(MixedDevicesError, match="aten::add"):
            made + torch.ones(3)


@pytest.mark.parametrize("way", WAYS)
def test_training_steps_stay_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str):
    """As `nas train`, and `nas finetune`, take them, and as they are written down."""
    values = {"crop": 64, "batch": 1, "architectures": 2, "steps": 4, "warmup": 0, **WAYS[way]}
    space = SearchSpace.load("joint-ar-tiny")
    run = Run.create(tmp_path / "run", space, TrainingSettings.make(values).model_dump())
    load_or_measure_costs(run.space, run.costs_path)  # by a trace, which must not see the device
    of_the_cpu = Training._generator
    monkeypatch.setattr(
        Training, "_generator", lambda self, step, what, device=None: of_the_cpu(self, step, what)
    )
    with pretend_gpu() as gpu:
        fabric = make_fabric("cpu", "32")
        fabric._strategy._root_device = gpu
        monkeypatch.setattr(fabric._accelerator, "setup_device", lambda device: None)
        training = Training(run, fabric)
        before = {name: value.cpu() for name, value in training.net.state_dict().items()}
        for step in range(2):
            training.step(step, torch.rand(1, 3, 64, 64, device=gpu))
        assert all(parameter.device == gpu for parameter in training.net.parameters())
        training.write(2)
        assert training.restore() == 2
        after = {name: value.cpu() for name, value in training.net.state_dict().items()}
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", SPACES)
def test_scores_are_the_cpu_s(make_supernet, photo: Photo, name: str):
    space = SearchSpace.load(name)
    architectures = [space.widest(), space.uniform(0.5), space.narrowest()]
    net = make_supernet(space)

    def found(place: torch.device | str) -> list[float]:
        evaluator = Evaluator(copy.deepcopy(net), [photo], Objective(0.01), device=place)
        watch = CalibrationMonitor(space, [photo], [MonitoredRate("", 0.01)])
        return [
            *(evaluator.score(a).rd_loss for a in architectures),
            *watch.losses(evaluator.supernet).values(),
        ]

    with pretend_gpu() as gpu:
        ours = found(gpu)
    assert ours == pytest.approx(found("cpu"), rel=1e-3)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("exact", [False, True])
def test_codecs_code_on_the_gpu(make_supernet, photo: Photo, name: str, exact: bool):
    """In float64 and in integer arithmetic; a CPU decodes what it made in integers."""
    space = SearchSpace.load(name)
    architecture = space.uniform(0.5)
    x = pad(to_tensor(photo.pixels), 64)
    codec = Codec(make_supernet(space).extract(architecture), architecture)
    if exact and codec.network.with_z:
        codec = exact_codec(codec, x)
    there = copy.deepcopy(codec)
    with pretend_gpu() as gpu:
        there.to(gpu)
        assert there(x.to(gpu))["x_hat"].device == gpu
        out = there.compress(x.to(gpu))
        decoded = there.decompress(**out)["x_hat"]
        assert decoded.device == gpu
        ours = decoded.cpu()
    if exact:
        torch.testing.assert_close(codec.decompress(**out)["x_hat"], ours, rtol=1e-3, atol=1e-3)
