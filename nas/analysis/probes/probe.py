"""`nas probe`: how redundant each activation of an architecture is, and what a better one would gain.

Two questions are asked of each activation, without training:

- redundancy: with how few of its principal components, over calibration photos, does the rate-distortion loss
  stay within a tolerance if everything else is unchanged?
- headroom: how much lower is the loss of a picture after this activation has followed its gradient for that
  picture, with everything behind it frozen? The layers before it did not find this activation, so they lack
  capacity.

The authors of PULSE ("PULSE: Unlocking Practical Image Compression on Single-Thread CPU", arXiv 2609.18602,
2026) let two such heuristic probes guide the search for their architecture. The headroom of y is what Yang,
Bamler and Mandt (NeurIPS 2020) gain by refining latents. Here z follows y through h_a.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nas.analysis.probes.headroom import lowest_losses, steps_of
from nas.analysis.probes.interfaces import Interface, interfaces
from nas.analysis.probes.passage import Passage
from nas.analysis.probes.redundancy import Components, components_needed
from nas.graph.network import CodecNetwork
from nas.metrics.objective import Objective
from nas.metrics.quality import MS_SSIM_SIDE
from nas.photos.images import Photo, Pixels
from nas.spaces.architecture import Architecture
from nas.support.errors import InputError
from nas.support.files import write_atomically
from nas.support.limits import is_whole
from nas.support.progress import StageReport, silent
from nas.support.tables import write_rows

if TYPE_CHECKING:
    import pandas as pd

PROBED_SIDE = 512  # largest side of the middle part of each photo for redundancy
CROPS = 4  # number of crops for headroom
CROP = {"mse": 128, "ms-ssim": 192}  # sides of the crops in pixels, by metric; MS-SSIM needs five scales


@dataclass(frozen=True)
class ProbeRequest:
    """The settings of `nas probe`.

    Attributes:
        tolerance: largest rise of the loss when components are left out, in %.
        steps: steps of Adam for the headroom.
        seed: seed for the places of the crops and for annealed rounding.

    Raises:
        InputError: the tolerance is negative, or there is less than one step.
    """

    tolerance: float = 1.0
    steps: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.tolerance, Real) or not 0 <= self.tolerance < float("inf"):
            raise InputError(f"The tolerance is in per cent and at least 0, not {self.tolerance}.")
        if not is_whole(self.steps) or self.steps < 1:
            raise InputError(f"A probe takes at least 1 step, and a whole number of them, not {self.steps}.")


@dataclass(frozen=True)
class Probe:
    """The result at one interface.

    Attributes:
        interface: the interface.
        channels: number of its channels.
        components: the fewest principal components that keep the loss. 0 means that a constant is enough.
        headroom: how much lower the loss is with the best activation that was found, in %.
    """

    interface: Interface
    channels: int
    components: int
    headroom: float

    @property
    def share(self) -> float:
        """The needed components as a share of the channels."""
        return self.components / self.channels

    def row(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {
            "interface": self.interface.name,
            "edge": self.interface.edge,
            "width": self.interface.width,
            "channels": self.channels,
            "components": self.components,
            "share": self.share,
            "headroom": self.headroom,
        }


@dataclass(frozen=True)
class ProbeResult:
    """The result of `nas probe`, interface by interface in the order of the graph.

    Attributes:
        architecture: the architecture.
        objective: lambda and metric of the loss.
        quality: the quality, if the run has a range of rates, otherwise None.
        photos: names of the photos.
        loss: mean loss of the photos.
        request: the settings.
        probes: one result for each interface.
        files: the written files.
    """

    architecture: Architecture
    objective: Objective
    quality: float | None
    photos: tuple[str, ...]
    loss: float
    request: ProbeRequest
    probes: tuple[Probe, ...]
    files: tuple[Path, ...] = field(default=())

    def __repr__(self) -> str:
        spare, most = self.most_redundant, self.most_headroom
        return (
            f"ProbeResult({len(self.probes)} interfaces; most redundant: {spare.interface.name}, "
            f"{spare.components} of {spare.channels} components; most headroom: {most.interface.name}, "
            f"{most.headroom:.1f} %)"
        )

    @property
    def most_redundant(self) -> Probe:
        """The interface that needs the smallest share of its components. If several do, the widest one."""
        return min(self.probes, key=lambda probe: (probe.share, -probe.channels))

    @property
    def most_headroom(self) -> Probe:
        """The interface at which a better activation gains most."""
        return max(self.probes, key=lambda probe: probe.headroom)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each interface: interface, edge, width, channels, components, share, headroom in %."""
        import pandas as pd

        return pd.DataFrame([probe.row() for probe in self.probes])

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {
            "arch": self.architecture.key,
            "lmbda": self.objective.lmbda,
            "metric": self.objective.metric,
            "quality": self.quality,
            "photos": list(self.photos),
            "loss": self.loss,
            **vars(self.request),
            "interfaces": [probe.row() for probe in self.probes],
        }

    def table(self) -> tuple[list[str], list[list[str | int]]]:
        """Columns and rows of the printed table."""
        rows: list[list[str | int]] = [
            [
                probe.interface.edge,
                probe.interface.name,
                probe.channels,
                probe.components,
                f"{100 * probe.share:3.0f} %",
                f"{probe.headroom:5.2f} %",
            ]
            for probe in self.probes
        ]
        return ["edge", "interface", "channels", "components", "share", "headroom"], rows

    def sentences(self) -> list[str]:
        """Sentences on the most remarkable interfaces, and on the measurement."""
        spare = self.most_redundant
        told = [
            f"Most redundant: {spare.interface.name}, which keeps the loss within "
            f"{self.request.tolerance:g} % with {spare.components} of {spare.channels} components."
        ]
        constant = [probe for probe in self.probes if probe.components == 0]
        if len(constant) > 1:
            told.append(f"At {len(constant)} of {len(self.probes)} interfaces a constant would do.")
        best = {
            edge: max((p for p in self.probes if p.interface.edge == edge), key=lambda probe: probe.headroom)
            for edge in dict.fromkeys(probe.interface.edge for probe in self.probes)
        }
        most = ", ".join(f"{p.interface.name} {p.headroom:.1f} % ({edge})" for edge, p in best.items())
        return [*told, f"Most headroom by edge: {most}.", self.where()]

    def where(self) -> str:
        """A sentence on the photos and settings of the measurement."""
        rate = f"lambda {self.objective.lmbda:.4g}"
        rate += "" if self.quality is None else f", quality {self.quality:.0f}"
        photos = f"{len(self.photos)} photo{'s' * (len(self.photos) != 1)}"
        steps = f"{self.request.steps} step{'s' * (self.request.steps != 1)}"
        return f"At {rate}: components on {photos}, headroom after {steps} on {CROPS} crops of them."

    def write(self, path: Path) -> list[Path]:
        """Write FILE.json and FILE.csv. Returns their paths.

        Args:
            path: FILE.json.
        """
        rows = [probe.row() for probe in self.probes]
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")
        write_rows(path.with_suffix(".csv"), list(rows[0]), rows)
        return [path, path.with_suffix(".csv")]


