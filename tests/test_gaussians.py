"""Symbols under tables are those under the coder's own Gaussians, whatever is read."""

from __future__ import annotations

import numpy as np
import pytest

from nas.codec import coder as coder_module
from nas.codec.coder import REACHES, WHOLE, Decoder, Encoder, rows_of, split
from nas.graph.entropy import MEAN_STEPS, SCALES
from nas.support.errors import InputError


@pytest.fixture(autouse=True)
def tables_for_few(monkeypatch) -> None:
    """So that tests need no photos."""
    monkeypatch.setattr(coder_module, "_FEW", 1)


def coded(values, levels, steps, limit) -> bytes:
    encoder = Encoder()
    encoder.gaussian(values.astype(np.int32), SCALES[levels], steps / MEAN_STEPS, limit)
    return encoder.finish()


@pytest.mark.parametrize("reach", REACHES)
def test_every_bin_has_the_coders_own_probability(reach):
    """Every number of every row, coded under its Gaussian and read under the row."""
    limit = reach + 5
    levels, fractions, offsets = (
        part.ravel() for part in np.mgrid[: len(SCALES), :MEAN_STEPS, 1 - reach : reach]
    )
    steps = fractions - MEAN_STEPS // 2
    data = coded(offsets, levels, steps, limit)
    decoder = Decoder(data)
    rows = rows_of(reach, limit)[levels * MEAN_STEPS + fractions]
    assert (rows.sum(1, dtype=np.float64) == WHOLE - 2 * reach - 1).all()
    assert (rows >= 0).all()
    read = decoder._read(coder_module._BINS, rows)
    assert np.array_equal(read - reach, offsets)
    decoder.finish()


def test_fractions_and_whole_numbers_make_the_means():
    steps = np.arange(-1000, 1000)
    centres, fractions = split(steps)
    assert np.array_equal(MEAN_STEPS * centres + fractions - MEAN_STEPS // 2, steps)
    assert ((fractions >= 0) & (fractions < MEAN_STEPS)).all()
    assert np.abs(centres - steps / MEAN_STEPS).max() <= 0.5


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 8, 20, 1023])
@pytest.mark.parametrize("far", [0.0, 0.001, 1.0])
@pytest.mark.parametrize("most", [8, 40, 64])
def test_what_is_read_on_the_grid_is_what_was_coded(limit, far, most):
    """With narrow Gaussians, with wide ones among them, and with numbers that no row holds."""
    rng = np.random.default_rng(17)
    count = 5000
    levels = rng.integers(0, most, count)
    steps = np.round(MEAN_STEPS * (limit * rng.uniform(-1.2, 1.2, count)) ** 3 / limit**2).astype(int)
    values = np.round(steps / MEAN_STEPS + SCALES[levels] * rng.standard_normal(count))
    values = np.where(rng.random(count) < far, rng.integers(-limit, limit + 1, count), values)
    values = values.clip(-limit, limit).astype(np.int32)
    decoder = Decoder(coded(values, levels, steps, limit))
    for part in (slice(0, 7), slice(7, 3000), slice(3000, count)):
        assert np.array_equal(decoder.on_grid(levels[part], steps[part], limit), values[part])
    decoder.finish()


def test_runs_of_wide_gaussians_are_joined_over_small_gaps():
    marked = np.zeros(1000, bool)
    marked[[3, 10, 400, 510, 520, 999]] = True
    runs = coder_module._runs
    assert runs(marked, 512) == [[(3, 11), (400, 401), (510, 511)], [(8, 9), (487, 488)]]
    assert runs(~marked, 2000) == [[(0, 999)]]
    assert runs(marked & False, 600) == [[], []]
    assert runs(marked[:0], 600) == []


@pytest.mark.parametrize("length", [40, 4000])
def test_data_that_no_encoder_wrote_is_refused_alike(length):
    """Whatever the words are: the same numbers, or a refusal, as under the Gaussians alone."""
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(20):
        levels, steps = rng.integers(0, 30, 3000), rng.integers(-300, 300, 3000)
        data = rng.bytes(length)
        try:
            expected = Decoder(data).gaussian(SCALES[levels], steps / MEAN_STEPS, 30)
        except InputError:
            refused += 1
            with pytest.raises(InputError, match="no encoder writes"):
                Decoder(data).on_grid(levels, steps, 30)
        else:
            assert np.array_equal(Decoder(data).on_grid(levels, steps, 30), expected)
    assert refused < 20
