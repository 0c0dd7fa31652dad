"""docs/viewer: the page's modules under node, and the page itself in a browser."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import math
import re
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_family import KINDS, make_family
from typer.main import get_command

from nas.cli import app
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.coder import Decoder, Encoder
from nas.codec.family import CodecFamily
from nas.codec.nic import FIXED, Nic
from nas.graph.entropy import MEAN_STEPS, SCALES, Y_LIMIT, Z_LIMIT
from nas.onnx.decoder import misfit
from nas.onnx.write import write_onnx
from nas.photos.grey import is_grey, to_grey
from nas.spaces.rates import STEPS_OF_QUALITY
from nas.support.errors import InputError

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

HERE = Path(__file__).parent
VIEWER = HERE.parent / "docs" / "viewer"
RUNTIME = VIEWER / "node_modules" / "onnxruntime-web"
NODE = shutil.which("node")
WAIT = 60  # seconds

needs_node = pytest.mark.skipif(NODE is None, reason="there is no node")
needs_runtime = pytest.mark.skipif(
    not (NODE and RUNTIME.is_dir()), reason="there is no onnxruntime-web: npm install --prefix docs/viewer"
)
needs_browser = pytest.mark.skipif(
    not RUNTIME.is_dir(), reason="there is no onnxruntime-web: npm install --prefix docs/viewer"
)

Task = dict[str, Any]


def node(script: str, *arguments: str | Path, stdin: str = "") -> str:
    assert NODE is not None
    command = [NODE, str(HERE / script), str(VIEWER), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(tasks: list[Task]) -> list[Any]:
    found: list[Any] = json.loads(node("viewer_parts.mjs", stdin=json.dumps(tasks)))
    return found


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


# The folder


def test_the_readme_says_what_there_is() -> None:
    readme = (VIEWER / "README.md").read_text(encoding="utf-8")
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^nas (\w+) (.*?)(?:  #.*)?$", readme, re.MULTILINE)
    assert {verb for verb, _ in lines} == {"export", "compress"}
    for verb, rest in lines:
        known = {option for parameter in commands[verb].params for option in parameter.opts}
        assert set(re.findall(r"--\w+", rest)) <= known
    modules = set(re.findall(r"^\| `(\w+\.js)`", readme, re.MULTILINE))
    assert modules == {path.name for path in VIEWER.glob("*.js")}
    example = json.loads((VIEWER / "example" / "codec.json").read_text())
    assert (example["family"], len(example["decoders"])) == ("patch", 4)
    assert "four decoders of a family of `zoo:patch`" in readme
    assert f"{(VIEWER / 'example' / 'astronaut.nic').stat().st_size:,} bytes" in readme
    assert sum(path.stat().st_size for path in (VIEWER / "example").rglob("*.*")) < 2_000_000
    ci = (VIEWER.parents[1] / ".ci" / "run").read_text()
    (install,) = re.findall(r"^(npm install --prefix \S+)", readme, re.MULTILINE)
    assert install in ci


# The coder


class Message:
    """Random symbols under tables and Gaussians of every level, and constriction's stream of them."""

    def __init__(self, seed: int, limit: int, count: int = 3000) -> None:
        draw = np.random.default_rng(seed)
        self.limit, self.table_limit, self.positions = limit, int(draw.integers(1, Z_LIMIT + 1)), 50
        self.tables = draw.integers(1, 1 << draw.integers(1, 20), (3, 2 * draw.integers(1, 128) + 1))
        first = draw.integers(-self.table_limit, self.table_limit + 1, (3, self.positions))
        self.levels = draw.integers(0, len(SCALES), count)
        self.means = draw.integers(-Y_LIMIT * MEAN_STEPS, Y_LIMIT * MEAN_STEPS + 1, count)
        near = draw.random(count) < 0.7
        self.means[near] = draw.integers(-2 * limit * MEAN_STEPS, 2 * limit * MEAN_STEPS + 1, count)[near]
        values = np.round(draw.normal(self.means / MEAN_STEPS, SCALES[self.levels]))
        far = draw.random(count) < 0.1
        values[far] = draw.integers(-limit, limit + 1, count)[far]
        self.values = values.clip(-limit, limit).astype(np.int32)
        coder = Encoder()
        coder.under_table(first.astype(np.int32), self.tables, self.table_limit)
        coder.gaussian(self.values, SCALES[self.levels], self.means / MEAN_STEPS, limit)
        self.data = coder.finish()

    def decoded(self, data: bytes) -> dict[str, Any]:
        """What the toolkit makes of a stream, as `viewer_parts.mjs` says it."""
        try:
            coder = Decoder(data)
            first = coder.under_table(self.tables, self.positions, self.table_limit)
            values = coder.gaussian(SCALES[self.levels], self.means / MEAN_STEPS, self.limit)
            coder.finish()
        except InputError as error:
            return {"problem": str(error)}
        return {"first": first.ravel().tolist(), "values": values.tolist()}

    def task(self, data: bytes) -> Task:
        return {
            "kind": "stream",
            "data": text_of(data),
            "tables": self.tables.tolist(),
            "tableLimit": self.table_limit,
            "positions": self.positions,
            "scales": SCALES.tolist(),
            "parts": MEAN_STEPS,
            "limit": self.limit,
            "levels": self.levels.tolist(),
            "means": self.means.tolist(),
        }


