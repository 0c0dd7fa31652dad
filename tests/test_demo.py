"""The demo at its own size, for three seeds: what it promises on the screen and in the README."""

from __future__ import annotations

import time

import pytest

from nas.run import Run
from nas.searching.scoring.scores import known_scores
from nas.verbs.demo import demo


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_keeps_its_word(tmp_path, seed):
    began = time.monotonic()
    result = demo(tmp_path / "demo", seed=seed, device="cpu")
    seconds = time.monotonic() - began
    for row in result.rows:
        print(
            f"seed {seed}: {row.target_kmac_px:.3f} kMAC/px  {row.bpp:.3f} bpp  {row.psnr:.2f} dB  "
            f"JPEG {row.jpeg_bpp:.3f} bpp {row.jpeg_psnr:.2f} dB"
        )
    assert len(result.rows) == 3
    largest = result.rows[-1]
    assert largest.psnr >= 23
    assert largest.bpp <= 0.35

    run = Run.open(result.run)
    space, front = run.space, run.front()
    scores = known_scores(run.scores_path, space, run.fingerprint)
    uniform = [(space.uniform(0, name), space.uniform(1, name)) for name in space.layout_names]
    ratios = [
        scores[wide].rd_loss / scores[slim].rd_loss for slim, wide in uniform if {slim, wide} <= set(scores)
    ]
    assert ratios
    assert max(ratios) <= 0.97  # the widest loses at least 3 % less than the narrowest
    costs = front.loc[front["on_front_total"], "total_kmac_px"]
    assert len(costs) >= 6
    assert costs.max() / costs.min() >= 3
    spread = f"widest / narrowest {min(ratios):.3f} to {max(ratios):.3f}, {len(costs)} on the front"
    print(f"seed {seed}: {spread} over {costs.max() / costs.min():.1f} times the MACs, {seconds:.0f} s")
