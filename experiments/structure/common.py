"""The kinds of structure of the experiment, its lambdas, and the files of weights and results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.pieces import WEIGHTS, full
from nas.graph.network import Supernet
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import load_weights

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LMBDAS = (0.013, 0.0067, 0.025, 0.0483)  # training at the others starts from the first
SPACE = "space"  # a width per layer; most kinds use its weights
FRONT = "front"  # these weights, trained further on the front of a search


@dataclass(frozen=True)
class Kind:
    """A kind of structure: which choices it has.

    Attributes:
        title: title in tables.
        origin: its space: the name of a shipped one, or a file.
        weights: name of the supernet whose weights it uses.
        found: whether its candidates include the layouts that were found for the weights.
        trials: numbers of architectures that a search scores, at the first lambda and at the others.
    """

    title: str
    origin: str | Path
    trials: tuple[int, int] = (160, 80)
    weights: str = SPACE
    found: bool = True

    @property
    def space(self) -> SearchSpace:
        return SearchSpace.load(self.origin)


KINDS = {
    "space": Kind("a width per layer", "joint-ar-small", (260, 120)),
    "per-edge": Kind("a width per edge", HERE / "per-edge.yaml"),
    "shared": Kind("one width", HERE / "shared.yaml", (120, 120)),
    "slimcae": Kind("SlimCAE", HERE / "slimcae.yaml", (6, 6), weights="slimcae", found=False),
    "backbone": Kind("backbone alone", HERE / "backbone.yaml", (200, 100), found=False),
    "context": Kind("context alone", HERE / "context.yaml", (160, 80)),
    FRONT: Kind("a width per layer, front trained", "joint-ar-small", (260, 120), weights=FRONT),
    "hand-made": Kind("hand-made layouts", "joint-ar-small", (260, 120), found=False),
}


def weights_of(name: str, lmbda: float) -> Path:
    """Return the file of a supernet's weights in half precision."""
    return WEIGHTS / "structure" / f"{name}-{lmbda}.safetensors"


def supernet(space: SearchSpace, path: Path) -> Supernet:
    """Load the supernet of a space with the weights of a file."""
    net = Supernet(space)
    load_weights(net, full(path), source=str(path))
    return net.eval()
