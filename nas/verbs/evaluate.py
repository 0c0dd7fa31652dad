"""`nas evaluate`: codecs beside formats and published curves, on photos."""

from __future__ import annotations

from pathlib import Path

from nas.comparison.comparison import Comparison
from nas.comparison.plan import Outputs
from nas.report.rates import save_rates


def write_comparison(comparison: Comparison, outputs: Outputs) -> list[Path]:
    """Draw a comparison and write its results, of which each file is there whole or not at all.

    The pictures come first: with the results, what was kept for an interrupted evaluation goes.
    """
    save_rates(comparison.drawn(), outputs.pictures, subtitle=comparison.subtitle())
    return comparison.write(outputs)
