"""How much each part of the structure contributes to a search of `zoo:patch`, at equal MACs, over all rates.

    python -m experiments.ablation.run --data PHOTOS --test KODAK

Each search varies one part. *One width* sets every slot to the same relative place, with the layout
checkerboard. *Context* keeps these transforms, and tries every layout and every width of the entropy
parameters. *Transforms* searches all other slots, with the layout checkerboard and the widest entropy
parameters. *All* searches the whole space, and begins with the answers of the other searches. Architectures
are chosen on calibration photos. The answers are then measured at several rates on KODAK and on photos that
were held out of the training.

Every score has a low, a middle and a high rate. The same scores therefore show what each rate alone would
have answered, and how each rate splits a budget over the edges. It writes results/ablation.json and its
section of docs/results.md.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.calibration.run import crops
from experiments.flagship.train import split_by_picture
from experiments.results import (
    SUMMARY,
    facts,
    options,
    progress,
    read_result,
    renew,
    say,
    table,
    write_result,
)
from experiments.sources.run import Remembering
from experiments.widths.run import CALIBRATION, HELD_OUT, LAMBDAS, curve_of, more_bits
from nas.cost.counting.scopes import CONTEXT_EDGES
from nas.cost.counting.table import CostTable
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.quantity import Quantity, macs
from nas.photos.images import list_images
from nas.photos.split import load_photos
from nas.profiling.quantities import Question, costs_of
from nas.searching.sampler.rows import proposer
from nas.searching.scoring.evaluator import Evaluator, Score
from nas.shipped import zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.description import ENTROPY_PARAMETERS
from nas.spaces.space import SearchSpace
from nas.training.settings import settings_of
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "ablation.json"
ZOO = "zoo:patch"
# Targets in total kMAC/px. Architectures of one width have only five different costs
TARGETS = (1.7, 2.3, 3.0, 4.5, 6.6, 9.0, 11.1, 16.0)
KINDS = {"one-width": "one width", "context": "context", "transforms": "transforms", "all": "all"}
LAYOUT = "checkerboard"  # layout of the searches that do not vary it
SCORES = 300  # scores of each search
RATES = ("low", "middle", "high")
# The part of the table that an edge belongs to
SPLIT = {"g_a": "g_a", "g_s": "g_s", "h_a": "hyperprior", "h_s": "hyperprior"} | dict.fromkeys(
    CONTEXT_EDGES, "context"
)


def best_within(quantity: Quantity, losses: Mapping[Architecture, float]) -> list[Architecture]:
    """Choose the architecture of least loss within each of `TARGETS`.

    Args:
        quantity: the cost that the targets limit.
        losses: losses of the architectures to choose from.
    """
    costs = {architecture: quantity.of(architecture) / quantity.per_unit for architecture in losses}
    return [min((own for own in losses if costs[own] <= most), key=losses.__getitem__) for most in TARGETS]


def one_width(space: SearchSpace, layouts: Sequence[str]) -> list[Architecture]:
    """List the architectures with every slot at the same relative place, in each layout.

    Args:
        space: space of the supernet.
        layouts: names of the layouts.
    """
    places = max(space.shape[:-1]) - 1
    return [space.uniform(place / places, name) for name in layouts for place in range(places + 1)]


def with_context(space: SearchSpace) -> list[Architecture]:
    """List the transforms of `one_width` with every layout and all widths of the entropy parameters.

    Args:
        space: space of the supernet.
    """
    free = [number for number, slot in enumerate(space.slots) if slot.name.startswith(ENTROPY_PARAMETERS)]
    found = []
    for uniform in one_width(space, space.layout_names):
        row = list(space.indexes(uniform))
        for places in itertools.product(*(range(space.shape[number]) for number in free)):
            for number, place in zip(free, places, strict=True):
                row[number] = place
            found.append(space.at(row))
    return list(dict.fromkeys(found))


def searched(
    evaluator: Evaluator,
    quantity: Quantity,
    name: str,
    first: Sequence[Architecture],
    fixed: Mapping[int, int],
    seed: int,
) -> list[Architecture]:
    """Search for the best architectures within each target.

    Args:
        evaluator: scores architectures, each once.
        quantity: what the targets limit.
        name: name of the search in its progress.
        first: architectures that are scored first.
        fixed: choices that all proposals share, by the places of their slots.
        seed: seed of the search.
    """
    space, within = evaluator.space, FeasibleSet(evaluator.space)
    targets = tuple(round(target * quantity.per_unit) for target in TARGETS)
    question = Question(quantity, within, targets, within.span(quantity))
    proposals = proposer(space, question, {}, first=first, also=space.baselines(), seed=seed)
    losses: dict[Architecture, float] = {}
    rows: list[tuple[int, ...]] = []
    report = progress(name)
    for number in range(1, SCORES + 1):
        rows.append(proposals.propose(proposals.rows(rows), np.array(list(losses.values())), fixed=fixed))
        architecture = space.at(rows[-1])
        losses[architecture] = evaluator.score(architecture).rd_loss
        report("scoring", number, SCORES, f"least loss {min(losses.values()):.4f}")
    return best_within(quantity, losses)


def answers_of(evaluator: Evaluator, quantity: Quantity, seed: int) -> dict[str, list[Architecture]]:
    """Run every kind of search, and return its answers to the targets.

    Args:
        evaluator: scores architectures, each once.
        quantity: what the targets limit.
        seed: seed of the searches.
    """
    space = evaluator.space
    answers = {}
    for kind, candidates in (("one-width", one_width(space, [LAYOUT])), ("context", with_context(space))):
        say(f"{kind}: {len(candidates)} architectures")
        losses = {architecture: evaluator.score(architecture).rd_loss for architecture in candidates}
        answers[kind] = best_within(quantity, losses)
    fixed = {len(space.slots): space.layout_names.index(LAYOUT)} | {
        number: len(slot.candidates) - 1
        for number, slot in enumerate(space.slots)
        if slot.name.startswith(ENTROPY_PARAMETERS)
    }
    start = [space.at(with_choices(space, own, fixed)) for own in (*answers["one-width"], *space.starts())]
    answers["transforms"] = searched(evaluator, quantity, "transforms", start, fixed, seed)
    start = list(dict.fromkeys([*itertools.chain(*answers.values()), *space.starts()]))
    answers["all"] = searched(evaluator, quantity, "all", start, {}, seed)
    return answers


def with_choices(space: SearchSpace, architecture: Architecture, fixed: Mapping[int, int]) -> list[int]:
    """Return the row of an architecture in which some choices are replaced.

    Args:
        space: space of the architecture.
        architecture: the architecture.
        fixed: choices by the places of their slots.
    """
    row = list(space.indexes(architecture))
    for number, choice in fixed.items():
        row[number] = choice
    return row


def splits(scores: Mapping[str, Score], costs: CostTable, space: SearchSpace) -> dict[str, Any]:
    """Find how each rate alone would split each budget: its own best answer, with shares of MACs in %.

    Args:
        scores: scores of all scored architectures, by key.
        costs: cost table of the space.
        space: space of the architectures.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for place, rate in enumerate(RATES):
        losses = {space.parse(key): score.curve[place].rd_loss for key, score in scores.items()}
        found[rate] = []
        for own in best_within(macs(costs, "total"), losses):
            parts = dict.fromkeys(SPLIT.values(), 0.0)
            for edge, cost in costs.by_edge(own).items():
                parts[SPLIT[edge]] += cost
            whole = sum(parts.values())
            shares = {part: round(100 * cost / whole, 1) for part, cost in parts.items()}
            layout = space.layout(own)
            found[rate].append({"key": own.key, "stages": layout.stages(), "share": shares})
    return found


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run, parts = zoo_run(ZOO), split_by_picture(given.data)
    net, objective, costs = supernet_of(run), settings_of(run).objective, costs_of(run)
    scores: dict[str, Score] = {}
    chosen = crops(parts["calibration"], *CALIBRATION, given.seed)
    answers = answers_of(Remembering(net, chosen, objective, scores), macs(costs, "total"), given.seed)
    split = splits(scores, costs, run.space)
    unlike = list(dict.fromkeys(itertools.chain(*answers.values())))
    measured: dict[str, dict[str, Any]] = {
        own.key: {"kmac_px": costs.scopes(own), "stages": run.space.layout(own).stages()} for own in unlike
    }
    photos = {
        "held-out": crops(parts["held-out"], *HELD_OUT, given.seed),
        "Kodak": load_photos(list_images(given.test)),
    }
    for name, own_photos in photos.items():
        evaluator = Evaluator(net, own_photos, objective, lmbdas=LAMBDAS)
        found = evaluator.score_all(unlike, report=functools.partial(progress(name), "measuring"))
        for own, score in zip(unlike, found, strict=True):
            measured[own.key][name] = curve_of(score)
    about = facts(
        given.seed,
        weights=run.fingerprint,
        trained=run.config["trained"],
        lambdas=LAMBDAS,
        scores=SCORES,
        targets=TARGETS,
        photos={name: len(own) for name, own in photos.items()},
    )
    keys = {kind: [own.key for own in many] for kind, many in answers.items()}
    write_result(RESULT, {"facts": about, "answers": keys, "split": split, "architectures": measured})
    renew(SUMMARY, "ablation", tables())


