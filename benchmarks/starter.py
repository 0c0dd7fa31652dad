"""A real search problem without downloads: a supernet of the package on crops of the bundled photos."""

from __future__ import annotations

from dataclasses import dataclass

from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.photos.images import Photo, bundled, central_square
from nas.searching.layouts.rate import LayoutRate
from nas.searching.scoring.evaluator import Evaluator
from nas.shipped import zoo_run
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import Checkpoint, load_weights

SPACE, LAMBDA = "joint-ar-tiny", 0.0035
STARTER = zoo_run(SPACE).weights_path
CROP = 192  # side in pixels of the central crop of each photo


@dataclass(frozen=True)
class Starter:
    """The space joint-ar-tiny, an evaluator for it, and the rates of its layouts in bpp."""

    space: SearchSpace
    evaluator: Evaluator
    rates: dict[str, float]

    @classmethod
    def on(cls, photos: int) -> Starter:
        """Make the problem on crops of this number of photos."""
        space = SearchSpace.load(SPACE)
        supernet = Supernet(space)
        load_weights(supernet, Checkpoint.read(STARTER).tensors, source=str(STARTER))
        whole = [photo for part in bundled().values() for photo in part][:photos]
        crops = [Photo(photo.name, central_square(photo.pixels, CROP)) for photo in whole]
        evaluator = Evaluator(supernet, crops, Objective(LAMBDA))
        rate = LayoutRate.of(evaluator, space.widest(), photos=photos)
        return cls(space, evaluator, {name: rate(layout) for name, layout in space.layouts.items()})
