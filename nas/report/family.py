"""Tables and sentences about an exported codec or family, from its codec.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.spaces.architecture import differences
from nas.spaces.rates import middle_quality
from nas.support.tables import TitledTable, signed


def tables(content: Mapping[str, Any]) -> list[TitledTable]:
    """Tables of the decoders and of the layouts, if there are several.

    Args:
        content: content of codec.yaml.
    """
    titled_tables: list[TitledTable] = []
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
        titled_tables.append(("decoders of the same files (costs in kMAC/px)", columns, rows))
    if "layouts" in content:
        rows = [
            (entry["name"], entry["stages"], entry["kmac_px"]["decoder"], entry["bpp"], entry["entropy_path"])
            for entry in content["layouts"]
        ]
        columns = ("layout", "stages", "decoder", "bpp", "entropy path")
        titled_tables.append(("layouts of the same pictures (costs in kMAC/px)", columns, rows))
    return titled_tables


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Sentences on what an exported codec costs and reaches, from the content of its codec.yaml."""
    costs, measured = content["kmac_px"], content["measured"]
    by_scope = " / ".join(f"{costs[scope]:.3f}" for scope in ("encoder", "decoder", "total"))
    stages = f"{content['stages']} stage{'s' * (content['stages'] != 1)}"
    rates = content.get("rates")
    at = f" at quality {middle_quality(rates):g} (the middle anchor)" if rates else ""
    told = [
        f"{by_scope} kMAC/px (encoder / decoder / total), {stages}",
        f"{measured['photos']} held-out photo{'s' * (measured['photos'] != 1)}, as files: "
        f"{measured['bpp']:.4f} bpp, {measured['psnr']:.2f} dB{at}",
    ]
    if content["arithmetic"] == "float64":
        why = f": exact would cost {content['exact_costs']:.1%} in rate" if "exact_costs" in content else ""
        told.append(f"The entropy path is in float64, for machines alike{why}.")
    elif "exact_costs" in content:
        cost = signed(content["exact_costs"], ".2%")
        told.append(f"The entropy path is exact on every machine, for {cost} in rate.")
    for action, (seconds, wanted) in content.get("timed", {}).items():
        here = f"{1000 * seconds:.1f} ms to {action}"
        told.append(f"Measured here: {here}, {wanted:.1f} ms by the run's profile.")
    for what, wanted in content.get("expected", {}).items():
        told.append(f"Expected by the device's profile: {wanted:.1f} ms to {what}.")
    return told
