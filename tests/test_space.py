"""Search spaces and architectures: keys, places, files, and what is refused."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL
from drawn import SEEDS, architectures, indexes
from hypothesis import assume, given
from hypothesis import strategies as st

from nas.spaces.space import MAX_KEY, SearchSpace
from nas.support import resources
from nas.support.errors import InputError, nearest

SPACES = {name: SearchSpace.load(name) for name in resources.shipped("search_spaces")}
SPACES["small"] = SearchSpace.from_dict(SMALL, name="small")


class Missing:
    """Stands for a field that is taken out."""

    def __repr__(self) -> str:
        return "missing"


MISSING = Missing()

any_space = st.sampled_from(list(SPACES.values()))
any_point = any_space.flatmap(lambda space: st.tuples(st.just(space), architectures(space)))
any_place = any_space.flatmap(lambda space: st.tuples(st.just(space), indexes(space)))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small space's file with one field replaced, removed or added."""
    content = copy.deepcopy(SMALL)
    *parents, last = path.split("/")
    inner = content
    for parent in parents:
        inner = inner[parent]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return content


# Keys


@given(any_point)
def test_a_key_parses_back(drawn):
    space, architecture = drawn
    assert space.parse(architecture.key) == architecture
    assert hash(space.parse(architecture.key)) == hash(architecture)
    assert str(architecture) == architecture.key


@given(any_point)
def test_keys_are_safe_and_short(drawn):
    _, architecture = drawn
    assert re.fullmatch(r"[A-Za-z0-9._=+-]+", architecture.key)
    assert len(architecture.key) <= MAX_KEY == 200


@given(any_space, SEEDS)
def test_different_architectures_have_different_keys(space, seed):
    rng = random.Random(seed)
    found = {space.sample(rng) for _ in range(30)}
    assert len({architecture.key for architecture in found}) == len(found)


@given(any_point, st.data())
def test_a_damaged_key_names_its_part(drawn, data):
    space, architecture = drawn
    parts = architecture.key.split("+")
    place = data.draw(st.integers(0, len(parts) - 1))
    edge = parts[place].partition("=")[0]
    parts[place] = f"{edge}=999"
    with pytest.raises(InputError, match=re.escape(edge)):
        space.parse("+".join(parts))


@pytest.mark.parametrize(
    "key", ["", " ", "none", "g_a=3", "a b", "x" * 300, "é", "layout=none", "+++", "===", "g_a=3\n"]
)
def test_what_is_no_key_is_refused(small_space, key):
    with pytest.raises(InputError, match="key"):
        small_space.parse(key)


def test_a_wrong_width_lists_the_right_ones(small_space):
    key = small_space.narrowest().key.replace("g_a=3", "g_a=4")
    with pytest.raises(InputError, match=r"g_a .*'4'.* 3, 5"):
        small_space.parse(key)


def test_a_wrong_layout_gives_the_nearest(small_space):
    key = small_space.narrowest().key.replace("layout=none", "layout=rastr")
    with pytest.raises(InputError, match="did you mean raster"):
        small_space.parse(key)


# Places


@given(any_place)
def test_every_point_has_one_place(drawn):
    """Once it is settled: a slot without effect has one place."""
    space, place = drawn
    settled = space.indexes(space.at(place))
    assert space.indexes(space.at(settled)) == settled
    products = [all(map(tuple.__contains__, regime, settled)) for regime in space.regimes]
    assert products.count(True) == 1
    assert settled == place or len(products) > 1


def test_the_size_is_the_number_of_points(small_space):
    points = {small_space.at(place) for place in itertools.product(*map(range, small_space.shape))}
    assert len(points) == small_space.size == 2 * 2 * 2 * 3 * 2 * 3


