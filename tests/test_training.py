"""Training: resumed = uninterrupted, settings, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from PIL import Image
from safetensors.torch import save
from torch.optim.swa_utils import AveragedModel
from typer.testing import CliRunner

from nas.cli import app
from nas.graph.network import Supernet
from nas.metrics.objective import rd_loss
from nas.photos.split import photos_of
from nas.profiling.profile import parse_size
from nas.run import Run
from nas.shipped import zoo_run
from nas.spaces.budget import Amount
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.limits import check_seed
from nas.training.devices import make_fabric
from nas.training.loop import NonFiniteLossError
from nas.training.optimizers import build_optimizer, is_matrix, moving_average, set_learning_rate
from nas.training.settings import TrainingSettings, parse_assignments, settings_of
from nas.training.shared_encoder import SharedEncoder
from nas.training.start import (
    TrainingRequest,
    advice,
    initial_weights,
    resume_training,
    start_training,
    train_or_resume,
)
from nas.training.strategies import any_layout, strategy
from nas.weights.checkpoint import Checkpoint, load_weights, supernet_of

SETTINGS = {
    **{"steps": 6, "crop": 64, "batch": 2, "architectures": 3, "strategy": "sandwich", "seed": 5},
    **{"checkpoint_every": 3, "warmup": 2, "integer_phase": 0.34, "learning_rate": 1e-3},
}
TINY = SearchSpace.load("joint-ar-tiny")


@pytest.fixture(scope="module")
def request_for(photo_folder):
    def make(out: Path, **changes) -> TrainingRequest:
        request = TrainingRequest("joint-ar-tiny", str(photo_folder), out, settings=SETTINGS, device="cpu")
        return replace(request, **changes)

    return make


@pytest.fixture(scope="module")
def trained(request_for, tmp_path_factory) -> Run:
    """Six steps, uninterrupted."""
    return start_training(request_for(tmp_path_factory.mktemp("runs") / "run"))


class StoppedError(Exception):
    """What ends a training from outside."""


def stop_after(step: int, error: type[BaseException]):
    def report(progress) -> None:
        if progress.step == step:
            raise error

    return report


# Runs


def test_a_run_holds_what_it_promises(trained):
    names = {str(path.relative_to(trained.path)) for path in trained.path.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml",
        "split.csv",
        "metrics.csv",
        "supernet.safetensors",
        str(Path("checkpoint") / "last.safetensors"),
        str(Path("search") / "costs.npz"),
    }
    with open(trained.metrics_path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values() if value)
    again = Run.open(trained.path)
    assert again.space.to_dict() == TINY.to_dict()
    assert settings_of(again) == TrainingSettings.make(SETTINGS)
    assert supernet_of(again).state_dict().keys() == supernet_of(trained).state_dict().keys()
    assert len(photos_of(again, "train")) == 3


def test_no_file_of_a_run_is_a_pickle(trained):
    for path in trained.path.rglob("*"):
        if path.is_file():
            assert path.suffix in {".yaml", ".csv", ".safetensors", ".npz"}
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as held:
                    assert all(held[name].dtype != object for name in held)
            if path.suffix == ".safetensors":
                data = path.read_bytes()
                assert json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_training_changes_the_weights(trained):
    with torch.random.fork_rng():
        torch.manual_seed(SETTINGS["seed"])
        first = Supernet(TINY).state_dict()
    after = supernet_of(trained).state_dict()
    ends = ("weight", "bias", "gamma")
    learned = [name for name in first if name.startswith(("g_", "h_a")) and name.endswith(ends)]
    assert len(learned) > 15
    assert not any(torch.equal(first[name], after[name]) for name in learned)


def test_the_same_seed_gives_the_same_run(trained, request_for, tmp_path):
    again = start_training(request_for(tmp_path / "again"))
    assert again.weights_path.read_bytes() == trained.weights_path.read_bytes()
    other = start_training(request_for(tmp_path / "other", settings={**SETTINGS, "seed": 6, "steps": 1}))
    assert other.weights_path.read_bytes() != trained.weights_path.read_bytes()


def test_resumed_is_uninterrupted(trained, request_for, tmp_path):
    """Killed two steps after the checkpoint of step 3: the same bytes in the end."""
    out = tmp_path / "run"
    with pytest.raises(StoppedError):
        start_training(request_for(out), stop_after(5, StoppedError))
    assert not (out / "supernet.safetensors").exists()
    assert Checkpoint.read(out / "checkpoint" / "last.safetensors").record["step"] == 3
    steps = []
    run = resume_training(out, device="cpu", report=lambda progress: steps.append(progress.step))
    assert steps == [4, 5, 6]
    assert run.weights_path.read_bytes() == trained.weights_path.read_bytes()
    assert run.checkpoint_path.read_bytes() == trained.checkpoint_path.read_bytes()
    with open(run.metrics_path, newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3", "6"]


OPTIMIZERS = {
    "adam": {"structure": "joint", "lambda_c": 0.1, "layout_stages": 2, "fan_in": 16},
    "soap": {"steps": 8, "checkpoint_every": 4},
    "muon": {"steps": 8, "checkpoint_every": 8, "final_crop": 128, "final_share": 0.5, "hold": 0.3},
}


def test_a_recipe_whose_settings_do_not_go_together_is_named(tmp_path):
    """Alone, or with settings given beside it. What those alone contradict is not the recipe's fault."""
    (tmp_path / "mine.yaml").write_text("{distillation: 0.5, strategy: uniform, precision: 32}")
    recipe = {"recipe": str(tmp_path / "mine.yaml")}
    with pytest.raises(InputError, match=r"mine\.yaml: Distillation needs"):
        TrainingSettings.make(recipe)
    assert TrainingSettings.make({**recipe, "strategy": "sandwich"}).distillation == 0.5
    (tmp_path / "mine.yaml").write_text("distillation: 0.5")
    with pytest.raises(InputError, match=r"mine\.yaml with the settings given beside it: Distillation needs"):
        TrainingSettings.make({**recipe, "strategy": "uniform"})
    with pytest.raises(InputError, match=r"^one_encoder goes with"):
        TrainingSettings.make({**recipe, "one_encoder": True})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_resumes_to_the_bit(request_for, tmp_path, name, monkeypatch):
    """Interrupted twice, before and after SOAP's bases are renewed; its state is tensors and JSON."""
    monkeypatch.setattr("nas.training.optimizers.SOAP_EVERY", 4)
    settings = {**SETTINGS, "architectures": 1, **OPTIMIZERS[name], "optimizer": name, "ema": 0.9}
    whole = start_training(request_for(tmp_path / "whole", settings=settings))
    out, middle = tmp_path / "parts", settings["steps"] - 2
    with pytest.raises(KeyboardInterrupt):
        start_training(request_for(out, settings=settings), stop_after(2, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        resume_training(out, device="cpu", report=stop_after(middle, KeyboardInterrupt))
    run = resume_training(out, device="cpu")
    ours, theirs = Checkpoint.read(run.checkpoint_path), Checkpoint.read(whole.checkpoint_path)
    assert ours.record == theirs.record
    different = [n for n, value in ours.tensors.items() if not torch.equal(value, theirs.tensors[n])]
    assert not different
    assert run.weights_path.read_bytes() == whole.weights_path.read_bytes()


def test_matrices_are_told_from_all_else():
    """By every family's own network: kernels that join channels, and nothing else."""
    others = ("bias", "beta", "gamma", "adjust", "quantiles")
    for name in ("joint-ar-tiny", "residual", "cheng", "factorized", "slimcae"):
        for path, parameter in Supernet(SearchSpace.load(name)).named_parameters():
            other = path.endswith(others) or any(part in path for part in ("matrices", "biases", "factors"))
            assert is_matrix(path, parameter) != other, path
    assert not is_matrix("g_a.1.weight", torch.zeros(8, 1, 3, 3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_lowers_a_loss(name):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(8, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 1)
    )
    x = torch.randn(4, 8, 8, 8)
    optimizer, losses = build_optimizer(net, name, 1e-2), []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append((net(x) - x).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("fan_in", [None, 4, 24])
def test_kernels_of_many_inputs_learn_slowly(fan_in):
    """Adam's first step moves every weight by the learning rate, or by its kernel's share of it."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 4, 1)
    )
    optimizer = build_optimizer(net, "adam", 1.0, fan_in)
    set_learning_rate(optimizer, 0.01)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    net(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    inputs = {"0.weight": 27, "2.weight": 8}  # the rest joins no channels
    for name, parameter in net.named_parameters():
        share = min(1, (fan_in or 1000) / inputs.get(name, 1))
        assert torch.allclose((parameter - before[name]).abs(), torch.tensor(0.01 * share), rtol=1e-2), name


def test_a_rate_by_fan_in_is_adams_alone():
    with pytest.raises(InputError, match="fan_in works with adam"):
        TrainingSettings.make({"fan_in": 64, "optimizer": "soap"})


def test_a_finished_run_stays_as_it_is(trained):
    before = trained.weights_path.read_bytes()
    steps = []
    resume_training(trained.path, device="cpu", report=lambda progress: steps.append(progress.step))
    assert steps == []
    assert trained.weights_path.read_bytes() == before


def test_one_architecture_trains_alone(request_for, tmp_path):
    key = TINY.uniform(0.5, "checkerboard").key
    request = request_for(tmp_path / "alone", arch=key, settings={**SETTINGS, "steps": 2})
    run = start_training(request)
    assert run.space.size == 1
    assert run.space.widest().key == key
    net = supernet_of(run)
    assert {width.full for name, width in net.widths.items() if name.startswith("g_a")} == {16}
    with pytest.raises(InputError, match="g_a"):
        start_training(request_for(tmp_path / "wrong", arch=key.replace("g_a=16", "g_a=17")))
    assert not (tmp_path / "wrong").exists()


@pytest.fixture
def broken_request(trained, request_for, tmp_path) -> TrainingRequest:
    """A training whose first loss is beyond all numbers."""
    found = Checkpoint.read(trained.weights_path)
    for name in list(found.tensors):
        if name.startswith("g_s.") and name.endswith("weight"):
            found.tensors[name] *= 1e20
    found.write(tmp_path / "broken.safetensors")
    return request_for(tmp_path / "run", init_from=tmp_path / "broken.safetensors")


def test_a_loss_that_is_no_number_is_named(broken_request):
    with pytest.raises(NonFiniteLossError, match=r"at step 0 with .*g_a=.*lower learning rate") as caught:
        start_training(broken_request)
    assert TINY.widest().key.rpartition("+")[0] in str(caught.value)
    assert "checkpoint" not in str(caught.value)  # there was none yet


def test_going_on_is_no_advice_where_another_command_trains(broken_request):
    with pytest.raises(NonFiniteLossError, match=r"at step 0 with .*Begin anew") as caught:
        train_or_resume(broken_request)
    assert "--resume" not in str(caught.value)


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(request_for, tmp_path):
    settings = {**SETTINGS, "learning_rate": 1e18, "warmup": 0, "checkpoint_every": 1, "clip": 1e9}
    with pytest.raises(NonFiniteLossError, match=r"at step [1-5].*--init-from"):
        start_training(request_for(tmp_path / "run", settings=settings))
    kept = Checkpoint.read(tmp_path / "run" / "checkpoint" / "last.safetensors")
    assert 1 <= kept.record["step"] <= 5
    assert all(value.isfinite().all() for value in kept.tensors.values() if value.is_floating_point())


def test_gradients_and_weights_that_are_not_finite_end_a_training(request_for, tmp_path, monkeypatch):
    request = request_for(tmp_path / "run", settings={**SETTINGS, "checkpoint_every": 1})

    def run(what: str) -> str:
        with pytest.raises(NonFiniteLossError) as caught:
            start_training(replace(request, force=True))
        assert not (request.out / "checkpoint" / "last.safetensors").exists(), what
        return str(caught.value)

    def first(module: torch.nn.Module) -> torch.nn.Parameter:
        return next(p for p in module.parameters() if p.grad is not None)

    clip = Fabric.clip_gradients

    def nan_gradient(self, module, *args, **kwargs):
        first(module).grad.view(-1)[0] = math.nan
        return clip(self, module, *args, **kwargs)

    def nan_weight(self, module, *args, **kwargs):
        found = clip(self, module, *args, **kwargs)
        first(module).data.view(-1)[0] = math.inf
        return found

    monkeypatch.setattr(Fabric, "clip_gradients", nan_gradient)
    assert "gradient is not finite at step 0" in run("gradient")
    monkeypatch.setattr(Fabric, "clip_gradients", nan_weight)
    assert "weights are not finite after step 0" in run("weight")


@pytest.mark.parametrize(
    "text", ["1: 2", "null: 3", "2001-01-01: x", "1.5: y", "true: z", "'': 1", "steps: {a: b}"]
)
def test_a_recipe_with_an_odd_key_is_wrong_input(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=r"recipe\.yaml: |^Setting"):
        TrainingSettings.make({"recipe": str(tmp_path / "recipe.yaml")})


def test_nothing_is_replaced_unasked(trained, request_for):
    before = trained.weights_path.read_bytes()
    with pytest.raises(InputError, match=r"already exists.*--force"):
        start_training(request_for(trained.path))
    assert trained.weights_path.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"space": "joint-at"},
        {"data": "no-such-folder"},
        {"arch": "none"},
        {"settings": {"step": 3}},
        {"init_from": Path("absent.safetensors")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_request_that_cannot_be_met_writes_nothing(request_for, tmp_path, changes):
    out = tmp_path / "run"
    with pytest.raises(InputError):
        start_training(request_for(out, **changes))
    assert not out.exists()


def test_there_must_be_something_to_resume(trained, tmp_path):
    with pytest.raises(InputError, match="is not a run"):
        resume_training(tmp_path)
    (tmp_path / "config.yaml").write_bytes(trained.config_path.read_bytes())
    with pytest.raises(InputError, match="no checkpoint"):
        resume_training(tmp_path)


@pytest.mark.parametrize("kind", ["cut", "flipped", "another's", "no longer finite", "without its optimiser"])
def test_a_checkpoint_that_cannot_be_resumed_from_says_what_to_do(trained, tmp_path, kind):
    run = Run.open(shutil.copytree(trained.path, tmp_path / "run"))
    path, whole = run.checkpoint_path, run.checkpoint_path.read_bytes()
    saved = Checkpoint.read(path)
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "flipped":
        path.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))
    elif kind == "another's":
        Checkpoint({**saved.tensors, "net.a": torch.zeros(1)}, saved.record).write(path)
    elif kind == "no longer finite":
        name = next(iter(saved.tensors))
        path.write_bytes(save({**saved.tensors, name: saved.tensors[name] * math.inf}))
    else:
        Checkpoint({k: v for k, v in saved.tensors.items() if k.startswith("net.")}, {}).write(path)
    anew = r"restore it, or train anew with --force or with another --out\.$"
    with pytest.raises(InputError, match=rf"last\.safetensors.*: {anew}|To train on, {anew}"):
        resume_training(run.path, device="cpu")


def test_a_damaged_checkpoint_is_refused(trained, tmp_path):
    data = trained.checkpoint_path.read_bytes()
    path = tmp_path / "last.safetensors"
    for bad in (b"", data[:100], data[:-1], b"\xff" * 8 + data[8:], b"PK" + data):
        path.write_bytes(bad)
        with pytest.raises(InputError, match="damaged"):
            Checkpoint.read(path)
    with pytest.raises(InputError, match="is missing"):
        Checkpoint.read(tmp_path / "absent")


# Starting from other weights


def test_training_starts_from_given_weights(trained, request_for, tmp_path):
    settings = {**SETTINGS, "steps": 1, "learning_rate": 1e-12}
    for number, source in enumerate((trained.path, trained.weights_path)):
        run = start_training(request_for(tmp_path / str(number), settings=settings, init_from=source))
        expected = supernet_of(trained).state_dict()
        for name, value in supernet_of(run).state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


def test_training_starts_from_a_klt_of_its_photos(request_for, tmp_path):
    """Its pictures are better than those of random weights after as few steps, and config.yaml says so."""
    settings = {**SETTINGS, "steps": 2, "learning_rate": 1e-5}
    runs = [
        start_training(request_for(tmp_path / str(source), settings=settings, init_from=source))
        for source in ("klt", None)
    ]
    psnr = [float(next(csv.DictReader(run.metrics_path.read_text().splitlines()))["psnr"]) for run in runs]
    assert psnr[0] > psnr[1] + 5
    assert [run.config.get("init_from") for run in runs] == ["klt", None]


def test_weights_of_another_space_are_refused(trained, make_supernet, small_space, tmp_path):
    with pytest.raises(InputError, match="another search space"):
        load_weights(make_supernet(small_space), initial_weights(trained.path, small_space), source="a run")
    other = make_supernet(TINY).state_dict()
    del other["g_a.0.bias"]
    with pytest.raises(InputError, match=r"a run .*g_a\.0\.bias"):
        load_weights(make_supernet(TINY), other, source="a run")


def test_the_entropy_path_is_trained_alone(trained, request_for, tmp_path):
    """Pictures stay what they are, to the bit, and the loss is the rate."""
    settings = {**SETTINGS, "only": "entropy", "steps": 3}
    run = start_training(request_for(tmp_path / "run", settings=settings, init_from=trained.path))
    before, after = (supernet_of(r).state_dict() for r in (trained, run))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"h_a", "h_s", "context", "prior"}
    (row,) = csv.DictReader(run.metrics_path.read_text().splitlines())
    assert row["loss"] == row["bpp"]
    assert math.isnan(float(row["psnr"]))


@pytest.mark.parametrize(
    ("space", "crop", "words"),
    [
        ("joint-ar-tiny", 64, "z 1x1"),
        ("scale-hyperprior", 128, "z 2x2"),
        ("joint-ar-tiny", 192, None),
        ("factorized", 64, None),
    ],
)
def test_small_crops_are_warned_of_where_there_is_a_hyperprior(request_for, tmp_path, space, crop, words):
    said = advice(request_for(tmp_path, space=space, settings={"crop": crop, "steps": 10}))
    assert said is None if words is None else words in said and "--set crop=192" in said


@pytest.mark.parametrize("start", [None, "klt"])
def test_frozen_random_weights_are_warned_of(request_for, tmp_path, start):
    settings = {"frozen": ["g_a.0.linear", "g_s.0.linear"], "steps": 10}
    said = advice(request_for(tmp_path, space="patch-tiny", settings=settings, init_from=start))
    assert said is None if start else "--init-from klt" in said and "g_s.0.linear" in said


def test_advice_is_given_before_the_work_and_not_where_a_request_is_refused(request_for, tmp_path):
    said: list[str] = []
    settings = {**SETTINGS, "crop": 64, "steps": 1}
    with pytest.raises(InputError):
        start_training(
            request_for(tmp_path / "a", data=str(tmp_path / "none"), settings=settings), say=said.append
        )
    assert said == []
    start_training(request_for(tmp_path / "b", settings=settings), say=said.append)
    assert len(said) == 1


def test_frozen_layers_stay(trained, request_for, tmp_path):
    settings = {**SETTINGS, "frozen": ["h_a.0", "g_s"], "steps": 2}
    run = start_training(request_for(tmp_path / "run", settings=settings, init_from=trained.path))
    before, after = (supernet_of(r).state_dict() for r in (trained, run))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(("h_a.0.", "g_s."))} <= same
    assert {"h_a.2.weight", "g_a.0.weight", "h_s.2.weight"}.isdisjoint(same)


def test_a_front_is_trained_on(request_for, tmp_path):
    """Of the zoo's front, whose layouts were found in its search; interrupted, it ends in the same bytes."""
    settings = {**SETTINGS, "strategy": "front"}
    request = request_for(tmp_path / "run", settings=settings, init_from="zoo:joint-ar-tiny")
    run = start_training(request)
    best = zoo_run("zoo:joint-ar-tiny").front().query("on_front_total")["arch"]
    members = [TINY.parse(key) for key in run.config["front"]]
    assert {key.rpartition("+")[0] for key in best} <= {m.key.rpartition("+")[0] for m in members}
    first = yaml.safe_load(run.first_path.read_text())["arch"]
    assert 0 < len(first) <= 30
    assert set(first) <= set(run.config["front"])
    other = replace(request, out=tmp_path / "other")
    with pytest.raises(StoppedError):
        start_training(other, stop_after(4, StoppedError))
    assert resume_training(other.out, device="cpu").fingerprint == run.fingerprint


def test_named_members_are_the_front(request_for, tmp_path):
    members = [TINY.narrowest().key, TINY.widest().key]
    settings = {**SETTINGS, "strategy": "front", "members": members, "steps": 1}
    run = start_training(request_for(tmp_path / "run", settings=settings))
    assert run.config["front"] == members
    with pytest.raises(InputError, match="g_a"):
        start_training(request_for(tmp_path / "b", settings={**settings, "members": ["g_a=1"]}))


def test_an_encoder_that_samples_share_runs_once():
    """At two rates, under decoders of two sizes: the gradients are those of separate passes."""
    space = replace(SearchSpace.load("patch-tiny"), rates=(0.0018, 0.18))
    torch.manual_seed(3)
    net, x = Supernet(space), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for parameter in net.parameters():  # the last layers begin with zeros, which hide what is before them
            parameter.add_(0.02 * torch.randn_like(parameter))
    widest = space.widest()
    narrower = space.parse(widest.key.replace("g_s=128-64", "g_s=64-24"))
    other = space.narrowest()
    passes = []
    net.g_a.register_forward_hook(lambda *_: passes.append(1))

    def gradients(shared: SharedEncoder | None) -> dict[str, torch.Tensor]:
        net.zero_grad()
        for architecture, lmbda in ((widest, 0.0018), (other, 0.02), (narrower, 0.18)):
            layout = net.activate(architecture)
            y = shared.y(architecture) if shared else None
            output = net(x, layout, torch.zeros_like, lmbda=lmbda, y=y)
            bits = sum(-likelihood.log2().sum() for likelihood in output["likelihoods"].values())
            (bits / x.numel() + lmbda * 255**2 * (output["x_hat"] - x).square().mean()).backward()
        if shared:
            shared.backward()
        return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    separate = gradients(None)
    together = gradients(SharedEncoder(net, x, [widest, other, narrower]))
    assert len(passes) == 3 + 2
    assert separate.keys() == together.keys()
    for name, gradient in separate.items():
        torch.testing.assert_close(
            together[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())
        )


@pytest.mark.parametrize(
    ("source", "words"),
    [("klt", "add --init-from RUN"), (None, "add --init-from RUN"), ("run", "has no front yet")],
)
def test_a_front_is_that_of_a_searched_run(trained, request_for, tmp_path, source, words):
    source = trained.path if source == "run" else source
    settings = {**SETTINGS, "strategy": "front"}
    with pytest.raises(InputError, match=words):
        start_training(request_for(tmp_path / "run", settings=settings, init_from=source))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frozen": ["h_a.00"]}, "has no layer 'h_a.00': did you mean h_a.0"),
        ({"frozen": ["h"]}, "has no layer 'h'"),
        ({"frozen": ["g_a", "g_s", "h_a", "h_s", "context", "prior"]}, "leaves nothing to train"),
        ({"only": "g_s", "frozen": ["g_s"]}, "leaves nothing to train"),
    ],
)
def test_what_cannot_be_frozen_is_told_before_a_run_is_made(request_for, tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        start_training(request_for(tmp_path / "run", settings={**SETTINGS, **settings}))
    assert not (tmp_path / "run").exists()


def test_a_run_of_other_settings_is_not_taken_for_this_one(request_for, tmp_path):
    request = request_for(tmp_path / "run", settings={**SETTINGS, "steps": 1})
    run = train_or_resume(request)
    before = run.weights_path.read_bytes()
    assert train_or_resume(request).weights_path.read_bytes() == before
    with pytest.raises(InputError, match="holds a run with other settings"):
        train_or_resume(replace(request, settings={**SETTINGS, "steps": 2}))
    assert run.weights_path.read_bytes() == before


def test_a_part_is_of_trained_weights(request_for, tmp_path):
    with pytest.raises(InputError, match="add --init-from"):
        start_training(request_for(tmp_path / "run", settings={**SETTINGS, "only": "entropy"}))
    assert not (tmp_path / "run").exists()


def test_one_architecture_starts_from_its_slice(trained):
    architecture = TINY.uniform(0.5, "raster")
    alone = TINY.only(architecture)
    net = Supernet(alone)
    load_weights(net, initial_weights(trained.path, alone), source="a run")
    supernet = supernet_of(trained)
    layout = supernet.activate(architecture)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = net.eval()(x, layout), supernet(x, layout)
    torch.testing.assert_close(found["y"], expected["y"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["likelihoods"]["y"], expected["likelihoods"]["y"], rtol=1e-3, atol=1e-5)


# Settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 3}, "no setting 'step': did you mean steps"),
        ({"zzz": 3}, "no setting 'zzz': choose one of: lmbda"),
        ({"steps": 0}, "`steps`.*greater than or equal to 1.*0"),
        ({"steps": "many"}, "`steps`.*'many'"),
        ({"steps": 1.5}, "`steps`.*1.5"),
        ({"steps": None}, "`steps`"),
        ({"crop": 100}, "`crop`.*multiple of 64.*100"),
        ({"crop": 0}, "`crop`"),
        ({"lmbda": 0}, "`lmbda`.*greater than or equal to 0"),
        ({"lmbda": math.nan}, "`lmbda`"),
        ({"metric": "psnr"}, "`metric`.*'mse' or 'ms-ssim'.*'psnr'"),
        ({"strategy": "greedy"}, "'level' or 'front'"),
        ({"final_rate": 1.1}, "`final_rate`.*1"),
        ({"integer_phase": -0.1}, "greater than or equal to 0"),
        ({"optimizer": "sgd"}, "`optimizer`.*'adam', 'soap' or 'muon'"),
        ({"final_crop": 128}, "final_crop=128 is smaller than crop=256"),
        ({"final_crop": 384, "hold": 0.9}, "leave no steps in which"),
        ({"metric": "ms-ssim", "crop": 128}, "MS-SSIM needs crops of more than 160"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(InputError, match=message):
        TrainingSettings.make(values)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["steps=10"], {"steps": 10}),
        (["learning_rate=1e-4", "metric=ms-ssim"], {"learning_rate": 1e-4, "metric": "ms-ssim"}),
        (["lmbda=0.0035"], {"lmbda": 0.0035}),
        (["a=b=c"], {"a": "b=c"}),
        (["steps=1e3"], {"steps": 1000.0}),
        ([], {}),
    ],
)
def test_assignments_are_read(words, values):
    assert parse_assignments(words) == values


@pytest.mark.parametrize("word", ["steps", "=3", "", "steps=[", "steps: 3", "steps=[" * 5000])
def test_what_is_no_assignment(word):
    with pytest.raises(InputError, match=r"NAME=VALUE|not valid YAML"):
        parse_assignments([word])
    with pytest.raises(InputError, match="steps twice"):
        parse_assignments(["steps=3", "crop=64", "steps=4"])


@given(st.integers(1, 500), st.integers(0, 600), st.floats(0.01, 1))
def test_the_rate_of_learning(steps, warmup, final):
    settings = TrainingSettings.make(
        {"steps": steps, "warmup": warmup, "final_rate": final, "learning_rate": 0.5}
    )
    rates = [settings.rate_at(step) for step in range(steps + 1)]
    assert all(0 < rate <= 0.5 + 1e-12 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    if steps > warmup:
        assert max(rates) == pytest.approx(0.5)
        assert rates[-1] == pytest.approx(0.5 * final)


@given(st.floats(0, 10), st.floats(0, 1), st.floats(0.001, 1))
def test_the_loss_is_compressais(bpp, error, lmbda):
    assert rd_loss(bpp, error, lmbda) == pytest.approx(lmbda * 255**2 * error + bpp)
    assert rd_loss(bpp, error, lmbda, "ms-ssim") == pytest.approx(lmbda * error + bpp)


# What is trained in a step


def test_every_width_and_layout_is_trained():
    rng = random.Random(0)
    samples = [sample for step in range(150) for sample in strategy(TrainingSettings()).draw(TINY, step, 0)]
    for slot, *counts in zip(TINY.slots, *(TINY.indexes(s.architecture) for s in samples), strict=False):
        assert set(counts) == set(range(len(slot.candidates)))
    named = Counter(s.layout.name for s in samples)
    assert set(named) >= set(TINY.layouts)
    assert len({s.layout for s in samples}) > 50
    alone = TINY.only(TINY.widest())
    assert {any_layout(alone, alone.widest(), rng) for _ in range(20)} == {alone.layout(alone.widest())}


# Checkpoints


def test_a_checkpoint_survives_its_file(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3), "c": torch.zeros(0, 4)}
    record = {"step": 3, "big": 2**80, "list": [1, None, "é\n"]}
    Checkpoint(tensors, record).write(tmp_path / "x" / "c.safetensors")
    found = Checkpoint.read(tmp_path / "x" / "c.safetensors")
    assert found.record == record
    assert all(torch.equal(found.tensors[name], value) for name, value in tensors.items())
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("step", [2, 4])
def test_interrupting_loses_nothing(trained, request_for, tmp_path, step):
    """Interrupted by hand, a run goes on where it was: the same bytes in the end."""
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start_training(request_for(out), stop_after(step, KeyboardInterrupt))
    run = resume_training(out, device="cpu")
    assert run.weights_path.read_bytes() == trained.weights_path.read_bytes()


def test_weights_of_another_space_leave_nothing_behind(trained, request_for, tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    request = request_for(tmp_path / "run", space=str(tmp_path / "small.yaml"), init_from=trained.path)
    with pytest.raises(InputError, match="another search space"):
        start_training(request)
    assert not (tmp_path / "run").exists()


def test_wrong_settings_name_their_field():
    for values in ({"strategy": "greedy"}, {"integer_phase": -0.1}):
        with pytest.raises(InputError, match=f"`{next(iter(values))}`"):
            TrainingSettings.make(values)


def test_a_target_out_of_reach_is_refused_before_anything_is_written(request_for, tmp_path):
    settings = {**SETTINGS, "structure": "joint", "target": 1000}
    with pytest.raises(InputError, match=r"target=1000 .* is out of reach: joint-ar-tiny costs 0\.7"):
        start_training(request_for(tmp_path / "run", settings=settings))
    assert not (tmp_path / "run").exists()


def test_a_run_can_be_watched(request_for, tmp_path):
    """Previews of a held-out photo at three widths, TensorBoard's events, the cost of a learned structure."""
    more = {"preview_every": 2, "tensorboard": True, "structure": "joint", "target": 3.0, "ema": 0.5}
    run = start_training(request_for(tmp_path / "run", settings={**SETTINGS, **more, "distillation": 0.3}))
    photo = photos_of(run, "held-out")[0].pixels
    with Image.open(run.preview_path) as picture:
        assert picture.width == 4 * photo.shape[1]
        assert np.array_equal(np.asarray(picture)[: photo.shape[0], : photo.shape[1]], photo)
    (events,) = (run.path / "tensorboard").iterdir()
    assert events.stat().st_size > 1000
    with open(run.metrics_path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(0.7 < float(row["expected_cost"]) < 6.5 and float(row["lambda_c"]) >= 0 for row in rows)
    learned = yaml.safe_load(run.structure_path.read_text())["logits"]
    assert set(learned) == {slot.name for slot in TINY.slots}


@pytest.mark.parametrize("name", ["joint-ar-tiny", "scale-hyperprior", "patch-tiny"])
def test_latents_and_their_parameters_keep_their_digits(make_supernet, name):
    """In mixed precision too: bfloat16 has eight, with which a latent of 300 moves in steps of 2."""
    space = SearchSpace.load(name)
    net, x = make_supernet(space), torch.rand(1, 3, 64, 64)
    layout = net.activate(space.widest())
    with torch.autocast("cpu", torch.bfloat16):
        output = net(x, layout)
        scales, means = net.context(output["psi"], output["y"].round(), layout)
    parts = {"y": output["y"], "z": output["z"], "psi": output["psi"], "scales": scales, "means": means}
    for part, values in parts.items():
        assert values.dtype == torch.float32, part
        known = values[values != 0]
        coarse = (known == known.bfloat16().float()).double()
        assert not len(known) or coarse.mean() < 0.1, part


@pytest.mark.parametrize("instructions", [None, "_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_automatic_precision_is_what_the_machine_multiplies(monkeypatch, instructions):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == instructions)
    fabric = make_fabric("cpu", "auto")
    layer = fabric.setup(torch.nn.Conv2d(1, 1, 1))
    with fabric.autocast():
        inside = torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4), layer.weight)
    assert inside.dtype == (torch.bfloat16 if instructions else torch.float32)


def test_mixed_precision_rates_alike(request_for, tmp_path):
    """Latents and rates stay in single precision, so that half precision changes little."""
    losses = []
    for precision in ("32", "bf16"):
        settings = {**SETTINGS, "steps": 1, "precision": precision}
        start_training(
            request_for(tmp_path / precision, settings=settings), lambda p: losses.append((p.loss, p.bpp))
        )
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[1] != losses[0]


def test_the_average_of_weights_is_what_a_run_keeps(trained, request_for, tmp_path):
    run = start_training(request_for(tmp_path / "run", settings={**SETTINGS, "ema": 0.9}))
    averaged, last = supernet_of(run).state_dict(), supernet_of(trained).state_dict()
    weights = Checkpoint.read(run.checkpoint_path).tensors
    assert torch.equal(weights["net.g_a.0.weight"], last["g_a.0.weight"])  # trained as without it
    assert not torch.equal(averaged["g_a.0.weight"], last["g_a.0.weight"])
    torch.testing.assert_close(averaged["g_a.0.weight"], last["g_a.0.weight"], rtol=0, atol=0.01)


def test_an_average_forgets_the_first_weights_soon():
    """First weights that were far off are gone after 200 steps, of which 0.999 a step keeps four fifths."""
    layer = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(layer, multi_avg_fn=moving_average(0.999))
    for step in range(200):
        torch.nn.init.constant_(layer.weight, 100.0 if step == 0 else 1.0)
        average.update_parameters(layer)
    assert average.module.weight.item() == pytest.approx(1, abs=1e-3)


# Layouts learned with the weights


def test_a_layout_is_learned_with_the_weights_and_resumed(request_for, tmp_path):
    changes = {"settings": SETTINGS | {"layout_stages": 3}}
    whole = start_training(request_for(tmp_path / "whole", **changes))
    with pytest.raises(StoppedError):
        start_training(request_for(tmp_path / "parts", **changes), stop_after(4, StoppedError))
    parts = resume_training(tmp_path / "parts", device="cpu")
    (layout,) = whole.learned_layouts()
    assert layout.name == "learned-3"
    assert layout.channels == TINY.y_channels
    assert parts.learned_layout_path.read_bytes() == whole.learned_layout_path.read_bytes()
    assert parts.weights_path.read_bytes() == whole.weights_path.read_bytes()
    logits = Checkpoint.read(whole.checkpoint_path).tensors["layout"]
    assert logits.shape == (4, 2, 2, 3)
    assert float(logits.abs().max()) > 0


def test_where_nothing_waits_no_layout_is_learned(request_for, tmp_path):
    changes = {"settings": SETTINGS | {"layout_stages": 2}, "space": "mean-scale-hyperprior-tiny"}
    with pytest.raises(InputError, match="no context model"):
        start_training(request_for(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_values_of_thousands_of_digits_are_refused():
    with pytest.raises(InputError, match="a number has too many digits"):
        parse_assignments([f"steps={'9' * 5000}"])


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_seeds_that_no_generator_takes_are_refused(seed):
    with pytest.raises(InputError, match="seed"):
        TrainingSettings.make({"seed": seed})
    with pytest.raises(InputError, match="is not a seed"):
        check_seed(seed)
    done = CliRunner().invoke(app, ["search", "zoo:joint-ar-tiny", "--trials", "1", "--seed", str(seed)])
    assert done.exit_code == 2
    assert "is not a seed" in done.stderr


@pytest.mark.parametrize(
    "size", ["100000x100000", "0x5", "1x134217728", "9" * 5000 + "x1", "\u0665x5", "x", "5x5x5"]
)
def test_sizes_beyond_the_memory_are_refused(size):
    with pytest.raises(InputError):
        parse_size(size)
    with pytest.raises(InputError):
        Amount.parse(f"30 ms at {size}")
