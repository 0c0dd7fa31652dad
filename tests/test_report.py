"""The figure and the page: complete, self-contained, the same each time, and safe with any text."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from nas.errors import InputError
from nas.report.fronts import SCOPES, RunFront, split_key
from nas.report.page import write_page
from nas.report.plots import draw_front, save_front
from nas.report.scale import Scale, spread, tick_labels
from nas.space import SearchSpace

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
            "lmbda": 0.013,
            "metric": "mse",
        }
    table = pd.DataFrame(list(rows.values()))
    for scope in SCOPES:
        ordered = table.sort_values([f"{scope}_kmac_px", "rd_loss"])["rd_loss"]
        table[f"on_front_{scope}"] = ordered < ordered.cummin().shift(fill_value=np.inf)
    return table


def make_run(name: str = "demo", *, seed: int = 0, export: bool = True, **changes: object) -> RunFront:
    space = SearchSpace.load("joint-ar-tiny")
    table = scored_table(space, 60, seed)
    front = table[table[[f"on_front_{scope}" for scope in SCOPES]].any(axis=1)].copy()
    for measure in ("bpp", "psnr", "rd_loss"):
        front[f"test_{measure}"] = np.nan
    if export:
        front.loc[front.index[1], ["test_bpp", "test_psnr", "test_rd_loss"]] = [
            0.6543,
            31.98,
            9.8765,
        ]  # a loss no estimate has
    run = RunFront(name, 0.013, "mse", front, table, table.iloc[:2], (4.0, 4.1, 7.5, 900.0), space)
    return replace(run, **changes)  # type: ignore[arg-type]


def bare(run: RunFront) -> RunFront:
    return replace(run, scored=pd.DataFrame(), baselines=pd.DataFrame(), targets=(), space=None)


def page(
    runs: list[RunFront], folder: Path, scope: str = "total", facts: dict[str, str] | None = None
) -> str:
    return write_page(runs, folder, scope, facts or {}).read_text(encoding="utf-8")


def table_keys(text: str) -> list[str]:
    return [unescape(key) for key in re.findall(r'data-is="key">([^<]*)<', text)]


def test_figure_is_written_whole_and_the_same_each_time(tmp_path: Path) -> None:
    run = make_run()
    png, svg = save_front([run], tmp_path / "a", "decoder")
    again = save_front([run], tmp_path / "b", "decoder")
    assert sorted(path.name for path in png.parent.iterdir()) == ["pareto.png", "pareto.svg"]
    assert (png.read_bytes(), svg.read_bytes()) == tuple(path.read_bytes() for path in again)
    words = "".join(ElementTree.parse(svg).getroot().itertext())
    assert "decoder cost (kMAC per pixel at 768x512)" in words  # text stayed text
    assert "entropy_parameters.2" in words
    assert "≤ 900 →" in words  # a budget beyond the axis is named, not dropped


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
    draw_front([make_run()])
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("scope", SCOPES)
def test_page_lists_every_architecture_once(tmp_path: Path, scope: str) -> None:
    run = make_run()
    text = page([run], tmp_path, scope)
    assert sorted(table_keys(text)) == sorted(run.front["arch"])
    assert all(text.count(f"{key}<") == 1 for key in run.front["arch"])
    assert f'value="{scope}" checked' in text
    assert text.count(" checked>") == 2  # the scope, and "only the front"


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    text = page([make_run()], tmp_path, facts={"seed": "0"})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=", text.replace("http-equiv", ""))
    assert "<dt>seed</dt><dd>0</dd>" in text


def test_charts_of_the_page_are_well_formed_and_point_at_rows(tmp_path: Path) -> None:
    run = make_run()
    text = page([run], tmp_path)
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r'<svg class="chart.*?</svg>', text, re.S)]
    assert len(charts) == 9  # three measures in three scopes
    rows = set(re.findall(r'<tr id="(\w+)"', text))
    pointed = {point.get("data-row") for chart in charts for point in chart.iter("circle")}
    assert pointed == rows


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
    assert text.count("</script>") == 1
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


def test_budgets_choose_the_least_loss_they_allow() -> None:
    run = make_run()
    front = run.front
    for target, index in run.chosen("total").items():
        affordable = front[front["total_kmac_px"] <= target]
        assert front.loc[index, "rd_loss"] == affordable["rd_loss"].min()
    assert 900.0 in run.chosen("total")
    assert replace(run, targets=(0.001,)).chosen("total") == {}


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
    with pytest.raises(InputError, match="no architecture's key"):
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
    assert all(-1e-9 <= scale.place(tick) <= 1 + 1e-9 for tick in ticks)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)
    assert [float(label) for label in labels] == pytest.approx(ticks)


def test_labels_never_touch() -> None:
    places = sorted(random.Random(0).random() for _ in range(20))
    lines = spread(places, 0.1)
    for line in set(lines):
        on_it = [place for place, other in zip(places, lines, strict=True) if other == line]
        assert all(gap >= 0.1 for gap in np.diff(on_it))


def test_the_page_needs_neither_torch_nor_matplotlib() -> None:
    code = "import sys, nas.report.page; sys.exit(bool({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