@given(any_point)
def test_neighbours_are_one_step_away_in_one_slot(drawn):
    space, architecture = drawn
    assume(len(space.regimes) == 1)
    here = space.indexes(architecture)
    found = list(space.neighbours(architecture))
    assert (
        len(set(found))
        == len(found)
        == sum((place > 0) + (place < count - 1) for place, count in zip(here, space.shape, strict=True))
    )
    for other in found:
        steps = [abs(a - b) for a, b in zip(here, space.indexes(other), strict=True)]
        assert sum(steps) == 1
        assert architecture in list(space.neighbours(other))


@given(any_space, st.floats(0, 1))
def test_uniform_lies_between_the_ends(space, level):
    layout = space.layout_names[0]
    low, middle, high = space.narrowest(), space.uniform(level, layout), space.widest()
    assert middle.layout == layout
    assert space.uniform(0) == low
    assert space.uniform(1) == high
    for least, width, most in zip(low.widths, middle.widths, high.widths, strict=True):
        assert least[1] <= width[1] <= most[1]


@given(any_point)
def test_every_layer_has_one_width(drawn):
    space, architecture = drawn
    widths = space.layer_widths(architecture)
    assert set(widths) >= set(space.family.choices)
    for layer, width in widths.items():
        candidates, place = space.candidates(layer), space.setter(layer)
        assert place is not None
        assert candidates.index(width) == space.indexes(architecture)[place]
        assert list(candidates) == sorted(set(candidates))


@given(architectures(SPACES["joint-ar-per-edge"]))
def test_ties_of_the_per_edge_space(architecture):
    widths = SPACES["joint-ar-per-edge"].layer_widths(architecture)
    assert widths["h_s.2"] == 1.5 * widths["h_s.1"]
    for edge, count in (("g_a", 3), ("h_a", 2), ("g_s", 3)):
        assert len({widths[f"{edge}.{k}"] for k in range(1, count + 1)}) == 1


@given(any_point)
def test_the_space_of_one_architecture(drawn):
    space, architecture = drawn
    alone = space.only(architecture)
    assert alone.size == 1
    assert alone.widest() == alone.narrowest() == architecture
    assert alone.parse(architecture.key) == architecture
    assert alone.layer_widths(architecture) == space.layer_widths(architecture)


def test_layouts_go_from_few_stages_to_many():
    for space in SPACES.values():
        stages = [space.layouts[name].stages() for name in space.layout_names]
        assert stages == sorted(stages)


# Files


@pytest.mark.parametrize("name", SPACES)
def test_a_space_survives_its_file(name, tmp_path):
    space = SPACES[name]
    path = tmp_path / "copy.yaml"
    path.write_text(yaml.safe_dump(space.to_dict(), sort_keys=False))
    again = SearchSpace.load(path)
    assert again.to_dict() == space.to_dict()
    assert (again.slots, again.layouts, again.grouping) == (space.slots, space.layouts, space.grouping)
    assert again.shape == space.shape
    assert again.parse(space.widest().key) == space.widest()
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())), name=name) == space


