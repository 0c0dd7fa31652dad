"""Make the table of docs/supernet.md: what every shipped search space holds, and what it can reach.

    python docs/supernet_table.py           # prints it
    python docs/supernet_table.py --write   # puts it into the page

It measures every space, which takes about half a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from nas.cost.counting.tabulate import measured_costs
from nas.cost.exact.quantity import macs
from nas.cost.exact.reach import ReachableCosts
from nas.spaces.architecture import Slot
from nas.spaces.budget import REFERENCE_PIXELS, SCOPES
from nas.spaces.description import HYPERPRIOR
from nas.spaces.space import SearchSpace
from nas.support import resources

PAGE = Path(__file__).with_name("supernet.md")
START, END = "<!-- table: made by docs/supernet_table.py -->", "<!-- end of the table -->"
EXACT = 1_000_000  # larger numbers of architectures are rounded
COLUMNS = (
    "space",
    "family",
    "slots",
    "layouts",
    "architectures",
    *SCOPES,
    "ratio",
    "parameters, M",
)


def table(names: Iterable[str]) -> str:
    """The table in Markdown, a row for each space."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(row, names)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def row(name: str) -> tuple[str, ...]:
    """The cells of one shipped space."""
    space = SearchSpace.load(name)
    costs = measured_costs(space)
    reached = {scope: ReachableCosts(macs(costs, scope)) for scope in SCOPES}
    total = reached["total"]
    params = (costs.params(space.narrowest()), costs.params(space.widest()))
    return (
        name,
        space.family.name,
        _slots(space),
        str(len(space.layouts)),
        _count(space.size),
        *(_span(reach.least, reach.most, 1000 * REFERENCE_PIXELS) for reach in reached.values()),
        f"{total.most / total.least:.1f}",
        _span(*params, 1_000_000),
    )


def replaced(page: str, new: str) -> str:
    """The page with another table between its markers."""
    before, _, rest = page.partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"The page needs the lines {START} and {END}.")
    return f"{before}{START}\n\n{new}\n\n{END}{after}"


def _slots(space: SearchSpace) -> str:
    """How many slots leave a choice, by kind."""

    def kind(slot: Slot) -> str:
        layers = {layer for layer, _ in slot.layers}
        if layers <= space.family.depths:
            return "depth"
        return HYPERPRIOR if HYPERPRIOR in layers else "width"

    kinds = [kind(slot) for slot in space.slots if len(slot.candidates) > 1]
    counts = {name: kinds.count(name) for name in dict.fromkeys(kinds)}
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())


def _count(number: int) -> str:
    """A number of architectures: in full, or as 1.7e10."""
    if number < EXACT:
        return f"{number:,}"
    mantissa, _, exponent = f"{number:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _span(least: float, most: float, unit: int) -> str:
    return f"{least / unit:.3g} .. {most / unit:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the table of docs/supernet.md.")
    parser.add_argument("--write", action="store_true", help="put it into the page instead of printing it")
    write = parser.parse_args().write
    made = table(resources.shipped("search_spaces"))
    if write:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    else:
        print(made)


if __name__ == "__main__":
    main()
