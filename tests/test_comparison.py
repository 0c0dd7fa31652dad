"""`nas evaluate`: what is asked, what is found, what is written, and what an interrupted one leaves."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from compressai.utils.plot.__main__ import main as compressai_plot
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image
from typer.testing import CliRunner

from nas.cli import app
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.comparison.compare import compare
from nas.comparison.comparison import PHOTO_COLUMNS, Comparison
from nas.comparison.plan import Plan, _short
from nas.graph.network import Supernet
from nas.metrics.curves import Curve, CurvePoint, bd_rate
from nas.report.rates import draw_rates, save_rates
from nas.support.errors import InputError
from nas.verbs.evaluate import write_comparison

QUALITIES = (10, 40, 70, 90)
LAMBDAS = (0.002, 0.004, 0.008, 0.016)
HOSTILE = "$x_1$ & <b>"


@pytest.fixture(scope="module")
def folders(supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four codecs of one folder, from narrow to wide, each for another lambda."""
    root, found = tmp_path_factory.mktemp("codecs") / "tiny", []
    for level, lmbda in zip((0.0, 0.3, 0.6, 1.0), LAMBDAS, strict=True):
        architecture = supernet.space.uniform(level, "none")
        found.append(root / f"level-{level}")
        costs = {"encoder": 1 + level, "decoder": 2 + level, "total": 3 + level}
        facts = {"lmbda": lmbda, "metric": "mse", "kmac_px": costs, "stages": 1, "params": 1000}
        save_codec(Codec(supernet.extract(architecture), architecture), found[-1], facts)
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, chelsea: np.ndarray) -> Path:
    """Two photos large enough for MS-SSIM, one below the other's folder, one grey with alpha."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "more").mkdir()
    large = np.pad(chelsea, ((0, 40), (0, 0), (0, 0)), mode="reflect")
    Image.fromarray(large).save(folder / "one.png")
    Image.fromarray(large[::-1, ::-1]).convert("LA").save(folder / "more" / "two.png")
    return folder


@pytest.fixture(scope="module")
def plan(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Plan:
    out = tmp_path_factory.mktemp("results") / "rd.json"
    return Plan.of(folders, against=["jpeg"], out=out)


@pytest.fixture(scope="module")
def found(plan: Plan, photos: Path) -> Comparison:
    return compare(plan, photos, qualities=QUALITIES)


@pytest.fixture
def without_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are written without their figure, which takes most of the time."""
    monkeypatch.setattr("nas.verbs.evaluate.save_rates", lambda *_, **__: None)


@pytest.fixture(scope="module")
def written(plan: Plan, found: Comparison) -> list[Path]:
    assert plan.outputs is not None
    return write_comparison(found, plan.outputs)


# What is asked


def test_codecs_of_one_folder_and_different_lambdas_make_a_curve(folders: list[Path]) -> None:
    plan = Plan.of(folders)
    (group,) = plan.groups
    assert group.name == "tiny"
    assert group.codecs == tuple(folder.name for folder in folders)
    assert plan.anchors == ()


def test_codecs_of_one_lambda_make_none(folders: list[Path], tmp_path: Path) -> None:
    for folder, lmbda in zip(folders[:3], (0.01, 0.01, 0.02), strict=True):
        shutil.copytree(folder, tmp_path / folder.name)
        path = tmp_path / folder.name / "codec.yaml"
        text = path.read_text()
        path.write_text(text.replace(f"lmbda: {LAMBDAS[folders.index(folder)]}", f"lmbda: {lmbda}"))
    copies = [tmp_path / folder.name for folder in folders[:3]]
    assert Plan.of(copies).groups == ()
    first, _, last = copies
    (group,) = Plan.of(copies, curves=[f"mine={last},{first.name}"]).groups
    assert (group.name, group.codecs) == ("mine", (last.name, first.name))