WRONG = [
    ("family", MISSING, "`family` is missing"),
    ("family", "joint-at", "family 'joint-at'.*joint-ar"),
    ("famly", "joint-ar", "no field `famly`.*did you mean family"),
    ("latents", MISSING, "`latents` does not say how many channels y has"),
    ("latents", {"y": 6}, "`latents` does not say how many channels z has"),
    ("latents/y", 0, r"`latents\.y`.*greater than 0.*given: 0"),
    ("latents/y", "six", r"`latents\.y`.*whole number.*'six'"),
    ("latents/y", True, r"`latents\.y` cannot be true"),
    ("widths/g_a", [8, -16], r"item 2 of `widths\.g_a` should be greater than or equal to 0 \(given: -16\)"),
    ("widths/g_a", [8.5, 16], r"item 1 of `widths\.g_a` should be a whole number \(given: 8\.5\)"),
    ("widths/g_a", "wide", r"`widths\.g_a` should be a whole number, a list or 'name: value' lines"),
    ("widths/g_a", None, r"`widths\.g_a` .*given: nothing"),
    ("widths/g_a", {"candidates": [8]}, r"the field `widths\.g_a\.layers` is missing"),
    ("latents/w", 3, r"no field `latents\.w`"),
    ("window", 4, "window must be 3, 5 or 7, not 4"),
    ("window", "wide", "`window`.*'wide'"),
    ("widths", MISSING, "`widths` is missing"),
    ("widths/g_a", MISSING, r"g_a\.1 nowhere"),
    ("widths/g_a", [], r"widths\.g_a must list.*narrow to wide"),
    ("widths/g_a", [5, 3], r"widths\.g_a must list.*narrow to wide.*\[5, 3\]"),
    ("widths/g_a", [3, 3], r"widths\.g_a must list different"),
    ("widths/g_a", [0, 3], r"widths\.g_a: g_a\.1 cannot have 0 channels"),
    ("widths/g_a", -3, r"`widths\.g_a`"),
    ("widths/g_a", "wide", r"`widths\.g_a`.*'wide'"),
    ("widths/g_b", [3], r"widths\.g_b: joint-ar has no 'g_b'"),
    ("widths/g_a.1", [3], r"sets g_a\.1 twice"),
    ("widths/g_a b", [3], "'g_a b' cannot name a slot"),
    ("widths/layout", [3], "'layout' cannot name a slot"),
    ("widths/h_s", {"candidates": [2]}, "`widths.h_s.layers` is missing|`widths.h_s`"),
    ("widths/h_s/layers", {"h_s.1": 1, "h_s.3": 1}, r"no 'h_s\.3'.*h_s"),
    ("widths/h_s/layers", {"h_s.1": 1, "h_s.2": 0.1}, r"two candidates give h_s\.2 the same width"),
    ("widths/h_s/layers", {"h_s.1": 1, "h_s.2": -1}, r"h_s"),
    ("widths/h_s/factor", 2, r"no field `widths\.h_s\.factor`"),
    ("layouts", [], "`layouts`"),
    ("layouts", "none", "`layouts`.*list"),
    ("layouts", ["rastr"], "no layout named 'rastr'.*did you mean raster"),
    ("layouts", ["channelwise-7"], "6 channels cannot be cut into 7"),
    ("layouts", ["channelwise-0"], "cannot be cut into 0"),
    ("layouts", ["none", "none"], "Two layouts are named 'none'"),
    ("layouts", [{"name": "a b", "groups": [6], "tile": [[[0]]]}], "'a b' cannot name a layout"),
    ("layouts", [{"name": "a", "groups": [5], "tile": [[[0]]]}], "'a' add up to 5, and y has 6"),
    ("layouts", [{"name": "a", "tile": [[[0]]]}], "'a' must be"),
    ("layouts", [{"name": "a", "groups": [6], "tile": [[[0]]], "stages": 1}], "'a' must be"),
    ("layouts", [{"name": "a", "groups": [6], "tile": [[[0, 2]]]}], "Stage 1 is missing"),
    ("layouts", [{"name": "a", "groups": ["x"], "tile": [[[0]]]}], "whole number"),
    # numbers that no machine has room for, or that are none
    ("latents/y", 10**7, r"`latents\.y` should be less than or equal to 4096"),
    ("features", {"phi": 10**12}, r"`features\.phi` should be less than or equal to 4096"),
    ("features", {"psi": 0}, r"`features\.psi` should be greater than 0"),
    ("widths/g_a", [8, 10**400], r"item 2 of `widths\.g_a` should be less than or equal to 4096"),
    ("widths/h_s/layers", {"h_s.1": 1, "h_s.2": 1e300}, r"widths\.h_s gives h_s\.2 more than 4096 channels"),
    ("widths/h_s/layers", {"h_s.1": 1, "h_s.2": math.inf}, r"`widths\.h_s\.layers\.h_s\.2`.*finite"),
    ("layouts", [{"name": "a", "groups": [6], "tile": [[[0, 10**18]]]}], "stages up to 1000000"),
    ("rates", [0.1, math.inf], r"item 2 of `rates` should be .*finite|less than or equal"),
    ("rates", [1e-320, 1], r"item 1 of `rates` should be greater than or equal to"),
    ("rates", [1, math.nan], r"item 2 of `rates`"),
    ("rates", [0.1], "at least two different lambdas"),
    ("grouping/tile", [2, 10**6], r"item 2 of `grouping\.tile` should be less than or equal to 64"),
    ("grouping/groups", 7, "grouping.groups is 7"),
    ("grouping/tile", [2], r"`grouping\.tile"),
    ("grouping/stages", [], r"`grouping\.stages`"),
    ("grouping/stage", [2], r"no field `grouping\.stage`"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{p}={v!r:.30}" for p, v, _ in WRONG])
def test_wrong_fields_are_named(path, value, message):
    with pytest.raises(InputError, match=f"(?s)a-file.*{message}") as caught:
        SearchSpace.from_dict(changed(path, value), name="small", source="a-file")
    assert "\n" not in str(caught.value)


def test_keys_that_would_be_too_long_are_refused():
    long = {"name": "x" * 180, "groups": [6], "tile": [[[0]]]}
    with pytest.raises(InputError, match="longer than 200"):
        SearchSpace.from_dict(changed("layouts", [long]), name="small")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n", "list"),
        ("", "is empty"),
        ("\x00", "not valid YAML"),
        ("3", "a number"),
    ],
)
def test_files_that_are_no_mapping(tmp_path, text, message):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        SearchSpace.load(path)
    assert str(path) in str(caught.value)


