"""The report page in a browser: what people do with a front, by mouse and by keyboard."""

from __future__ import annotations

import csv
import io
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pytest
from small_run import small_run
from test_report import make_run, untimed

import nas
from nas.report.front.costs import COSTS, view_of
from nas.report.front.fronts import RunFront
from nas.report.front.page import write_page
from nas.report.front.pictures import PICTURE_SIDE, decode_pictures
from nas.spaces.rates import anchors_between
from nas.spaces.space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

RUN = make_run()
MINUS = "\N{MINUS SIGN}"


class Page:
    """One page in the browser."""

    def __init__(self, browser: Chrome, path: Path) -> None:
        self.browser = browser
        self.size(1280, 1000)
        browser.get_log("browser")  # type: ignore[no-untyped-call]
        browser.get(path.as_uri())

    def size(self, width: int, height: int, theme: str = "light") -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        theme_of = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        for command, values in (
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", theme_of),
        ):
            self.browser.execute_cdp_cmd(command, values)  # type: ignore[no-untyped-call]

    def one(self, query: str) -> WebElement:
        return self.browser.find_element("css selector", query)

    def all(self, query: str) -> list[WebElement]:
        return self.browser.find_elements("css selector", query)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)  # type: ignore[no-untyped-call]

    def text(self, query: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", query))

    def choose(self, name: str) -> None:
        """Choose a cost or a measure."""
        self.run("document.querySelector(`[value='${arguments[0]}']`).click()", name)

    def pick(self, number: str) -> None:
        """Pick a row of the table, `#7`."""
        self.run(
            "const buttons = [...document.querySelectorAll('#front .pick')];"
            "buttons.find(button => button.textContent === arguments[0]).click()",
            number,
        )

    @property
    def picked(self) -> str:
        return self.text("#picked")

    def points(self) -> list[str]:
        """The points of the chart, as screen readers say them, cheapest first."""
        labels = [str(point.get_attribute("aria-label")) for point in self.all("#chart [role=button]")]
        return sorted(labels, key=lambda label: float(label.split(": ")[1].split(" kMAC")[0].split()[-1]))

    def rows(self) -> list[str]:
        """The keys of the rows in view, from top to bottom."""
        query = "[...document.querySelectorAll('#front tbody tr')].filter(row => row.getClientRects().length)"
        return list(self.run(f"return {query}.map(row => row.querySelector('code').textContent)"))

    def frame(self) -> None:
        """Wait until what was asked for is drawn."""
        self.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def complaints(self) -> list[str]:
        """What the browser's console shows."""
        return [entry["message"] for entry in self.browser.get_log("browser")]  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page([replace(RUN, folder="runs/it's mine")], tmp_path_factory.mktemp("page"), "decoder")


@pytest.fixture
def page(browser: Chrome, path: Path) -> Iterator[Page]:
    page = Page(browser, path)
    yield page
    assert page.complaints() == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def members(run: RunFront, cost: str, scope: str = "decoder") -> pd.DataFrame:
    return run.members(view_of(cost, scope))


def test_the_exported_architecture_is_shown_first(page: Page) -> None:
    exported = RUN.front[RUN.exported].iloc[0]
    assert f"--arch {exported['arch']} --out codec-{page.picked[1:]}" in page.text("#command")
    assert page.text("#command").startswith("nas export 'runs/it'\"'\"'s mine' --arch ")
    assert "exported" in page.text("#badges")
    numbers = page.text("#numbers")
    for value in (f"{exported['rd_loss']:.4f}", f"{exported['psnr']:.2f}", f"{exported['params']:,}"):
        assert value in numbers
    page.one("[data-copy]").click()
    page.run("return new Promise(done => setTimeout(done, 200))")
    assert page.text("[data-copy]") == "Copied"


def test_every_cost_shows_its_own_points_and_rows(page: Page) -> None:
    for cost in COSTS:
        page.choose("rd_loss")
        page.choose(cost)
        assert len(page.points()) == len(members(RUN, cost))
        on = RUN.front[RUN.front[COSTS[cost].flag] | RUN.exported]
        assert sorted(page.rows()) == sorted(on["arch"])
        assert page.text("#chart svg").count(COSTS[cost].title[1:]) == 1
        page.choose("psnr")
        assert "PSNR (dB), higher is better" in page.text("#chart svg")
        assert len(page.points()) == len(members(RUN, cost))


def test_budgets_are_marked_in_the_cost_that_they_limit(page: Page) -> None:
    for cost, labels in (
        ("total", {"≤ 4", "≤ 4.1", "≤ 7.5", "≤ 900 →"}),
        ("decode", {"≤ 5 ms", "≤ 123 ms →"}),
    ):
        page.choose(cost)
        texts = {text.text for text in page.all("#chart text")}
        assert {text for text in texts if "≤" in text} == labels
    page.choose("encoder")
    assert "≤" not in page.text("#chart")


def test_pointing_shows_values_and_a_click_picks(page: Page) -> None:
    from selenium.webdriver import ActionChains

    point = page.all("#chart [role=button]")[3]
    name = str(point.get_attribute("aria-label")).split(":")[0]
    before = page.picked
    assert name != before
    ActionChains(page.browser).move_to_element(point).perform()
    page.frame()
    tip = page.text("#chart [aria-label=tip]")
    assert name in tip
    assert "kMAC/px" in tip
    assert page.picked == before
    ActionChains(page.browser).click().perform()
    assert page.picked == name
    assert len(page.all("#front tr.now")) == len(page.all(".halo")) == 1


def test_a_range_of_cost_is_zoomed_to(page: Page) -> None:
    from selenium.webdriver import ActionChains

    shown = members(RUN, "decoder")["decoder_kmac_px"]
    chart = page.one("#chart svg")
    ActionChains(page.browser).move_to_element_with_offset(chart, -100, 60).click_and_hold().move_by_offset(
        150, 0
    ).release().perform()
    low, high = (float(page.one(name).get_property("value")) for name in ("#from", "#to"))
    assert shown.min() < low < high < shown.max()
    costs = [float(label.split("decoder ")[1].split()[0]) for label in page.points()]
    assert costs
    assert all(low - 0.01 <= cost <= high + 0.01 for cost in costs)
    rows = RUN.front.set_index("arch")["decoder_kmac_px"].loc[page.rows()]
    assert rows.between(low - 0.01, high + 0.01).all()
    page.one("#everything").click()
    assert len(page.points()) == len(shown)
    page.one("#to").send_keys("4")
    page.keys("\ue007")
    assert len(page.points()) == (shown <= 4).sum()
    assert "within the range of cost" in page.text("#count")


def test_the_keyboard_reaches_everything(page: Page) -> None:
    labels = [str(point.get_attribute("aria-label")) for point in page.all("#chart [role=button]")]
    assert len(page.all("#chart [tabindex='0']")) == 1
    page.run("document.querySelector('#chart [tabindex=\"0\"]').focus()")
    page.keys("\ue011")  # Home
    seen = [page.picked]
    for _ in labels[1:]:
        page.keys("\ue014")  # to the right
        seen.append(page.picked)
    assert sorted(seen) == sorted(label.split(":")[0] for label in labels)
    shown = members(RUN, "decoder").sort_values("decoder_kmac_px", kind="stable")
    assert page.text("#command").split("--arch ")[1].split()[0] == shown["arch"].iloc[-1]
    page.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    reached = []
    for _ in range(60):
        page.keys("\ue004")  # Tab
        active = page.run(
            "const e = document.activeElement;return [e.tagName, e.name || e.id || e.getAttribute('class')]"
        )
        if active[0] == "BODY":
            break
        reached.append(active[1])
        drawn = page.run(
            "const e = document.activeElement, s = e.matches('.switch input') ? e.nextElementSibling : e;"
            "const style = getComputedStyle(s); return [style.outlineStyle, style.strokeWidth]"
        )
        assert drawn[0] == "solid" or drawn[1] == "4px", active
    assert {"cost", "measure", "from", "to", "everything", "compare"} <= set(reached)
    assert {"words", "only", "download", "pick"} <= set(reached)


def test_two_are_compared(page: Page) -> None:
    first = page.picked
    page.one("#compare").click()
    other = next(name for name in ("#2", "#3") if name != first)
    page.pick(other)
    assert page.picked == other
    head, *lines = [
        [cell.text for cell in row.find_elements("css selector", "th, td")] for row in page.all("#numbers tr")
    ]
    assert head == ["", other, first, "change"]
    table = {name: values for name, *values in lines}
    by_name = {
        name: RUN.front.set_index("arch").loc[page.text(f"#a{name[1:]} code")] for name in (first, other)
    }
    for name, column in (
        ("decoder", "decoder_kmac_px"),
        ("loss", "rd_loss"),
        ("time to decode", "decode_ms"),
    ):
        change = 100 * (by_name[other][column] / by_name[first][column] - 1)
        assert float(re.sub(r"[^-\d.]", "", table[name][2].replace(MINUS, "-"))) == pytest.approx(
            change, abs=0.51
        )
    assert len(page.all(".halo")) == 2
    assert page.all("#structure .other")
    page.one("#compare").click()
    assert not page.all("#structure .other")
    assert page.text("#compare") == "Compare with another"


def test_the_table_is_sorted_filtered_and_downloaded(page: Page) -> None:
    front = RUN.front.set_index("arch")
    page.one("#only").click()
    assert len(page.rows()) == len(front)
    page.one("[data-sort=psnr]").click()
    assert front.loc[page.rows(), "psnr"].is_monotonic_increasing
    page.one("[data-sort=psnr]").click()
    assert front.loc[page.rows(), "psnr"].is_monotonic_decreasing
    page.one("#words").send_keys("layout=raster-2x2")
    shown = page.rows()
    assert 0 < len(shown) < len(front)
    assert all("layout=raster-2x2" in key for key in shown)
    assert page.text("#count") == f"{len(shown)} of {len(front)} rows"
    page.run("document.querySelector('#download').addEventListener('click', e => e.preventDefault())")
    page.one("#download").click()
    url = str(page.one("#download").get_attribute("href"))
    saved = list(csv.DictReader(io.StringIO(unquote(url.partition(",")[2]))))
    assert [row["arch"] for row in saved] == shown
    assert all(float(row["psnr"]) == pytest.approx(front.loc[row["arch"], "psnr"]) for row in saved)


def test_no_part_is_wider_than_the_screen(page: Page) -> None:
    page.one("#compare").click()
    page.pick("#2")
    for width, theme in itertools.product((1280, 820, 400, 360), ("light", "dark")):
        page.size(width, 900, theme)
        page.frame()
        assert page.run("return document.documentElement.scrollWidth") <= width
        edges = "['#numbers', '#details'].map(q => document.querySelector(q).getBoundingClientRect().right)"
        numbers, card = page.run(f"return {edges}")
        assert numbers <= card
        light = page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert light == (theme == "light")


def test_a_theme_is_chosen_and_kept(page: Page) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    curve = "return getComputedStyle(document.querySelector('#chart [role=button]')).stroke"
    shown = {}
    for theme in ("light", "dark"):
        page.size(1280, 900, theme)
        shown[theme] = page.run(paper), page.run(curve)
    assert len(set(shown.values())) == 2
    assert page.run("return document.querySelector('[name=theme]:checked').value") == "system"
    for theme, system in (("dark", "light"), ("light", "dark")):
        page.size(1280, 900, system)
        page.choose(theme)
        assert (page.run(paper), page.run(curve)) == shown[theme]
        page.browser.refresh()
        page.frame()
        assert (page.run(paper), page.run(curve)) == shown[theme]
        assert page.run("return document.querySelector('[name=theme]:checked').value") == theme
    page.choose("system")
    for theme in ("light", "dark"):
        page.size(1280, 900, theme)
        assert (page.run(paper), page.run(curve)) == shown[theme]


def test_runs_are_told_apart(browser: Chrome, tmp_path: Path) -> None:
    runs = [untimed(make_run("low")), untimed(make_run("high", seed=1, lmbda=0.05))]
    page = Page(browser, write_page(runs, tmp_path))
    assert len(page.points()) == sum(len(members(run, "total", "total")) for run in runs)
    assert "front, high (λ = 0.05)" in page.text("#legend")
    assert "% above the least of its run" in page.text("#chart svg")
    page.choose("encoder")
    page.pick("#1")
    assert page.text("#command").startswith("nas export low ")
    assert page.complaints() == []


def test_without_scripts_the_tables_are_there(browser: Chrome, path: Path) -> None:
    off = "Emulation.setScriptExecutionDisabled"
    browser.execute_cdp_cmd(off, {"value": True})  # type: ignore[no-untyped-call]
    try:
        page = Page(browser, path)
        assert page.one("noscript .note").is_displayed()
        assert not page.one("#chart").is_displayed()
        assert page.one("#front").is_displayed()
        assert len(page.all("#front tbody tr")) == len(RUN.front)
    finally:
        browser.execute_cdp_cmd(off, {"value": False})  # type: ignore[no-untyped-call]


# Pictures and curves, of a real run


@pytest.fixture(scope="module")
def rated(
    small_space: SearchSpace, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> nas.api.LoadedRun:
    """A run over a range of rates with seeded weights and a few scores."""
    folder = tmp_path_factory.mktemp("rated") / "run"
    small_run(folder, replace(small_space, rates=anchors_between(0.0018, 0.18)), photo_folder)
    run = nas.load_run(folder, device="cpu")
    for architecture in [*run.searcher.space.baselines()[:6], run.searcher.space.widest()]:
        run.searcher.scores.of(architecture)
    return run


def test_pictures_are_compared_at_equal_bytes(rated: nas.api.LoadedRun) -> None:
    keys = [architecture.key for architecture in rated.searcher.space.baselines()[:3]]
    found = decode_pictures(rated.run, keys)
    assert list(found.decoded) == keys
    assert found.most_bytes == found.decoded[keys[0]].bytes
    for picture in found.decoded.values():
        assert picture.bytes <= found.most_bytes
        assert np.isfinite(picture.psnr)
    assert found.jpeg is not None
    assert found.height <= PICTURE_SIDE
    assert found.width <= PICTURE_SIDE


def test_a_picked_architecture_shows_its_picture_and_curve(
    browser: Chrome, rated: nas.api.LoadedRun, tmp_path: Path
) -> None:
    nas.pareto(rated.run, out=tmp_path, pictures=2)
    page = Page(browser, tmp_path / "report.html")
    captions = [caption.text for caption in page.all("#pictures figcaption")]
    assert captions[0] == "original"
    assert captions[-1].startswith("JPEG: ")
    with_picture = page.all("#pictures .missing button")
    names = [button.text for button in with_picture] or [page.picked]
    page.pick(names[0])
    assert re.search(rf"^{names[0]}: [\d,]+ bytes, [\d.]+ dB$", page.all("#pictures figcaption")[1].text)
    sizes = page.run(
        "return [...document.querySelectorAll('#pictures img')].map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert len(sizes) == 3
    assert len({tuple(size) for size in sizes}) == 1
    assert len(page.all("#anchors tbody tr")) == 3
    assert "PSNR against rate" in str(page.one("#curve svg").get_attribute("aria-label"))
    assert page.complaints() == []


def test_a_run_without_its_photos_has_a_page_without_pictures(
    browser: Chrome, rated: nas.api.LoadedRun, tmp_path: Path
) -> None:
    shutil.copytree(rated.run.path, tmp_path / "run")
    split = tmp_path / "run" / "split.csv"
    split.write_text(re.sub(r"held-out,.*", "held-out,/nowhere/photo.png", split.read_text()))
    nas.pareto(tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<dt>pictures</dt><dd>none: " in text
    page = Page(browser, tmp_path / "run" / "report.html")
    assert not page.one("#picture-part").is_displayed()
    nas.pareto(tmp_path / "run", pictures=0)
    assert "none: " not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
