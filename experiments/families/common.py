"""What the families' experiment shares: the five codecs, their lambdas, where their weights lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.pieces import WEIGHTS
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LMBDAS = (0.013, 0.0067, 0.025, 0.0483)  # the others start from the first
CHANNELS = 48  # of every layer and of z: a quarter of the papers' 192
Y_CHANNELS = 128  # what a picture must pass through; wide layers there cost little: see results/ceiling.json

# The codec by its name here: the toolkit's family, and the order of decoding.
CODECS = {
    "factorized": ("factorized", "none"),
    "scale-hyperprior": ("scale-hyperprior", "none"),
    "mean-scale-hyperprior": ("mean-scale-hyperprior", "none"),
    "checkerboard": ("joint-ar", "checkerboard"),
    "joint-ar": ("joint-ar", "raster"),
}
# Trained first, a codec like the mean-scale hyperprior: what the five begin their g_a and g_s with.
TRANSFORMS = "transforms"
WIDER = {  # than the others, where there are means: as in the papers, by the channels of the layers and of y
    "h_a.1": Y_CHANNELS * 2,  # two units for the magnitude of each channel: see results/hyper.json
    "h_s.2": CHANNELS * 3 // 2,
    "entropy_parameters.1": Y_CHANNELS * 10 // 3,
    "entropy_parameters.2": Y_CHANNELS * 8 // 3,
}


def space_of(name: str) -> SearchSpace:
    """The space that holds one of the codecs alone."""
    family, layout = CODECS["mean-scale-hyperprior" if name == TRANSFORMS else name]
    wider = WIDER if FAMILIES[family].means else {}
    widths = {choice: wider.get(choice, CHANNELS) for choice in FAMILIES[family].choices}
    latents = {"y": Y_CHANNELS, **({"z": CHANNELS} if FAMILIES[family].has_z else {})}
    content: dict[str, Any] = {"family": family, "latents": latents, "widths": widths, "layouts": [layout]}
    return SearchSpace.from_dict(content, name=name)


def weights_of(name: str, lmbda: float) -> Path:
    """Where one codec's weights are kept, in half precision."""
    return WEIGHTS / "families" / f"{name}-{lmbda}.safetensors"