def test_files_in_another_encoding(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_bytes("family: caf\xe9".encode("latin-1"))
    with pytest.raises(InputError, match="not valid YAML"):
        SearchSpace.load(path)


def test_unknown_names_give_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"joint-artiny.*did you mean joint-ar-tiny"):
        SearchSpace.load("joint-artiny")
    with pytest.raises(InputError, match=r"choose one of: .*joint-ar-per-edge"):
        SearchSpace.load("zzzz")
    with pytest.raises(InputError, match="no file"):
        SearchSpace.load(tmp_path / "absent.yaml")
    assert nearest("x", []) == "none is known."


def test_spaces_need_no_torch():
    """Everything a command does before it computes; one process for all."""
    script = """
import sys
from nas.support import resources
from nas.spaces.space import SearchSpace
import nas.spaces.layout
for name in resources.shipped("search_spaces"):
    space = SearchSpace.load(name)
    assert space.parse(space.widest().key) == space.widest()
    space.to_dict()
heavy = {"torch", "compressai", "optuna", "pandas", "matplotlib", "fvcore"} & set(sys.modules)
assert not heavy, heavy
"""
    root = Path(resources.__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=root, timeout=60)


def test_slots_in_any_order_have_keys_that_parse():
    content = copy.deepcopy(SMALL)
    widths = {"g_a.1": 2, "h_a": 2, "g_a.2": 3, "g_a.3": 3, "h_s": 3, "g_s": 3, "entropy_parameters": 4}
    content["widths"] = widths
    space = SearchSpace.from_dict(content, name="mixed")
    assert space.parse(space.widest().key) == space.widest()


@given(any_point)
def test_only_canonical_keys_parse(drawn):
    space, architecture = drawn
    with pytest.raises(InputError, match="key"):
        space.parse(f"{architecture.key}+{architecture.key.split('+')[0]}")


@pytest.mark.parametrize(
    "layout", [{"groups": [6.7], "tile": [[[0]]]}, {"groups": [6], "tile": [[[0, 0.6]]]}]
)
def test_fractions_are_no_stages(layout):
    with pytest.raises(InputError, match="whole number"):
        SearchSpace.from_dict(changed("layouts", [layout]), name="small")


def test_no_edge_has_blocks_without_end():
    content = resources.read_yaml(resources.find("search_spaces", "patch-tiny"))
    content["widths"]["g_a_depth.1"] = [0, 1000]
    with pytest.raises(InputError, match=r"g_a_depth\.1 more than 100 blocks"):
        SearchSpace.from_dict(content, name="deep")
