"""What the tests share: one thread, a small space, a seeded supernet, a real photo."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small nets are slower on several threads

import functools
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from typer.main import get_command

from nas.spaces.space import SearchSpace
from nas.support.interrupts import STOPS

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from nas.graph.network import Supernet

settings.register_profile(
    "nas",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=20,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("nas")

# Small enough to enumerate: 2 * 2 * 2 * 3 * 2 widths and 3 layouts. A slot for an edge, a tie, a layer
# whose two ends are one slot, a fixed width, an uneven written-out layout.
SMALL: dict[str, Any] = {
    "family": "joint-ar",
    "latents": {"y": 6, "z": 4},
    "window": 3,
    "widths": {
        "g_a": [3, 5],
        "h_a.1": [2, 4],
        "h_a.2": 3,
        "h_s": {"candidates": [2, 4], "layers": {"h_s.1": 1, "h_s.2": 1.5}},
        "decoder": {"candidates": [2, 4, 6], "layers": {"g_s.1": 2, "g_s.2": 1, "g_s.3": 0.5}},
        "entropy_parameters": {
            "candidates": [4, 8],
            "layers": {"entropy_parameters.1": 2, "entropy_parameters.2": 1},
        },
    },
    "layouts": [
        "none",
        "raster",
        {"name": "uneven", "groups": [1, 3, 2], "slope": [0, 0], "tile": [[[0, 1]], [[2, 0]], [[1, 2]]]},
    ],
    "grouping": {"groups": 2, "tile": [1, 2], "stages": [2]},
}


@pytest.fixture(scope="session", autouse=True)
def disk_is_not_waited_for() -> Iterator[None]:
    """No test cuts the power, so none waits until the disk has what was written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def parser_is_built_once() -> Iterator[None]:
    """Commands in this process share one parser: no test changes it, and it takes 50 ms to build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", functools.cache(get_command))
        yield


@pytest.fixture(scope="session")
def small_space() -> SearchSpace:
    return SearchSpace.from_dict(SMALL, name="small")


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    return SearchSpace.load("joint-ar-tiny")


@pytest.fixture(scope="session")
def make_supernet() -> Callable[..., Supernet]:
    """See `families.seeded_supernet`; imported late, so that tests without torch stay without it."""
    from families import seeded_supernet

    return seeded_supernet


@pytest.fixture(scope="session")
def supernet(make_supernet: Callable[..., Supernet], tiny_space: SearchSpace) -> Supernet:
    """One supernet of the tiny space; tests must leave its weights as they are."""
    return make_supernet(tiny_space)


@pytest.fixture(scope="session")
def chelsea() -> np.ndarray:
    """A real photo of odd size, [H, W, 3] in 8 bits."""
    from skimage import data

    return np.ascontiguousarray(data.chelsea()[60:197, 90:285])


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory, chelsea: np.ndarray) -> Path:
    """Five small photos in a folder and a folder below it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for number in range(5):
        part = chelsea[7 * number : 7 * number + 96, 11 * number : 11 * number + 128]
        Image.fromarray(part).save(folder / ("more" if number > 2 else "") / f"photo-{number}.png")
    return folder


@pytest.fixture
def signals_as_usual() -> Iterator[None]:
    """What ends programs is as in a terminal, here and in processes that start here.

    Whoever runs the tests in the background or under `nohup` has some of it ignored, and that is inherited.
    """
    usual = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(STOPS, signal.SIG_DFL)}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium that reaches no network by itself, and keeps what pages log."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("there is no chromium or no chromedriver")
    options = ChromeOptions()
    options.binary_location = chromium
    flags = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run")
    offline = ("disable-background-networking", "disable-component-update", "disable-sync", "disable-quic")
    for flag in (*flags, *offline, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options=options, service=Service(driver)) as found:
        yield found
