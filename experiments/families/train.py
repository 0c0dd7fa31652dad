"""Trains the five families in the same way, in pieces that continue from the stored weights.

    python -m experiments.families.train --data PHOTOS --runs RUNS

At each lambda, the transforms are trained first, in a codec of their own. Then every family trains an entropy
model over them (`only=entropy`, which takes a third of the time), and then the whole codec. The first lambda
is trained first, and the others start from it. If it is interrupted, run the same command again: it
continues.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.families.common import CODECS, LMBDAS, TRANSFORMS, space_of, weights_of
from experiments.pieces import SMALL, Piece, Start, from_klt, from_lmbda, full, piece_options, train_piece
from nas.spaces.space import SearchSpace

SETTINGS: dict[str, Any] = {**SMALL, "strategy": "uniform", "architectures": 1, "precision": "bf16"}
RATES = {True: 1e-3, False: 2e-4}  # learning rates of entropy models alone, and of everything
FIRST_RATE = 4e-4  # learning rate of the transforms at the first lambda


def begun(space: SearchSpace, lmbda: float, data: Path) -> Start:
    """Start with g_a and g_s of the transforms, and with the entropy model of the first lambda if any."""
    own, main = weights_of(space.name, LMBDAS[0]), lmbda == LMBDAS[0]

    def start() -> tuple[str, dict[str, Tensor]]:
        origin, tensors = (from_klt(space, data, lmbda) if main else from_lmbda(own, LMBDAS[0], lmbda))()
        transforms = weights_of(TRANSFORMS, lmbda)
        known = {name: t for name, t in full(transforms).items() if name.startswith(("g_a", "g_s"))}
        return f"{origin}; g_a and g_s of {transforms.stem}", {**tensors, **known}

    return start


def alone_of(space: SearchSpace) -> dict[str, Any]:
    """Settings for training an entropy model alone.

    If h_a reads y itself, its first layer is frozen, so that it keeps computing the magnitudes of a KLT
    start. Because y is large, Adam's steps would destroy them (see results/hyper.json).
    """
    h_a = space.family.edges.get("h_a")
    return {"only": "entropy", "frozen": [] if h_a is None or h_a.magnitude else ["h_a.0"]}


def piece_of(name: str, lmbda: float, given: argparse.Namespace) -> Piece:
    """Make the next piece of one codec at one lambda."""
    main, space = lmbda == LMBDAS[0], space_of(name)
    start = begun(space, lmbda, given.data)
    if name == TRANSFORMS:
        start = (
            from_klt(space, given.data, lmbda)
            if main
            else from_lmbda(weights_of(name, LMBDAS[0]), LMBDAS[0], lmbda)
        )
    piece = Piece(space, weights_of(name, lmbda), start, {})
    alone = len(piece.seen) % 2 == 0
    whole = given.transforms if name == TRANSFORMS else given.whole
    settings = {
        **SETTINGS,
        "lmbda": lmbda,
        "steps": (given.entropy if alone else whole)[not main],
        "learning_rate": FIRST_RATE if main and name == TRANSFORMS and not alone else RATES[alone],
        **(alone_of(space) if alone else {}),
    }
    return replace(piece, settings=settings)


def main() -> None:
    parser = piece_options(__doc__ or "")
    at = "at the first lambda and at every other one"
    parser.add_argument(
        "--transforms", type=int, nargs=2, default=[4000, 1500], help=f"steps of the transforms {at}"
    )
    parser.add_argument(
        "--entropy", type=int, nargs=2, default=[2000, 800], help=f"steps of entropy models alone {at}"
    )
    parser.add_argument("--whole", type=int, nargs=2, default=[700, 700], help=f"steps of whole codecs {at}")
    parser.add_argument(
        "--only",
        nargs="*",
        default=[TRANSFORMS, *CODECS],
        choices=[TRANSFORMS, *CODECS],
        help="models to train",
    )
    parser.add_argument("--lmbda", type=float, nargs="*", default=list(LMBDAS), help="lambdas to work on")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for lmbda in given.lmbda:
        for name in given.only:
            while len((piece := piece_of(name, lmbda, given)).seen) < given.piece:
                train_piece(piece, given.data, given.runs, given.device, given.seed)


if __name__ == "__main__":
    main()
