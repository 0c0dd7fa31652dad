"""What a codec.yaml says of its family, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Table = tuple[str, Sequence[str], list[tuple[Any, ...]]]  # a title, columns, rows


def tables(content: Mapping[str, Any]) -> list[Table]:
    """Its decoders and its layouts, where there are several.

    Args:
        content: of codec.yaml.
    """
    found: list[Table] = []
    if "decoders" in content:
        rows = [
            (
                entry["arch"],
                entry["kmac_px"]["decoder"],
                entry["kmac_px_by_edge"]["g_s"],
                entry["measured"]["psnr"],
                entry["measured"]["rd_loss"],
            )
            for entry in content["decoders"]
        ]
        found.append(
            ("decoders of the same files (kMAC/px)", ("arch", "decoder", "g_s", "PSNR", "rd_loss"), rows)
        )
    if "layouts" in content:
        rows = [
            (entry["name"], entry["stages"], entry["kmac_px"]["decoder"], entry["bpp"], entry["entropy_path"])
            for entry in content["layouts"]
        ]
        found.append(
            ("layouts of the same pictures", ("layout", "stages", "decoder", "bpp", "entropy path"), rows)
        )
    return found
