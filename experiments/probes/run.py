"""Do the probes say what the price list says? A run's architectures by both, slot by slot.

    nas probe zoo:patch --arch KEY --out narrow.json        and so on, for each architecture
    python -m experiments.probes.run zoo:patch narrow.json median.json wide.json [--show]

For every slot that sets widths the components that its interfaces need (the most of them) stand beside what
`nas explain` says of one step narrower, and their headroom (the most, too) beside one step wider. Writes
results/probes.json after each architecture, and its tables in docs/probes.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import nas
from experiments.results import ROOT, facts, options, progress, read_result, renew, table, write_result
from nas.analysis.kendall import agreement
from nas.spaces.space import SearchSpace

RESULT = Path(__file__).parent / "results" / "probes.json"
FREE = 1.0  # % more loss, at which the probes count components, too


def compared(run: nas.LoadedRun, found: dict[str, Any], name: str) -> dict[str, Any]:
    """One architecture by both: its steps, each with what the probes say of the slot."""
    prices = run.explain(found["arch"], report=progress(name))
    hints = hints_by_slot(run.run.space, found["interfaces"])
    steps = [
        {"slot": step.slot, "before": int(step.before), "after": int(step.after), "loss": step.loss}
        | hints[step.slot]
        for step in (*prices.down, *prices.up, *prices.level)
        if step.slot in hints
    ]
    kept = {key: found[key] for key in ("arch", "lmbda", "steps", "tolerance", "photos", "loss")}
    return {"name": name, **kept, "kmac_px": prices.kmac_px, "slots": steps}


def hints_by_slot(space: SearchSpace, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the probes say of each slot: of all interfaces of its widths the most."""
    found = {}
    for slot in space.slots:
        layers = {layer for layer, _ in slot.layers}
        mine = [row for row in rows if row["width"] in layers]
        if mine:
            found[slot.name] = {
                "share": max(row["share"] for row in mine),
                "headroom": max(row["headroom"] for row in mine),
            }
    return found


def tables(content: dict[str, Any]) -> list[str]:
    """What stands between the page's marks."""
    rows = []
    for each in content["architectures"]:
        down = [step for step in each["slots"] if step["after"] < step["before"]]
        up = [step for step in each["slots"] if step["after"] > step["before"]]
        free = [step for step in down if step["share"] <= step["after"] / step["before"]]
        right = [step for step in free if step["loss"] <= FREE]
        rows.append(
            [
                each["name"],
                f"{each['kmac_px']:.1f}",
                f"{len(right)} of {len(free)}",
                f"{len([step for step in down if step['loss'] <= FREE])} of {len(down)}",
                tau([step["share"] for step in down], [step["loss"] for step in down]),
                tau([step["headroom"] for step in up], [-step["loss"] for step in up]),
            ]
        )
    columns = [
        "architecture",
        "kMAC/px",
        "narrower steps that probes call free, and are",
        "narrower steps that are free",
        "tau of share and loss narrower",
        "tau of headroom and gain wider",
    ]
    return [table(columns, rows)]


def tau(one: Sequence[float], other: Sequence[float]) -> str:
    """Kendall's tau with its 95 % interval, or nothing where there is none."""
    found = agreement(one, other) if len(one) > 2 else None
    if found is None or found.tau is None or found.interval is None:
        return ""
    return f"{found.tau:+.2f} ({found.interval[0]:+.2f} to {found.interval[1]:+.2f}, {len(one)} slots)"


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("run", nargs="?", help="a trained run, or zoo:NAME")
    parser.add_argument("found", type=Path, nargs="*", help="what `nas probe` found, a FILE.json for each")
    parser.add_argument("--show", action="store_true", help="write the page from the results alone")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not given.show:
        run, done = nas.load_run(given.run, device="cpu"), []
        for path in given.found:
            done.append(compared(run, json.loads(path.read_text(encoding="utf-8")), path.stem))
            write_result(RESULT, {"facts": facts(given.seed), "architectures": done})
    renew(ROOT / "docs" / "probes.md", "probes", tables(read_result(RESULT)))


if __name__ == "__main__":
    main()
