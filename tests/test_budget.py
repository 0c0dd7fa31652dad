"""Budgets: what people write is read, printed and read again; what they cannot mean gets one sentence."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas.cost.counting.sums import Part
from nas.cost.exact.quantity import Bound, Quantity
from nas.spaces.budget import REFERENCE_SIZE, Amount, Budget, Limit, Span, check_scope
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError

# how a unit may be written: what it becomes, how many of those it is, whether it is of a picture's size
WRITTEN = {
    "": ("kMAC/px", 1, False),
    "kMAC/px": ("kMAC/px", 1, False),
    "kmac/px": ("kMAC/px", 1, False),
    "%": ("%", 1, False),
    "MMAC": ("GMAC", 1e-3, True),
    "GMAC": ("GMAC", 1, True),
    "gmac": ("GMAC", 1, True),
    "ms": ("ms", 1, True),
    "s": ("ms", 1000, True),
    "MB": ("MB", 1, True),
    "GB": ("MB", 1000, True),
    "stages": ("stages", 1, False),
    "stage": ("stages", 1, False),
    "parameters": ("parameters", 1, False),
    "params": ("parameters", 1, False),
    "parameter": ("parameters", 1, False),
    "k parameters": ("parameters", 1e3, False),
    "k params": ("parameters", 1e3, False),
    "M parameters": ("parameters", 1e6, False),
    "M params": ("parameters", 1e6, False),
}
WHOLE = ("stages", "stage", "parameters", "params", "parameter")  # what has no decimals
NUMBERS = st.tuples(st.integers(1, 10**7 - 1), st.integers(-4, 4)).map(lambda n: n[0] * 10.0 ** n[1])
SIZES = st.tuples(st.integers(1, 9999), st.integers(1, 9999))
LIMITED = {  # what may be limited, and in what
    **dict.fromkeys(("encoder", "decoder", "total"), ("", "kMAC/px", "%", "MMAC", "GMAC")),
    **dict.fromkeys(("encode", "decode"), ("ms", "s", "MB", "GB")),
    "stages": ("", "stages"),
    "parameters": ("", "parameters", "k parameters", "M params"),
}


def forms(number: float, *, whole: bool = False) -> list[str]:
    """One number as people, YAML and we ourselves write it; with commas only where they are clear."""
    grouped = f"{number:,.10g}"
    written = [repr(number), f"{number:.10g}", f"{number:.9e}"]
    written += [grouped] if whole or grouped.count(",") != 1 or "." in grouped else []
    return [*written, f"{number:.0f}."] if number == int(number) else written


@st.composite
def amounts(draw: st.DrawFn, units: tuple[str, ...] = tuple(WRITTEN)) -> tuple[str, Amount]:
    """A text, and what it means."""
    number, unit = draw(NUMBERS), draw(st.sampled_from(units))
    name, times, sized = WRITTEN[unit]
    number = min(number, 100.0) if unit == "%" else number
    size = draw(st.none() | SIZES) if sized else None
    gap = draw(st.sampled_from(["", " ", "  "]))
    text = draw(st.sampled_from(forms(number, whole=unit in WHOLE))) + gap + unit
    device = draw(st.none() | st.sampled_from(["phone", "Pixel-7", "cpu"])) if name in ("ms", "MB") else None
    text += f"{draw(st.sampled_from(['@', ' @', ' @ ']))}{device}" if device else ""
    text += f" at {size[0]}{draw(st.sampled_from(['x', ' x ', 'X']))}{size[1]}" if size else ""
    return text, Amount(number * times, name, (size or REFERENCE_SIZE) if sized else None, device)


def alike(one: Amount, other: Amount) -> bool:
    same = (one.unit, one.size, one.device) == (other.unit, other.size, other.device)
    return same and one.value == pytest.approx(other.value, rel=1e-9)


def refused(text: str, words: list[str], build: Any) -> str:
    """What is said of wrong input: one sentence that names some words."""
    with pytest.raises(InputError) as error:
        build(text)
    said = str(error.value)
    assert "\n" not in said
    assert said.endswith((".", "?"))
    for word in words:
        assert word in said
    return said


# Amounts


@given(amounts())
def test_an_amount_survives_as_text(drawn: tuple[str, Amount]) -> None:
    text, meant = drawn
    found = Amount.parse(text)
    assert alike(found, meant)
    assert alike(Amount.parse(str(found)), found)
    assert str(Amount.parse(str(found))) == str(found)


@given(NUMBERS)
def test_a_number_of_yaml_means_what_its_text_does(number: float) -> None:
    assert Amount.parse(number) == Amount.parse(repr(number)) == Amount(number, "kMAC/px")
    assert Amount.parse(number, "stages") == Amount(number, "stages")


@given(st.integers(1, 10**12), st.sampled_from([("ms", 10**6), ("kMAC/px", 393216000), ("stages", 1)]))
def test_what_a_quantity_tells_can_be_asked_for(whole: int, of: tuple[str, int]) -> None:
    space = SearchSpace.load("factorized-tiny")
    quantity = Quantity(space, "cost", *of, phases=((Part((), np.array(whole)),),))
    least = Amount.parse(quantity.format(whole, least=True))
    assert least.unit == of[0]
    assert quantity.to_integer(least.value) >= whole
    assert least.value == pytest.approx(whole / of[1], rel=2e-3)
    assert Amount.parse(quantity.format(whole)).value == pytest.approx(whole / of[1], rel=1e-3)


def quantity_of(unit: str, per_unit: int) -> Quantity:
    return Quantity(SearchSpace.load("factorized-tiny"), "cost", unit, per_unit, phases=())


@given(st.integers(1, 10**6), st.integers(-5, 3), st.sampled_from([("ms", 10**9), ("kMAC/px", 393216000)]))
def test_a_target_is_told_as_it_was_given(digits: int, exponent: int, of: tuple[str, int]) -> None:
    given, quantity = float(f"{digits}e{exponent}"), quantity_of(*of)
    whole = quantity.to_integer(given)
    assert quantity.to_number(whole) == given
    assert quantity.format(whole) == quantity.format(round(given * quantity.per_unit))


@given(st.integers(1, 10**12), st.sampled_from([("ms", 10**6), ("kMAC/px", 393216000), ("stages", 1)]))
def test_a_cost_is_told_in_a_number_that_stands_for_it(whole: int, of: tuple[str, int]) -> None:
    quantity = quantity_of(*of)
    number = quantity.to_number(whole)
    assert whole in (quantity.to_integer(number), round(number * quantity.per_unit))


def test_a_huge_target_keeps_its_zeros() -> None:
    quantity = quantity_of("kMAC/px", 393216000)
    assert quantity.format(quantity.to_integer(1e9)) == "1000000000 kMAC/px"


def test_units_that_are_the_name_are_not_told_twice() -> None:
    quantity = replace(quantity_of("stages", 1), name="stages")
    assert str(Bound(quantity, 4)) == "stages <= 4"
    assert str(Bound(replace(quantity, name="parameters", unit="parameters"), 5000)) == "parameters <= 5,000"


@pytest.mark.parametrize(
    "text",
    [
        *("", "small", "20 apples", "0", "-3", "0%", "1.2.3", "3 ms ms", "20 mb", "nan", "inf", "1e400", "."),
        *("1,2", "1,2345 ms", ",5", "ms", "5M", "30 ms at", "30 ms 768x512", "30 ms at 768"),
        *("30ms@", "30ms@my phone", "30ms@phone@camera", "@phone"),
    ],
)
def test_what_is_no_amount_says_what_one_looks_like(text: str) -> None:
    refused(text, [f"'{text}'", "60%", "30ms", "4 GMAC at 1920x1080"], Amount.parse)


@pytest.mark.parametrize(
    "text",
    ["1,000", "1,5", "20,000 ms", "1,500%", "1,200M parameters", "1,000 GMAC at 8x8", "1,000e1", "1,50"],
)
def test_a_comma_that_may_mean_either_is_refused(text: str) -> None:
    """1,000 is a thousand to some and one to others; only whole numbers leave no doubt."""
    said = refused(text, [f"'{text}'", "leave commas out"], Amount.parse)
    assert refused(f"total <= {text}", ["leave commas out"], Limit.parse) == said
    assert Amount.parse("1,000 stages").value == 1000
    assert Amount.parse("1,000,000").value == 1e6


@pytest.mark.parametrize(
    ("text", "meant"), [("4stages", Amount(4, "stages")), ("5M parameters", Amount(5e6, "parameters"))]
)
def test_targets_that_the_help_names_are_read(text: str, meant: Amount) -> None:
    assert Amount.parse(text) == meant


def test_a_wrong_target_names_every_kind_there_is() -> None:
    with pytest.raises(InputError) as refused:
        Amount.parse("apples")
    kinds = ("kMAC per pixel", "%", "ms", "GMAC", "MB", "stages", "parameters")
    assert [kind for kind in kinds if kind not in str(refused.value)] == []


@pytest.mark.parametrize("scope", ["dec", "", 3, None, ["decoder"]])
def test_a_wrong_scope_is_refused_in_the_same_words_everywhere(scope: Any) -> None:
    from nas.report.front.fronts import check

    for refuse in (check_scope, lambda scope: Budget("x", scope), lambda scope: check([], scope)):
        with pytest.raises(InputError, match=r"There is no scope '.*': choose one of encoder"):
            refuse(scope)


@pytest.mark.parametrize("text", ["101%", "150 %", "1e9%"])
def test_a_share_is_at_most_all(text: str) -> None:
    refused(text, [f"'{text}'", "at most 100%"], Amount.parse)


@pytest.mark.parametrize("text", ["20 at 768x512", "60% at 768x512", "4 stages at 8x8", "30 ms at 0x512"])
def test_only_a_pictures_cost_has_a_size(text: str) -> None:
    refused(text, [text, "GMAC, ms and MB"], Amount.parse)


@pytest.mark.parametrize("text", ["20@phone", "60%@phone", "4 GMAC@phone", "4 stages@cpu"])
def test_only_what_is_measured_is_of_a_device(text: str) -> None:
    refused(text, [text, "only times in ms depend on a device"], Amount.parse)


# Limits


@st.composite
def limits(draw: st.DrawFn) -> tuple[str, str, Amount]:
    what = draw(st.sampled_from(sorted(LIMITED)))
    text, meant = draw(amounts(LIMITED[what]))
    if what in ("stages", "parameters") and meant.unit == "kMAC/px":  # a bare number is of those then
        meant = Amount(meant.value, what)
    sign = draw(st.sampled_from(["<=", " <= ", "≤", " ≤  "]))
    return f"{what}{sign}{text}", what, meant


@given(limits())
def test_a_limit_survives_as_text(drawn: tuple[str, str, Amount]) -> None:
    text, what, meant = drawn
    found = Limit.parse(text)
    assert found.what == what
    assert alike(found.most, meant)
    assert alike(Limit.parse(str(found)).most, found.most)
    assert str(Limit.parse(str(found))) == str(found)


@given(st.lists(limits(), min_size=1, max_size=4), st.sampled_from([" and ", "; ", " and  "]))
def test_limits_are_joined(drawn: list[tuple[str, str, Amount]], joint: str) -> None:
    found = Limit.parse_all(joint.join(text for text, *_ in drawn))
    assert [limit.what for limit in found] == [what for _, what, _ in drawn]
    assert Limit.parse_all(" and ".join(map(str, found))) == Limit.parse_all("; ".join(map(str, found)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("decoder < 20", ["decoder < 20", "decoder <= 20 kMAC/px"]),
        ("decoder 20", ["decoder 20"]),
        ("decodr <= 20", ["decoder"]),
        ("<= 20", ["<= 20"]),
        ("latency <= 20 ms", ["latency <= 20 ms", "decode <= 150 ms"]),
        ("decode <= 150", ["ms or MB"]),
        ("decode <= 1,000", ["ms or MB"]),
        ("decode <= 20 kMAC/px", ["decode", "ms or MB"]),
        ("decode <= 50%", ["ms or MB"]),
        ("decoder <= 30 ms", ["kMAC/px or % or GMAC"]),
        ("stages <= 4 ms", ["stages is limited in stages"]),
        ("parameters <= 50%", ["parameters is limited in parameters"]),
        ("decoder <= few", ["few", "60%"]),
        ("decoder <= 0", ["0"]),
        ("stages <= 0", ["'0' is not an amount above 0: write a whole number of stages from 1"]),
        ("parameters <= few", ["'few'", "a number of parameters"]),
        ("decoder >= 3", ["decoder >= 3"]),
        ("", ["'' is not a limit"]),
    ],
)
def test_a_wrong_limit_is_named(text: str, words: list[str]) -> None:
    refused(text, words, Limit.parse)
    refused(f"stages <= 4 and {text}", words, Limit.parse_all)


# Budgets


def load(tmp_path: Path, content: Any) -> Budget:
    (tmp_path / "mine.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return Budget.load(tmp_path / "mine.yaml")


@pytest.mark.parametrize("name", resources.shipped("budgets"))
def test_every_shipped_budget_loads_and_tells_what_it_is(name: str) -> None:
    from nas.verbs.info import describe

    budget = Budget.load(name)
    assert budget.name == name
    assert budget.targets or budget.span or budget.limits
    assert all(Limit.parse(str(limit)) == limit for limit in budget.limits)
    assert all(Amount.parse(str(target)) == target for target in budget.targets)
    assert len(budget.measures) == 1 + len(budget.limits)
    json.dumps(describe(name).to_json(), allow_nan=False)


@given(st.lists(amounts(("ms", "s")), min_size=1, max_size=3), st.sampled_from(["encoder", "decoder"]))
def test_a_file_says_what_python_says(tmp_path: Path, drawn: list[tuple[str, Amount]], scope: str) -> None:
    size, device = drawn[0][1].size, drawn[0][1].device
    targets = tuple(Amount(amount.value, "ms", size, device) for _, amount in drawn)
    found = load(tmp_path, {"scope": scope, "targets": list(map(str, targets)), "max_stages": 4})
    assert found.scope == scope
    assert all(map(alike, found.targets, targets))
    assert found.limits == (Limit("stages", Amount(4, "stages")),)
    assert found.measure == ("encode" if scope == "encoder" else "decode", "ms", size, device)
    assert found.measures[1:] == [("stages", "stages", None, None)]


@pytest.mark.parametrize(
    ("scope", "target", "measure"),
    [
        ("encoder", "20", ("encoder", "kMAC/px", None)),
        ("decoder", "60%", ("decoder", "kMAC/px", None)),
        ("total", "4 GMAC at 64x32", ("total", "GMAC", (64, 32))),
        ("encoder", "30ms", ("encode", "ms", REFERENCE_SIZE)),
        ("decoder", "1 s at 1920x1080", ("decode", "ms", (1920, 1080))),
        ("total", "30ms", ("decode", "ms", REFERENCE_SIZE)),
        ("encoder", "200 MB", ("encode", "MB", REFERENCE_SIZE)),
        ("total", "0.2 GB", ("decode", "MB", REFERENCE_SIZE)),
        ("encoder", "4 stages", ("stages", "stages", None)),
        ("decoder", "5M parameters", ("parameters", "parameters", None)),
    ],
)
def test_what_a_target_limits(scope: str, target: str, measure: tuple[Any, ...]) -> None:
    limits = Limit.parse_all("decode <= 9 ms at 8x8 and encoder <= 3")
    budget = Budget.of(target, scope, limits)
    assert budget.measure == (*measure, None)
    assert budget.measures[1:] == [("decode", "ms", (8, 8), None), ("encoder", "kMAC/px", None, None)]
    assert not budget.is_elsewhere


def test_a_budget_of_several_targets() -> None:
    assert Budget.of(["20", 30.0], "decoder").targets == (Amount(20, "kMAC/px"), Amount(30, "kMAC/px"))
    assert Budget.of([20]) == Budget.of(20)
    for wrong, said in (
        ([], "empty list"),
        (["20", "30ms"], "one unit"),
        (["20", "x"], "'x' is not an amount"),
    ):
        with pytest.raises(InputError, match=said):
            Budget.of(wrong)


def test_further_limits_come_after_those_of_a_budget_and_are_of_its_device(tmp_path: Path) -> None:
    own = load(tmp_path, {"targets": ["30 ms"], "limits": "stages <= 4", "device": "phone"})
    expected = [("stages", None), ("encode", "phone"), ("decoder", None)]
    for more in ("encode <= 9 ms and decoder <= 3", ["encode <= 9 ms", Limit.parse("decoder <= 3")]):
        limited = Budget.asked(own, limits=more)
        assert [(limit.what, limit.most.device) for limit in limited.limits] == expected
        assert (limited.targets, limited.scope) == (own.targets, own.scope)
    assert Budget.asked(own, limits=[]) == Budget.asked(own) == own


@given(st.integers(1, 12), st.floats(0.1, 50), st.floats(0.1, 50))
def test_levels_are_even_steps_from_what_is_reachable(levels: int, least: float, more: float) -> None:
    found = Span(levels).values(least, least + more)
    assert len(found) == levels
    assert found[-1] == pytest.approx(least + more)
    assert np.diff([least, *found]) == pytest.approx(np.full(levels, more / levels))
    named = Span(levels, Amount(least, "kMAC/px"), Amount(least + more, "kMAC/px")).values(0.0, 1000.0)
    assert named[-1] == pytest.approx(least + more)
    if levels > 1:
        assert named[0] == least
        assert np.diff(named) == pytest.approx(np.full(levels - 1, more / (levels - 1)))


def test_ranges_and_levels_in_a_file(tmp_path: Path) -> None:
    found = load(tmp_path, {"targets": {"from": "10 ms", "to": "0.1 s", "levels": 4}, "scope": "encoder"})
    assert found.span == Span(4, Amount(10, "ms", REFERENCE_SIZE), Amount(100, "ms", REFERENCE_SIZE))
    assert found.measure == ("encode", "ms", REFERENCE_SIZE, None)
    assert found.span.values(0.0, 1e9) == pytest.approx([10, 40, 70, 100])
    assert load(tmp_path, {"targets": {"to": 40, "levels": 2}}).span == Span(2, None, Amount(40, "kMAC/px"))
    assert load(tmp_path, {"levels": 8}).span == Span(8)
    both = load(tmp_path, {"targets": [20, "60%"], "levels": 3, "limits": "stages <= 4 and decode ≤ 1 s"})
    assert (both.targets, both.span) == ((Amount(20, "kMAC/px"), Amount(60, "%")), Span(3))
    assert both.limits == Limit.parse_all("stages <= 4 and decode <= 1000 ms")
    assert load(tmp_path, {"limits": ["stages <= 4", "decode <= 1 s"]}).limits == both.limits
    alone = load(tmp_path, {"limits": "parameters <= 5M parameters"})
    assert (alone.measure, alone.targets, alone.span) == (("total", "kMAC/px", None, None), (), None)


def test_a_file_of_a_device_means_its_times(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "device": "phone",
        "targets": ["30ms", "40ms@phone"],
        "limits": "encode <= 1 s",
    }
    found = load(tmp_path, content)
    assert [str(target) for target in found.targets] == ["30 ms@phone", "40 ms@phone"]
    assert [str(limit) for limit in found.limits] == ["encode <= 1000 ms@phone"]
    assert found.is_elsewhere
    assert found.narrowed("35ms").targets == (Amount(35, "ms", REFERENCE_SIZE, "phone"),)
    assert found.narrowed("20").targets == (Amount(20, "kMAC/px"),)
    found = load(tmp_path, {"device": "phone", "targets": {"from": "10 ms", "to": "20 ms", "levels": 2}})
    assert found.measure == ("decode", "ms", REFERENCE_SIZE, "phone")
    assert not load(tmp_path, {"device": "cpu", "limits": "decode <= 9 ms"}).is_elsewhere
    both = load(tmp_path, {"limits": "decode <= 9 ms@phone and decode <= 90 ms"})
    assert [limit.most.device for limit in both.limits] == ["phone", None]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"targets": ["30ms", 20]}, ["kMAC/px and ms", "limits"]),
        ({"targets": ["30ms", "30ms@phone"]}, ["ms and ms@phone", "limits"]),
        ({"targets": [20], "device": "phone"}, ["`device`", "in ms"]),
        ({"targets": ["30ms"], "device": "my phone"}, ["'my phone'", "letters, digits"]),
        ({"targets": ["30ms", "30ms at 64x64"]}, ["ms and ms at 64x64"]),
        ({"targets": ["200MB", "30ms"]}, ["MB and ms"]),
        ({"targets": {"from": 10, "to": "30ms", "levels": 2}}, ["kMAC/px and ms"]),
        ({"targets": {"from": "10%", "to": "60%", "levels": 2}}, ["%"]),
        ({"targets": {"from": 30, "to": 20, "levels": 2}}, ["30 kMAC/px", "20 kMAC/px", "empty"]),
        ({"targets": {"from": 30, "to": 40}}, ["`targets.levels` is missing"]),
        ({"targets": {"form": 30, "to": 40, "levels": 2}}, ["no field `targets.form`"]),
        ({"targets": ["few"]}, ["few", "60%"]),
        ({"targets": "20"}, ["`targets`", "list"]),
        ({"targets": "1,5"}, ["`targets` should be a list", "'1,5'"]),
        ("targets: [1,5]\n", ["line 1", "1,5", "1, 5", "1.5"]),
        ("targets: [5]\nscope: total\ntargets: [6]\n", ["line 3", "`targets` is set twice"]),
        ("targets: {from: 1, from: 2, levels: 2}\n", ["line 1", "`from` is set twice"]),
        ("targets: {1: 2, levels: 2}\n", ["the name 1 is not text"]),
        ("targets: {~: 2, levels: 2}\n", ["the name nothing is not text"]),
        ("targets: [010]\n", ["line 1", "010", "leading zeros"]),
        ("targets: [yes]\n", ["`targets`", "true"]),
        ("targets: [null]\n", ["item 1 of `targets`", "text or a number", "nothing"]),
        ("levels: 1,5\n", ["`levels` should be a whole number", "1.5"]),
        ("", ["is empty"]),
        ({"levels": -1}, ["levels", "-1"]),
        ({"levels": 10**6}, ["levels"]),
        ({"scope": "both", "levels": 2}, ["both", "encoder", "total"]),
        ({"scope": "encoder"}, ["targets", "levels", "limits"]),
        ({"scop": "encoder"}, ["scop", "scope"]),
        ({"max_stages": 0}, ["max_stages"]),
        ({"limits": "decode <= 20"}, ["ms or MB"]),
        ({"limits": ["latency <= 3 ms"]}, ["latency"]),
        ("- 3\n", ["name: value"]),
    ],
)
def test_a_wrong_file_is_named_with_what_is_allowed(tmp_path: Path, content: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, content)
    said = str(error.value)
    assert "mine.yaml" in said
    assert "\n" not in said
    assert all(word in said for word in words), said


def test_what_python_may_not_ask() -> None:
    for scope in ("both", "decode", ""):
        refused(scope, ["encoder, decoder, total"], lambda text: Budget.of("20", text))
    refused("three-level", ["three-levels"], Budget.load)
    assert re.fullmatch(r"target 60%", Budget.of("60%").name)


@given(st.text(max_size=30), st.sampled_from(["\n", "\x1b[31m", "\x00", "\u2028"]))
def test_what_is_wrong_is_said_in_one_line(text, more):
    for read in (Amount.parse, Limit.parse, Budget.load):
        with pytest.raises(InputError) as caught:
            read(f"x{more}{text}")
        assert len(str(caught.value).splitlines()) == 1
        assert not set("\x00\x1b\r\n") & set(str(caught.value))