# Tables for the page


def against(kind: str, anchor: str, place: int) -> str:
    """Format the BD-rate of two kinds' answers to a target: on Kodak, and on held-out photos in brackets.

    Args:
        kind: kind of search.
        anchor: kind of search that it is compared with.
        place: place of the target.
    """
    found = read_result(RESULT)
    own, other = (found["answers"][name][place] for name in (kind, anchor))
    if own == other:
        return "same"
    kodak, held_out = (
        more_bits(*(found["architectures"][key][photos] for key in (own, other)))
        for photos in ("Kodak", "held-out")
    )
    return f"{kodak:+.1f} ({held_out:+.1f})"


def tables() -> list[str]:
    """Make the tables of the page: what each part gains, and how rates split a budget."""
    found = read_result(RESULT)
    others = [kind for kind in KINDS if kind != "one-width"]
    heads = ["total kMAC/px at most", *(KINDS[kind] for kind in others), "layout of all"]
    rows = []
    for place, target in enumerate(TARGETS):
        own = found["answers"]["all"][place]
        rates = [against(kind, "one-width", place) for kind in others]
        rows.append([f"{target:g}", *rates, own.rpartition("layout=")[2]])
    gains = table(heads, rows)
    heads = ["total kMAC/px at most", *(f"{rate} rate" for rate in RATES)]
    rows = [
        [f"{target:g}", *(shares_of(found["split"][rate][place]) for rate in RATES)]
        for place, target in enumerate(TARGETS)
    ]
    return [gains, table(heads, rows)]


def shares_of(answer: dict[str, Any]) -> str:
    """Format shares of MACs in %, in the order of `SPLIT`.

    Args:
        answer: answer of one rate to one target.
    """
    return " / ".join(f"{share:.0f}" for share in answer["share"].values())


if __name__ == "__main__":
    main()
