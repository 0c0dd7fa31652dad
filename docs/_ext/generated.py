"""What the site shows beyond its pages: every command, every public name and the notebooks."""

from __future__ import annotations

import inspect
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from typer.main import get_command

import nas
from nas.cli import app as command_line

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Homepage"]


LONG_NOTEBOOKS = ("quickstart", "front", "own-space", "deploy", "rates")  # tests execute these, smaller
QUICK_NOTEBOOKS = ("layouts",)  # the build executes these


# Commands


def commands() -> str:
    """A page with every verb: its usage, arguments, options and example."""
    group = get_command(command_line)
    context = group.context_class(group, info_name="nas")
    pieces = [
        "# Commands",
        "This page lists every command with its arguments, options and an example. "
        "`nas VERB --help` prints the same.",
    ]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        pieces += _command(name, command, command.context_class(command, info_name=name, parent=context))
    return "\n\n".join(pieces) + "\n"


def _command(name: str, command: Any, context: Any) -> list[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    example = (command.epilog or "").replace("\b", "").replace("Example:", "").strip()
    records = (parameter.get_help_record(context) for parameter in command.params)
    rows = [f"| `{shown}` | {_cell(text)} |" for shown, text in filter(None, records)]
    return [
        f"## nas {name}",
        inspect.cleandoc(command.help or ""),
        f"```text\n{' '.join(usage.split())}\n```",
        "| argument or option | meaning |\n| --- | --- |\n" + "\n".join(rows),
        "```sh\n" + "\n".join(line.strip() for line in example.splitlines()) + "\n```",
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("[", "\\[")


# Python


RETURNED = {
    "nas.codec.codec.Codec": "forward, compress, decompress, latents, to_compressai, exact, alignment",
    "nas.codec.family.CodecFamily": (
        "codec, decoder_within, decoder_kmac_px, choose_layouts, layout_of, default"
    ),
    "nas.searching.searcher.SearchResult": "front, to_dataframe",
    "nas.searching.answers.Choice": "answers",
    "nas.analysis.probes.probe.ProbeResult": "to_dataframe, most_redundant, most_headroom",
    "nas.analysis.sensitivity.SensitivityTable": "to_dataframe, groups",
    "nas.analysis.rank_result.RankResult": "to_dataframe, agreement, penalty",
    "nas.comparison.comparison.Comparison": "to_dataframe",
    "nas.profiling.profile.CodecProfile": "to_dataframe",
    "nas.profiling.run_profile.RunProfile": "to_dataframe",
    "nas.photos.batch.Batch": "to_dataframe",
    "nas.verbs.finetune.Finetuned": "path",
}  # objects that public functions return, and their members that are for users


def python() -> str:
    """A page with every public name of the package."""
    pieces = [
        "# Python",
        "Everything here is a name of the package `nas`. Names are imported on first use, so `import nas` is "
        "quick.",
    ]
    names = {name: getattr(nas, name) for name in nas.__all__}
    functions = [name for name, value in names.items() if inspect.isfunction(value)]
    errors = [
        name for name, value in names.items() if inspect.isclass(value) and issubclass(value, Exception)
    ]
    classes = [name for name in names if name not in {*functions, *errors}]
    for title, group, directive in (
        ("Functions", functions, "autofunction"),
        ("Classes", classes, "autoclass"),
        ("Errors", errors, "autoclass"),
    ):
        pieces.append(f"## {title}")
        for name in group:
            options = "\n   :members:" if group is classes else ""
            pieces.append(f"```{{eval-rst}}\n.. {directive}:: nas.{name}{options}\n```")
    pieces.append("## What functions return")
    pieces += [
        f"```{{eval-rst}}\n.. autoclass:: {name}\n   :members: {members}\n```"
        for name, members in RETURNED.items()
    ]
    return "\n\n".join(pieces) + "\n"


# Pages outside of docs/


def write_pages(app: Any) -> None:
    """Write generated pages where they changed, so that a second build is quick."""
    for name, text in (("commands", commands()), ("python", python())):
        page = DOCS / "reference" / f"{name}.md"
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
    (DOCS / "notebooks").mkdir(exist_ok=True)
    for name in (*LONG_NOTEBOOKS, *QUICK_NOTEBOOKS):
        notebook = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        linked = notebook.replace("](../docs/", "](../")  # from docs/notebooks
        (DOCS / "notebooks" / f"{name}.ipynb").write_text(linked, encoding="utf-8")


def link_outside(app: Any, page: str, source: list[str]) -> None:
    """Links that lead out of docs/ work in a checkout; on the site they lead to the repository."""
    folder = (DOCS / page).parent

    def replaced(found: re.Match[str]) -> str:
        target, anchor = found["target"], found["anchor"] or ""
        path = Path(os.path.normpath(folder / target))
        if not path.is_relative_to(ROOT) or not path.exists():
            return found[0]
        if path.suffix == ".ipynb" and path.parent == ROOT / "notebooks":
            own = os.path.relpath(DOCS / "notebooks" / path.name, folder)
            return f"]({own})"
        if path.is_relative_to(DOCS):
            return found[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{path.relative_to(ROOT).as_posix()}{anchor})"

    source[0] = re.sub(r"\]\((?P<target>\.\./[^)#\s]*)(?P<anchor>#[^)]*)?\)", replaced, source[0])


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("source-read", link_outside)
    return {"parallel_read_safe": True}
