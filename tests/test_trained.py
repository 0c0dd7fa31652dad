"""The smallest trained supernet of the package: trained well enough to be held to numbers."""

from __future__ import annotations

import pytest
from families import TRAINED, TRAINED_LAMBDA, TRAINED_SPACE

from nas.codec.bitstream import compress_image, latents_of
from nas.codec.codec import Codec
from nas.comparison.evaluate import bits_of_latents
from nas.graph.network import Supernet
from nas.metrics.objective import Objective
from nas.photos.images import bundled
from nas.searching.scoring.evaluator import Evaluator
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import Checkpoint, load_weights


@pytest.fixture(scope="module")
def space():
    return SearchSpace.load(TRAINED_SPACE)


@pytest.fixture(scope="module")
def supernet(space):
    net = Supernet(space).eval()
    load_weights(net, Checkpoint.read(TRAINED).tensors, source=str(TRAINED))
    return net


@pytest.fixture(scope="module")
def photos():
    return bundled()


def test_it_is_small():
    assert TRAINED.stat().st_size <= 2_000_000


@pytest.mark.parametrize("layout", SearchSpace.load(TRAINED_SPACE).layout_names)
@pytest.mark.parametrize("level", [0, 1])
def test_the_estimate_is_the_payload(supernet, space, photos, layout, level):
    """Estimated bits of the integers: within 0.5 % and 16 bytes of what is written."""
    architecture = space.uniform(level, layout)
    codec = Codec(supernet.extract(architecture), architecture)
    for part in ("test", "calibration"):
        pixels = photos[part][0].pixels
        estimate = bits_of_latents(codec, *latents_of(codec, pixels)) / 8
        payload = len(compress_image(codec, pixels).stream)
        assert abs(payload - estimate) <= 0.005 * estimate + 16


def test_width_is_worth_its_macs(supernet, space, photos):
    """On a photo it has not seen, the widest loses less than the narrowest, and shows a fair picture."""
    evaluator = Evaluator(supernet, photos["test"], Objective(TRAINED_LAMBDA))
    for layout in space.layout_names:
        narrow, wide = (evaluator.score(space.uniform(level, layout)) for level in (0, 1))
        assert wide.rd_loss < 0.97 * narrow.rd_loss
        assert wide.psnr > 23
        assert wide.bpp < 0.35
