"""A codec drawn as the graph that it is, in text and as a picture: what is drawn, how thick, and where."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import drawn
import pytest
import yaml
from families import others_slow
from hypothesis import given, settings
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from typer.testing import CliRunner

from nas.cli import app
from nas.cost.counting.scopes import SCOPE_EDGES
from nas.cost.counting.table import CostTable
from nas.cost.counting.tabulate import measured_costs
from nas.graph.network import Supernet
from nas.report.structure.codec_graph import CodecGraph, codec_graph
from nas.report.structure.graph import HAIRLINE, draw_picture, save_picture
from nas.report.structure.graph_text import STROKES, draw_graph, label, stroke
from nas.report.structure.layout_text import TERMINAL_WIDTH, draw_tile
from nas.spaces.architecture import Architecture
from nas.spaces.layout import Layout, layout_names, named_layout
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError
from nas.verbs.info import describe

SPACES = resources.shipped("search_spaces")
# Pictures differ by family: of each family one space in the fast tests, the others in the slow ones.
FIRST = {SearchSpace.load(name).family.name: name for name in reversed(SPACES)}
DRAWN = others_slow(SPACES, FIRST.values())
NAMED = [name.replace("K", "10").replace("S", "12") for name in layout_names()]
TINY = SearchSpace.load("joint-ar-tiny")


@cache
def graph_of(name: str, layout: str, wide: bool = True) -> CodecGraph:
    space = SearchSpace.load(name)
    architecture = space.under(layout, space.widest() if wide else space.narrowest())
    return codec_graph(space, architecture, costs_of(name, architecture).by_edge(architecture))


@cache
def costs_of(name: str, architecture: Architecture) -> CostTable:
    return measured_costs(SearchSpace.load(name).only(architecture))


def by_edge(space: SearchSpace, architecture: Architecture) -> dict[str, float]:
    return measured_costs(space.only(architecture)).by_edge(architecture)


def graphs(name: str) -> Iterator[CodecGraph]:
    """The widest and the narrowest under every layout of a shipped space."""
    for layout, wide in itertools.product(SearchSpace.load(name).layout_names, (True, False)):
        yield graph_of(name, layout, wide)


@pytest.fixture(scope="module", params=DRAWN)
def pictures(request: pytest.FixtureRequest) -> list[tuple[CodecGraph, Figure]]:
    """The graphs of a space, each with its picture."""
    return [(graph, draw_picture(graph)) for graph in graphs(request.param)]


# What is drawn


@pytest.mark.parametrize("name", SPACES)
def test_every_edge_with_macs_is_one_arrow(name: str) -> None:
    space = SearchSpace.load(name)
    for graph in graphs(name):
        architecture = space.parse(graph.key)
        table = costs_of(name, architecture)
        costs = table.by_edge(architecture)
        arrows = [arrow for arrow in graph.arrows if arrow.edge]
        assert {arrow.edge: arrow.kmac_px for arrow in arrows} == {
            edge: cost for edge, cost in costs.items() if cost
        }
        assert {arrow.edge for arrow in arrows} <= set(SCOPE_EDGES["total"])
        assert graph.total == pytest.approx(table.kmac_px(architecture))
        assert ("context" in costs and costs["context"] > 0) == graph.layout.has_context
        for arrow in arrows:
            sides = {side for side in ("encoder", "decoder") if arrow.edge in SCOPE_EDGES[side]}
            assert sides == ({"encoder", "decoder"} if arrow.side == "both" else {arrow.side})


@pytest.mark.parametrize("name", SPACES)
def test_nodes_hang_together(name: str) -> None:
    has_z = SearchSpace.load(name).family.has_z
    for graph in graphs(name):
        assert set(graph.nodes) == {"x", "y", "x_hat", *(("z", "psi") if has_z else ())}
        assert set(graph.channels) == {"x", "y", *(("z",) if has_z else ())}
        into = {arrow.head for arrow in graph.arrows}
        assert into == set(graph.nodes) - {"x"}, "every node but x is computed from another"


def test_without_a_hyperprior_there_is_no_z() -> None:
    fields = SearchSpace.load("mean-scale-hyperprior-tiny").to_dict()
    fields["widths"] = {**fields["widths"], "hyperprior": [0, 1]}
    space = SearchSpace.from_dict(fields, name="with and without")
    found = {
        architecture: codec_graph(space, architecture, by_edge(space, architecture)).nodes
        for architecture in (space.narrowest(), space.widest())
    }
    assert list(found.values()) == [("x", "y", "x_hat"), ("x", "y", "z", "psi", "x_hat")]


# Text


@pytest.mark.parametrize("name", SPACES)
def test_text_has_every_number_once_in_100_columns(name: str) -> None:
    for graph in graphs(name):
        lines = draw_graph(graph)
        assert max(map(len, lines)) <= TERMINAL_WIDTH
        page = "\n".join(lines)
        boxes = page[: page.index("thickness by")]  # the notes name edges, too
        for arrow in graph.arrows:
            if arrow.edge:
                assert boxes.count(f" {label(arrow)} ") == 1
                assert boxes.count(f" {arrow.edge} ") == 1
        for node in graph.nodes:
            assert sum(boxes.count(box) for box in {f"│{node:^5}│", f"│{node:^3}│"}) == 1
        assert boxes.count("►") + boxes.count("◄") == len(graph.arrows)
        if "z" not in graph.nodes:
            assert not any(word in page for word in ("│ z │", "psi", "h_a", "h_s", "context"))
        flat = page.replace("\n", " ")
        assert all(row.strip() in flat for row in draw_tile(graph.layout, 20)), "the tile stands there"


def test_arrows_are_as_thick_as_their_macs(pictures: list[tuple[CodecGraph, Figure]]) -> None:
    for graph, figure in pictures:
        arrows = sorted((a for a in graph.arrows if a.edge), key=lambda arrow: arrow.kmac_px)
        strokes = [STROKES.index(stroke(arrow)) for arrow in arrows]
        assert strokes == sorted(strokes)
        widths = {line.get_label(): line.get_linewidth() for line in figure.axes[0].lines}
        drawn_widths = [widths[arrow.edge] for arrow in arrows]
        assert drawn_widths == sorted(drawn_widths)
        assert drawn_widths == pytest.approx([max(HAIRLINE, 3 * a.kmac_px ** (1 / 3)) for a in arrows])
        assert drawn_widths[-1] < 24, "heads fit the circles"


def test_a_tall_tile_stands_below() -> None:
    space = TINY.with_layouts({"channelwise-32": named_layout("channelwise-32", TINY.y_channels)})
    architecture = space.under("channelwise-32", space.widest())
    lines = draw_graph(codec_graph(space, architecture, by_edge(space, architecture)))
    assert max(map(len, lines)) <= TERMINAL_WIDTH
    assert len(lines) < 40
    assert "layout channelwise-32, the stage of each position:" in lines


# Pictures


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.axes[0].texts if text.get_text()]


def check_page(figure: Figure) -> None:
    """All text on the page, and no two level texts on each other."""
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_rotation(), text.get_window_extent()) for text in texts(figure)]
    for words, _, box in boxes:
        assert min(box.x0, box.y0, figure.bbox.width - box.x1, figure.bbox.height - box.y1) >= 0, words
    level = [(words, box) for words, rotation, box in boxes if rotation == 0]
    for (one, first), (other, second) in itertools.combinations(level, 2):
        assert not first.shrunk(0.9, 0.9).overlaps(second.shrunk(0.9, 0.9)), (one, other)


def test_labels_stand_apart_on_the_page(pictures: list[tuple[CodecGraph, Figure]]) -> None:
    for graph, figure in pictures:
        check_page(figure)
        words = [text.get_text() for text in texts(figure)]
        for arrow in graph.arrows:
            if arrow.edge:
                assert sum(text.startswith(f"{arrow.edge}  ") for text in words) == 1
        edges = {arrow.edge for arrow in graph.arrows}
        labels = [text for text in texts(figure) if text.get_text().split("  ")[0] in edges]
        for one, other in itertools.combinations(labels, 2):
            assert not one.get_window_extent().overlaps(other.get_window_extent())


def test_branches_are_named_where_they_run() -> None:
    space = SearchSpace.load("patch-tiny")
    for architecture, branches in (
        (space.narrowest(), {"g_a": "linear", "g_s": "linear"}),
        (
            space.widest(),
            {
                "g_a": "linear beside learned (direct beside deep)",
                "g_s": "linear beside learned (direct beside deep, then direct beside renderer)",
            },
        ),
    ):
        graph = codec_graph(space, architecture, {"g_a": 1.0, "g_s": 1.0})
        assert graph.branches == branches
        page = draw_picture(graph).axes[0]
        for edge, words in branches.items():
            assert f"{edge}: {words}" in draw_graph(graph)
            assert f"{edge}: {words}" in [text.get_text() for text in page.texts]


@pytest.mark.parametrize("name", NAMED)
def test_named_layouts_alone(name: str) -> None:
    layout = named_layout(name, 192)
    figure = draw_picture(layout)
    check_page(figure)
    words = [text.get_text() for text in texts(figure)]
    assert f"layout {name}" in words
    stages = layout.stage_map(5, 8) if layout.slope != (0, 0) else layout.table
    assert {str(stage) for stage in stages.ravel()} <= set(words)


@given(drawn.layouts(7))
@settings(max_examples=10)
def test_any_layout_can_be_drawn(layout: Layout) -> None:
    check_page(draw_picture(layout))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_files_are_pictures_and_equal(tmp_path: Path, suffix: str) -> None:
    graph = graph_of("joint-ar-tiny", "raster")
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_picture(graph, path)
    save_picture(graph, again)
    assert path.read_bytes() == again.read_bytes()
    if suffix == ".svg":
        assert "h_s  0.149" in "".join(ElementTree.parse(path).getroot().itertext())
    elif suffix == ".pdf":
        assert path.read_bytes().startswith(b"%PDF-")
    else:
        with Image.open(path) as image:
            image.load()
            assert 1000 < image.width < 2400
            assert 500 < image.height < 1600
            assert len(image.convert("RGB").getcolors(1_000_000)) > 50


# `nas info`


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["info", *words])
    return done.exit_code, done.stdout, done.stderr


def test_a_key_by_command(tmp_path: Path) -> None:
    key, out = TINY.under("raster-2x2", TINY.widest()).key, tmp_path / "tiny.png"
    status, shown, _ = run(key, "--out", str(out))
    assert (status, out.is_file()) == (0, True)
    assert "\n".join(draw_graph(graph_of("joint-ar-tiny", "raster-2x2"))) in shown
    status, shown, _ = run(key, "--out", str(tmp_path / "more.svg"), "--json")
    content = json.loads(shown)
    assert content["files"] == [str(tmp_path / "more.svg")]
    assert content["kmac_px_by_edge"] == by_edge(TINY, TINY.parse(key))
    before = out.read_bytes()
    status, _, error = run("raster", "--out", str(out))
    assert (status, out.read_bytes()) == (2, before)
    assert "already exists" in error
    assert run("raster", "--out", str(out), "--force")[0] == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("key", "networks"),
    [
        ("g_a=24-24-24+g_s=24-24-24+layout=none", ["factorized", "factorized-320", "factorized-tiny"]),
        (
            "g_a=128+h_a=48+h_s=72+g_s=48+layout=none",
            ["mean-scale-hyperprior-per-edge", "scale-hyperprior-per-edge"],
        ),
        (SearchSpace.load("checkerboard").widest().key, ["checkerboard, joint-ar"]),
    ],
)
def test_a_key_may_mean_several_networks(key: str, networks: list[str], tmp_path: Path) -> None:
    info = first = describe(key)
    found, costs = [], set()
    while True:
        found.append(info.fields["space"])
        costs.add(tuple(info.fields["kmac_px_by_edge"].values()))
        assert "\n".join(info.text) in "\n".join(first.lines())
        if info.also is None:
            break
        info = info.also
    assert found == networks
    assert len(costs) == len(networks)
    assert first.draw(tmp_path / "a.svg").endswith(f"as in {networks[0]}" if len(networks) > 1 else "a.svg")


@pytest.mark.parametrize(
    ("thing", "name", "words"),
    [
        ("joint-ar", "a.png", "A space has nothing to draw"),
        ("ablation", "a.png", "A recipe has nothing to draw"),
        ("g_a=3-5+layout=greedy-4", "a.png", "none of the shipped spaces has nothing to draw"),
        ("raster", "a.jpg", r"ends in \.png, \.svg or \.pdf"),
        ("raster", "a", r"ends in \.png, \.svg or \.pdf"),
    ],
)
def test_refusals(thing: str, name: str, words: str, tmp_path: Path) -> None:
    thing = resources.shipped("recipes")[0] if thing == "ablation" else thing
    with pytest.raises(InputError, match=words):
        describe(thing).draw(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_table_of_layouts_is_no_one_picture(tmp_path: Path) -> None:
    one = {"groups": [2, 2], "slope": [0, 0], "tile": [[[0, 1]], [[1, 2]]]}
    entries = [{"name": name, **one} for name in ("greedy-3", "learned-3")]
    path = tmp_path / "layouts.yaml"
    path.write_text(yaml.safe_dump({"layouts": entries}))
    with pytest.raises(InputError, match="several layouts"):
        describe(str(path)).draw(tmp_path / "a.png")
    path.write_text(yaml.safe_dump({"layouts": entries[:1]}))
    describe(str(path)).draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_codecs_know_their_macs(supernet: Supernet, tmp_path: Path) -> None:
    from nas.codec.codec import Codec
    from nas.codec.folder import save_codec

    space = supernet.space
    architecture = space.uniform(0.5, "checkerboard")
    codec, costs = Codec(supernet.extract(architecture), architecture), by_edge(space, architecture)
    facts = {"lmbda": 0.01, "metric": "mse"}
    save_codec(codec, tmp_path / "old", facts)
    save_codec(codec, tmp_path / "new", {**facts, "kmac_px_by_edge": costs})
    save_codec(codec, tmp_path / "damaged", {**facts, "kmac_px_by_edge": {"g_a": "much"}})
    save_codec(codec, tmp_path / "other", {**facts, "kmac_px_by_edge": [1]})
    save_codec(codec, tmp_path / "huge", {**facts, "kmac_px_by_edge": {**costs, "g_a": 10**400}})
    some = {edge: cost for edge, cost in costs.items() if edge != "g_s"}
    save_codec(codec, tmp_path / "cut", {**facts, "kmac_px_by_edge": some})
    infos = [describe(str(tmp_path / name)) for name in ("old", "new", "damaged", "other", "huge", "cut")]
    for info in infos:
        assert info.fields["kmac_px_by_edge"] == costs
        assert info.text == tuple(draw_graph(codec_graph(space, architecture, costs)))
    # what is written in codec.yaml needs no counting
    program = (
        "import sys; from nas.verbs.info import describe\n"
        f"info = describe({str(tmp_path / 'new')!r}); info.lines()\n"
        f"info.draw(__import__('pathlib').Path({str(tmp_path / 'a.png')!r}))\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
