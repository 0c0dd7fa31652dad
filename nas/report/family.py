"""What a codec.yaml says of its family, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.spaces.space import differences

Table = tuple[str, Sequence[str], list[tuple[Any, ...]]]  # a title, columns, rows


def tables(content: Mapping[str, Any]) -> list[Table]:
    """Its decoders and its layouts, where there are several.

    Args:
        content: of codec.yaml.
    """
    found: list[Table] = []
    if "decoders" in content:
        entries = content["decoders"]
        rows = [
            (
                label,
                entry["kmac_px"]["decoder"],
                entry["kmac_px_by_edge"]["g_s"],
                entry["measured"]["psnr"],
                entry["measured"]["rd_loss"],
            )
            for label, entry in zip(differences([entry["arch"] for entry in entries]), entries, strict=True)
        ]
        columns = ("arch", "decoder", "g_s", "PSNR", "rd_loss")
        found.append(("decoders of the same files (costs in kMAC/px)", columns, rows))
    if "layouts" in content:
        rows = [
            (entry["name"], entry["stages"], entry["kmac_px"]["decoder"], entry["bpp"], entry["entropy_path"])
            for entry in content["layouts"]
        ]
        columns = ("layout", "stages", "decoder", "bpp", "entropy path")
        found.append(("layouts of the same pictures (costs in kMAC/px)", columns, rows))
    return found
