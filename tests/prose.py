"""Sentences of Markdown pages: what is left when code, tables, links and marks are taken away."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCES = re.compile(r"^(```|~~~|:::)[^\n]*\n(?s:.*?)^\1\s*$", re.MULTILINE)
_INDENTED = re.compile(r"(?:^|\n\n)(?: {4,}[^\n]*(?:\n|$))+")
_COMMENTS = re.compile(r"<!--(?s:.*?)-->")
_CODE = re.compile(r"`[^`]+`")
_LINKS = re.compile(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?")
_BLOCK = re.compile(r"^\s*(#+ |[-*] |\d+\. |> )")  # a line that begins something new
_END = re.compile(r"(?<=[.!?])[\"')*]*\s+(?=[\"'(*]*[A-Z0-9`])")


def sentences(markdown: str) -> Iterator[str]:
    """Every sentence of a page, and every cell of its tables; a piece of inline code counts as one word."""
    text = _COMMENTS.sub("\n\n", _FENCES.sub("\n\n", markdown))
    text = _CODE.sub("CODE", _INDENTED.sub("\n\n", text))
    text = _LINKS.sub(r"\1", text)
    for block in _blocks(text):
        yield from (sentence for sentence in _END.split(block) if sentence)


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, headings, items of lists and cells of tables, each on one line."""
    lines: list[str] = []
    for line in text.splitlines():
        is_row = line.lstrip().startswith("|")
        if is_row or not line.strip() or _BLOCK.match(line):
            yield " ".join(lines)
            lines = []
        if is_row:
            yield from (cell.strip() for cell in line.strip(" |").split("|"))
        elif line.strip():
            lines.append(_BLOCK.sub("", line).strip())
    yield " ".join(lines)


def words(sentence: str) -> int:
    """How many words a sentence has; figures count, lone signs do not."""
    return sum(any(character.isalnum() for character in word) for word in sentence.split())
