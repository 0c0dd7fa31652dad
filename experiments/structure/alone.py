"""What sharing weights costs: the answers to three budgets are also trained alone.

    python -m experiments.structure.alone --data PHOTOS --test KODAK --runs RUNS

The architectures are the answers of a search at the first lambda. Each begins with the supernet's initial
weights, cut to its own widths, and is trained in pieces with the same steps and crops. It is compared with
the same architecture in the supernet, and in the supernet whose last piece trained the front. The latter
weights are also trained further alone, as `nas finetune` does with a codec: all at once, or the entropy model
first. It writes results/alone.json. Later pieces keep the architectures of that file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from experiments.pieces import WEIGHTS, Piece, from_klt, options, pieces_seen, train_piece
from experiments.results import facts, read_result, say, write_result
from experiments.structure.common import FRONT, KINDS, LMBDAS, RESULTS, SPACE, supernet, weights_of
from experiments.structure.train import ALONE as OF_ENTROPY
from experiments.structure.train import RATES, SETTINGS
from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.photos.images import Photo, list_images
from nas.photos.split import load_photos, split_folder
from nas.run import CALIBRATION_PHOTOS
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.architecture import Architecture
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace
from nas.training.settings import ALONE
from nas.training.start import TrainingRequest, initial_weights, train_or_resume
from nas.weights.checkpoint import Checkpoint, load_weights

LMBDA = LMBDAS[0]
TARGETS = (2, 7, 16)  # in kMAC/px
RESULT = RESULTS / "alone.json"
EVERYTHING = {"learning_rate": RATES[True]}
# Trainings that follow each other, from the weights of the trained front
TUNINGS: dict[str, list[dict[str, Any]]] = {
    "tuned": [{**EVERYTHING, "steps": 3000}],
    "in turn": [{**OF_ENTROPY, "steps": 1500}, {**EVERYTHING, "steps": 1500}],
}
KEPT = ("target", "arch", "layout", "kmac_px")  # fields of an answer that the result keeps


def answers() -> list[dict[str, Any]]:
    """Return the architectures to train: those of an earlier piece, or the answers of the search."""
    if RESULT.is_file():
        rows = read_result(RESULT)["architectures"]
    else:
        rows = read_result(RESULTS / f"search-{LMBDA}.json")["kinds"]["space"]["answers"]
    return [{key: row[key] for key in KEPT} for row in rows if row["target"] in TARGETS]


def space_of(rows: list[dict[str, Any]]) -> SearchSpace:
    """Make the space with the layouts of some answers."""
    space = KINDS[SPACE].space
    found = {row["arch"].rpartition("layout=")[2]: Layout.from_dict(row["layout"]) for row in rows}
    return space.with_layouts({name: layout for name, layout in found.items() if name not in space.layouts})


def weights_alone(target: float) -> Path:
    return WEIGHTS / "structure" / f"alone-{target}.safetensors"


def piece_of(space: SearchSpace, architecture: Architecture, path: Path, data: Path) -> Piece:
    """Make the next piece of one architecture, with the settings of the supernet."""

    def start() -> tuple[str, dict[str, torch.Tensor]]:
        origin, tensors = from_klt(space, data, LMBDA)()
        net = Supernet(space)
        load_weights(net, tensors, source=origin)
        return origin, initial_weights(net.extract(architecture), only)

    only = space.only(architecture)
    of_supernet = pieces_seen(weights_of(FRONT, LMBDA))[len(pieces_seen(path))]
    settings = {key: value for key, value in of_supernet.items() if key not in ("from", "seed")}
    return Piece(only, path, start, settings | ALONE)


def tuned(
    space: SearchSpace, architecture: Architecture, name: str, runs: Path, given: argparse.Namespace
) -> Path:
    """Train one architecture alone from its weights in the supernet. Returns its weights."""
    only, net = space.only(architecture), supernet(space, weights_of(FRONT, LMBDA))
    source = runs / "start.safetensors"
    source.parent.mkdir(parents=True, exist_ok=True)
    Checkpoint(initial_weights(net.extract(architecture), only), {}).write(source)
    for number, more in enumerate(TUNINGS[name], 1):
        settings = {**SETTINGS, **ALONE, "lmbda": LMBDA, "seed": given.seed, **more}
        out = runs / f"{name.replace(' ', '-')}-{number}"
        request = TrainingRequest(only, str(given.data), out, settings=settings, init_from=source)
        source = train_or_resume(request).weights_path
    return source


def scores(
    space: SearchSpace, path: Path, architecture: Architecture, photos: dict[str, list[Photo]]
) -> dict[str, Any]:
    """Score an architecture with the weights of a file, on each set of photos."""
    net = supernet(space, path)
    evaluators = {name: Evaluator(net, own, Objective(LMBDA)) for name, own in photos.items()}
    return {name: vars(evaluator.score(architecture)) for name, evaluator in evaluators.items()}


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--test", type=Path, required=True, help="folder of test photos, for the final numbers"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    photos = {
        "calibration": load_photos(split_folder(given.data)["calibration"])[:CALIBRATION_PHOTOS],
        "test": load_photos(list_images(given.test)),
    }
    rows = answers()
    space, found = space_of(rows), []
    for row in rows:
        architecture, path = space.parse(row["arch"]), weights_alone(row["target"])
        while len(pieces_seen(path)) < len(pieces_seen(weights_of(FRONT, LMBDA))):
            piece = piece_of(space, architecture, path, given.data)
            train_piece(piece, given.data, given.runs, seed=given.seed)
        only, runs = space.only(architecture), given.runs / f"tuned-{row['target']}"
        sides = {
            "supernet": (space, weights_of(SPACE, LMBDA)),
            "front": (space, weights_of(FRONT, LMBDA)),
            **{name: (only, tuned(space, architecture, name, runs, given)) for name in TUNINGS},
            "alone": (only, path),
        }
        found.append({**row, **{name: scores(*side, architecture, photos) for name, side in sides.items()}})
        say(f"{row['target']:g}  " + "  ".join(f"{s} {found[-1][s]['test']['rd_loss']:.4f}" for s in sides))
    pieces = pieces_seen(weights_alone(rows[0]["target"]))
    about = facts(given.seed, lmbda=LMBDA, pieces=pieces, tunings=TUNINGS)
    write_result(RESULT, {"facts": about, "architectures": found})


if __name__ == "__main__":
    main()
