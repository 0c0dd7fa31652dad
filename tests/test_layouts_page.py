"""docs/layouts.md: its blocks run, its names are layouts, its figures are those of the committed results."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest
import torch
import yaml

import nas
from experiments.results import renewed
from nas.spaces.layout import Layout, layout_names, named_layout
from nas.spaces.space import SearchSpace
from nas.training.start import TrainingRequest, start_training
from nas.weights.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "layouts.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scripts():
    """The experiment's own modules."""
    names = ("common", "show", "train_context", "tuning")
    return {name: importlib.import_module(f"experiments.layouts.{name}") for name in names}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n((?s:.*?))^```$", PAGE, re.MULTILINE)


def test_the_layout_of_the_page_is_one():
    text, _ = blocks("yaml")
    layout = Layout.from_dict(yaml.safe_load(text)["layout"])
    assert layout.channels == 192


def test_every_name_is_explained_and_every_explained_one_exists():
    table = PAGE.partition("| name | stages")[2].partition("\n\n")[0]
    explained = re.findall(
        r"`([a-z0-9KS-]+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:])
    )
    assert set(explained) - {"greedy-S", "learned-S"} == set(layout_names())
    for line in table.splitlines()[2:]:
        names, stages = line.split("|")[1], line.split("|")[2].strip()
        if stages.isdecimal():
            for name in re.findall(r"`([a-z0-9-]+)`", names):
                assert named_layout(name, 192).stages() == int(stages)


@pytest.mark.slow
def test_the_python_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"steps": 2, "crop": 64, "batch": 2, "architectures": 1, "strategy": "uniform"}
    start_training(
        TrainingRequest("joint-ar-tiny", "bundled", Path("runs/a"), settings=settings, device="cpu")
    )
    (text,) = blocks("python")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(text, "layouts.md", "exec"), {"nas": nas})
    assert [line.split()[0] for line in printed.getvalue().splitlines()] == [
        "greedy-8",
        "greedy-4",
        "greedy-2",
    ]


def test_the_figures_are_those_of_the_results(scripts):
    show = scripts["show"]
    assert renewed(PAGE, "results", show.tables()) == PAGE


def test_the_committed_weights_are_the_spaces(scripts):
    common = scripts["common"]
    net = common.load_supernet(common.WEIGHTS)
    assert net.space.y_channels == 48
    tensors = Checkpoint.read(common.WEIGHTS).tensors
    assert all(t.dtype == torch.float16 for t in tensors.values() if t.is_floating_point())
    assert common.WEIGHTS.stat().st_size < 8e6


def test_a_context_model_trains_on_latents_alone(scripts):
    from families import seeded_supernet
    from skimage import data

    from nas.photos.images import Photo

    common, tuning = scripts["common"], scripts["tuning"]
    net = seeded_supernet(SearchSpace.load("joint-ar-tiny"), spread=50).requires_grad_(False)
    latents = common.latents_of(net, [Photo("a", data.chelsea()[:128, :192])])
    seen = []
    before = net.g_a[0].weight.clone()
    layout = named_layout("raster-2x2", 32)
    tuning.tune(net.context, latents, lambda rng: layout, steps=30, report=lambda step, bpp: seen.append(bpp))
    assert sum(seen[-5:]) < sum(seen[:5])
    assert torch.equal(before, net.g_a[0].weight)
