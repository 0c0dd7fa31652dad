"""Checks the facts about a codec in codec.yaml, which is also a space with one architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nas.support.errors import InputError
from nas.support.fields import validated

EXPORT_AGAIN = "export the codec again"  # what to do about a damaged codec.yaml


class _Facts(BaseModel):
    """Facts about a codec, one of its decoders or one of its layouts. Each may be missing."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    arch: str = ""
    name: str = ""
    lmbda: float = 0.0
    metric: str = ""
    stages: int = 0
    params: int = 0
    bpp: float = 0.0
    exact_costs: float = 0.0
    kmac_px: dict[str, float] = {}
    kmac_px_by_edge: Any = None  # counted again if it is incomplete
    measured: dict[str, Any] = {}


def check_facts(content: Mapping[str, Any], source: Path) -> None:
    """Refuse facts that an export does not write, before anything uses them.

    Args:
        content: content of codec.yaml.
        source: path of the codec.yaml.

    Raises:
        InputError: a fact is wrong. The message names the first one.
    """
    _check(content, f"{source}:")
    for place in ("decoders", "layouts"):
        entries = content.get(place, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{source} is damaged, because `{place}` is not a list of them: {EXPORT_AGAIN}.")
        for number, entry in enumerate(entries, 1):
            _check(entry, f"{source}, item {number} of `{place}`:")


def _check(entry: Mapping[str, Any], source: str) -> None:
    validated(_Facts, {name: entry[name] for name in _Facts.model_fields if name in entry}, source)
