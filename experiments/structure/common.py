"""What the experiment on structure shares: kinds of structure, lambdas, where weights and results lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.pieces import WEIGHTS, full
from nas.graph.network import Supernet
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import load_weights

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LMBDAS = (0.013, 0.0067, 0.025, 0.0483)  # the others start from the first
SPACE = "space"  # one width per layer; most kinds run on its weights
FRONT = "front"  # those weights, trained on with what a search of them found


@dataclass(frozen=True)
class Kind:
    """A kind of structure: what may be chosen in it.

    Attributes:
        title: what tables call it.
        origin: its space: a shipped one by name, or a file.
        weights: the supernet that it runs on, by name.
        found: whether the layouts that were found for the weights are among its candidates.
        trials: how many architectures a search scores, at the first lambda and at the others.
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
    """Where a supernet's weights are kept, in half precision."""
    return WEIGHTS / "structure" / f"{name}-{lmbda}.safetensors"


def supernet(space: SearchSpace, path: Path) -> Supernet:
    """A space's network with the weights of a file."""
    net = Supernet(space)
    load_weights(net, full(path), source=str(path))
    return net.eval()
