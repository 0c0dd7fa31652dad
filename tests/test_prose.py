"""The pages that people read: short sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from prose import sentences, words

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name != "CHANGELOG.md" and "node_modules" not in path.parts
)
MOST_WORDS = 40


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_sentence_is_too_long(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [each for each in sentences(text) if words(each) > MOST_WORDS] == []


def test_a_long_sentence_is_found() -> None:
    long = "Word" + " word" * MOST_WORDS + "."
    short = long.replace(" word word", " word. Word", 1)
    for page in (long, f"- {long}", f"Short one. {long}", f"| a | {long} |\n| --- | --- |"):
        assert max(words(each) for each in sentences(page)) == MOST_WORDS + 1
    for page in (short, f"```\n{long}\n```", f"<!-- {long} -->", f"It is `{long}` here."):
        assert max((words(each) for each in sentences(page)), default=0) <= MOST_WORDS