def probe_network(
    network: CodecNetwork,
    architecture: Architecture,
    photos: Sequence[Photo],
    objective: Objective,
    request: ProbeRequest,
    *,
    quality: float | None = None,
    report: StageReport = silent,
) -> ProbeResult:
    """Probe every interface of a codec.

    Args:
        network: the codec in plain layers, from `Supernet.extract`. Its weights are frozen.
        architecture: its architecture.
        photos: the photos. At most the middle 512x512 pixels are used.
        objective: the loss. In a space with a range of rates, its lambda also sets the rate.
        request: the settings.
        quality: the quality of the lambda, if the space has a range of rates.
        report: called with a stage's name, the work done, the total work and a note.

    Raises:
        InputError: a photo is too small for MS-SSIM.
    """
    if objective.metric == "ms-ssim" and any(min(p.pixels.shape[:2]) <= MS_SSIM_SIDE for p in photos):
        raise InputError(
            f"MS-SSIM needs photos of more than {MS_SSIM_SIDE} pixels a side: take out the smaller ones."
        )
    network.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(request.seed)
    layout = network.space.layout(architecture)
    whole = [Passage(network, layout, [_middle(photo.pixels)], objective) for photo in photos]
    crops = Passage(
        network,
        layout,
        _crops([photo.pixels for photo in photos], CROP[objective.metric], generator),
        objective,
    )
    probed, probes = interfaces(network), []
    annealing = torch.Generator(next(network.parameters()).device)
    for done, interface in enumerate(probed):
        report("probing", 2 * done, 2 * len(probed), f"{interface.name}: components")
        components = Components.of([passage.activation(interface) for passage in whole])
        needed = components_needed(whole, interface, components, request.tolerance / 100)
        report("probing", 2 * done + 1, 2 * len(probed), f"{interface.name}: headroom")
        unit = steps_of(interface, components.spread)
        best = lowest_losses(crops, interface, unit, request.steps, annealing.manual_seed(request.seed))
        headroom = 100 * (1 - float(best.sum() / crops.losses.sum()))
        probes.append(Probe(interface, len(unit), needed, max(0.0, headroom)))
    report("probing", 2 * len(probed), 2 * len(probed), "")
    loss = float(torch.cat([passage.losses for passage in whole]).double().mean())
    names = tuple(photo.name for photo in photos)
    return ProbeResult(architecture, objective, quality, names, loss, request, tuple(probes))


def _middle(pixels: Pixels) -> Pixels:
    """The middle of a photo, at most `PROBED_SIDE` pixels a side."""
    top, left = (max(0, (side - PROBED_SIDE) // 2) for side in pixels.shape[:2])
    return pixels[top : top + PROBED_SIDE, left : left + PROBED_SIDE]


def _crops(photos: Sequence[Pixels], most: int, generator: torch.Generator) -> list[Pixels]:
    """Crops of one size, with at most `most` pixels a side, at random places of the photos in turn."""
    height, width = (min(most, *(photo.shape[axis] for photo in photos)) for axis in (0, 1))
    crops = []
    for number in range(CROPS):
        photo = photos[number % len(photos)]
        top, left = (
            int(torch.randint(there - side + 1, (1,), generator=generator))
            for there, side in zip(photo.shape[:2], (height, width), strict=True)
        )
        crops.append(photo[top : top + height, left : left + width])
    return crops
