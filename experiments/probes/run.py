"""Whether the probes of an architecture agree with its sensitivity table.

    python -m experiments.probes.run

Both say which slots of `zoo:patch` matter, without training. `nas probe` uses principal components and
gradients. `nas explain` uses the loss of one step narrower and one step wider. The slots are those that set
the width of an activation. It writes results/probes.json and its section of docs/probes.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau

import nas
from experiments.flagship.train import DECODERS, STRONG
from experiments.results import ROOT, facts, options, progress, read_result, renew, table, write_result
from nas.analysis.kendall import tau_p_value
from nas.shipped import zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.space import SearchSpace

RESULT = Path(__file__).parent / "results" / "probes.json"
PAGE = ROOT / "docs" / "probes.md"
RUN = "zoo:patch"
PHOTOS, STEPS = 4, 20  # settings of the probes
LEAST_COMPARED = 4  # slots; with fewer, a rank correlation says nothing
Slots = dict[str, dict[str, float]]  # results of each slot by its name


def slots_of(space: SearchSpace, architecture: Architecture, seed: int) -> Slots:
    """Collect the results of the probes and the sensitivity table for the slots of activation widths.

    Args:
        space: space of the architecture.
        architecture: an architecture of this space.
        seed: seed of the probes' random choices.

    Returns:
        For each slot its share of needed components, the largest headroom at its activations in %, and the
        change in loss of one step narrower and of one step wider in %, if there is such a step.
    """
    key = architecture.key
    report = progress(key.partition("+h_s=")[2])
    probes = nas.probe(RUN, key, photos=PHOTOS, steps=STEPS, seed=seed, report=report).probes
    groups = nas.explain(RUN, key, report=report).groups.values()
    steps = {(step.slot, step.kmac_px > 0): step.loss for group in groups for step in group}
    found: Slots = {}
    for slot in space.slots:
        layers = {layer for layer, _ in slot.layers}
        own = [probe for probe in probes if probe.interface.width in layers]
        if len(slot.candidates) == 1 or not own:
            continue
        found[slot.name] = {
            "components": sum(probe.components for probe in own) / sum(probe.channels for probe in own),
            "headroom": max(probe.headroom for probe in own),
            **{
                name: steps[slot.name, wider]
                for name, wider in (("narrower", False), ("wider", True))
                if (slot.name, wider) in steps
            },
        }
    return found


def agreement(slots: Sequence[dict[str, float]], hint: str, step: str) -> tuple[float, float]:
    """Compute Kendall's tau between a hint and the change in loss of a step, and its p-value.

    Args:
        slots: results of the slots that have such a step.
        hint: `components` or `headroom`.
        step: `narrower`, whose rise counts, or `wider`, whose fall counts.
    """
    sign = {"narrower": 1, "wider": -1}[step]
    hints, losses = [own[hint] for own in slots], [sign * own[step] for own in slots]
    return float(kendalltau(hints, losses).statistic), tau_p_value(hints, losses)


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    rows = []
    for size, found in read_result(RESULT)["decoders"].items():
        cells = []
        for hint, step in (("components", "narrower"), ("headroom", "wider")):
            slots = [own for own in found["slots"].values() if step in own]
            if len(slots) < LEAST_COMPARED:
                cells.append("")
                continue
            tau, p_value = agreement(slots, hint, step)
            cells.append(f"{tau:+.2f} ({len(slots)} slots, p = {p_value:.2f})")
        rows.append([size, *cells])
    heads = [
        "decoder, kMAC/px",
        "components needed and loss of one step narrower",
        "headroom and gain of one step wider",
    ]
    return [table(heads, rows)]


def main() -> None:
    given = options(__doc__ or "").parse_args()
    torch.set_num_threads(given.threads)
    run = zoo_run(RUN)
    decoders: dict[str, Any] = {}
    for size in DECODERS:
        architecture = run.space.parse(STRONG + DECODERS[size])
        slots = slots_of(run.space, architecture, given.seed)
        decoders[f"{size:g}"] = {"arch": architecture.key, "slots": slots}
    about = facts(given.seed, photos=PHOTOS, steps=STEPS, weights=run.fingerprint)
    write_result(RESULT, {"facts": about, "decoders": decoders})
    renew(PAGE, "agreement", tables())


if __name__ == "__main__":
    main()
