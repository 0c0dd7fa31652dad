"""The YAML files shipped with the package: search spaces, budgets and recipes, found by name or by path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nas.errors import InputError, nearest

_PACKAGE = Path(__file__).resolve().parent


def folder(kind: str) -> Path:
    """The folder of shipped files of one kind: inside an installed package, beside it in a checkout."""
    inside = _PACKAGE / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def shipped(kind: str) -> list[str]:
    """The names of the shipped files of one kind (`search_spaces`, `budgets` or `recipes`), sorted."""
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


def find(kind: str, name: str | Path) -> Path:
    """The YAML file that `name` means: a path of the user's own, else a shipped name."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise InputError(f"There is no file {path}: give the path of a YAML file or a shipped name.")
        return path
    if (path / "codec.yaml").is_file():  # an exported codec's folder is a space of one
        return path / "codec.yaml"
    shipped_path = folder(kind) / f"{name}.yaml"
    if not shipped_path.is_file():
        what = kind.removesuffix("s").replace("_", " ")
        raise InputError(f"There is no {what} named '{name}': {nearest(str(name), shipped(kind))}")
    return shipped_path


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping."""
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not valid YAML ({reason}): correct it and try again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold 'name: value' lines, and holds a {type(content).__name__}.")
    return content
