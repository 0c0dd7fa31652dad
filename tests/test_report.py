"""The figure and the page: complete, self-contained, the same each time, and safe with any text."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from nas.report.front.costs import COSTS, clock_of, view_of
from nas.report.front.data import MOST_DOTS
from nas.report.front.fronts import RunFront
from nas.report.front.page import MOST_PAGE_BYTES, write_page
from nas.report.front.pictures import Picture, Pictures, along_the_front
from nas.report.front.plots import draw_front, save_front
from nas.report.front.scale import Scale, lines_of_labels, tick_labels
from nas.run import FRONT_COLUMNS
from nas.spaces.architecture import split_key
from nas.spaces.budget import SCOPES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

HOSTILE = "</script><img src=x onerror=alert(1)> \"'&$title $x_1$"


def scored_table(space: SearchSpace, count: int, seed: int) -> pd.DataFrame:
    """Made-up scores that behave like real ones: wider costs more and loses less."""
    rng = random.Random(seed)
    rows = {}
    for architecture in [space.narrowest(), space.widest(), *(space.sample(rng) for _ in range(count))]:
        widths = dict(architecture.widths)
        share = {slot.name: widths[slot.name] / max(slot.candidates) for slot in space.slots}
        encoder = sum(v for slot, v in share.items() if slot.startswith(("g_a", "h_a")))
        decoder = sum(v for slot, v in share.items() if slot.startswith(("g_s", "h_s", "entropy")))
        psnr = 28 + 0.4 * (encoder + decoder) + rng.random() / 4
        bpp = 0.8 - 0.02 * decoder - 0.01 * rng.random()
        rows[architecture.key] = {
            "arch": architecture.key,
            "encoder_kmac_px": encoder,
            "decoder_kmac_px": decoder,
            "total_kmac_px": encoder + decoder,
            "stages": space.layout(architecture).stages(),
            "params": int(10_000 * (encoder + decoder)),
            "bpp": bpp,
            "psnr": psnr,
            "rd_loss": bpp + 0.013 * 255**2 * 10 ** (-psnr / 10),
            "bd_rate": np.nan,
            "lmbda": 0.013,
            "metric": "mse",
        }
    table = pd.DataFrame(list(rows.values()))
    stages = np.log2(table["stages"])
    table["encode_ms"], table["decode_ms"] = (table[f"{s}_kmac_px"] + stages for s in ("encoder", "decoder"))
    for cost in COSTS.values():
        table[cost.flag] = lowest(table, cost.column)
    return table


def lowest(table: pd.DataFrame, column: str) -> pd.Series:
    """Which rows no other row beats in a cost and the loss."""
    ordered = table.sort_values([column, "rd_loss"])["rd_loss"]
    return (ordered < ordered.cummin().shift(fill_value=np.inf))[table.index]


@cache
def tiny_space_and_scores(seed: int) -> tuple[SearchSpace, pd.DataFrame]:
    space = SearchSpace.load("joint-ar-tiny")
    return space, scored_table(space, 60, seed)


def make_run(name: str = "demo", *, seed: int = 0, export: bool = True, **changes: object) -> RunFront:
    space, scored = tiny_space_and_scores(seed)
    table = scored.copy()  # tests change it
    front = table[table[[cost.flag for cost in COSTS.values()]].any(axis=1)].copy()
    for measure in ("bpp", "psnr", "rd_loss"):
        front[f"test_{measure}"] = np.nan
    if export:
        front.loc[front.index[1], ["test_bpp", "test_psnr", "test_rd_loss"]] = [
            0.6543,
            31.98,
            9.8765,
        ]  # a loss no estimate has
    targets = {"total": (4.0, 4.1, 7.5, 900.0), "decoder": (2.5,), "decode": (5.0, 123.0)}
    known = (front, table, table.iloc[:2], table.iloc[2:4])
    run = RunFront(name, 0.013, "mse", *known, targets, "A Machine (cpu, 1 thread)", space)
    return replace(run, **changes)  # type: ignore[arg-type]


def untimed(run: RunFront) -> RunFront:
    """The run as it is without a profile."""

    def without(table: pd.DataFrame) -> pd.DataFrame:
        times = {cost.column: np.nan for cost in COSTS.values() if cost.is_time}
        flags = {cost.flag: False for cost in COSTS.values() if cost.is_time}
        return table.assign(**times, **flags)

    front = without(run.front)
    return replace(
        run,
        front=front[front[[f"on_front_{scope}" for scope in SCOPES]].any(axis=1)],
        scored=without(run.scored),
        uniform=without(run.uniform),
        tapered=without(run.tapered),
        targets={name: values for name, values in run.targets.items() if name in SCOPES},
        machine="",
    )


def bare(run: RunFront) -> RunFront:
    none = pd.DataFrame()
    return replace(untimed(run), scored=none, uniform=none, tapered=none, targets={}, space=None)


def page(
    runs: list[RunFront], folder: Path, scope: str = "total", facts: dict[str, str] | None = None
) -> str:
    return write_page(runs, folder, scope, facts or {}).read_text(encoding="utf-8")


def table_keys(text: str) -> list[str]:
    return [unescape(key) for key in re.findall(r'<td class="key"><code>([^<]*)<', text)]


def data_of(text: str) -> dict[str, Any]:
    """What the page's script reads."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return dict(json.loads(found))


