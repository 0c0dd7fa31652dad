"""What `nas info` tells of every kind of thing."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import drawn
import numpy as np
import pytest
import yaml
from hypothesis import given

from nas.graph.network import Supernet
from nas.report.info.layouts import layout_info, visible_share
from nas.run import Run
from nas.spaces.architecture import split_key
from nas.spaces.budget import Budget
from nas.spaces.layout import Layout, layout_names, named_layout
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError
from nas.verbs.info import describe

NAMED = [name.replace("K", "4").replace("S", "6") for name in layout_names()]


def text(thing: str) -> str:
    return "\n".join(describe(thing).lines())


@pytest.mark.parametrize("name", resources.shipped("search_spaces"))
def test_spaces(name: str) -> None:
    found, space = describe(name), SearchSpace.load(name)
    info = found.also or found  # a layout may have the same name
    assert info.kind == "space"
    assert info.fields["architectures"] == space.size
    assert list(info.fields["slots"]) == [slot.name for slot in space.slots]
    assert describe(str(resources.find("search_spaces", name))) == info
    json.dumps(info.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", resources.shipped("budgets"))
def test_budgets(name: str) -> None:
    info = describe(name)
    assert info.kind == "budget"
    assert len(info.fields["limits"] or []) == len(Budget.load(name).limits)
    assert info.fields["targets"] or info.fields["levels"] or info.fields["limits"]
    assert describe(str(resources.find("budgets", name))) == replace(info, also=None)


@pytest.mark.parametrize("name", resources.shipped("recipes"))
def test_recipes(name: str) -> None:
    found = describe(name)
    info = found.also or found  # a budget may have the same name
    assert info.kind == "recipe"
    assert info.fields["sets"] == resources.read_yaml(resources.find("recipes", name))
    assert {"steps", "lmbda", "seed"} <= {*info.fields["sets"], *info.fields["and_by_default"]}


@pytest.mark.parametrize("name", NAMED)
def test_layouts(name: str) -> None:
    info, layout = describe(name), named_layout(name, 192)
    assert info.kind == "layout"
    assert info.fields["stages_768x512"] == layout.stages()
    assert info.fields["tile"] == layout.table.tolist()
    json.dumps(info.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("name", "share"),
    [("none", 0), ("checkerboard", 0.24), ("raster-2x2", 0.32), ("channelwise-4", 0.375), ("raster", 0.48)],
)
def test_the_share_of_a_dense_pass(name: str, share: float) -> None:
    assert describe(name).fields["visible_share"] == pytest.approx(share)


def test_what_a_stage_sees_is_drawn() -> None:
    lines = text("raster-2x2")
    assert "0 1\n2 3" in lines
    assert "  . . . . .\n  # # # # #\n  . . o . .\n  # # # # #\n  . . . . .\n" in lines
    assert "  # # # # #\n  # # # # #\n  # # o . .\n  . . . . .\n  . . . . ." in text("raster")
    assert "everything of channels 0-127\n" in text("elic-10")


@given(drawn.layouts(7))
def test_any_layout_can_be_drawn(layout: Layout) -> None:
    info = layout_info(layout, 3)
    assert all(len(line) <= 120 for line in info.lines())
    seen = 0
    for block in layout.blocks(3):
        mine = sum(layout.groups[group] for group in block.groups)
        seen += mine * int(np.sum(block.visible[layout.group_of_channel]))
    cells = layout.table[0].size
    assert visible_share(layout, 3) == pytest.approx(seen / (cells * 9 * 49))


def test_keys_of_a_shipped_space() -> None:
    space = SearchSpace.load("joint-ar-tiny")
    architecture = space.uniform(0.5, "raster")
    info = describe(architecture.key)
    assert info.kind == "architecture"
    assert info.fields["space"] == "joint-ar-tiny"
    widths = [width for edge in info.fields["widths"].values() for width in edge]
    assert widths == list(space.layer_widths(architecture).values())
    assert (info.fields["layout"], info.fields["stages"]) == ("raster", 141)


def test_keys_of_other_spaces() -> None:
    info = describe("g_a=3-5+decoder=4+layout=greedy-4")
    assert info.fields["widths"] == {"g_a": [3, 5], "decoder": [4]}
    assert info.fields["layout"] == "greedy-4"
    for other in ("layout=greedy-4+g_a=3-5+decoder=4", "g_a=3-5+layout=greedy-4+decoder=4"):
        assert {**describe(other).fields, "arch": ""} == {**info.fields, "arch": ""}


def test_parts_of_a_key_may_stand_in_any_order_wherever_it_is_given(small_space: SearchSpace) -> None:
    """What an export takes, an info takes as well."""
    parts = small_space.widest().key.split("+")
    for turn in range(len(parts)):
        key = "+".join(parts[turn:] + parts[:turn])
        assert small_space.parse(key) == small_space.widest()
        assert split_key(key) == split_key(small_space.widest().key)


def test_a_key_without_a_layout_is_told_so(small_space: SearchSpace) -> None:
    for key in ("g_a=3-5+decoder=4", SearchSpace.load("joint-ar-tiny").widest().key.rpartition("+")[0]):
        with pytest.raises(InputError, match=r"has no layout: add one at its end, such as \+layout="):
            describe(key)
    with pytest.raises(InputError, match=r"has no layout: .* such as \+layout=none"):
        small_space.parse(small_space.widest().key.rpartition("+")[0])


def test_codecs_and_their_files(supernet: Supernet, chelsea: np.ndarray, tmp_path: Path) -> None:
    from nas.codec.bitstream import compress_image
    from nas.codec.codec import Codec
    from nas.codec.folder import save_codec

    architecture = supernet.space.uniform(0.5, "checkerboard")
    codec = Codec(supernet.extract(architecture), architecture)
    save_codec(codec, tmp_path / "codec", {"lmbda": 0.01, "metric": "mse"})
    info = describe(str(tmp_path / "codec"))
    assert info.kind == "codec"
    assert info.fields["fingerprint"] == codec.fingerprint
    assert info.fields["widths"]["g_a"] == [16, 16, 16]
    assert describe(str(tmp_path / "codec" / "codec.yaml")) == info

    file = tmp_path / "photo.nic"
    file.write_bytes(compress_image(codec, chelsea).to_bytes())
    nic = describe(str(file))
    assert nic.kind == "nic"
    assert (nic.fields["height"], nic.fields["width"]) == chelsea.shape[:2]
    assert nic.fields["fingerprint"] == codec.fingerprint
    assert nic.fields["entropy_path"] == codec.path_identity
    assert nic.fields["bpp"] == 8 * file.stat().st_size / (chelsea.shape[0] * chelsea.shape[1])
    assert nic.fields["header_bytes"] == 20
    assert nic.fields["largest_y"] > 0
    assert nic.fields["largest_z"] > 0
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="cut short or damaged"):
        describe(str(file))


@pytest.mark.parametrize("limit", [1, 127, 128, 1023])
def test_files_of_codecs_without_z(limit: int, tmp_path: Path) -> None:
    """What is coded is not taken for a number."""
    from nas.codec.nic import Nic, write_varint

    file = tmp_path / "photo.nic"
    for coded in (b"", b"\xff" * 8, bytes(4)):
        nic = Nic("12345678", "12345678", 64, 64, write_varint(limit) + coded, 0)
        file.write_bytes(nic.to_bytes())
        fields = describe(str(file)).fields
        assert fields["largest_y"] == limit
        assert "largest_z" not in fields
    file.write_bytes(replace(nic, stream=b"\xff" * 5).to_bytes())
    with pytest.raises(InputError, match=r"photo\.nic is cut short or damaged, because a number"):
        describe(str(file))


def test_runs(small_space: SearchSpace, tmp_path: Path) -> None:
    from nas.training.settings import TrainingSettings

    run = Run.create(tmp_path / "run", small_space, TrainingSettings(seed=3, steps=7).model_dump())
    run.search_path.mkdir()
    (run.search_path / "scores.csv").write_text("key,bpp\na,1\nb,2\n")
    info = describe(str(run.path))
    assert info.kind == "run"
    assert info.fields["architectures"] == small_space.size
    assert (info.fields["scored"], info.fields["front"], info.fields["steps"]) == (2, 0, 7)
    assert info.fields["state"].startswith("not trained yet")
    assert describe(str(run.config_path)) == info
    json.dumps(info.to_json())


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("join-ar", "did you mean joint-ar"),
        ("rasta", "did you mean raster"),
        ("three-level", "did you mean three-levels"),
        ("channelwise-9999", "cannot be cut"),
        ("greedy-4", "made by a run's search"),
        ("random-0", "1 to 768 stages"),
        ("nowhere/codec.yaml", "no file or folder"),
        ("photo.nic", "no file or folder"),
        ("g_a=wide+layout=none", "not a part of a key"),
        ("a=1+=2", "not an architecture's key"),
        ("a=1+a=2+layout=none", "not an architecture's key"),
        ("a=1+layout=none+layout=none", "not an architecture's key"),
        ("layout=none", "not an architecture's key"),
        (f"a={'1' * 200}+layout=none", "not a part of a key"),
        ("a=1+layout=", "not a part of a key"),
        (str(Path(__file__).parent), "neither a run"),
        (__file__, "not a file of this toolkit"),
    ],
)
def test_unknown_things(thing: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        describe(thing)


def test_most_of_it_needs_no_torch() -> None:
    program = (
        "import sys; from nas.verbs.info import describe\n"
        "for thing in ('raster', 'joint-ar', 'three-levels'): describe(thing).lines()\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


def test_a_layout_in_yaml_and_a_runs_table_of_them(tmp_path: Path) -> None:
    one = {"groups": [2, 2], "slope": [0, 0], "tile": [[[0, 1]], [[1, 2]]]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"layout": one}))
    info = describe(str(tmp_path / "mine.yaml"))
    assert (info.kind, info.fields["layout"], info.fields["stages_768x512"]) == ("layout", "mine", 3)
    entries = [{"name": name, "bpp": 0.5, "stages": 3, **one} for name in ("greedy-3", "learned-3")]
    (tmp_path / "layouts.yaml").write_text(yaml.safe_dump({"weights": "x", "layouts": entries}))
    text = "\n".join(describe(str(tmp_path / "layouts.yaml")).lines())
    assert text.index("greedy-3") < text.index("learned-3")
    for wrong in ({"layouts": []}, {"layouts": [3]}, {"layouts": {"name": "a"}}):
        (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
        with pytest.raises(InputError, match=r"lists no layout|damaged"):
            describe(str(tmp_path / "wrong.yaml"))


def test_the_zoo_and_its_supernets_are_told_of() -> None:
    found = describe("zoo").to_json()
    assert found["kind"] == "zoo"
    for name in found["supernets"]:
        one = describe(name)
        assert one.kind == "run"
        assert "steps" in one.fields["trained"]
        assert "steps" not in one.fields  # which would be those of the last phase alone
        assert "train" not in one.fields["data"]  # the photos that it was packed with
        assert any("nas train" in line for line in one.lines())
    with pytest.raises(InputError, match="did you mean joint-ar-tiny"):
        describe("zoo:joint-ar-tin")
    assert "zoo:patch" in found["use"]  # which has every rate


def test_a_hint_names_nothing_twice() -> None:
    """A budget and a recipe are both called laptop."""
    with pytest.raises(InputError, match=r"did you mean laptop\?$"):
        describe("lapptop")


def test_a_recipe_of_ones_own_and_what_a_space_of_ones_own_reaches(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("steps: 10\nlearning_rate: 1e-3\n")
    found = describe(str(tmp_path / "mine.yaml"))
    assert (found.kind, found.fields["sets"]["steps"]) == ("recipe", 10)
    shutil.copy(resources.find("search_spaces", "joint-ar-tiny"), tmp_path / "space.yaml")
    reach = describe(str(tmp_path / "space.yaml")).fields["reach"]
    assert reach["total"].startswith("0.7035 to 6.469 kMAC/px")


def test_widths_stand_in_the_order_of_their_numbers() -> None:
    """Whatever the order in which an edge comes upon them: a switch before what it switches."""
    key = SearchSpace.load("patch-tiny").sample(random.Random(3)).key
    parts = dict(part.split("=") for part in key.split("+"))
    widths = describe(key).fields["widths"]
    assert all("-".join(map(str, widths[edge])) == parts[edge] for edge in ("g_s", "g_s_depth", "g_s_inner"))
