"""Exports codecs of the trained weights for `nas evaluate`: CODECS/NAME/LMBDA for each family and lambda.

python -m experiments.families.codecs --data PHOTOS --out CODECS
nas evaluate CODECS/*/* --data KODAK --against jpeg,webp --out EVALUATION/kodak.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from experiments.families.common import CODECS, LMBDAS, space_of, weights_of
from experiments.results import say
from nas.photos.split import split_folder, write_split
from nas.run import Run
from nas.searching.family import FamilyMembers
from nas.training.settings import TrainingSettings
from nas.verbs.export import export_codec


def export(name: str, lmbda: float, data: Path, out: Path) -> None:
    """Export one codec. Its integers are calibrated on the calibration photos of `data`."""
    space = space_of(name)
    with tempfile.TemporaryDirectory() as place:
        run = Run.create(Path(place) / "run", space, TrainingSettings(lmbda=lmbda).model_dump())
        run.weights_path.write_bytes(weights_of(name, lmbda).read_bytes())
        write_split(run.split_path, split_folder(data))
        content = export_codec(run, FamilyMembers.alone(space.widest()), out)
    found = content["measured"]
    say(f"{out}: {found['bpp']:.4f} bpp, {found['psnr']:.2f} dB on {found['photos']} held-out photos")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of training photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the codecs")
    parser.add_argument("--lmbda", type=float, nargs="*", default=list(LMBDAS), help="lambdas to work on")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in CODECS:
        for lmbda in sorted(given.lmbda):
            if weights_of(name, lmbda).is_file():
                export(name, lmbda, given.data, given.out / name / str(lmbda))


if __name__ == "__main__":
    main()