def test_figure_is_written_whole_and_the_same_each_time(tmp_path: Path) -> None:
    run = make_run()
    png, svg = save_front([run], tmp_path / "a", "decoder")
    again = save_front([run], tmp_path / "b", "decoder")
    assert sorted(path.name for path in png.parent.iterdir()) == ["pareto.png", "pareto.svg"]
    assert (png.read_bytes(), svg.read_bytes()) == tuple(path.read_bytes() for path in again)
    words = "".join(ElementTree.parse(svg).getroot().itertext())
    assert "decoder cost (kMAC per pixel at 768x512)" in words  # text stayed text
    assert "entropy_parameters.2" in words
    assert "time to decode (ms at 768x512)" in words
    assert "Measured on A Machine (cpu, 1 thread)." in words
    assert "≤ 2.5" in words
    assert "≤ 123 ms →" in words  # a budget beyond the axis is named, not dropped


def words_of(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(Text))


def test_time_is_drawn_where_it_is_known() -> None:
    run = make_run()
    without = draw_front([untimed(run)])
    assert len(without.axes) < len(draw_front([run]).axes)
    assert "time to" not in words_of(without)
    both = words_of(draw_front([untimed(run), replace(run, name="other")], scope="encoder"))
    assert "time to encode" in both
    assert "demo (λ = 0.013): Not measured on this machine." in both


@pytest.mark.parametrize("scope", SCOPES)
def test_the_strip_shows_every_architecture_of_both_fronts_once(scope: str) -> None:
    run = make_run()
    view = view_of(scope)
    shown = run.front[run.front[view.macs.flag] | run.front[view.clock.flag]]
    assert len(shown) > len(run.on_front(view.macs))  # some are on the front in time alone
    strips = [a for a in draw_front([run], scope=scope).axes if a.get_yticklabels() and a.get_xlim()[0] == 0]
    assert max(axes.get_xlim()[1] for axes in strips) == len(shown)
    assert clock_of(scope) == view.clock


def test_several_runs_share_a_figure_and_a_page(tmp_path: Path) -> None:
    runs = [make_run("low"), make_run("high", seed=1, lmbda=0.05)]
    figure = draw_front(runs, scope="decoder")
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == [
        "front, low (λ = 0.013)",
        "front, high (λ = 0.05)",
    ]
    assert sorted(table_keys(page(runs, tmp_path))) == sorted(
        key for run in runs for key in run.front["arch"]
    )


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_front([bare(make_run())])
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("timed", [False, True])
def test_page_lists_every_architecture_once(tmp_path: Path, scope: str, timed: bool) -> None:
    run = make_run() if timed else untimed(make_run())
    text = page([run], tmp_path, scope)
    assert sorted(table_keys(text)) == sorted(run.front["arch"])
    assert all(text.count(f"{key}<") == 1 for key in run.front["arch"])
    assert f'value="{scope}" autocomplete="off" checked' in text
    assert text.count(" checked>") == 4  # the theme, the cost, the loss, and "only the front"
    assert ('value="decode"' in text) == timed
    assert ("measured time to decompress" in text) == timed


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    text = page([make_run()], tmp_path, facts={"seed": "0"})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    own = re.sub(r"<script>/\*!.*?</script>", "", text, flags=re.S)  # without the charts' library
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=", own.replace("http-equiv", ""))
    assert "default-src 'none'" in own
    assert "<dt>seed</dt><dd>0</dd>" in text
    assert "Copyright 2020-2025 Observable, Inc." in text


