"""What a hyperprior needs to predict scales as well as one that reads magnitudes.

    python -m experiments.families.hyper --data PHOTOS --runs RUNS

Only entropy models are trained, over the same g_a and g_s: those of `transforms` at the first lambda. One is
the scale hyperprior, whose h_a reads |y|. The others are mean-scale hyperpriors, whose h_a reads y: one with
the same number of units in its first layer, one with twice as many units as y has channels, and one that also
keeps this layer as the KLT start sets it. It writes results/hyper.json and its section of
experiments/journal.md. If it is interrupted, run the same command again: it continues.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.families.common import CHANNELS, LMBDAS, RESULTS, Y_CHANNELS, space_of
from experiments.families.train import RATES, SETTINGS, begun
from experiments.pieces import options
from experiments.results import JOURNAL, facts, read_result, renew, say, table, write_result
from nas.graph.entropy import Y_LIMIT, quantize
from nas.graph.network import Supernet
from nas.photos.images import Photo
from nas.photos.split import load_photos, split_folder
from nas.photos.tensors import pad, to_tensor
from nas.run import CALIBRATION_PHOTOS
from nas.spaces.space import SearchSpace
from nas.training.start import TrainingRequest, train_or_resume
from nas.weights.checkpoint import Checkpoint, supernet_of

RESULT = RESULTS / "hyper.json"
LMBDA = LMBDAS[0]


@dataclass(frozen=True)
class Hyperprior:
    """One compared model: its family, the units of h_a's first layer, and whether that layer is trained."""

    family: str
    units: int
    trained: bool = True

    @property
    def name(self) -> str:
        return f"{self.family}-{self.units}{'' if self.trained else '-kept'}"

    @property
    def space(self) -> SearchSpace:
        known = space_of(self.family).to_dict()
        content = {**known, "widths": {**known["widths"], "h_a.1": self.units}}
        return SearchSpace.from_dict(content, name=self.family)


HYPERPRIORS = (
    Hyperprior("scale-hyperprior", CHANNELS),
    Hyperprior("mean-scale-hyperprior", CHANNELS),
    Hyperprior("mean-scale-hyperprior", 2 * Y_CHANNELS),
    Hyperprior("mean-scale-hyperprior", 2 * Y_CHANNELS, trained=False),
)


@torch.no_grad()
def bits(net: Supernet, photos: list[Photo]) -> dict[str, float]:
    """Measure mean bits per pixel of y, of y with all means set to zero, and of z."""
    layout = net.activate(net.space.widest())
    rows = []
    for photo in photos:
        pixels = photo.pixels.shape[0] * photo.pixels.shape[1]
        found = net(
            pad(to_tensor(photo.pixels), net.space.family.alignment), layout, coded=True, picture=False
        )
        y_hat = quantize(found["y"], Y_LIMIT)
        scales, means = net.context(found["psi"], y_hat, layout)
        of = {
            **found["likelihoods"],
            "y, means zero": net.gaussian.coded_likelihood(y_hat, scales, 0 * means),
        }
        rows.append({name: -float(likelihood.log2().sum()) / pixels for name, likelihood in of.items()})
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def trained(hyperprior: Hyperprior, steps: int, data: Path, runs: Path, seed: int) -> Supernet:
    """Train the entropy model of one hyperprior alone."""
    space = hyperprior.space
    torch.manual_seed(seed)
    start = runs / f"{hyperprior.name}.safetensors"
    runs.mkdir(parents=True, exist_ok=True)
    Checkpoint(begun(space, LMBDA, data)()[1], {}).write(start)
    settings: dict[str, Any] = {
        **SETTINGS,
        "lmbda": LMBDA,
        "steps": steps,
        "learning_rate": RATES[True],
        "only": "entropy",
        "frozen": [] if hyperprior.trained else ["h_a.0"],
        "seed": seed,
    }
    request = TrainingRequest(space, str(data), runs / hyperprior.name, settings=settings, init_from=start)
    return supernet_of(train_or_resume(request))


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    rows = [
        [
            own["family"],
            f"{own['units']}, {'trained' if own['trained'] else 'kept'}",
            *(f"{own['bits'][name]:.4f}" for name in ("y", "y, means zero", "z")),
            f"{own['bits']['y'] + own['bits']['z']:.4f}",
        ]
        for own in read_result(RESULT)["hyperpriors"]
    ]
    columns = ["family", "first layer of h_a", "y, bpp", "y with all means zero", "z", "total"]
    return [table(columns, rows)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=2000, help="steps of each training")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    photos = load_photos(split_folder(given.data)["calibration"])[:CALIBRATION_PHOTOS]
    found = []
    for own in HYPERPRIORS:
        net = trained(own, given.steps, given.data, given.runs, given.seed)
        found.append({**asdict(own), "bits": bits(net, photos)})
        say(str(found[-1]))
    about = facts(given.seed, lmbda=LMBDA, steps=given.steps, photos=len(photos))
    write_result(RESULT, {"facts": about, "hyperpriors": found})
    renew(JOURNAL, "hyper", tables())


if __name__ == "__main__":
    main()
