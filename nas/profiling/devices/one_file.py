"""Writes the runner as one file, including the code that it shares with the decoder of ONNX folders."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from importlib import resources


def runner_text() -> str:
    """The runner as one file: its own text, and the code that it shares with the reference decoder."""
    text = resources.files("nas.profiling.devices").joinpath("runner.py").read_text(encoding="utf-8")
    shared = resources.files("nas.onnx").joinpath("decoder.py").read_text(encoding="utf-8")
    docstring, *nodes = ast.parse(text).body
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        alias.name
        for node in imports
        if isinstance(node, ast.ImportFrom) and node.module == "nas.onnx.decoder"
        for alias in node.names
    }
    lines = text.splitlines()
    head, rest = lines[: docstring.end_lineno], "\n".join(lines[imports[-1].end_lineno :]).strip()
    constants, others = _definitions(shared, names)
    needed = _needed_imports((shared, text), "\n".join([*constants, *others, rest]))
    parts = ["\n".join(head), needed, "\n".join(constants), rest, *others]
    own, entry = rest.split("\n\n\nif __name__", 1)
    parts[3:] = [own, *others, f"if __name__{entry}"]
    return "\n\n".join(parts[:3]) + "\n" + "\n\n\n".join(parts[3:]) + "\n"


def _definitions(text: str, names: set[str]) -> tuple[list[str], list[str]]:
    """Constants, then functions and classes of a module as they are written, decorators with them."""
    lines = text.splitlines()
    constants: list[str] = []
    others: list[str] = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            mine = {
                each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)
            }
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            mine = {node.name}
        else:
            continue
        if mine & names:
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
            sources = constants if isinstance(node, ast.Assign) else others
            sources.append("\n".join(lines[first - 1 : node.end_lineno]))
    return constants, others


def _needed_imports(texts: Sequence[str], body: str) -> str:
    """The imports of some modules that a text needs, sorted; none of the package itself."""
    names_by_statement: dict[str, set[str]] = {}
    for text in texts:
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name == "constriction":  # a device need not have it
                        continue
                    name = alias.asname or alias.name.split(".")[0]
                    if re.search(rf"\b{name}\b", body):
                        words = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
                        names_by_statement.setdefault(f"import {words}", set())
            elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith(("nas", "__future__")):
                used = {alias.name for alias in node.names if re.search(rf"\b{alias.name}\b", body)}
                if used:
                    names_by_statement.setdefault(f"from {node.module} import ", set()).update(used)
    lines = [line + ", ".join(sorted(names)) for line, names in names_by_statement.items()]
    lines.sort(key=lambda line: (line.startswith("from"), line))
    third = [line for line in lines if re.match(r"(import|from) (numpy|onnxruntime)\b", line)]
    plain = [line for line in lines if line not in third]
    return "\n".join(["from __future__ import annotations", "", *plain, "", *third])