def test_the_script_reads_what_the_tables_say(tmp_path: Path) -> None:
    for run, costs in ((make_run(), 5), (untimed(make_run()), 3)):
        text = page([run], tmp_path)
        data, front = data_of(text), run.front.set_index("arch")
        assert len(data["costs"]) == costs
        assert [row["id"] for row in data["rows"]] == re.findall(r'<tr id="(\w+)"', text)
        for row, key in zip(data["rows"], table_keys(text), strict=True):
            values = front.loc[key]
            assert set(row["on"]) == {c.name for c in COSTS.values() if values[c.flag]}
            assert row["rd_loss"] == row["shown"]["rd_loss"] == pytest.approx(values["rd_loss"], rel=1e-6)
            known = [cost for cost in row["costs"] if row["costs"][cost] is not None]
            assert len(known) == costs
            assert all(row["costs"][c] == pytest.approx(values[COSTS[c].column], rel=1e-6) for c in known)
        for cost, axis in data["costs"].items():
            low, high = axis["across"]["domain"]
            assert all(low <= row["costs"][cost] <= high for row in data["rows"] if cost in row["on"])


def run_of_family(count: int) -> RunFront:
    """A run of which some architectures were exported, which differ in g_s alone."""
    front = make_run(export=False).front.sort_values("decoder_kmac_px").head(count + 1).reset_index(drop=True)
    parts = dict(part.split("=") for part in front["arch"][0].split("+"))
    for place in range(count):
        parts["g_s"] = "-".join([str(8 * (place + 1))] * len(parts["g_s"].split("-")))
        front.loc[place, "arch"] = "+".join(f"{edge}={value}" for edge, value in parts.items())
        front.loc[place, ["test_bpp", "test_psnr", "test_rd_loss"]] = [0.6, 32.0, 1.0]
    return make_run(front=front, targets={})


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_the_ends_of_an_exported_family_stand_out(count: int, tmp_path: Path) -> None:
    run = run_of_family(count)
    inside = list(range(1, count - 1)) if count > 3 else []
    assert list(run.front.index[run.between]) == inside
    assert run.exported.sum() == count
    labels = [text.get_text() for text in draw_front([run]).findobj(Text)]
    assert ("exported" in labels) == (count > 0)
    assert ("exported, within a family" in labels) == bool(inside)
    if len(inside) > 2:  # decoders of one family do not take the place of all other pictures
        assert set(along_the_front(run, COSTS["decoder"], 3)) != set(run.front.loc[inside, "arch"])


@given(st.integers(0, 50), st.sampled_from(sorted(COSTS)))
def test_pictures_are_of_what_was_asked_for_and_spread_over_the_front(count: int, name: str) -> None:
    run, cost = make_run(targets={name: (4.0, 900.0)}), COSTS[name]
    keys = along_the_front(run, cost, count)
    costs = run.front.set_index("arch").loc[keys, cost.column]
    assert len(keys) == len(set(keys)) <= count
    assert costs.is_monotonic_increasing
    asked = {
        *run.front.loc[run.exported, "arch"],
        *(run.front.loc[i, "arch"] for i in run.chosen(cost).values()),
    }
    assert asked <= set(keys) or count < len(asked)
    on = run.on_front(cost)["arch"]
    assert set(keys) <= set(on) | asked
    if count >= len(asked) + 2:
        assert {on.iloc[0], on.iloc[-1]} <= set(keys)


