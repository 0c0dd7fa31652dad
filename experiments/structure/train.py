"""Trains the supernets of the experiment on structure, and SlimCAE, in pieces.

    python -m experiments.structure.train --data PHOTOS --runs RUNS

The first piece trains everything except g_a and g_s, which begin as a KLT. All other pieces train everything.
The first lambda is trained first, and the others start from it. With `--front RUN`, the training continues
from the weights of a searched run at the first lambda, and trains the best architectures of that search. If
it is interrupted, run the same command again: it continues.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.pieces import SMALL, Piece, from_klt, from_lmbda, piece_options, pieces_seen, train_piece
from experiments.structure.common import FRONT, KINDS, LMBDAS, SPACE, weights_of
from nas.run import Run

SETTINGS: dict[str, Any] = {
    **SMALL,
    "strategy": "level",
    "architectures": 3,
    "precision": "bf16",
    "frozen": ["h_a.0"],  # keeps the magnitudes of a KLT start; see experiments/families/train.py
}
RATES = {True: 4e-4, False: 2e-4}  # learning rates at the first lambda, and at all others
ALONE = {"only": "entropy", "learning_rate": 1e-3}


def piece_of(name: str, lmbda: float, given: argparse.Namespace) -> Piece:
    """Make the next piece of one space at one lambda."""
    main, first = lmbda == LMBDAS[0], weights_of(name, LMBDAS[0])
    path, space = weights_of(name, lmbda), KINDS[name].space
    start = from_klt(space, given.data, lmbda) if main else from_lmbda(first, LMBDAS[0], lmbda)
    settings = {
        **SETTINGS,
        "lmbda": lmbda,
        "steps": given.first if main else given.others,
        "learning_rate": RATES[main],
    }
    if main and not pieces_seen(path):
        settings |= {"steps": given.entropy, **ALONE}
    return Piece(space, path, start, settings)


def train_front(given: argparse.Namespace) -> None:
    """Train the front of a searched run, from its weights into a file of their own."""
    searched, path = Run.open(given.front).weights_path, weights_of(FRONT, LMBDAS[0])
    if not path.is_file():
        path.write_bytes(searched.read_bytes())  # the file also lists the pieces of its training
    piece = piece_of(SPACE, LMBDAS[0], given)
    piece = replace(piece, weights=path, settings={**piece.settings, "strategy": "front"}, front=given.front)
    if len(piece.seen) == len(pieces_seen(searched)):
        train_piece(piece, given.data, given.runs, given.device, given.seed)


def main() -> None:
    parser = piece_options(__doc__ or "")
    parser.add_argument("--entropy", type=int, default=800, help="steps of the entropy model alone, at first")
    parser.add_argument("--first", type=int, default=6000, help="steps at the first lambda")
    parser.add_argument("--others", type=int, default=1000, help="steps at every other lambda")
    parser.add_argument("--front", type=Path, help="a searched run at the first lambda: train its front")
    parser.add_argument(
        "--only", nargs="*", default=[SPACE], choices=[SPACE, "slimcae"], help="spaces to train"
    )
    parser.add_argument("--lmbda", type=float, nargs="*", default=list(LMBDAS), help="lambdas to work on")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.front is not None:
        train_front(given)
        return
    for name in given.only:
        for lmbda in given.lmbda:
            wanted = given.piece + (lmbda == LMBDAS[0])  # the piece of the entropy model alone does not count
            while len((piece := piece_of(name, lmbda, given)).seen) < wanted:
                train_piece(piece, given.data, given.runs, given.device, given.seed)


if __name__ == "__main__":
    main()
