"""The rooms of the package: a module imports from its own room and from rooms above it, lazily or not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nas

PACKAGE = Path(nas.__file__).parent
MOST_FILES = 13  # in one folder, `__init__` apart

ROOMS = [
    "support",
    "spaces",
    "photos",
    "graph",
    "weights",
    "metrics",
    "cost.counting",
    "cost.exact",
    "cost",
    "codec",
    "onnx",
    "run",
    "shipped",
    "profiling",
    "training.settings",
    "training.record",
    "training",
    "searching.scoring",
    "searching.layouts",
    "searching.sampler",
    "searching.study",
    "searching",
    "analysis",
    "comparison",
    "report.style",
    "report.front",
    "report.structure",
    "report",
    "report.info",
    "verbs",
    "api",
    "compressai",
    "console",
    "demo",
    "cli",
    "__main__",
]  # from the top to the bottom


def modules() -> dict[str, Path]:
    """Every module's name below `nas`, and its file; a folder's `__init__` is the folder's name."""
    files = {path.relative_to(PACKAGE): path for path in sorted(PACKAGE.rglob("*.py"))}
    names = {".".join(file.with_suffix("").parts).removesuffix("__init__").strip("."): file for file in files}
    return {name: PACKAGE / file for name, file in names.items() if name}


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's syntax tree."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of the package that a file imports, anywhere in it."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, inside = name.partition(".")
            if package == "nas":
                yield inside if inside in known else inside.rpartition(".")[0]


def room_of(module: str) -> str:
    """The room a module lies in: the innermost of those that are named."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


@cache
def arrows() -> frozenset[tuple[str, str]]:
    known = modules()
    return frozenset((name, to) for name, path in known.items() for to in imported(path, set(known)) if to)


def test_every_module_has_a_room():
    for name in modules():
        assert any(f"{name}.".startswith(f"{room}.") for room in ROOMS), name


def test_rooms_import_only_from_rooms_above_them():
    place = {room: number for number, room in enumerate(ROOMS)}
    upwards = {f"{name} -> {to}" for name, to in arrows() if place[room_of(name)] < place[room_of(to)]}
    assert not upwards


def test_no_modules_import_each_other_in_a_circle():
    left = {name: {to for of, to in arrows() if of == name} - {name} for name in modules()}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left


def test_no_folder_is_crowded():
    folders = {path.parent for path in modules().values()}
    crowded = {
        str(folder): files
        for folder in folders
        if (files := len([path for path in folder.glob("*.py") if path.name != "__init__.py"])) > MOST_FILES
    }
    assert not crowded


def made_in(path: Path) -> set[str]:
    """The names that a module makes itself, at any depth."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_names_are_imported_from_where_they_are_made():
    """Two doors are there to pass names on: the package itself, and the one to CompressAI's parts."""
    known = modules()
    made = {name: made_in(path) for name, path in known.items()}
    passed_on = set()
    for path in [*known.values(), *Path(__file__).parent.glob("*.py")]:
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nas."):
                module = str(node.module).removeprefix("nas.")
                names = {alias.name for alias in node.names}
                if module != "graph._compressai":
                    own = made[module] | {name for name in names if f"{module}.{name}" in known}
                    passed_on |= {f"{path.name}: {node.module}.{name}" for name in names - own}
    assert not passed_on