def test_a_page_stays_small(tmp_path: Path) -> None:
    space = SearchSpace.load("joint-ar")
    table = pd.concat([scored_table(space, 500, seed) for seed in range(5)], ignore_index=True)
    front = table.drop_duplicates("arch").head(800)
    run = make_run(front=front, scored=table, space=space, targets={})
    picture = Picture("data:image/webp;base64," + "A" * 40_000, 100, 30.0)
    pictures = Pictures("photo", picture.image, 256, 256, 100, picture, dict.fromkeys(front["arch"], picture))
    for shown in (pictures, replace(pictures, decoded={})):
        path = write_page([run], tmp_path, pictures=[shown])
        assert path.stat().st_size < MOST_PAGE_BYTES
        data = data_of(path.read_text(encoding="utf-8"))
        assert bool(data["pictures"]) == (shown is not pictures)  # where there are too many, none is shown
        assert len(data["runs"][0]["around"]["scored"]["rd_loss"]) == MOST_DOTS


def test_the_table_can_be_had_as_csv(tmp_path: Path) -> None:
    runs = [make_run("low"), make_run('high, "really"', seed=1)]
    text = page(runs, tmp_path)
    (url,) = re.findall(
        r'<a id="download" download="front.csv" href="(data:text/csv;charset=utf-8,[^"]*)"', text
    )
    table = pd.read_csv(io.StringIO(unquote(url.partition(",")[2])))
    assert list(table["run"].unique()) == [run.name for run in runs]
    assert sorted(table["arch"]) == sorted(key for run in runs for key in run.front["arch"])
    (url,) = re.findall(r'href="(data:text/csv[^"]*)"', page([untimed(runs[0])], tmp_path))
    alone = pd.read_csv(io.StringIO(unquote(url.partition(",")[2])))
    assert list(alone.columns) == list(FRONT_COLUMNS)


def test_page_tells_estimates_from_final_numbers(tmp_path: Path) -> None:
    text = page([make_run()], tmp_path)
    before, final = text.split('<h2 id="final">')
    assert ">9.8765<" in final
    assert ">9.8765<" not in before
    assert "photos the search did not see" in final
    assert "Nothing is exported yet" in page([make_run(export=False)], tmp_path)


def test_any_text_is_shown_as_text(tmp_path: Path) -> None:
    run = make_run(HOSTILE, metric=HOSTILE)
    run = replace(run, space=replace(run.space, name=HOSTILE))  # type: ignore[type-var]
    text = page([run], tmp_path, facts={HOSTILE: HOSTILE})
    assert "<img" not in text
    assert text.count("</script>") == 3  # data, library, script
    assert data_of(text)["runs"][0]["label"] == f"{HOSTILE} (λ = 0.013)"
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt; &quot;&#x27;&amp;$title" in text
    _, svg = save_front([run], tmp_path)
    assert HOSTILE in "".join(ElementTree.parse(svg).getroot().itertext())


def test_runs_without_anything_around_the_front(tmp_path: Path) -> None:
    run = bare(make_run(export=False))
    untested = run.front.drop(columns=["test_bpp", "test_psnr", "test_rd_loss"])
    sparse = (run, replace(run, front=untested), replace(run, front=untested.iloc[:1]))
    for scope, each in zip(SCOPES, sparse, strict=True):
        draw_front([each], scope=scope)
        assert len(table_keys(page([each], tmp_path, scope))) == len(each.front)
    assert all(path.is_file() for path in save_front([run], tmp_path))


def test_widths_are_relative_to_the_widest_candidate() -> None:
    run = make_run()
    space = run.space
    assert space is not None
    assert set(run.shares(space.widest().key)) == {1.0}
    assert [known.slot for known in run.ranges] == [slot.name for slot in space.slots]
    assert [known.slot for known in bare(run).ranges] == [slot.name for slot in space.slots]
    assert run.shares(space.narrowest().key)[0] == pytest.approx(8 / 32)
    tied = SearchSpace.load("joint-ar-per-edge")
    tied_run = bare(make_run(front=scored_table(tied, 5, 0), space=tied))
    assert [known.slot for known in tied_run.ranges] == [slot.name for slot in tied.slots]


