"""What the families' experiment shares: the five codecs, their lambdas, where their weights lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.pieces import WEIGHTS
from nas.graph.families import FAMILIES
from nas.space import SearchSpace

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LMBDAS = (0.013, 0.0067, 0.025, 0.0483)  # the others start from the first
CHANNELS = 48  # of every layer and latent: a quarter of the papers' 192

# The codec by its name here: the toolkit's family, and the order of decoding.
CODECS = {
    "factorized": ("factorized", "none"),
    "scale-hyperprior": ("scale-hyperprior", "none"),
    "mean-scale-hyperprior": ("mean-scale-hyperprior", "none"),
    "checkerboard": ("joint-ar", "checkerboard"),
    "joint-ar": ("joint-ar", "raster"),
}
WIDER = {"h_s.2": 3 / 2, "entropy_parameters.1": 10 / 3, "entropy_parameters.2": 8 / 3}  # as in the papers


def space_of(name: str) -> SearchSpace:
    """The space that holds one of the codecs alone."""
    family, layout = CODECS[name]
    two = FAMILIES[family].means  # the scale hyperprior's h_s does not widen
    widths = {
        choice: round(CHANNELS * (WIDER.get(choice, 1) if two else 1)) for choice in FAMILIES[family].choices
    }
    latents = {"y": CHANNELS, **({"z": CHANNELS} if FAMILIES[family].has_z else {})}
    content: dict[str, Any] = {"family": family, "latents": latents, "widths": widths, "layouts": [layout]}
    return SearchSpace.from_dict(content, name=name)


def weights_of(name: str, lmbda: float) -> Path:
    """Where one codec's weights are committed, in half precision."""
    return WEIGHTS / "families" / f"{name}-{lmbda}.safetensors"
