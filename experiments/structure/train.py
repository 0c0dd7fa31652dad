"""Trains the supernets that the structures are compared on, a piece at a time, and SlimCAE beside them.

    python -m experiments.structure.train --data PHOTOS --runs RUNS

The first lambda is trained first; the others start from it. Stopped, the same command goes on.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from experiments.pieces import Piece, options, train_piece, with_transforms
from experiments.structure.common import KINDS, LMBDAS, SPACE, weights_of

SETTINGS: dict[str, Any] = {
    "strategy": "level",  # the first piece at the first lambda: sandwich
    "architectures": 3,
    "batch": 2,
    "crop": 192,
    "final_rate": 0.03,
    "checkpoint_every": 250,
    "preview_every": 0,
}
PARTS = ("g_a", "h_a", "h_s", "g_s", "context", "prior")  # of the start, those that fit
RATES = {True: 7e-4, False: 5e-4}  # at the first lambda, and at all others


def piece_of(name: str, lmbda: float, first: int, others: int) -> Piece:
    """The next piece of one of the spaces at one lambda."""
    main = lmbda == LMBDAS[0]
    path = weights_of(name, lmbda)
    settings = {
        **SETTINGS,
        "lmbda": lmbda,
        "steps": first if main else others,
        "learning_rate": RATES[main],
    }
    space = KINDS[name].space
    begin, gain = None if main else weights_of(name, LMBDAS[0]), math.sqrt(lmbda / LMBDAS[0])
    return Piece(space, path, lambda: with_transforms(space, PARTS), settings, begin, gain)


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--first", type=int, default=6000, help="steps at the first lambda")
    parser.add_argument("--others", type=int, default=1500, help="steps at every other one")
    parser.add_argument("--only", nargs="*", default=[SPACE], choices=[SPACE, "slimcae"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for lmbda in LMBDAS:
        for name in given.only:
            piece = piece_of(name, lmbda, given.first, given.others)
            if len(piece.seen) < given.piece:
                train_piece(piece, given.data, given.runs, given.device, given.seed)


if __name__ == "__main__":
    main()