@needs_node
def test_symbols_are_read_as_constriction_wrote_them() -> None:
    messages = [Message(seed, limit) for seed, limit in enumerate((1, 2, 5, 31, 200, Y_LIMIT))]
    for message, found in zip(messages, answers([m.task(m.data) for m in messages]), strict=True):
        assert found == message.decoded(message.data)
        assert found["values"] == message.values.tolist()


@needs_node
def test_damaged_streams_are_read_or_refused_alike() -> None:
    draw = np.random.default_rng(0)
    message, streams = Message(9, 20, 200), []
    for _ in range(60):
        words = np.frombuffer(message.data, "<u4").copy()
        match draw.integers(4):
            case 0:
                words[draw.integers(len(words))] ^= 1 << draw.integers(32)
            case 1:
                words = words[: draw.integers(len(words) + 1)]
            case 2:
                words = np.append(words, draw.integers(1 << 32, dtype=np.uint32))
            case 3:
                words = draw.integers(1 << 32, size=len(words), dtype=np.uint32)
        streams.append(words.tobytes())
    streams.append(message.data[:-1])
    wanted = [message.decoded(data) for data in streams]
    assert {"problem" in each for each in wanted} == {True, False}
    assert answers([message.task(data) for data in streams]) == wanted


@needs_node
def test_functions() -> None:
    values = [
        sign * x for x in (0, 1e-9, 0.3, 0.5, 0.84, 0.9, 1.2, 1.3, 2.8, 3, 5.9, 6, 20) for sign in (1, -1)
    ]
    (found,) = answers([{"kind": "functions", "values": values}])
    assert np.allclose(found["erf"], [math.erf(x) for x in values], rtol=1e-15, atol=0)
    assert np.allclose(found["exp"], [math.exp(x) for x in values], rtol=1e-15, atol=0)


@needs_node
def test_headers_are_read_or_refused_alike() -> None:
    draw = np.random.default_rng(0)
    whole = Nic("0123abcd", "89efcdab", 300, 70000 % 65536, draw.bytes(40), 0).to_bytes()
    rated = [Nic("0123abcd", "89efcdab", 300, 7, draw.bytes(40), 0, step) for step in (0, 1, 640, 1000, 1001)]
    rated += [replace(nic, grey=True) for nic in rated]
    rated += [replace(nic, step=None) for nic in rated]
    files = [nic.to_bytes() for nic in rated]
    files += [with_version(files[0], version) for version in range(256)]
    files += [whole, b"", b"NI", b"NIC", whole[:20], whole[:-1], b"GIF" + whole[3:], b"NIC\x02" + whole[4:]]
    files += [Nic("00000000", "00000000", width, 5, b"", 0).to_bytes() for width in (0, 1, 127, 128, 65535)]
    for place in draw.integers(4, len(whole), 20):
        files.append(whole[:place] + bytes([whole[place] ^ 1 << draw.integers(8)]) + whole[place + 1 :])
    seen = set()
    for data, found in zip(files, answers([{"kind": "nic", "data": text_of(f)} for f in files]), strict=True):
        try:
            nic = Nic.parse(data)
        except InputError:
            assert re.fullmatch(r"[A-Z].*\.", found["problem"])
            continue
        seen.add((nic.step is None, nic.grey))
        assert found == {
            "pathIdentity": nic.path_identity,
            "fingerprint": nic.fingerprint,
            "width": nic.width,
            "height": nic.height,
            "quality": None if nic.step is None else nic.step / STEPS_OF_QUALITY,
            "grey": nic.grey,
            "stream": text_of(nic.stream),
        }
    assert len(seen) == 4


