"""Trains the five families alike, a piece at a time: each run goes on from the committed weights.

    python -m experiments.families.train --data PHOTOS --runs RUNS

All begin with the same g_a and g_s. The first lambda of every family is trained first; the others start from
it. Every second piece trains all but g_a and g_s, which takes a third of the time. Stopped, the same command
goes on.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import Any

import torch

from experiments.families.common import CODECS, LMBDAS, space_of, weights_of
from experiments.pieces import Piece, options, train_piece, with_transforms

SETTINGS: dict[str, Any] = {
    "strategy": "uniform",
    "architectures": 1,
    "batch": 2,
    "crop": 192,
    "final_rate": 0.03,
    "checkpoint_every": 250,
    "preview_every": 0,
}
RATES = {True: 7e-4, False: 4e-4}  # of entropy models alone and where they are random; of all others


def piece_of(name: str, lmbda: float, given: argparse.Namespace) -> Piece:
    """The next piece of one codec at one lambda."""
    main, path, space = lmbda == LMBDAS[0], weights_of(name, lmbda), space_of(name)
    begin = None if main else weights_of(name, LMBDAS[0])
    gain = math.sqrt(lmbda / LMBDAS[0])
    piece = Piece(space, path, lambda: with_transforms(space, ("g_a", "g_s")), {}, begin, gain)
    alone = len(piece.seen) % 2 == 1
    settings = {
        **SETTINGS,
        "lmbda": lmbda,
        "steps": given.entropy if alone else given.first if main else given.others,
        "learning_rate": RATES[alone or (main and not piece.seen)],
        **({"only": "entropy"} if alone else {}),
    }
    return replace(piece, settings=settings)


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--first", type=int, default=3500, help="steps at the first lambda")
    parser.add_argument("--others", type=int, default=800, help="steps at every other one")
    parser.add_argument("--entropy", type=int, default=2000, help="steps of entropy models alone")
    parser.add_argument("--only", nargs="*", default=list(CODECS), choices=list(CODECS))
    parser.add_argument("--lmbda", type=float, nargs="*", default=list(LMBDAS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for lmbda in given.lmbda:
        for name in given.only:
            while len((piece := piece_of(name, lmbda, given)).seen) < given.piece:
                train_piece(piece, given.data, given.runs, given.device, given.seed)


if __name__ == "__main__":
    main()