def test_folders_are_curves_of_their_own(folders: list[Path], tmp_path: Path) -> None:
    places = [tmp_path / side / "codecs" / folder.name for side in "ab" for folder in folders[:2]]
    for place, folder in zip(places, [*folders[:2], *folders[2:]], strict=True):
        shutil.copytree(folder, place)
    plan = Plan.of(places)
    assert [group.name for group in plan.groups] == ["a/codecs", "b/codecs"]
    assert plan.groups[0].codecs == ("a/codecs/level-0.0", "a/codecs/level-0.3")


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), min_size=1, max_size=6))
def test_short_names_tell_paths_apart(parts: list[list[str]]) -> None:
    paths = list(dict.fromkeys(Path("/", *part) for part in parts))
    names = _short(paths)
    assert len(set(names)) == len(paths)
    assert all(str(path).endswith(name) for path, name in zip(paths, names, strict=True))


def test_an_anchor_is_a_format_a_curve_or_a_file(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "vtm.json"
    path.write_text(json.dumps({"name": "VTM", "results": {"bpp": [0.1, 0.2], "psnr-rgb": [30, 32]}}))
    plan = Plan.of(folders, against=["webp"], anchors=["jpeg", "tiny", str(path)])
    assert plan.anchors == ("jpeg", "tiny", "VTM")
    assert plan.formats == ("webp", "jpeg")
    assert [curve.name for curve in plan.published] == ["VTM"]


def test_nothing_is_measured_before_all_is_checked(folders: list[Path], photos: Path, tmp_path: Path) -> None:
    copy, old = tmp_path / "copy", tmp_path / "old"
    shutil.copytree(folders[0], copy)
    shutil.copytree(folders[1], old)
    text = (old / "codec.yaml").read_text()
    (old / "codec.yaml").write_text(text.replace("stages:", "steps:"))
    (tmp_path / "there-jpeg.json").write_text("{}")
    a, b = folders[:2]
    for codecs, options, words in (
        ([], {}, "no codec"),
        ([a, a], {}, "given twice"),
        ([a, copy], {}, "copy of the codec"),
        ([tmp_path], {}, "not a codec"),
        ([old], {}, r"lacks what an evaluation needs \('stages'\)"),
        ([a], {"against": ["gif"]}, "no format 'gif'"),
        ([a], {"anchors": ["jpg"]}, "no anchor 'jpg': did you mean jpeg"),
        ([a], {"anchors": ["vtm.json"]}, "no file vtm.json"),
        ([a, b], {"curves": ["mine"]}, "'mine' is not a curve"),
        ([a, b], {"curves": ["mine=level-0.0"]}, "two codecs or more"),
        ([a, b], {"curves": ["mine=level-0.0,level-0.6"]}, "no codec 'level-0.6' among those given"),
        ([a, b], {"curves": ["jpeg=level-0.0,level-0.3"], "against": ["jpeg"]}, "Two curves would be called"),
        ([a, b], {"out": tmp_path / "rd.txt"}, r"ends in \.json"),
        ([a, b], {"out": tmp_path / "there.json", "against": ["jpeg"]}, "there-jpeg.json already exists"),
    ):
        with pytest.raises(InputError, match=words):
            Plan.of(codecs, **options)  # type: ignore[arg-type]
    broken = tmp_path / "photos"
    shutil.copytree(photos, broken)
    (broken / "z.png").write_bytes((photos / "one.png").read_bytes()[:2000])
    for data, words in ((tmp_path / "none", "not a folder"), (copy, "no images"), (broken, "z.png")):
        seen: list[str] = []
        with pytest.raises(InputError, match=words):
            compare(Plan.of([a]), data, lambda *step, seen=seen: seen.append(step[2]))
        assert all(note.startswith("reading") for note in seen)


# What is found


def test_everything_is_beside_each_other(found: Comparison, folders: list[Path]) -> None:
    assert [codec.name for codec in found.codecs] == [folder.name for folder in folders]
    assert [photo.name for photo in found.codecs[0].photos] == ["more/two.png", "one.png"]
    assert [curve.name for curve in found.curves] == ["tiny", "jpeg"]
    for same in found.same_size:
        codec = next(codec for codec in found.codecs if codec.name == same.codec)
        assert same.bpp == pytest.approx(codec.bpp, rel=0.5)
    (tiny, jpeg) = found.curves
    assert found.bd_rates == (bd_rate(tiny, jpeg), bd_rate(tiny, jpeg, "ms_ssim_db"))


def test_the_data_frame_has_a_row_for_each_codec(found: Comparison, folders: list[Path]) -> None:
    table = found.to_dataframe()
    assert table["codec"].tolist() == [folder.name for folder in folders]
    assert table["bpp"].tolist() == [codec.bpp for codec in found.codecs]
    assert table["decoder_kmac_px"].iloc[0] == 2.0
    assert all(folder.name in repr(found) for folder in folders)
    assert len(repr(found)) < 300


def test_tables_are_whole(found: Comparison) -> None:
    titles = []
    for title, columns, rows in found.tables():
        titles.append(title)
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert len(titles) == 4
    _, columns, rows = list(found.tables())[1]
    assert dict(zip(columns, rows[0], strict=True))["decoder"] == 2.0


def test_a_missing_bd_rate_is_explained(folders: list[Path], photos: Path) -> None:
    result = compare(Plan.of(folders[:1], against=["jpeg"]), photos, qualities=(10, 90))
    assert result.bd_rates == ()
    assert result.notes() == [
        "No BD-rate of the codecs: a curve takes codecs for different lambdas, see --curve.",
        "`codec above` is the mean of each photo's difference, at that photo's size; the curves join "
        "means over photos at one quality, so what lies between them is another difference.",
    ]
    result = compare(Plan.of(folders[:3], against=["jpeg"]), photos, qualities=(10, 90))
    (_, _, _, (_, _, ((curve, anchor, *cells),))) = list(result.tables())
    assert (curve, anchor, cells) == ("tiny", "jpeg", ["none", "", "none", ""])
    assert any("are needed" in note for note in result.notes())


@pytest.mark.usefixtures("without_a_figure")
def test_a_photo_that_comes_back_exactly_is_named_and_in_no_mean_of_psnr(
    folders: list[Path], photos: Path, found: Comparison, tmp_path: Path
) -> None:
    with_white = tmp_path / "photos"
    shutil.copytree(photos, with_white)
    Image.new("RGB", (200, 180), "white").save(with_white / "white.png")
    outputs = tmp_path / "rd.json"
    plan = Plan.of(folders, against=["jpeg"], out=outputs)
    result = compare(plan, with_white, qualities=QUALITIES)
    assert result.exact == {"white.png": ["jpeg"]}
    every, others = ((*each.codecs, *each.sweeps["jpeg"]) for each in (result, found))
    for one, other in zip(every, others, strict=True):
        assert one.psnr == pytest.approx(other.psnr)  # of the same photos
        assert one.bpp == pytest.approx(sum(photo.bpp for photo in one.photos) / 3)
    assert all(math.isfinite(same.psnr) for same in result.same_size)
    jpeg = next(curve for curve in result.curves if curve.name == "jpeg")
    assert len(jpeg.rising("psnr")[0]) == len(QUALITIES)
    (note,) = [note for note in result.notes() if "exactly" in note]
    assert "white.png from jpeg" in note
    assert "means of PSNR are over the other 2" in note
    write_comparison(result, plan.outputs)
    written = json.loads(outputs.read_text())
    assert note in written["description"]
    assert None not in written["results"]["psnr-rgb"]
    assert written["evaluation"]["exact"] == {"white.png": ["jpeg"]}


def test_where_everything_comes_back_exactly_that_is_said(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "white").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white" / "white.png")
    result = compare(Plan.of(folders, against=["jpeg"]), tmp_path / "white", qualities=QUALITIES)
    assert all(math.isfinite(codec.psnr) for codec in result.codecs)
    assert any("every photo comes back exactly" in rate.why for rate in result.bd_rates)
    assert any("what does not come back exactly" in note for note in result.notes())


def test_a_curve_against_a_published_one(folders: list[Path], photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "vtm.json"
    rates, qualities = [0.1, 0.3, 0.9, 2.0, 9.0], [10, 20, 30, 40, 50]
    path.write_text(json.dumps({"name": "VTM", "results": {"bpp": rates, "psnr-rgb": qualities}}))
    result = compare(Plan.of(folders, anchors=["jpeg", str(path)]), photos, qualities=QUALITIES)
    pairs = {(rate.curve, rate.anchor): rate for rate in result.bd_rates if rate.measure == "psnr"}
    assert set(pairs) == {("tiny", "jpeg"), ("VTM", "jpeg"), ("tiny", "VTM"), ("jpeg", "VTM")}
    assert pairs["jpeg", "VTM"].percent is not None
    assert any("As published: VTM" in note for note in result.notes())


# What is written


def test_files(written: list[Path], found: Comparison) -> None:
    assert [path.name for path in written] == ["rd.json", "rd.csv", "rd.png", "rd.svg", "rd-jpeg.json"]
    assert sorted(written[0].parent.iterdir()) == sorted(written)  # nothing unfinished is left
    content = json.loads(written[0].read_text())
    assert content["name"] == "tiny"
    assert content["results"]["bpp"] == sorted(codec.bpp for codec in found.codecs)
    assert content["evaluation"]["photos"] == 2
    assert content["evaluation"]["codecs"][0]["kmac_px"] == {"encoder": 1.0, "decoder": 2.0, "total": 3.0}
    assert len(json.loads(written[-1].read_text())["results"]["bpp"]) == len(QUALITIES)
    with Image.open(written[2]) as image:
        assert image.width >= 1200


def test_a_row_per_photo(written: list[Path], found: Comparison) -> None:
    with open(written[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(PHOTO_COLUMNS)
    assert len(rows) == 2 * (len(found.codecs) + len(QUALITIES))
    first = found.codecs[0].photos[0]
    assert float(rows[0]["psnr"]) == first.psnr
    assert (rows[0]["photo"], rows[0]["quality"]) == ("more/two.png", "")
    assert {row["quality"] for row in rows if row["name"] == "jpeg"} == set(map(str, QUALITIES))


@pytest.mark.usefixtures("without_a_figure")
def test_several_curves_have_files_of_their_own(
    folders: list[Path], photos: Path, tmp_path: Path, found: Comparison
) -> None:
    out = tmp_path / "rd.json"
    plan = Plan.of(folders, curves=["a b=level-0.0,level-0.3"], out=out)
    assert plan.outputs is not None
    assert [path.name for path in plan.outputs.all()][4:] == ["rd-a-b.json", "rd-tiny.json"]
    write_comparison(compare(plan, photos), plan.outputs)
    assert len(json.loads(out.read_text())["results"]["bpp"]) == 4
    ours = json.loads((tmp_path / "rd-a-b.json").read_text())
    assert ours["name"] == "a b"
    assert ours["results"]["bpp"] == sorted(codec.bpp for codec in found.codecs[:2])
    with pytest.raises(InputError, match="already exists"):
        Plan.of(folders, out=out)
    Plan.of(folders, out=out, force=True)


@pytest.mark.parametrize("metric", ["psnr", "ms-ssim"])
def test_compressais_plot_tool_reads_the_files(metric: str, written: list[Path], tmp_path: Path) -> None:
    files = [str(path) for path in written if path.suffix == ".json"]
    with matplotlib.rc_context({"backend": "Agg"}):
        compressai_plot(["-f", *files, "-m", metric, "-o", str(tmp_path / "plot.png")])
        matplotlib.pyplot.close("all")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


@pytest.mark.usefixtures("without_a_figure")
def test_compressais_plot_tool_without_ms_ssim(
    folders: list[Path], photo_folder: Path, tmp_path: Path
) -> None:
    plan = Plan.of(folders[:2], out=tmp_path / "rd.json")
    assert plan.outputs is not None
    found = compare(plan, photo_folder)
    assert math.isnan(found.codecs[0].ms_ssim)
    write_comparison(found, plan.outputs)
    with matplotlib.rc_context({"backend": "Agg"}):
        compressai_plot(["-f", str(tmp_path / "rd.json"), "-o", str(tmp_path / "plot.png")])
        matplotlib.pyplot.close("all")
    with pytest.raises(ValueError, match='metric "ms-ssim-rgb" not available'):
        compressai_plot(["-f", str(tmp_path / "rd.json"), "-m", "ms-ssim"])


# The picture


def drawn_curves() -> list[Curve]:
    def points(shift: float, count: int = 5) -> list[CurvePoint]:
        return [CurvePoint(0.1 * 2**k, 28 + 2 * k + shift, 1 - 0.1 / 2**k) for k in range(count)]

    return [
        Curve.of(HOSTILE, points(1)),
        Curve.of("alone", points(0.5, 1)),
        *(Curve.of(name, points(-k), "format") for k, name in enumerate(("jpeg", "webp", "avif"))),
        *(Curve.of(f"a published codec with a long name {k}", points(k / 2), "published") for k in range(3)),
    ]


def test_the_picture_names_every_curve_and_nothing_overlaps() -> None:
    curves = drawn_curves()
    figure = draw_rates(curves, subtitle="Means of 2 photos")
    (legend,) = figure.legends
    texts = legend.get_texts()
    assert [text.get_text() for text in texts] == [curve.name for curve in curves]
    assert len(figure.axes) == 2
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in [*texts, *figure.texts]]
    boxes += [axes.get_tightbbox() for axes in figure.axes]
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    assert figure.findobj(Text)


def test_the_picture_is_the_same_each_time_and_can_do_without_ms_ssim(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save_rates(drawn_curves(), [tmp_path / name])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    plain = [
        Curve(c.name, tuple(replace(p, ms_ssim=math.nan) for p in c.points), c.kind) for c in drawn_curves()
    ]
    assert len(draw_rates(plain).axes) == 1


# Interrupted


@pytest.mark.usefixtures("without_a_figure")
def test_an_interrupted_evaluation_goes_on(folders: list[Path], photos: Path, tmp_path: Path) -> None:
    plan = Plan.of(folders[:2], against=["jpeg"], out=tmp_path / "new" / "rd.json")
    assert plan.outputs is not None

    def stop(done: int, total: int, note: str) -> None:
        if "like" in note:  # all is measured once
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(plan, photos, stop, qualities=QUALITIES)
    kept = plan.outputs.kept
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines)[:-40])  # the machine went down while it wrote
    first = compare(plan, photos, qualities=QUALITIES)
    again = compare(plan, photos, qualities=QUALITIES)
    assert again.codecs == first.codecs  # the seconds, too: nothing was measured twice
    assert again.sweeps == first.sweeps
    seconds = [json.loads(line)["result"]["encode_seconds"] for line in lines[1:-1]]
    ours = [photo.encode_seconds for codec in first.codecs for photo in codec.photos]
    assert set(ours) <= set(seconds)
    write_comparison(first, plan.outputs)
    assert not kept.exists()


def test_the_command(folders: list[Path], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "rd.json"
    command = ["evaluate", *map(str, folders[:2]), "--data", str(photos), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--anchor", "jpeg"])
    assert done.exit_code == 0, done.output
    assert "what the codecs cost" in done.stdout
    assert "2 points of rising" in done.stderr
    assert str(tmp_path / "rd.png") in done.stderr
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert "already exists" in again.stderr
    once_more = CliRunner().invoke(app, [*command, "--force", "--json"])
    assert json.loads(once_more.stdout)["files"][0] == str(out)


@pytest.mark.slow
def test_a_stopped_command_says_how_to_go_on(folders: list[Path], photos: Path, tmp_path: Path) -> None:
    many = tmp_path / "photos"
    many.mkdir()
    for number in range(300):
        os.link(photos / "one.png", many / f"{number}.png")
    command = [sys.executable, "-m", "nas", "evaluate", str(folders[3]), "--data", str(many)]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "rd.json")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / ".rd.unfinished").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command again to continue." in errors
    assert len((tmp_path / ".rd.unfinished").read_text().splitlines()) > 1
