"""docs/supernet.md: its blocks run, and its table is what the script beside it makes."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from modules import module_at

from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support import resources

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "supernet.md").read_text(encoding="utf-8")
SPACES = resources.shipped("search_spaces")


SCRIPT = module_at(DOCS / "supernet_table.py")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what follows that word, and its lines."""

    language: str
    note: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w+) ?(.*)\n((?s:.*?))^```$", PAGE, re.MULTILINE)]


@contextlib.contextmanager
def families_restored() -> Iterator[None]:
    before = dict(FAMILIES)
    try:
        yield
    finally:
        FAMILIES.clear()
        FAMILIES.update(before)


def test_the_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    made = []
    with (
        families_restored(),
        torch.random.fork_rng(),
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        for block in BLOCKS:
            if block.language == "python":
                exec(compile(block.text, "supernet.md", "exec"), names)
            elif block.language == "yaml" and block.note != "fragment":
                made.append(SearchSpace.from_dict(yaml.safe_load(block.text), name=block.note or "page"))
                if block.note:
                    (tmp_path / block.note).write_text(block.text)
        assert "plain" in FAMILIES
    assert "ConvTranspose2d" in printed.getvalue()
    slots = [{slot.name for slot in space.slots} for space in made]
    for wanted in ("g_a", "outer", "g_a_depth", "hyperprior", "g_s.1"):
        assert any(wanted in names_of_slots for names_of_slots in slots)
    assert 81 + 9 in {space.size for space in made}  # as the page says


def test_the_page_leaves_no_family_behind():
    """Whichever test ran before: what a page registers is gone after it."""
    before = dict(FAMILIES)
    with families_restored():
        FAMILIES["plain"] = next(iter(FAMILIES.values()))
    assert before == FAMILIES


# The table


def shown() -> dict[str, tuple[str, ...]]:
    """The rows of the page's table, by space."""
    _, _, rest = PAGE.partition(SCRIPT.START)
    lines = rest.partition(SCRIPT.END)[0].strip().splitlines()
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert rows[0] == SCRIPT.COLUMNS
    return {row[0]: row for row in rows[2:]}


def test_every_shipped_space_has_a_row():
    assert list(shown()) == SPACES


@pytest.mark.parametrize("name", [name for name in SPACES if name.endswith("-tiny")])
def test_rows_of_the_tiny_spaces(name):
    assert shown()[name] == SCRIPT.row(name)


@pytest.mark.slow
def test_all_rows():
    assert SCRIPT.replaced(PAGE, SCRIPT.table(SPACES)) == PAGE
