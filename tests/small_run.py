"""A run that takes a second to make: seeded weights instead of trained ones, small photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from families import seeded_supernet

from nas.photos.split import split_folder, write_split
from nas.profiling.measure import path_of
from nas.profiling.measurements import Measurements, Timed
from nas.profiling.pieces import cover, edge_pieces
from nas.profiling.timing import REST
from nas.run import Run
from nas.searching.layouts.candidates import LayoutSettings
from nas.searching.sampler.logits import LogitSettings
from nas.searching.sources import Sources
from nas.spaces.architecture import Architecture
from nas.spaces.rates import middle
from nas.spaces.space import SearchSpace
from nas.training.settings import TrainingSettings
from nas.weights.checkpoint import Checkpoint

Seconds = Callable[[str, str, Architecture], float]
# A search whose learned layouts and logits are there, though they are of little use
QUICK = Sources(
    layout_settings=LayoutSettings(ladders=1, rivals=0, steps=2, photos=1, side=4),
    logit_settings=LogitSettings(steps=2, batch=1),
)


def small_run(folder: Path, space: SearchSpace, photos: Path) -> Run:
    """A run of a space on the photos of a folder."""
    settings = TrainingSettings.make({"lmbda": middle(space.rates)} if space.rates else {})
    run = Run.create(folder, space, settings.model_dump())
    Checkpoint(seeded_supernet(space).state_dict(), {}).write(run.weights_path)
    write_split(run.split_path, split_folder(photos))
    return run


def write_profile(run: Run, seconds: Seconds) -> None:
    """A profile at 768x512, its figures made up: `seconds` is of an action, an edge and an architecture."""
    facts = {"weights": run.fingerprint, "device": "cpu", "machine": "A Machine", "threads": 1}
    kept = Measurements(path_of(run, "cpu", (768, 512)), {**facts, "width": 768, "height": 512})
    parts = {piece.name: piece.edge for piece in edge_pieces(run.space)} | {"context": "context", REST: REST}
    for architecture in cover(run.space):
        times = {
            f"{action} {name}": seconds(action, edge, architecture)
            for action in ("encode", "decode")
            for name, edge in parts.items()
        }
        kept.codecs[architecture.key] = Timed(rounds=[times])
    kept.keep()
