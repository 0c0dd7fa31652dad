"""Keys of architectures, read without their space."""

from __future__ import annotations

import re

from nas.support.errors import InputError

_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_]*=[^+=]*\+)+layout=[A-Za-z0-9._-]+")
_WIDTHS = re.compile(r"[0-9]+(-[0-9]+)*")
EXAMPLE = "g_a=32-32+layout=raster"


def split_key(key: str, example: str = EXAMPLE) -> tuple[dict[str, tuple[int, ...]], str]:
    """The widths by edge and the layout's name that a key spells; no space is needed.

    Args:
        key: key of an architecture.
        example: what the message says that keys look like.

    Raises:
        InputError: the string is not an architecture's key.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(f"'{str(key)[:60]}' is not an architecture's key: keys look like {example}")
    parts = dict(part.split("=", 1) for part in key.split("+"))
    layout = parts.pop("layout")
    for edge, widths in parts.items():
        if not _WIDTHS.fullmatch(widths):
            raise InputError(
                f"'{edge}={widths}' is not a part of a key: after '=' come widths joined by '-'."
            )
    return {edge: tuple(map(int, widths.split("-"))) for edge, widths in parts.items()}, layout
