"""What the experiment on structure shares: its spaces, its lambdas, where weights and results lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.pieces import WEIGHTS
from nas.space import SearchSpace

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LMBDAS = (0.013, 0.0067, 0.025, 0.0483)  # the others start from the first

# Kinds of structure by the name of their file. All but slimcae run on the weights of `space`.
KINDS = ("shared", "per-edge", "space", "slimcae")
SPACES: dict[str, Callable[[], SearchSpace]] = {
    name: partial(SearchSpace.load, HERE / f"{name}.yaml") for name in KINDS
}


def weights_of(name: str, lmbda: float) -> Path:
    """Where a supernet's weights are committed, in half precision."""
    return WEIGHTS / "structure" / f"{name}-{lmbda}.safetensors"