@pytest.mark.parametrize("name", COSTS)
def test_budgets_choose_the_least_loss_they_allow(name: str) -> None:
    run = make_run(targets={name: (3.0, 4.5, 900.0)})
    front, cost = run.front, COSTS[name]
    assert 900.0 in run.chosen(cost)
    for target, index in run.chosen(cost).items():
        affordable = front[front[cost.column] <= target]
        assert front.loc[index, "rd_loss"] == affordable["rd_loss"].min()
    assert replace(run, targets={name: (0.001,)}).chosen(cost) == {}
    assert not any(run.chosen(other) for other in COSTS.values() if other != cost)


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(COSTS)))
def test_the_gain_is_by_what_is_scored_at_the_cost_and_loss_of_uniform_widths(seed: int, name: str) -> None:
    cost = COSTS[name]
    table = scored_table(SearchSpace.load("joint-ar-tiny"), 25, seed)
    run = make_run(scored=table, uniform=table.sample(6, random_state=seed))
    gain = run.gain(cost)
    assert gain is not None
    best = run.uniform[lowest(run.uniform, cost.column)]
    assert gain.count == len(best)
    points = list(zip(table[cost.column], table["rd_loss"], strict=True))
    losses, costs = [], []
    for dear, loss in zip(best[cost.column], best["rd_loss"], strict=True):
        losses.append(1 - min(other for there, other in points if there <= dear) / loss)
        costs.append(1 - min(there for there, other in points if other <= loss) / dear)
    assert gain.loss == pytest.approx(100 * np.mean(losses))
    assert gain.most == pytest.approx(100 * max(losses))
    assert gain.cost == pytest.approx(100 * np.mean(costs))
    assert 0 <= gain.loss <= gain.most + 1e-9
    assert bare(run).gain(cost) is None


def test_uniform_widths_that_nothing_beats_are_said_to_be_as_good() -> None:
    run = make_run()
    alone = replace(run, scored=run.uniform)
    gain = alone.gain(COSTS["total"])
    assert gain is not None
    assert (gain.loss, gain.cost) == (0, 0)
    assert "No better" in gain.sentence()


@pytest.mark.parametrize("draw", [draw_front, save_front, write_page])
def test_wrong_scope_and_no_runs_are_refused(tmp_path: Path, draw: object) -> None:
    def call(runs: list[RunFront], scope: str) -> None:
        if draw is draw_front:
            draw_front(runs, scope=scope)
        else:
            draw(runs, tmp_path, scope)  # type: ignore[operator]

    with pytest.raises(InputError, match=r"'sideways'.*encoder, decoder, total"):
        call([make_run()], "sideways")
    with pytest.raises(InputError, match="name at least one"):
        call([], "total")
    assert not list(tmp_path.iterdir())


def test_unusable_fronts_are_refused() -> None:
    run = make_run()
    with pytest.raises(InputError, match="empty front"):
        replace(run, front=run.front.iloc[:0])
    with pytest.raises(InputError, match="front table lacks psnr"):
        replace(run, front=run.front.drop(columns="psnr"))
    with pytest.raises(InputError, match="not an architecture's key"):
        split_key("<b>")
    with pytest.raises(InputError, match="does not have the slots"):
        replace(run, front=run.front.assign(arch="g_a=8+layout=none"))


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0.31, 5.9, False), (29.0, 33.1, False), (0.2, 0.2001, False), (0.3, 4.0, True), (1, 2000, True)],
)
def test_ticks_are_few_and_told_apart(low: float, high: float, log: bool) -> None:
    scale = Scale(low, high, log)
    ticks = scale.ticks(6)
    assert 2 <= len(ticks) <= 13
    assert all(-1e-9 <= scale.fraction_of(tick) <= 1 + 1e-9 for tick in ticks)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)
    assert [float(label) for label in labels] == pytest.approx(ticks)


def test_labels_never_touch() -> None:
    places = sorted(random.Random(0).random() for _ in range(20))
    lines = lines_of_labels(places, 0.1)
    for line in set(lines):
        on_it = [place for place, other in zip(places, lines, strict=True) if other == line]
        assert all(gap >= 0.1 for gap in np.diff(on_it))


def test_the_page_needs_neither_torch_nor_matplotlib() -> None:
    heavy = "{'torch', 'matplotlib', 'pandas'}"
    code = f"import sys, nas.report.front.page; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
