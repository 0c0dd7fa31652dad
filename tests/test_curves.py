"""Rate-distortion curves: BD-rates, and curves from files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.comparison.comparison import compressai_results
from nas.comparison.published import is_published, read_published
from nas.metrics.curves import Curve, CurvePoint, bd_rate
from nas.support.errors import InputError

steps = st.floats(0.05, 1.0)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """Four to eight points of rising rate and quality, from about 30 dB."""
    rate, quality, similarity = draw(st.floats(0.05, 0.2)), draw(st.floats(29, 30)), 0.9
    points = []
    for _ in range(draw(st.integers(4, 8))):
        points.append(CurvePoint(rate, quality, similarity, 1.0, 2.0))
        rate, quality = rate * (1 + draw(steps)), quality + 0.5 + draw(steps)
        similarity = 1 - 0.7 * (1 - similarity)
    return Curve.of("drawn", points)


@given(curves(), st.floats(0.3, 3))
def test_a_share_of_the_bits_is_that_bd_rate(curve: Curve, share: float) -> None:
    cheaper = Curve.of("cheaper", [replace(point, bpp=share * point.bpp) for point in curve.points])
    for measure in ("psnr", "ms_ssim_db"):
        found = bd_rate(cheaper, curve, measure)
        assert found.percent == pytest.approx(100 * (share - 1), abs=1e-6)
        assert found.low == getattr(curve.points[0], measure)
        assert found.high == getattr(curve.points[-1], measure)


@given(curves(), curves())
def test_the_other_way_round_undoes_it(one: Curve, other: Curve) -> None:
    there, back = bd_rate(one, other), bd_rate(other, one)
    assert (there.low, there.high) == (back.low, back.high)
    assert there.percent is not None
    assert back.percent is not None
    assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)


@given(curves(), st.integers(0, 3))
def test_worse_points_for_more_bits_do_not_count(curve: Curve, place: int) -> None:
    good = curve.points[place]
    worse = replace(good, bpp=good.bpp * 1.0001, psnr=good.psnr - 1)
    assert bd_rate(Curve.of("more", [*curve.points, worse]), curve).percent == pytest.approx(0, abs=1e-9)


def test_why_there_is_no_bd_rate() -> None:
    anchor = Curve.of("anchor", [CurvePoint(0.1 * 2**k, 30 + 2 * k) for k in range(6)])
    short = Curve("short", anchor.points[:3])
    falling = Curve.of("falling", [CurvePoint(0.1 * 2**k, 40 - k) for k in range(6)])
    apart = Curve.of("apart", [replace(point, psnr=point.psnr + 50) for point in anchor.points])
    for curve, base, measure, words in (
        (short, anchor, "psnr", "short has 3 points of rising PSNR, and 4 are needed"),
        (anchor, short, "psnr", "short has 3 points of rising PSNR, and 4 are needed"),
        (falling, anchor, "psnr", "falling has 1 point of rising PSNR, and 4 are needed"),
        (apart, anchor, "psnr", "no PSNR in common: anchor ends at 40.00 dB, apart begins at 80.00 dB"),
        (anchor, apart, "psnr", "no PSNR in common: anchor ends at 40.00 dB, apart begins at 80.00 dB"),
        (anchor, anchor, "ms_ssim_db", "anchor has no points of rising MS-SSIM, and 4 are needed"),
    ):
        found = bd_rate(curve, base, measure)
        assert found.percent is None
        assert math.isnan(found.low)
        assert found.why == words


# Files


@given(curves())
def test_compressais_format_comes_back(tmp_path_factory: pytest.TempPathFactory, curve: Curve) -> None:
    path = tmp_path_factory.mktemp("curve") / "curve.json"
    path.write_text(json.dumps(compressai_results("drawn", "words", reversed(curve.points))))
    found = read_published(str(path))
    values = [(point.bpp, point.psnr, point.ms_ssim) for point in curve.points]
    assert [(point.bpp, point.psnr, point.ms_ssim) for point in found.points] == values
    assert (found.name, found.kind) == ("drawn", "published")


def test_compressais_format_leaves_out_what_is_not_known() -> None:
    content = compressai_results("mine", "words", [CurvePoint(0.5, 33, 0.9), CurvePoint(0.2, 30)])
    assert (content["name"], content["description"]) == ("mine", "words")
    assert content["results"] == {"psnr-rgb": [30, 33], "bpp": [0.2, 0.5]}


TABLE = """file,name,bpp,psnr_rgb,ms_ssim_rgb
one.json,One,0.2,30,0.9
one.json,One,0.1,28,0.8
two-mse.json,Two,0.3,31,
two-ms-ssim.json,Two,0.4,,10
"""


def test_a_table_of_curves(tmp_path: Path) -> None:
    path = tmp_path / "rd.csv"
    path.write_text(TABLE)
    for name in ("one", "one.json", "One"):
        found = read_published(f"{path}:{name}")
        assert found == Curve("One", (CurvePoint(0.1, 28, 0.8), CurvePoint(0.2, 30, 0.9)), "published")
    found = read_published(f"{path}:two-ms-ssim")
    assert found.name == "two-ms-ssim"  # there is another Two
    (point,) = found.points
    assert math.isnan(point.psnr)
    assert point.ms_ssim == pytest.approx(0.9)  # 10 dB
    path.write_text("".join(TABLE.splitlines(keepends=True)[:3]))
    assert read_published(str(path)).name == "One"


@pytest.mark.parametrize("key", ["ms-ssim-db-rgb", "ms-ssim-rgb", "ms-ssim"])
def test_ms_ssim_in_decibels(tmp_path: Path, key: str) -> None:
    results = {"bpp": [0.12, 0.2], key: [11.6, 13.3]}
    (tmp_path / "paper.json").write_text(json.dumps({"name": "paper", "results": results}))
    points = read_published(str(tmp_path / "paper.json")).points
    assert [point.ms_ssim_db for point in points] == pytest.approx([11.6, 13.3])
    assert [point.ms_ssim for point in points] == pytest.approx([1 - 10**-1.16, 1 - 10**-1.33])
    both = {**results, "ms-ssim-rgb": [0.9, 0.95]}
    (tmp_path / "both.json").write_text(json.dumps({"results": both}))
    assert [point.ms_ssim for point in read_published(str(tmp_path / "both.json")).points] == [0.9, 0.95]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    table, results = tmp_path / "rd.csv", tmp_path / "rd.json"
    table.write_text(TABLE)
    for text, words in (
        (f"{tmp_path}/none.json", "no file"),
        (f"{tmp_path}/none.csv:vtm", "no file"),
        (str(tmp_path), "no file"),
        (str(table), "holds several curves"),
        (f"{table}:three", "no curve 'three'"),
        (f"{table}:Two", "choose two-ms-ssim or two-mse"),
        (f"{results}:One", "leave out ':One'"),
    ):
        results.write_text("{}")
        with pytest.raises(InputError, match=words):
            read_published(text)
    for content, words in (
        ("{", "not JSON"),
        ("[" * 100_000 + "]" * 100_000, "not JSON"),
        ("[]", "no `results`"),
        ("{}", "lacks bpp, or both"),
        ('{"results": {"bpp": [1]}}', "or both PSNR and MS-SSIM"),
        ('{"results": {"bpp": [1], "psnr": [1, 2]}}', "unequal length"),
        ('{"results": {"bpp": [], "psnr": []}}', "no points"),
        ('{"results": {"bpp": [1], "psnr": ["much"]}}', "'much' where a number belongs"),
        ('{"results": {"bpp": [0], "psnr": [1]}}', "not a number above 0"),
        ('{"results": {"bpp": [1], "psnr": [1e308]}}', "no picture has, 1e\\+308"),
        ('{"results": {"bpp": 1, "psnr": 1}}', "single values"),
    ):
        results.write_text(content)
        with pytest.raises(InputError, match=words):
            read_published(str(results))
    table.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="no curve 'one'"):
        read_published(f"{table}:one")


def test_what_names_a_file() -> None:
    assert all(map(is_published, ("rd.json", "a/rd.csv:vtm", "RD.JSON", "./x")))
    assert not any(map(is_published, ("jpeg", "codecs")))