def with_version(data: bytes, version: int) -> bytes:
    """A file with another version, and a checksum that fits."""
    head, tail = data[:3] + bytes([version]) + data[4:12], data[FIXED:]
    return head + zlib.crc32(head + tail).to_bytes(4, "little") + tail


@needs_node
def test_pixels_become_as_grey_as_in_the_toolkit() -> None:
    sums = np.arange(3 * 255 + 1)  # of all sizes, and evenly or not among the colours
    even = np.stack([(sums + shift) // 3 for shift in range(3)], -1)
    uneven = np.stack([(sums - shift).clip(0, 255) for shift in (0, 255, 510)], -1)
    random = np.random.default_rng(0).integers(0, 256, (2000, 3))
    pixels = np.concatenate([even, uneven, random]).astype(np.uint8)[None]
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    (found,) = answers([{"kind": "grey", "data": text_of(rgba.tobytes())}])
    grey = picture_of(base64.b64decode(found["data"]), rgba.shape)
    assert np.array_equal(grey[..., :3], to_grey(pixels))
    assert (grey[..., 3] == 255).all()


# The codec's description


SENTENCE = r"[A-Z][^:]*: [^:]*\."
EXAMPLE = VIEWER / "example" / "codec.json"


def codec_task(content: bytes, **more: Any) -> Task:
    return {"kind": "codec", "json": text_of(content), **more}


@needs_node
def test_a_damaged_description_is_told_in_a_sentence() -> None:
    whole = EXAMPLE.read_bytes()
    contents = [b"", b"{", b"<html>", b"null", b"[]", b"3", b'"text"', b"{}", b'{"format": [], "coder": 1}']
    contents += [whole[: len(whole) // 2], b"\xff" + whole, b"[" * 100_000, whole.replace(b"8", b"NaN", 1)]
    for found in answers([codec_task(content) for content in contents]):
        assert re.fullmatch(SENTENCE, found["problem"])
        assert "codec.json cannot be read" in found["problem"]
    content = json.loads(whole)
    others = [{**content, "format": "nas-onnx 9"}, {**content, "coder": "constriction-9"}]
    for found in answers([codec_task(json.dumps(other).encode()) for other in others]):
        assert re.fullmatch(SENTENCE, found["problem"])
        assert "this page reads nas-onnx 1" in found["problem"]
    assert answers([codec_task(whole)]) == [{"family": content["family"]}]


def changed(content: Any, draw: np.random.Generator) -> None:
    """Remove or replace a value somewhere in a description."""
    values = [None, -1, 0, 1, 2.5, 70_000, "text", [], [1, 2], [[0.5]], {}, True]
    while True:
        places = list(content) if isinstance(content, dict) else list(range(len(content)))
        place = places[draw.integers(len(places))]
        inner = content[place]
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.3:
            break
        content = inner
    if isinstance(content, dict) and draw.random() < 0.3:
        del content[place]
    else:
        content[place] = values[draw.integers(len(values))]


@needs_node
def test_values_of_another_kind_are_found_as_the_toolkit_finds_them(tmp_path: Path) -> None:
    """As `nas/onnx/decoder.py` does, and costs beside, which the page shows."""
    names = "joint-ar-integer", "tables-alone-rates"
    wholes = [json.loads(EXAMPLE.read_text())]
    wholes += [write_onnx(make_family(name), tmp_path / name) for name in names]
    assert (
        answers([{"kind": "misfit", "text": json.dumps(whole)} for whole in wholes]) == [{"misfit": None}] * 3
    )
    draw, contents = np.random.default_rng(0), []
    for number in range(400):
        content = json.loads(json.dumps(wholes[number % 3]))
        changed(content, draw)
        contents.append(content)
    found = answers([{"kind": "misfit", "text": json.dumps(content)} for content in contents])
    seen = set()
    for content, each in zip(contents, found, strict=True):
        content.pop("files", None)  # the page does not read it
        wanted = misfit(content)
        seen.add(wanted)
        if wanted is None and each["misfit"] is not None:  # shown, but nothing that decoding needs
            assert re.search(r"kmac_px|^family$|^layouts$", each["misfit"])
        else:
            assert each["misfit"] == wanted
    assert len(seen) > 15
    wrong = [("decoders", 0, {"kmac_px": {"decoder": "7"}}, "decoders.kmac_px.decoder")]
    wrong += [("layouts", 0, {"kmac_px": 7}, "layouts.kmac_px")]
    for part, place, more, told in wrong:
        content = json.loads(EXAMPLE.read_text())
        content[part][place] |= more
        (each,) = answers([codec_task(json.dumps(content).encode())])
        assert re.fullmatch(SENTENCE, each["problem"])
        assert told in each["problem"]


@needs_node
def test_whatever_else_fails_is_told_in_a_sentence() -> None:
    """A model that the runtime refuses, and one of another part, which no form tells."""
    whole = EXAMPLE.read_bytes()
    file = text_of((VIEWER / "example" / "astronaut.nic").read_bytes())
    tasks = [
        codec_task(whole, model="g_s.0.onnx"),
        codec_task(whole, file=file, request="file"),
    ]
    for found, says in zip(answers(tasks), ("g_s.0.onnx is damaged", "do not fit each other"), strict=True):
        assert re.fullmatch(SENTENCE, found["problem"])
        assert says in found["problem"]


# Whole files


def picture_of(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(*shape[:2], 4)


def assert_alike(found: np.ndarray, wanted: np.ndarray) -> None:
    """Within a level of 8 bits, and opaque."""
    assert np.abs(found[..., :3].astype(int) - wanted).max() <= 1
    assert (found[..., 3] == 255).all()


@needs_runtime
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*KINDS, "factorized-integer-rates", "patch-integer-rates", "tables-alone-rates"]
)
def test_files_of_every_layout_decode_to_the_same_latents_and_pictures(
    name: str, tmp_path: Path, chelsea: np.ndarray
) -> None:
    family = make_family(name)
    write_onnx(family, tmp_path / "onnx")
    files: dict[Path, tuple[str, Nic]] = {}
    rated = bool(family.base.rates)
    for layout in family.layouts:
        for number, (rows, columns) in enumerate([(100, 150), (1, 1), (64, 300), *[(70, 90)] * (4 * rated)]):
            quality = (30 * number) % 101 if rated else None
            pixels = np.ascontiguousarray(chelsea[:rows, :columns])
            pixels = to_grey(pixels) if number % 2 else pixels
            nic = compress_image(family.codec(layout), pixels, quality=quality)
            nic = replace(nic, step=None) if number == 2 else nic  # a file may say nothing of its quality
            file = tmp_path / f"{layout}-{number}.nic"
            file.write_bytes(nic.to_bytes())
            files[file] = layout, nic
    node("viewer_decode.mjs", tmp_path / "onnx", *files)
    for file, (layout, nic) in files.items():
        codec = family.codec(layout)
        y_hat, _ = codec.decode([nic.stream], codec.shape(nic.height, nic.width))
        found = np.fromfile(f"{file}.y", "<i2").reshape(y_hat.shape[1:])
        assert np.array_equal(found, y_hat[0].numpy()), file.name
        for place in range(len(family.decoders)):
            wanted = decompress_image(family.codec(layout, place), nic)
            found = picture_of(Path(f"{file}.{place}").read_bytes(), wanted.shape)
            assert_alike(found, wanted)
            assert is_grey(found[..., :3]) == nic.grey


# The page


class Site:
    """The page's folder over HTTP, with a family of decoders, and files of it and of another."""

    def __init__(self, folder: Path, chelsea: np.ndarray) -> None:
        shutil.copytree(VIEWER, folder, ignore=shutil.ignore_patterns("node_modules"))
        (folder / "node_modules").symlink_to(VIEWER / "node_modules")
        self.folder = folder
        self.family = make_family("joint-ar-integer")
        write_onnx(self.family, folder / "codec")
        pixels = np.ascontiguousarray(chelsea[:90, :130])
        self.files: dict[str, Nic] = {}
        for layout in self.family.layouts:
            self.add(f"{layout}.nic", compress_image(self.family.codec(layout), pixels))
        other: CodecFamily = make_family("mean-scale-hyperprior-integer")
        write_onnx(other, folder / "other")
        self.add("other.nic", compress_image(other.base, pixels))
        self.add("grey.nic", compress_image(self.family.base, to_grey(pixels)))
        whole = (folder / "raster.nic").read_bytes()
        (folder / "damaged.nic").write_bytes(whole[:-5] + b"\0" + whole[-4:])
        (folder / "short.nic").write_bytes(whole[:30])
        raster = self.files["raster.nic"]
        longer = Nic(raster.path_identity, raster.fingerprint, 130, 90, raster.stream + bytes(40), 0)
        (folder / "longer.nic").write_bytes(longer.to_bytes())
        self.servers = [
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(folder)))
            for kind in (Plain, Isolated)
        ]
        self.threads = [threading.Thread(target=server.serve_forever) for server in self.servers]
        for thread in self.threads:
            thread.start()

    def add(self, name: str, nic: Nic) -> None:
        (self.folder / name).write_bytes(nic.to_bytes())
        self.files[name] = nic

    def url(self, query: str, isolated: bool) -> str:
        return f"http://127.0.0.1:{self.servers[isolated].server_port}/{query}"

    def close(self) -> None:
        for server, thread in zip(self.servers, self.threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class Plain(http.server.SimpleHTTPRequestHandler):
    """What `python -m http.server` answers with."""

    def log_message(self, *_: Any) -> None:
        pass


class Isolated(Plain):
    """With the headers that let a page use threads."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, chelsea: np.ndarray) -> Iterator[Site]:
    found = Site(tmp_path_factory.mktemp("site") / "viewer", chelsea)
    yield found
    found.close()


class Page:
    """The page in a browser."""

    def __init__(self, browser: Chrome, site: Site) -> None:
        self.browser, self.site = browser, site

    def open(self, query: str = "?codec=codec", isolated: bool = False) -> None:
        self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        self.browser.get(self.site.url(query, isolated))

    def text(self, name: str) -> str:
        return str(self.run(f"return document.getElementById('{name}').textContent"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)  # type: ignore[no-untyped-call]

    def wait(self, condition: Callable[[], Any]) -> Any:
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.browser, WAIT, 0.05).until(lambda _: condition())

    def choose(self, name: str, element: str = "file") -> None:
        """Choose a file, or a folder, of the site's; what was said before is wiped off."""
        self.run("for (const name of ['status', 'problem']) document.getElementById(name).textContent = ''")
        self.browser.find_element("id", element).send_keys(str(self.site.folder / name))

    def decoded(self) -> None:
        """Wait until a picture is shown."""
        self.wait(lambda: self.text("status").startswith("Decoded") or self.text("problem"))
        assert self.text("problem") == ""

    def problem(self) -> str:
        self.wait(lambda: self.text("problem"))
        return self.text("problem")

    def slide(self, decoder: int) -> None:
        self.run(
            "const slider = document.getElementById('slider'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input'))",
            decoder,
        )

    def picture(self, canvas: str = "picture") -> np.ndarray:
        text, *shape = self.run(
            "const canvas = document.getElementById(arguments[0]);"
            "const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
            "let text = ''; for (const byte of data) text += String.fromCharCode(byte);"
            "return [btoa(text), canvas.height, canvas.width]",
            canvas,
        )
        return picture_of(base64.b64decode(text), tuple(shape))

    def complaints(self) -> list[str]:
        """Errors that the browser's console shows."""
        entries = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


@pytest.fixture
def page(browser: Chrome, site: Site) -> Page:
    return Page(browser, site)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("isolated", [False, True])
def test_every_file_is_shown_as_the_toolkit_decodes_it(page: Page, isolated: bool) -> None:
    family = page.site.family
    count = len(family.decoders)
    assert count > 1
    page.open(isolated=isolated)
    page.wait(lambda: page.text("status").startswith("Drop"))
    cores = min(8, page.run("return navigator.hardwareConcurrency")) if isolated else 1
    assert page.text("threads") == ("one thread" if cores == 1 else f"{cores} threads")
    for name in family.layouts:
        page.choose(f"{name}.nic")
        page.decoded()
        for place in reversed(range(count)):
            page.slide(place)
            page.wait(lambda place=place: page.run("return picture.dataset.decoder") == str(place))
            page.decoded()
            nic = page.site.files[f"{name}.nic"]
            assert_alike(page.picture(), decompress_image(family.codec(name, place), nic))
            assert page.text("chosen") == f"Decoder {place + 1} of {count}"
            assert page.text("decoder") == f"{family.decoder_kmac_px(place, name):#.3g} kMAC/px"
            assert re.fullmatch(r"[\d.,]+ ms", page.text("took"))
        size = (page.site.folder / f"{name}.nic").stat().st_size
        assert page.text("size") == "130x90"
        assert page.text("bytes") == f"{size:,} bytes"
        assert page.text("bpp") == f"{8 * size / (130 * 90):.3f} bit/px"
        assert page.text("layout") == name
        assert int(page.text("stages")) == family.layouts[name].stages(8, 12)
    assert page.complaints() == []


@needs_browser
@pytest.mark.slow
def test_a_grey_picture_is_shown_grey_and_called_so(page: Page) -> None:
    page.open("?codec=codec&file=grey.nic")
    page.decoded()
    assert page.text("size") == "130x90, grey"
    nic = page.site.files["grey.nic"]
    family = page.site.family
    wanted = decompress_image(family.codec(family.layout_of(nic.path_identity)), nic)
    page.slide(family.default)
    page.wait(lambda: page.run("return picture.dataset.decoder") == str(family.default))
    assert_alike(page.picture(), wanted)
    assert is_grey(page.picture()[..., :3])
    assert page.complaints() == []


@needs_browser
@pytest.mark.slow
def test_two_decoders_beside_one_another(page: Page) -> None:
    page.open("?codec=codec&file=raster.nic")
    page.decoded()
    page.browser.find_element("id", "compare").click()
    page.wait(lambda: page.run("return document.getElementById('split').hidden") is False)
    for canvas, place in (("other", 0), ("picture", len(page.site.family.decoders) - 1)):
        wanted = decompress_image(page.site.family.codec("raster", place), page.site.files["raster.nic"])
        assert_alike(page.picture(canvas), wanted)
    assert page.complaints() == []


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("damaged.nic", "checksum"),
        ("short.nic", "checksum"),
        ("longer.nic", "continues after its end"),
        ("other.nic", "Another codec made this file"),
        ("index.html", "not a .nic file"),
    ],
)
def test_what_cannot_be_decoded_is_said_in_a_sentence(page: Page, name: str, says: str) -> None:
    page.open("?codec=codec&file=raster.nic")
    page.decoded()
    page.choose(name)
    problem = page.problem()
    assert says in problem
    assert re.fullmatch(r"[A-Z].*\.", problem)
    page.choose("raster.nic")
    page.decoded()
    assert page.complaints() == []


