"""The site: the generated reference is complete, the contents list every page, links lead to files."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from modules import module_at
from typer.main import get_command

import nas
from nas.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = module_at(DOCS / "_ext" / "generated.py")
NOTEBOOKS = (*GENERATED.LONG_NOTEBOOKS, *GENERATED.QUICK_NOTEBOOKS)
PAGES = sorted(page for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")) if "node_modules" not in page.parts)


def test_every_command_and_option_is_listed() -> None:
    page = GENERATED.commands()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        section = page.partition(f"## nas {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            assert f"`{parameter.opts[0]}" in section
        assert f"nas {name}" in section.partition("```sh")[2]


def test_every_public_name_is_listed() -> None:
    listed = re.findall(r"auto(?:function|class):: nas\.(\w+)$", GENERATED.python(), re.MULTILINE)
    assert sorted(listed) == list(nas.__all__)


def test_the_contents_list_every_page() -> None:
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```{toctree}\n((?s:.*?))```", contents)
    listed = {line for line in "".join(blocks).splitlines() if line and not line.startswith(":")}
    made = {"reference/commands", "reference/python"}
    made |= {f"notebooks/{name}" for name in NOTEBOOKS}
    written = {
        page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if page.is_relative_to(DOCS)
    }
    assert listed == (written - {"index"}) | made
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks == set(NOTEBOOKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```(?s:.*?)^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    generated = {DOCS / "reference" / "commands.md", DOCS / "reference" / "python.md"}
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        path = (page.parent / target).resolve()
        assert path.exists() or path in generated, target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # it tells of the past
        return
    folders = "nas|tests|experiments|benchmarks|search_spaces|recipes"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", GENERATED.RETURNED)
def test_what_functions_return_is_there(name: str) -> None:
    module, _, own = name.rpartition(".")
    members = GENERATED.RETURNED[name].split(", ")
    found = getattr(importlib.import_module(module), own)
    fields = {*dir(found), *getattr(found, "__annotations__", {})}
    assert set(members) <= fields
