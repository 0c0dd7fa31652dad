"""Curves that others published: CompressAI's result files, and tables of many curves.

results.json            {"name": ..., "results": {"bpp": [...], "psnr-rgb": [...], "ms-ssim-rgb": [...]}}
curves.csv:NAME         columns bpp, psnr_rgb, ms_ssim_rgb, and `file` or `name` to tell curves apart
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.metrics.curves import Curve, CurvePoint
from nas.support.errors import InputError, nearest, reason_of
from nas.support.tables import read_rows

_MOST_DB = 1000  # of any picture: that of one of 16 bits with a single wrong bit is below 200
# What one value is called: by CompressAI now, by CompressAI before, in tables.
_KEYS = {
    "bpp": ("bpp",),
    "psnr": ("psnr-rgb", "psnr", "psnr_rgb"),
    "ms_ssim": ("ms-ssim-rgb", "ms-ssim", "ms_ssim_rgb", "ms_ssim"),
    "ms_ssim_db": ("ms-ssim-db-rgb", "ms-ssim-db", "ms_ssim_db_rgb", "ms_ssim_db"),
}


def is_published(text: str) -> bool:
    """Whether a word names a file of curves.

    Args:
        text: the anchor, as the user has given it.
    """
    return ".json" in text.lower() or ".csv" in text.lower() or "/" in text


def read_published(text: str) -> Curve:
    """The curve of `FILE.json`, or of `FILE.csv:NAME`.

    NAME is what a row has under `file` (with or without .json) or under `name`. MS-SSIM above 1 is in dB,
    and so is `ms-ssim-db-rgb`.

    Args:
        text: path of the file, and after a colon the name of one of its curves.

    Raises:
        InputError: no such file or name, or a file of another form.
    """
    file, name = text, ""
    if not _is_file(text):
        file, _, name = text.rpartition(":")
    path = Path(file)
    if not file or not _is_file(file):
        raise InputError(
            f"There is no file {file or text}: an anchor is a format, a curve of the codecs, "
            "FILE.json in CompressAI's format, or FILE.csv:NAME."
        )
    if path.suffix.lower() == ".csv":
        return _from_rows(path, name, read_rows(path))
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Cannot read {path} ({reason_of(error)}): give results in CompressAI's format."
        ) from error
    if name:
        raise InputError(f"{path} holds one curve: leave out ':{name}'.")
    return _from_json(path, content)


def _is_file(text: str) -> bool:
    """Whether a file is called so; none is by what is too long for a name or a path."""
    try:
        return Path(text).is_file()
    except OSError:
        return False


def _from_json(path: Path, text: str) -> Curve:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not JSON ({reason_of(error)}): give results in CompressAI's format."
        ) from error
    results = content.get("results", content) if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise InputError(f"{path} has no `results`: give results in CompressAI's format.")
    lists = {value: results[key] for value, key in _keys(results).items()}
    if not all(isinstance(column, list) for column in lists.values()):
        raise InputError(
            f"{path} has single values where CompressAI's format has lists: write lists, such as [0.1, 0.2]."
        )
    return _curve(path, str(content.get("name") or path.stem), lists)


def _from_rows(path: Path, name: str, rows: Sequence[Mapping[str, str]]) -> Curve:
    by_file = {(row.get("file") or row.get("name") or "").removesuffix(".json") for row in rows}
    wanted = name.removesuffix(".json")
    if not name and len(by_file) == 1:
        wanted = next(iter(by_file))
    chosen = [row for row in rows if (row.get("file") or "").removesuffix(".json") == wanted]
    if not chosen:
        chosen = [row for row in rows if row.get("name") == name]
        files = sorted({(row.get("file") or "").removesuffix(".json") for row in chosen})
        if len(files) > 1:
            raise InputError(f"{path} has several curves called {name}: choose {' or '.join(files)}.")
    if not chosen:
        hint = nearest(name, sorted(by_file))
        if not name:
            raise InputError(f"{path} holds several curves: write {path}:NAME, and {hint}")
        raise InputError(f"{path} has no curve '{name}': {hint}")
    lists = {value: [row[key] for row in chosen] for value, key in _keys(chosen[0]).items()}
    called = chosen[0].get("name")
    alone = all(row.get("name") != called or row in chosen for row in rows)
    return _curve(path, called if called and alone else wanted, lists)


def _keys(table: Mapping[str, Any]) -> dict[str, str]:
    """The column of each value that a table has."""
    key_of = {value: next((key for key in keys if key in table), None) for value, keys in _KEYS.items()}
    return {value: key for value, key in key_of.items() if key is not None}


def _curve(path: Path, name: str, columns: Mapping[str, Sequence[Any]]) -> Curve:
    if "bpp" not in columns or len(columns) < 2:
        raise InputError(f"{path} lacks bpp, or both PSNR and MS-SSIM, of {name}: add what is missing.")
    if len({len(column) for column in columns.values()}) != 1 or not columns["bpp"]:
        raise InputError(f"{path} has no points of {name}, or lists of unequal length: correct them.")
    numbers = {value: [_number(path, text) for text in column] for value, column in columns.items()}
    if not all(math.isfinite(rate) and rate > 0 for rate in numbers["bpp"]):
        raise InputError(f"{path} has a rate of {name} that is not a number above 0: correct it.")
    for value in (value for key, column in numbers.items() if key != "bpp" for value in column):
        if math.isfinite(value) and abs(value) > _MOST_DB:
            raise InputError(f"{path} has a quality of {name} that no picture has, {value:g}: correct it.")
    missing = [math.nan] * len(numbers["bpp"])
    in_decibels = numbers.get("ms_ssim_db", missing)
    similarities = numbers.get("ms_ssim", missing)
    if any(value > 1 for value in similarities):
        in_decibels, similarities = similarities, missing
    similarities = [
        1 - 10 ** (-level / 10) if math.isnan(value) else value
        for value, level in zip(similarities, in_decibels, strict=True)
    ]
    qualities = zip(numbers["bpp"], numbers.get("psnr", missing), similarities, strict=True)
    return Curve.of(name, [CurvePoint(*values) for values in qualities], "published")


def _number(path: Path, value: Any) -> float:
    if value is None or value == "":
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path} has '{value}' where a number belongs: correct it.") from None