@needs_browser
@pytest.mark.slow
def test_a_codec_that_is_not_there(page: Page) -> None:
    page.open("?codec=nowhere&file=raster.nic")
    assert "There is no codec.json" in page.problem()
    page.choose("codec", "folder")
    page.decoded()


@needs_browser
@pytest.mark.slow
def test_another_codec_from_a_folder_and_by_drop(page: Page) -> None:
    page.open()
    page.wait(lambda: page.text("status").startswith("Drop"))
    page.choose("other", "folder")
    page.wait(lambda: page.text("family") == "mean-scale-hyperprior")
    page.run(
        "const transfer = new DataTransfer();"
        "const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));"
        "transfer.items.add(new File([bytes], 'other.nic'));"
        "dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }))",
        text_of((page.site.folder / "other.nic").read_bytes()),
    )
    page.decoded()
    assert page.text("layout") == "none"
    assert page.text("stages") == "1"
    assert page.complaints() == []


@needs_browser
@pytest.mark.slow
def test_the_last_file_wins(page: Page) -> None:
    page.open()
    page.wait(lambda: page.text("status").startswith("Drop"))
    for name in ("raster", "uneven", "none", "damaged", "raster", "uneven"):
        page.choose(f"{name}.nic")
    page.decoded()
    assert page.text("layout") == "uneven"
    wanted = decompress_image(page.site.family.codec("uneven", 1), page.site.files["uneven.nic"])
    page.slide(1)
    page.wait(lambda: page.run("return picture.dataset.decoder") == "1")
    assert_alike(page.picture(), wanted)
    page.choose("raster.nic")
    page.choose("other", "folder")  # while the file of the first codec is decoded
    assert "Another codec made this file" in page.problem()
    page.choose("other.nic")
    page.decoded()
    assert page.text("family") == "mean-scale-hyperprior"
    assert page.complaints() == []


@needs_browser
@pytest.mark.slow
def test_the_example_is_shown_at_once(page: Page) -> None:
    page.open("")
    page.decoded()
    rows, columns, _ = page.picture().shape
    assert page.text("size") == f"{columns}x{rows}"
    assert page.picture()[..., :3].std() > 30  # a photo, not a grey area
    assert page.complaints() == []
