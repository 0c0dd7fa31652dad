"""The five codecs of the experiment on families, their lambdas, and the files of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.pieces import WEIGHTS
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LMBDAS = (0.013, 0.0067, 0.025, 0.0483)  # training at the others starts from the first
CHANNELS = 48  # channels of every layer and of z: a quarter of the papers' 192
Y_CHANNELS = (
    128  # everything must pass through y, and wide layers there cost little: see results/ceiling.json
)

# For each codec by its name here, the toolkit's family and the layout.
CODECS = {
    "factorized": ("factorized", "none"),
    "scale-hyperprior": ("scale-hyperprior", "none"),
    "mean-scale-hyperprior": ("mean-scale-hyperprior", "none"),
    "checkerboard": ("joint-ar", "checkerboard"),
    "joint-ar": ("joint-ar", "raster"),
}
# A codec like the mean-scale hyperprior. It is trained first, and its g_a and g_s are the start of all five.
TRANSFORMS = "transforms"
WIDER = {  # layers that are wider in codecs with means: as in the papers, relative to the channels of y
    "h_a.1": Y_CHANNELS * 2,  # two units for the magnitude of each channel: see results/hyper.json
    "h_s.2": CHANNELS * 3 // 2,
    "entropy_parameters.1": Y_CHANNELS * 10 // 3,
    "entropy_parameters.2": Y_CHANNELS * 8 // 3,
}


def space_of(name: str) -> SearchSpace:
    """Make the space that has only one of the codecs."""
    family, layout = CODECS["mean-scale-hyperprior" if name == TRANSFORMS else name]
    wider = WIDER if FAMILIES[family].means else {}
    widths = {choice: wider.get(choice, CHANNELS) for choice in FAMILIES[family].choices}
    latents = {"y": Y_CHANNELS, **({"z": CHANNELS} if FAMILIES[family].has_z else {})}
    content: dict[str, Any] = {"family": family, "latents": latents, "widths": widths, "layouts": [layout]}
    return SearchSpace.from_dict(content, name=name)


def weights_of(name: str, lmbda: float) -> Path:
    """Return the file of one codec's weights in half precision."""
    return WEIGHTS / "families" / f"{name}-{lmbda}.safetensors"
