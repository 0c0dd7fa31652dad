"""The information on one thing, and how it is printed and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.report.structure.codec_graph import CodecGraph
from nas.spaces.layout import Layout
from nas.support.errors import InputError


@dataclass(frozen=True)
class Info:
    """Information on one thing.

    Attributes:
        kind: run, codec, nic, space, budget, recipe, layout or architecture.
        fields: facts as plain values, by name.
        text: drawings as lines of text.
        also: another thing with the same name.
        picture: what `draw` shows, or None if there is nothing to draw.
        drawn: a sentence on the written picture, if there is one.
    """

    kind: str
    fields: dict[str, Any]
    text: tuple[str, ...] = ()
    also: Info | None = None
    picture: CodecGraph | Layout | None = None
    drawn: str | None = None

    def lines(self) -> list[str]:
        """Readable text: one line per field, then the drawings."""
        drawn = {"tile", "kmac_px_by_edge"} if self.text else set()
        fields = {name: value for name, value in self.fields.items() if name not in drawn}
        shown = {name.replace("_", " "): _shown(value) for name, value in fields.items() if value is not None}
        wide = max(map(len, shown), default=0)
        lines = []
        for name, values in shown.items():
            lines += [f"{name if k == 0 else '':<{wide}}  {value}".rstrip() for k, value in enumerate(values)]
        lines += ([""] if self.text else []) + list(self.text)
        return lines if self.also is None else [*lines, "", *self.also.lines()]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        also = {} if self.also is None else {"also": self.also.to_json()}
        return {"kind": self.kind, **self.fields, **also}

    def draw(self, path: Path, *, force: bool = False) -> str:
        """Write a picture, in the format of the file's name.

        Args:
            path: file of the picture. Its ending gives the format.
            force: replace an existing file.

        Returns:
            A sentence with the path. If a key means different networks in several spaces, it names the space.

        Raises:
            InputError: there is nothing to draw, the name is not that of a picture, or the file exists.
        """
        from nas.report.structure.graph import check_picture, save_picture

        check_picture(path, force=force)
        if self.picture is None:
            what = {"nic": "A .nic file", "architecture": "An architecture of none of the shipped spaces"}
            raise InputError(
                f"{what.get(self.kind, f'A {self.kind}')} has nothing to draw: give an exported codec, the "
                "key of an architecture of a shipped space, or a layout."
            )
        if self.also is not None and isinstance(self.also.picture, Layout):
            raise InputError(
                "This file lists several layouts, but a picture shows one: put that one into a file of its "
                "own."
            )
        save_picture(self.picture, path)
        one_of_several = self.kind == "architecture" and self.also is not None
        return f"{path}, as in {self.fields['space']}" if one_of_several else str(path)


def _shown(value: Any) -> list[str]:
    """A field's value as one or several lines."""
    if isinstance(value, dict):
        return [f"{key}: {_word(inner)}" for key, inner in value.items()] or ["none"]
    return [_word(value)]


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_word(inner)}" for key, inner in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def chained(infos: Sequence[Info]) -> Info:
    """Chain several things, so that each one refers to the next.

    Args:
        infos: at least one, in the order in which they are shown.
    """
    told = infos[-1]
    for info in reversed(infos[:-1]):
        told = replace(info, also=told)
    return told
