"""What one width reaches with weights of its own, as in SlimCAE (Yang et al., CVPR 2021).

    python -m experiments.widths.train --data PHOTOS --run OWN --kinds one-width
    python -m experiments.widths.alone OWN --data PHOTOS --test KODAK

The weights were trained for as many steps, from the same start, as those that all kinds of structure share.
Their architectures are searched and measured as `experiments.widths.run` does it. Unlike in SlimCAE, y and z
have the same number of channels at every width. Do this for a run of each seed. It writes results/alone.json
and, with results/widths.json, the section of docs/results.md.
"""

from __future__ import annotations

from pathlib import Path

from experiments.results import SUMMARY, options, renew
from experiments.widths.run import ALONE, SCORES, keep, measure, searched, sides_of, tables


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("run", type=Path, help="the run that `train --kinds one-width` made")
    parser.add_argument("--data", type=Path, required=True, help="the folder of training photos")
    parser.add_argument("--test", type=Path, required=True, help="the folder of photos for the final numbers")
    given = parser.parse_args()
    sides = sides_of(given)
    answers = searched("one-width", [], sides.chosen, SCORES, given.seed)
    measured = measure(sides, answers)
    keys = [own.key for own in answers]
    keep(ALONE, sides, keys, measured, given.seed)
    renew(SUMMARY, "widths", tables())


if __name__ == "__main__":
    main()
